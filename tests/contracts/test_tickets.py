"""Every store of tickets keeps the contract: in memory, in Redis, and in each database by each driver."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from prefsync.adapters.memory import MemoryTickets
from prefsync.adapters.redis import RedisTickets
from prefsync.adapters.sqlalchemy import SqlAlchemyRepository, SqlAlchemyTickets
from prefsync.testing import FakeClock, TicketsContract, TicketsOutageContract
from tests.contracts.support import (
    OUTAGE_LIMIT,
    OUTAGES,
    commands_under_way,
    connections_out,
    impatient_link,
    patient_link,
    proxy_to,
    through,
)
from tests.servers import create_database, create_mysql_database, drop_database, drop_mysql_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from prefsync.testing import Outage
    from tests.servers import TcpProxy


class OnFakeTime(TicketsContract):
    """Stores whose clock is the test's."""

    @pytest.fixture(autouse=True)
    def _clock(self) -> None:
        self.clock = FakeClock()

    async def pass_time(self, seconds: float) -> None:
        """Move the clock."""
        self.clock.advance(seconds)


class TestMemory(OnFakeTime):
    """In this process."""

    @pytest.fixture
    async def tickets(self) -> AsyncIterator[MemoryTickets]:
        """A store of its own for each test."""
        async with MemoryTickets(self.clock) as tickets:
            yield tickets

    async def test_it_forgets_what_nobody_takes(self) -> None:
        """Tickets that expired are dropped by later ones."""
        tickets = MemoryTickets(self.clock)
        for number in range(1_000):
            await tickets.put(str(number), b"", 60)
            self.clock.advance(1)
        assert len(tickets._kept) <= 61


class TestRedis(TicketsContract):
    """Redis, with two links as in two processes."""

    def in_use(self, tickets: RedisTickets) -> int:
        """Look at the link."""
        return commands_under_way(tickets._link)

    @pytest.fixture
    async def tickets(self, redis_url: str, redis_prefix: str) -> AsyncIterator[RedisTickets]:
        """A store under the test's own prefix."""
        async with RedisTickets(patient_link(redis_url, redis_prefix)) as tickets:
            yield tickets

    @pytest.fixture
    async def twin(self, redis_url: str, redis_prefix: str) -> AsyncIterator[RedisTickets]:
        """Another link to the same Redis."""
        async with RedisTickets(patient_link(redis_url, redis_prefix)) as twin:
            yield twin


class OnSql(OnFakeTime):
    """What all stores on SQL have in common."""

    def in_use(self, tickets: SqlAlchemyTickets) -> int:
        """Look into the pool."""
        return connections_out(tickets._repository)

    @pytest.fixture
    async def repositories(
        self, url: str
    ) -> AsyncIterator[tuple[SqlAlchemyRepository, SqlAlchemyRepository]]:
        """One database, opened as by two processes."""
        async with SqlAlchemyRepository(url, pool_size=4) as one:
            async with SqlAlchemyRepository(url, pool_size=2, tables="check") as other:
                yield one, other

    @pytest.fixture
    def tickets(self, repositories: tuple[SqlAlchemyRepository, SqlAlchemyRepository]) -> SqlAlchemyTickets:
        """A store in it."""
        return SqlAlchemyTickets(repositories[0], self.clock)

    @pytest.fixture
    def twin(self, repositories: tuple[SqlAlchemyRepository, SqlAlchemyRepository]) -> SqlAlchemyTickets:
        """Another process's."""
        return SqlAlchemyTickets(repositories[1], self.clock)

    async def test_it_forgets_what_nobody_takes(self, tickets: SqlAlchemyTickets) -> None:
        """Tickets that expired are removed by later ones."""
        for number in range(120):
            await tickets.put(secrets.token_hex(8), str(number).encode(), 60)
            self.clock.advance(1)
        names = [secrets.token_hex(8) for _ in range(60)]
        for name in names:
            await tickets.put(name, b"", 600)
        from sqlalchemy import text

        from prefsync.adapters.sqlalchemy.operations import Statement

        def count():  # noqa: ANN202  # an operation, as the repository runs them
            rows = yield Statement(text("SELECT count(*) FROM preference_tickets")), {}
            return rows[0][0]

        assert await tickets._repository.run(count()) <= 60 + 60 + 50


class TestSqlite(OnSql):
    """SQLite in a file."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        """A file of the test's own."""
        return f"sqlite:///{tmp_path}/prefs.sqlite3"


@pytest.mark.once
class TestMysql(OnSql):
    """MySQL or MariaDB, which tell nothing of what they delete but its number."""

    @pytest.fixture
    def url(self, mysql_url: str) -> Iterator[str]:
        """A database of the test's own."""
        name = f"prefsync_test_{secrets.token_hex(8)}"
        yield create_mysql_database(mysql_url, name)
        drop_mysql_database(mysql_url, name)


@pytest.fixture(scope="class")
def database(postgres_url: str) -> Iterator[str]:
    """A database for one class of tests, on the server of the run's."""
    name = f"prefsync_test_{secrets.token_hex(8)}"
    yield create_database(postgres_url, name)
    drop_database(postgres_url, name)


class TestPostgresAsyncpg(OnSql):
    """PostgreSQL on asyncpg."""

    driver = "postgresql"

    @pytest.fixture
    def url(self, database: str) -> str:
        """The database's URL, with the driver to use."""
        return database.replace("postgresql://", f"{self.driver}://", 1)


@pytest.mark.once
class TestPostgresPsycopg(TestPostgresAsyncpg):
    """PostgreSQL by psycopg through SQLAlchemy."""

    driver = "postgresql+psycopg"


@pytest.mark.once
class TestLostRedis(TicketsOutageContract):
    """Redis behind a network that can be broken."""

    @pytest.fixture
    async def proxy(self, redis_url: str) -> AsyncIterator[TcpProxy]:
        """The network."""
        async with proxy_to(redis_url) as proxy:
            yield proxy

    @pytest.fixture
    async def tickets(
        self, redis_url: str, redis_prefix: str, proxy: TcpProxy
    ) -> AsyncIterator[RedisTickets]:
        """A store on its other side."""
        async with RedisTickets(impatient_link(through(proxy, redis_url), redis_prefix)) as tickets:
            yield tickets

    @pytest.fixture(params=OUTAGES)
    def outage(self, request: pytest.FixtureRequest, proxy: TcpProxy) -> Outage:
        """Each way to lose it."""
        outage: Outage = OUTAGES[request.param](proxy)
        return outage


@pytest.mark.once
class TestLostPostgres(TicketsOutageContract):
    """PostgreSQL behind a network that can be broken."""

    def in_use(self, tickets: SqlAlchemyTickets) -> int:
        """Look into the pool."""
        return connections_out(tickets._repository)

    @pytest.fixture(autouse=True)
    def _impatience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Find out sooner, so that the tests need not wait as long as a host would."""
        monkeypatch.setattr("prefsync.adapters.sqlalchemy.runners._TIME_LIMIT", OUTAGE_LIMIT)
        monkeypatch.setattr("prefsync.adapters.sqlalchemy.asyncpg.TIME_LIMIT", OUTAGE_LIMIT)

    @pytest.fixture
    async def proxy(self, postgres_url: str) -> AsyncIterator[TcpProxy]:
        """The network."""
        async with proxy_to(postgres_url) as proxy:
            yield proxy

    @pytest.fixture
    async def tickets(self, database: str, proxy: TcpProxy) -> AsyncIterator[SqlAlchemyTickets]:
        """A store on its other side."""
        async with SqlAlchemyRepository(through(proxy, database), pool_size=2) as repository:
            yield SqlAlchemyTickets(repository)

    @pytest.fixture(params=OUTAGES)
    def outage(self, request: pytest.FixtureRequest, proxy: TcpProxy) -> Outage:
        """Each way to lose it."""
        outage: Outage = OUTAGES[request.param](proxy)
        return outage
