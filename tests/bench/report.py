"""What was found: a table to read and to paste, and a JSON file for what comes after."""

from __future__ import annotations

from dataclasses import asdict, fields
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from tests.bench.measure import Figures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from tests.bench.fanout import Row
    from tests.bench.measure import Result
    from tests.bench.outcome import Outcome

__all__ = ["as_figures", "as_json", "as_outcomes", "as_table", "as_text", "table"]

_HEAD: Final = (
    "request",
    "answered by",
    "req/s",
    "p50 ms",
    "p99 ms",
    "CPU µs",
    "busy",
    "waited",
    "SQL",
    "SQL trips",
    "Redis",
    "Redis trips",
    "errors",
    "of the floor",
    "by CPU",
    "times by hand",
)
_FIGURES_HEAD: Final = (
    "request",
    "floor",
    "floor, req/s",
    "by hand, req/s",
    "prefsync, req/s",
    "p50 ms",
    "p99 ms",
    "CPU µs",
    "SQL",
    "Redis trips",
)
_LEFT: Final = {0, 1}
"""Columns of text; the others are figures."""

_LEGEND: Final = """\
Figures are medians of the rounds, counts are for each request. Busy: the part of its core that the server used; waited:
the part of the time that it could have run, had something else not been on its core (PostgreSQL, or what runs here
beside the benchmark). SQL is counted beforehand, through a proxy: statements that requests ask for, and all round
trips. Redis commands include those inside of scripts; what travels together is one trip. Of the floor: requests a
second, divided by those of the measurement just before; the median and the range. By CPU: the same of processor time,
steadier where something else takes some. Times by hand: requests a second, divided by those of the server that was
written by hand."""

_REALTIME_LEGEND: Final = """\
Figures are medians, ranges those of all measurements. A change is timed from the sending of its write until the last
session has it; the bare server sends the same bytes. Processor time is the server's, for one change, by the session.
Ratio: of the medians of one round, in which both servers take turns; the median of the rounds, and their range."""

_GENERATOR_LIMIT: Final = 0.9

_QUIET: Final = 0.85
"""A constant answer to many connections keeps its core this busy at least, on a machine that has nothing else to do."""


def as_text(results: Sequence[Result], machine: Mapping[str, str], notes: Sequence[str]) -> str:
    """Return the table and what belongs below it, in Markdown."""
    rows: list[Sequence[str]] = []
    for result in results:
        rows.append(_row(result, result.case.floor.label, result.floor, result.floor_counted))
        if result.case.by_hand is not None:
            rows.append(_row(result, result.case.by_hand.label, result.by_hand, result.by_hand_counted))
        rows.append(_row(result, result.case.work.label, result.work, result.work_counted, ratio=True))
    versions = " · ".join(f"{name} {value}" for name, value in machine.items())
    remarks = [*notes, *_warnings(results)]
    parts = [
        table([_HEAD, *rows]),
        _LEGEND,
        "\n".join(_commands(result) for result in results),
        "\n".join(f"- {remark}" for remark in remarks),
        versions,
    ]
    return "\n\n".join(part for part in parts if part)


def as_figures(results: Sequence[Result]) -> str:
    """Return the requests a second of all who answered, and what prefsync's cost: a short table for a page."""
    lines: list[Sequence[str]] = [_FIGURES_HEAD]
    for result in results:
        rates = [
            f"{median(figures.rate for figures in rounds):,.0f}" if rounds else ""
            for rounds in (result.floor, result.by_hand, result.work)
        ]
        latencies = [
            f"{median(getattr(figures, name) for figures in result.work):.2f}" for name in ("p50", "p99")
        ]
        cpu = f"{median(figures.cpu for figures in result.work):,.0f}"
        counted = [result.work_counted.get("statements"), median(one.redis_trips for one in result.work)]
        lines.append(
            (result.case.title, result.case.floor.label, *rates, *latencies, cpu, *map(_few, counted))
        )
    return table(lines)


def as_json(
    results: Sequence[Result], rows: Sequence[Row], machine: Mapping[str, str], notes: Sequence[str]
) -> dict[str, Any]:
    """Return everything, each round by itself."""
    return {
        "machine": dict(machine),
        "notes": list(notes),
        "rows": [{**asdict(row), "outcomes": [asdict(outcome) for outcome in row.outcomes]} for row in rows],
        "cases": [
            {
                "name": result.case.name,
                "title": result.case.title,
                "connections": result.case.connections,
                "ratio": result.ratio,
                "ratio_by_cpu": result.ratio_by_cpu,
                "outcomes": [asdict(outcome) for outcome in result.outcomes],
                **{
                    side: {
                        "label": traffic.label,
                        "rounds": [asdict(figures) for figures in rounds],
                        "counted": counted,
                    }
                    for side, traffic, rounds, counted in (
                        ("floor", result.case.floor, result.floor, result.floor_counted),
                        ("by_hand", result.case.by_hand, result.by_hand, result.by_hand_counted),
                        ("work", result.case.work, result.work, result.work_counted),
                    )
                    if traffic is not None
                },
            }
            for result in results
        ],
    }


def as_outcomes(outcomes: Sequence[Outcome]) -> str:
    """Return the closing table: what was asked for, what was found, and whether that is enough."""
    lines: list[Sequence[str]] = [("work", "target", "found", "verdict")]
    for outcome in outcomes:
        verdict = "reached" if outcome.reached else "**missed**"
        lines.append((outcome.what, outcome.target, outcome.found, verdict))
    return table(lines, left=set(range(4)))


def as_table(rows: Sequence[Row]) -> str:
    """Return what was found of realtime, and what belongs below it."""
    head = ("realtime", "prefsync", "range", "bare server", "ratio", "target")
    lines: list[Sequence[str]] = [head]
    for row in rows:
        unit = f" {row.unit}" if row.unit else ""
        target = ""
        if row.limit is not None:
            verdict = "reached" if row.reached else "missed"
            target = f"at most {row.limit:g}{unit if row.is_absolute else ' times'}: {verdict}"
        lines.append(
            (
                row.what,
                f"{median(row.work):.2f}{unit}",
                f"{min(row.work):.2f} to {max(row.work):.2f}" if len(row.work) > 1 else "",
                f"{median(row.floor):.2f}{unit}" if row.floor else "",
                _ratio(row),
                target,
            )
        )
    return f"{table(lines, left={0, len(head) - 1})}\n\n{_REALTIME_LEGEND}"


def _ratio(row: Row) -> str:
    if row.ratio is None:
        return ""
    told = f"{row.ratio:.2f}"
    return f"{told} ({min(row.ratios):.2f} to {max(row.ratios):.2f})" if len(row.ratios) > 1 else told


def _row(
    result: Result,
    label: str,
    rounds: Sequence[Figures],
    counted: Mapping[str, float],
    *,
    ratio: bool = False,
) -> Sequence[str]:
    middle = {
        name: median(getattr(figures, name) for figures in rounds)
        for name in (field.name for field in fields(Figures))
        if name not in {"commands", "first_error"}
    }
    return (
        result.case.title if rounds is result.floor else "",
        label,
        f"{middle['rate']:,.0f}",
        f"{middle['p50']:.2f}",
        f"{middle['p99']:.2f}",
        f"{middle['cpu']:,.0f}",
        f"{middle['server_busy']:.0%}",
        f"{middle['server_waited']:.0%}",
        _few(counted.get("statements")),
        _few(counted.get("postgres_trips")),
        _few(median(sum(figures.commands.values()) for figures in rounds)),
        _few(middle["redis_trips"]),
        str(sum(figures.errors for figures in rounds)),
        f"{result.ratio:.2f} ({min(result.ratios):.2f} to {max(result.ratios):.2f})" if ratio else "",
        f"{result.ratio_by_cpu:.2f}" if ratio else "",
        f"{median(result.times):.1f}" if ratio and result.by_hand else "",
    )


def _few(value: float | None) -> str:
    if value is None:
        return "?"
    return f"{value:.3f}" if value >= 0.0005 else "0"


def _commands(result: Result) -> str:
    """Tell which Redis commands a request costs."""
    names = sorted({name for figures in result.work for name in figures.commands})
    each = {name: median(figures.commands.get(name, 0.0) for figures in result.work) for name in names}
    told = ", ".join(f"{name} {value:.3f}" for name, value in each.items() if value >= 0.0005)
    return f"- Redis, {result.case.title}: {told or 'nothing'}"


def _warnings(results: Sequence[Result]) -> list[str]:
    found: list[str] = []
    for result in results:
        busy = median(figures.server_busy for figures in result.floor)
        generator = median(figures.generator_busy for figures in result.floor)
        is_pure = not result.case.connections and result.floor_counted.get("statements", 1.0) < 0.01
        if is_pure and busy < _QUIET and generator < _GENERATOR_LIMIT:
            found.append(
                f"{result.case.title}: **the machine was not quiet**, the constant answer had {busy:.0%} of its core"
            )
        for traffic, rounds in ((result.case.floor, result.floor), (result.case.work, result.work)):
            if median(figures.generator_busy for figures in rounds) > _GENERATOR_LIMIT:
                found.append(f"{result.case.title}, {traffic.label}: the load generator was the limit")
        found += [f"{result.case.title}: WRONG ANSWER: {error[:500]}" for error in result.errors]
    return found


def table(rows: Sequence[Sequence[str]], left: AbstractSet[int] = _LEFT) -> str:
    """Return a table in Markdown, its head first; ``left`` are the columns of text."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width if column in left else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join([line(rows[0]), f"| {' | '.join(rule)} |", *map(line, rows[1:])])
