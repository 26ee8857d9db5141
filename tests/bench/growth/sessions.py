"""Up to 10,000 sessions in which nothing happens: memory by the session, and next to no work."""

from __future__ import annotations

import asyncio
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import psutil

from tests.bench.crowd import Crowd
from tests.bench.growth.ground import Chart, Section
from tests.bench.listeners import SocketListener, connect_all
from tests.bench.meters import cpu_seconds
from tests.bench.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.growth.ground import Ground
    from tests.bench.listeners import Listener
    from tests.servers import ServerProcess

__all__ = ["measure"]

_SESSIONS_OF_ONE: Final = 10
_BUSY: Final = 0.1
_BENT: Final = 1.2


def measure(ground: Ground, most: int) -> Section:
    """Connect WebSockets, in steps, and watch.

    Args:
        ground: What to stand on.
        most: How many sessions there are in the end.
    """
    steps = [most // 10, most // 4, most // 2, most]
    crowd = Crowd(names=[f"idle-{number:05d}" for number in range(most // _SESSIONS_OF_ONE)])
    settings = {"PREFSYNC_MAX_SESSIONS": str(2 * most)}
    with ground.database() as postgres, ground.app(postgres, crowd.key, **settings) as server:
        memory, busy = ground.run(_watch(ground, server, crowd, steps))
    rows: list[Any] = [("sessions", "MiB more", "KiB a session", "of a core, while idle")]
    rows += [
        (f"{count:,}", f"{memory[count]:,.1f}", f"{memory[count] * 1024 / count:.1f}", f"{busy[count]:.1%}")
        for count in steps
    ]
    charts = [
        Chart(
            "growth-sessions",
            "Memory of sessions in which nothing happens",
            "sessions",
            "MiB",
            {"measured": [(0, 0), *memory.items()], "straight": [(0, 0), (most, memory[most])]},
        )
    ]
    first, last = (memory[count] / count for count in (steps[0], most))
    outcomes = [
        Outcome.at_most(
            f"memory a session at {most:,} sessions",
            _BENT,
            f"times that at {steps[0]:,}",
            [last / first],
        ),
        Outcome.at_most(f"{most:,} sessions in which nothing happens", _BUSY, "of a core", [busy[most]]),
    ]
    return Section(f"Up to {most:,} sessions in which nothing happens", rows, charts, outcomes)


async def _watch(
    ground: Ground, server: ServerProcess, crowd: Crowd, steps: Sequence[int]
) -> tuple[dict[int, float], dict[int, float]]:
    process = psutil.Process(server.pid)
    tokens = [user.token for user in crowd.users]
    warm = [SocketListener("/preferences/ws", token) for token in tokens[:50]]
    await connect_all(server.port, [*warm])  # what is allocated once is not counted
    before = process.memory_info().rss
    sessions: list[Listener] = []
    memory: dict[int, float] = {}
    busy: dict[int, float] = {}
    for count in steps:
        ground.progress(f"{count:,} sessions")
        more = [
            SocketListener("/preferences/ws", tokens[number % len(tokens)])
            for number in range(len(sessions), count)
        ]
        await connect_all(server.port, [*more])
        sessions += more
        await asyncio.sleep(2)
        memory[count] = (process.memory_info().rss - before) / 1024**2
        spent = []
        for _ in range(5):
            begun = cpu_seconds(server.pid)
            await asyncio.sleep(ground.seconds)
            spent.append((cpu_seconds(server.pid) - begun) / ground.seconds)
        busy[count] = median(spent)
    for session in (*warm, *sessions):
        session.transport.abort()
    return memory, busy
