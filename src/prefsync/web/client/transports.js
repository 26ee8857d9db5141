/**
 * The ways by which changes come. Each is given a link, tells it everything, and fails to end it. Those that write
 * otherwise than over HTTP set the link's `send`.
 */

import { PreferencesError, badAnswer, problemError } from "./errors.js";
import { position, request } from "./http.js";

/**
 * Return what the code of a WebSocket's end (protocol.md, "WebSocket") would be over HTTP.
 *
 * @param {number} code
 */
const statusOf = (code) => (code == 1009 ? 413 : code == 1013 ? 503 : code > 4_000 ? code - 4_000 : undefined);

/** @param {import("./link.js").Link} link */
async function webSocket(link) {
  const socket = new link.WebSocket(`${link.base.replace("http", "ws")}ws`, "prefsync.v1");
  /** @type {{ id?: string, resolve?(revision: number): void, reject?(error: any): void }} */
  let unanswered = {};
  let pinged = 0;
  /** @param {object} frame */
  const say = (frame) => socket.send(JSON.stringify(frame));

  /** @param {string} data */
  async function hear(data) {
    const frame = JSON.parse(data);
    const { type, id, revision, problem } = frame;
    if (frame.schema || frame.changed) {
      link.receive(frame); // welcome, reset, change
      link.joined();
    } else if (id) {
      if (id != unanswered.id) return;
      if (type == "ack") unanswered.resolve?.(revision);
      else unanswered.reject?.(problemError(problem, problem?.retry_after));
    } else {
      if (type == "pong") link.took(pinged);
      // In a heartbeat too: the newest that this session was sent.
      if (revision > /** @type {any} */ (link.known())?.revision) throw badAnswer();
    }
    link.alive();
  }

  socket.onopen = () => {
    say({ type: "hello", token: link.token, client: link.client, ...position(link) });
  };
  socket.onmessage = (/** @type {{ data: string }} */ { data }) => hear(data).catch(link.end);
  socket.onerror = () => {}; // the close that follows tells; in Node an error that nobody hears ends the process
  socket.onclose = (/** @type {{ code: number, reason: string }} */ { code, reason }) => {
    const status = statusOf(code);
    const error = new PreferencesError(status ? `http-${status}` : "network", reason || code, { status });
    // A frame that cannot be taken would end every connection: it is refused instead of being sent again.
    if (code == 1009 || code == 4400) unanswered.reject?.(error);
    link.end(error);
  };
  link.close = () => {
    unanswered.reject?.({});
    socket.close();
  };
  link.send = ({ id, patch }) =>
    new Promise((resolve, reject) => {
      unanswered = { id, resolve, reject };
      say({ type: "patch", id, patch });
    });
  link.renew = (token) => say({ type: "token", token });
  link.ping = () => {
    pinged = link.now();
    say({ type: "ping" });
  };
}

/** @param {import("./link.js").Link} link */
async function eventStream(link) {
  const LONGEST_EVENT = 4_000_000; // characters; more than any document may have
  const { body, headers } = await request(link, `events?${new URLSearchParams(position(link))}`);
  if (!/event-stream/.test(headers.get("Content-Type"))) throw badAnswer();
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done || text.length > LONGEST_EVENT) throw badAnswer();
    const events = (text + decoder.decode(value, { stream: true })).split("\n\n");
    text = events.pop() ?? "";
    for (const event of events) {
      const [, type, data] = /^event: ?(.*)\n(?:.*\n)*?data: ?(.*)/m.exec(event) ?? [];
      if (type == "bye") {
        throw new PreferencesError("network", data, { status: /token/.test(data) ? 401 : undefined });
      }
      if (type) link.receive(JSON.parse(data));
    }
    // The stream begins with a line at once: where nothing comes, something on the way keeps it back.
    link.joined();
  }
}

/** @param {import("./link.js").Link} link */
async function longPolls(link) {
  const WAIT = 25; // seconds: less than what proxies cut, for which 30 s is usual
  for (let wait = 0; ; wait = WAIT) {
    const { known, after } = link;
    const before = known();
    const path = before ? `changes?${new URLSearchParams({ ...position(link), wait })}` : "";
    link.receive(await (await request(link, path)).json());
    link.joined();
    // A server that drains, or whose token runs out, answers at once: that must not become a loop.
    if (wait && known() == before) await new Promise((resolve) => after(1_000, resolve));
  }
}

/**
 * By name: what opens it, and the milliseconds of silence after which it is taken for dead. Over a WebSocket a heartbeat
 * comes every 30 s, in a stream of events a comment every 15 s, and a poll is answered after 25 s.
 *
 * @type {Record<import("../client.js").Transport, [(link: import("./link.js").Link) => Promise<void>, number]>}
 */
export const transports = {
  websocket: [webSocket, 65_000],
  sse: [eventStream, 35_000],
  poll: [longPolls, 40_000],
};
