/** Tabs that share one connection: a Web Lock elects the one that has it, a BroadcastChannel tells the others. */

/**
 * @param {string | undefined} name The mount and the user.
 * @param {import("../client.js").ConnectOptions} options
 * @param {AbortSignal} closing
 * @param {() => void} lead Called when this tab is to hold the connection; at once where tabs cannot share.
 * @param {(message: any) => void} hear Called with what other tabs say.
 * @returns {(message: object) => void} What tells the other tabs something.
 */
export function joinTabs(name, { locks, BroadcastChannel }, closing, lead, hear) {
  if (!name || !locks || !BroadcastChannel) {
    lead();
    return () => {};
  }
  const channel = new BroadcastChannel(name);
  channel.onmessage = (/** @type {{ data: any }} */ { data }) => hear(data);
  closing.addEventListener("abort", () => channel.close());
  locks
    .request(name, { signal: closing }, () => {
      lead();
      return new Promise((resolve) => closing.addEventListener("abort", () => resolve()));
    })
    // Closed while it waited; or there are locks, but not here: then this tab goes by itself.
    .catch(() => closing.aborted || lead());
  return (message) => closing.aborted || channel.postMessage(message);
}
