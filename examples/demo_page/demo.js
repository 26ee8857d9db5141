/** The demo page: who is signed in, by the URL, and their devices. */

import { applyAccent } from "./colour.js";
import { createDevice } from "./device.js";
import { el, icon } from "./dom.js";
import { createLog } from "./log.js";

const TRANSPORTS = ["websocket", "sse", "poll"];

const byId = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));
const query = new URLSearchParams(location.search);

/** @param {Record<string, string>} parameters */
const link = (parameters) => `?${new URLSearchParams(parameters)}`;

/** @returns {Promise<string[]>} */
async function fetchUsers() {
  const answer = await fetch("demo/users");
  if (!answer.ok) throw new Error(String(answer.status));
  return (await answer.json()).users;
}

/** @param {string[]} users */
function askWho(users) {
  const card = byId("sign-in");
  byId("sign-in-help").textContent = users.length
    ? "Nobody needs a password here. Each has preferences of their own, and sees nobody else's."
    : "This app takes its tokens from elsewhere, so nobody can sign in here. “nox -s demo” starts one with demo users.";
  card.querySelector(".people")?.append(
    ...users.map((user) =>
      el("li", {}, el("a", { href: link({ user }) }, el("span", { class: "face", "aria-hidden": "true" }, user[0]), el("span", {}, user))),
    ),
  );
  card.hidden = false;
}

/**
 * @param {string} user
 * @param {string[]} users
 */
function showWhoElse(user, users) {
  const nav = /** @type {HTMLElement} */ (document.querySelector(".users"));
  nav.append(
    el("span", {}, "Signed in as"),
    ...users.map((one) => el("a", { href: link({ user: one }), "aria-current": one == user ? "page" : null }, one)),
  );
  const windows = /** @type {HTMLElement} */ (document.querySelector(".windows"));
  const other = users[(users.indexOf(user) + 1) % users.length];
  const open = (/** @type {string} */ text, /** @type {Record<string, string>} */ parameters) =>
    el("a", { class: "button", href: link(parameters), target: "_blank", rel: "noopener" }, icon("window"), text, el("span", { class: "unseen" }, " (opens a window)"));
  windows.append(open("Add a tablet", { user, device: "tablet" }), open(`Window of ${other}`, { user: other }));
  nav.hidden = windows.hidden = false;
}

async function main() {
  const user = query.get("user");
  const names = query.getAll("device").filter((name) => /^[a-z]{1,16}$/.test(name));
  const transports = query.getAll("transport").filter((one) => TRANSPORTS.includes(one));
  const users = await fetchUsers();
  if (!user || !users.includes(user)) return askWho(users);

  document.title = `${user} · prefsync demo`;
  showWhoElse(user, users);
  const log = createLog(byId("log"));
  byId("log").hidden = false;
  const shown = names.length ? [...new Set(names)] : ["laptop", "phone"];
  const devices = shown.map((name, index) =>
    createDevice({
      name,
      user,
      log,
      transports: transports.length ? /** @type {any} */ (transports) : undefined,
      // The page around them looks as the first of them does.
      onValues: index ? undefined : ({ appearance } = /** @type {any} */ ({})) => {
        document.documentElement.dataset.theme = appearance?.theme ?? "system";
        applyAccent(document.documentElement, appearance?.accent);
      },
    }),
  );
  byId("devices").append(...devices.map((device) => device.element));
  if (devices.length == 1) {
    const heading = /** @type {HTMLElement} */ (document.querySelector("h1"));
    heading.textContent = `One more device of ${user}’s`;
    byId("lead").textContent = "What changes here shows in the other windows, and the other way round.";
  }
  devices.forEach((device) => void device.start());
}

main().catch(() => {
  byId("lead").textContent = "The server does not answer. Reload the page when it is back.";
});
