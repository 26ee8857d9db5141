"""Sessions of all kinds that note how the server ended them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import ssl
import time
from typing import TYPE_CHECKING, Self

import httpx2
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from prefsync.testing.mount import KEY
from prefsync.testing.mount.callers import BOTH, mint

if TYPE_CHECKING:
    from collections import Counter
    from types import TracebackType

# Made once: loading the machine's certificates takes longer than all that a test does.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

LIMIT = 60.0
"""Seconds for what should happen in one; a busy machine deserves patience."""


def headers_of(user: str) -> dict[str, str]:
    """Return the headers with which a user sends JSON."""
    token = mint({"sub": user, "exp": int(time.time()) + 3_600, "scope": BOTH}, key=KEY)
    return {"authorization": f"Bearer {token}", "content-type": "application/json"}


def http_client(base: str) -> httpx2.AsyncClient:
    """Return a client of a server's mount, with as many connections as are needed."""
    return httpx2.AsyncClient(
        base_url=f"{base}/preferences",
        verify=NO_TLS,
        trust_env=False,
        timeout=httpx2.Timeout(LIMIT, read=90),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
    )


class Crowd:
    """Sessions of many users at one server.

    Args:
        base: The server's URL.
        size: How many sessions there are of each kind.
        ends: Where to count how they ended, by kind and way.

    Attributes:
        told: Set when the first of them has been told that the server goes away.
    """

    PER_USER = 10
    GOOD = {"ws": "1001 going-away", "sse": "bye going-away", "poll": "200 empty"}

    def __init__(self, base: str, size: int, ends: Counter[tuple[str, str]]) -> None:
        self._base = base
        self._size = size
        self._ends = ends
        self._ready = asyncio.Semaphore(0)
        self._tasks: list[asyncio.Task[None]] = []
        self._client = http_client(base)
        self.told = asyncio.Event()

    async def __aenter__(self) -> Self:
        name = f"crowd-{secrets.token_hex(8)}"  # of whom no other test has stored anything
        for number in range(self._size):
            headers = headers_of(f"{name}-{number // self.PER_USER}")
            for follow in (self._web_socket, self._events, self._long_poll):
                self._tasks.append(asyncio.create_task(follow(headers)))
            if number % self.PER_USER == self.PER_USER - 1:
                await self._arrive(3 * self.PER_USER)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()

    async def _arrive(self, number: int) -> None:
        async with asyncio.timeout(LIMIT):
            for _ in range(number):
                await self._ready.acquire()

    async def all_ended(self) -> None:
        """Return when every session has ended."""
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(*self._tasks)

    def _end(self, kind: str, way: str) -> None:
        self._ends[kind, way] += 1
        if way == self.GOOD[kind]:
            self.told.set()

    async def _web_socket(self, headers: dict[str, str]) -> None:
        async with open_web_socket(self._base, headers) as socket:
            await socket.send('{"type":"hello"}')
            assert json.loads(await socket.recv())["type"] == "reset"
            self._ready.release()
            try:
                while json.loads(await socket.recv())["type"] == "heartbeat":
                    continue
            except ConnectionClosed as closed:
                frame = closed.rcvd
                self._end("ws", f"{frame.code} {frame.reason}" if frame else "cut")
            else:
                self._end("ws", "something else came")

    async def _events(self, headers: dict[str, str]) -> None:
        last = "nothing"
        try:
            async with self._client.stream("GET", "/events", headers=headers) as response:
                assert response.status_code == 200, await response.aread()
                async for line in response.aiter_lines():
                    if line.startswith("event: reset"):
                        self._ready.release()
                    if line.startswith("event: "):
                        last = line.removeprefix("event: ")
                    elif line.startswith("data: ") and last == "bye":
                        last = f"bye {json.loads(line.removeprefix('data: '))['reason']}"
        except httpx2.TransportError as error:
            last += f", then {type(error).__name__}"
        self._end("sse", last)

    async def _long_poll(self, headers: dict[str, str]) -> None:
        self._ready.release()
        try:
            response = await self._client.get("/changes?since=0&wait=60", headers=headers)
        except httpx2.TransportError as error:
            self._end("poll", type(error).__name__)
            return
        empty = response.status_code == 200 and response.json()["changes"] == []
        self._end("poll", "200 empty" if empty else f"{response.status_code} {response.text[:80]}")


def open_web_socket(base: str, headers: dict[str, str]) -> connect:
    """Return the connection of a WebSocket at a server's mount, to be entered."""
    return connect(
        f"{base.replace('http', 'ws', 1)}/preferences/ws",
        additional_headers={"authorization": headers["authorization"]},
        subprotocols=["prefsync.v1"],  # type: ignore[list-item]
        proxy=None,
        compression=None,
        ping_interval=None,
        open_timeout=LIMIT,
        close_timeout=LIMIT,
    )


async def try_to_open(base: str, user: str) -> dict[str, str]:
    """Try to open a stream of each kind, and return how the server took it."""
    headers, answers = headers_of(user), {}
    async with http_client(base) as client:
        try:
            async with client.stream("GET", "/events", headers=headers) as response:
                answers["sse"] = str(response.status_code)
        except httpx2.TransportError:
            answers["sse"] = "no connection"
    answers["ws"] = "no connection"
    with contextlib.suppress(OSError, EOFError, TimeoutError):
        try:
            async with open_web_socket(base, headers):
                answers["ws"] = "101"
        except InvalidStatus as refusal:
            answers["ws"] = str(refusal.response.status_code)
        except ConnectionClosed:
            answers["ws"] = "closed"
    return answers
