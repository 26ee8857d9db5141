"""Every repository keeps the contract: in memory, SQLite, PostgreSQL by each driver, and on the host's own engines."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import StaticPool

from prefsync.adapters.memory import MemoryRepository
from prefsync.adapters.sqlalchemy import SqlAlchemyRepository
from prefsync.testing import RepositoryContract, RepositoryOutageContract
from tests.conftest import available
from tests.contracts.support import OUTAGE_LIMIT, OUTAGES, connections_out, proxy_to, through
from tests.servers import (
    PrivatePgbouncer,
    create_database,
    create_mysql_database,
    drop_database,
    drop_mysql_database,
)

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


@pytest.mark.once
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
def mysql_database(mysql_url: str) -> Iterator[str]:
    """A database for one class of tests, on the MySQL or MariaDB of the run's."""
    name = f"prefsync_test_{secrets.token_hex(8)}"
    yield create_mysql_database(mysql_url, name)
    drop_mysql_database(mysql_url, name)


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
        async with SqlAlchemyRepository(url, pool_size=2, tables="check") as twin:
            yield twin


class TestPostgresAsyncpg(OnPostgres):
    """PostgreSQL on asyncpg's own prepared statements."""


@pytest.mark.once
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


class OnHostsSyncPostgresEngine(OnPostgres):
    """The host's own sync engine on PostgreSQL, with a URL's pool beside it as in another process."""

    @pytest.fixture(scope="class")
    @classmethod
    async def repository(cls, url: str) -> AsyncIterator[SqlAlchemyRepository]:
        """A repository on an engine that is disposed of here, after the repository was closed."""
        engine = create_engine(url, pool_size=POOL_SIZE, max_overflow=0)
        async with SqlAlchemyRepository(engine) as repository:
            yield repository
        engine.dispose()

    @pytest.fixture(scope="class")
    @classmethod
    async def twin(
        cls,
        repository: SqlAlchemyRepository,  # noqa: ARG003  # opened first
        database: str,
    ) -> AsyncIterator[SqlAlchemyRepository]:
        """The same database by URL: the two kinds of process can be mixed."""
        async with SqlAlchemyRepository(database, pool_size=2, tables="check") as twin:
            yield twin


@pytest.mark.once
class TestHostsSyncPostgresEngine(OnHostsSyncPostgresEngine):
    """By psycopg."""

    driver = "postgresql+psycopg"


@pytest.mark.once
class TestHostsSyncPostgresEngineOnPsycopg2(OnHostsSyncPostgresEngine):
    """By psycopg2."""

    driver = "postgresql+psycopg2"


@pytest.mark.once
class TestHostsSyncSqliteEngine(OnSql):
    """The host's own sync engine on SQLite, and another one as in another process."""

    @pytest.fixture(scope="class")
    @classmethod
    def file(cls, tmp_path_factory: pytest.TempPathFactory) -> str:
        """A file of the class's own."""
        return f"sqlite:///{tmp_path_factory.mktemp('host')}/host.sqlite3"

    @pytest.fixture(scope="class")
    @classmethod
    async def repository(cls, file: str) -> AsyncIterator[SqlAlchemyRepository]:
        """A repository on an engine as a host would make it."""
        engine = create_engine(file)
        async with SqlAlchemyRepository(engine) as repository:
            yield repository
        engine.dispose()

    @pytest.fixture(scope="class")
    @classmethod
    async def twin(
        cls,
        repository: SqlAlchemyRepository,  # noqa: ARG003  # opened first
        file: str,
    ) -> AsyncIterator[SqlAlchemyRepository]:
        """The same file once more."""
        engine = create_engine(file)
        async with SqlAlchemyRepository(engine) as twin:
            yield twin
        engine.dispose()


@pytest.mark.once
class TestHostsSyncEngineInMemory(OnSql):
    """The one way in which a sync engine's threads share a database in memory: one connection for all."""

    @pytest.fixture(scope="class")
    @classmethod
    async def repository(cls) -> AsyncIterator[SqlAlchemyRepository]:
        """A repository on an engine as a host's tests would make it."""
        engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        async with SqlAlchemyRepository(engine) as repository:
            yield repository
        engine.dispose()


class OnPgbouncer(OnPostgres):
    """PostgreSQL behind PgBouncer in transaction mode, which has two connections for all of ours."""

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, database: str) -> Iterator[str]:
        """The database's URL through PgBouncer, with the driver to use."""
        with available(lambda: PrivatePgbouncer(database)) as pgbouncer:
            yield pgbouncer.url.replace("postgresql://", f"{cls.driver}://", 1)


@pytest.mark.once
class TestPgbouncerAsyncpg(OnPgbouncer):
    """By asyncpg, which finds out that it is there."""

    driver = "postgresql+asyncpg"


@pytest.mark.once
class TestPgbouncerPsycopg(OnPgbouncer):
    """By psycopg."""

    driver = "postgresql+psycopg"


class OnMysql(OnSql):
    """MySQL or MariaDB, with two pools as in two processes."""

    driver = "mysql"

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, mysql_database: str) -> str:
        """The database's URL, with the driver to use."""
        return mysql_database.replace("mysql://", f"{cls.driver}://", 1)

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
        mysql_database: str,
    ) -> AsyncIterator[SqlAlchemyRepository]:
        """The same database by URL, its tables already there."""
        async with SqlAlchemyRepository(mysql_database, pool_size=2, tables="check") as twin:
            yield twin


@pytest.mark.once
class TestMysql(OnMysql):
    """By the driver that the extra brings."""


@pytest.mark.once
class TestHostsMysqlEngine(OnMysql):
    """The host's own async engine, with the server's own isolation: repeatable read."""

    driver = "mysql+asyncmy"

    @pytest.fixture(scope="class")
    @classmethod
    async def repository(cls, url: str) -> AsyncIterator[SqlAlchemyRepository]:
        """A repository on an engine that is disposed of here, after the repository was closed."""
        engine = create_async_engine(url, pool_size=POOL_SIZE, max_overflow=0)
        async with SqlAlchemyRepository(engine) as repository:
            yield repository
        await engine.dispose()


@pytest.mark.once
class TestHostsSyncMysqlEngine(OnMysql):
    """The host's own sync engine, by PyMySQL and under the name of MariaDB."""

    driver = "mariadb+pymysql"

    @pytest.fixture(scope="class")
    @classmethod
    async def repository(cls, url: str) -> AsyncIterator[SqlAlchemyRepository]:
        """A repository on an engine that is disposed of here, after the repository was closed."""
        engine = create_engine(url, pool_size=POOL_SIZE, max_overflow=0)
        async with SqlAlchemyRepository(engine) as repository:
            yield repository
        engine.dispose()


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


class OnHostsSyncEngine(OnProxy):
    """The host's own sync engine, made without a thought of outages."""

    @pytest.fixture
    async def repository(self, database: str, proxy: TcpProxy) -> AsyncIterator[SqlAlchemyRepository]:
        """A repository on the other side of the proxy."""
        url = through(proxy, database).replace("postgresql://", f"{self.driver}://", 1)
        engine = create_engine(url, pool_size=POOL_SIZE, max_overflow=0)
        async with SqlAlchemyRepository(engine) as repository:
            yield repository
        engine.dispose()


class TestLostHostsSyncPostgresEngine(OnHostsSyncEngine):
    """By psycopg."""

    driver = "postgresql+psycopg"


class TestLostHostsSyncPostgresEngineOnPsycopg2(OnHostsSyncEngine):
    """By psycopg2."""

    driver = "postgresql+psycopg2"
