"""One to four processes on one database and one Redis: another process must not make requests dearer."""

from __future__ import annotations

import json
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from tests.bench.crowd import Crowd
from tests.bench.growth.ground import Chart, Section
from tests.bench.outcome import Outcome

if TYPE_CHECKING:
    from tests.bench.growth.ground import Ground

__all__ = ["measure"]

_MOST: Final = 4
_LIMIT: Final = 1.2
_SHARE: Final = 0.05
_CONNECTIONS: Final = 32
_PATH: Final = "/preferences"


def measure(ground: Ground) -> Section:
    """Measure 95 % reads and 5 % writes, spread evenly; all processes share one core."""
    crowd = Crowd()
    found: dict[str, dict[int, list[float]]] = {}
    with ground.database() as postgres, ExitStack() as stack:
        servers = [
            stack.enter_context(ground.app(postgres, crowd.key, PREFSYNC_POOL_SIZE="5")) for _ in range(_MOST)
        ]
        ground.fill(servers[0], crowd)
        for number in range(ground.rounds):
            for count in range(1, _MOST + 1):
                ground.progress(f"{count} processes, round {number + 1} of {ground.rounds}")
                for kind, share in (("cached GET", 0.0), ("95 % GET, 5 % PATCH", _SHARE)):
                    requests = crowd.mixed(crowd.reads(_PATH), crowd.patches(lambda _: _PATH), share)
                    figures = ground.load(
                        servers[:count],
                        lambda requests=requests: requests,  # type: ignore[misc]
                        _check,
                        connections=_CONNECTIONS
                        * count,  # what requests share depends on how many come at once
                    )
                    found.setdefault(kind, {}).setdefault(count, []).append(figures.cpu)
    rows: list[Any] = [("processes", *(f"{kind}, CPU µs" for kind in found))]
    rows += [
        (str(count), *(f"{median(by_count[count]):,.0f}" for by_count in found.values()))
        for count in range(1, _MOST + 1)
    ]
    lines = {
        kind: [(float(count), median(each)) for count, each in by_count.items()]
        for kind, by_count in found.items()
    }
    chart = Chart(
        "growth-processes",
        "Processor time of a request, by the number of processes",
        "processes",
        "µs",
        lines,
        ticks=tuple(range(1, _MOST + 1)),
    )
    outcomes = [
        Outcome.at_most(
            f"{kind} over {_MOST} processes",
            _LIMIT,
            "times the processor time over one",
            [many / one for one, many in zip(by_count[1], by_count[_MOST], strict=True)],
        )
        for kind, by_count in found.items()
    ]
    return Section(f"1 to {_MOST} processes", rows, [chart], outcomes)


def _check(_: bytes, answer: bytes) -> None:
    assert "plugins" in json.loads(answer.partition(b"\r\n\r\n")[2])["values"]
