"""Databases of every age come to the tables that this code is made for."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from prefsync import Parts, Preferences, Runtime, Settings, Subject
from prefsync.adapters.sqlalchemy import SqlAlchemyRepository, metadata, upgrade_tables
from prefsync.adapters.sqlalchemy.migrations import differences, sql_of, steps
from prefsync.adapters.sqlalchemy.versions import HEAD, REVISIONS, VERSION_TABLE, Standing, version_of
from tests.migrations.conftest import described, make_first_tables

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from prefsync.adapters.sqlalchemy.versions import TablesVersion

pytestmark = pytest.mark.once

LIMIT = 60


class Appearance(Preferences, namespace="appearance"):
    """What Anna has set."""

    theme: str = "system"


def upgraded(engine: Engine, to: str = HEAD) -> TablesVersion:
    """Upgrade, as a script would."""
    with engine.begin() as connection:
        return upgrade_tables(connection, to=to)


def test_the_revisions_are_those_in_the_folder() -> None:
    """What a process compares a database with, without Alembic, are the revisions that there are, in their order."""
    assert [revision for revision, _ in steps()] == list(REVISIONS)
    assert all(about.endswith(".") for _, about in steps())
    assert all(re.fullmatch(r"\d+_\d{4}", revision) for revision in REVISIONS)


async def test_no_drift(url: str, engine: Engine) -> None:
    """The revisions lead to the very tables that a new database is given, and to those in the code."""
    upgraded(engine)
    migrated = described(engine)
    with engine.begin() as connection:
        assert differences(connection) == []
        metadata.drop_all(connection)
        connection.exec_driver_sql(f"DROP TABLE {VERSION_TABLE}")
    assert described(engine) == {}
    async with SqlAlchemyRepository(url) as repository:
        await repository.ping()
    assert described(engine) == migrated
    assert set(migrated) == {*metadata.tables, VERSION_TABLE}


def test_drift_is_seen(engine: Engine) -> None:
    """Tables that somebody changed by hand are told of, each change in words."""
    upgraded(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE preference_tickets ADD COLUMN colour VARCHAR(10)")
        connection.exec_driver_sql("DROP INDEX ix_preference_changes_at")
        connection.exec_driver_sql("DROP TABLE preference_relay")
        told = differences(connection)
    assert {"remove column: preference_tickets.colour", "add table: preference_relay"} <= set(told)
    assert any("ix_preference_changes_at" in line for line in told)


async def test_the_first_databases_are_adopted(url: str, engine: Engine) -> None:
    """A database from before there were versions keeps what is in it, and gets what it lacks."""
    make_first_tables(engine)
    with engine.connect() as connection:
        before = version_of(connection)
    assert (before.standing, before.revision, before.is_stamped) == (Standing.OLDER, "1_0001", False)
    after = upgraded(engine)
    assert (after.standing, after.revision, after.is_stamped) == (Standing.CURRENT, HEAD, True)
    with engine.connect() as connection:
        assert differences(connection) == []
    runtime = Runtime(
        [Appearance],
        settings=Settings(),
        parts=Parts(repository=SqlAlchemyRepository(url)),
        authenticates=False,
    )
    async with runtime:
        handle = runtime.handle(Subject("anna"))
        assert (await handle.get(Appearance)).theme == "dark"
        await handle.update(Appearance, theme="light")
        await runtime.service.erase(Subject("anna"))


async def test_tables_of_the_hosts_making_are_adopted(url: str, engine: Engine) -> None:
    """Complete tables without a version, made by the host's own migrations say, are noted as what they are."""
    with engine.begin() as connection:
        metadata.create_all(connection)
    async with SqlAlchemyRepository(url, tables="check"):
        with engine.connect() as connection:
            assert not version_of(connection).is_stamped, "`check` changes nothing"
    async with SqlAlchemyRepository(url):
        with engine.connect() as connection:
            assert version_of(connection).is_stamped
            rows = connection.execute(text("SELECT floor FROM preference_erasures")).all()
    assert rows == [(0,)]


def test_upgrading_again_changes_nothing(engine: Engine) -> None:
    """Whoever upgrades what is up to date finds it so."""
    upgraded(engine, "1_0001")
    with engine.connect() as connection:
        assert version_of(connection).revision == "1_0001"
    assert upgraded(engine).revision == HEAD
    before = described(engine)
    assert upgraded(engine).revision == HEAD
    assert described(engine) == before


def test_an_upgrade_that_is_rolled_back_never_was(engine: Engine) -> None:
    """The upgrade is the caller's transaction's: what becomes of that becomes of the tables."""
    make_first_tables(engine)
    before = described(engine)
    with engine.connect() as connection:
        upgrade_tables(connection)
        connection.rollback()
    assert described(engine) == before
    with engine.connect() as connection:
        upgrade_tables(connection)
        connection.commit()
    assert VERSION_TABLE in described(engine)


async def test_an_async_connection_upgrades_too(url: str, engine: Engine) -> None:
    """Async code upgrades by run_sync, on the driver that it has."""
    make_first_tables(engine)
    repository = SqlAlchemyRepository(url)

    def upgrade(connection: object) -> str | None:
        version = upgrade_tables(connection)  # type: ignore[arg-type]  # it is one
        connection.commit()  # type: ignore[attr-defined]
        return version.revision

    assert await repository.on_connection(upgrade) == HEAD
    with engine.connect() as connection:
        assert version_of(connection).standing is Standing.CURRENT


@pytest.mark.parametrize("tables", ["create", "upgrade"])
async def test_processes_that_start_together(url: str, engine: Engine, tables: str) -> None:
    """Of many that open one database at once, one creates or upgrades its tables; all of them then work."""
    if tables == "upgrade":
        make_first_tables(engine)
    repositories = [SqlAlchemyRepository(url, pool_size=1, tables=tables) for _ in range(6)]  # type: ignore[arg-type]
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            for repository in repositories:
                tasks.start_soon(repository.__aenter__)
        for repository in repositories:
            await repository.ping()
            await repository.__aexit__()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM prefsync_alembic_version")).all() == [(HEAD,)]


async def test_threads_that_upgrade_together(engine: Engine) -> None:
    """Likewise of many that upgrade by hand, each on a connection of its own."""
    make_first_tables(engine)
    done: list[str | None] = []
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:

            async def one() -> None:
                done.append((await anyio.to_thread.run_sync(upgraded, engine)).revision)

            for _ in range(5):
                tasks.start_soon(one)
    assert done == [HEAD] * 5


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
async def test_who_waited_sees_what_the_other_did(
    url: str, engine: Engine, driver: str, isolation: str
) -> None:
    """Above READ COMMITTED too, where a transaction sees what there was at its first query: it has made none yet."""
    address = url.replace("postgresql:", f"postgresql+{driver}:")

    def upgrade() -> str | None:
        hosts = create_engine(address, isolation_level=isolation)
        try:
            return upgraded(hosts).revision
        finally:
            hosts.dispose()

    async def upgrade_by_asyncpg() -> str | None:
        hosts = create_async_engine(address, isolation_level=isolation)
        async with hosts.begin() as connection:
            version = await connection.run_sync(upgrade_tables)
        await hosts.dispose()
        return version.revision

    make_first_tables(engine)
    with anyio.fail_after(LIMIT), engine.connect() as first, engine.connect() as looking:
        upgrade_tables(first)
        waiting = asyncio.create_task(
            upgrade_by_asyncpg() if driver == "asyncpg" else anyio.to_thread.run_sync(upgrade)
        )
        waits = text(
            "SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database"
            " WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted"
        )
        while not looking.execute(waits).scalar():
            looking.rollback()
            await anyio.sleep(0.01)
        first.commit()
        assert await waiting == HEAD


def test_the_sql_does_the_same(engine: Engine) -> None:
    """What is printed for those who run SQL by hand makes the same tables, from nothing or from a revision on."""
    upgraded(engine)
    expected = described(engine)
    with engine.begin() as connection:
        metadata.drop_all(connection)
        connection.exec_driver_sql(f"DROP TABLE {VERSION_TABLE}")
    scripts = [sql_of(engine.dialect.name, to="1_0001"), sql_of(engine.dialect.name, since="1_0001")]
    assert "preference_tickets" not in scripts[0]
    with engine.begin() as connection:
        for statement in ";\n".join(scripts).split(";\n"):
            lines = [line for line in statement.splitlines() if line and not line.startswith("--")]
            if lines and lines[0] not in {"BEGIN", "COMMIT"}:
                connection.exec_driver_sql("\n".join(lines))
    assert described(engine) == expected
    with engine.connect() as connection:
        assert version_of(connection).is_stamped
