/** The entry: what the host passes, made complete and checked. */

import { PreferencesError } from "./errors.js";
import { createPreferences } from "./preferences.js";

export { PreferencesError };

/** @type {import("../client.js").Transport[]} */
const ALL = ["websocket", "sse", "poll"];

/**
 * @typedef {import("../client.js").ConnectOptions & { base: string, clock: import("../client.js").Clock, client: string,
 *   transports: import("../client.js").Transport[], timeout: number, fetch: any, WebSocket: any }} Options
 */

/**
 * @param {import("../client.js").ConnectOptions} [options]
 * @returns {Promise<any>}
 */
export async function connect(options) {
  const { fetch, WebSocket, BroadcastChannel, navigator, location, performance } = globalThis;
  const began = Date.now() - performance.now();
  const complete = {
    url: new URL(".", import.meta.url),
    client: `web-${Math.random()}`,
    transports: ALL,
    timeout: 30_000,
    fetch,
    WebSocket,
    BroadcastChannel,
    locks: navigator?.locks,
    // No change of the machine's clock makes this one jump.
    clock: { now: () => began + performance.now(), setTimeout, clearTimeout },
    ...Object.fromEntries(Object.entries(options ?? {}).filter(([, value]) => value !== undefined)),
  };
  const { url, client, transports } = complete;
  let base = "";
  try {
    base = new URL(url, location?.href).href.replace(/\/?([?#].*)?$/, "/");
  } catch {}
  check(/^http/.test(base), "url");
  check(/^[\w.-]{1,64}$/.test(client), "client");
  check(transports[0] && transports.every((one) => ALL.includes(one)), "transports");
  return createPreferences({ ...complete, base });
}

/**
 * @param {any} holds
 * @param {string} option
 * @returns {asserts holds}
 */
function check(holds, option) {
  if (!holds) throw new PreferencesError("bad-option", option);
}
