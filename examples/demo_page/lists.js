/** Lists of numbers or words: each item can be changed or taken out, and one more added. */

import { el, icon } from "./dom.js";

/**
 * @param {import("./controls.js").Setting} setting
 * @returns {import("./controls.js").Control}
 */
export function createList({ schema, id, label, describedBy, edit, complain }) {
  const isNumber = schema.items.type != "string";
  /** @type {any[]} */
  let items = [];

  /**
   * Read an input, or say what is wrong with it.
   *
   * @param {any} input
   */
  function read(input) {
    if (!isNumber) return input.value;
    const value = input.valueAsNumber;
    if (input.value.trim() !== "" && Number.isFinite(value) && (schema.items.type == "number" || Number.isInteger(value))) {
      return value;
    }
    input.setAttribute("aria-invalid", "true");
    complain(schema.items.type == "integer" ? "Enter a whole number." : "Enter a number.");
    return undefined;
  }

  /** @param {any[]} next */
  function change(next) {
    show(next);
    edit(next);
  }

  const type = isNumber ? { type: "number", step: schema.items.type == "integer" ? 1 : "any" } : { type: "text" };
  const list = el("ul", { class: "items", "aria-label": label });
  const entry = el("input", { ...type, id, class: "new", "aria-label": `New item of ${label}`, "aria-describedby": describedBy });
  const form = el(
    "form",
    {
      class: "add",
      onsubmit(/** @type {Event} */ event) {
        event.preventDefault();
        const value = read(entry);
        if (value === undefined) return;
        entry.value = "";
        change([...items, value]);
      },
    },
    entry,
    el("button", { type: "submit", "aria-label": `Add to ${label}` }, "Add"),
  );

  /** @param {number} index */
  function row(index) {
    const item = items[index];
    const input = el("input", {
      ...type,
      value: item,
      "aria-label": `${label}, item ${index + 1}`,
      "aria-describedby": describedBy,
      onchange() {
        const value = read(input);
        if (value !== undefined) change(items.with(index, value));
      },
    });
    if (!isNumber) input.size = Math.min(Math.max(String(item).length, 4), 24);
    const remove = el(
      "button",
      {
        type: "button",
        class: "remove",
        "aria-label": `Remove ${item} from ${label}`,
        onclick() {
          change(items.toSpliced(index, 1));
          // The button is gone; the focus goes to the one that took its place.
          (list.children[Math.min(index, items.length - 1)]?.querySelector("button") ?? entry).focus();
        },
      },
      icon("close"),
    );
    return el("li", {}, input, remove);
  }

  /** @param {any} value */
  function show(value) {
    const next = Array.isArray(value) ? value : [];
    // Rows that show the right thing stay: whoever is in one of them is not thrown out.
    const isSame = next.length == list.children.length && next.every((item, index) => item === items[index]);
    const held = [...list.children].findIndex((child) => child.contains(document.activeElement));
    items = [...next];
    if (isSame) return;
    list.replaceChildren(...items.map((_, index) => row(index)));
    list.hidden = !items.length;
    if (held >= 0) list.children[held]?.querySelector("input")?.focus();
  }

  list.hidden = true;
  return {
    element: el("div", { class: "list" }, list, form),
    isGroup: true,
    show,
    focus: () => entry.focus(),
    at: ([index]) => list.children[Number(index)]?.querySelector("input") ?? entry,
  };
}
