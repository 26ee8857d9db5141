/**
 * What outlives the page: the last state, and each edit that was not acknowledged, under a key of its own: tabs that
 * write at the same time cannot lose each other's.
 */

import { PreferencesError } from "./errors.js";
import { isObject, isState } from "./values.js";

/**
 * @param {string | undefined} name The mount and the user: nobody else's is ever read. Without one, nothing is kept.
 * @param {import("../client.js").PreferencesStorage | null | undefined} storage
 * @param {(error: PreferencesError) => void} report
 */
export function createStore(name, storage, report) {
  const stateKey = `${name} state`;
  const editKey = `${name} edit `;

  /**
   * Do something with the storage, at once where it can: the page may go away the next moment.
   *
   * @param {(storage: import("../client.js").PreferencesStorage) => any} work
   */
  async function attempt(work) {
    try {
      // Where it is forbidden, to name it is an error already.
      const chosen = storage === undefined ? globalThis.localStorage : storage;
      if (!chosen) return;
      if (!name) throw "no user is known"; // whose it was could not be told
      await work(chosen);
    } catch (error) {
      // Full, forbidden, or of no use: said once, and everything goes on in memory.
      report(new PreferencesError("storage", `kept in memory only: ${error}`));
      report = () => {};
    }
  }

  return {
    /** Return what is stored: the state, and the edits, oldest first. */
    async load() {
      /** @type {import("./values.js").State | undefined} */
      let state;
      /** @type {import("./link.js").Edit[]} */
      const edits = [];
      await attempt(async (storage) => {
        // Somebody may store something under the name "keys", which localStorage then has as a property.
        for (const key of storage.keys?.call ? await storage.keys() : Object.keys(storage)) {
          if (!key.startsWith(/** @type {string} */ (name))) continue;
          try {
            const value = JSON.parse((await storage.getItem(key)) ?? "");
            if (key == stateKey && isState(value)) state = value;
            if (key == editKey + value.id && isObject(value.patch)) edits.push(value);
          } catch {} // somebody's rubbish is nobody's edit
        }
      });
      return { state, edits: edits.sort((one, other) => one.at - other.at) };
    },

    /** @param {import("./values.js").State} state */
    saveState: (state) => attempt((storage) => storage.setItem(stateKey, JSON.stringify(state))),

    /** @param {import("./link.js").Edit} edit */
    saveEdit: (edit) => attempt((storage) => storage.setItem(editKey + edit.id, JSON.stringify(edit))),

    /** @param {string} id */
    dropEdit: (id) => attempt((storage) => storage.removeItem(editKey + id)),
  };
}
