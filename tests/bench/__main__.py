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
from tests.bench.importing import import_time
from tests.bench.machine import describe
from tests.bench.measure import Bench, Result
from tests.bench.pages import put_into
from tests.bench.report import as_figures, as_json, as_outcomes, as_table, as_text
from tests.bench.stage import found_stores, started
from tests.bench.tap import PostgresTap
from tests.bench.traffic import cases, real_answers

_REALTIME = "realtime"
_IMPORT = "import"
_PAGE = Path(__file__).parents[2] / "docs" / "performance.md"


def main() -> int:
    """Measure, print, and return the exit status."""
    signal.signal(signal.SIGTERM, _end)  # or servers and a database would be left behind
    crowd = Crowd()
    known = cases(crowd)
    options = _options([*(case.name for case in known), _REALTIME, _IMPORT])
    crowd.skew = options.zipf
    results = [Result(case) for case in known if not options.only or case.name in options.only]
    rows: list[Row] = []
    is_realtime = not options.only or _REALTIME in options.only
    cores = choose()
    pin(cores.load)
    if not options.only or _IMPORT in options.only:
        _say("import prefsync")
        rows.append(import_time())
    if not results and not is_realtime:
        sys.stdout.write(as_outcomes(rows[0].outcomes) + "\n")
        return 0
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
            only = {"prefsync", KINDS[kind].floor}
            with started(cores, stores.postgres, stores.redis, crowd.key, sample, only) as stage:
                rows += Fanout(stage, crowd, _say).spread(kind, options.rounds)
    notes = [
        cores.note,
        f"{options.connections} connections, Zipf's s = {options.zipf:g}",
        f"rounds: {options.rounds}, of {options.seconds:g} s for each measurement",
        "each server under uvicorn calls gc.freeze() after its start, as docs/production.md advises",
        *stores.notes,
    ]
    of_rows = (outcome for row in rows for outcome in row.outcomes)
    outcomes = [*(outcome for result in results for outcome in result.outcomes), *of_rows]
    closing = as_outcomes(outcomes)
    if rows:
        sys.stdout.write(as_table(rows) + "\n\n")
    sys.stdout.write(as_text(results, machine, notes) + "\n\n" + closing + "\n")
    if options.json:
        options.json.write_text(json.dumps(as_json(results, rows, machine, notes), indent=1) + "\n")
    if options.docs:
        put_into(_PAGE, "bench", closing + "\n\n" + as_figures(results))
    wrong = any(result.errors for result in results)
    missed = not all(outcome.reached for outcome in outcomes)
    return int(wrong or (options.check and missed))  # figures mean nothing where an answer was wrong


def _options(names: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--seconds", type=float, help="for each measurement (2)")
    parser.add_argument("--rounds", type=int, help="of floor and work (3)")
    parser.add_argument("--connections", type=int, default=32, help="kept busy at once (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="one short round: to see that it runs")
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
    parser.add_argument("--docs", action="store_true", help="put the tables into docs/performance.md")
    parser.add_argument("--check", action="store_true", help="fail where a target is missed")
    options = parser.parse_args()
    options.seconds = options.seconds or (0.8 if options.quick else 2.0)
    options.rounds = options.rounds or (1 if options.quick else 3)
    return options


def _end(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def _say(what: str) -> None:
    sys.stderr.write(what + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
