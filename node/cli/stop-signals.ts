/** Ctrl-C and SIGTERM: the first asks to stop, a later one stops at once. */

/**
 * A terminal sends Ctrl-C to the whole group, npm sends it once more and the bootstrap again: signals this close together are one wish, ms.
 */
const SAME_WISH_MS = 1000;
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * @param stop called once
 * @param now called on a second signal, must end the process
 */
export function onStopSignal(stop: (signal: string) => void, now: () => void): void {
  let first = 0;
  for (const signal of SIGNALS) {
    process.on(signal, () => {
      if (first === 0) {
        first = performance.now();
        stop(signal);
      } else if (performance.now() - first > SAME_WISH_MS) now();
    });
  }
}
