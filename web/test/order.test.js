// The order of what comes, which a real server cannot be made to spoil: a server by hand says it.

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { WebSocketServer } from "ws";
import { clients, until } from "./support.js";

const RESET = { type: "reset", revision: 10, schema: "a", values: { n: { a: 10, b: 10 } } };

/** Serve one mount by hand; `say` reaches whoever connected last, `heard` is what came. */
async function byHand(test) {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1", handleProtocols: () => "prefsync.v1" });
  await once(server, "listening");
  test.after(() => (server.clients.forEach((socket) => socket.terminate()), server.close()));
  const heard = [];
  let socket;
  server.on("connection", (opened) => {
    socket = opened;
    opened.on("message", (data) => {
      const frame = JSON.parse(data);
      heard.push(frame);
      if (frame.type == "hello" && frame.since === undefined) opened.send(JSON.stringify(RESET));
    });
  });
  const say = (frame) => socket.send(JSON.stringify(frame));
  const change = (previous, revision, changed) =>
    say({ type: "change", revision, previous, at: "", origin: null, changed: { n: changed }, removed: {} });
  const url = `http://127.0.0.1:${server.address().port}/preferences`;
  const prefs = await clients(test, undefined, { url, transports: ["websocket"] })();
  return { prefs, heard, say, change };
}

test("no change is applied twice or backwards, a folded one is, and after a break it joins again", async (t) => {
  const { prefs, heard, say, change } = await byHand(t);
  change(10, 11, { a: 11 });
  change(10, 11, { a: "again" });
  change(8, 9, { a: "old" });
  change(9, 12, { b: 12 });
  await until(() => prefs.revision == 12);
  assert.deepEqual(prefs.get("n"), { a: 11, b: 12 });
  change(13, 14, { a: "after a break" });
  await until(() => heard.filter(({ type }) => type == "hello").length == 2);
  assert.deepEqual([heard.at(-1).since, heard.at(-1).schema], [12, "a"]);
  say({ type: "welcome", revision: 14, schema: "a", changes: [
    { revision: 14, previous: 12, at: "", origin: null, changed: { n: { a: 14 } }, removed: { n: ["b"] } },
  ] });
  await until(() => prefs.status == "online" && prefs.revision == 14);
  assert.deepEqual(prefs.get("n"), { a: 14 });
  say({ type: "heartbeat", revision: null });
  say({ type: "heartbeat", revision: 15 });
  await until(() => heard.filter(({ type }) => type == "hello").length == 3, "it missed what the heartbeat tells of");
});

test("an acknowledged edit shows until its change has come, and a reset may go back", async (t) => {
  const { prefs, heard, say, change } = await byHand(t);
  const seen = [];
  prefs.on("change", ({ changed, source }) => seen.push([source, changed.n.a]));
  const written = prefs.set("n", { a: 1 });
  const { id } = await until(() => heard.find(({ type }) => type == "patch"));
  say({ type: "ack", id: "another", revision: 7 });
  say({ type: "ack", id, revision: 12 });
  assert.equal(await written, 12);
  assert.deepEqual([prefs.get("n").a, prefs.pending], [1, 0]);
  change(10, 11, { a: "another's, before it" });
  await until(() => prefs.revision == 11);
  assert.equal(prefs.get("n").a, 1);
  change(11, 12, { a: 1 });
  await until(() => prefs.revision == 12);
  assert.deepEqual(seen, [["local", 1]], "it changed once, to whoever looks");
  const again = prefs.set("n", { a: 2 });
  const next = await until(() => heard.filter(({ type }) => type == "patch")[1]);
  say({ type: "ack", id: next.id, revision: 13 });
  await again;
  say({ ...RESET, revision: 5, values: { n: { a: 5, b: 5 } } });
  await until(() => prefs.revision == 5);
  assert.equal(prefs.get("n").a, 5, "a restored backup has it no more");
});
