/** Versions of the federation protocol and what each changed. A peer that shares none with us is refused by name (message `refused`). */
export const PROTOCOL_VERSION = 2;
/** The oldest version this code still speaks. */
export const PROTOCOL_VERSION_MIN = 1;

/** The version in which a hello is written, whatever the two can speak: the first. What they speak then is the lower of the two maxima. */
export const HELLO_VERSION = 1;

export const PROTOCOL_CHANGES: Readonly<Record<number, string>> = {
  1: "the first: hello, formation, layout, push, held, want, repair, ask, told, forward, forwarded, digest, refused",
  2: "layouts change and members come back: introduce, compare, report, vote, ready, snapshot-want, snapshot-part, sealed-under; frames name the layout's hash, heads and marks are told apart",
};
