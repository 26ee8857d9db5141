/**
 * One connection by one transport: opened, watched, and ended exactly once.
 *
 * @typedef {{ id: string, patch: import("./values.js").Dict, at: number }} Edit
 *
 * @typedef {object} Own What a link has besides its context.
 * @property {string | undefined} token
 * @property {AbortSignal} signal Aborted at its end.
 * @property {number} level Which of the transports it is.
 * @property {() => void} joined To be called when the server has said where we stand.
 * @property {(limit?: number) => void} alive To be called at each sign of life; the next is to come within a time.
 * @property {(cause?: unknown) => void} end
 * @property {Promise<PreferencesError>} over Resolves at its end.
 * @property {(edit: Edit) => Promise<number>} send Writes; returns the revision.
 * @property {() => void} check Ends it unless it shows at once that it lives.
 * @property {(token: string) => void} [renew]
 * @property {() => void} [ping]
 * @property {() => void} [close]
 *
 * @typedef {import("./connection.js").Context & Own} Link
 */

import { PreferencesError, closedError } from "./errors.js";
import { write } from "./http.js";
import { transports } from "./transports.js";

/**
 * Open a connection; resolves when the server has said where we stand.
 *
 * @param {number} level Which of the transports.
 * @param {import("./connection.js").Context} context
 * @returns {Promise<Link>}
 * @throws {PreferencesError} It does not come about.
 */
export async function openLink(level, context) {
  // Milliseconds that a transport has to show that it works, and that a connection has to answer where it is asked.
  const PATIENCE = 8_000;
  const { after, closing, tokens } = context;
  const [open, silence] = transports[context.transports[level]];
  const token = await tokens.get();
  if (closing.aborted) throw closedError();
  return new Promise((resolve, reject) => {
    const abort = new AbortController();
    let isJoined = false;
    let cancel = () => {};
    /** @type {(error: PreferencesError) => void} */
    let tell;
    /** @type {Link} */
    const link = {
      ...context,
      token,
      level,
      signal: abort.signal,
      over: new Promise((resolve) => (tell = resolve)),
      send: (edit) => write(link, edit),
      receive: (message) => abort.signal.aborted || context.receive(message),
      joined() {
        isJoined = true;
        link.alive();
        resolve(link);
      },
      alive(limit = isJoined ? silence : PATIENCE) {
        cancel();
        if (!abort.signal.aborted) cancel = after(limit, () => link.end("no answer"));
      },
      check() {
        link.alive(PATIENCE);
        link.ping?.();
      },
      end(cause) {
        if (abort.signal.aborted) return;
        abort.abort();
        cancel();
        const error =
          cause instanceof PreferencesError
            ? cause
            : new PreferencesError(cause instanceof SyntaxError ? "bad-answer" : "network", cause);
        reject(error);
        tell(error);
        link.close?.();
      },
    };
    link.alive();
    closing.addEventListener("abort", link.end, { signal: abort.signal });
    open(link).catch(link.end);
  });
}
