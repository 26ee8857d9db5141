/**
 * The bearer token: got from the host, told apart by user, renewed before it runs out.
 *
 * @typedef {ReturnType<typeof createTokens>} Tokens
 */

import { PreferencesError } from "./errors.js";

/**
 * Return the claims of a token, none where it is no JWT (RFC 7519). They are only read: the server verifies.
 *
 * @param {string} token
 * @returns {import("./values.js").Dict}
 */
function claimsOf(token) {
  try {
    // Names beyond ASCII come out garbled, and still apart.
    return Object(JSON.parse(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/"))));
  } catch {
    return {};
  }
}

/**
 * @param {import("../client.js").ConnectOptions["token"]} source
 * @param {() => number} now
 * @param {(error: PreferencesError) => PreferencesError} giveUp Called when a token is another user's than the first.
 */
export function createTokens(source, now, giveUp) {
  /** @type {Promise<string | undefined> | undefined} */
  let token;
  /** @type {string | undefined} */
  let user;
  /** When to renew it; no number where it does not say. */
  let renewAt = NaN;

  async function fetchToken() {
    if (source === undefined) return undefined;
    let fresh;
    await null; // what fails at once must not do so before `token` is set
    try {
      fresh = await (typeof source == "function" ? source() : source);
      if (!fresh.match(/^[!-~]+$/)) throw "malformed";
    } catch (error) {
      token = undefined;
      throw new PreferencesError("token", `no token: ${error}`);
    }
    const { iss, sub, tid, tenant, tenant_id, org_id, iat, exp } = claimsOf(fresh);
    const name = sub && JSON.stringify([iss, sub, tid, tenant, tenant_id, org_id]);
    if (user && name != user) {
      throw giveUp(new PreferencesError("another-user", "the token is another user's"));
    }
    user = name;
    // This clock may be wrong by any amount. Where it says that the token has run out already, or is not valid yet, it
    // is not believed, and the token's whole life counts from now. Never is a token renewed within the first quarter of
    // its life: whatever the clock says, that cannot become a loop. One that is renewed too late costs a reconnect.
    const left = exp * 1_000 - now();
    const life = (exp - iat) * 1_000 || Math.max(left, 60_000);
    renewAt = now() + Math.max(life / 4, (left > 0 && left < life ? left : life) * 0.8);
    return fresh;
  }

  return {
    /**
     * Return the token, the same for as long as it is not dropped.
     *
     * @throws {PreferencesError} There is none.
     */
    get: () => (token ??= fetchToken()),

    /** Ask for a fresh one next time. */
    drop() {
      token = undefined;
    },

    /** Who the token speaks for, where it tells. */
    user: () => user,

    /** Return the milliseconds until the token should be renewed, no number where it does not say. */
    renewIn: () => Math.max(renewAt - now(), 5_000),
  };
}
