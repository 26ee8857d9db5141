"""Documents of 1, 10 and 100 KiB: what a byte costs."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any, Final

from tests.bench.crowd import Crowd
from tests.bench.growth.ground import Chart, Section

if TYPE_CHECKING:
    from tests.bench.growth.ground import Ground

__all__ = ["measure"]

_SIZES: Final = (1, 10, 100)
"""KiB."""

_USERS: Final = 100
_PATH: Final = "/preferences"


def measure(ground: Ground) -> Section:
    """Measure reads and writes by the documents' size."""
    rows: list[Any] = [("KiB", "request", "req/s", "p50 ms", "p99 ms", "CPU µs", "CPU µs a KiB")]
    lines: dict[str, list[tuple[float, float]]] = {"cached GET": [], "PUT": [], "PATCH": []}
    for size in _SIZES:
        crowd = Crowd(names=[f"large-{number:03d}" for number in range(_USERS)], size=size * 1024)
        with ground.database() as postgres, ground.app(postgres, crowd.key) as server:
            ground.fill(server, crowd)
            for kind, requests in (
                ("cached GET", crowd.reads(_PATH)),
                ("PUT", crowd.replaces(lambda _: _PATH)),
                ("PATCH", crowd.patches(lambda _: _PATH)),
            ):
                ground.progress(f"{kind}, {size} KiB")
                found = ground.load([server], lambda requests=requests: requests, _check)  # type: ignore[misc]
                lines[kind].append((size, found.cpu))
                figures = (f"{found.rate:,.0f}", f"{found.p50:.2f}", f"{found.p99:.2f}", f"{found.cpu:,.0f}")
                rows.append((str(size), kind, *figures, f"{found.cpu / size:,.0f}"))
    chart = Chart(
        "growth-documents",
        "Processor time of a request, by the document's size",
        "KiB",
        "µs",
        lines,
        is_logarithmic=True,
        ticks=_SIZES,
    )
    return Section("Documents of 1 to 100 KiB", rows, [chart])


def _check(_: bytes, answer: bytes) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"content-encoding: gzip" in head:
        body = gzip.decompress(body)
    assert "plugins" in json.loads(body)["values"]
