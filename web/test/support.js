// What the tests stand on: tokens, a proxy to break, a clock to wind, tabs that cannot be had in Node.

import { createHmac, randomUUID } from "node:crypto";
import { once } from "node:events";
import { Agent, createServer, request } from "node:http";
import { connect as dial } from "node:net";
import { WebSocket } from "ws";
import { connect } from "../../src/prefsync/web/client.js";

export { WebSocket, connect };

/** The mount under test: the example app under a real server. */
export const URL_ = process.env.PREFSYNC_TEST_URL ?? "";
const KEY = process.env.PREFSYNC_TEST_KEY ?? "";

const LIMIT = 10_000;

const base64 = (value) => Buffer.from(typeof value == "string" ? value : JSON.stringify(value)).toString("base64url");

/** Sign a token, as the server's key holder would. */
export function mint(sub, { life = 600, ...claims } = {}) {
  const now = Math.floor(Date.now() / 1000);
  const scope = "preferences:read preferences:write";
  const head = `${base64({ alg: "HS256", typ: "JWT" })}.${base64({ sub, scope, iat: now, exp: now + life, ...claims })}`;
  return `${head}.${createHmac("sha256", KEY).update(head).digest("base64url")}`;
}

export const newcomer = () => `user-${randomUUID()}`;

/** Wait until something is so, with a generous limit. */
export async function until(holds, what = String(holds)) {
  for (const end = Date.now() + LIMIT; ; ) {
    const found = await holds();
    if (found) return found;
    if (Date.now() > end) throw new Error(`in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Return the next event that fits. */
export const next = (prefs, event, fits = () => true) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${event} event: ${fits}`)), LIMIT);
    const off = prefs.on(event, (told) => {
      if (!fits(told)) return;
      clearTimeout(timer);
      off();
      resolve(told);
    });
  });

/** Ask the server itself, beside any client. */
export async function ask(user, method = "GET", path = "", body = undefined) {
  const headers = { Authorization: `Bearer ${mint(user)}`, ...(body && { "Content-Type": "application/json" }) };
  const response = await fetch(`${URL_}${path}`, { method, headers, body: body && JSON.stringify(body) });
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  return response.json();
}

/** Make clients of one user, which are closed when the test is over. */
export function clients(test, user = newcomer(), defaults = {}) {
  const open = [];
  test.after(() => open.forEach((prefs) => prefs.close()));
  const make = async (options = {}) => {
    const prefs = await connect({ url: URL_, token: () => mint(user), WebSocket, storage: null, ...defaults, ...options });
    open.push(prefs);
    prefs.errors = [];
    prefs.on("error", (error) => prefs.errors.push(error));
    return prefs;
  };
  make.user = user;
  return make;
}

/** Storage that outlives clients, as localStorage does. */
export class Storage {
  items = new Map();
  getItem = (key) => this.items.get(key) ?? null;
  setItem = (key, value) => void this.items.set(key, String(value));
  removeItem = (key) => void this.items.delete(key);
  keys = () => [...this.items.keys()];
  get edits() {
    return [...this.items].filter(([key]) => / edit /.test(key)).map(([, value]) => JSON.parse(value));
  }
}

/** A clock that runs, and can be wound forward; `ahead` makes it wrong. */
export class Clock {
  constructor(ahead = 0) {
    this.offset = ahead;
    this.timers = new Map();
    this.now = () => Date.now() + this.offset;
    this.setTimeout = (work, milliseconds) => {
      const timer = { work, due: Date.now() + milliseconds, milliseconds };
      this.timers.set(timer, setTimeout(() => this.fire(timer), milliseconds));
      return timer;
    };
    this.clearTimeout = (timer) => {
      clearTimeout(this.timers.get(timer));
      this.timers.delete(timer);
    };
  }

  fire(timer) {
    this.clearTimeout(timer);
    timer.work();
  }

  /** Let time pass: what falls due happens at once. */
  skip(milliseconds) {
    this.offset += milliseconds;
    for (const timer of [...this.timers.keys()]) {
      if (!this.timers.has(timer)) continue;
      clearTimeout(this.timers.get(timer));
      timer.due -= milliseconds;
      this.timers.set(timer, setTimeout(() => this.fire(timer), Math.max(0, timer.due - Date.now())));
    }
  }

  /** The waits that are on, in milliseconds as they were asked for. */
  get waits() {
    return [...this.timers.keys()].map(({ milliseconds }) => Math.round(milliseconds));
  }
}

/**
 * A proxy before the server. `rule` says what becomes of a request: nothing (it goes on), "hang", "cut", or a function
 * that answers.
 */
export class Proxy {
  rule = () => undefined;
  requests = [];
  sockets = new Set();

  async start(test) {
    this.agent = new Agent({ keepAlive: false });
    this.server = createServer((incoming, answer) => this.forward(incoming, answer));
    this.server.on("connection", (socket) => {
      this.sockets.add(socket);
      socket.on("close", () => this.sockets.delete(socket)).on("error", () => {});
    });
    this.server.on("upgrade", (incoming, socket, head) => this.upgrade(incoming, socket, head));
    this.server.listen(0, "127.0.0.1");
    await once(this.server, "listening");
    this.url = `http://127.0.0.1:${this.server.address().port}/preferences`;
    test.after(() => this.stop());
    return this;
  }

  stop() {
    this.cut();
    this.agent.destroy();
    this.server.close();
  }

  /** End all connections; with `for` also the new ones, until `heal`. */
  cut({ stay = false } = {}) {
    if (stay) this.rule = () => "cut";
    this.sockets.forEach((socket) => socket.destroy());
  }

  heal() {
    this.rule = () => undefined;
  }

  seen(pattern) {
    return this.requests.filter(({ line }) => pattern.test(line));
  }

  decide(incoming) {
    const path = incoming.url.replace(/^\/preferences\/?/, "/");
    const seen = { line: `${incoming.method} ${path}`, headers: incoming.headers };
    this.requests.push(seen);
    return this.rule(seen.line, seen);
  }

  forward(incoming, answer) {
    const rule = this.decide(incoming);
    if (rule == "cut") return incoming.socket.destroy();
    if (rule == "hang") return undefined;
    if (rule) return rule(answer, incoming);
    const { hostname, port } = new URL(URL_);
    const { method, headers, url: path } = incoming;
    const onward = request({ hostname, port, method, path, headers, agent: this.agent }, (response) => {
      answer.writeHead(response.statusCode, response.headers);
      answer.flushHeaders();
      response.on("error", () => answer.destroy()).pipe(answer);
    });
    onward.on("error", () => answer.destroy());
    answer.on("close", () => onward.destroy());
    incoming.pipe(onward);
    return undefined;
  }

  upgrade(incoming, socket, head) {
    const rule = this.decide(incoming);
    socket.on("error", () => {});
    if (rule == "hang") {
      socket.resume().on("end", () => socket.destroy());
      return;
    }
    if (rule) {
      socket.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
      return;
    }
    const { hostname, port } = new URL(URL_);
    const onward = dial(port, hostname, () => {
      const { rawHeaders } = incoming;
      const lines = rawHeaders.flatMap((name, i) => (i % 2 ? [] : [`${name}: ${rawHeaders[i + 1]}`]));
      onward.write(`GET ${incoming.url} HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n`);
      onward.write(head);
      socket.pipe(onward).pipe(socket);
    });
    onward.on("error", () => socket.destroy());
    onward.on("close", () => socket.destroy());
    socket.on("close", () => onward.destroy());
  }
}

/** Web Locks, which Node has not: exclusive locks by name, granted in the order of asking (Web Locks API, section 3). */
export class Locks {
  queues = new Map();

  async request(name, { signal }, work) {
    const before = this.queues.get(name) ?? Promise.resolve();
    let release;
    const mine = new Promise((resolve) => (release = resolve));
    this.queues.set(name, before.then(() => mine));
    const aborted = new Promise((_, reject) =>
      signal.addEventListener("abort", () => reject(new DOMException("aborted", "AbortError"))),
    );
    aborted.catch(() => {});
    try {
      await Promise.race([before, aborted]);
      return await work();
    } finally {
      release();
    }
  }
}
