/** See process-lock.mjs. */
export function takeLock(
  path: string,
): { readonly held: true; readonly alsoHeldBy: (pid: number) => void; readonly release: () => void } | { readonly held: false; readonly pid: number };
