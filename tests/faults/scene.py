"""Users whom clients and sessions of all kinds follow through whatever happens, and a verdict on it at the end."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self, TypeVar

from tests.faults.asking import log_of, seed, state, until
from tests.faults.client import PACE, Client
from tests.faults.follower import KINDS, LOST, Follower
from tests.faults.history import Reset, faults_of_history, faults_of_session, lags
from tests.faults.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from types import TracebackType

    from tests.faults.history import Change

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds for what has to happen, on a machine that is busy with other tests."""


@dataclass
class Verdict:
    """What came of it.

    Attributes:
        acknowledged: Writes that were.
        unknown: Writes of which nobody can know.
        done: Those of them that were done.
        repeated: Writes that were repeated under their key, because nobody could know.
        refused: Writes that were refused by their condition.
        missing: Acknowledged writes that are not in the feed.
        reads: Answered reads.
        marked: Those of them that said that they may be old.
        lag: Seconds that the oldest other read was behind.
        answers: Statuses by method; 0 where none came.
        slowest: Seconds that the slowest answer took.
        events: What sessions were told.
        rejoined: How often they lost their connection.
        faults: What is wrong.
    """

    acknowledged: int = 0
    unknown: int = 0
    done: int = 0
    repeated: int = 0
    refused: int = 0
    missing: int = 0
    reads: int = 0
    marked: int = 0
    lag: float = 0.0
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    slowest: float = 0.0
    events: int = 0
    rejoined: int = 0
    faults: list[str] = field(default_factory=list)

    def add(self, other: Verdict) -> None:
        """Count another one with this."""
        for name in (
            "acknowledged",
            "unknown",
            "done",
            "repeated",
            "refused",
            "missing",
            "reads",
            "marked",
            "events",
            "rejoined",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.lag = max(self.lag, other.lag)
        self.slowest = max(self.slowest, other.slowest)
        self.answers += other.answers
        self.faults += other.faults

    def __str__(self) -> str:
        """Return the figures in one line."""
        return (
            f"acked {self.acknowledged:5}  unknown {self.unknown:3} ({self.done:3} done)"
            f"  repeated {self.repeated:2}  missing {self.missing}"
            f"  reads {self.reads:5} ({self.marked} marked)  lag {self.lag:.2f} s  slowest {self.slowest:.2f} s"
            f"  told {self.events:6}  rejoined {self.rejoined:3}  faults {len(self.faults)}"
        )


class Scene:
    """Some users, each with clients that read and write, one that repeats its writes, and one session over each transport.

    An async context manager: all is going on when it is entered.

    Args:
        bases: The servers' URLs.
        name: Begins the users' names.
        users: How many.
        clients: How many each has.
        pace: Seconds between two requests of one of them.
        first: Where the numbers of what they write begin, where users come a second time.
    """

    def __init__(
        self,
        bases: Sequence[str],
        name: str,
        users: int = 2,
        clients: int = 3,
        pace: float = PACE,
        first: int = 0,
    ) -> None:
        self._bases = bases
        self._users = [f"{name}-{number}" for number in range(users)]
        self.clients = {
            user: [Client(bases, user, one, pace, first) for one in range(clients)] for user in self._users
        }
        self.writers = {user: Writer(bases, user, "ws", first) for user in self._users}
        self.followers = {
            user: [Follower(bases[(at + one) % len(bases)], user, kind) for one, kind in enumerate(KINDS)]
            for at, user in enumerate(self._users)
        }
        self._starts: dict[str, Reset] = {}
        self._working: list[asyncio.Task[None]] = []
        self._following: list[asyncio.Task[None]] = []

    @property
    def acknowledged(self) -> int:
        """How many writes have been so far."""
        return sum(one.acknowledged for one in self._actors)

    @property
    def users(self) -> list[str]:
        """Their names."""
        return self._users

    @property
    def _actors(self) -> list[Client | Writer]:
        return [*(client for mine in self.clients.values() for client in mine), *self.writers.values()]

    async def __aenter__(self) -> Self:
        self._starts = {user: await seed(self._bases[0], user) for user in self._users}
        followers = [one for mine in self.followers.values() for one in mine]
        self._following = [asyncio.create_task(one.run()) for one in followers]
        await self._until_so(lambda: all(one.connections for one in followers))
        self._working = [asyncio.create_task(one.run()) for one in self._actors]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [*self._working, *self._following]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def more_writes(self, number: int) -> None:
        """Return when so many more writes have been acknowledged."""
        wanted = self.acknowledged + number
        await self._until_so(lambda: self.acknowledged >= wanted)

    async def noticed(self) -> None:
        """Return when all clients have noticed that something is down, and one was shown what may be old."""
        clients = [client for mine in self.clients.values() for client in mine]
        before = {client: (client.troubled, client.marked) for client in clients}
        await self._until_so(
            lambda: (
                all(client.troubled >= before[client][0] + 2 for client in clients)
                and any(client.marked > before[client][1] for client in clients)
            )
        )

    async def _until_so(self, true: Callable[[], bool]) -> None:
        """Wait for something; what went wrong in a client or session meanwhile is raised here."""

        def so() -> bool:
            for task in (*self._working, *self._following):
                if task.done() and not task.cancelled():
                    task.result()
            return true()

        await until(so, PATIENCE)

    async def verdict(self, lag: float = 0.0) -> Verdict:
        """Stop the clients, let the sessions catch up, and judge.

        Args:
            lag: Seconds that a read may be behind.
        """
        for one in self._actors:
            one.stop()
        await asyncio.wait_for(asyncio.gather(*self._working), PATIENCE)
        self._working = []
        verdict = Verdict()
        for user in self._users:
            await self._judge(user, verdict, lag)
        return verdict

    async def _judge(self, user: str, verdict: Verdict, lag: float) -> None:
        log, final = await self._end_of(user)
        clients, followers = self.clients[user], self.followers[user]
        writes = [write for one in (*clients, self.writers[user]) for write in one.writes]
        reads = [read for client in clients for read in client.reads]
        found = faults_of_history(writes, reads, self._starts[user], log, final, lag=lag)
        found += [wrong for client in clients for wrong in client.wrong]
        for follower in followers:
            found += [f"{follower.name}: {fault}" for fault in faults_of_session(follower.events, final)]
        acknowledged = sum(write.revision is not None for write in writes)
        refused = sum(write.is_refused for write in writes)
        missing = sum(fault.startswith("missing") for fault in found)
        verdict.add(
            Verdict(
                acknowledged=acknowledged,
                unknown=len(writes) - acknowledged - refused,
                done=len(log) - acknowledged + missing,
                repeated=self.writers[user].indeterminate,
                refused=refused,
                missing=missing,
                reads=len(reads),
                marked=sum(client.marked for client in clients),
                lag=max((behind for _, behind in lags(writes, reads)), default=0.0),
                answers=sum((client.answers for client in clients), Counter()),
                slowest=max(client.slowest for client in clients),
                events=sum(len(one.events) for one in followers),
                rejoined=sum(one.connections - 1 for one in followers),
                faults=[f"{user}: {fault}" for fault in found],
            )
        )

    async def _end_of(self, user: str) -> tuple[list[Change], Reset]:
        """Return the feed and the state where all sessions have caught up with it, and nothing comes any more.

        A write of which nobody knows may be done a little after its client was cut off.
        """
        start = self._starts[user]
        log = await _patiently(lambda: log_of(self._bases[0], user, start.revision))
        while True:
            newest = log[-1].revision if log else start.revision
            await self._until_so(lambda: all(one.position >= newest for one in self.followers[user]))  # noqa: B023
            final = await _patiently(lambda: state(self._bases[-1], user, newest))  # noqa: B023
            before, log = log, await _patiently(lambda: log_of(self._bases[0], user, start.revision))
            if before == log and final.revision == newest:
                return log, final


async def _patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until there is an answer: the last fault may be over only just now."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return await ask()
        except LOST:
            assert time.monotonic() < deadline, f"no answer within {PATIENCE} s"
            await asyncio.sleep(0.05)
