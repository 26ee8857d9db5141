/** Elements, made without a framework. Text is always text: nothing here parses HTML. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an element. `on...` are listeners, booleans attributes that are there or not, `null` leaves one out.
 *
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Node | string)} children
 * @returns {any}
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (typeof value == "boolean") element.toggleAttribute(name, value);
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const ICONS = {
  laptop: "M5 6.5A1.5 1.5 0 0 1 6.5 5h11A1.5 1.5 0 0 1 19 6.5V15H5zM2.5 18.5h19",
  phone: "M8.5 3h7A1.5 1.5 0 0 1 17 4.5v15a1.5 1.5 0 0 1-1.5 1.5h-7A1.5 1.5 0 0 1 7 19.5v-15A1.5 1.5 0 0 1 8.5 3zM11 18h2",
  tablet: "M6.5 3h11A1.5 1.5 0 0 1 19 4.5v15a1.5 1.5 0 0 1-1.5 1.5h-11A1.5 1.5 0 0 1 5 19.5v-15A1.5 1.5 0 0 1 6.5 3zM11 18h2",
  undo: "M8.5 6 5 9.5 8.5 13M5.5 9.5H14a4.5 4.5 0 0 1 0 9h-3",
  close: "m7 7 10 10M17 7 7 17",
  window: "M13.5 5H19v5.5M19 5l-7.5 7.5M10 6H6.5A1.5 1.5 0 0 0 5 7.5v10A1.5 1.5 0 0 0 6.5 19h10a1.5 1.5 0 0 0 1.5-1.5V14",
};

/**
 * Make an icon: an ornament, of which assistive technology hears nothing.
 *
 * @param {keyof typeof ICONS} name
 */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/**
 * Say something to those who do not see it.
 *
 * @param {string} text
 */
export function announce(text) {
  const announcer = /** @type {HTMLElement} */ (document.getElementById("announcer"));
  // Two things said at once are both said; the same thing said again is said again.
  const line = el("span", {}, `${text} `);
  announcer.append(line);
  setTimeout(() => line.remove(), 5_000);
}

/**
 * Show a value in a few words.
 *
 * @param {any} value
 */
export function inWords(value) {
  if (typeof value == "boolean") return value ? "on" : "off";
  if (typeof value == "string") return value === "" ? "empty" : value;
  if (Array.isArray(value) && value.every((item) => typeof item != "object")) return value.join(", ") || "none";
  return value === undefined ? "removed" : JSON.stringify(value);
}
