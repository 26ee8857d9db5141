// A client that does as it is told, in JSON lines: {do: "connect" | "emit" | "disconnect", ...}, and tells what comes.
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
const sockets = new Map();

function connect({ name, url, path, namespace, transports, auth }) {
  const socket = io(`${url}${namespace}`, { path, transports, auth, forceNew: true, reconnection: false });
  sockets.set(name, socket);
  const tell = (event, data) => say({ name, event, data });
  socket.on("connect", () => tell("connect", socket.io.engine.transport.name));
  socket.on("connect_error", (error) => tell("connect_error", error.data ?? { failed: error.message }));
  socket.on("disconnect", (reason) => tell("disconnect", reason));
  socket.io.engine?.on("close", (reason) => tell("close", reason));
  socket.io.engine?.on("upgrade", (transport) => tell("upgrade", transport.name));
  socket.onAny((event, data) => tell(event, data));
}

const does = {
  connect,
  emit({ name, event, data, times }) {
    for (let time = 0; time < times; time += 1) {
      sockets.get(name).emit(event, data, (answer) => say({ name, event: "answer", data: answer }));
    }
  },
  send({ name, text }) {
    sockets.get(name).io.engine.write(text);
  },
  disconnect({ name }) {
    sockets.get(name).disconnect();
  },
};

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const order = JSON.parse(line);
    does[order.do](order);
  })
  .on("close", () => process.exit());
