"""Databases of a host that keeps preferences beside its own rows."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from prefsync import Runtime, Settings
from prefsync.testing import FakeClock
from tests.servers import create_database, create_mysql_database, drop_database, drop_mysql_database
from tests.transactions.host import Appearance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine


@dataclass(frozen=True)
class Home:
    """A database.

    Attributes:
        url: As prefsync is told of it.
        driver: Of the host's own async engine.
        blocking_driver: Of the host's own sync engine.
    """

    url: str
    driver: str
    blocking_driver: str

    def by(self, driver: str) -> str:
        """Return the URL with a driver."""
        return self.url.replace(self.url.partition("://")[0], driver, 1)


HOMES = {
    "asyncpg": ("postgresql+asyncpg", "postgresql+psycopg"),
    "psycopg": ("postgresql+psycopg", "postgresql+psycopg2"),
    "mysql": ("mysql+asyncmy", "mysql+pymysql"),
    "sqlite": ("sqlite+aiosqlite", "sqlite"),
}


@pytest.fixture(scope="session")
def database(postgres_url: str) -> Iterator[str]:
    """A PostgreSQL database with the host's table."""
    name = f"prefsync_test_{secrets.token_hex(8)}"
    yield create_database(postgres_url, name)
    drop_database(postgres_url, name)


@pytest.fixture(scope="session")
def mysql_database(mysql_url: str) -> Iterator[str]:
    """A database on MySQL or MariaDB with the host's table."""
    name = f"prefsync_test_{secrets.token_hex(8)}"
    yield create_mysql_database(mysql_url, name)
    drop_mysql_database(mysql_url, name)


@pytest.fixture(params=HOMES)
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """Each kind of database, by each driver, with the host's own table."""
    driver, blocking_driver = HOMES[request.param]
    match request.param:
        case "sqlite":
            url = f"sqlite:///{tmp_path / 'host.db'}"
        case "mysql":
            url = request.getfixturevalue("mysql_database")
        case _:
            url = request.getfixturevalue("database")
    home = Home(url, driver, blocking_driver)
    engine = create_engine(home.by(blocking_driver))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS users (id VARCHAR(64) PRIMARY KEY)"))
    engine.dispose()
    return home


@pytest.fixture
async def engine(home: Home) -> AsyncIterator[AsyncEngine]:
    """The host's own async engine."""
    engine = create_async_engine(home.by(home.driver))
    yield engine
    await engine.dispose()


@pytest.fixture
def blocking_engine(home: Home) -> Iterator[Engine]:
    """The host's own sync engine."""
    engine = create_engine(home.by(home.blocking_driver))
    yield engine
    engine.dispose()


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still."""
    return FakeClock()


@pytest.fixture
async def runtime(home: Home, clock: FakeClock) -> AsyncIterator[Runtime]:
    """Prefsync on the same database, with connections of its own."""
    settings = Settings(database_url=home.url)
    async with Runtime([Appearance], settings=settings, authenticates=False, clock=clock) as runtime:
        yield runtime


@pytest.fixture
def user() -> str:
    """Somebody new."""
    return secrets.token_hex(8)
