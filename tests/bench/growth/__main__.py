"""Measures how prefsync does as the work grows, on PostgreSQL and Redis."""

from __future__ import annotations

import argparse
import contextlib
import resource
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tests.bench.cores import choose, pin
from tests.bench.growth import documents, nearby, processes, sessions, subjects, trimming
from tests.bench.growth.ground import Ground
from tests.bench.machine import describe
from tests.bench.pages import put_into
from tests.bench.report import as_outcomes, table
from tests.bench.stage import found_stores

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.growth.ground import Section

_DOCS = Path(__file__).parents[3] / "docs"
_FEW = 1_000
_PARTS = ("subjects", "trimming", "near", "documents", "processes", "sessions")


def main() -> int:
    """Measure, print, draw, and return the exit status."""
    signal.signal(signal.SIGTERM, _end)  # or servers and databases would be left behind
    options = _options()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # servers inherit it
    cores = choose()
    pin(cores.load)
    found: list[Section] = []
    with (
        found_stores(cores) as stores,
        Ground(cores, stores, seconds=options.seconds, rounds=options.rounds, progress=_say) as ground,
    ):
        machine = describe(stores.postgres, stores.meter.version)
        for section in _measured(ground, options):
            found.append(section)
            sys.stdout.write(_told(section) + "\n\n")
            sys.stdout.flush()
    outcomes = [outcome for section in found for outcome in section.outcomes]
    sys.stdout.write(as_outcomes(outcomes) + "\n\n")
    sys.stdout.write(" · ".join(f"{name} {value}" for name, value in machine.items()) + "\n")
    if options.docs:
        _write(found)
    missed = not all(outcome.reached for outcome in outcomes)
    return int(options.check and missed)


def _measured(ground: Ground, options: argparse.Namespace) -> Iterator[Section]:
    wanted = set(options.only or _PARTS)
    if wanted & {"subjects", "trimming", "near"}:
        with contextlib.ExitStack() as stack:
            many = stack.enter_context(subjects.filled(ground, options.subjects))
            if "subjects" in wanted:
                few = stack.enter_context(subjects.filled(ground, _FEW))
                yield subjects.measure(ground, few, many)
            if "near" in wanted:
                yield nearby.measure(ground, many, min(options.subjects, 30_000))
            many.server.kill()  # trimming has a server of its own
            if "trimming" in wanted:
                yield trimming.measure(ground, many, min(options.subjects, 600_000))
    if "documents" in wanted:
        yield documents.measure(ground)
    if "processes" in wanted:
        yield processes.measure(ground)
    if "sessions" in wanted:
        yield sessions.measure(ground, options.sessions)


def _told(section: Section) -> str:
    return f"{section.title}\n\n{table(section.rows, left={0})}"


def _write(found: list[Section]) -> None:
    """Put tables and pictures into the documentation; of parts that were not measured, the old ones stay."""
    from tests.bench.growth.plots import draw

    for section in found:
        pictures = [draw(chart, _DOCS / "images") for chart in section.charts]
        shown = "\n\n".join(
            f"![{chart.title}](images/{path.name})"
            for chart, path in zip(section.charts, pictures, strict=True)
        )
        parts = [
            table(section.rows, left={0}),
            as_outcomes(section.outcomes) if section.outcomes else "",
            shown,
        ]
        put_into(_DOCS / "performance.md", section.charts[0].name, "\n\n".join(filter(None, parts)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.growth", description=__doc__)
    parser.add_argument("--seconds", type=float, help="for each measurement (3)")
    parser.add_argument("--rounds", type=int, help="where two sides are measured in turns (3)")
    parser.add_argument("--subjects", type=int, help="the most; ten changes each (1000000)")
    parser.add_argument("--sessions", type=int, help="the most (10000)")
    parser.add_argument("--quick", action="store_true", help="little of everything: to see that it runs")
    parser.add_argument("--only", action="append", choices=_PARTS, help="measure this; may be given again")
    parser.add_argument(
        "--docs", action="store_true", help="put tables and pictures into docs/performance.md"
    )
    parser.add_argument("--check", action="store_true", help="fail where a target is missed")
    options = parser.parse_args()
    options.seconds = options.seconds or (0.8 if options.quick else 3.0)
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.subjects = options.subjects or (20_000 if options.quick else 1_000_000)
    options.sessions = options.sessions or (1_000 if options.quick else 10_000)
    return options


def _end(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def _say(what: str) -> None:
    sys.stderr.write(what + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
