"""What realtime costs: one change to many sessions, the lag of many writes, memory, and a storm of reconnects."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Final

import httpx2
import psutil
import uvloop

from tests.bench.listeners import EventListener, Listener, SocketListener, connect_all

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from tests.bench.crowd import Crowd
    from tests.bench.stage import Stage

__all__ = ["KINDS", "Fanout", "Row"]

_HOST: Final = "127.0.0.1"
_PATIENCE: Final = 60.0

_SESSIONS: Final = 1_000
_LAG_USERS: Final = 10
_LAG_SESSIONS: Final = 50
_LAG_RATE: Final = 60
_STORM_USERS: Final = 200
_STORM_SESSIONS: Final = 10

KINDS: Final = {"ws": "WebSocket", "events": "server-sent events"}
"""Of sessions: the last part of the path, and what people call them."""

_PATHS: Final = {"prefsync": "/preferences", "broadcast": ""}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report.

    Attributes:
        what: What was measured.
        unit: Of the figures.
        work: prefsync's.
        floor: The bare server's, in the same run.
        limit: What ``work / floor`` may be at most; with ``is_absolute``, what ``work`` itself may be.
        is_absolute: See ``limit``.
    """

    what: str
    unit: str
    work: list[float]
    floor: list[float] = field(default_factory=list)
    limit: float | None = None
    is_absolute: bool = False

    @property
    def ratio(self) -> float | None:
        """The work's median over the floor's."""
        return median(self.work) / median(self.floor) if self.floor else None

    @property
    def reached(self) -> bool:
        """Whether the figure is as good as it has to be."""
        measured = median(self.work) if self.is_absolute else self.ratio
        return self.limit is None or measured is None or measured <= self.limit


class Fanout:
    """Measures on running servers.

    Args:
        stage: The servers.
        crowd: Who signs tokens.
        progress: Told what is going on.
    """

    def __init__(self, stage: Stage, crowd: Crowd, progress: Callable[[str], None]) -> None:
        self._servers = stage.servers
        self._crowd = crowd
        self._progress = progress
        self._values = itertools.count(8)

    def spread(self, kind: str, rounds: int) -> list[Row]:
        """Measure one change to many sessions, and what they cost while nothing happens.

        Args:
            kind: Of sessions; one of ``KINDS``.
            rounds: Ten changes each.
        """
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(self._spread(kind, rounds))

    def lag(self, seconds: float) -> list[Row]:
        """Measure how long changes take to those who wait for them."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(self._lags(seconds))

    def storm(self, statements: Callable[[], int]) -> list[Row]:
        """Measure how sessions that were cut come back.

        Args:
            statements: Reads how many statements the database was sent so far.
        """
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(self._storm(statements))

    async def _spread(self, kind: str, rounds: int) -> list[Row]:
        times: dict[str, list[float]] = {"broadcast": [], "prefsync": []}
        memory: dict[str, list[float]] = {"broadcast": [], "prefsync": []}
        async with AsyncExitStack() as stack:
            sides = {}
            for name in times:
                self._progress(f"{KINDS[kind]}: {_SESSIONS} sessions, {name}")
                sides[name] = await stack.enter_async_context(
                    self._connected(name, kind, [0] * _SESSIONS, memory[name])
                )
            for _ in range(10 * rounds):  # in turns: machines are never quiet
                for name, listeners in sides.items():
                    times[name].append(await self._one_to_all(name, listeners) * 1e3)
                    await asyncio.sleep(0.02)
        what = f"one change to {_SESSIONS} sessions, {KINDS[kind]}"
        return [
            Row(what, "ms", times["prefsync"], times["broadcast"], 1.5),
            Row(f"an idle session, {KINDS[kind]}", "KiB", memory["prefsync"], memory["broadcast"], 1.5),
        ]

    async def _lags(self, seconds: float) -> list[Row]:
        lags: dict[str, list[float]] = {}
        for name in ("broadcast", "prefsync"):
            self._progress(f"lag at {_LAG_RATE} writes a second, {name}")
            lags[name] = await self._lag(name, seconds)
        what = f"PUT to event, {_LAG_USERS} users x {_LAG_SESSIONS} sessions, {_LAG_RATE} PUT/s"
        ours, bare = lags["prefsync"], lags["broadcast"]
        return [
            Row(f"{what}, p50", "ms", [_at(ours, 0.5)], [_at(bare, 0.5)]),
            Row(f"{what}, p99", "ms", [_at(ours, 0.99)], [_at(bare, 0.99)], limit=10, is_absolute=True),
        ]

    @asynccontextmanager
    async def _connected(
        self, name: str, kind: str, users: Sequence[int], memory: list[float] | None = None
    ) -> AsyncIterator[list[Listener]]:
        server = self._servers[name]
        process = psutil.Process(server.pid)
        path = f"{_PATHS[name]}/{kind}"
        make = SocketListener if kind == "ws" else EventListener
        listeners: list[Listener] = [make(path, self._token(user)) for user in users]
        few, rest = listeners[:50], listeners[50:]
        await connect_all(server.port, few)  # what is allocated once is not counted
        before = process.memory_info().rss
        await connect_all(server.port, rest)
        await asyncio.sleep(1)
        if memory is not None:
            memory.append((process.memory_info().rss - before) / len(rest) / 1024)
        try:
            yield listeners
        finally:
            for listener in listeners:
                listener.transport.abort()
            await asyncio.sleep(0.5)

    def _token(self, user: int) -> str:
        return self._crowd.token(f"bench-{user}")

    async def _write(self, client: httpx2.AsyncClient, name: str, user: int) -> int:
        """Make one change, and return its revision; the bare server sends the same bytes."""
        if name == "broadcast":
            revision = time.time_ns() // 1_000_000
            change = {
                "type": "change",
                "revision": revision,
                "previous": revision - 5,
                "at": "2026-11-23T03:05:46.007Z",
                "origin": None,
                "changed": {"appearance": {"font_size": next(self._values) % 60 + 8}},
                "removed": {},
            }
            answer = await client.post("/broadcast", content=json.dumps(change, separators=(",", ":")))
        else:
            body = {"appearance": {"font_size": next(self._values) % 60 + 8}}
            answer = await client.patch(
                "/preferences", json=body, headers={"authorization": f"Bearer {self._token(user)}"}
            )
            revision = int(answer.headers["prefsync-revision"])
        answer.raise_for_status()
        return revision

    def _client(self, name: str) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(base_url=f"http://{_HOST}:{self._servers[name].port}", trust_env=False)

    async def _one_to_all(self, name: str, listeners: list[Listener]) -> float:
        """Return the seconds from sending a write until every session has it."""
        missing = len(listeners)
        everybody = asyncio.get_running_loop().create_future()
        last = 0.0

        def have(_revision: int, now: float) -> None:
            nonlocal missing, last
            missing, last = missing - 1, now
            if not missing:
                everybody.set_result(None)

        for listener in listeners:
            listener.on_change = have
        async with self._client(name) as client:
            await client.get("/preferences" if name == "prefsync" else "/")  # the connection is there already
            begin = time.perf_counter()
            await self._write(client, name, 0)
            async with asyncio.timeout(_PATIENCE):
                await everybody
        return last - begin

    async def _lag(self, name: str, seconds: float) -> list[float]:
        """Return the seconds, in ms, that each event took from the sending of its write."""
        users = [user for user in range(_LAG_USERS) for _ in range(_LAG_SESSIONS)]
        lags: list[float] = []
        begun: dict[int, float] = {}
        came: dict[int, list[float]] = {}

        def have(revision: int, now: float) -> None:
            came.setdefault(revision, []).append(now)

        async with self._connected(name, "ws", users) as listeners, self._client(name) as client:
            for listener in listeners:
                listener.on_change = have
            begin = time.perf_counter()
            tasks: list[asyncio.Task[None]] = []

            async def write(user: int) -> None:
                sent = time.perf_counter()
                begun[await self._write(client, name, user)] = sent

            for number in range(int(seconds * _LAG_RATE)):
                await asyncio.sleep(max(0.0, begin + number / _LAG_RATE - time.perf_counter()))
                tasks.append(asyncio.create_task(write(number % _LAG_USERS)))
            await asyncio.gather(*tasks)
            await asyncio.sleep(0.5)
        for revision, sent in begun.items():
            lags += [(now - sent) * 1e3 for now in came.get(revision, [])]
        return lags

    async def _storm(self, statements: Callable[[], int]) -> list[Row]:
        users = [user for user in range(_STORM_USERS) for _ in range(_STORM_SESSIONS)]
        self._progress(f"a storm of {len(users)} sessions")
        async with self._client("prefsync") as client:
            for user in range(_STORM_USERS):
                await self._write(client, "prefsync", user)
        port = self._servers["prefsync"].port
        async with self._connected("prefsync", "ws", users) as listeners:
            revisions = {user: listener.revision for user, listener in zip(users, listeners, strict=True)}
            for listener in listeners:
                listener.transport.abort()
            idle = statements()
            await asyncio.sleep(2)
            idle = (statements() - idle) / 2  # what the process asks of its own accord, a second
            before, begin = statements(), time.perf_counter()
            back = [SocketListener("/preferences/ws", self._token(user), revisions[user]) for user in users]
            pauses = random.Random(1)

            async def come_back(listener: SocketListener) -> None:
                await asyncio.sleep(pauses.uniform(0, 1))  # as clients do: full jitter
                await connect_all(port, [listener])

            await asyncio.gather(*map(come_back, back))
            took, asked = time.perf_counter() - begin, statements() - before
            asked -= idle * took
            for listener in back:
                listener.transport.abort()
        return [
            Row(f"{len(users)} sessions cut and back", "s", [took], limit=30, is_absolute=True),
            Row("... database statements a user", "", [asked / _STORM_USERS], limit=1, is_absolute=True),
        ]


def _at(values: list[float], part: float) -> float:
    return sorted(values)[int(len(values) * part)]
