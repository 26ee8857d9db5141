/**
 * Values, and what patches and changes make of them. Nothing here writes to an object that it did not make, and names
 * such as `__proto__` are names like any other: objects are made by `Object.fromEntries`, which defines properties and
 * never assigns, and are read by their own properties alone.
 *
 * @typedef {{ [name: string]: any }} Dict
 * @typedef {{ revision: number, schema: string, values: Dict }} State
 * @typedef {{ revision: number, previous: number, changed: Dict, removed: Dict }} Change
 */

import { PreferencesError, badAnswer } from "./errors.js";

const { entries, fromEntries, hasOwn, keys, values } = Object;

/** @type {(value: unknown) => value is Dict} */
export const isObject = (value) => typeof value == "object" && value !== null && !Array.isArray(value);

/** @type {(of: any, name: string) => any} */
export const own = (of, name) => (hasOwn(of ?? {}, name) ? of[name] : undefined);

/**
 * Freeze a value all the way down.
 *
 * @template T
 * @param {T} value
 * @returns {T}
 */
export function freeze(value) {
  if (!Object.isFrozen(value)) values(/** @type {Dict} */ (Object.freeze(value))).forEach(freeze);
  return value;
}

/**
 * Return an object with some members exchanged.
 *
 * @param {any} target Anything but an object counts as an empty one.
 * @param {any} patch
 * @param {(old: any, value: any, name: string) => any} exchange What becomes of a member; `undefined` where it goes.
 * @returns {any}
 */
function patched(target, patch, exchange) {
  const result = new Map(isObject(target) ? entries(target) : []);
  for (const [name, value] of entries(patch ?? {})) {
    const next = exchange(result.get(name), value, name);
    if (next === undefined) result.delete(name);
    else result.set(name, next);
  }
  return fromEntries(result);
}

/**
 * Apply a JSON merge patch (RFC 7396, section 2).
 *
 * @param {any} target
 * @param {any} patch
 * @returns {any}
 */
const merge = (target, patch) =>
  isObject(patch) ? patched(target, patch, (old, value) => (value === null ? undefined : merge(old, value))) : patch;

/**
 * Return values as they look with an edit laid over.
 *
 * What goes back to its default looks as the server has it until that has answered: only it knows the default.
 *
 * @param {Dict} view
 * @param {Dict} patch
 * @param {Dict} base What the server has.
 * @returns {Dict}
 */
export const overlay = (view, patch, base) =>
  patched(view, patch, (fields, edits, namespace) => {
    const confirmed = own(base, namespace);
    return patched(edits ? fields : confirmed, edits, (old, value, name) =>
      value === null ? own(confirmed, name) : merge(old, value),
    );
  });

/**
 * Return values as a change leaves them.
 *
 * @param {Dict} base
 * @param {Change} change
 * @returns {Dict}
 */
const advance = (base, { changed, removed }) =>
  patched(
    patched(base, changed, (fields, news) => ({ ...fields, ...news })),
    removed,
    (fields, names) => fromEntries(entries(fields ?? {}).filter(([name]) => !names.includes(name))),
  );

/**
 * @param {any} one
 * @param {any} other
 * @returns {boolean}
 */
const same = (one, other) =>
  one === other ||
  (Object(one) === one &&
    Object(other) === other &&
    Array.isArray(one) == Array.isArray(other) &&
    keys(one).length == keys(other).length &&
    keys(one).every((name) => same(one[name], own(other, name))));

/**
 * Return a view with all that did not change taken over from the one before, so that objects stay the same for as long
 * as they look the same; and what did change.
 *
 * @param {Dict} before
 * @param {Dict} after
 */
export function compare(before, after) {
  /** @type {string[]} */
  const namespaces = [];
  /** @type {[string, Dict][]} */
  const changed = [];
  /** @type {[string, string[]][]} */
  const removed = [];
  const view = patched({}, { ...before, ...after }, (_, __, namespace) => {
    const [old, now] = [own(before, namespace), own(after, namespace)];
    const news = entries(now ?? {}).filter(([name, value]) => !same(own(old, name), value));
    const gone = keys(old ?? {}).filter((name) => own(now, name) === undefined);
    if (news[0]) changed.push([namespace, fromEntries(news)]);
    if (gone[0]) removed.push([namespace, gone]);
    if (old && now && !news[0] && !gone[0]) return old;
    namespaces.push(namespace);
    return now;
  });
  return {
    view: namespaces[0] ? view : before,
    news: { namespaces, changed: fromEntries(changed), removed: fromEntries(removed) },
  };
}

/** @type {(value: unknown) => value is number} */
const isRevision = (value) => Number.isSafeInteger(value) && /** @type {number} */ (value) >= 0;

/** @type {(value: unknown, fits: (value: unknown) => boolean) => boolean} */
const isTable = (value, fits) => isObject(value) && values(value).every(fits);

/** @type {(value: any) => value is State} */
export const isState = (value) =>
  isRevision(value?.revision) && typeof value.schema == "string" && isTable(value.values, isObject);

/** @type {(value: any) => value is Change} */
const isChange = (value) =>
  isRevision(value?.revision) &&
  isRevision(value.previous) &&
  isTable(value.changed, isObject) &&
  isTable(value.removed, Array.isArray);

/**
 * Return the state that a message of the server's leaves, the same object where it brings nothing new.
 *
 * @param {State | undefined} state
 * @param {any} message A reset, a change, or a page of changes; anything at all.
 * @returns {State}
 * @throws {PreferencesError} It is none of them, or changes between are missing.
 */
export function receive(state, message) {
  if (isState(message)) return message;
  if (!state) throw badAnswer();
  for (const change of message?.changes ?? [message]) {
    if (!isChange(change)) throw badAnswer();
    if (change.previous > state.revision) throw new PreferencesError("network", "gap");
    // A change that was folded with others begins before what is known here already, and has the newest of it.
    if (change.revision > state.revision) {
      state = { ...state, revision: change.revision, values: advance(state.values, change) };
    }
  }
  return state;
}
