"""What all measurements of growth stand on."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import uvloop

from tests.bench import load
from tests.bench.measure import HOST, Figures
from tests.bench.meters import all_of, generator_meter, processor_meter
from tests.bench.stage import prefsync_settings, server_of
from tests.servers import create_database, drop_database

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence

    from tests.bench.cores import Cores
    from tests.bench.crowd import Crowd
    from tests.bench.outcome import Outcome
    from tests.bench.stage import Stores
    from tests.servers import ServerProcess

__all__ = ["Chart", "Ground", "Section"]

_WARM_UP: Final = 0.5


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture.

    Attributes:
        name: Of its file, less the ending.
        title: Above it.
        x: What the horizontal axis counts.
        y: What the vertical axis counts.
        lines: Points by label.
        is_logarithmic: Whether the horizontal axis is.
        ticks: Where the horizontal axis is marked; anywhere if empty.
    """

    name: str
    title: str
    x: str
    y: str
    lines: dict[str, list[tuple[float, float]]]
    is_logarithmic: bool = False
    ticks: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """What was found about one kind of growth.

    Attributes:
        title: What grows.
        rows: A table, its head first.
        charts: Pictures of it.
        outcomes: What was asked for, and whether it was found.
    """

    title: str
    rows: list[Sequence[str]]
    charts: list[Chart]
    outcomes: list[Outcome] = field(default_factory=list)


class Ground:
    """Stores, a core for servers, and an event loop for the load; a context manager.

    Args:
        cores: Who runs where.
        stores: PostgreSQL and Redis.
        seconds: For each measurement.
        rounds: How often two sides are measured in turns.
        progress: Told what is being done.
    """

    def __init__(
        self, cores: Cores, stores: Stores, *, seconds: float, rounds: int, progress: Callable[[str], None]
    ) -> None:
        self._cores = cores
        self.stores = stores
        self.seconds = seconds
        self.rounds = rounds
        self.progress = progress
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the load's event loop."""
        return self._runner.run(work)

    @contextmanager
    def database(self) -> Iterator[str]:
        """Make a database, and drop it afterwards."""
        server = urlunsplit(urlsplit(self.stores.postgres)._replace(path="/postgres"))
        name = f"prefsync_growth_{secrets.token_hex(8)}"
        try:
            yield create_database(server, name)
        finally:
            drop_database(server, name)

    def app(self, postgres: str, key: str, **settings: str) -> ServerProcess:
        """Return the example app's process, which is still to be started, with more settings than the usual ones."""
        env = {**prefsync_settings(postgres, self.stores.redis, key), **settings}
        return server_of(self._cores, "examples", "fastapi_app:app", env)

    def execute(self, postgres: str, *statements: str) -> list[Any]:
        """Run statements, and return what the last one gave."""

        async def work() -> list[Any]:
            connection: Any = await asyncpg.connect(postgres)
            try:
                for statement in statements[:-1]:
                    await connection.execute(statement, timeout=3_600)
                found: list[Any] = await connection.fetch(statements[-1], timeout=3_600)
                return found
            finally:
                await connection.close()

        return self.run(work())  # type: ignore[no-any-return]

    def fill(self, server: ServerProcess, crowd: Crowd) -> None:
        """Store the documents of a crowd."""
        self.ask(server, crowd.stores(lambda _: "/preferences"))

    def ask(
        self, server: ServerProcess, requests: Iterable[bytes], status: bytes = b"200"
    ) -> dict[bytes, bytes]:
        """Send each of these requests once, and return the answers."""
        return self.run(load.exchange(HOST, server.port, requests, status=status))  # type: ignore[no-any-return]

    def load(
        self,
        servers: Sequence[ServerProcess],
        requests: Callable[[], Iterator[bytes]],
        check: Callable[[bytes, bytes], None],
        connections: int = 32,
    ) -> Figures:
        """Load servers, each with its part of the connections, and return their figures together.

        Raises:
            AssertionError: An answer was wrong.
        """

        async def one(server: ServerProcess) -> load.Sample:
            return await load.run(
                HOST,
                server.port,
                requests(),
                status=b"200",
                check=check,
                connections=max(1, connections // len(servers)),
                warm_up=_WARM_UP,
                seconds=self.seconds,
                probe=all_of(processor_meter(server.pid), generator_meter, self.stores.meter),
            )

        async def every() -> list[load.Sample]:
            return await asyncio.gather(*map(one, servers))

        samples: list[load.Sample] = self.run(every())
        wrong = [sample.first_error for sample in samples if sample.errors]
        assert not wrong, wrong[0][:1_000]
        spent = dict(samples[0].spent)
        spent["cpu"] = sum(sample.spent["cpu"] for sample in samples)
        latencies = sorted(latency for sample in samples for latency in sample.latencies)
        return Figures.of(load.Sample(latencies, samples[0].seconds, 0, "", spent))
