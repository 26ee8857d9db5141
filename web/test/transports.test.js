// Each transport alone, falling back, and climbing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Clock, Proxy, ask, clients, next, until } from "./support.js";

const BETTER = { websocket: [], sse: ["ws"], poll: ["ws", "events"] };

for (const [transport, blocked] of Object.entries(BETTER)) {
  const block = (line) => blocked.some((path) => line.startsWith(`GET /${path}`)) && "cut";

  test(`${transport}: changes go both ways, with the better ones blocked`, async (t) => {
    const proxy = await new Proxy().start(t);
    proxy.rule = block;
    const client = clients(t, undefined, { url: proxy.url });
    const [one, other] = [await client({ client: "one" }), await client({ client: "other" })];
    assert.equal(one.transport, transport);
    assert.equal(one.status, "online");
    assert.equal(one.get("appearance").theme, "system");

    const heard = next(other, "change");
    const written = one.set("appearance", { theme: "dark" });
    assert.equal(one.get("appearance").theme, "dark", "it shows at once");
    assert.equal(one.pending, 1);
    const revision = await written;
    const { changed, namespaces, source, origin, removed } = await heard;
    assert.deepEqual(
      { changed, namespaces, source, origin, removed },
      {
        changed: { appearance: { theme: "dark" } },
        namespaces: ["appearance"],
        source: "remote",
        origin: "one",
        removed: {},
      },
    );
    assert.equal(other.revision, revision);
    assert.equal(one.pending, 0);
    assert.ok(one.latency >= 0);
    assert.equal((await ask(client.user)).values.appearance.theme, "dark");

    await other.set("plugins", { vim: { mode: "insert", keys: [1] } });
    await other.set("plugins", { vim: { mode: null } });
    await until(() => one.get("plugins").vim?.keys && !("mode" in one.get("plugins").vim));
    await one.reset("plugins", "vim");
    await until(() => !("vim" in other.get("plugins")));
    await other.reset("appearance");
    await until(() => one.get("appearance").theme == "system");
    assert.deepEqual([...one.errors, ...other.errors], []);
  });

  test(`${transport}: what is refused is rolled back, with the server's problem`, async (t) => {
    const proxy = await new Proxy().start(t);
    proxy.rule = block;
    const prefs = await clients(t, undefined, { url: proxy.url })();
    const sources = [];
    prefs.on("change", ({ source, changed }) => sources.push([source, changed.appearance.font_size]));
    const refused = prefs.set("appearance", { font_size: 7, theme: "dark" });
    assert.equal(prefs.get("appearance").font_size, 7);
    await assert.rejects(refused, { code: "invalid-preferences", status: 422 });
    assert.equal(prefs.get("appearance").font_size, 14);
    assert.equal(prefs.get("appearance").theme, "system", "all of it or nothing");
    assert.deepEqual(sources, [["local", 7], ["rollback", 14]]);
    const [error] = prefs.errors;
    assert.deepEqual(error.errors.map(({ pointer }) => pointer), ["/appearance/font_size"]);
    assert.deepEqual(error.patch, { appearance: { font_size: 7, theme: "dark" } });
    assert.equal(prefs.pending, 0);
    assert.equal(await prefs.set("appearance", { font_size: 20 }), prefs.revision, "the next one goes through");
  });

  test(`${transport}: after a cut it resumes where it was, and misses nothing`, async (t) => {
    const proxy = await new Proxy().start(t);
    proxy.rule = block;
    const client = clients(t, undefined, { url: proxy.url });
    const prefs = await client();
    const before = await prefs.set("appearance", { theme: "light" });
    await until(() => prefs.revision == before);
    proxy.requests = [];
    const changes = [];
    prefs.on("change", ({ changed }) => changes.push(changed));
    proxy.cut({ stay: true });
    await ask(client.user, "PATCH", "/appearance", { theme: "dark" });
    await ask(client.user, "PATCH", "/editor", { tab_size: 2 });
    proxy.rule = block;
    await until(() => prefs.status == "online" && prefs.get("editor").tab_size == 2);
    assert.equal(prefs.get("appearance").theme, "dark");
    assert.ok(changes.length <= 2, "each change once");
    if (transport != "websocket") assert.ok(proxy.seen(new RegExp(`since=${before}&`)).length, "by its revision");
  });

  test(`${transport}: a reset replaces everything`, async (t) => {
    const proxy = await new Proxy().start(t);
    proxy.rule = block;
    const client = clients(t, undefined, { url: proxy.url });
    const storage = new Map();
    const keep = {
      getItem: (key) => storage.get(key) ?? null,
      setItem: (key, value) => storage.set(key, value),
      removeItem: (key) => storage.delete(key),
      keys: () => storage.keys(),
    };
    const first = await client({ storage: keep });
    await first.set("appearance", { theme: "dark" });
    await until(() => first.revision > 0);
    first.close();
    // As after a restored backup: this client has seen a revision that the server never had.
    const [key] = [...storage.keys()].filter((name) => name.endsWith(" state"));
    const state = JSON.parse(storage.get(key));
    storage.set(key, JSON.stringify({ ...state, revision: state.revision + 1e9, values: { gone: { a: 1 } } }));
    const second = await client({ storage: keep });
    await until(() => second.status == "online" && second.get("appearance")?.theme == "dark");
    assert.equal(second.get("gone"), undefined);
    assert.equal(second.revision, state.revision);
  });
}

test("a transport that hangs is given up after seconds, and the next one used", async (t) => {
  const proxy = await new Proxy().start(t);
  proxy.rule = (line) => /^GET .(ws|events)/.test(line) && "hang";
  const clock = new Clock();
  const coming = clients(t, undefined, { url: proxy.url, clock })();
  await until(() => proxy.seen(/^GET .ws/).length);
  clock.skip(9_000);
  await until(() => proxy.seen(/^GET .events/).length);
  clock.skip(9_000);
  const prefs = await coming;
  assert.equal(prefs.transport, "poll");
});

test("it climbs back when a better transport works again, and loses nothing on the way", async (t) => {
  const proxy = await new Proxy().start(t);
  let blocked = /^GET .(ws|events)/;
  proxy.rule = (line) => blocked.test(line) && "cut";
  const clock = new Clock();
  const client = clients(t, undefined, { url: proxy.url });
  const prefs = await client({ clock });
  const other = await client();
  assert.equal(prefs.transport, "poll");
  const statuses = [];
  prefs.on("status", ({ status, transport }) => statuses.push(`${status} ${transport}`));
  blocked = /^GET .ws/;
  clock.skip(16_000);
  await until(() => prefs.transport == "sse");
  blocked = /^never/;
  const writing = other.set("editor", { tab_size: 8 });
  clock.skip(16_000);
  await until(() => prefs.transport == "websocket");
  await writing;
  await until(() => prefs.get("editor").tab_size == 8);
  assert.deepEqual([...new Set(statuses)].filter((one) => !one.startsWith("online")), [], "it was online all the time");
});

test("silence is noticed: a connection that shows no life for long is dead", async (t) => {
  const proxy = await new Proxy().start(t);
  const clock = new Clock();
  const prefs = await clients(t, undefined, { url: proxy.url, clock, transports: ["websocket"] })();
  proxy.requests = [];
  clock.skip(66_000);
  await until(() => proxy.seen(/^GET .ws/).length && prefs.status == "online");
});
