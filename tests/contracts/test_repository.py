"""Every repository keeps the contract: in memory, SQLite, PostgreSQL by each driver, and on the host's own engine."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from prefsync.adapters.memory import MemoryRepository
from prefsync.adapters.sqlalchemy import SqlAlchemyRepository
from prefsync.testing import RepositoryContract, RepositoryOutageContract
from tests.contracts.support import OUTAGE_LIMIT, OUTAGES, connections_out, proxy_to, through
from tests.servers import create_database, drop_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from prefsync.testing import Outage
    from tests.servers import TcpProxy

POOL_SIZE = 4
"""Small, so that a connection that does not come back is missed soon."""


class TestMemory(RepositoryContract):
    """In this process."""

    @pytest.fixture(scope="class")
    @classmethod
    async def repository(cls) -> AsyncIterator[MemoryRepository]:
        """One for all tests of the class."""
        async with MemoryRepository() as repository:
            yield repository


class OnSql(RepositoryContract):
    """What all repositories on SQL have in common."""

    def in_use(self, repository: SqlAlchemyRepository) -> int:
        """Look into the pool."""
        return connections_out(repository)


class TestSqliteInMemory(OnSql):
    """SQLite in memory: one connection, gone when it is closed."""

    durable = False

    @pytest.fixture(scope="class")
    @classmethod
    async def repository(cls) -> AsyncIterator[SqlAlchemyRepository]:
        """One for all tests of the class."""
        async with SqlAlchemyRepository("sqlite://", pool_size=POOL_SIZE) as repository:
            yield repository


class TestSqliteFile(OnSql):
    """SQLite in a file, opened twice as by two processes."""

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, tmp_path_factory: pytest.TempPathFactory) -> str:
        """A file of the class's own."""
        return f"sqlite:///{tmp_path_factory.mktemp('file')}/prefs.sqlite3"

    @pytest.fixture(scope="class")
    @classmethod
    async def repository(cls, url: str) -> AsyncIterator[SqlAlchemyRepository]:
        """One for all tests of the class."""
        async with SqlAlchemyRepository(url, pool_size=POOL_SIZE) as repository:
            yield repository

    @pytest.fixture(scope="class")
    @classmethod
    async def twin(
        cls,
        repository: SqlAlchemyRepository,  # noqa: ARG003  # opened first
        url: str,
    ) -> AsyncIterator[SqlAlchemyRepository]:
        """The same file once more."""
        async with SqlAlchemyRepository(url, pool_size=2) as twin:
            yield twin


@pytest.fixture(scope="class")
def database(postgres_url: str) -> Iterator[str]:
    """A database for one class of tests, on the server of the run's."""
    name = f"prefsync_test_{secrets.token_hex(8)}"
    yield create_database(postgres_url, name)
    drop_database(postgres_url, name)


class OnPostgres(OnSql):
    """PostgreSQL, with two pools as in two processes."""

    driver = "postgresql"

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, database: str) -> str:
        """The database's URL, with the driver to use."""
        return database.replace("postgresql://", f"{cls.driver}://", 1)

    @pytest.fixture(scope="class")
    @classmethod
    async def repository(cls, url: str) -> AsyncIterator[SqlAlchemyRepository]:
        """One for all tests of the class."""
        async with SqlAlchemyRepository(url, pool_size=POOL_SIZE) as repository:
            yield repository

    @pytest.fixture(scope="class")
    @classmethod
    async def twin(
        cls,
        repository: SqlAlchemyRepository,  # noqa: ARG003  # opened first
        url: str,
    ) -> AsyncIterator[SqlAlchemyRepository]:
        """Another pool on the same database, its tables already there."""
        async with SqlAlchemyRepository(url, pool_size=2, create_tables=False) as twin:
            yield twin


class TestPostgresAsyncpg(OnPostgres):
    """PostgreSQL on asyncpg's own prepared statements."""


class TestPostgresPsycopg(OnPostgres):
    """PostgreSQL by psycopg through SQLAlchemy."""

    driver = "postgresql+psycopg"


@pytest.mark.once
class TestHostsPostgresEngine(OnPostgres):
    """The host's own async engine on PostgreSQL, which stays the host's."""

    driver = "postgresql+asyncpg"

    @pytest.fixture(scope="class")
    @classmethod
    async def repository(cls, url: str) -> AsyncIterator[SqlAlchemyRepository]:
        """A repository on an engine that is disposed of here, after the repository was closed."""
        engine = create_async_engine(url, pool_size=POOL_SIZE, max_overflow=0)
        async with SqlAlchemyRepository(engine) as repository:
            yield repository
        await engine.dispose()


@pytest.mark.once
class TestHostsSqliteEngine(OnSql):
    """The host's own async engine on SQLite."""

    @pytest.fixture(scope="class")
    @classmethod
    async def repository(
        cls, tmp_path_factory: pytest.TempPathFactory
    ) -> AsyncIterator[SqlAlchemyRepository]:
        """A repository on an engine as a host would make it."""
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('host')}/host.sqlite3")
        async with SqlAlchemyRepository(engine) as repository:
            yield repository
        await engine.dispose()


@pytest.fixture
async def proxy(postgres_url: str) -> AsyncIterator[TcpProxy]:
    """A network between us and PostgreSQL that can be broken."""
    async with proxy_to(postgres_url) as proxy:
        yield proxy


@pytest.fixture(params=OUTAGES)
def outage(request: pytest.FixtureRequest, proxy: TcpProxy) -> Outage:
    """Each way to lose a database."""
    outage: Outage = OUTAGES[request.param](proxy)
    return outage


@pytest.mark.once
class OnProxy(RepositoryOutageContract):
    """PostgreSQL behind a network that can be broken."""

    driver = "postgresql"

    @pytest.fixture(autouse=True)
    def _impatience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Find out sooner, though not so soon that a busy machine is taken for an outage."""
        monkeypatch.setattr("prefsync.adapters.sqlalchemy.runners._TIME_LIMIT", OUTAGE_LIMIT)
        monkeypatch.setattr("prefsync.adapters.sqlalchemy.asyncpg.TIME_LIMIT", OUTAGE_LIMIT)

    def in_use(self, repository: SqlAlchemyRepository) -> int:
        """Look into the pool."""
        return connections_out(repository)

    @pytest.fixture
    async def repository(self, database: str, proxy: TcpProxy) -> AsyncIterator[SqlAlchemyRepository]:
        """A repository on the other side of the proxy."""
        url = through(proxy, database).replace("postgresql://", f"{self.driver}://", 1)
        async with SqlAlchemyRepository(url, pool_size=POOL_SIZE) as repository:
            yield repository


class TestLostPostgresAsyncpg(OnProxy):
    """asyncpg's own pool."""


class TestLostPostgresPsycopg(OnProxy):
    """psycopg through SQLAlchemy."""

    driver = "postgresql+psycopg"
