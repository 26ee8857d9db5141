"""A host's origin, made to break: a page, whoever issues its tokens, and the mount behind a proxy."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

from prefsync.testing.mount.callers import BOTH, mint
from tests.servers import HOST

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT: Final = 15.0
"""Seconds that anything may take that was asked for."""

PAGE: Final = Path(__file__).parent / "page"

_TYPES: Final = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8"}

# A connection that is closed so is reset, as one is whose network has gone.
_RESET: Final = struct.pack("ii", 1, 0)


class Request(NamedTuple):
    """A request as its first lines have it."""

    method: str
    path: str
    head: str

    @property
    def transport(self) -> str | None:
        """What a client asks to be kept informed by, if that is what it asks."""
        if re.search(r"^upgrade: *websocket", self.head, re.MULTILINE | re.IGNORECASE):
            return "websocket"
        found = re.search(r"/(events|changes)(\?|$)", self.path)
        return {"events": "sse", "changes": "poll"}[found[1]] if found else None


def through(_: Request) -> str:
    """Let everything pass."""
    return "pass"


class Gate:
    """Serves a page and tokens, and passes all else on to a server for as long as it lets it.

    A context manager. Each connection carries one request.

    Args:
        port: The server's.

    Attributes:
        url: Where pages come from.
        rule: What becomes of a request: ``pass``; ``cut``; ``refuse``: the gate says no; ``hold``: it passes, but of the
            answer only the head, as with proxies that wait until they have all of it; ``lose``: it passes, and when
            the answer comes the connection is cut.
        requests: Those that came.
        lost: How many answers were lost.
    """

    def __init__(self, port: int) -> None:
        self._target = (HOST, port)
        self._listener = socket.create_server((HOST, 0))
        self.url = f"http://{HOST}:{self._listener.getsockname()[1]}"
        self.rule: Callable[[Request], str] = through
        self.requests: list[Request] = []
        self.lost = 0
        self._news = threading.Condition()
        self._open: dict[socket.socket, Request | None] = {}
        self._is_cut = False
        self._accepting = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        # Closing alone would not end an accept that is under way.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        self.wait(lambda: not self._open, "connections have ended")

    def cut(self) -> None:
        """End all connections, and every new one at once."""
        with self._news:
            self._is_cut = True
            for connection in self._open:
                _end(connection)

    def heal(self) -> None:
        """Let everything pass again."""
        self._is_cut = False
        self.rule = through

    def break_off(self) -> None:
        """End all connections; new ones are welcome."""
        self.cut()
        self._is_cut = False

    def asked(self, transport: str) -> int:
        """Return how often a transport was asked for."""
        return sum(request.transport == transport for request in list(self.requests))

    def connections(self, transport: str = "websocket") -> int:
        """Return how many connections of a transport there are now."""
        with self._news:
            return sum(
                request is not None and request.transport == transport for request in self._open.values()
            )

    def wait(self, holds: Callable[[], Any], what: str) -> None:
        """Wait until something is so that the gate can tell."""
        with self._news:
            assert self._news.wait_for(holds, LIMIT), f"in vain: {what}"

    # --- Connections --------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except ConnectionAbortedError:
                continue
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with self._news:
            self._open[connection] = None
        try:
            if self._is_cut:
                _end(connection)
                return
            self._answer(connection)
        except OSError:
            pass  # one end has gone, and so shall the other
        finally:
            with self._news:
                del self._open[connection]
                connection.close()
                self._news.notify_all()

    def _answer(self, connection: socket.socket) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            data = connection.recv(65_536)
            if not data:
                return
            received += data
        raw, _, rest = received.partition(b"\r\n\r\n")
        head = raw.decode("latin-1")
        method, path, _ = head.split(" ", 2)
        request = Request(method, path, head)
        with self._news:
            self.requests.append(request)
            self._open[connection] = request
            self._news.notify_all()
        own = _own_answer(request)
        if own is not None:
            connection.sendall(own)
            return
        verdict = self.rule(request)
        if verdict == "cut":
            _end(connection)
        elif verdict == "refuse":
            connection.sendall(_http("403 Forbidden", "text/plain", b"Not through here."))
        else:
            self._forward(connection, request, rest, verdict)

    def _forward(self, connection: socket.socket, request: Request, rest: bytes, verdict: str) -> None:
        head = request.head
        if request.transport != "websocket":
            head = re.sub(r"\r\nConnection:[^\r]*", "", head, flags=re.IGNORECASE) + "\r\nConnection: close"
        with socket.create_connection(self._target) as onward:
            onward.sendall(f"{head}\r\n\r\n".encode("latin-1") + rest)
            there = threading.Thread(target=_pump, args=(connection, onward), daemon=True)
            there.start()
            if verdict == "lose":
                onward.recv(1)
                _end(connection)
                with self._news:
                    self.lost += 1
            else:
                _pump(onward, connection, is_head_only=verdict == "hold")
            _end(onward)
            there.join()


def _pump(source: socket.socket, sink: socket.socket, *, is_head_only: bool = False) -> None:
    """Carry what comes until it ends, and end where it goes to."""
    seen = b""
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            if not is_head_only:
                sink.sendall(data)
            elif b"\r\n\r\n" not in seen:
                seen += data
                if b"\r\n\r\n" in seen:
                    sink.sendall(seen.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
    _end(sink, is_reset=False)


def _end(connection: socket.socket, *, is_reset: bool = True) -> None:
    """End a connection that another thread may be reading; that one closes it."""
    with contextlib.suppress(OSError):
        if is_reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        connection.shutdown(socket.SHUT_RDWR)


# --- What the gate answers by itself ------------------------------------------------------------------------


def token(user: str, life: int = 600) -> str:
    """Return a token that is good for some seconds."""
    now = int(time.time())
    return mint({"sub": user, "scope": BOTH, "iat": now, "exp": now + life})


def _own_answer(request: Request) -> bytes | None:
    url = urlsplit(request.path)
    if url.path == "/token":
        query = parse_qs(url.query)
        return _http("200 OK", "text/plain", token(query["user"][0], int(query["life"][0])).encode())
    if url.path.startswith("/page/"):
        file = PAGE / (url.path.removeprefix("/page/") or "index.html")
        return _http("200 OK", _TYPES[file.suffix], file.read_bytes())
    return None


def _http(status: str, content_type: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nCache-Control: no-store"
    return f"{head}\r\nConnection: close\r\n\r\n".encode() + body
