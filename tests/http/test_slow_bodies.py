"""Bodies that drip, or never come: answered in time, and nobody else waits for them."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from uvicorn import Config, Server

from prefsync.http import bodies
from prefsync.http.bodies import read_body
from prefsync.http.messages import HttpRequest
from prefsync.testing.mount import KEY, Caller, newcomer
from prefsync.testing.realtime.wire import connect, request
from prefsync.wsgi import requests
from tests.http.conftest import gunicorn_process, network_client
from tests.http.hosts import app_with, memory_mount
from tests.http.test_flask_contract import WerkzeugHost
from tests.servers import HOST, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from fastapi import Request, Response

    from prefsync.testing.realtime.wire import Connection

pytestmark = pytest.mark.anyio

LIMIT = 0.5
"""Seconds that a body may take here."""

PATIENCE = 15.0
"""Seconds within which what should happen has happened, on a busy machine too."""


@contextlib.asynccontextmanager
async def on_uvicorn(_folder: Path, *, is_guarded: bool = False) -> AsyncIterator[Caller]:
    """Run a FastAPI app under uvicorn, in this process."""
    app = app_with(memory_mount())
    if is_guarded:

        @app.middleware("http")
        async def pass_on(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
            return await call_next(request)

    server = Server(Config(app, host=HOST, port=free_port(), log_level="error"))
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(PATIENCE):
        while not server.started:
            await asyncio.sleep(0.01)
    async with network_client(f"http://{HOST}:{server.config.port}") as client:
        yield newcomer(client)
    server.should_exit = True
    await serving


@contextlib.asynccontextmanager
async def behind_middleware(folder: Path) -> AsyncIterator[Caller]:
    """Run one with a middleware, which reads the body on the mount's behalf, in cancel scopes of its own."""
    async with on_uvicorn(folder, is_guarded=True) as me:
        yield me


@contextlib.asynccontextmanager
async def on_werkzeug(folder: Path) -> AsyncIterator[Caller]:
    """Run a Flask app by Werkzeug's own server, in this process."""
    host = WerkzeugHost({"PREFSYNC_DATABASE_URL": f"sqlite:///{folder}/slow.sqlite3"})
    async with host.open({"PREFSYNC_JWT_KEY": KEY}) as client:
        yield newcomer(client)


@contextlib.asynccontextmanager
async def on_gunicorn(folder: Path, worker: str = "gthread") -> AsyncIterator[Caller]:
    """Run the Flask example under gunicorn, in a process with two threads."""
    settings: Mapping[str, str] = {
        "PREFSYNC_DATABASE_URL": f"sqlite:///{folder}/slow.sqlite3",
        "PREFSYNC_JWT_KEY": KEY,
    }
    options = ("--threads", "2") if worker == "gthread" else ("--worker-class", worker)
    server = gunicorn_process(settings, *options, app="slow_flask_app:app", folder=Path(__file__).parent)
    with server:
        async with network_client(server.url) as client:
            yield newcomer(client)


@contextlib.asynccontextmanager
async def on_gevent(folder: Path) -> AsyncIterator[Caller]:
    """Run it by greenlets."""
    async with on_gunicorn(folder, "gevent") as me:
        yield me


HOSTS = [
    on_uvicorn,
    behind_middleware,
    on_werkzeug,
    pytest.param(on_gunicorn, marks=pytest.mark.once),
    pytest.param(on_gevent, marks=pytest.mark.once),
]


@pytest.fixture(params=HOSTS, scope="module")
async def mount(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Caller]:
    """Run a mount with little patience, on each host."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bodies, "READ_LIMIT", LIMIT)
        patch.setattr(requests, "DISCARD_LIMIT", LIMIT)
        async with request.param(tmp_path_factory.mktemp("slow")) as caller:
            yield caller


@pytest.fixture
def me(mount: Caller) -> Caller:
    """Be a user for whom nothing is stored yet."""
    return newcomer(mount.client)


def head(me: Caller, *, length: int | None, token: str | None = None) -> bytes:
    """Return the head of a PUT, whose body has a length or comes in chunks."""
    size = ("Transfer-Encoding", "chunked") if length is None else ("Content-Length", str(length))
    lines = [
        ("Authorization", f"Bearer {token or me.token}"),
        ("Content-Type", "application/json"),
        size,
    ]
    return request("PUT", "/preferences/plugins", HOST, lines)


async def slow(me: Caller) -> Connection:
    """Open a connection to the caller's host."""
    port = int(me.client._base.rpartition(":")[2])  # type: ignore[attr-defined]
    return await connect((HOST, port))


async def drip(connection: Connection) -> None:
    """Send a byte now and then, for ever."""
    with contextlib.suppress(ConnectionError):
        while True:
            await connection.send(b" ")
            await asyncio.sleep(LIMIT / 10)


@pytest.mark.parametrize("is_dripping", [True, False], ids=["dripping", "silent"])
async def test_a_body_that_does_not_come_is_refused_in_time(me: Caller, *, is_dripping: bool) -> None:
    """``400``, which says why; more such clients than threads hold up nobody; and nothing is written."""
    connections = [await slow(me) for _ in range(4)]
    tasks = []
    try:
        for connection in connections:
            await connection.send(head(me, length=1_000) + b'{"a":1}')
            if is_dripping:
                tasks.append(asyncio.create_task(drip(connection)))
        answers = [await connection.answer() for connection in connections]
        for answer in answers:
            assert "did not come within" in answer.problem(400, "malformed-request")["detail"]
        async with asyncio.timeout(PATIENCE):
            assert (await me.get()).revision == 0
    finally:
        for task in tasks:
            task.cancel()
        for connection in connections:
            connection.close()


async def test_chunks_that_do_not_come_are_refused_in_time(me: Caller) -> None:
    """The same without a length."""
    connection = await slow(me)
    try:
        await connection.send(head(me, length=None) + b'7\r\n{"a":1}\r\n')
        answer = await connection.answer()
        answer.problem(400, "malformed-request")
        assert (await me.get()).revision == 0
    finally:
        connection.close()


async def test_a_slow_body_without_a_good_token_holds_nobody_up(me: Caller) -> None:
    """Whoever is refused need not send the body, and is answered all the same; others are served meanwhile."""
    connections = [await slow(me) for _ in range(4)]
    try:
        for connection in connections:
            await connection.send(head(me, length=1_000, token="bad") + b"{")
        async with asyncio.timeout(PATIENCE):
            (await me.get()).ok()
            for connection in connections:
                (await connection.answer()).problem(401, "unauthenticated")
    finally:
        for connection in connections:
            connection.close()


async def test_a_body_that_comes_slowly_and_in_time_is_taken(me: Caller) -> None:
    """The limit is for the whole body, and does not end it before."""
    connection = await slow(me)
    try:
        await connection.send(head(me, length=7))
        for byte in b'{"a":1}':
            await connection.send(bytes([byte]))
            await asyncio.sleep(LIMIT / 100)
        assert (await connection.answer()).ok() == {"a": 1}
    finally:
        connection.close()


async def test_a_body_that_is_there_costs_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is set for a body that need not be waited for."""

    async def read(limit: int) -> bytes:
        return b"{}"[:limit]

    def refuse(*_: Any) -> None:
        raise AssertionError("a timer was set")

    monkeypatch.setattr(asyncio, "timeout", refuse)

    async def gone() -> None:
        await asyncio.sleep(0)

    assert await read_body(HttpRequest("PUT", "", b"", {}, "", read, gone), 10) == b"{}"
