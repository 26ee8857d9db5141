"""What realtime costs: one change to many sessions, the lag of many writes, memory, and a storm of reconnects."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING, Final

import httpx2
import psutil
import uvloop

from tests.bench.listeners import EventListener, Listener, SocketIoListener, SocketListener, connect_all
from tests.bench.meters import cpu_seconds
from tests.bench.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from tests.bench.crowd import Crowd
    from tests.bench.stage import Stage

__all__ = ["KINDS", "Fanout", "Row"]

_HOST: Final = "127.0.0.1"
_PATIENCE: Final = 60.0

_SESSIONS: Final = 1_000
_CHANGES: Final = 10
_LAG_USERS: Final = 10
_LAG_SESSIONS: Final = 50
_LAG_RATE: Final = 60
_STORM_USERS: Final = 200
_STORM_SESSIONS: Final = 10


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of sessions.

    Attributes:
        label: What people call it.
        path: Below the mount.
        listener: A client of it.
        floor: The server that it is measured beside.
        beside: What people call that.
        limit: What a change may take, in multiples of what the floor takes.
        cpu_limit: The same of processor time.
    """

    label: str
    path: str
    listener: Callable[[str, str], Listener]
    floor: str = "broadcast"
    beside: str = "a bare broadcast"
    limit: float = 1.3
    cpu_limit: float | None = None


KINDS: Final = {
    "ws": Kind("WebSocket", "/ws", SocketListener),
    "events": Kind("server-sent events", "/events", EventListener),
    "socketio": Kind(
        "Socket.IO",
        "/socket.io/?EIO=4&transport=websocket",
        SocketIoListener,
        floor="rooms",
        beside="bare python-socketio",
        limit=1.0,
        cpu_limit=1.0,
    ),
}


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
        beside: What the floor is.
        each_round: Figures of one round, of those that were measured in turns.
    """

    what: str
    unit: str
    work: list[float]
    floor: list[float] = field(default_factory=list)
    limit: float | None = None
    is_absolute: bool = False
    beside: str = "the bare one"
    each_round: int = 1

    @property
    def ratios(self) -> list[float]:
        """The work's median over the floor's, round by round."""
        return [
            median(self.work[begin : begin + self.each_round])
            / median(self.floor[begin : begin + self.each_round])
            for begin in range(0, len(self.floor), self.each_round)
        ]

    @property
    def ratio(self) -> float | None:
        """Their median."""
        return median(self.ratios) if self.floor else None

    @property
    def outcomes(self) -> list[Outcome]:
        """What was asked of it, if anything was, and what was found."""
        if self.limit is None:
            return []
        found, unit = (self.work, self.unit) if self.is_absolute else (self.ratios, f"times {self.beside}")
        outcome = Outcome.at_most(self.what, self.limit, unit, found)
        return [replace(outcome, target=outcome.target.rstrip())]

    @property
    def reached(self) -> bool:
        """Whether the figure is as good as it has to be."""
        return all(outcome.reached for outcome in self.outcomes)


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
        self._revisions = itertools.count(time.time_ns() // 1_000_000)

    def spread(self, kind: str, rounds: int) -> list[Row]:
        """Measure one change to many sessions, and what they cost while nothing happens.

        Args:
            kind: Of sessions; one of ``KINDS``.
            rounds: Of ``_CHANGES`` each.
        """
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(self._spread(KINDS[kind], rounds))

    def lag(self, seconds: float) -> list[Row]:
        """Measure how long changes take to those who wait for them."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(self._lags(seconds))

    def storm(self, statements: Callable[[], int]) -> list[Row]:
        """Measure how sessions that were cut come back.

        Args:
            statements: Reads how many statements the database was sent so far; what a process asks of its own
                accord is not among them.
        """
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(self._storm(statements))

    async def _spread(self, kind: Kind, rounds: int) -> list[Row]:
        times: dict[str, list[float]] = {kind.floor: [], "prefsync": []}
        memory: dict[str, list[float]] = {name: [] for name in times}
        cpu: dict[str, list[float]] = {name: [] for name in times}
        async with AsyncExitStack() as stack:
            sides = {}
            for name in times:
                self._progress(f"{kind.label}: {_SESSIONS} sessions, {name}")
                sides[name] = await stack.enter_async_context(
                    self._connected(name, kind, [0] * _SESSIONS, memory[name])
                )
            for _ in range(_CHANGES * rounds):  # in turns: machines are never quiet
                for name, listeners in sides.items():
                    before = self._cpu(name)
                    times[name].append(await self._one_to_all(name, listeners) * 1e3)
                    await asyncio.sleep(0.02)
                    cpu[name].append((self._cpu(name) - before) / _SESSIONS * 1e6)
        return [
            Row(
                f"{kind.label}: {what}",
                unit,
                figures["prefsync"],
                figures[kind.floor],
                limit,
                beside=kind.beside,
                each_round=_CHANGES,
            )
            for what, unit, figures, limit in (
                (f"one change to {_SESSIONS:,} sessions", "ms", times, kind.limit),
                ("processor time of that, a session", "µs", cpu, kind.cpu_limit),
                ("an idle session", "KiB", memory, 1.3),
            )
        ]

    def _cpu(self, name: str) -> float:
        return cpu_seconds(self._servers[name].pid)

    async def _lags(self, seconds: float) -> list[Row]:
        lags: dict[str, list[float]] = {}
        for name in ("broadcast", "prefsync"):
            self._progress(f"lag at {_LAG_RATE} writes a second, {name}")
            lags[name] = await self._lag(name, seconds)
        what = f"PUT to event, {_LAG_USERS} users x {_LAG_SESSIONS} sessions, {_LAG_RATE} PUT/s"
        ours, bare = lags["prefsync"], lags["broadcast"]
        return [
            Row(f"{what}, p50", "ms", [_at(ours, 0.5)], [_at(bare, 0.5)]),
            Row(
                f"{what}, p99",
                "ms",
                [_at(ours, 0.99)],
                [_at(bare, 0.99)],
                limit=2,
                beside="a bare relay of the same bytes",
            ),
        ]

    @asynccontextmanager
    async def _connected(
        self, name: str, kind: Kind, users: Sequence[int], memory: list[float] | None = None
    ) -> AsyncIterator[list[Listener]]:
        server = self._servers[name]
        process = psutil.Process(server.pid)
        listeners = [kind.listener(self._path(name, kind, user), self._token(user)) for user in users]
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

    def _path(self, name: str, kind: Kind, user: int) -> str:
        if name == "prefsync":
            return f"/preferences{kind.path}"
        return f"{kind.path}?room={user}" if name == "broadcast" else kind.path

    def _token(self, user: int) -> str:
        return self._crowd.token(f"bench-{user}")

    async def _write(self, client: httpx2.AsyncClient, name: str, user: int) -> int:
        """Make one change, and return its revision; the bare server sends the same bytes."""
        if name != "prefsync":
            revision = next(self._revisions)
            change = {
                "type": "change",
                "revision": revision,
                "previous": revision - 5,
                "at": "2026-11-23T03:05:46.007Z",
                "origin": None,
                "changed": {"appearance": {"font_size": next(self._values) % 60 + 8}},
                "removed": {},
            }
            body = json.dumps(change, separators=(",", ":"))
            answer = await client.post("/broadcast", content=body, params={"room": user})
        else:
            answer = await client.put(
                "/preferences/appearance",
                json={"font_size": next(self._values) % 60 + 8},
                headers={"authorization": f"Bearer {self._token(user)}"},
            )
            revision = int(answer.headers["prefsync-revision"])
        answer.raise_for_status()
        return revision

    def _client(self, name: str) -> httpx2.AsyncClient:
        url = f"http://{_HOST}:{self._servers[name].port}"
        return httpx2.AsyncClient(base_url=url, trust_env=False, timeout=_PATIENCE)

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

        async with self._connected(name, KINDS["ws"], users) as listeners, self._client(name) as client:
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
        async with self._connected("prefsync", KINDS["ws"], users) as listeners:
            revisions = {user: listener.revision for user, listener in zip(users, listeners, strict=True)}
            for listener in listeners:
                listener.transport.abort()
            await asyncio.sleep(2)  # all that were cut are known to be gone
            before, begin = statements(), time.perf_counter()
            back = [SocketListener("/preferences/ws", self._token(user), revisions[user]) for user in users]
            pauses = random.Random(1)

            async def come_back(listener: SocketListener) -> None:
                await asyncio.sleep(pauses.uniform(0, 1))  # as clients do: full jitter
                await connect_all(port, [listener])

            await asyncio.gather(*map(come_back, back))
            took, asked = time.perf_counter() - begin, statements() - before
            for listener in back:
                listener.transport.abort()
        return [
            Row(f"{len(users):,} sessions cut and back", "s", [took], limit=30, is_absolute=True),
            Row(
                f"{len(users):,} sessions cut and back: statements a user",
                "",
                [asked / _STORM_USERS],
                limit=1,
                is_absolute=True,
            ),
        ]


def _at(values: list[float], part: float) -> float:
    return sorted(values)[int(len(values) * part)]
