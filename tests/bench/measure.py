"""One measurement, and the order of all: each beside its floor, in rounds, because machines are never quiet."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Final, Self

import uvloop

from tests.bench import load
from tests.bench.meters import COMMAND, all_of, generator_meter, processor_meter
from tests.bench.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tests.bench.meters import Meter
    from tests.bench.stage import Stage
    from tests.bench.traffic import Ask, Case, Traffic

__all__ = ["Bench", "Figures", "Result"]

HOST: Final = "127.0.0.1"
_WARM_UP: Final = 0.5
_COUNTING: Final = 0.6
_LOG: Final = 4_000
"""Of a failing server's log, so many characters."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one measurement found.

    Attributes:
        rate: Requests a second.
        p50: Milliseconds.
        p99: Milliseconds.
        cpu: Microseconds of the server's processor time for each request.
        server_busy: The part of its core that the server used.
        server_waited: The part of the time that it was ready to run and something else had its core.
        generator_busy: The part of the time that the load generator had something to do; near 1, it was the limit.
        redis_trips: Round trips to Redis for each request.
        commands: Redis commands for each request, by name, those inside of scripts included.
        errors: Wrong answers.
        first_error: What was wrong with the first.
    """

    rate: float
    p50: float
    p99: float
    cpu: float
    server_busy: float
    server_waited: float
    generator_busy: float
    redis_trips: float
    commands: dict[str, float]
    errors: int
    first_error: str

    @classmethod
    def of(cls, sample: load.Sample) -> Self:
        """Work out the figures of a run."""
        latencies, spent = sample.latencies, sample.spent
        answers = len(latencies)
        if not answers:
            raise load.LoadError("no answer came while it was measured")
        return cls(
            rate=answers / sample.seconds,
            p50=latencies[answers // 2] * 1e3,
            p99=latencies[answers * 99 // 100] * 1e3,
            cpu=spent["cpu"] / answers * 1e6,
            server_busy=spent["cpu"] / sample.seconds,
            server_waited=spent["waited"] / sample.seconds,
            generator_busy=spent["generator"] / sample.seconds,
            redis_trips=spent["redis_trips"] / answers,
            commands={
                name.removeprefix(COMMAND): value / answers
                for name, value in spent.items()
                if name.startswith(COMMAND) and value
            },
            errors=sample.errors,
            first_error=sample.first_error,
        )


@dataclass(slots=True)
class Result:
    """What was found about one case; a list has one entry for each round.

    Attributes:
        case: Which.
        work: What is measured.
        floor: What it is compared with.
        by_hand: The server that was written by hand, where it is compared with that, too.
        work_counted: What the tap counted for each request.
        floor_counted: Likewise of the floor.
        by_hand_counted: Likewise of that server.
    """

    case: Case
    work: list[Figures] = field(default_factory=list)
    floor: list[Figures] = field(default_factory=list)
    by_hand: list[Figures] = field(default_factory=list)
    work_counted: dict[str, float] = field(default_factory=dict)
    floor_counted: dict[str, float] = field(default_factory=dict)
    by_hand_counted: dict[str, float] = field(default_factory=dict)

    @property
    def ratios(self) -> list[float]:
        """The work's rate divided by that of the floor beside it, by round."""
        return [work.rate / floor.rate for work, floor in zip(self.work, self.floor, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the ratios: what is compared with the target."""
        return median(self.ratios)

    @property
    def ratio_by_cpu(self) -> float:
        """The same by processor time: steadier where something else takes time on the same cores."""
        return median(floor.cpu / work.cpu for work, floor in zip(self.work, self.floor, strict=True))

    @property
    def times(self) -> list[float]:
        """The work's rate divided by that of the server written by hand, by round."""
        return [work.rate / by_hand.rate for work, by_hand in zip(self.work, self.by_hand, strict=True)]

    @property
    def slower(self) -> list[float]:
        """The work's median latency divided by the floor's, by round."""
        return [work.p50 / floor.p50 for work, floor in zip(self.work, self.floor, strict=True)]

    @property
    def outcomes(self) -> list[Outcome]:
        """What was asked of it, and what was found."""
        case, label = self.case, self.case.floor.label
        found: list[Outcome] = []
        if case.target is not None:
            found.append(Outcome.at_least(case.title, case.target, f"of the {label}", self.ratios))
        if case.times is not None:
            found.append(Outcome.at_least(case.title, case.times, "times the one by hand", self.times))
        if case.slower is not None:
            what = f"times the {label}'s p50"
            found.append(Outcome.at_most(case.title, case.slower, what, self.slower))
        counted = self.work_counted.get("statements")
        if case.statements is not None and counted is not None:
            found.append(Outcome.at_most(case.title, case.statements, "statements a request", [counted]))
        return found

    @property
    def errors(self) -> list[str]:
        """The first error of each measurement that had any."""
        every = (*self.work, *self.floor, *self.by_hand)
        return [figures.first_error for figures in every if figures.errors]


class Bench:
    """Runs loads on an event loop of its own, while everything around it blocks; a context manager.

    Args:
        seconds: For each measurement.
        connections: How many requests are under way at any time, where a case does not say.
        progress: Told what is being done.
    """

    def __init__(self, *, seconds: float, connections: int, progress: Callable[[str], None]) -> None:
        self._seconds = seconds
        self._connections = connections
        self._progress = progress
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.close()

    def ask(self, port: int) -> Ask:
        """Return what sends single requests to a server."""

        def ask(requests: Iterable[bytes], status: bytes = b"200") -> dict[bytes, bytes]:
            return self._runner.run(load.exchange(HOST, port, requests, status=status))

        return ask

    def count(self, stage: Stage, results: Sequence[Result], meter: Meter) -> None:
        """Count for each request; of time this says nothing."""
        seconds = min(self._seconds, _COUNTING)
        for result in results:
            for traffic, counted in (
                (result.case.floor, result.floor_counted),
                (result.case.by_hand, result.by_hand_counted),
                (result.case.work, result.work_counted),
            ):
                if traffic is None:
                    continue
                self._progress(f"counting: {result.case.title}: {traffic.label}")
                sample = self._load(stage, result.case, traffic, meter, seconds)
                counted.update({name: value / len(sample.latencies) for name, value in sample.spent.items()})

    def measure(self, stage: Stage, results: Sequence[Result], rounds: int, meter: Meter) -> None:
        """Measure every case beside its floor, as many times.

        Args:
            stage: The servers.
            results: Of which cases; they are filled.
            rounds: How many times.
            meter: Read beside those of the processor.
        """
        for number in range(1, rounds + 1):
            known: dict[Traffic, Figures] = {}
            for result in results:
                case = result.case
                for traffic, figures in (
                    (case.by_hand, result.by_hand),
                    (case.floor, result.floor),
                    (case.work, result.work),
                ):
                    if traffic is None:
                        continue
                    if traffic is case.by_hand and traffic in known:
                        figures.append(known[traffic])  # several times as slow: nearness in time matters less
                        continue
                    name = f"round {number} of {rounds}: {case.title}: {traffic.label}"
                    self._progress(name)
                    meters = all_of(
                        processor_meter(stage.servers[traffic.server].pid), generator_meter, meter
                    )
                    found = Figures.of(self._load(stage, case, traffic, meters, self._seconds))
                    figures.append(found)
                    known[traffic] = found
                    self._progress(f"{name}: {found.rate:,.0f}/s, p99 {found.p99:.2f} ms, {found.cpu:.0f} µs")

    def _load(self, stage: Stage, case: Case, traffic: Traffic, meter: Meter, seconds: float) -> load.Sample:
        server = stage.servers[traffic.server]
        try:
            return self._runner.run(
                load.run(
                    HOST,
                    server.port,
                    traffic.requests(self.ask(server.port)),
                    status=traffic.status,
                    check=traffic.check,
                    connections=case.connections or self._connections,
                    warm_up=_WARM_UP,
                    seconds=seconds,
                    probe=meter,
                )
            )
        except load.LoadError as error:
            error.add_note(f"the server says:\n{server.output[-_LOG:]}")
            raise
