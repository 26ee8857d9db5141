/**
 * Keeps one connection to the server: dials, falls back to what works, climbs back, backs off, sends edits in order.
 *
 * @typedef {import("./link.js").Link} Link
 *
 * @typedef {object} Context What a connection needs of its client.
 * @property {string} base
 * @property {import("./tokens.js").Tokens} tokens
 * @property {string} client
 * @property {any} fetch
 * @property {any} WebSocket
 * @property {() => number} now
 * @property {(milliseconds: number, work: (nothing?: any) => void) => () => void} after Does something later, in an
 *   hour at most; returns what prevents it. Nothing is done any more once the client is closed.
 * @property {AbortSignal} closing Aborted when it is.
 * @property {import("../client.js").Transport[]} transports
 * @property {() => import("./values.js").State | undefined} known
 * @property {(message: any) => void} receive Takes in what the server tells.
 * @property {(state: import("./values.js").State) => void} take Takes in a newer state.
 * @property {(started: number) => void} took Told when something began that was answered now.
 * @property {() => import("./link.js").Edit | undefined} next The edit to send next.
 * @property {(id: string, revision: number, error?: import("./errors.js").PreferencesError) => void} settle
 * @property {(transport: import("../client.js").Transport) => void} online
 * @property {(error: import("./errors.js").PreferencesError, isOffline: boolean) => void} lost Told of each failure, and
 *   whether nothing works.
 */

import { badAnswer, isRefusal } from "./errors.js";
import { openLink } from "./link.js";

/** @param {Context} context */
export function createConnection(context) {
  // Milliseconds. Backoff is drawn between nothing and a bound ("full jitter"), which doubles with each failure.
  const FIRST_DELAY = 500;
  const LONGEST_DELAY = 30_000;
  // A connection that lasted this long was a success; one that ends sooner counts as a failure.
  const STABLE = 5_000;
  // How soon a better transport is tried again; doubles each time it fails.
  const FIRST_CLIMB = 15_000;
  const LONGEST_CLIMB = 300_000;
  // How long a write may go unanswered.
  const WRITE = 20_000;
  // Writes go out at once up to a number and then one by one: a slider that is dragged must not use up the user's
  // requests (protocol.md, "Rate limit": 100 a minute).
  const WRITE_EVERY = 1_000;
  const BURST = 20;

  const { after, closing, now, tokens, transports } = context;
  /** @type {Link | undefined} */
  let link;
  let isPumping = false;
  let isRenewed = false;
  let level = 0;
  let failures = 0;
  let joinedAt = 0;
  let climbIn = FIRST_CLIMB;
  let nextWrite = 0;
  let stopClimbing = () => {};
  let stopRenewing = () => {};
  /** Ends the wait that is on, if it may be cut short. */
  let wake = () => {};

  /**
   * @param {number} milliseconds
   * @param {unknown} [isOrdered] Whether the server asked for it: then nothing cuts it short.
   * @returns {Promise<void>}
   */
  const pause = (milliseconds, isOrdered) =>
    new Promise((resolve) => {
      after(milliseconds, resolve);
      if (!isOrdered) wake = resolve;
    });

  /**
   * Dial until there is a connection.
   *
   * @param {any} [failure] What ended the last one.
   */
  async function dial(failure) {
    while (!closing.aborted) {
      try {
        if (failure) await recover(failure);
        return adopt(await openLink(level, context));
      } catch (error) {
        failure = error;
      }
    }
  }

  /**
   * Do what a failure calls for; returns when it is time to dial again.
   *
   * @param {import("./errors.js").PreferencesError} failure
   */
  async function recover(failure) {
    const { status = 0, code, retryAfter } = failure;
    const wasJoined = joinedAt;
    if (wasJoined && now() - wasJoined > STABLE) {
      failures = 0;
      isRenewed = false;
    }
    joinedAt = 0;
    if (status == 401) {
      tokens.drop();
      if (!isRenewed) {
        isRenewed = true;
        return context.lost(failure, false);
      }
    }
    // What is no fault of the transport's would meet the next one too.
    if (!wasJoined && ![401, 403, 429, 503].includes(status) && code != "token" && level < transports.length - 1) {
      level++;
      return context.lost(failure, false);
    }
    if (!wasJoined) level = 0;
    context.lost(failure, !wasJoined || status == 401);
    // What a token may not do it will hardly be allowed in a second.
    failures += status == 401 || status == 403 ? 9 : 1;
    const delay = Math.min(FIRST_DELAY * 2 ** failures, LONGEST_DELAY) * Math.random();
    await pause(retryAfter ? retryAfter * 1_000 + Math.random() * 1_000 : delay, retryAfter);
  }

  /** @param {Link} opened */
  function adopt(opened) {
    link?.end();
    link = opened;
    void opened.over.then((error) => {
      if (link != opened) return;
      link = undefined;
      stopClimbing();
      stopRenewing();
      void dial(error);
    });
    joinedAt = now();
    level = opened.level;
    context.online(transports[level]);
    if (level) climbLater();
    else climbIn = FIRST_CLIMB;
    renewLater();
    void pump();
  }

  /**
   * Open another connection beside the one there is, and change over: nothing is lost, and nothing comes twice.
   *
   * @param {number} end Before which transport to stop trying.
   */
  async function replace(end) {
    const old = link;
    for (let next = 0; next < end && link == old; next++) {
      try {
        const opened = await openLink(next, context);
        if (link == old) adopt(opened);
        else opened.end();
      } catch {}
    }
    return link != old;
  }

  function climbLater() {
    stopClimbing();
    stopClimbing = after(climbIn, async () => {
      if (await replace(level)) return;
      climbIn = Math.min(climbIn * 2, LONGEST_CLIMB);
      climbLater();
    });
  }

  function renewLater() {
    stopRenewing();
    const delay = tokens.renewIn();
    if (delay > 0) stopRenewing = after(delay, renew);
  }

  async function renew() {
    tokens.drop();
    try {
      const token = await tokens.get();
      if (link?.renew && token) link.renew(token);
      else if (await replace(level + 1)) return;
    } catch {} // the server will say when it has run out, and then it is asked for again
    renewLater();
  }

  /** Send what waits, one at a time and in order: an edit that is sent again must not overtake the next. */
  async function pump() {
    if (isPumping) return;
    isPumping = true;
    for (let mine; (mine = link) && !mine.signal.aborted && context.next(); ) {
      const wait = nextWrite - now();
      if (wait > 0) {
        await pause(wait, true);
        continue;
      }
      const edit = /** @type {import("./link.js").Edit} */ (context.next());
      const started = now();
      nextWrite = Math.max(nextWrite, started - BURST * WRITE_EVERY) + WRITE_EVERY;
      const cancel = after(WRITE, () => mine.end("no answer"));
      try {
        const revision = await mine.send(edit);
        if (!Number.isSafeInteger(revision)) throw badAnswer();
        context.took(started);
        context.settle(edit.id, revision);
      } catch (cause) {
        const error = /** @type {import("./errors.js").PreferencesError} */ (cause);
        if (isRefusal(error)) context.settle(edit.id, 0, error);
        else if (error.retryAfter) nextWrite = now() + error.retryAfter * 1_000;
        else mine.end(error);
      }
      cancel();
    }
    isPumping = false;
  }

  void dial();
  return {
    pump,
    /** Look at once whether the connection lives, or try at once to have one. */
    check() {
      wake();
      if (globalThis.navigator?.onLine === false) link?.end("offline");
      else if (link?.ping) link.check();
      else if (link) void replace(level + 1);
    },
  };
}
