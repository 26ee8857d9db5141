/** The settings page, made from the JSON Schema that the server tells: a section for each namespace. */

import { announce, el, inWords } from "./dom.js";
import { createField } from "./field.js";
import { createOpenEditor } from "./open.js";

/**
 * @typedef {import("../../src/prefsync/web/client.d.ts").Preferences} Preferences
 * @typedef {import("../../src/prefsync/web/client.d.ts").ChangeEvent} ChangeEvent
 */

/**
 * @param {object} options
 * @param {string} options.device
 * @param {any} options.schema
 * @param {Preferences} options.prefs
 * @param {(namespace: string, patch: Record<string, any>, promise: Promise<number>) => void} options.onEdit
 */
export function createForm({ device, schema, prefs, onEdit }) {
  /** @type {Map<string, ReturnType<typeof createSection>>} */
  const sections = new Map();

  /**
   * @param {string} namespace
   * @param {any} described
   * @param {boolean} isOpen
   */
  function createSection(namespace, described, isOpen) {
    const title = described.title ?? namespace;
    /** @param {Record<string, any>} fields */
    const send = (fields) => {
      const promise = prefs.set(namespace, fields);
      onEdit(namespace, fields, promise);
      return promise;
    };
    /** @param {string[]} names */
    const reset = (...names) => {
      const promise = prefs.reset(namespace, ...names);
      onEdit(namespace, Object.fromEntries(names.map((name) => [name, null])), promise);
      return promise;
    };
    const body = createBody(namespace, described, send, reset);
    const all = el(
      "button",
      {
        type: "button",
        class: "all",
        onclick() {
          body.resetting(reset());
          announce(`${title} goes back to its defaults.`);
        },
      },
      described.properties ? `Reset ${title}` : `Remove all ${title}`,
    );
    const news = el("span", { class: "dot", hidden: true });
    const element = el(
      "details",
      { class: "section", "data-namespace": namespace, open: isOpen, ontoggle: () => (news.hidden = true) },
      el(
        "summary",
        {},
        el("h4", {}, title),
        el("span", { class: "about" }, described.description ?? ""),
        news,
      ),
      el("div", { class: "fields" }, body.element, el("div", { class: "foot" }, all)),
    );

    return {
      element,
      /**
       * @param {string} name
       * @param {any} value
       * @param {string | null} [origin]
       */
      show(name, value, origin) {
        body.show(name, value, origin);
        if (!origin) return;
        news.hidden = element.open;
        announce(`${body.labelOf(name)} is now ${inWords(value)}, changed by ${origin}.`);
      },
    };
  }

  /**
   * @param {string} namespace
   * @param {any} described
   * @param {(fields: Record<string, any>) => Promise<number>} send
   * @param {(...names: string[]) => Promise<number>} reset
   */
  function createBody(namespace, described, send, reset) {
    if (!described.properties) {
      const values = () => /** @type {Record<string, any>} */ (prefs.get(namespace) ?? {});
      return createOpenEditor({ device, namespace, schema: described, values, send, reset });
    }
    const fields = new Map(
      Object.entries(described.properties).map(([name, schema]) => [
        name,
        createField({ device, namespace, name, schema, send, reset: () => reset(name) }),
      ]),
    );
    return {
      element: el("div", { class: "typed" }, ...[...fields.values()].map((field) => field.element)),
      labelOf: (/** @type {string} */ name) => fields.get(name)?.label ?? name,
      show: (/** @type {string} */ name, /** @type {any} */ value, /** @type {string | null | undefined} */ origin) =>
        fields.get(name)?.show(value, origin),
      resetting: (/** @type {Promise<number>} */ promise) => fields.forEach((field) => field.resetting(promise)),
    };
  }

  Object.entries(schema.properties).forEach(([namespace, described], index) => {
    sections.set(namespace, createSection(namespace, described, index == 0));
  });
  for (const [namespace, values] of Object.entries(prefs.get())) {
    for (const [name, value] of Object.entries(values)) sections.get(namespace)?.show(name, value);
  }

  return {
    element: el("div", { class: "sections" }, ...[...sections.values()].map((section) => section.element)),

    /**
     * Take in a change.
     *
     * @param {ChangeEvent} event
     * @param {string | null} origin Who made it, where that was somebody else.
     */
    show({ namespaces, changed, removed }, origin) {
      for (const namespace of namespaces) {
        for (const [name, value] of Object.entries(changed[namespace] ?? {})) {
          sections.get(namespace)?.show(name, value, origin);
        }
        for (const name of removed[namespace] ?? []) sections.get(namespace)?.show(name, undefined, origin);
      }
    },
  };
}
