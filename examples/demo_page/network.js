/** A network that can be cut: what a device is handed in place of the browser's own `fetch` and `WebSocket`. */

/** @param {boolean} isUp */
export function createNetwork(isUp) {
  // Everything that is under way hangs on this; cutting the network aborts it.
  let cable = new AbortController();
  if (!isUp) cable.abort();

  /** As the browser's own, with the properties that clients use. */
  class Socket {
    /** @type {WebSocket | undefined} */
    #socket;
    onopen = (/** @type {any} */ _) => {};
    onmessage = (/** @type {any} */ _) => {};
    onerror = (/** @type {any} */ _) => {};
    onclose = (/** @type {any} */ _) => {};

    /**
     * @param {string} url
     * @param {string} protocol
     */
    constructor(url, protocol) {
      const { signal } = cable;
      const lose = () => {
        const socket = this.#socket;
        this.#socket = undefined;
        if (socket) {
          socket.onopen = socket.onmessage = socket.onerror = socket.onclose = null;
          socket.close();
        }
        this.onerror({ type: "error" });
        this.onclose({ type: "close", code: 1006, reason: "", wasClean: false });
      };
      if (signal.aborted) {
        setTimeout(lose);
        return;
      }
      signal.addEventListener("abort", lose, { once: true });
      const socket = (this.#socket = new WebSocket(url, protocol));
      socket.onopen = (event) => this.onopen(event);
      socket.onmessage = (event) => this.onmessage(event);
      socket.onerror = (event) => this.onerror(event);
      socket.onclose = (event) => {
        signal.removeEventListener("abort", lose);
        this.onclose(event);
      };
    }

    get readyState() {
      return this.#socket?.readyState ?? WebSocket.CLOSED;
    }

    /** @param {string} data */
    send(data) {
      this.#socket?.send(data);
    }

    /**
     * @param {number} [code]
     * @param {string} [reason]
     */
    close(code, reason) {
      this.#socket?.close(code, reason);
    }
  }

  return {
    WebSocket: Socket,

    /**
     * @param {string} input
     * @param {RequestInit} [init]
     */
    async fetch(input, init = {}) {
      const signal = init.signal ? AbortSignal.any([init.signal, cable.signal]) : cable.signal;
      if (cable.signal.aborted) throw new TypeError("the network is cut");
      return fetch(input, { ...init, signal });
    },

    get isUp() {
      return !cable.signal.aborted;
    },

    cut() {
      cable.abort(new TypeError("the network is cut"));
    },

    mend() {
      if (cable.signal.aborted) cable = new AbortController();
      // A real network says so to the page. This one does it in its place, and clients that wait look at once.
      window.dispatchEvent(new Event("online"));
    },
  };
}
