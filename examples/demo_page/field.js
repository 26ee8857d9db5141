/**
 * A field: label, help, control, the way back to the default, and what there is to say about it: that it waits for the
 * network, who changed it, why the server refused it.
 */

import { createControl } from "./controls.js";
import { announce, el, icon, inWords } from "./dom.js";

// Milliseconds. An edit that is acknowledged sooner does not flicker; a drag sends so often; news stay marked so long.
const PATIENCE = 300;
const DRAG_EVERY = 200;
const NEWS = 2_600;

/**
 * @param {object} options
 * @param {string} options.device
 * @param {string} options.namespace
 * @param {string} options.name
 * @param {any} options.schema
 * @param {(fields: Record<string, any>) => Promise<number>} options.send
 * @param {() => Promise<number>} options.reset
 * @param {string} [options.backLabel] What the way back does, where it is not the way to a default.
 * @param {typeof import("./controls.js").createControl} [options.create]
 */
export function createField({ device, namespace, name, schema, send, reset, backLabel, create = createControl }) {
  const id = `${device}-${namespace}-${name}`;
  const label = schema.title ?? name;
  let saved = /** @type {any} */ (schema.default);
  let waiting = 0;
  let latest = 0;
  let isDraft = false;
  /** @type {any} */
  let dragTimer;
  let draggedAt = 0;
  /** @type {any} */
  let newsTimer;

  const control = create({
    schema,
    id,
    label,
    describedBy: `${id}-help ${id}-problem`,
    edit(value, isUnderWay) {
      clearTimeout(dragTimer);
      const wait = draggedAt + DRAG_EVERY - Date.now();
      dragTimer = isUnderWay && wait > 0 ? setTimeout(commit, wait, value) : undefined;
      if (!dragTimer) commit(value);
    },
    complain: (message) => refuse([{ path: [], detail: message }]),
  });

  const note = el("span", { class: "note", hidden: true });
  const problem = el("div", { class: "problem", id: `${id}-problem`, hidden: true });
  const backText = backLabel ?? "Back to the default";
  const back = el(
    "button",
    { type: "button", class: "back", hidden: true, "aria-label": `${backText}: ${label}`, title: backText },
    icon(backLabel ? "close" : "undo"),
  );
  back.addEventListener("click", () => {
    isDraft = false;
    clearProblem();
    follow(reset());
    control.focus(); // the button goes away
  });
  const title = control.isGroup ? el("legend", { class: "label" }, label) : el("label", { class: "label", for: id }, label);
  const element = el(
    control.isGroup ? "fieldset" : "div",
    { class: "field", "data-field": `${namespace}.${name}` },
    title,
    el("div", { class: "notes" }, note, back),
    el("p", { class: "help", id: `${id}-help` }, schema.description ?? ""),
    el("div", { class: "control" }, control.element),
    problem,
  );

  // What somebody types is theirs until they have done with it, whatever comes from elsewhere meanwhile.
  element.addEventListener("input", () => (isDraft = true));
  element.addEventListener("focusout", () => {
    if (waiting || !problem.hidden || dragTimer) return;
    isDraft = false;
    control.show(saved);
  });

  /** @param {any} value */
  function commit(value) {
    dragTimer = undefined;
    draggedAt = Date.now();
    delete element.dataset.news;
    isDraft = true; // what the user made stays, until the server has taken it or they take it back
    clearProblem();
    follow(send({ [name]: value }));
    renderBack(value);
  }

  /** @param {Promise<number>} promise */
  async function follow(promise) {
    const mine = ++latest;
    waiting++;
    setTimeout(renderNote, PATIENCE);
    try {
      await promise;
      if (mine == latest && !dragTimer) {
        isDraft = false;
        control.show(saved);
      }
    } catch (error) {
      if (mine == latest) refuseBy(/** @type {any} */ (error));
    } finally {
      waiting--;
      renderNote();
      renderBack();
    }
  }

  /** @param {import("../../src/prefsync/web/client.d.ts").PreferencesError} error */
  function refuseBy(error) {
    if (error.code == "closed") return;
    const own = [namespace, name];
    const faults = error.errors
      .map(({ pointer, detail }) => ({ path: parse(pointer), detail }))
      .filter(({ path }) => own.every((part, index) => path[index] === part))
      .map(({ path, detail }) => ({ path: path.slice(own.length), detail }));
    refuse(faults.length ? faults : [{ path: [], detail: error.message }]);
  }

  /** @param {{ path: string[], detail: string }[]} faults */
  function refuse(faults) {
    isDraft = true;
    clearProblem();
    for (const { path } of faults) part(path)?.setAttribute("aria-invalid", "true");
    const texts = faults.map(({ path, detail }) => {
      const where = path.length ? `${/^\d+$/.test(path[0]) ? `Item ${Number(path[0]) + 1}` : path.join(", ")}: ` : "";
      return el("p", {}, where + detail);
    });
    const discard = el("button", { type: "button", class: "link", onclick: takeBack }, `Keep ${inWords(saved)}`);
    problem.replaceChildren(...texts, discard);
    problem.hidden = false;
    element.dataset.problem = "";
    announce(`${label}: ${faults.map(({ detail }) => detail).join(" ")}`);
  }

  function takeBack() {
    isDraft = false;
    clearProblem();
    control.show(saved);
    renderBack();
    control.focus();
  }

  /** @param {string[]} path */
  const part = (path) => control.at?.(path) ?? (control.element.matches("input, select, textarea") ? control.element : null);

  function clearProblem() {
    for (const one of element.querySelectorAll("[aria-invalid]")) one.removeAttribute("aria-invalid");
    problem.hidden = true;
    problem.replaceChildren();
    delete element.dataset.problem;
  }

  function renderNote() {
    element.toggleAttribute("data-pending", waiting > 0);
    const { news } = element.dataset;
    note.textContent = waiting ? "Waiting" : news ? `From ${news}` : "";
    note.hidden = !note.textContent;
  }

  /** @param {any} [value] */
  function renderBack(value = saved) {
    back.hidden = !backLabel && JSON.stringify(value) === JSON.stringify(schema.default);
  }

  /** @param {string} origin Who changed it. */
  function mark(origin) {
    clearTimeout(newsTimer);
    delete element.dataset.news;
    void element.offsetWidth; // so that a second change is seen as one: the animation begins anew
    element.dataset.news = origin;
    renderNote();
    newsTimer = setTimeout(() => {
      delete element.dataset.news;
      renderNote();
    }, NEWS);
  }

  return {
    element,
    label,

    /**
     * Take in the value as the client has it now.
     *
     * @param {any} value
     * @param {string | null} [origin] Who changed it, where that was somebody else.
     */
    show(value, origin) {
      saved = value;
      if (!isDraft) control.show(value);
      renderBack();
      if (origin) mark(origin);
    },

    /** @param {Promise<number>} promise A reset of the whole namespace. */
    resetting(promise) {
      isDraft = false;
      clearProblem();
      void follow(promise);
    },
  };
}

/** Take a JSON pointer (RFC 6901) apart. */
const parse = (/** @type {string} */ pointer) =>
  pointer
    .split("/")
    .slice(1)
    .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
