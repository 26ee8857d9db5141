"""What a process does at start about a database of any age, and what it says."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import anyio
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from prefsync.adapters.sqlalchemy import SqlAlchemyRepository, upgrade_tables
from prefsync.adapters.sqlalchemy.preparing import _ADVISORY_LOCK
from prefsync.adapters.sqlalchemy.versions import HEAD, create_tables, version_of
from prefsync.blocking import BlockingRuntime
from prefsync.document import Subject
from prefsync.errors import IncompatibleTablesError, UnavailableError
from prefsync.parts import Parts
from prefsync.settings import Settings
from prefsync.testing.samples import PATIENCE
from tests.migrations.conftest import described, make_first_tables
from tests.migrations.test_upgrading import Appearance

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from prefsync.adapters.sqlalchemy.preparing import TablesMode

pytestmark = pytest.mark.once


def pretend(engine: Engine, revision: str) -> None:
    """Let the database be at a revision of code that is not written yet."""
    with engine.begin() as connection:
        upgrade_tables(connection)
        connection.execute(text("UPDATE prefsync_alembic_version SET version_num = :to"), {"to": revision})
        connection.exec_driver_sql("ALTER TABLE user_preferences ADD COLUMN colour VARCHAR(10)")


async def opened(url: str, tables: TablesMode) -> None:
    """Open the database as a process does that starts, and close it."""
    async with SqlAlchemyRepository(url, tables=tables) as repository:
        await repository.load(Subject("anna"))


@pytest.mark.parametrize("tables", ["create", "upgrade"])
async def test_an_empty_database_is_given_tables(url: str, engine: Engine, tables: TablesMode) -> None:
    """A host that sets nothing just starts; the tables are noted as being of this version."""
    await opened(url, tables)
    with engine.connect() as connection:
        version = version_of(connection)
    assert (version.revision, version.is_stamped) == (HEAD, True)
    await opened(url, tables)


async def test_an_empty_database_is_refused_where_nothing_may_change(url: str, engine: Engine) -> None:
    """With ``check``, tables that are missing are an error that names the command, and stay missing."""
    with pytest.raises(IncompatibleTablesError, match="prefsync db upgrade"):
        await opened(url, "check")
    assert described(engine) == {}


@pytest.mark.parametrize("tables", ["create", "check"])
async def test_an_older_database_is_refused(url: str, engine: Engine, tables: TablesMode) -> None:
    """Old tables are left as they are; one line says what they are, what is needed, and what to run."""
    make_first_tables(engine)
    before = described(engine)
    with pytest.raises(IncompatibleTablesError, match="prefsync db upgrade") as caught:
        await opened(url, tables)
    said = str(caught.value)
    assert "1_0001" in said
    assert HEAD in said
    assert "\n" not in said
    assert described(engine) == before


async def test_an_older_database_is_upgraded_where_the_host_asks_for_it(url: str, engine: Engine) -> None:
    """With ``upgrade``, the process that starts first brings the tables up to date."""
    make_first_tables(engine)
    await opened(url, "upgrade")
    with engine.connect() as connection:
        assert version_of(connection).revision == HEAD


@pytest.mark.parametrize("tables", ["create", "upgrade", "check"])
async def test_newer_tables_of_this_generation_will_do(
    url: str, engine: Engine, tables: TablesMode, caplog: pytest.LogCaptureFixture
) -> None:
    """While a deployment is under way the old code starts, says so, and works on what the new code has upgraded."""
    pretend(engine, "1_9999")
    before = described(engine)
    with caplog.at_level(logging.INFO, "prefsync"):
        await opened(url, tables)
    assert "1_9999, newer than this code" in caplog.text
    assert described(engine) == before
    with engine.begin() as connection:
        assert upgrade_tables(connection).revision == "1_9999", "nothing is taken back"


@pytest.mark.parametrize("tables", ["create", "upgrade", "check"])
@pytest.mark.parametrize("revision", ["2_0001", "b7f3a1"])
async def test_tables_of_another_generation_are_refused(
    url: str, engine: Engine, tables: TablesMode, revision: str
) -> None:
    """Code that newer tables are marked as incompatible with does not touch them."""
    pretend(engine, revision)
    before = described(engine)
    with pytest.raises(IncompatibleTablesError, match=f"{revision}.*newer prefsync-kit"):
        await opened(url, tables)
    with engine.connect() as connection, pytest.raises(IncompatibleTablesError):
        upgrade_tables(connection)
    assert described(engine) == before


@pytest.mark.parametrize("tables", ["create", "upgrade", "check"])
async def test_a_hosts_table_of_that_name_is_not_ours(url: str, engine: Engine, tables: TablesMode) -> None:
    """Where the host has a ``user_preferences`` of its own, it is left alone, and the error says what to do."""
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE user_preferences (id INTEGER PRIMARY KEY, theme VARCHAR(10))"
        )
    before = described(engine)
    with pytest.raises(IncompatibleTablesError, match="a database of its own"):
        await opened(url, tables)
    with engine.connect() as connection, pytest.raises(IncompatibleTablesError):
        upgrade_tables(connection)
    assert described(engine) == before


def test_a_blocking_host_recovers_without_a_restart(
    url: str, engine: Engine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flask opens with its first request: until the upgrade it answers 503, logs what to run, and then just works."""
    monkeypatch.setattr("prefsync.blocking.runtime._FAILED_PAUSE", 0.0)
    make_first_tables(engine)
    parts = Parts(repository=SqlAlchemyRepository(url))
    runtime = BlockingRuntime([Appearance], settings=Settings(), parts=parts)
    try:
        with pytest.raises(UnavailableError):
            runtime.handle(Subject("anna")).get(Appearance)
        assert "prefsync db upgrade" in caplog.text
        with engine.begin() as connection:
            upgrade_tables(connection)
        assert runtime.handle(Subject("anna")).get(Appearance).theme == "dark"
    finally:
        runtime.close()


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
async def test_a_transaction_that_sees_what_was(url: str, engine: Engine, isolation: str) -> None:
    """Whoever waited for another process finds its work done, be it that its own transaction still sees nothing."""
    if engine.dialect.name == "sqlite":
        pytest.skip("nobody waits for a lock there")
    hosts = create_async_engine(url.replace("postgresql:", "postgresql+psycopg:"), isolation_level=isolation)

    async def start() -> None:
        async with SqlAlchemyRepository(hosts) as repository:
            await repository.load(Subject("anna"))

    try:
        with engine.connect() as first, engine.connect() as looking, anyio.fail_after(PATIENCE):
            first.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADVISORY_LOCK})
            second = asyncio.create_task(start())
            waits = text(
                "SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database"
                " WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted"
            )
            while not looking.execute(waits).scalar():
                looking.rollback()
                await anyio.sleep(0.01)
            create_tables(first)
            first.commit()
            await second
    finally:
        await hosts.dispose()
