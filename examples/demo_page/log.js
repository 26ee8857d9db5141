/** The log: each change once, by its revision, with the devices that it has reached; and what happened to networks. */

import { el, inWords } from "./dom.js";

const MOST_ENTRIES = 60;
const TRANSPORTS = { websocket: "WebSocket", sse: "server-sent events", poll: "long poll" };

/** @param {string | null} transport */
export const transportName = (transport) => TRANSPORTS[/** @type {keyof typeof TRANSPORTS} */ (transport)] ?? "";

const clock = () => new Date().toLocaleTimeString([], { hour12: false });

/** @param {number} milliseconds */
export function duration(milliseconds) {
  if (milliseconds < 1) return "under 1 ms";
  if (milliseconds < 1_000) return `${Math.round(milliseconds)} ms`;
  return milliseconds < 90_000 ? `${(milliseconds / 1_000).toFixed(1)} s` : `${Math.round(milliseconds / 60_000)} min`;
}

/** @param {HTMLElement} section */
export function createLog(section) {
  const list = /** @type {HTMLOListElement} */ (section.querySelector(".entries"));
  const empty = /** @type {HTMLElement} */ (section.querySelector(".empty"));
  /** @typedef {{ origin: string, item: any, what: any, who: any, ways: any, fields: Map<string, any>, arrivals: Map<string, string> }} Entry */
  /** @type {Map<number, Entry>} */
  const entries = new Map();
  /** @type {Map<string, number>} When a device last edited a field, for telling how long that took to travel. */
  const edits = new Map();

  /** @param {any} item */
  function add(item) {
    empty.hidden = true;
    list.prepend(item);
    while (list.children.length > MOST_ENTRIES) list.lastElementChild?.remove();
  }

  /**
   * @param {number} revision
   * @param {string} origin
   * @returns {Entry}
   */
  function entryOf(revision, origin) {
    const known = entries.get(revision);
    if (known) return known;
    const [what, who, ways] = ["what", "who", "ways"].map((name) => el("span", { class: name }));
    const number = el("span", { class: "revision", title: "Revision" }, el("span", { class: "unseen" }, "revision "), String(revision));
    const item = el("li", { "data-revision": revision, "data-origin": origin }, what, el("time", {}, clock()), who, ways, number);
    const entry = { origin, item, what, who, ways, fields: new Map(), arrivals: new Map() };
    entries.set(revision, entry);
    add(item);
    return entry;
  }

  /**
   * @param {Entry} entry
   * @param {Iterable<[string, any]>} fields
   * @param {string | null} transport
   */
  function render(entry, fields, transport) {
    for (const [name, value] of fields) entry.fields.set(name, value);
    entry.what.replaceChildren(
      ...[...entry.fields].flatMap(([name, value], index) => [
        index ? ", " : "",
        el("b", {}, name),
        value === null ? " back to its default" : ` → ${inWords(value)}`,
      ]),
    );
    const arrivals = [...entry.arrivals].map(([device, took]) => `${device}${took && ` in ${took}`}`);
    entry.who.textContent = `${entry.origin}${arrivals.length ? ` → ${arrivals.join(", ")}` : ""}`;
    const way = transportName(transport);
    if (way && !entry.ways.textContent.split(", ").includes(way)) {
      entry.ways.textContent += `${entry.ways.textContent && ", "}${way}`;
    }
  }

  return {
    /**
     * A device edits.
     *
     * @param {string} device
     * @param {string[]} fields
     */
    edited(device, fields) {
      for (const field of fields) edits.set(`${device} ${field}`, performance.now());
    },

    /**
     * The server has acknowledged a device's edit.
     *
     * @param {number} revision
     * @param {string} device
     * @param {[string, any][]} fields
     * @param {string | null} transport
     */
    acknowledged(revision, device, fields, transport) {
      render(entryOf(revision, device), fields, transport);
    },

    /**
     * A change has come to a device.
     *
     * @param {number} revision
     * @param {string} device
     * @param {string} origin
     * @param {[string, any][]} fields
     * @param {string | null} transport
     */
    arrived(revision, device, origin, fields, transport) {
      const entry = entryOf(revision, origin);
      const starts = fields.map(([name]) => edits.get(`${origin} ${name}`) ?? 0);
      const took = starts.length && Math.min(...starts) ? performance.now() - Math.max(...starts) : undefined;
      entry.arrivals.set(device, took === undefined ? "" : duration(took));
      render(entry, entry.fields.size ? [] : fields, transport);
    },

    /**
     * Something happened to a device's connection.
     *
     * @param {string} device
     * @param {string} text
     */
    tell(device, text) {
      const what = el("span", { class: "what" }, text);
      add(el("li", { class: "event" }, el("time", {}, clock()), el("span", { class: "who" }, device), what));
    },
  };
}
