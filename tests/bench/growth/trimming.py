"""The log is trimmed while a thousand writes a second come: it has to keep up, and nobody may notice."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from tests.bench.growth.ground import Chart, Section
from tests.bench.measure import HOST
from tests.bench.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.growth.ground import Ground
    from tests.bench.growth.subjects import Filled
    from tests.servers import ServerProcess

__all__ = ["measure"]

RATE: Final = 1_000
"""Writes a second; so many changes become too old each second."""

_CONNECTIONS: Final = 32
_PATH: Final = "/preferences"
_MORE_AT_MOST: Final = 2.0

# Older than the 30 days that changes are kept.
_AGE_MS: Final = 40 * 24 * 3_600 * 1_000

_OLD: Final = """
INSERT INTO preference_changes (tenant_id, user_id, revision, previous, patch, replaced, origin, at)
SELECT '', user_id, revision - {age}, previous - {age}, patch, replaced, NULL, at - {age}
FROM preference_changes
WHERE user_id NOT IN ('seed') AND at < {before} ORDER BY user_id, revision LIMIT {count}
"""

# Of subjects that nobody has changed since: their newest changes have to stay, right among the others.
_IDLE: Final = """
WITH idle AS (
    INSERT INTO user_preferences (tenant_id, user_id, document, revision, revisions, created_at, updated_at)
    SELECT '', 'idle-' || row_number() OVER (), '{{}}', revision, '{{}}', at, at
    FROM preference_changes WHERE at < {before} - {age} LIMIT {count}
    RETURNING user_id, revision, updated_at)
INSERT INTO preference_changes (tenant_id, user_id, revision, previous, patch, replaced, origin, at)
SELECT '', user_id, revision, 0, '{{"assigned": {{}}, "unset": {{}}}}', '{{}}', NULL, updated_at FROM idle
"""


def measure(ground: Ground, many: Filled, backlog: int) -> Section:
    """Write for some time, first with nothing to trim and then with a backlog.

    Args:
        ground: What to stand on.
        many: A filled database.
        backlog: How many changes are too old: what so many writes leave between two rounds of trimming. A third as many
            again are old and have to stay.
    """
    seconds = ground.seconds * 10
    with ground.app(many.postgres, many.crowd.key) as server:
        ground.progress(f"{RATE:,} writes a second, nothing to trim")
        calm, _ = ground.run(_write(server, many, seconds))
    ground.progress(f"making {backlog:,} changes old")
    ground.execute(
        many.postgres,
        _OLD.format(age=_AGE_MS, before=many.newest + 1, count=backlog),
        _IDLE.format(age=_AGE_MS, before=many.newest + 1, count=backlog // 3),
        "ANALYZE preference_changes",
        "CHECKPOINT",
    )
    with ground.app(many.postgres, many.crowd.key) as server:  # trims from its start on
        ground.progress(f"{RATE:,} writes a second, {backlog:,} changes to trim")
        busy, trimmed = ground.run(_write(server, many, seconds))
    (first, began), (last, ended) = trimmed[0], trimmed[-1]
    over = next((at for count, at in trimmed if count == last), ended)
    rate = (last - first) / max(over - began, 1e-9)
    rows: list[Any] = [("while writing", "writes/s", "p50 ms", "p99 ms", "longest ms", "trimmed/s")]
    for name, took, speed in (("nothing to trim", calm, 0.0), (f"{backlog:,} to trim", busy, rate)):
        waits = sorted(wait for _, wait in took)
        rows.append(
            (
                name,
                f"{len(waits) / seconds:,.0f}",
                f"{_at(waits, 0.5):.1f}",
                f"{_at(waits, 0.99):.1f}",
                f"{waits[-1]:.0f}",
                f"{speed:,.0f}",
            )
        )
    charts = [
        Chart(
            "growth-trimming",
            f"Changes trimmed beside {RATE:,} writes a second",
            "seconds",
            "changes",
            {
                "trimmed": [(at - began, float(count - first)) for count, at in trimmed],
                "as many as are written": [(0, 0), (ended - began, (ended - began) * RATE)],
            },
        ),
        Chart(
            "growth-trimming-p99",
            f"p99 of {RATE:,} writes a second, by second",
            "seconds",
            "ms",
            {"nothing to trim": _by_second(calm), "trimming": _by_second(busy)},
        ),
    ]
    p99 = [_at(sorted(wait for _, wait in took), 0.99) for took in (busy, calm)]
    done = last - first >= backlog
    outcomes = [
        Outcome(
            f"trimming at {RATE:,} writes a second",
            f"as fast as they become old, {RATE:,}/s",
            f"{rate:,.0f}/s" + (", until none was left" if done else ""),
            rate >= RATE or done,
        ),
        Outcome.at_most(
            "p99 of the writes meanwhile", _MORE_AT_MOST, "times that without trimming", [p99[0] / p99[1]]
        ),
    ]
    return Section(f"Trimming the log at {RATE:,} writes a second", rows, charts, outcomes)


async def _write(
    server: ServerProcess, many: Filled, seconds: float
) -> tuple[list[tuple[float, float]], list[tuple[int, float]]]:
    """Write at the rate, and watch what is deleted.

    Returns:
        When each write was due, in seconds, and how many ms after that it was answered; how many changes were deleted
        so far, and when that was.
    """
    requests = many.crowd.patches(lambda _: _PATH)
    begin = time.perf_counter()
    due: Iterator[float] = iter([number / RATE for number in range(int(seconds * RATE))])
    took: list[tuple[float, float]] = []
    trimmed: list[tuple[int, float]] = []

    async def worker() -> None:
        reader, writer = await asyncio.open_connection(HOST, server.port)
        for at in due:
            await asyncio.sleep(max(0.0, begin + at - time.perf_counter()))
            writer.write(next(requests))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head[9:12] == b"200", head
            size = head.lower().partition(b"content-length:")[2].partition(b"\r")[0]
            await reader.readexactly(int(size))
            # From when it was due: a stall is the fault of those who come meanwhile neither.
            took.append((at, (time.perf_counter() - begin - at) * 1e3))
        writer.close()

    async def watch() -> None:
        connection: Any = await asyncpg.connect(many.postgres)
        try:
            while True:
                count = await connection.fetchval(
                    "SELECT n_tup_del FROM pg_stat_user_tables WHERE relname = 'preference_changes'"
                )
                trimmed.append((count, time.perf_counter()))
                await asyncio.sleep(0.5)
        finally:
            await connection.close()

    watching = asyncio.create_task(watch())
    try:
        await asyncio.gather(*(worker() for _ in range(_CONNECTIONS)))
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return took, trimmed


def _by_second(took: list[tuple[float, float]]) -> list[tuple[float, float]]:
    waits: dict[int, list[float]] = {}
    for at, wait in took:
        waits.setdefault(int(at), []).append(wait)
    return [(float(second), _at(sorted(each), 0.99)) for second, each in sorted(waits.items())]


def _at(ordered: list[float], part: float) -> float:
    return ordered[int(len(ordered) * part)]
