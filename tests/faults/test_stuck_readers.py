"""Clients that read nothing of what they are sent, at real servers: they cost a bounded memory, and not for long."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from anyio.to_thread import run_sync

from prefsync.testing.mount import KEY
from prefsync.testing.realtime.members import Member
from prefsync.testing.realtime.wire import WebSocket, upgrade
from tests.faults.crowd import LIMIT, http_client
from tests.faults.test_drain import GONE_WITHIN, GUNICORN, ROOT, UVICORN
from tests.realtime.conftest import client_of
from tests.servers import ServerProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from prefsync.testing.realtime.members import Feed

pytestmark = pytest.mark.once

SERVERS = {
    "uvicorn": UVICORN,
    "gunicorn, its own worker": f"{GUNICORN} --worker-class asgi",
}

PATIENCE = 3
"""Seconds that the server has for those that take nothing, instead of 30."""

TOLD_WITHIN = 5.0
"""Seconds until those that read are told of a change, on a busy machine too."""

WRITES = 60
"""Changes of 120 KB: twice what the system's buffers take, and more than enough where nothing is folded."""

GROWTH = 24 * 2**20
"""Bytes by which the server may grow meanwhile; the changes themselves would be 21 MB for three sessions."""


@asynccontextmanager
async def running(command: str, folder: Path, **environment: str) -> AsyncIterator[ServerProcess]:
    """Run the app."""
    settings = {
        "PREFSYNC_DATABASE_URL": f"sqlite:///{folder / 'prefsync.sqlite3'}",
        "PREFSYNC_RATE_LIMIT": "100000/minute",
        "PREFSYNC_JWT_KEY": KEY,
        "HOME": str(folder),  # where gunicorn leaves a socket
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]),
        **environment,
    }
    process = ServerProcess([sys.executable, *command.split()], settings, path="/open")
    await run_sync(process.__enter__)
    try:
        yield process
    finally:
        await run_sync(process.__exit__)


async def deaf(stack: AsyncExitStack, me: Member) -> list[int]:
    """Open a session over each transport that reads nothing but its beginning, and return their ports."""
    feeds: list[Feed] = [
        await stack.enter_async_context(me.follow(transport, since=0, receive_buffer=4_096))
        for transport in ("websocket", "events")
    ]
    by_socket_io = await me.client.connect(receive_buffer=4_096)
    stack.callback(by_socket_io.close)
    target = me.client.target("/socket.io/", "EIO=4&transport=websocket")
    await by_socket_io.send(upgrade(target, me.client.authority, [], []))
    assert (await by_socket_io.answer()).status == 101
    await WebSocket(by_socket_io).send("40/preferences," + json.dumps({"token": me.token, "since": 0}))
    async with asyncio.timeout(LIMIT):
        await by_socket_io.reader.readuntil(b'["welcome"')
    return [feed.source.connection.port for feed in feeds] + [by_socket_io.port]


def ports(process: ServerProcess) -> set[int]:
    """Return the ports from which clients are connected to a server."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    return {one.raddr.port for each in family for one in each.net_connections() if one.raddr}


async def count_open(server: ServerProcess) -> int:
    """Return how many sessions the server has."""
    async with http_client(server.url) as client:
        number: int = (await client.get(f"{server.url}/open")).json()["open"]
    return number


def large(n: int) -> dict[str, Any]:
    """Return a patch of about 120 KB that is like no other."""
    return {f"k{part}": f"{n}-" + "x" * 15_000 for part in range(8)}


async def test_whoever_takes_nothing_is_cut(tmp_path: Path, report: Callable[[str], None]) -> None:
    """Their places are free again, their connections and what waited for them are gone; others wait for nobody."""
    cap = {"PREFSYNC_MAX_SESSIONS_PER_SUBJECT": "4", "FAULTS_PATIENCE": str(PATIENCE)}
    async with running(UVICORN, tmp_path, **cap) as server, AsyncExitStack() as stack:
        client = await stack.enter_async_context(client_of(server))
        me = Member(client)
        healthy = await stack.enter_async_context(me.follow("websocket", await me.state()))
        theirs = await deaf(stack, me)
        assert ports(server) >= set(theirs)
        (await me.get("/events")).problem(503, "unavailable")
        before = client.memory()
        slowest = most = 0.0
        started = time.monotonic()
        for n in range(WRITES):
            revision = (await me.patch("/plugins", large(n))).revision
            wrote = time.monotonic()
            assert (await healthy.change())["revision"] == revision
            slowest = max(slowest, time.monotonic() - wrote)
            most = max(most, client.memory() - before)
        async with asyncio.timeout(LIMIT):
            while await count_open(server) > 1 or ports(server) & set(theirs):
                await asyncio.sleep(0.05)
        took = time.monotonic() - started
        report(
            f"three sessions that take nothing: cut after {took:.1f} s (patience {PATIENCE} s), the process grew by"
            f" {most / 2**20:.0f} MiB, another session was told within {slowest:.2f} s"
        )
        assert (
            took > PATIENCE / 2
        )  # the server looks at the clock once a second, and when it is busy less often
        assert most < GROWTH
        assert slowest < TOLD_WITHIN
        for transport in ("websocket", "events", "events"):
            feed = await stack.enter_async_context(me.follow(transport))
            assert await feed.reset() == await me.state()
        (await me.get("/events")).problem(503, "unavailable")
        revision = (await me.patch("/plugins", {"last": 1})).revision
        assert (await healthy.change())["revision"] == revision
        assert "ERROR" not in server.output


@pytest.mark.parametrize("name", SERVERS)
async def test_whoever_takes_nothing_holds_up_no_end(
    name: str, tmp_path: Path, report: Callable[[str], None]
) -> None:
    """A server that is asked to end while it has such sessions is gone as soon as with any others."""
    async with running(SERVERS[name], tmp_path) as server, AsyncExitStack() as stack:
        client = await stack.enter_async_context(client_of(server))
        me = Member(client)
        await deaf(stack, me)
        for n in range(WRITES):
            (await me.patch("/plugins", large(n))).ok()
        assert await count_open(server) == 3
        started = time.monotonic()
        os.kill(server.pid, signal.SIGTERM)
        await run_sync(server._process.wait, LIMIT)
        took = time.monotonic() - started
        report(f"{name:26} with three sessions that take nothing: gone {took:.2f} s after SIGTERM")
        assert took < GONE_WITHIN
