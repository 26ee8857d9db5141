"""Everything at once, for long: ``python -m tests.faults.soak 10`` for ten minutes.

Clients and sessions of all kinds at both mounts, and every few seconds something fails: Redis or PostgreSQL is restarted or
paused, a worker is killed. One process of each mount is spared that, and must not grow. Every half a minute what was
written, read and told is judged, and others go on.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

import asyncpg
import psutil
from anyio.to_thread import run_sync

from tests.faults.auditor import Auditor
from tests.faults.crowd import http_client
from tests.faults.fleet import Fleet
from tests.faults.kill import LAG
from tests.faults.scene import PATIENCE, Scene, Verdict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.servers import PrivateServer, ServerProcess

CHAPTER = 20.0
"""Seconds that some users live; a user's log keeps 1,000 changes, and all of them are judged."""

USERS = 4

PACE = 0.2
"""With it, a chapter has at most 850 changes of a user, however fast the machine is."""

TURNS = 4
"""Chapters after which the users of the first one are back."""

NUMBERS = 100_000
"""More than what a client writes in a chapter."""

CALM = (2.0, 6.0)
"""Seconds between two faults, from and to."""

PAUSED = 2.0
"""Seconds that a server is frozen."""

LEVEL_WITHIN = 2.0
"""Seconds that the cache may be behind the database while both can be asked."""

GROWTH = 0.05
"""Of memory, between the end of the warm-up and the end."""

WARM = 0.3
"""Of the time, for what grows once: pools, threads, what is remembered."""


@dataclass
class Soak:
    """What came of it.

    Attributes:
        verdict: On all that clients and sessions saw.
        faults: What failed how often.
        memory: Bytes of the processes that nothing was done to, at the end of each chapter, by mount.
        wrong: What does not hold, beside the verdict's faults.
    """

    verdict: Verdict = field(default_factory=Verdict)
    faults: Counter[str] = field(default_factory=Counter)
    memory: dict[str, list[int]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


async def soak(minutes: float, progress: Callable[[str], None], seed: int = 0) -> Soak:
    """Let everything happen for a time, and return what came of it."""
    found, chance = Soak(), random.Random(seed)
    with ExitStack() as stack:
        fleet = await run_sync(Fleet, stack, 2)
        spared = {
            mount: await run_sync(lambda mount=mount: fleet.start(mount, 1, stack)) for mount in fleet.servers
        }
        urls = [*fleet.urls, *(server.url for server in spared.values())]
        found.memory = {mount: [] for mount in spared}
        chapters = max(3, round(minutes * 60 / CHAPTER))
        rest: dict[str, int] = {}
        async with Auditor(fleet) as auditor:
            for number in range(1, chapters + 1):
                await _chapter(fleet, urls, number, found, auditor, chance)
                if not await auditor.level(LEVEL_WITHIN):
                    found.wrong.append(
                        f"chapter {number}: the cache is not level {LEVEL_WITHIN} s after its end"
                    )
                for mount, server in spared.items():
                    rest[mount] = await _at_rest(server, rest.get(mount))
                    found.memory[mount].append(memory_of(server))
                progress(
                    f"{number:3} of {chapters}: {found.verdict}, faults {found.faults.total()},"
                    f" cache behind for {auditor.oldest:.2f} s at the most, "
                    + ", ".join(
                        f"{mount} {sizes[-1] / 2**20:.1f} MiB" for mount, sizes in found.memory.items()
                    )
                )
            if auditor.oldest > LEVEL_WITHIN:
                found.wrong.append(f"the cache was behind for {auditor.oldest:.2f} s")
            progress(
                f"audit: {auditor.comparisons:,} comparisons, the cache behind in {auditor.behind:,} of them,"
                f" for {auditor.oldest:.2f} s at the most"
            )
        found.wrong += await _connections_left(fleet)
    for mount, sizes in found.memory.items():
        before, after = growth_of(sizes)
        if after > before * (1 + GROWTH):
            found.wrong.append(f"{mount} grew from {before / 2**20:.1f} to {after / 2**20:.1f} MiB")
    return found


async def _chapter(
    fleet: Fleet, urls: list[str], number: int, found: Soak, auditor: Auditor, chance: random.Random
) -> None:
    faults = faults_of(fleet, chance)
    # The same users come again, so that what is remembered of them comes to its end.
    name = f"soak-{number % TURNS}"
    async with Scene(urls, name, USERS, 2, PACE, first=number * NUMBERS) as scene:
        auditor.users = scene.users
        ends = time.monotonic() + CHAPTER
        while time.monotonic() < ends:
            await scene.more_writes(1)
            await asyncio.sleep(chance.uniform(*CALM))
            name = chance.choice(list(faults))
            await faults[name]()
            found.faults[name] += 1
        await scene.more_writes(20)
        found.verdict.add(await scene.verdict(LAG))


def faults_of(fleet: Fleet, chance: random.Random) -> dict[str, Callable[[], Awaitable[None]]]:
    """Return what may happen; each is over when it returns."""

    async def pause(server: PrivateServer) -> None:
        server.pause()
        try:
            await asyncio.sleep(PAUSED)
        finally:
            server.resume()

    async def crash() -> None:
        await run_sync(fleet.postgres.crash)
        await run_sync(fleet.postgres.start)

    return {
        "Redis restarted": lambda: run_sync(fleet.redis.restart),
        "Redis paused": lambda: pause(fleet.redis),
        "PostgreSQL restarted": lambda: run_sync(fleet.postgres.restart),
        "PostgreSQL stopped at once": crash,
        "PostgreSQL paused": lambda: pause(fleet.postgres),
        "a worker killed": lambda: run_sync(fleet.kill_worker, chance),
    }


async def _at_rest(server: ServerProcess, tasks: int | None) -> int:
    """Wait until a process has no stream, and no more tasks than it had at rest before; return how many it has."""
    deadline = time.monotonic() + PATIENCE
    async with http_client(server.url) as client:
        while True:
            state = (await client.get(f"{server.url}/open")).json()
            if state["open"] == 0 and (tasks is None or state["tasks"] <= tasks):
                return int(state["tasks"])
            if time.monotonic() > deadline:
                raise TimeoutError(f"not at rest, where {tasks} tasks are: {state}")
            await asyncio.sleep(0.1)


def memory_of(server: ServerProcess) -> int:
    """Return the bytes in memory of a server's one worker.

    With those that it shares with its parent: they become its own when the garbage collector first comes by.
    """
    (worker,) = psutil.Process(server.pid).children()
    return int(worker.memory_info().rss)


def growth_of(sizes: list[int]) -> tuple[float, float]:
    """Return the usual size just after the warm-up, and at the end."""
    warm = sizes[int(len(sizes) * WARM) :]
    part = max(1, len(warm) // 3)
    return median(warm[:part]), median(warm[-part:])


async def _connections_left(fleet: Fleet) -> list[str]:
    """Return what connections with the database are not idle, or too many."""
    connection = await asyncpg.connect(fleet.postgres.url)
    deadline = time.monotonic() + PATIENCE
    query = "SELECT state FROM pg_stat_activity WHERE application_name = 'prefsync'"
    try:
        while True:
            states = Counter(row["state"] for row in await connection.fetch(query))
            if set(states) <= {"idle"} and states.total() <= 10 * 6:  # a pool for each of six processes
                return []
            if time.monotonic() > deadline:
                return [f"connections are not at rest: {dict(states)}"]
            await asyncio.sleep(0.1)
    finally:
        await connection.close()


def main() -> None:
    """Soak, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("minutes", nargs="?", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()

    def show(line: str) -> None:
        sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}\n")
        sys.stdout.flush()

    found = asyncio.run(soak(chosen.minutes, show, chosen.seed))
    show(str(found.verdict))
    show(", ".join(f"{what} {times} times" for what, times in found.faults.items()))
    show(
        "answers: "
        + ", ".join(f"{way} {status}: {n}" for (way, status), n in sorted(found.verdict.answers.items()))
    )
    for mount, sizes in found.memory.items():
        before, after = growth_of(sizes)
        show(
            f"{mount}: {before / 2**20:.1f} MiB when warm, {after / 2**20:.1f} MiB at the end ({after / before - 1:+.1%})"
        )
    wrong = found.wrong + found.verdict.faults
    for line in wrong[:50]:
        show(line)
    show(f"{len(wrong)} faults")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
