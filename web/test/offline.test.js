// Edits that wait, pages that are loaded again, tabs that share.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Clock, Locks, Proxy, Storage, WebSocket, ask, clients, connect, mint, newcomer, next, until } from "./support.js";

const LATE = { timeout: 300 };

/** As in browsers, what was posted before the end is still delivered; Node drops it. */
class Channel extends BroadcastChannel {
  close() {
    setTimeout(() => super.close(), 20);
  }
}

/** Client options of tabs of one browser: one storage, one set of locks. */
const browser = (more) => ({ storage: new Storage(), locks: new Locks(), BroadcastChannel: Channel, ...more });

test("edits made offline outlive the page, and are sent once when the server is back", async (t) => {
  const proxy = await new Proxy().start(t);
  const storage = new Storage();
  const client = clients(t, undefined, { url: proxy.url, storage });
  const before = await client();
  const known = await before.set("appearance", { accent: "#000000" });
  proxy.cut({ stay: true });
  await until(() => before.status != "online");
  const waiting = before.set("appearance", { theme: "dark" });
  before.set("editor", { tab_size: 3 });
  assert.equal(before.pending, 2);
  await until(() => before.status == "offline");
  before.close();
  await assert.rejects(waiting, { code: "closed" });
  assert.equal(storage.edits.length, 2);

  const after = await client();
  assert.equal(after.status, "offline");
  assert.equal(after.get("appearance").theme, "dark", "the edit shows");
  assert.equal(after.get("appearance").accent, "#000000", "over the last state");
  assert.equal(after.pending, 2);
  await ask(client.user, "PATCH", "", { appearance: { density: "compact" }, editor: { word_wrap: true } });
  proxy.heal();
  await until(() => after.pending == 0 && after.status == "online");
  const { values } = await ask(client.user);
  assert.deepEqual([values.appearance.theme, values.editor.tab_size], ["dark", 3]);
  assert.deepEqual([values.appearance.density, values.editor.word_wrap], ["compact", true], "others' fields are kept");
  await until(() => after.get("appearance").density == "compact");
  assert.equal(storage.edits.length, 0);
  const { changes } = await ask(client.user, "GET", `/changes?since=${known}`);
  assert.equal(changes.length, 3, "another's, and two of these");
});

test("after days offline, fields that others changed and this client did not stay as they are", async (t) => {
  const proxy = await new Proxy().start(t);
  const clock = new Clock();
  const client = clients(t, undefined, { url: proxy.url, clock, storage: new Storage(), token: () => mint(user, { life: 864000 }) });
  const { user } = client;
  const prefs = await client();
  await prefs.set("plugins", { vim: { mode: "insert", keys: [1, 2] } });
  proxy.cut({ stay: true });
  await until(() => prefs.status == "offline");
  prefs.set("plugins", { vim: { mode: "normal" } });
  prefs.set("appearance", { theme: "dark" });
  clock.skip(3 * 86_400_000);
  await ask(user, "PATCH", "", { plugins: { vim: { keys: [3] }, spell: true }, appearance: { accent: "#123456" } });
  proxy.heal();
  clock.skip(60_000);
  await until(() => prefs.pending == 0 && prefs.status == "online");
  const { values } = await ask(user);
  assert.deepEqual(values.plugins, { vim: { mode: "normal", keys: [3] }, spell: true });
  assert.equal(values.appearance.theme, "dark");
  assert.equal(values.appearance.accent, "#123456");
});

test("an edit whose answer was lost is sent again under its id, and taken once", async (t) => {
  const proxy = await new Proxy().start(t);
  proxy.rule = (line) => line.startsWith("GET /ws") && "cut";
  const client = clients(t, undefined, { url: proxy.url });
  const prefs = await client();
  let cut = true;
  const ids = [];
  proxy.rule = (line, { headers }) => {
    if (line.startsWith("GET /ws")) return "cut";
    if (!line.startsWith("PATCH")) return undefined;
    ids.push(headers["idempotency-key"]);
    if (!cut) return undefined;
    cut = false;
    return async (answer, incoming) => {
      // It reaches the server, and the answer does not come back.
      const chunks = [];
      for await (const chunk of incoming) chunks.push(chunk);
      await fetch(process.env.PREFSYNC_TEST_URL, {
        method: "PATCH",
        body: Buffer.concat(chunks),
        headers: Object.fromEntries(["authorization", "content-type", "idempotency-key"].map((name) => [name, headers[name]])),
      });
      await ask(client.user, "PATCH", "/appearance", { theme: "light" });
      answer.destroy();
    };
  };
  await prefs.set("appearance", { theme: "dark" });
  assert.equal(ids.length, 2);
  assert.equal(ids[0], ids[1]);
  assert.equal((await ask(client.user)).values.appearance.theme, "light", "it was not made a second time");
  await until(() => prefs.get("appearance").theme == "light");
});

test("a slider that is dragged leaves one edit, and all who wait for it are told", async (t) => {
  const proxy = await new Proxy().start(t);
  const storage = new Storage();
  const prefs = await clients(t, undefined, { url: proxy.url, storage })();
  proxy.cut({ stay: true });
  await until(() => prefs.status != "online");
  const waits = [10, 11, 12, 13].map((font_size) => prefs.set("appearance", { font_size }));
  prefs.set("editor", { tab_size: 2 });
  assert.equal(prefs.pending, 2);
  assert.deepEqual(storage.edits.map(({ patch }) => patch), [
    { appearance: { font_size: 13 } },
    { editor: { tab_size: 2 } },
  ]);
  proxy.heal();
  const revisions = await Promise.all(waits);
  assert.equal(new Set(revisions).size, 1);
  assert.equal(prefs.get("appearance").font_size, 13);
});

test("a burst of edits goes out at once, and what follows is spread over time", async (t) => {
  const clock = new Clock();
  const prefs = await clients(t, undefined, { clock })();
  const waits = Array.from({ length: 24 }, (_, n) => prefs.set("plugins", { [`key-${n}`]: n }));
  await waits[20];
  await until(() => clock.waits.some((wait) => wait > 100 && wait <= 1_000));
  assert.equal(prefs.pending, 3);
  clock.skip(3_000);
  await Promise.all(waits);
});

test("one user's edits are never sent as another's, nor are their values seen", async (t) => {
  const proxy = await new Proxy().start(t);
  const storage = new Storage();
  const alice = clients(t, undefined, { url: proxy.url, storage });
  const bob = clients(t, undefined, { url: proxy.url, storage });
  const hers = await alice();
  await hers.set("appearance", { accent: "#aaaaaa" });
  proxy.cut({ stay: true });
  await until(() => hers.status == "offline");
  hers.set("appearance", { theme: "dark" });
  hers.close();
  await assert.rejects(bob(LATE), { code: "network" }, "there is no copy of his");
  proxy.heal();
  const his = await bob();
  assert.equal(his.get("appearance").accent, "#3366ff");
  assert.equal(his.pending, 0);
  await his.set("editor", { tab_size: 2 });
  assert.equal((await ask(bob.user)).values.appearance.theme, "system");
  assert.equal(storage.edits.length, 1, "hers waits for her");
  const again = await alice();
  await until(() => again.pending == 0);
  assert.equal((await ask(alice.user)).values.appearance.theme, "dark");
});

test("tenants of one name are told apart as users are", async (t) => {
  const storage = new Storage();
  const user = newcomer();
  for (const tenant of ["a", "b"]) {
    const prefs = await clients(t, user, { storage })({ token: () => mint(user, { tenant }) });
    prefs.close();
  }
  assert.equal(new Set([...storage.items.keys()].filter((key) => key.endsWith(" state"))).size, 2);
});

test("two tabs share one queue and one connection", async (t) => {
  const proxy = await new Proxy().start(t);
  const shared = browser({ url: proxy.url });
  const client = clients(t, undefined, shared);
  const one = await client({ client: "one" });
  const other = await client({ client: "other" });
  assert.equal(proxy.seen(/^GET .ws/).length, 1);
  assert.deepEqual([other.status, other.transport], ["online", "websocket"]);
  assert.deepEqual(other.get(), one.get());

  const heard = next(one, "change");
  const revision = await other.set("appearance", { theme: "dark" });
  assert.equal((await heard).changed.appearance.theme, "dark");
  await until(() => one.revision == revision && other.revision == revision);
  await assert.rejects(other.set("appearance", { theme: "pink" }), { code: "invalid-preferences" });
  assert.deepEqual(other.errors.map(({ errors }) => errors[0].pointer), ["/appearance/theme"]);
  assert.deepEqual(one.errors, [], "it is told where the edit was made");
  assert.equal(one.get("appearance").theme, "dark");
  await until(() => one.pending == 0 && other.pending == 0);

  await ask(client.user, "PATCH", "/editor", { tab_size: 2 });
  await until(() => one.get("editor").tab_size == 2 && other.get("editor").tab_size == 2);
  assert.equal(proxy.seen(/^GET .ws/).length, 1);

  proxy.cut({ stay: true });
  await until(() => one.status == "offline" && other.status == "offline");
  other.set("editor", { tab_size: 3 });
  one.set("editor", { word_wrap: true });
  await until(() => one.pending == 2 && other.pending == 2);
  assert.equal(one.get("editor").tab_size, 3, "what one tab edits shows in the other");
  proxy.heal();
  await until(() => one.pending == 0 && other.pending == 0);
  const { values } = await ask(client.user);
  assert.deepEqual([values.editor.tab_size, values.editor.word_wrap], [3, true]);
});

test("when the tab that holds the connection goes, the next takes over and goes on with the queue", async (t) => {
  const proxy = await new Proxy().start(t);
  const client = clients(t, undefined, browser({ url: proxy.url }));
  const [one, other, third] = [await client(), await client(), await client()];
  proxy.cut({ stay: true });
  await until(() => third.status == "offline");
  const mine = other.set("appearance", { theme: "dark" });
  one.set("editor", { tab_size: 3 });
  await until(() => [one, other, third].every(({ pending }) => pending == 2));
  const statuses = [];
  for (const tab of [other, third]) tab.on("status", ({ status }) => statuses.push(status));
  one.close();
  proxy.requests = [];
  proxy.heal();
  await mine;
  assert.ok(!statuses.includes("closed"), "one tab's end is not the other's");
  await until(() => other.pending == 0 && third.pending == 0 && third.status == "online");
  assert.equal(proxy.seen(/^GET .ws/).length, 1, "one of them connects");
  const { values } = await ask(client.user);
  assert.deepEqual([values.appearance.theme, values.editor.tab_size], ["dark", 3]);
  await until(() => third.get("appearance").theme == "dark");
});

test("a tab that comes later shows what waits, and the state, while offline", async (t) => {
  const proxy = await new Proxy().start(t);
  const client = clients(t, undefined, browser({ url: proxy.url }));
  const one = await client();
  proxy.cut({ stay: true });
  await until(() => one.status == "offline");
  one.set("appearance", { theme: "dark" });
  const other = await client();
  assert.equal(other.get("appearance").theme, "dark");
  assert.equal(other.pending, 1);
  assert.equal(other.status, "offline");
  assert.ok(other.revision == one.revision);
});

test("tabs that cannot share have a connection each, and their edits are still taken once", async (t) => {
  const proxy = await new Proxy().start(t);
  const client = clients(t, undefined, { url: proxy.url, storage: new Storage(), locks: null });
  const [one, other] = [await client(), await client()];
  assert.equal(proxy.seen(/^GET .ws/).length, 2);
  const before = (await ask(client.user, "PATCH", "", { editor: { tab_size: 1 } })).revision;
  await Promise.all([one.set("appearance", { theme: "dark" }), other.set("editor", { tab_size: 3 })]);
  const { changes } = await ask(client.user, "GET", `/changes?since=${before}`);
  assert.equal(changes.length, 2);
  await until(() => one.get("editor").tab_size == 3 && other.get("appearance").theme == "dark");
});

for (const [what, storage] of Object.entries({
  full: Object.assign(new Storage(), { setItem() { throw new DOMException("full", "QuotaExceededError"); } }),
  forbidden: { getItem: deny, setItem: deny, removeItem: deny, keys: deny },
  "forbidden, later": { getItem: later, setItem: later, removeItem: later, keys: later },
})) {
  test(`storage that is ${what}: it goes on in memory, and says so once`, async (t) => {
    const prefs = await clients(t, undefined, { storage })();
    await prefs.set("appearance", { theme: "dark" });
    await prefs.set("appearance", { theme: "light" });
    await until(() => prefs.errors.length);
    assert.deepEqual(prefs.errors.map(({ code }) => code), ["storage"]);
    assert.equal(prefs.get("appearance").theme, "light");
    assert.equal(prefs.status, "online");
  });
}

function deny() {
  throw new DOMException("denied", "SecurityError");
}

async function later() {
  deny();
}

test("what else is in the storage, and what somebody spoiled there, does no harm", async (t) => {
  const storage = new Storage();
  const client = clients(t, undefined, { storage });
  const first = await client();
  first.close();
  const [key] = storage.keys();
  const base = key.replace(/ state$/, "");
  for (const [name, value] of [
    ["theme", "dark"],
    [`${base} edit 1`, "{"],
    [`${base} edit 2`, '{"id":"another","patch":{"appearance":{"theme":"dark"}},"at":1}'],
    [`${base} edit 3`, '{"id":"3","patch":7,"at":1}'],
    [key, '{"revision":1e99,"schema":"x","values":{}}'],
  ]) storage.setItem(name, value);
  const second = await client();
  assert.equal(second.pending, 0);
  assert.equal(second.get("appearance").theme, "system");
  assert.equal(storage.getItem("theme"), "dark");
});

test("no user is known: nothing is stored, and that is said", async (t) => {
  const storage = new Storage();
  const user = newcomer();
  const token = mint(user);
  const opaque = (input, init) => fetch(input, { ...init, headers: { ...init.headers, Authorization: `Bearer ${token}` } });
  const client = clients(t, user, { storage, token: "opaque", fetch: opaque, transports: ["sse"] });
  const prefs = await client();
  await prefs.set("appearance", { theme: "dark" });
  assert.equal(storage.items.size, 0);
  assert.deepEqual(prefs.errors.map(({ code }) => code), ["storage"]);
  const named = await client({ user: "me" });
  await named.set("appearance", { theme: "light" });
  assert.ok(storage.items.size);
  assert.deepEqual(named.errors, []);
});

test("closing is final and can be done twice", async (t) => {
  const prefs = await clients(t)();
  const statuses = [];
  prefs.on("status", ({ status }) => statuses.push(status));
  prefs.close();
  prefs.close();
  assert.deepEqual(statuses, ["closed"]);
  assert.equal(prefs.status, "closed");
  await assert.rejects(prefs.set("appearance", { theme: "dark" }), { code: "closed" });
  assert.equal(prefs.get("appearance").theme, "system");
});

test("it needs no storage that is given synchronously, nor keys where the storage is an object", async (t) => {
  const items = {};
  const plain = Object.create({
    getItem: (key) => Promise.resolve(items[key] ?? null),
    setItem: async (key, value) => void (items[key] = value),
    removeItem: async (key) => void delete items[key],
    keys: async () => Object.keys(items),
  });
  const client = clients(t, undefined, { storage: plain });
  const first = await client();
  await first.set("appearance", { theme: "dark" });
  await until(() => first.revision > 0);
  first.close();
  await assert.rejects(connect({ url: "http://127.0.0.1:9/preferences", token: mint(client.user), WebSocket, storage: plain, timeout: 300 }));
});
