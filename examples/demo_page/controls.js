/**
 * Controls: what a value of some JSON Schema is changed with. Lists and free objects have files of their own.
 *
 * @typedef {object} Setting What a control is told.
 * @property {any} schema
 * @property {string} id Of its main element, which the label points to.
 * @property {string} label
 * @property {string} describedBy The ids of help and problem.
 * @property {(value: any, isUnderWay?: boolean) => void} edit Called with what the user made of it; `isUnderWay` while
 *   they drag.
 * @property {(message: string) => void} complain Called where it cannot be sent at all.
 *
 * @typedef {object} Control
 * @property {any} element
 * @property {boolean} isGroup Whether it is made of several controls: then it has a legend and no label.
 * @property {(value: any) => void} show
 * @property {() => void} focus
 * @property {(path: string[]) => any} [at] The part that a pointer leads to.
 */

import { el } from "./dom.js";
import { createList } from "./lists.js";

// As many choices are shown side by side; more go into a select.
const MOST_SEGMENTS = 4;

/**
 * @param {Setting} setting
 * @returns {Control}
 */
export function createControl(setting) {
  const { schema } = setting;
  if (Array.isArray(schema.enum)) {
    return schema.enum.length > MOST_SEGMENTS ? createSelect(setting) : createSegments(setting);
  }
  if (schema.type == "boolean") return createSwitch(setting);
  if (schema.type == "integer" || schema.type == "number") return createNumber(setting);
  if (schema.type == "array" && ["integer", "number", "string"].includes(schema.items?.type)) return createList(setting);
  if (schema.type == "string") return isColour(schema) ? createColour(setting) : createText(setting);
  return createJson(setting);
}

/**
 * Tell whether a pattern lets colours through as `<input type=color>` writes them, and nothing that is no colour.
 *
 * @param {any} schema
 */
function isColour({ pattern }) {
  if (typeof pattern != "string") return false;
  try {
    const expression = new RegExp(pattern, "u");
    return expression.test("#12abef") && !["12abef", "#12abeg", "#12abef0", ""].some((other) => expression.test(other));
  } catch {
    return false;
  }
}

const capital = (/** @type {unknown} */ value) => String(value).replace(/^./u, (first) => first.toUpperCase());

/** @type {(setting: Setting) => Control} */
function createSegments({ schema, id, describedBy, edit }) {
  const inputs = schema.enum.map((/** @type {any} */ choice, /** @type {number} */ index) =>
    el("input", {
      type: "radio",
      name: id,
      id: `${id}-${index}`,
      value: String(index),
      "aria-describedby": describedBy,
      onchange: () => edit(choice),
    }),
  );
  const segments = inputs.map((/** @type {any} */ input, /** @type {number} */ index) =>
    el("label", { class: "segment" }, input, el("span", {}, capital(schema.enum[index]))),
  );
  return {
    element: el("div", { class: "segments" }, ...segments),
    isGroup: true,
    show: (value) => inputs.forEach((/** @type {any} */ one, /** @type {number} */ at) => (one.checked = schema.enum[at] === value)),
    focus: () => (inputs.find((/** @type {any} */ input) => input.checked) ?? inputs[0]).focus(),
  };
}

/** @type {(setting: Setting) => Control} */
function createSelect({ schema, id, describedBy, edit }) {
  const options = schema.enum.map((/** @type {any} */ choice, /** @type {number} */ index) =>
    el("option", { value: String(index) }, capital(choice)),
  );
  const onchange = () => edit(schema.enum[Number(select.value)]);
  const select = el("select", { id, "aria-describedby": describedBy, onchange }, ...options);
  const show = (/** @type {any} */ value) => (select.value = String(schema.enum.indexOf(value)));
  return { element: select, isGroup: false, show, focus: () => select.focus() };
}

/** @type {(setting: Setting) => Control} */
function createSwitch({ id, describedBy, edit }) {
  const input = el("input", {
    type: "checkbox",
    role: "switch",
    class: "switch",
    id,
    "aria-describedby": describedBy,
    onchange: () => edit(input.checked),
  });
  const show = (/** @type {any} */ value) => (input.checked = value === true);
  return { element: input, isGroup: false, show, focus: () => input.focus() };
}

/** @type {(setting: Setting) => Control} */
function createNumber({ schema, id, label, describedBy, edit, complain }) {
  const { minimum, maximum, type } = schema;
  const step = schema.multipleOf ?? (type == "integer" ? 1 : "any");
  const read = () => (number.value.trim() === "" || !Number.isFinite(number.valueAsNumber) ? undefined : number.valueAsNumber);
  // No more is checked here: what the limits are is the server's to say, and it says why.
  const commit = () => {
    const value = read();
    if (value === undefined || (type == "integer" && !Number.isInteger(value))) {
      complain(type == "integer" ? "Enter a whole number." : "Enter a number.");
    } else {
      edit(value);
    }
  };
  const limits = { min: minimum, max: maximum, step };
  const number = el("input", { type: "number", id, ...limits, "aria-describedby": describedBy, onchange: commit });
  if (minimum === undefined || maximum === undefined) {
    return { element: number, isGroup: false, show: (value) => (number.value = value), focus: () => number.focus() };
  }
  const paint = () => slider.style.setProperty("--share", `${(100 * (slider.value - minimum)) / (maximum - minimum)}%`);
  const slide = (/** @type {boolean} */ isUnderWay) => () => {
    number.value = slider.value;
    paint();
    edit(slider.valueAsNumber, isUnderWay);
  };
  const slider = el("input", {
    type: "range",
    ...limits,
    "aria-label": label,
    "aria-describedby": describedBy,
    oninput: slide(true),
    onchange: slide(false),
  });
  return {
    element: el("div", { class: "number" }, slider, number),
    isGroup: false,
    show(value) {
      number.value = slider.value = value;
      paint();
    },
    focus: () => number.focus(),
    at: () => number,
  };
}

/** @type {(setting: Setting) => Control} */
function createColour({ id, label, describedBy, edit }) {
  const text = el("input", {
    type: "text",
    id,
    class: "code",
    size: 9,
    spellcheck: "false",
    autocomplete: "off",
    "aria-describedby": describedBy,
    onchange: () => edit(text.value),
  });
  const pick = (/** @type {boolean} */ isUnderWay) => () => {
    text.value = picker.value;
    edit(picker.value, isUnderWay);
  };
  const picker = el("input", {
    type: "color",
    "aria-label": `${label}, picker`,
    "aria-describedby": describedBy,
    oninput: pick(true),
    onchange: pick(false),
  });
  return {
    element: el("div", { class: "colour" }, picker, text),
    isGroup: false,
    show(value) {
      text.value = value;
      picker.value = String(value).toLowerCase();
    },
    focus: () => text.focus(),
    at: () => text,
  };
}

/** @type {(setting: Setting) => Control} */
function createText({ id, describedBy, edit }) {
  const input = el("input", { type: "text", id, "aria-describedby": describedBy, onchange: () => edit(input.value) });
  return { element: input, isGroup: false, show: (value) => (input.value = value ?? ""), focus: () => input.focus() };
}

/** @type {(setting: Setting) => Control} For all that has no better one. */
function createJson({ id, describedBy, edit, complain }) {
  const onchange = () => {
    try {
      edit(JSON.parse(area.value));
    } catch {
      complain("This is no JSON.");
    }
  };
  const area = el("textarea", { id, class: "code", rows: 3, "aria-describedby": describedBy, spellcheck: "false", onchange });
  const show = (/** @type {any} */ value) => (area.value = JSON.stringify(value));
  return { element: area, isGroup: false, show, focus: () => area.focus() };
}
