// What pages tell: that the network went and came, that they are looked at again. Node has no window; an EventTarget
// stands for it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Clock, Proxy, Storage, ask, clients, until } from "./support.js";

/** Make this process look like a page, for one test. */
function page(test) {
  const target = new EventTarget();
  const network = { onLine: true };
  const before = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  Object.defineProperty(globalThis, "navigator", { value: network, configurable: true });
  globalThis.addEventListener = target.addEventListener.bind(target);
  globalThis.document = { hidden: false };
  test.after(() => {
    delete globalThis.addEventListener;
    delete globalThis.document;
    if (before) Object.defineProperty(globalThis, "navigator", before);
    else delete globalThis.navigator;
  });
  return {
    tell: (type) => target.dispatchEvent(new Event(type)),
    go(onLine) {
      network.onLine = onLine;
      target.dispatchEvent(new Event(onLine ? "online" : "offline"));
    },
    look(visible) {
      globalThis.document.hidden = !visible;
      target.dispatchEvent(new Event("visibilitychange"));
    },
  };
}

test("when the network goes it is noticed at once, and when it comes back nothing is waited for", async (t) => {
  const { go } = page(t);
  const proxy = await new Proxy().start(t);
  const prefs = await clients(t, undefined, { url: proxy.url })();
  proxy.rule = () => "cut"; // what is open stays open, as with a lost network
  go(false);
  await until(() => prefs.status != "online");
  await until(() => prefs.status == "offline");
  const before = proxy.requests.length;
  proxy.heal();
  go(true);
  await until(() => proxy.requests.length > before && prefs.status == "online");
});

test("a page that is looked at again asks whether its connection lives", async (t) => {
  const { look } = page(t);
  for (const transport of ["websocket", "sse"]) {
    const proxy = await new Proxy().start(t);
    const clock = new Clock();
    const client = clients(t, undefined, { url: proxy.url, transports: [transport] });
    const prefs = await client({ clock });
    const opened = () => proxy.seen(/^GET .(ws|events)/).length;
    look(false);
    assert.equal(opened(), 1, "not while nobody looks");
    if (transport == "websocket") {
      look(true);
      await until(() => prefs.latency !== null, "the answer to a ping");
      assert.equal(opened(), 1);
    } else {
      look(true);
      await until(() => opened() == 2, "another stream beside it");
    }
    assert.equal(prefs.status, "online");
    await prefs.set("appearance", { theme: "dark" });
    prefs.close();
  }
});

test("a connection that does not answer when asked is given up within seconds", async (t) => {
  const { look } = page(t);
  const proxy = await new Proxy().start(t);
  const clock = new Clock();
  const prefs = await clients(t, undefined, { url: proxy.url, transports: ["websocket"] })({ clock });
  proxy.sockets.forEach((socket) => socket.pause()); // open, and nothing gets through
  look(true);
  clock.skip(9_000);
  await until(() => proxy.seen(/^GET .ws/).length == 2 && prefs.status == "online");
});

test("closed while it connects, it leaves nothing open", async (t) => {
  const proxy = await new Proxy().start(t);
  const clock = new Clock();
  const storage = new Storage();
  const client = clients(t, undefined, { url: proxy.url, storage });
  (await client()).close();
  proxy.rule = () => "hang";
  const coming = client({ clock, timeout: 5_000 });
  await until(() => proxy.seen(/^GET .ws/).length == 2);
  clock.skip(4_000); // the stored copy will do
  const prefs = await coming;
  assert.equal(prefs.status, "connecting");
  prefs.close();
  await until(() => proxy.sockets.size == 0, "no connection is left");
  assert.deepEqual(clock.waits, []);
  assert.equal((await ask(client.user)).revision, 0);
});

test("it has what client.d.ts declares, and no more", async (t) => {
  const prefs = await clients(t)();
  const declared = "close error get latency on pending reset revision set status transport";
  delete prefs.errors;
  assert.equal(Object.keys(prefs).sort().join(" "), declared);
});
