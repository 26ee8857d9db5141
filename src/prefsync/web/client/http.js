/** Requests over HTTP: streams, long polls, and writes where there is no WebSocket. */

import { badAnswer, problemError } from "./errors.js";
import { isState } from "./values.js";

/**
 * Send a request and return its answer, which is a success. The token travels in a header, and never in a URL, where
 * logs would keep it.
 *
 * @param {import("./link.js").Link} link
 * @param {string} path Below the mount, with its query.
 * @param {Record<string, string>} [headers]
 * @param {object} [more] As `fetch` takes it.
 * @returns {Promise<any>}
 */
export async function request({ token, client, fetch, base, signal }, path, headers, more) {
  const response = await fetch(base + path, {
    signal,
    headers: { ...(token && { Authorization: `Bearer ${token}` }), "Prefsync-Client": client, ...headers },
    ...more,
  });
  if (response.ok) return response;
  const isProblem = /problem\+json/.test(response.headers.get("Content-Type"));
  throw problemError(isProblem && (await response.json()), response.headers.get("Retry-After"), response.status);
}

/**
 * Send an edit as `PATCH /`, take in the state that it left, and return its revision.
 *
 * @param {import("./link.js").Link} link
 * @param {import("./link.js").Edit} edit
 */
export async function write(link, { id, patch }) {
  const headers = { "Content-Type": "application/json", "Idempotency-Key": id };
  const response = await request(link, "", headers, { method: "PATCH", body: JSON.stringify(patch) });
  const state = await response.json();
  if (!isState(state)) throw badAnswer();
  // What the stream brought in the meantime may be newer.
  const known = /** @type {import("./values.js").State} */ (link.known());
  if (state.revision > known.revision) link.take(state);
  return state.revision;
}

/**
 * Return what is known already, as the protocol has it in queries and in a hello; nothing where nothing is.
 *
 * @param {import("./link.js").Link} link
 * @returns {any}
 */
export function position(link) {
  const state = link.known();
  return state && { since: state.revision, schema: state.schema };
}
