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

__all__ = ["as_json", "as_table", "as_text"]

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
    "target",
)
_LEFT: Final = {0, 1, len(_HEAD) - 1}
"""Columns of text; the others are figures."""

_LEGEND: Final = """\
Figures are medians of the rounds, counts are for each request. Busy: the part of its core that the server used; waited:
the part of the time that it could have run, had something else not been on its core (PostgreSQL, or what runs here
beside the benchmark). SQL is counted beforehand, through a proxy. Redis commands include those inside of scripts; what
travels together is one trip. Of the floor: requests a second, divided by those of the measurement just before; the
median and the range. By CPU: the same of processor time, steadier where something else takes some."""

_GENERATOR_LIMIT: Final = 0.9

_QUIET: Final = 0.85
"""A constant answer to many connections keeps its core this busy at least, on a machine that has nothing else to do."""


def as_text(results: Sequence[Result], machine: Mapping[str, str], notes: Sequence[str]) -> str:
    """Return the table and what belongs below it, in Markdown."""
    rows: list[Sequence[str]] = []
    for result in results:
        rows.append(_row(result, result.case.floor.label, result.floor, result.floor_counted))
        rows.append(_row(result, result.case.work.label, result.work, result.work_counted, ratio=True))
    versions = " · ".join(f"{name} {value}" for name, value in machine.items())
    remarks = [*notes, *_warnings(results)]
    parts = [
        _table([_HEAD, *rows]),
        _LEGEND,
        "\n".join(_commands(result) for result in results),
        "\n".join(f"- {remark}" for remark in remarks),
        versions,
    ]
    return "\n\n".join(part for part in parts if part)


def as_json(results: Sequence[Result], machine: Mapping[str, str], notes: Sequence[str]) -> dict[str, Any]:
    """Return everything, each round by itself."""
    return {
        "machine": dict(machine),
        "notes": list(notes),
        "cases": [
            {
                "name": result.case.name,
                "title": result.case.title,
                "connections": result.case.connections,
                "target": result.case.target,
                "ratio": result.ratio,
                "ratio_by_cpu": result.ratio_by_cpu,
                "reached": result.reached,
                **{
                    side: {
                        "label": traffic.label,
                        "rounds": [asdict(figures) for figures in rounds],
                        "counted": counted,
                    }
                    for side, traffic, rounds, counted in (
                        ("floor", result.case.floor, result.floor, result.floor_counted),
                        ("work", result.case.work, result.work, result.work_counted),
                    )
                },
            }
            for result in results
        ],
    }


def as_table(rows: Sequence[Row]) -> str:
    """Return what was found of realtime."""
    head = ("realtime", "prefsync", "range", "bare broadcast", "ratio", "target")
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
                f"{row.ratio:.2f}" if row.ratio is not None else "",
                target,
            )
        )
    return _table(lines, left={0, len(head) - 1})


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
    target = result.case.target
    verdict = "reached" if result.reached else "missed"
    return (
        "" if ratio else result.case.title,
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
        f"{target}: {verdict}" if ratio and target is not None else "",
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


def _table(rows: Sequence[Sequence[str]], left: AbstractSet[int] = _LEFT) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width if column in left else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join([line(rows[0]), f"| {' | '.join(rule)} |", *map(line, rows[1:])])
