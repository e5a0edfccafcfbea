/** Versions of the federation protocol and what each changed. A peer that shares none with us is refused by name (message `refused`). */
export const PROTOCOL_VERSION = 1;
/** The oldest version this code still speaks. */
export const PROTOCOL_VERSION_MIN = 1;

export const PROTOCOL_CHANGES: Readonly<Record<number, string>> = {
  1: "the first: hello, formation, layout, push, held, want, repair, ask, told, forward, forwarded, digest, refused",
};
