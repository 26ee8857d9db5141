"""Clients that go away in the middle: nothing half done, nobody waited for."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import uvicorn
from fastapi import Depends, FastAPI

from prefsync import Rate, Settings
from prefsync.testing.mount import KEY, newcomer
from prefsync.testing.realtime.wire import connect, request, upgrade
from tests.http.conftest import asgi_client
from tests.http.hosts import app_with, memory_mount, running
from tests.servers import HOST, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from fastapi import Request, Response

    from prefsync.testing.mount import Caller
    from prefsync_fastapi import PrefSync

pytestmark = pytest.mark.anyio

PATIENCE = 10.0
"""Seconds within which anything that should happen has happened, on a slow machine too."""


def plain(mount: PrefSync) -> FastAPI:
    """Include it, and no more."""
    return app_with(mount)


def guarded(mount: PrefSync) -> FastAPI:
    """Put a dependency before it."""

    async def let_pass() -> None:
        pass

    app = FastAPI()
    app.include_router(mount.router, prefix="/preferences", dependencies=[Depends(let_pass)])
    return app


def behind_middleware(mount: PrefSync) -> FastAPI:
    """Put a middleware before it."""
    app = app_with(mount)

    @app.middleware("http")
    async def pass_on(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        return await call_next(request)

    return app


WAYS = [plain, guarded, behind_middleware]


def waiting_in(mount: PrefSync) -> int:
    """Count the long polls that a mount holds."""
    return sum(len(channel.listeners) for channel in mount.runtime.hub._channels.values())


async def until(true: Callable[[], bool]) -> None:
    """Wait for something that happens elsewhere."""
    with anyio.fail_after(PATIENCE):
        while not true():
            await asyncio.sleep(0.005)


class Connection:
    """A request to an ASGI app whose client decides what arrives and when, and when to go away."""

    def __init__(self, app: Any, me: Caller, method: str, path: str, query: str = "", **headers: str) -> None:
        lines = {"Authorization": f"Bearer {me.token}", "Content-Type": "application/json", **headers}
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in lines.items()],
            "client": ("127.0.0.1", 50_000),
            "server": ("testserver", 80),
        }
        self.sent: list[dict[str, Any]] = []
        self.asked = 0
        self._arriving: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.task = asyncio.ensure_future(app(self._scope, self._receive, self._send))

    def arrive(self, body: bytes, *, more: bool) -> None:
        """Let a piece of the body arrive."""
        self._arriving.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def go(self) -> None:
        """Go away."""
        self._arriving.put_nowait({"type": "http.disconnect"})

    async def _receive(self) -> dict[str, Any]:
        self.asked += 1
        return await self._arriving.get()

    async def _send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize("first", [b'{"theme":', b'{"theme":"dark"}', b""], ids=["half", "whole", "nothing"])
async def test_a_client_that_goes_away_in_the_middle_of_its_body(
    way: Callable[[PrefSync], FastAPI], method: str, first: bytes
) -> None:
    """Nothing is written, even where what came would be a body by itself; and nothing is logged as a failure."""
    app = way(memory_mount())
    async with running(app) as me:
        gone = Connection(app, me, method, "/preferences/appearance")
        gone.arrive(first, more=True)
        await until(lambda: gone.asked >= 2)
        gone.go()
        with anyio.fail_after(PATIENCE):
            await gone.task
        assert all(message.get("status", 499) >= 400 for message in gone.sent)
        assert (await me.get()).revision == 0


@pytest.mark.parametrize("way", WAYS)
async def test_a_body_is_not_read_beyond_its_limit(way: Callable[[PrefSync], FastAPI]) -> None:
    """A client that never stops sending is answered after 256 KiB, and the rest is left unread."""
    app = way(memory_mount())
    async with running(app) as me:
        endless = Connection(app, me, "PUT", "/preferences/plugins")
        pieces = 0
        while not endless.task.done():
            assert pieces < 100, "it reads on and on"
            endless.arrive(b" " * 10_000, more=True)
            pieces += 1
            await until(lambda: endless.task.done() or endless.asked > pieces)  # noqa: B023  # awaited in the loop
        await endless.task
        assert endless.sent[0]["status"] == 413
        assert pieces == 27


@pytest.mark.parametrize("way", WAYS)
async def test_a_body_that_says_how_long_it_is_need_not_come(way: Callable[[PrefSync], FastAPI]) -> None:
    """A ``Content-Length`` beyond the limit is refused before a byte is read."""
    app = way(memory_mount())
    async with running(app) as me:
        length = {"Content-Length": str(256 * 1024 + 1)}
        large = Connection(app, me, "PUT", "/preferences/plugins", **length)
        with anyio.fail_after(PATIENCE):
            await large.task
        assert large.sent[0]["status"] == 413
        assert large.asked == 0 or way is behind_middleware


@pytest.mark.parametrize("way", WAYS)
async def test_a_client_that_goes_away_while_it_waits(way: Callable[[PrefSync], FastAPI]) -> None:
    """Its long poll ends at once; those of others go on."""
    mount = memory_mount()
    app = way(mount)
    async with running(app) as me:
        polls = [Connection(app, me, "GET", "/preferences/changes", "since=0&wait=60") for _ in range(3)]
        for poll in polls:
            poll.arrive(b"", more=False)
        await until(lambda: waiting_in(mount) == 3)
        polls[0].go()
        with anyio.fail_after(PATIENCE):
            await polls[0].task
        await until(lambda: waiting_in(mount) == 2)
        assert not polls[1].task.done()
        revision = (await me.patch("/plugins", {"a": 1})).revision
        with anyio.fail_after(PATIENCE):
            await asyncio.gather(polls[1].task, polls[2].task)
        for poll in polls[1:]:
            assert poll.sent[0]["status"] == 200
            body = b"".join(message.get("body", b"") for message in poll.sent[1:])
            assert json.loads(body)["revision"] == revision
        assert waiting_in(mount) == 0


async def test_a_poll_that_is_cancelled() -> None:
    """A server that ends a request's task, when it shuts down say, leaves no waiter behind."""
    mount = memory_mount()
    app = app_with(mount)
    async with running(app) as me:
        poll = Connection(app, me, "GET", "/preferences/changes", "since=0&wait=60")
        await until(lambda: waiting_in(mount) == 1)
        poll.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await poll.task
        assert waiting_in(mount) == 0
        (await me.patch("/plugins", {"a": 1})).ok()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("path", ["", "/appearance", "/schema", "/changes", "/nothing", "/appearance/x"])
async def test_head_sends_no_body(way: Callable[[PrefSync], FastAPI], path: str) -> None:
    """Not even to a server that would drop it, and neither does a refusal."""
    app = way(memory_mount())
    async with running(app) as me:
        for headers in ({}, {"Authorization": "Bearer bad"}, {"If-None-Match": "*"}, {"If-Match": "x"}):
            request = Connection(app, me, "HEAD", f"/preferences{path}", **headers)
            request.arrive(b"", more=False)
            with anyio.fail_after(PATIENCE):
                await request.task
            assert b"".join(message.get("body", b"") for message in request.sent) == b""


# --- Under a real server ------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[uvicorn.Server]:
    """Serve an app by uvicorn on this event loop."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, HOST, port, log_level="warning", timeout_graceful_shutdown=1))
    serving = asyncio.ensure_future(server.serve())
    try:
        await until(lambda: server.started or serving.done())
        yield server
    finally:
        server.should_exit = True
        with anyio.fail_after(PATIENCE):
            await serving


async def send(port: int, me: Caller, head: str, body: bytes = b"") -> asyncio.StreamWriter:
    """Send the beginning of a request on a connection of its own."""
    _, writer = await asyncio.open_connection(HOST, port)
    lines = [head, f"Host: {HOST}", f"Authorization: Bearer {me.token}", "Content-Type: application/json"]
    writer.write("\r\n".join(lines).encode() + body)
    await writer.drain()
    return writer


async def test_a_connection_that_breaks() -> None:
    """Through sockets: a broken upload writes nothing, and a broken long poll frees its waiter."""
    mount = memory_mount()
    app = app_with(mount)
    async with served(app) as server:
        port, me = server.config.port, newcomer(asgi_client(app))
        whole = b'{"theme":"dark"}'
        upload = await send(
            port,
            me,
            "PUT /preferences/appearance HTTP/1.1",
            b"\r\nContent-Length: %d\r\n\r\n%b" % (len(whole) + 10, whole),
        )
        poll = await send(port, me, "GET /preferences/changes?since=0&wait=60 HTTP/1.1", b"\r\n\r\n")
        await until(lambda: waiting_in(mount) == 1)
        for writer in (upload, poll):
            writer.close()
            await writer.wait_closed()
        await until(lambda: waiting_in(mount) == 0)
        assert (await me.get()).revision == 0
        assert (await me.changes(0))["changes"] == []


@pytest.mark.parametrize("transport", ["websocket", "events"])
async def test_a_farewell_that_nobody_takes(monkeypatch: pytest.MonkeyPatch, transport: str) -> None:
    """A session that is over keeps no connection open for a client that reads nothing of what it was sent last."""
    monkeypatch.setattr("prefsync_fastapi.translate._LAST_LIMIT", 0.1)
    mount = memory_mount(settings=Settings(jwt_key=KEY, rate_limit=Rate(10_000, 60)))
    app = app_with(mount)
    async with served(app) as server:
        me = newcomer(asgi_client(app))
        client = await connect((HOST, server.config.port), receive_buffer=4_096)
        lines = [("Authorization", f"Bearer {me.token}")]
        if transport == "websocket":
            await client.send(upgrade("/preferences/ws", HOST, lines, ["prefsync.v1"]))
            await client.head()
            await client.send(masked(b'{"type":"hello"}'))
        else:
            await client.send(request("GET", "/preferences/events", HOST, lines))
        await until(lambda: len(mount.runtime.sessions) == 1)
        (connection,) = server.server_state.connections
        size = connection.transport.get_write_buffer_size
        n = 0
        while not size():  # less than makes the server wait: the farewell goes beside it
            n += 1
            (await me.patch("/plugins", {"a": f"{n}" + "x" * 15_000})).ok()
            await asyncio.sleep(0)
        mount.drain()
        await until(lambda: len(mount.runtime.sessions) == 0)
        await until(lambda: not server.server_state.connections)
        client.close()


def masked(text: bytes) -> bytes:
    """Return a text frame as clients send it (RFC 6455, section 5.2)."""
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text
