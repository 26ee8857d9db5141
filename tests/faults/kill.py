"""Workers and PostgreSQL killed again and again in the middle of writes: ``python -m tests.faults.kill 200 50``.

Several clients read and write through both mounts all the while, sessions of all kinds follow, and after some rounds it is
judged what the feed, the clients and the sessions say (see ``history.py``).
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from anyio.to_thread import run_sync

from tests.faults.fleet import Fleet
from tests.faults.scene import Scene, Verdict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TOGETHER = 10
"""Rounds after which it is judged, and other users begin."""

WRITES = 10
"""Acknowledged between two kills."""

LONGEST = 0.03
"""Seconds after these until the kill, at the most."""

DAWDLE = {"FAULTS_DAWDLE": "0.03"}
"""Seconds that a worker spends before a commit, and after it, at the most: at any time several are in the middle."""

LAG = 10.0
"""Seconds that a read may be behind: a worker that dies between commit and announcement leaves the cache to the relay."""


async def rounds(
    fleet: Fleet,
    name: str,
    number: int,
    kill: Callable[[], Awaitable[None]],
    progress: Callable[[str], None] = lambda _: None,
    seed: int = 0,
) -> Verdict:
    """Kill again and again while clients write, and return what came of it.

    Args:
        fleet: Serves them.
        name: Of what is killed.
        number: How often.
        kill: Kills; what was killed is back when it returns, or will be soon.
        progress: Told of what came of each few rounds.
        seed: Of the moments.
    """
    total, chance = Verdict(), random.Random(seed)
    for first in range(0, number, TOGETHER):
        began, last = time.monotonic(), min(first + TOGETHER, number)
        async with Scene(fleet.urls, f"{name}-{seed}-{first}") as scene:
            for _ in range(first, last):
                await scene.more_writes(WRITES)
                await asyncio.sleep(chance.random() * LONGEST)
                await kill()
            await scene.more_writes(WRITES)
            verdict = await scene.verdict(LAG)
        total.add(verdict)
        progress(f"{name} {last:3} of {number}: {verdict}, {time.monotonic() - began:.1f} s")
    return total


async def kill_workers(fleet: Fleet, number: int, progress: Callable[[str], None], seed: int = 0) -> Verdict:
    """Kill workers of both mounts (``kill -9``)."""
    chance = random.Random(seed)
    return await rounds(fleet, "worker", number, lambda: run_sync(fleet.kill_worker, chance), progress, seed)


async def crash_postgres(
    fleet: Fleet, number: int, progress: Callable[[str], None], seed: int = 0
) -> Verdict:
    """Stop PostgreSQL at once (``pg_ctl stop -m immediate``), and start it."""

    async def crash() -> None:
        await run_sync(fleet.postgres.crash)
        await run_sync(fleet.postgres.start)

    return await rounds(fleet, "PostgreSQL", number, crash, progress, seed)


def main() -> None:
    """Kill, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workers", nargs="?", type=int, default=200, help="rounds of killing a worker")
    parser.add_argument(
        "crashes", nargs="?", type=int, default=50, help="rounds of stopping PostgreSQL at once"
    )
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()

    def show(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    async def work(fleet: Fleet) -> dict[str, Verdict]:
        return {
            f"{chosen.workers} workers killed": await kill_workers(fleet, chosen.workers, show, chosen.seed),
            f"{chosen.crashes} crashes of PostgreSQL": await crash_postgres(
                fleet, chosen.crashes, show, chosen.seed
            ),
        }

    with ExitStack() as stack:
        verdicts = asyncio.run(work(Fleet(stack, **DAWDLE)))
    for what, verdict in verdicts.items():
        show(f"{what}: {verdict}")
    faults = [fault for verdict in verdicts.values() for fault in verdict.faults]
    for fault in faults[:50]:
        show(fault)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
