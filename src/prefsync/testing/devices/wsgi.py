"""A WSGI app, run in this process: each request in the thread that makes it, each stream in one of its own."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

from prefsync.testing.devices.messages import PATIENCE, Application, Reply

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from prefsync.testing.devices.messages import Listener, Request, Subscription

__all__ = ["WsgiApplication"]


class WsgiApplication(Application):
    """Calls an app as a server with threads does.

    Args:
        app: The app.
        run: Runs a coroutine on the loop of the app's preferences.
        close: Closes what the app's preferences have opened.
    """

    def __init__(self, app: Any, run: Callable[[Awaitable[Any]], Any], close: Callable[[], None]) -> None:
        self._app = app
        self._run = run
        self._close = close

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _outside_of_loops(self._close)

    def request(self, request: Request) -> Reply:
        """See ``Application``."""
        reply: Reply = _outside_of_loops(lambda: self._call(request))
        return reply

    def _call(self, request: Request) -> Reply:
        head = _Head()
        chunks: Iterable[bytes] = self._app(environ_of(request), head.start)
        try:
            body = b"".join(chunks)
        finally:
            _close(chunks)
        return Reply(head.status, head.headers, body)

    def listen(self, request: Request, listener: Listener) -> Subscription:
        """See ``Application``."""
        stream = _Stream(self._app, request, listener)
        stream.thread.start()
        return stream

    def run(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """See ``Application``."""
        return _outside_of_loops(lambda: self._run(work()))


class _Stream:
    """A stream, and the thread that a server would have for it."""

    def __init__(self, app: Any, request: Request, listener: Listener) -> None:
        self.thread = threading.Thread(target=self._work, name="prefsync device", daemon=True)
        self._app = app
        self._request = request
        self._listener = listener
        self._chunks: Iterable[bytes] = ()
        self._is_gone = False

    def close(self) -> None:
        self._is_gone = True
        _close(self._chunks)
        self.thread.join(PATIENCE)
        if self.thread.is_alive():
            message = f"the app did not notice within {PATIENCE:.0f} s that a device has gone"
            raise TimeoutError(message)

    def _work(self) -> None:
        error: BaseException | None = None
        head = _Head()
        try:
            self._chunks = self._app(environ_of(self._request), head.start)
            self._listener.started(Reply(head.status, head.headers, b""))
            for chunk in self._chunks:
                if self._is_gone:
                    break
                self._listener.received(chunk)
        except Exception as raised:  # noqa: BLE001  # raised in the test, by whoever waits for the stream
            error = raised
        finally:
            _close(self._chunks)
        self._listener.ended(error)


class _Head:
    """What an app says before its answer's body."""

    def __init__(self) -> None:
        self.status = 500
        self.headers: dict[str, str] = {}

    def start(self, status: str, headers: list[tuple[str, str]], _error: object = None) -> Any:
        self.status = int(status.split(" ", 1)[0])
        self.headers = {}
        for raw_name, value in headers:
            name = raw_name.lower()
            self.headers[name] = f"{self.headers[name]}, {value}" if name in self.headers else value
        return None


def environ_of(request: Request) -> dict[str, Any]:
    """Return a request's environment (PEP 3333, "environ Variables")."""
    host, port = request.authority
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": request.path.encode().decode("latin-1"),
        "QUERY_STRING": request.query,
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": request.scheme,
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in request.lines:
        key = name.upper().replace("-", "_")
        environ[key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"] = value
    return environ


def _close(chunks: Iterable[bytes]) -> None:
    close = getattr(chunks, "close", None)
    if close is not None:
        close()


def _outside_of_loops(call: Callable[[], Any]) -> Any:
    """Call in this thread, as a host's fixtures may expect, or in another one where an event loop runs in this."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return call()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()
