/** A device: a client of its own, with a network, a storage and a screen of its own. */

import { connect } from "../preferences/client.js";
import { applyAccent } from "./colour.js";
import { announce, el, icon } from "./dom.js";
import { createForm } from "./form.js";
import { duration, transportName } from "./log.js";
import { createNetwork } from "./network.js";
import { createChannels, createLocks, createStorage } from "./storage.js";

const MOUNT = new URL("preferences/", document.baseURI).href;
const NETWORK = "network";
const SCHEMA = "schema";
// Milliseconds until a device that never had a first answer asks again by itself.
const AGAIN = 5_000;

const STATES = { connecting: "Connecting", online: "Online", offline: "Offline", closed: "Closed" };

/**
 * @param {object} options
 * @param {string} options.name
 * @param {string} options.user
 * @param {ReturnType<typeof import("./log.js").createLog>} options.log
 * @param {("websocket" | "sse" | "poll")[]} [options.transports]
 * @param {(values: any) => void} [options.onValues] Told of all values whenever they change.
 */
export function createDevice({ name, user, log, transports, onValues }) {
  const own = `${user}@${name}`;
  const storage = createStorage(own);
  const network = createNetwork(storage?.getItem(NETWORK) != "cut");
  const title = name.replace(/^./u, (first) => first.toUpperCase());
  /** @type {import("../../src/prefsync/web/client.d.ts").Preferences | undefined} */
  let prefs;
  /** @type {ReturnType<typeof createForm> | undefined} */
  let form;
  let tokens = 0;
  /** @type {string | undefined} The token that the schema was fetched with; the client begins with it. */
  let first;
  let lastStatus = "";
  let lastRevision = 0;
  /** @type {() => void} */
  let tryAgain = () => {};

  const dot = el("span", { class: "lamp" });
  const status = el("span", { class: "status" }, STATES.connecting);
  const transport = el("span", { class: "transport" });
  const latency = el("span", { class: "latency" });
  const pending = el("span", { class: "pending", hidden: true });
  const cable = el("input", {
    type: "checkbox",
    role: "switch",
    class: "switch",
    "aria-label": `Network of the ${name}`,
    onchange: () => turn(cable.checked),
  });
  cable.checked = network.isUp;
  const banner = el("p", { class: "banner", hidden: true });
  const body = el("div", { class: "body", "aria-busy": "true" }, el("p", { class: "loading" }, "Connecting …"));
  const app = el(
    "div",
    { class: "app" },
    el("div", { class: "bar" }, el("h3", {}, "Settings"), el("span", { class: "who" }, user)),
    banner,
    body,
  );
  const screen = el("div", { class: "screen", "data-theme": "system" }, app);
  const element = el(
    "section",
    { class: `device ${name}`, "data-device": name, "data-status": "connecting", "aria-labelledby": `${name}-title` },
    el(
      "header",
      { class: "caption" },
      el("h2", { id: `${name}-title` }, icon(name == "laptop" || name == "phone" ? name : "tablet"), title),
      el("p", { class: "state" }, dot, status, transport, latency, pending),
      el("label", { class: "cable" }, el("span", {}, "Network"), cable),
    ),
    el("div", { class: "frame" }, screen),
  );

  /** @param {boolean} isUp */
  function turn(isUp) {
    cable.checked = isUp;
    if (isUp == network.isUp) return;
    storage?.setItem(NETWORK, isUp ? "up" : "cut");
    log.tell(name, isUp ? "Network plugged in" : "Network cut");
    if (isUp) {
      network.mend();
      tryAgain();
    } else {
      network.cut();
    }
    renderStatus();
  }

  // Another window that shows this device: one device has one network.
  window.addEventListener("storage", ({ key, newValue }) => {
    if (key == `${own}:${NETWORK}`) turn(newValue != "cut");
  });

  async function fetchToken() {
    const headers = { "Content-Type": "application/json" };
    const answer = await network.fetch("demo/token", { method: "POST", headers, body: JSON.stringify({ user }) });
    if (!answer.ok) throw new Error(`no token: ${answer.status}`);
    const { token, expires_in: life } = await answer.json();
    if (tokens++) log.tell(name, `Token renewed, good for ${duration(life * 1_000)}`);
    return token;
  }

  async function token() {
    const held = first;
    first = undefined;
    return held ?? fetchToken();
  }

  /** The schema as the server tells it, or as it told it last. */
  async function fetchSchema() {
    try {
      first = await fetchToken();
      const answer = await network.fetch(`${MOUNT}schema`, { headers: { Authorization: `Bearer ${first}` } });
      if (!answer.ok) throw new Error(`no schema: ${answer.status}`);
      const text = await answer.text();
      storage?.setItem(SCHEMA, text);
      return JSON.parse(text);
    } catch (error) {
      const stored = storage?.getItem(SCHEMA);
      if (!stored) throw error;
      return JSON.parse(stored);
    }
  }

  function renderStatus() {
    const now = prefs?.status ?? (network.isUp ? "connecting" : "offline");
    const waiting = prefs?.pending ?? 0;
    element.dataset.status = now;
    element.dataset.transport = prefs?.transport ?? "";
    element.dataset.waiting = String(waiting);
    element.dataset.revision = String(prefs?.revision ?? 0);
    status.textContent = STATES[now];
    transport.textContent = transportName(prefs?.transport ?? null);
    const took = now == "online" ? (prefs?.latency ?? null) : null;
    latency.textContent = took === null ? "" : duration(took);
    const isAway = now != "online" && (now == "offline" || !network.isUp);
    pending.hidden = !waiting || !isAway;
    pending.textContent = `${waiting} waiting`;
    banner.hidden = !isAway;
    const edits = waiting == 1 ? "One change waits" : `${waiting} changes wait`;
    banner.textContent = waiting
      ? `You are offline. ${edits} here, and will be sent when the network is back.`
      : "You are offline. Changes are kept here until the network is back.";
    if (now != lastStatus && lastStatus) announce(`The ${name} is ${STATES[now].toLowerCase()}.`);
    lastStatus = now;
  }

  function renderLook() {
    const appearance = prefs?.get("appearance") ?? {};
    const { theme, accent, font_size: size, density } = /** @type {Record<string, any>} */ (appearance);
    screen.dataset.theme = ["light", "dark"].includes(theme) ? theme : "system";
    screen.dataset.density = density == "compact" ? "compact" : "comfortable";
    if (Number.isFinite(size)) screen.style.setProperty("--points", String(size));
    applyAccent(screen, accent);
    onValues?.(prefs?.get());
  }

  /** @param {import("../../src/prefsync/web/client.d.ts").ChangeEvent} event */
  function take(event) {
    const { source, revision, namespaces, changed, removed } = event;
    renderLook();
    // What comes without a name comes from a client that gave itself none, such as a script.
    const origin = event.origin ?? "another client";
    // Edits made in another window that shows this device come before the server has seen them: no revision is new.
    const isForeign = source == "remote" && origin != name && revision != lastRevision;
    lastRevision = revision;
    form?.show(event, isForeign ? origin : null);
    renderStatus();
    if (!isForeign) return;
    const fields = namespaces.flatMap((namespace) => [
      ...Object.entries(changed[namespace] ?? {}).map(([field, value]) => [`${namespace}.${field}`, value]),
      ...(removed[namespace] ?? []).map((field) => [`${namespace}.${field}`, undefined]),
    ]);
    log.arrived(revision, name, origin, /** @type {[string, any][]} */ (fields), prefs?.transport ?? null);
  }

  /**
   * @param {string} namespace
   * @param {Record<string, any>} patch
   * @param {Promise<number>} promise
   */
  async function follow(namespace, patch, promise) {
    const names = Object.keys(patch);
    const fields = names.length ? names.map((field) => `${namespace}.${field}`) : [namespace];
    log.edited(name, fields);
    renderStatus();
    try {
      const revision = await promise;
      const told = fields.map((field, index) => [field, names.length ? patch[names[index]] : null]);
      log.acknowledged(revision, name, /** @type {[string, any][]} */ (told), prefs?.transport ?? "");
    } catch (error) {
      const { code, message } = /** @type {any} */ (error);
      if (code != "closed") log.tell(name, `${fields.join(", ")} was refused: ${message}`);
    }
  }

  async function start() {
    const schema = await fetchSchema();
    prefs = await connect({
      url: MOUNT,
      token,
      user,
      client: name,
      storage,
      fetch: network.fetch,
      WebSocket: network.WebSocket,
      locks: createLocks(own),
      BroadcastChannel: createChannels(own),
      ...(transports && { transports }),
    });
    form = createForm({ device: name, schema, prefs, onEdit: follow });
    body.replaceChildren(form.element);
    body.removeAttribute("aria-busy");
    lastRevision = prefs.revision;
    prefs.on("change", take);
    let lastTransport = "";
    const onStatus = () => {
      const by = prefs?.transport;
      if (by && by != lastTransport) log.tell(name, `Online by ${transportName(by)}`);
      lastTransport = by ?? "";
      renderStatus();
    };
    prefs.on("status", onStatus);
    prefs.on("error", () => {}); // refusals are shown at their fields, and outages by the status
    renderLook();
    onStatus();
  }

  return {
    element,

    /** Start, and if that does not work yet, go on trying. */
    async start() {
      for (;;) {
        try {
          return await start();
        } catch (error) {
          const why = network.isUp
            ? `${/** @type {Error} */ (error).message}. Trying again …`
            : "Nothing is stored on this device yet. Plug in its network.";
          body.replaceChildren(el("p", { class: "loading" }, why));
          renderStatus();
          await /** @type {Promise<void>} */ (
            new Promise((resolve) => {
              tryAgain = resolve;
              if (network.isUp) setTimeout(resolve, AGAIN);
            })
          );
        }
      }
    },
  };
}
