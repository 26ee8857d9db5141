"""An ASGI app, run in this process: its event loop has a thread of its own, and no server stands before it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import anyio
from anyio.from_thread import start_blocking_portal

from prefsync.testing.devices.messages import PATIENCE, Application, Reply

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from concurrent.futures import Future
    from types import TracebackType

    from anyio.abc import TaskGroup
    from anyio.from_thread import BlockingPortal

    from prefsync.testing.devices.messages import Listener, Request, Subscription

__all__ = ["AsgiApplication"]


class AsgiApplication(Application):
    """Runs an app, its lifespan included, as long as the context lasts.

    Args:
        app: The app.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._stack = ExitStack()
        self._state: dict[str, Any] = {}
        self._portal: BlockingPortal | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal("asyncio"))
            lifespan = _Lifespan(self._app, self._state)
            stack.enter_context(self._portal.wrap_async_context_manager(lifespan))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def request(self, request: Request) -> Reply:
        """See ``Application``."""
        exchange = _Exchange(request, None)
        self._open.call(exchange.run, self._app, self._state)
        return exchange.reply

    def listen(self, request: Request, listener: Listener) -> Subscription:
        """See ``Application``."""
        exchange = _Exchange(request, listener)
        over = self._open.start_task_soon(exchange.stream, self._app, self._state)
        return _Subscription(self._open, exchange, over)

    def run(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """See ``Application``."""
        return self._open.call(work)

    @property
    def _open(self) -> BlockingPortal:
        if self._portal is None:
            raise RuntimeError("the app was not started: with Stage(app) as stage: ...")
        return self._portal


class _Subscription:
    def __init__(self, portal: BlockingPortal, exchange: _Exchange, over: Future[None]) -> None:
        self._portal = portal
        self._exchange = exchange
        self._over = over

    def close(self) -> None:
        self._portal.call(self._exchange.leave)
        self._over.result(PATIENCE)


class _Exchange:
    """One request, as the app sees it (ASGI specification 3, "HTTP")."""

    def __init__(self, request: Request, listener: Listener | None) -> None:
        self._request = request
        self._listener = listener
        self._reply = Reply(500, {}, b"")
        self._body: list[bytes] = []
        self._is_asked = False
        self._gone = anyio.Event()

    @property
    def reply(self) -> Reply:
        return Reply(self._reply.status, self._reply.headers, b"".join(self._body))

    async def run(self, app: Any, state: dict[str, Any]) -> None:
        request = self._request
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": request.scheme,
            "path": request.path,
            "raw_path": request.raw_path.encode("ascii"),
            "query_string": request.query.encode("ascii"),
            "root_path": "",
            "headers": [(name.encode("ascii"), value.encode("latin-1")) for name, value in request.lines],
            "client": ("127.0.0.1", 50_000),
            "server": request.authority,
            "state": dict(state),
        }
        await app(scope, self._receive, self._send)

    async def stream(self, app: Any, state: dict[str, Any]) -> None:
        error: BaseException | None = None
        try:
            await self.run(app, state)
        except Exception as raised:  # noqa: BLE001  # raised in the test, by whoever waits for the stream
            error = raised
        if self._listener is not None:
            self._listener.ended(error)

    async def leave(self) -> None:
        self._gone.set()

    async def _receive(self) -> dict[str, Any]:
        if not self._is_asked:
            self._is_asked = True
            return {"type": "http.request", "body": self._request.body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers: dict[str, str] = {}
            for raw_name, raw_value in message.get("headers", ()):
                name, value = raw_name.decode("ascii").lower(), raw_value.decode("latin-1")
                headers[name] = f"{headers[name]}, {value}" if name in headers else value
            self._reply = Reply(message["status"], headers, b"")
            if self._listener is not None:
                self._listener.started(self._reply)
        elif message["type"] == "http.response.body":
            if self._listener is None:
                self._body.append(message.get("body", b""))
            elif not self._gone.is_set():
                self._listener.received(message.get("body", b""))
            if not message.get("more_body", False):
                self._gone.set()


class _Lifespan:
    """Starts and stops an app (ASGI specification 3, "Lifespan"); one that knows no lifespan simply runs."""

    def __init__(self, app: Any, state: dict[str, Any]) -> None:
        self._app = app
        self._scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
        self._asked = anyio.Event()
        self._is_told = False
        self._started = anyio.Event()
        self._failure: BaseException | str | None = None
        self._tasks: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._tasks = await anyio.create_task_group().__aenter__()
        self._tasks.start_soon(self._run)
        await self._started.wait()
        if self._failure is not None:
            await self.__aexit__()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._asked.set()
        if self._tasks is not None:
            await self._tasks.__aexit__(None, None, None)
        self._raise()

    async def _run(self) -> None:
        try:
            await self._app(self._scope, self._receive, self._send)
        except Exception as error:  # noqa: BLE001  # raised where the test starts or stops the app
            if self._is_told or self._failure is not None:
                self._failure = error
        self._started.set()

    async def _receive(self) -> dict[str, Any]:
        if not self._is_told:
            self._is_told = True
            return {"type": "lifespan.startup"}
        await self._asked.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"].endswith(".failed"):
            self._failure = message.get("message", "") or "the app failed"
        self._started.set()

    def _raise(self) -> None:
        failure, self._failure = self._failure, None
        if isinstance(failure, BaseException):
            raise failure
        if failure is not None:
            raise RuntimeError(f"the app's lifespan failed: {failure}")
