// Tokens that run out, servers that ask for patience or talk rubbish, clocks that are wrong.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { test } from "node:test";
import { WebSocketServer } from "ws";
import { Clock, Proxy, Storage, WebSocket, ask, clients, connect, mint, newcomer, next, until } from "./support.js";

const problem = (status, name, headers = {}) => (answer, incoming) => {
  incoming.resume();
  answer.writeHead(status, { "Content-Type": "application/problem+json", ...headers });
  answer.end(JSON.stringify({ type: `urn:prefsync:problem:${name}`, title: name, status, detail: `that is ${name}` }));
};

for (const transport of ["websocket", "sse", "poll"]) {
  const only = { transports: [transport] };

  test(`${transport}: a token that is refused is renewed once, and then it goes on`, async (t) => {
    const user = newcomer();
    let calls = 0;
    const token = () => (calls++ ? mint(user) : mint(user, { life: -3600 }));
    const prefs = await clients(t, user, only)({ token });
    assert.equal(prefs.status, "online");
    assert.equal(calls, 2);
    assert.deepEqual(prefs.errors, []);
  });

  test(`${transport}: where the fresh token is refused too, connecting fails, and says why`, async (t) => {
    const user = newcomer();
    let calls = 0;
    const token = () => (calls++, mint(user, { life: -3600 }));
    await assert.rejects(clients(t, user, only)({ token }), { status: 401 });
    assert.equal(calls, 2);
  });

  test(`${transport}: with a stored copy it reports a refused token, and tries again slowly`, async (t) => {
    const storage = new Storage();
    const client = clients(t, undefined, { ...only, storage });
    (await client()).close();
    const clock = new Clock();
    let calls = 0;
    let life = -3600;
    const prefs = await client({ clock, token: () => (calls++, mint(client.user, { life })) });
    assert.equal(prefs.status, "offline");
    assert.deepEqual(prefs.errors.map(({ status }) => status), [401]);
    assert.equal(calls, 2);
    life = 600;
    clock.skip(31_000);
    await until(() => prefs.status == "online");
    assert.equal(calls, 3);
  });

  test(`${transport}: the token is renewed before it runs out, and nothing is interrupted`, async (t) => {
    const user = newcomer();
    const clock = new Clock();
    let calls = 0;
    const prefs = await clients(t, user, only)({ clock, token: () => (calls++, mint(user, { life: 30 })) });
    const statuses = [];
    prefs.on("status", ({ status }) => statuses.push(status));
    clock.skip(20_000);
    assert.equal(calls, 1);
    clock.skip(5_000);
    await until(() => calls == 2);
    await prefs.set("appearance", { theme: "dark" });
    clock.skip(25_000);
    await until(() => calls == 3);
    await prefs.set("appearance", { theme: "light" });
    assert.ok(statuses.every((status) => status == "online"), String(statuses));
    assert.deepEqual(prefs.errors, []);
  });
}

test("a session whose token ran out on the server goes on with a fresh one", async (t) => {
  const user = newcomer();
  for (const transport of ["websocket", "sse"]) {
    let calls = 0;
    // Without iat, and with a callback that hands out what has two seconds left, it cannot be renewed in time.
    const token = () => mint(user, { life: calls++ ? 600 : 2, iat: undefined });
    const prefs = await clients(t, user)({ token, transports: [transport] });
    await until(() => calls == 2 && prefs.status == "online");
    await prefs.set("appearance", { theme: "dark" });
    assert.deepEqual(prefs.errors, []);
  }
});

test("a renewed token of another user's ends it: nothing of the one is sent as the other", async (t) => {
  const [alice, bob] = [newcomer(), newcomer()];
  const storage = new Storage();
  const clock = new Clock();
  let user = alice;
  const prefs = await clients(t, alice, { storage, clock })({ token: () => mint(user, { life: 30 }) });
  user = bob;
  clock.skip(25_000);
  await until(() => prefs.status == "closed");
  assert.deepEqual(prefs.errors.map(({ code }) => code), ["another-user"]);
  await assert.rejects(prefs.set("appearance", { theme: "dark" }), { code: "closed" });
  assert.equal((await ask(bob)).revision, 0);
  await until(() => !clock.waits.length, "nothing goes on");
});

test("a token callback that fails is reported where there is nothing to show", async (t) => {
  const token = () => Promise.reject(new Error("signed out"));
  await assert.rejects(clients(t)({ token }), { code: "token", message: /signed out/ });
  for (const wrong of ["", "two words", "line\nbreak", 7, null]) {
    await assert.rejects(clients(t)({ token: () => wrong }), { code: "token" });
  }
});

test("a token callback that fails while there is a copy is reported once, until things work again", async (t) => {
  const storage = new Storage();
  const client = clients(t, undefined, { storage });
  (await client()).close();
  const clock = new Clock();
  let calls = 0;
  let isBroken = true;
  const token = () => {
    calls++;
    if (isBroken) throw new Error("no session");
    return mint(client.user);
  };
  const prefs = await client({ clock, token, user: JSON.stringify([null, client.user, null, null, null, null]) });
  await until(() => prefs.errors.length);
  for (let more = 0; more < 3; more++) {
    const before = calls;
    await until(() => (clock.skip(31_000), calls > before)); // it may not have begun to wait yet
  }
  assert.deepEqual(prefs.errors.map(({ code }) => code), ["token"]);
  isBroken = false;
  await until(() => (clock.skip(31_000), prefs.status == "online"));
  const late = [];
  prefs.on("error", (error) => late.push(error));
  assert.deepEqual(late, []);
});

test("options that are undefined are as good as left out", async (t) => {
  const nothing = { transports: undefined, timeout: undefined, client: undefined, clock: undefined, locks: undefined };
  const prefs = await clients(t)(nothing);
  assert.equal(prefs.status, "online");
});

test("a token without a scope: reading is refused at once, a write is rolled back", async (t) => {
  const user = newcomer();
  await assert.rejects(clients(t, user)({ token: mint(user, { scope: "preferences:write" }) }), { status: 403 });
  const reader = await clients(t, user)({ token: mint(user, { scope: "preferences:read" }) });
  await assert.rejects(reader.set("appearance", { theme: "dark" }), { code: "insufficient-scope", status: 403 });
  assert.equal(reader.get("appearance").theme, "system");
});

const isAfterMost = (wait) => wait > 47_000 && wait <= 48_000;

for (const [hours, what] of [[-30, "slow"], [30, "fast"]]) {
  test(`a clock that is ${what} by ${Math.abs(hours)} hours: tokens are renewed in time, and not in a loop`, async (t) => {
    const user = newcomer();
    const clock = new Clock(hours * 3_600_000);
    let calls = 0;
    const prefs = await clients(t, user)({ clock, token: () => (calls++, mint(user, { life: 60 })) });
    await prefs.set("appearance", { theme: "dark" });
    assert.ok(clock.waits.some(isAfterMost));
    clock.skip(40_000);
    assert.equal(calls, 1);
    clock.skip(9_000);
    await until(() => calls == 2);
    await until(() => clock.waits.some(isAfterMost));
    assert.deepEqual(prefs.errors, []);
  });
}

test("a clock that is fast by nearly a token's life cannot make it loop", async (t) => {
  const user = newcomer();
  const clock = new Clock(55_000);
  let calls = 0;
  await clients(t, user)({ clock, token: () => (calls++, mint(user, { life: 60 })) });
  clock.skip(14_000);
  assert.equal(calls, 1, "not within the first quarter of its life");
  clock.skip(2_000);
  await until(() => calls == 2);
});

test("429 and 503: it waits as it is told, whatever happens meanwhile", async (t) => {
  for (const [status, name] of [[429, "rate-limited"], [503, "unavailable"]]) {
    const proxy = await new Proxy().start(t);
    const clock = new Clock();
    const storage = new Storage();
    const client = clients(t, undefined, { url: proxy.url, storage });
    (await client()).close();
    proxy.rule = (line) => (line.startsWith("GET /ws") ? "cut" : problem(status, name, { "Retry-After": "40" }));
    proxy.requests = [];
    const prefs = await client({ clock });
    assert.equal(prefs.status, "offline");
    assert.deepEqual(prefs.errors, [], "that is no error of anybody's");
    assert.deepEqual([proxy.seen(/events/).length, proxy.seen(/changes/).length], [1, 0], "no other way is tried");
    assert.ok(clock.waits.some((wait) => wait >= 40_000 && wait <= 41_000));
    clock.skip(39_000);
    globalThis.dispatchEvent?.(new Event("online"));
    assert.equal(proxy.seen(/events/).length, 1);
    proxy.heal();
    clock.skip(3_000);
    await until(() => prefs.status == "online");
  }
});

test("a proxy whose server is away is waited for quietly", async (t) => {
  const proxy = await new Proxy().start(t);
  proxy.rule = (line) => (answer) => answer.writeHead(502, { "Content-Type": "text/html" }).end(`<h1>${line}</h1>`);
  const clock = new Clock();
  const coming = clients(t, undefined, { url: proxy.url, clock })();
  await until(() => proxy.seen(/changes|GET .$/).length);
  proxy.heal();
  await until(() => (clock.skip(1_000), proxy.seen(/ws/).length > 1));
  const prefs = await coming;
  assert.equal(prefs.status, "online");
  assert.deepEqual(prefs.errors, []);
});

test("429 on a write: it waits, shows the edit all the while, and sends it again under its id", async (t) => {
  for (const transport of ["websocket", "sse"]) {
    const proxy = await new Proxy().start(t);
    const clock = new Clock();
    const user = newcomer();
    const prefs = await clients(t, user, { url: proxy.url, transports: [transport] })({ clock });
    if (transport == "sse") {
      proxy.rule = (line) => line.startsWith("PATCH") && problem(429, "rate-limited", { "Retry-After": "17" });
    } else {
      // The real limit: a hundred requests of this user's within the minute.
      for (let full = false; !full; ) full = await ask(user).then(() => false, () => true);
    }
    const done = prefs.set("appearance", { theme: "dark" });
    const [least, most] = transport == "sse" ? [16_000, 17_000] : [1_001, 60_000];
    await until(() => clock.waits.some((wait) => wait >= least && wait <= most && ![8_000, 20_000, 30_000].includes(wait)));
    assert.deepEqual([prefs.status, prefs.pending, prefs.get("appearance").theme], ["online", 1, "dark"]);
    assert.deepEqual(prefs.errors, []);
    if (transport == "sse") {
      proxy.heal();
      clock.skip(18_000);
      await done;
      const ids = proxy.seen(/^PATCH/).map(({ headers }) => headers["idempotency-key"]);
      assert.equal(ids.length, 2);
      assert.equal(ids[0], ids[1]);
    }
  }
});

test("a write that is too large for one frame is refused, and what comes after it is not held up", async (t) => {
  for (const transport of ["websocket", "sse"]) {
    const prefs = await clients(t, undefined, { transports: [transport] })();
    const large = prefs.set("plugins", { large: Array.from({ length: 40 }, () => "x".repeat(16_000)) });
    const small = prefs.set("plugins", { small: 1 });
    await assert.rejects(large, { status: 413 });
    await small;
    assert.deepEqual(Object.keys(prefs.get("plugins")), ["small"]);
  }
});

const RUBBISH = {
  "an HTML page": (answer) => answer.writeHead(200, { "Content-Type": "text/html" }).end("<!doctype html><title>Sign in</title>"),
  "no JSON": (answer) => answer.writeHead(200, { "Content-Type": "application/json" }).end("{"),
  "another shape": (answer) => answer.writeHead(200, { "Content-Type": "application/json" }).end('{"revision":"1","values":[]}'),
  "huge numbers": (answer) => answer.writeHead(200, { "Content-Type": "application/json" }).end('{"revision":1e300,"schema":"a","values":{}}'),
  null: (answer) => answer.writeHead(200, { "Content-Type": "application/json" }).end("null"),
  "an error page": (answer) => answer.writeHead(404, { "Content-Type": "text/html" }).end("<h1>Not Found</h1>"),
  "a broken problem": (answer) => answer.writeHead(400, { "Content-Type": "application/problem+json" }).end('{"type":5,"errors":"x"}'),
  "a wild stream": (answer) => answer.writeHead(200, { "Content-Type": "text/event-stream" }).end('event: change\ndata: {"revision":-1}\n\n'),
};

for (const [what, answer] of Object.entries(RUBBISH)) {
  test(`a server that answers ${what}: connecting fails and says so; with a copy it goes on, and backs off`, async (t) => {
    const requests = [];
    const server = createServer((incoming, response) => {
      requests.push(incoming.url);
      incoming.resume();
      answer(response);
    });
    const sockets = new WebSocketServer({ server, handleProtocols: () => "prefsync.v1" });
    const said = ["nonsense", "[]", "null", '{"type":"reset","revision":1}', '{"type":"welcome","schema":"a","changes":[7]}'];
    sockets.on("connection", (socket) => socket.send(said[requests.length % said.length]));
    server.on("upgrade", () => requests.push("upgrade"));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    t.after(() => (sockets.clients.forEach((socket) => socket.terminate()), server.closeAllConnections(), server.close()));
    const url = `http://127.0.0.1:${server.address().port}/preferences`;
    const fallen = clients(t, undefined, { url, transports: ["sse", "poll"] });
    await assert.rejects(fallen(), (error) => error.name == "PreferencesError" && error.code != "network");

    const user = newcomer();
    const storage = new Storage();
    (await clients(t, user, { storage })({ user: "me" })).close();
    const [key] = storage.keys();
    storage.setItem(key.replace(process.env.PREFSYNC_TEST_URL, url), storage.getItem(key));
    const clock = new Clock();
    const prefs = await clients(t, user, { url, storage, clock })({ user: "me" });
    const edit = prefs.set("appearance", { theme: "dark" });
    edit.catch(() => {});
    await until(() => prefs.status == "offline" && prefs.errors.length);
    assert.equal(prefs.get("appearance").theme, "dark");
    requests.length = 0;
    for (let round = 0; round < 20; round++) {
      clock.skip(500);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    assert.ok(requests.length <= 36, `${requests.length} requests in ten seconds`);
    assert.equal(prefs.pending, 1, "no rubbish acknowledges a write");
  });
}

test("names of prototypes are names like any other, and nothing reaches a prototype", async (t) => {
  const evil = JSON.parse('{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}},"ok":{"__proto__":{"polluted":1},"toString":7}}');
  const page = { revision: 5, schema: "a", values: evil };
  const server = createServer((incoming, response) => {
    incoming.resume();
    const isFirst = incoming.url == "/preferences/";
    const change = `{"revision":6,"previous":5,"origin":null,"changed":{"__proto__":{"x":1},"ok":{"constructor":2}},"removed":{"ok":["__proto__"]}}`;
    response.writeHead(200, { "Content-Type": "application/json" });
    response.end(isFirst ? JSON.stringify(page) : `{"revision":6,"schema":"a","reset":false,"has_more":false,"changes":[${change}]}`);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => (server.closeAllConnections(), server.close()));
  const prefs = await clients(t, undefined, { url: `http://127.0.0.1:${server.address().port}/preferences`, transports: ["poll"] })();
  await until(() => prefs.revision == 6);
  assert.equal({}.polluted, undefined);
  assert.equal({}.x, undefined);
  assert.equal(prefs.get("toString"), undefined, "what nobody sent is not there");
  assert.deepEqual(Object.keys(prefs.get()), ["__proto__", "constructor", "ok"]);
  assert.deepEqual(Object.getOwnPropertyDescriptor(prefs.get(), "__proto__").value.polluted, 1);
  assert.deepEqual(Object.keys(prefs.get("ok")), ["toString", "constructor"]);
  prefs.set("__proto__", { seen: true }).catch(() => {});
  assert.equal(prefs.get("__proto__").seen, true);
  assert.equal({}.seen, undefined);
});

test("what is given out is frozen, and what is passed in stays the host's", async (t) => {
  const prefs = await clients(t)();
  const mine = { vim: { keys: [1] } };
  const done = prefs.set("plugins", mine);
  mine.vim.keys.push(2);
  assert.deepEqual(prefs.get("plugins").vim.keys, [1]);
  assert.throws(() => prefs.get("plugins").vim.keys.push(3), TypeError);
  assert.throws(() => Object.assign(prefs.get(), { a: 1 }), TypeError);
  await done;
  const { plugins } = prefs.get();
  await prefs.set("appearance", { theme: "dark" });
  assert.equal(prefs.get("plugins"), plugins, "the same object while nothing in it changes");
  const all = prefs.get();
  await prefs.set("appearance", { theme: "dark" });
  assert.equal(prefs.get(), all);
  await assert.rejects(prefs.set("plugins", { a: NaN }), TypeError);
  await assert.rejects(prefs.set("plugins", { a: 1n }), TypeError);
});

test("a listener that throws harms nobody else, and one that is taken off is not called", async (t) => {
  const prefs = await clients(t)();
  const logged = t.mock.method(console, "error", () => {});
  let calls = 0;
  prefs.on("change", () => {
    throw new Error("a listener's fault");
  });
  const off = prefs.on("change", () => calls++);
  await prefs.set("appearance", { theme: "dark" });
  assert.equal(calls, 1);
  assert.equal(logged.mock.callCount(), 1);
  off();
  await prefs.set("appearance", { theme: "light" });
  assert.equal(calls, 1);
});

test("a refusal that nobody awaits is told as an event, and ends no process", async (t) => {
  const prefs = await clients(t)();
  prefs.set("appearance", { theme: "pink" });
  const error = await next(prefs, "error");
  assert.equal(error.code, "invalid-preferences");
});

test("wrong options are named", async (t) => {
  for (const [option, value] of [
    ["url", "/relative"],
    ["url", "ftp://127.0.0.1/"],
    ["url", undefined],
    ["client", "two words"],
    ["transports", []],
    ["transports", ["carrier-pigeon"]],
  ]) {
    await assert.rejects(connect({ url: "http://127.0.0.1:9/", WebSocket, [option]: value }), { code: "bad-option", message: option });
  }
});

test("nothing answers: connecting fails within its time, and leaves nothing behind", async (t) => {
  const clock = new Clock();
  const coming = clients(t)({ url: "http://127.0.0.1:9/preferences", clock, timeout: 300 });
  await assert.rejects(coming, { code: "network" });
  assert.deepEqual(clock.waits, []);
});
