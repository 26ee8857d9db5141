/**
 * Return what does something later, and returns what prevents it.
 *
 * @param {import("../client.js").Clock} clock
 * @param {AbortSignal} closing Once it is aborted nothing is done any more, and no timer keeps the process.
 */
export function createTimers({ setTimeout, clearTimeout }, closing) {
  // What servers and tokens ask for is heeded up to this: longer times would overflow timers, which then fire at once.
  const LONGEST_WAIT = 3_600_000;
  const timers = new Set();
  closing.addEventListener("abort", () => timers.forEach((timer) => clearTimeout(timer)));

  /**
   * @param {number} milliseconds
   * @param {(nothing?: any) => void} work
   */
  return (milliseconds, work) => {
    if (closing.aborted) return () => {};
    const timer = setTimeout(
      () => {
        timers.delete(timer);
        work();
      },
      Math.min(milliseconds, LONGEST_WAIT),
    );
    timers.add(timer);
    return () => {
      timers.delete(timer);
      clearTimeout(timer);
    };
  };
}
