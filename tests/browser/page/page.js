// A host's page, with nothing on it but a client that notes what it is told.

import { connect } from "/preferences/client.js";

/** Ask whoever issues tokens, as a host's own callback does; without a network that fails. */
async function fetchToken(user) {
  const answer = await fetch(`/token?user=${user}&life=${window.life}`);
  if (!answer.ok) throw new Error(`no token: ${answer.status}`);
  const token = await answer.text();
  window.expiries.push(JSON.parse(atob(token.split(".")[1])).exp * 1_000);
  return token;
}

window.life = 600;
window.expiries = [];
window.told = [];

window.start = async ({ user, ...options }) => {
  const prefs = await connect({ url: "/preferences", user, token: () => fetchToken(user), ...options });
  window.prefs = prefs;
  for (const event of ["change", "status", "error"]) {
    prefs.on(event, (news) => window.told.push({ event, at: Date.now(), ...news, message: news.message }));
  }
};

/** Make an edit; what becomes of it is noted. */
window.set = (namespace, fields) => {
  prefs.set(namespace, fields).then(
    (revision) => window.told.push({ event: "acknowledged", at: Date.now(), revision }),
    ({ code, errors }) => window.told.push({ event: "refused", at: Date.now(), code, errors }),
  );
  return Date.now();
};

/** Keep the page itself, so that it can be loaded without a network. */
window.keep = async () => {
  await navigator.serviceWorker.register("worker.js");
  await navigator.serviceWorker.ready;
};

window.isReady = true;
