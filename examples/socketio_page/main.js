import { io } from "./node_modules/socket.io-client/dist/socket.io.esm.min.js";

const user = new URLSearchParams(location.search).get("user") ?? "alice";
const [button, status] = ["#switch", "#status"].map((id) => document.querySelector(id));
const values = {};
let revision, schema; // what we have: a connection that comes back is sent what it missed, and no more

const socket = io("/preferences", {
  path: "/preferences/socket.io/",
  transports: ["websocket"], // polling works, too, where a balancer sends a client to one process each time
  auth: async (done) => done({ token: await token(), since: revision, schema }),
});

async function token() {
  return (await fetch(`token/${encodeURIComponent(user)}`, { method: "POST" })).json();
}

function take(message) {
  for (const [namespace, fields] of Object.entries(message.values ?? message.changed ?? {})) {
    values[namespace] = { ...values[namespace], ...fields };
  }
  for (const [namespace, keys] of Object.entries(message.removed ?? {})) {
    for (const key of keys) delete values[namespace][key];
  }
  revision = message.revision;
  show();
}

function show() {
  document.documentElement.dataset.theme = values.appearance.theme;
  button.disabled = !socket.connected;
  status.textContent = `${user}: ${values.appearance.theme}, revision ${revision}`;
}

socket.on("reset", (message) => {
  for (const namespace of Object.keys(values)) delete values[namespace];
  schema = message.schema;
  take(message);
});
socket.on("welcome", (message) => {
  message.changes.forEach(take);
  show();
});
socket.on("change", take);
// The client does not come back by itself from a disconnect that the server asked for: a token that ran out, a restart.
socket.on("bye", () => setTimeout(() => socket.connect(), 1_000 * Math.random()));
socket.on("connect_error", (error) => (status.textContent = error.data?.detail ?? error.message));
socket.on("disconnect", show);

button.addEventListener("click", () => {
  const theme = values.appearance.theme == "dark" ? "light" : "dark";
  socket.emit("patch", { id: crypto.randomUUID(), patch: { appearance: { theme } } }, (answer) => {
    if (answer.type == "nack") status.textContent = answer.problem.detail;
  });
});
