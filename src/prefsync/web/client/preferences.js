/**
 * The client itself: what the server has, what is edited here, who is told.
 *
 * The state is the server's, whole and never changed in place. Edits that are not acknowledged yet lie over it, in the
 * order in which they were made; what is given out is the view of both.
 *
 * @typedef {import("./values.js").Dict} Dict
 * @typedef {import("./values.js").State} State
 * @typedef {import("./link.js").Edit & { acked?: number, foreign?: boolean }} Edit `foreign`: made by another tab, which
 *   is told itself what becomes of it.
 */

import { createConnection } from "./connection.js";
import { copy, covers, makeId, nulls } from "./edits.js";
import { PreferencesError, closedError, plain, revive } from "./errors.js";
import { createStore } from "./store.js";
import { joinTabs } from "./tabs.js";
import { createTimers } from "./timers.js";
import { createTokens } from "./tokens.js";
import { compare, freeze, overlay, own, receive } from "./values.js";

const noop = () => {};

/**
 * @param {import("./index.js").Options} options Complete and checked.
 * @returns {Promise<any>}
 */
export async function createPreferences(options) {
  // Milliseconds that a page with a stored copy waits for the server before it goes by the copy.
  const COPY_AFTER = 3_000;
  // Milliseconds that an error waits for somebody to listen before the console is told of it.
  const HEARING = 5_000;
  const { now } = options.clock;
  /** @type {Record<string, Set<(event: any) => void>>} */
  const listeners = { change: new Set(), status: new Set(), error: new Set() };
  /** @type {State | undefined} */
  let state;
  /** @type {Dict} */
  let view = {};
  /** @type {Map<string, Edit>} */
  const edits = new Map();
  /** @type {Map<string, { resolve(revision: any): void, reject(error: PreferencesError): void }[]>} */
  const waiting = new Map();
  /** @type {any} What `connect` gives, with where things stand. */
  const prefs = {
    status: "connecting",
    transport: null,
    latency: null,
    error: null,
    get: (/** @type {string | undefined} */ namespace) => (namespace ? own(view, namespace) : view),
    set: (/** @type {string} */ namespace, /** @type {any} */ fields) => write({ [namespace]: fields }),
    reset: (/** @type {string | undefined} */ namespace, /** @type {string[]} */ ...names) =>
      write(namespace ? { [namespace]: names.length ? nulls(names) : null } : nulls(Object.keys(view))),
    on(/** @type {string} */ event, /** @type {(event: any) => void} */ listener) {
      listeners[event].add(listener);
      if (event == "error" && unheard) {
        listener(unheard);
        unheard = undefined;
      }
      return () => void listeners[event].delete(listener);
    },
    close: () => close(),
  };
  /** @type {any} An error that came before anybody listened. */
  let unheard;
  /** The code of the failure that was reported last, until things work again. */
  let reported = "";
  /** @type {any} The last status event. */
  let told = {};
  /** @type {ReturnType<typeof createConnection> | undefined} */
  let connection;
  let isLeading = false;
  const abort = new AbortController();
  const closing = abort.signal;
  const after = createTimers(options.clock, closing);
  /** @type {(error?: PreferencesError | false) => void} Settles `connect`. */
  let settleConnect = noop;

  // --- What others are told --------------------------------------------------------------------------------------

  /**
   * @param {string} name
   * @param {any} event
   */
  function emit(name, event) {
    if (name == "error" && !listeners.error.size) {
      unheard = event;
      // While `connect` is under way nobody can listen yet.
      after(HEARING, () => listeners.error.size || console.warn(event));
    }
    for (const listener of [...listeners[name]]) {
      try {
        listener(event);
      } catch (error) {
        console.error(error); // a listener's fault stays the listener's
      }
    }
  }

  /** @param {PreferencesError} error */
  const report = (error) => emit("error", error);

  const unsent = () => [...edits.values()].filter(({ acked }) => acked === undefined);

  /** @param {object} [news] What is new about where things stand. */
  function tell(news) {
    if (closing.aborted) return;
    const { status, transport, latency, error, pending } = Object.assign(prefs, news, {
      pending: unsent().length,
      revision: state?.revision ?? 0,
    });
    const before = JSON.stringify(told);
    told = { status, transport, pending, latency, error };
    if (news && isLeading) share();
    if (JSON.stringify(told) != before) emit("status", told);
  }

  /** @param {object} [more] */
  const share = (more) => say({ ...more, live: { ...told, error: plain(told.error) } });

  /**
   * Show what has changed.
   *
   * @param {"local" | "remote" | "rollback"} [source]
   * @param {string | null} [origin]
   */
  function refresh(source = "remote", origin = null) {
    if (state) {
      const { revision, values } = state;
      let shown = values;
      for (const [id, { acked = Infinity, patch }] of edits) {
        // An acknowledged edit lies over the state until that has come as far: else it would vanish for a moment.
        if (acked <= revision) edits.delete(id);
        else shown = overlay(shown, patch, values);
      }
      const { view: next, news } = compare(view, shown);
      view = freeze(next);
      tell();
      if (news.namespaces.length) emit("change", freeze({ ...news, source, origin, revision }));
    }
  }

  // --- What comes in ---------------------------------------------------------------------------------------------

  /**
   * @param {State} next
   * @param {string | null} [origin]
   */
  function take(next, origin) {
    if (next != state) {
      // A state that goes back comes from a restored backup: what was acknowledged after that is gone with the rest.
      if (next.revision < (state?.revision ?? 0)) {
        for (const [id, { acked }] of edits) if (acked) edits.delete(id);
      }
      state = freeze(next);
      if (isLeading) {
        void store.saveState(state);
        say({ state, origin });
      }
      refresh(undefined, origin);
    }
    settleConnect();
  }

  /**
   * Take in an edit of this tab's or of another's.
   *
   * @param {Edit} edit
   * @param {string} [instead] The id of one that it makes needless.
   * @param {"local"} [source]
   */
  function add(edit, instead = "", source) {
    edits.delete(instead);
    edits.set(edit.id, edit);
    refresh(source);
    void connection?.pump();
  }

  /**
   * Take in what became of an edit, and tell the other tabs if it is for this one to say.
   *
   * @param {string} id
   * @param {number} revision
   * @param {PreferencesError} [error]
   */
  function settle(id, revision, error) {
    const edit = edits.get(id);
    if (edit) edit.acked = revision;
    if (error) {
      error.patch ??= edit?.patch;
      edits.delete(id);
    }
    void store.dropEdit(id);
    if (isLeading) say({ id, revision, error: plain(error) });
    refresh(error && "rollback");
    const owners = waiting.get(id);
    waiting.delete(id);
    owners?.forEach(({ resolve, reject }) => (error ? reject(error) : resolve(revision)));
    if (error && (owners || (isLeading && !edit?.foreign))) report(error);
  }

  /**
   * Hear what another tab says.
   *
   * @param {any} message
   */
  function hear({ hello, state: next, origin, live: news, edit, instead, id, revision, error }) {
    if (hello && isLeading) share({ state });
    if (next && !isLeading) take(next, origin);
    if (news && !isLeading) {
      tell({ ...news, error: revive(news.error) });
      if (state && news.error) settleConnect();
    }
    if (edit) add({ ...edit, foreign: true }, instead);
    if (id) settle(id, revision, revive(error));
  }

  // --- What is done here -----------------------------------------------------------------------------------------

  /**
   * @param {Dict} patch
   * @returns {Promise<number>}
   */
  function write(patch) {
    /** @type {Promise<number>} */
    const promise = new Promise((resolve, reject) => {
      if (closing.aborted) throw closedError();
      const last = [...edits.values()].pop();
      const edit = {
        id: makeId(),
        patch: copy(patch),
        at: Math.max(now(), (last?.at ?? 0) + 1),
      };
      const owners = [{ resolve, reject }];
      let instead;
      if (last && waiting.has(last.id) && covers(edit.patch, last.patch)) {
        instead = last.id;
        owners.push(.../** @type {typeof owners} */ (waiting.get(instead)));
        waiting.delete(instead);
        void store.dropEdit(instead);
      }
      waiting.set(edit.id, owners);
      void store.saveEdit(edit);
      say({ edit, instead });
      add(edit, instead, "local");
    });
    promise.catch(noop); // told as an "error" event too: nobody has to wait for it
    return promise;
  }

  /** Take in what is stored. */
  async function load() {
    const stored = await store.load();
    for (const edit of stored.edits) if (!edits.has(edit.id)) edits.set(edit.id, edit);
    return stored.state;
  }

  async function lead() {
    isLeading = true;
    // Also those of tabs that are gone. Sending one again that was taken already is harmless: the server knows its id
    // for 24 h. After that it would be taken for a new edit, made now: so late, the last to be heard wins.
    await load();
    if (closing.aborted) return;
    refresh();
    connection = createConnection({
      ...options,
      now,
      after,
      closing,
      tokens,
      take,
      known: () => state,
      receive: (message) => take(receive(state, message), message.origin ?? message.changes?.at(-1)?.origin),
      took: (started) => tell({ latency: Math.round(now() - started) }),
      next: () => unsent()[0],
      settle,
      online(transport) {
        reported = "";
        tell({ status: "online", transport, error: null });
      },
      lost(error, isOffline) {
        const status = isOffline || prefs.status == "offline" ? "offline" : "connecting";
        tell({ status, transport: null, error });
        // A server that is away, or asks for patience, is nobody's fault.
        const { code, status: was = 0 } = error;
        const isNews = isOffline && code != "network" && was != 429 && was < 500;
        // Once, and not again at each attempt.
        if (isNews && reported != code) report(error);
        if (isNews) reported = code;
        if (isOffline && (state || isNews)) settleConnect(!state && error);
      },
    });
  }

  function close(error = closedError()) {
    isLeading = false; // what the others are told now, the next leader tells
    tell({ status: "closed", transport: null });
    abort.abort();
    for (const owners of waiting.values()) owners.forEach(({ reject }) => reject(error));
    settleConnect(error);
  }

  // --- The beginning ---------------------------------------------------------------------------------------------

  const tokens = createTokens(options.token, now, (error) => {
    report(error);
    close(error);
    return error;
  });
  const user = options.user ?? (await tokens.get(), tokens.user());
  const name = user && `prefsync ${options.base} ${user}`;
  const store = createStore(name, options.storage, report);
  state = freeze(await load());
  refresh();
  /** @type {Promise<void>} */
  const ready = new Promise((resolve, reject) => {
    settleConnect = (error) => (error ? reject(error) : resolve());
    after(state ? COPY_AFTER : options.timeout, () =>
      settleConnect(!state && (prefs.error ?? new PreferencesError("network", "no answer"))),
    );
  });
  const say = joinTabs(name, options, closing, lead, hear);
  say({ hello: true });
  for (const type of ["online", "offline", "visibilitychange"]) {
    const look = () => globalThis.document?.hidden || connection?.check();
    globalThis.addEventListener?.(type, look, { signal: closing });
  }
  try {
    await ready;
  } catch (error) {
    close();
    throw error;
  }

  return prefs;
}
