"""Measures prefsync beside the floors of its kind, on PostgreSQL and Redis."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import NoReturn

from tests.bench.cores import choose, pin
from tests.bench.crowd import Crowd
from tests.bench.fanout import KINDS, Fanout, Row
from tests.bench.machine import describe
from tests.bench.measure import Bench, Result
from tests.bench.report import as_json, as_table, as_text
from tests.bench.stage import found_stores, started
from tests.bench.tap import PostgresTap
from tests.bench.traffic import cases, real_answers

_REALTIME = "realtime"


def main() -> int:
    """Measure, print, and return the exit status."""
    signal.signal(signal.SIGTERM, _end)  # or servers and a database would be left behind
    crowd = Crowd()
    known = cases(crowd)
    options = _options([*(case.name for case in known), _REALTIME])
    crowd.skew = options.zipf
    results = [Result(case) for case in known if not options.only or case.name in options.only]
    rows: list[Row] = []
    is_realtime = not options.only or _REALTIME in options.only
    cores = choose()
    pin(cores.load)
    with (
        found_stores(cores) as stores,
        Bench(seconds=options.seconds, connections=options.connections, progress=_say) as bench,
    ):

        def sample(port: int) -> dict[str, bytes]:
            return real_answers(crowd, bench.ask(port))

        machine = describe(stores.postgres, stores.meter.version)
        with (
            PostgresTap(stores.postgres) as tap,
            started(cores, tap.url, stores.redis, crowd.key, sample) as stage,
        ):
            bench.count(stage, results, tap.read)
            if is_realtime:
                rows += Fanout(stage, crowd, _say).storm(lambda: int(tap.read()["statements"]))
        with started(cores, stores.postgres, stores.redis, crowd.key, sample) as stage:
            bench.measure(stage, results, options.rounds, stores.meter)
            if is_realtime:
                rows += Fanout(stage, crowd, _say).lag(options.rounds * options.seconds)
        for kind in KINDS if is_realtime else ():
            # Servers that have had sessions before would take the memory of those for new ones.
            with started(cores, stores.postgres, stores.redis, crowd.key, sample) as stage:
                rows += Fanout(stage, crowd, _say).spread(kind, options.rounds)
    notes = [
        cores.note,
        f"{options.connections} connections, Zipf's s = {options.zipf:g}",
        f"rounds: {options.rounds}, of {options.seconds:g} s for each measurement",
        *stores.notes,
    ]
    if rows:
        sys.stdout.write(as_table(rows) + "\n\n")
    sys.stdout.write(as_text(results, machine, notes) + "\n")
    if options.json:
        options.json.write_text(json.dumps(as_json(results, machine, notes), indent=1) + "\n")
    missed = [row for row in rows if not row.reached]
    return _status(results, check=options.check) or int(options.check and bool(missed))


def _options(names: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--seconds", type=float, help="for each measurement (3)")
    parser.add_argument("--rounds", type=int, help="of floor and work (3)")
    parser.add_argument("--connections", type=int, default=32, help="kept busy at once (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="one round of a second: to see that it runs")
    parser.add_argument(
        "--only", action="append", default=[], choices=names, help="measure this; may be given again"
    )
    parser.add_argument(
        "--zipf",
        type=float,
        default=1.0,
        metavar="S",
        help="how unequal users are (%(default)s); 0: not at all",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as well")
    parser.add_argument("--check", action="store_true", help="fail where a target is missed")
    options = parser.parse_args()
    options.seconds = options.seconds or (1.0 if options.quick else 3.0)
    options.rounds = options.rounds or (1 if options.quick else 3)
    return options


def _status(results: list[Result], *, check: bool) -> int:
    """Return 1 where an answer was wrong: such figures mean nothing. A missed target is told, and no more."""
    wrong = any(result.errors for result in results)
    missed = any(not result.reached for result in results)
    return int(wrong or (check and missed))


def _end(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def _say(what: str) -> None:
    sys.stderr.write(what + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
