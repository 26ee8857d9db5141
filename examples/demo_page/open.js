/** The editor of an open namespace: any JSON under any name. */

import { announce, el } from "./dom.js";
import { createField } from "./field.js";

/**
 * @param {object} options
 * @param {string} options.device
 * @param {string} options.namespace
 * @param {any} options.schema
 * @param {() => Record<string, any>} options.values
 * @param {(fields: Record<string, any>) => Promise<number>} options.send
 * @param {(name: string) => Promise<number>} options.reset
 */
export function createOpenEditor({ device, namespace, schema, values, send, reset }) {
  const id = `${device}-${namespace}`;
  const title = schema.title ?? namespace;
  /** @type {Map<string, ReturnType<typeof createField>>} */
  const fields = new Map();
  const rows = el("div", { class: "rows" });

  const key = el("input", { type: "text", id: `${id}-key`, autocomplete: "off", spellcheck: "false", required: true });
  const value = el("input", {
    type: "text",
    id: `${id}-value`,
    class: "code",
    autocomplete: "off",
    spellcheck: "false",
    required: true,
    "aria-describedby": `${id}-hint ${id}-refusal`,
  });
  const refusal = el("div", { class: "problem", id: `${id}-refusal`, hidden: true });
  const form = el(
    "form",
    { class: "entry", onsubmit: add, novalidate: true },
    el("label", { for: key.id }, el("span", {}, "Key"), key),
    el("label", { for: value.id }, el("span", {}, "Value"), value),
    el("button", { type: "submit", "aria-label": `Add to ${title}` }, "Add"),
    el("p", { class: "help", id: `${id}-hint` }, 'JSON: 4, true, "text", ["a", "b"], {"size": 2}'),
    refusal,
  );

  /** @param {string} message */
  function refuse(message) {
    refusal.textContent = message;
    refusal.hidden = false;
    value.setAttribute("aria-invalid", "true");
    announce(message);
  }

  /** @param {Event} event */
  async function add(event) {
    event.preventDefault();
    refusal.hidden = true;
    value.removeAttribute("aria-invalid");
    const [name, text] = [key.value, value.value];
    if (!name) return refuse("Enter a key.");
    let parsed;
    try {
      parsed = JSON.parse(text);
    } catch {
      return refuse('This is no JSON. Text needs quotes: "like this".');
    }
    const sending = replace({ [name]: parsed });
    key.value = value.value = "";
    key.focus();
    try {
      await sending;
    } catch (error) {
      const { code, errors, message } = /** @type {any} */ (error);
      if (code == "closed" || key.value || value.value) return;
      [key.value, value.value] = [name, text]; // refused: it is not to be typed again
      refuse(errors.map((/** @type {any} */ { detail }) => detail).join(" ") || message);
    }
  }

  /**
   * Send keys with whole new values. Patches merge objects, so members that are gone must be named.
   *
   * @param {Record<string, any>} changes
   */
  function replace(changes) {
    const now = values();
    const entries = Object.entries(changes);
    if (entries.some(([, next]) => hasNull(next))) {
      const message = "null takes a key away: it is no value here.";
      return Promise.reject({ code: "null", errors: [], message });
    }
    return send(Object.fromEntries(entries.map(([name, next]) => [name, difference(now[name], next)])));
  }

  /** @param {string} name */
  function createRow(name) {
    const field = createField({
      device,
      namespace,
      name,
      schema: { title: name },
      send: replace,
      reset: () => reset(name),
      backLabel: "Remove",
    });
    field.element.classList.add("free");
    return field;
  }

  return {
    element: el("div", { class: "open" }, rows, form),
    labelOf: (/** @type {string} */ name) => name,

    /**
     * @param {string} name
     * @param {any} next `undefined`: it is gone.
     * @param {string | null} [origin]
     */
    show(name, next, origin) {
      let field = fields.get(name);
      if (next === undefined) {
        const hadFocus = field?.element.contains(document.activeElement);
        field?.element.remove();
        fields.delete(name);
        if (hadFocus) key.focus();
        return;
      }
      if (!field) {
        fields.set(name, (field = createRow(name)));
        rows.append(field.element);
      }
      field.show(next, origin);
    },

    /** @param {Promise<number>} promise */
    resetting: (promise) => fields.forEach((field) => field.resetting(promise)),
  };
}

const isObject = (/** @type {any} */ value) => typeof value == "object" && value !== null && !Array.isArray(value);

/** Tell whether a patch would read something as "away" (RFC 7396). */
const hasNull = (/** @type {any} */ value) =>
  value === null || (isObject(value) && Object.values(value).some(hasNull));

/**
 * Return the merge patch that makes one value of another.
 *
 * @param {any} before
 * @param {any} after
 * @returns {any}
 */
function difference(before, after) {
  if (!isObject(before) || !isObject(after)) return after;
  const gone = Object.keys(before).filter((name) => !Object.hasOwn(after, name));
  return Object.fromEntries([
    ...gone.map((name) => [name, null]),
    ...Object.entries(after).map(([name, value]) => [name, difference(before[name], value)]),
  ]);
}
