"""What the repositories on SQL promise beyond the port: forced races, start and end, what is refused at start."""

from __future__ import annotations

import secrets
import select
import threading
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.lowlevel
import asyncpg
import psycopg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from prefsync.adapters.memory import MemoryRepository
from prefsync.adapters.sqlalchemy import SqlAlchemyRepository
from prefsync.errors import ConfigurationError, UnavailableError
from prefsync.ports import Outcome
from prefsync.testing._repository.erasure import first_write
from prefsync.testing.samples import fresh_subject, is_same, step, store
from tests.contracts.support import proxy_to, through
from tests.servers import create_database, drop_database, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from prefsync.adapters.sqlalchemy.operations import Statement
    from prefsync.document import Document, Subject

LIMIT = 20.0
"""Seconds after which something that should have happened by itself counts as missing."""


@pytest.fixture
def database(postgres_url: str) -> Iterator[str]:
    """A database of the test's own."""
    name = f"prefsync_test_{secrets.token_hex(8)}"
    yield create_database(postgres_url, name)
    drop_database(postgres_url, name)


@pytest.fixture
async def raw(database: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of somebody else's, with which a test holds locks."""
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


@pytest.fixture
async def repository(database: str) -> AsyncIterator[SqlAlchemyRepository]:
    """A repository on PostgreSQL."""
    async with SqlAlchemyRepository(database, pool_size=4) as repository:
        yield repository


async def blocked(raw: asyncpg.Connection, count: int = 1) -> None:
    """Wait until so many others wait for a lock in this database."""
    with anyio.fail_after(LIMIT):
        while count != await raw.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ):
            await anyio.sleep(0.01)


@pytest.mark.once
async def test_a_first_write_that_waits_for_an_erase_sees_its_floor(
    repository: SqlAlchemyRepository, raw: asyncpg.Connection
) -> None:
    """A late first write that has to wait for the erase in progress is refused when that ends, not written below it."""
    subject = fresh_subject()
    last = await store(repository, subject, {"plugins": {"a": 1}})
    erase = raw.transaction()
    await erase.start()
    await raw.execute("DELETE FROM user_preferences WHERE user_id = $1", subject.user)
    await raw.execute("DELETE FROM preference_changes WHERE user_id = $1", subject.user)
    await raw.execute(
        "INSERT INTO preference_erasures (id, floor) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET floor = $1",
        last.document.revision + 1,
    )
    outcomes: list[Outcome] = []

    async def write() -> None:
        outcomes.append(await repository.write(subject, first_write(last.document.revision)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        await blocked(raw)
        await erase.commit()
    assert outcomes == [Outcome.CONFLICT]
    assert (await repository.load(subject)).revision == 0


@pytest.mark.once
@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg"])
async def test_a_row_that_is_locked_holds_up_its_own_writer_alone(
    database: str, raw: asyncpg.Connection, driver: str
) -> None:
    """Written at once, subjects are stored in few statements, and one that somebody has locked does not stop the rest."""
    url = database.replace("postgresql:", f"{driver}:")
    async with SqlAlchemyRepository(url, pool_size=4) as repository:
        subjects = [fresh_subject() for _ in range(12)]
        before = [await store(repository, subject, {"plugins": {"n": 0}}) for subject in subjects]
        writes = [step(write.document, {"plugins": {"n": 1}}) for write in before]
        other = raw.transaction()
        await other.start()
        await raw.execute("SELECT 1 FROM user_preferences WHERE user_id = $1 FOR UPDATE", subjects[5].user)
        outcomes: dict[int, Outcome] = {}

        async def write(number: int) -> None:
            outcomes[number] = await repository.write(subjects[number], writes[number])

        async with anyio.create_task_group() as tasks:
            for number in range(12):
                tasks.start_soon(write, number)
            await blocked(raw)
            assert outcomes == {number: Outcome.WRITTEN for number in range(12) if number != 5}
            await other.rollback()
        assert outcomes[5] is Outcome.WRITTEN
        places = {
            (await raw.fetchval("SELECT xmin::text FROM user_preferences WHERE user_id = $1", subject.user))
            for subject in subjects
        }
        assert len(places) == 2, "one transaction for those that could be stored together, one for the other"


@pytest.mark.once
@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg"])
async def test_a_deadlock_leaves_an_erase_undone_or_done(
    database: str, raw: asyncpg.Connection, driver: str
) -> None:
    """An erase that PostgreSQL ends because of a deadlock is tried again or said to have failed; it is never half done."""
    url = database.replace("postgresql:", f"{driver}:") + "?options=-cdeadlock_timeout%3D500ms"
    async with SqlAlchemyRepository(url, pool_size=2) as repository:
        subject = fresh_subject()
        last = await store(repository, subject, {"plugins": {"a": 1}})
        await raw.execute("SET deadlock_timeout = '60s'")
        other = raw.transaction()
        await other.start()
        await raw.execute("SELECT 1 FROM preference_changes WHERE user_id = $1 FOR UPDATE", subject.user)
        results: list[object] = []

        async def erase() -> None:
            try:
                results.append(await repository.erase(subject))
            except UnavailableError as error:
                results.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(erase)
            await blocked(raw)
            with anyio.fail_after(LIMIT):
                await raw.execute(
                    "SELECT 1 FROM user_preferences WHERE user_id = $1 FOR UPDATE", subject.user
                )
            await other.rollback()
        if isinstance(results[0], UnavailableError):
            assert is_same(await repository.load(subject), last.document)
        else:
            assert type(results[0]) is int
            assert results[0] >= last.document.revision
            assert (await repository.load(subject)).revision == 0


@pytest.mark.once
async def test_a_document_is_read_as_of_one_moment(
    repository: SqlAlchemyRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load that is overtaken, half done, by a first write and another subject's erase does not hide that write.

    Its version would be above the write's, and a cache would keep the empty document instead of the new one.
    """
    subject, other = fresh_subject(), fresh_subject()
    await store(repository, other, {"plugins": {"a": 1}}, now=2_000_000_000_000)
    runner: Any = repository._runner
    fetch = runner._fetch
    reader_is_there, go_on = anyio.Event(), anyio.Event()

    async def stop_between(connection: Any, statement: Statement, parameters: Any) -> Any:
        rows = await fetch(connection, statement, parameters)
        if not reader_is_there.is_set():
            reader_is_there.set()
            await go_on.wait()
        return rows

    loaded: list[Document] = []

    async def load() -> None:
        loaded.append(await repository.load(subject))

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            monkeypatch.setattr(runner, "_fetch", stop_between)
            tasks.start_soon(load)
            await reader_is_there.wait()
            mine = await store(repository, subject, {"plugins": {"a": 1}}, now=1_900_000_000_000)
            await repository.erase(other)
            go_on.set()
    assert loaded[0].revision == mine.document.revision or loaded[0].version < mine.document.version


@pytest.mark.once
async def test_processes_that_start_together_create_the_tables_once(database: str) -> None:
    """Many that open a repository on an empty database at once all get one that works."""
    subject = fresh_subject()
    repositories = [SqlAlchemyRepository(database, pool_size=1) for _ in range(6)]

    async with AsyncExitStack() as stack:
        async with anyio.create_task_group() as tasks:
            for repository in repositories:
                tasks.start_soon(repository.__aenter__)
        for repository in repositories:
            stack.push_async_exit(repository)
        for number, repository in enumerate(repositories):
            await store(repository, subject, {"plugins": {"n": number}})


@pytest.mark.once
async def test_two_databases_have_two_names(
    repository: SqlAlchemyRepository, postgres_url: str, tmp_path: Path
) -> None:
    """No two databases tell the same name, whatever they hold and whoever opens them."""
    async with (
        SqlAlchemyRepository(postgres_url) as elsewhere,
        SqlAlchemyRepository(f"sqlite:///{tmp_path}/a.sqlite3") as file,
        SqlAlchemyRepository(f"sqlite:///{tmp_path}/b.sqlite3") as other_file,
        SqlAlchemyRepository("sqlite://") as memory,
    ):
        all_of_them = [
            repository,
            elsewhere,
            file,
            other_file,
            memory,
            MemoryRepository(),
            MemoryRepository(),
        ]
        assert len({await one.identity() for one in all_of_them}) == len(all_of_them)


async def test_the_pool_is_never_exceeded_and_closed_at_the_end(
    database: str, raw: asyncpg.Connection
) -> None:
    """However many calls there are, no more connections than asked for are opened, and none is left afterwards."""
    mine = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    for driver in ("postgresql", "postgresql+psycopg"):
        most = 0
        async with SqlAlchemyRepository(
            database.replace("postgresql:", f"{driver}:"), pool_size=3
        ) as repository:
            async with anyio.create_task_group() as tasks:
                for _ in range(60):
                    tasks.start_soon(store, repository, fresh_subject(), {"plugins": {"a": 1}})
                for _ in range(5):
                    most = max(most, await raw.fetchval(mine))
                    await anyio.sleep(0.005)
            most = max(most, await raw.fetchval(mine))
        assert 1 <= most <= 3
        with anyio.fail_after(LIMIT):
            while await raw.fetchval(mine):
                await anyio.sleep(0.01)


@pytest.mark.once
async def test_a_cancelled_call_waits_without_work(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that is cancelled while the database is silent ends in bounded time and costs no processor until then."""
    monkeypatch.setattr("prefsync.adapters.sqlalchemy.runners._TIME_LIMIT", 1.0)
    async with proxy_to(database) as proxy:
        url = through(proxy, database).replace("postgresql:", "postgresql+psycopg:")
        async with SqlAlchemyRepository(url, pool_size=1) as repository:
            await repository.ping()
            await proxy.blackhole()
            used = time.process_time()
            with anyio.fail_after(LIMIT):
                with anyio.move_on_after(0.01):
                    await repository.ping()
            used = time.process_time() - used
            await proxy.heal()
    assert used < 0.5


@pytest.mark.parametrize("rounds", range(4))
async def test_a_server_that_has_just_gone_is_unavailable(
    repository: SqlAlchemyRepository, database: str, rounds: int
) -> None:
    """A connection that the server ended is said to be that in each round of the loop until its end is seen, and after."""
    await repository.ping()
    (connection,) = cast("Any", repository._runner)._connections._idle
    socket = connection._transport.get_extra_info("socket")
    # Blocking, on purpose: the loop is to find the server's last words when it runs again.
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s)", [connection.get_server_pid()])
    assert select.select([socket], [], [], LIMIT)[0]
    for _ in range(rounds):
        await anyio.lowlevel.checkpoint()
    try:
        await repository.ping()
    except UnavailableError:
        await repository.ping()


async def test_the_hosts_engine_stays_open(database: str) -> None:
    """An engine that was handed over is not disposed of, and its own connections and transactions are left alone."""
    engine = create_async_engine(database.replace("postgresql:", "postgresql+asyncpg:"), pool_size=2)
    async with engine.connect() as connection:
        pid = await connection.exec_driver_sql("SELECT pg_backend_pid()")
        mine = pid.scalar()
        async with SqlAlchemyRepository(engine) as repository:
            await store(repository, fresh_subject(), {"plugins": {"a": 1}})
        assert (await connection.exec_driver_sql("SELECT pg_backend_pid()")).scalar() == mine
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # of a queue pool
    async with engine.connect() as connection:
        await connection.exec_driver_sql("SELECT 1")
    await engine.dispose()


@pytest.mark.parametrize("kind", ["postgresql", "postgresql+psycopg", "sqlite", "memory"])
async def test_it_works_only_while_it_is_open(kind: str, database: str, tmp_path: Path) -> None:
    """Before it is entered and after it was left, a repository says that it is not open."""
    url = {"sqlite": f"sqlite:///{tmp_path}/x.sqlite3", "memory": "sqlite://"}.get(kind) or database.replace(
        "postgresql:", f"{kind}:"
    )
    repository = SqlAlchemyRepository(url)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="async with"):
            await repository.load(fresh_subject())
        async with repository:
            await repository.ping()
    with pytest.raises(RuntimeError, match="async with"):
        await repository.ping()
    assert not list(tmp_path.glob("*-wal")), "SQLite's log was not merged: a connection is still open"


async def test_nothing_is_opened_before_it_is_entered(tmp_path: Path) -> None:
    """A repository that was only made has touched no file and no server."""
    SqlAlchemyRepository(f"sqlite:///{tmp_path}/x.sqlite3")
    SqlAlchemyRepository(f"postgresql://user:secret@127.0.0.1:{free_port()}/nowhere")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "PREFSYNC_DATABASE_URL"),
        ("", "PREFSYNC_DATABASE_URL"),
        ("mongodb://localhost/db", "mongodb"),
        ("mssql+pyodbc://localhost/db", "mssql"),
        ("postgresql+psycopg2://localhost/db", "psycopg2"),
        ("oracle://localhost/db", "oracle"),
    ],
)
def test_what_is_not_supported_is_refused_at_once(url: str, says: str) -> None:
    """A URL that cannot be read or served is an error of the host's, in one line that names it."""
    with pytest.raises(ConfigurationError, match=says) as caught:
        SqlAlchemyRepository(url)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg"])
async def test_a_server_that_is_not_there_is_told_without_the_password(driver: str) -> None:
    """Opening fails within a bounded time, names server and setting, and keeps the password to itself."""
    repository = SqlAlchemyRepository(f"{driver}://me:hunter2@127.0.0.1:{free_port()}/nowhere")
    with anyio.fail_after(LIMIT), pytest.raises(ConfigurationError, match=r"127\.0\.0\.1") as caught:
        await repository.__aenter__()
    assert "hunter2" not in str(caught.value)
    assert "PREFSYNC_DATABASE_URL" in str(caught.value)


async def test_a_file_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A SQLite file in a folder that is not there is the host's error at start."""
    before = set(threading.enumerate())
    with pytest.raises(ConfigurationError, match="no/such/folder"):
        await SqlAlchemyRepository(f"sqlite:///{tmp_path}/no/such/folder/x.sqlite3").__aenter__()
    with anyio.fail_after(LIMIT):  # aiosqlite's thread still speaks to the loop for a moment
        while any(
            "_connection_worker_thread" in thread.name for thread in set(threading.enumerate()) - before
        ):
            await anyio.sleep(0.005)


async def test_sqlite_is_durable(tmp_path: Path) -> None:
    """Write-ahead log with full synchronisation on every connection: an acknowledged write survives a power cut."""
    async with SqlAlchemyRepository(f"sqlite:///{tmp_path}/x.sqlite3") as repository:
        runner: Any = repository._runner
        async with runner._engine.connect() as connection:
            assert (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar() == "wal"
            assert (await connection.exec_driver_sql("PRAGMA synchronous")).scalar() == 2


async def test_a_sqlite_file_that_somebody_else_holds_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process holds the file's lock, writes wait, then fail as unavailable; reads go on, and so does all."""
    monkeypatch.setattr("prefsync.adapters.sqlalchemy.repository._BUSY", 0.2)
    url = f"sqlite:///{tmp_path}/x.sqlite3"
    subject: Subject = fresh_subject()
    async with SqlAlchemyRepository(url) as repository, SqlAlchemyRepository(url) as other:
        before = await store(repository, subject, {"plugins": {"a": 1}})
        write = step(before.document, {"plugins": {"a": 2}})
        runner: Any = other._runner
        async with runner._writing.connect() as connection:
            await connection.exec_driver_sql("SELECT 1")
            with anyio.fail_after(LIMIT), pytest.raises(UnavailableError):
                await repository.write(subject, write)
            with anyio.fail_after(LIMIT):
                assert is_same(await repository.load(subject), before.document)
        assert await repository.write(subject, write) is Outcome.WRITTEN


async def test_a_sqlite_file_can_be_opened_while_somebody_else_writes(tmp_path: Path) -> None:
    """Opening waits for a write that is under way, and does not fail because of what that changed meanwhile."""
    url = f"sqlite:///{tmp_path}/x.sqlite3"
    async with SqlAlchemyRepository(url) as repository, SqlAlchemyRepository(url) as late:
        await late.__aexit__()
        runner: Any = repository._runner
        async with runner._writing.connect() as connection:
            await connection.exec_driver_sql("UPDATE preference_erasures SET floor = floor")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(late.__aenter__)
                await anyio.sleep(0.3)  # a machine that is too busy to get there by then finds nothing out
                await connection.commit()
        await late.ping()


async def test_sqlite_writers_wait_for_one_another(tmp_path: Path) -> None:
    """Concurrent writers of two processes on one file all get through, none fails because the file is busy."""
    url = f"sqlite:///{tmp_path}/x.sqlite3"
    async with SqlAlchemyRepository(url) as one, SqlAlchemyRepository(url) as other:
        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as tasks:
                for number in range(40):
                    tasks.start_soon(store, (one, other)[number % 2], fresh_subject(), {"plugins": {"a": 1}})
