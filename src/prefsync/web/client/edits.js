/** What an edit is: fields by namespace, as a merge patch (RFC 7396). */

import { isObject, own } from "./values.js";

/** @param {string[]} names */
export const nulls = (names) => Object.fromEntries(names.map((name) => [name, null]));

/** Return an idempotency key. In pages that came over plain HTTP browsers have no UUIDs. */
export const makeId = () => globalThis.crypto?.randomUUID?.() ?? `${Math.random()}${Math.random()}`;

/**
 * Copy what the host passes, which is the host's to change. Numbers that JSON has not are refused, not made null.
 *
 * @param {any} value
 */
export const copy = (value) =>
  JSON.parse(
    JSON.stringify(value, (_, part) => {
      if (typeof part == "number" && !isFinite(part)) throw TypeError(/** @type {any} */ (part));
      return part;
    }),
  );

/**
 * Tell whether an edit leaves nothing of the one before it: a slider that is dragged leaves one edit, not hundreds.
 *
 * @param {import("./values.js").Dict} patch
 * @param {import("./values.js").Dict} before
 */
export function covers(patch, before) {
  const [[namespace, fields] = []] = Object.entries(patch);
  return (
    Object.keys(before).join() == namespace &&
    isObject(fields) &&
    isObject(before[namespace]) &&
    Object.keys(before[namespace]).every((name) => own(fields, name) !== undefined && !isObject(fields[name]))
  );
}
