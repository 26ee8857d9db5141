"""Near caches: what they take in memory is bounded, however many users come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import psutil

from tests.bench.crowd import Crowd
from tests.bench.growth.ground import Chart, Section
from tests.bench.outcome import Outcome

if TYPE_CHECKING:
    from tests.bench.growth.ground import Ground
    from tests.bench.growth.subjects import Filled

__all__ = ["measure"]

_SIZES: Final = (0, 16, 64)
"""MiB; 0 is off."""

_STEPS: Final = 6
_PATH: Final = "/preferences"


def measure(ground: Ground, many: Filled, users: int) -> Section:
    """Read the documents of ever more users through near caches of some sizes.

    Args:
        ground: What to stand on.
        many: A filled database.
        users: How many; each has a document of its own.
    """
    crowd = Crowd(names=[f"user-{number:04d}" for number in range(users)], key=many.crowd.key)
    lines: dict[str, list[tuple[float, float]]] = {}
    for size in _SIZES:
        label = f"{size} MiB" if size else "off"
        line = lines[label] = [(0.0, 0.0)]
        with ground.app(many.postgres, crowd.key, PREFSYNC_NEAR_CACHE=f"{size}MiB") as server:
            ground.ask(server, (crowd.read(_PATH, user) for user in crowd.users[:200]))
            before = psutil.Process(server.pid).memory_info().rss
            each = users // _STEPS
            for step in range(_STEPS):
                ground.progress(f"near cache {label}, {(step + 1) * each:,} users")
                ground.ask(
                    server,
                    (crowd.read(_PATH, user) for user in crowd.users[step * each : (step + 1) * each]),
                )
                grown = psutil.Process(server.pid).memory_info().rss - before
                line.append(((step + 1) * each, grown / 1024**2))
    rows: list[Any] = [("users read", *(f"near cache {label}, MiB more" for label in lines))]
    for step in range(1, _STEPS + 1):
        at = next(iter(lines.values()))[step][0]
        rows.append((f"{at:,.0f}", *(f"{line[step][1]:,.1f}" for line in lines.values())))
    chart = Chart(
        "growth-near",
        "Memory of a process with a near cache, by how many it serves",
        "users",
        "MiB more",
        lines,
    )
    off = lines["off"][-1][1]
    outcomes = [
        Outcome.at_most(
            f"a near cache of {size} MiB after {users:,} users", size, "MiB more than without", [grown - off]
        )
        for size, grown in ((size, lines[f"{size} MiB"][-1][1]) for size in _SIZES if size)
    ]
    return Section("Near caches", rows, [chart], outcomes)
