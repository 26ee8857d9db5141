"""What repositories promise on the host's own sync engine, beyond the port: threads that end, and a pool left usable."""

from __future__ import annotations

import secrets
import sqlite3
import threading
from contextlib import AsyncExitStack, closing
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.to_thread
import pytest
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool, StaticPool

from prefsync.adapters.sqlalchemy import SqlAlchemyRepository
from prefsync.adapters.sqlalchemy.operations import statement
from prefsync.errors import ConfigurationError, UnavailableError
from prefsync.ports import Outcome
from prefsync.testing.samples import fresh_subject, is_same, step, store
from tests.contracts.support import proxy_to, through, until_it_answers
from tests.servers import create_database, drop_database, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from prefsync.adapters.sqlalchemy.operations import Operation

pytestmark = pytest.mark.once

LIMIT = 20.0
"""Seconds after which something that should have happened by itself counts as missing."""

DRIVERS = ["psycopg", "psycopg2"]


@pytest.fixture
def database(postgres_url: str) -> Iterator[str]:
    """A database of the test's own."""
    name = f"prefsync_test_{secrets.token_hex(8)}"
    yield create_database(postgres_url, name)
    drop_database(postgres_url, name)


@pytest.fixture
def make_engine() -> Iterator[Callable[..., Engine]]:
    """Make engines as a host does, which are disposed of at the end."""
    engines: list[Engine] = []

    def make(url: str, driver: str = "psycopg", **options: Any) -> Engine:
        engines.append(create_engine(url.replace("postgresql:", f"postgresql+{driver}:", 1), **options))
        return engines[-1]

    yield make
    for engine in engines:
        engine.dispose()


@pytest.fixture
def _impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up sooner."""
    monkeypatch.setattr("prefsync.adapters.sqlalchemy.runners._TIME_LIMIT", 0.5)


async def until(true: Callable[[], object]) -> None:
    """Wait for what should come by itself."""
    with anyio.fail_after(LIMIT):
        while not true():
            await anyio.sleep(0.01)


def out(engine: Engine) -> int:
    """Return how many connections are taken from a pool."""
    return int(cast("Any", engine.pool).checkedout())


async def test_the_hosts_engine_stays_the_hosts(database: str, make_engine: Callable[..., Engine]) -> None:
    """It is not disposed of, what the host has open on it is left alone, and each connection comes back as it was."""
    engine = make_engine(database, pool_size=2, max_overflow=0)
    with engine.begin() as mine:
        mine.execute(text("CREATE TEMPORARY TABLE mine (a int)"))
        async with SqlAlchemyRepository(engine) as repository:
            await store(repository, fresh_subject(), {"plugins": {"a": 1}})
            await repository.erase(fresh_subject())
        assert out(engine) == 1
        mine.execute(text("SELECT a FROM mine"))
    with engine.connect() as one, engine.connect() as other:
        assert {one.get_isolation_level(), other.get_isolation_level()} == {"READ COMMITTED"}


async def test_there_are_no_more_threads_than_connections(
    database: str, make_engine: Callable[..., Engine]
) -> None:
    """Calls beyond the pool's size wait on the loop, and leave the host what the pool may open beyond it."""
    engine = make_engine(database, pool_size=2, max_overflow=10)
    async with SqlAlchemyRepository(engine) as repository:
        most = 0

        def look() -> Operation[None]:
            nonlocal most
            most = max(most, out(engine))
            yield statement("SELECT pg_sleep(0.02)"), {}

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(repository.run, look())
    assert most == 2


@pytest.mark.parametrize("driver", DRIVERS)
async def test_what_is_written_at_once_is_stored_together(
    database: str, make_engine: Callable[..., Engine], driver: str
) -> None:
    """Writes of many subjects travel in one statement, in one hop."""
    engine = make_engine(database, driver)
    async with SqlAlchemyRepository(engine) as repository:
        subjects = [fresh_subject() for _ in range(12)]
        before = [await store(repository, subject, {"plugins": {"n": 0}}) for subject in subjects]
        outcomes: list[Outcome] = []

        async def write(number: int) -> None:
            change = step(before[number].document, {"plugins": {"n": 1}}, key=f"key {number}")
            outcomes.append(await repository.write(subjects[number], change))

        async with anyio.create_task_group() as tasks:
            for number in range(12):
                tasks.start_soon(write, number)
        assert outcomes == [Outcome.WRITTEN] * 12
    with engine.connect() as connection:
        transactions = connection.scalars(text("SELECT DISTINCT xmin::text FROM user_preferences"))
        assert len(transactions.all()) == 1


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_deadlock_leaves_an_erase_undone_or_done(
    database: str, make_engine: Callable[..., Engine], driver: str
) -> None:
    """An erase that PostgreSQL ends because of a deadlock is said to have failed, as a race that was lost."""
    # PostgreSQL looks once, so long after a wait began: by then the other side has to wait too.
    engine = make_engine(f"{database}?options=-cdeadlock_timeout%3D1500ms", driver)
    other = make_engine(database)
    subject = fresh_subject()
    async with SqlAlchemyRepository(engine) as repository:
        last = await store(repository, subject, {"plugins": {"a": 1}})
        failed: list[UnavailableError] = []

        async def erase() -> None:
            try:
                await repository.erase(subject)
            except UnavailableError as error:
                failed.append(error)

        def lock(table: str) -> None:
            mine.execute(
                text(f"SELECT 1 FROM {table} WHERE user_id = :user FOR UPDATE"),  # noqa: S608
                {"user": subject.user},
            )

        with other.begin() as mine:
            mine.execute(text("SET deadlock_timeout = '10s'"))
            lock("preference_changes")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(erase)
                with other.connect() as watch:
                    waiting = text(
                        "SELECT count(*) FROM pg_stat_activity"
                        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
                    )
                    await until(lambda: watch.scalar(waiting))
                await anyio.to_thread.run_sync(lock, "user_preferences")
        (error,) = failed
        assert type(error).__name__ == "LostRaceError"
        assert is_same(await repository.load(subject), last.document)


@pytest.mark.usefixtures("_impatience")
async def test_a_pool_that_the_host_has_used_up_is_unavailable(
    database: str, make_engine: Callable[..., Engine]
) -> None:
    """A call is told so in its time and not in the pool's; nothing of it happens later, when there is a connection."""
    engine = make_engine(database, pool_size=1, max_overflow=0, pool_timeout=30)
    async with SqlAlchemyRepository(engine) as repository:
        subject = fresh_subject()
        before = await store(repository, subject, {"plugins": {"a": 1}})
        with engine.connect():
            with anyio.fail_after(LIMIT), pytest.raises(UnavailableError):
                await repository.write(subject, step(before.document, {"plugins": {"a": 2}}))
        assert is_same(await until_it_answers(lambda: repository.load(subject)), before.document)


async def test_a_pool_that_says_so_itself_is_unavailable(
    database: str, make_engine: Callable[..., Engine]
) -> None:
    """Where the host's pool gives up first, that is the port's error as well."""
    engine = make_engine(database, pool_size=1, max_overflow=0, pool_timeout=0.05)
    async with SqlAlchemyRepository(engine) as repository:
        with engine.connect(), pytest.raises(UnavailableError):
            await repository.ping()
        await repository.ping()


@pytest.mark.usefixtures("_impatience")
@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_thread_that_waits_for_a_silent_server_ends(
    database: str, make_engine: Callable[..., Engine], driver: str
) -> None:
    """Who is given up gives thread and connection back while the network is still away, and the pool is as before."""
    async with proxy_to(database) as proxy:
        engine = make_engine(through(proxy, database), driver, pool_size=1, max_overflow=0)
        async with SqlAlchemyRepository(engine) as repository:
            await repository.ping()
            await proxy.blackhole()
            with anyio.fail_after(LIMIT), pytest.raises(UnavailableError):
                await repository.ping()
            await until(lambda: not out(engine))
            await proxy.heal()
            await until_it_answers(repository.ping)


@pytest.mark.usefixtures("_impatience")
@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_write_that_waits_for_a_lock_too_long_ends(
    database: str, make_engine: Callable[..., Engine], driver: str
) -> None:
    """Its thread and its connection are free again while the lock is still held."""
    engine = make_engine(database, driver, pool_size=1, max_overflow=0)
    other = make_engine(database)
    subject = fresh_subject()
    async with SqlAlchemyRepository(engine) as repository:
        before = await store(repository, subject, {"plugins": {"a": 1}})
        with other.begin() as mine:
            mine.execute(text("SELECT 1 FROM user_preferences FOR UPDATE"))
            with anyio.fail_after(LIMIT), pytest.raises(UnavailableError):
                await repository.write(subject, step(before.document, {"plugins": {"a": 2}}))
            await until(lambda: not out(engine))
            assert is_same(await repository.load(subject), before.document)


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_server_that_has_just_gone_is_unavailable(
    database: str, make_engine: Callable[..., Engine], driver: str
) -> None:
    """A connection that the server ended costs one call, and is replaced."""
    engine = make_engine(database, driver, pool_size=1, max_overflow=0)
    admin = make_engine(database)
    async with SqlAlchemyRepository(engine) as repository:
        await repository.ping()
        with admin.connect() as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        with pytest.raises(UnavailableError):
            await repository.ping()
        await repository.ping()


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_server_that_is_not_there_is_told_without_the_password(
    make_engine: Callable[..., Engine], driver: str
) -> None:
    """Opening fails and names the server; the password is kept."""
    engine = make_engine(f"postgresql://me:hunter2@127.0.0.1:{free_port()}/nowhere", driver)
    with anyio.fail_after(LIMIT), pytest.raises(ConfigurationError, match=r"127\.0\.0\.1") as caught:
        await SqlAlchemyRepository(engine).__aenter__()
    assert "hunter2" not in str(caught.value)


async def test_processes_that_start_together_create_the_tables_once(
    database: str, make_engine: Callable[..., Engine]
) -> None:
    """Many that open a repository on an empty database at once all get one that works."""
    async with AsyncExitStack() as stack:
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                repository = SqlAlchemyRepository(make_engine(database))
                stack.push_async_exit(repository)
                tasks.start_soon(repository.__aenter__)
        await store(repository, fresh_subject(), {"plugins": {"a": 1}})


async def test_no_thread_is_left(database: str, make_engine: Callable[..., Engine]) -> None:
    """Threads work for the loop's root task and end with it, so that the process can."""
    engine = make_engine(database)

    async def use_it() -> None:
        async with SqlAlchemyRepository(engine) as repository:
            await repository.ping()

    before = threading.active_count()
    await anyio.to_thread.run_sync(anyio.run, use_it)
    await until(lambda: threading.active_count() <= before + 1)  # the one that ran it


@pytest.mark.parametrize("options", [{}, {"poolclass": NullPool}])
def test_a_database_in_memory_that_is_not_shared_is_refused(
    make_engine: Callable[..., Engine], options: dict[str, Any]
) -> None:
    """Each thread would have a database of its own: the host is told what to write instead."""
    with pytest.raises(ConfigurationError, match="StaticPool.*check_same_thread"):
        SqlAlchemyRepository(make_engine("sqlite://", **options))


@pytest.mark.parametrize("first", ["the host", "prefsync"])
async def test_a_shared_connection_that_threads_may_not_use_is_refused(
    make_engine: Callable[..., Engine], first: str
) -> None:
    """It is found out at start, whoever used the connection first."""
    engine = make_engine("sqlite://", poolclass=StaticPool)
    if first == "the host":
        engine.connect().close()
    with pytest.raises(ConfigurationError, match="same thread"):
        await SqlAlchemyRepository(engine).__aenter__()


@pytest.mark.parametrize("kind", ["sync", "async", "URL"])
async def test_a_transaction_on_sqlite_holds_the_lock_before_it_looks(
    tmp_path: Path, make_engine: Callable[..., Engine], kind: str
) -> None:
    """Nobody writes between what an operation reads and what it writes, whoever the engine is from."""
    file = tmp_path / "x.sqlite3"
    hosts_async = create_async_engine(f"sqlite+aiosqlite:///{file}")
    source = {"sync": make_engine(f"sqlite:///{file}"), "async": hosts_async, "URL": f"sqlite:///{file}"}[
        kind
    ]
    refused: list[str] = []

    def look() -> Operation[None]:
        yield statement("SELECT 1"), {}
        with closing(sqlite3.connect(file, timeout=0)) as somebody_else:
            try:
                somebody_else.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                refused.append(str(error))

    async with SqlAlchemyRepository(source) as repository:
        await cast("Any", repository)._runner.run(look(), atomic=True)
        await store(repository, fresh_subject(), {"plugins": {"a": 1}})
    await hosts_async.dispose()
    assert refused == ["database is locked"]


async def test_an_engine_that_begins_in_its_own_way_on_sqlite_does_so(
    tmp_path: Path, make_engine: Callable[..., Engine]
) -> None:
    """SQLAlchemy's own recipe for transactions on SQLite goes together with ours."""
    engine = make_engine(f"sqlite:///{tmp_path}/x.sqlite3")

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    subject = fresh_subject()
    async with SqlAlchemyRepository(engine) as repository:
        stored = await store(repository, subject, {"plugins": {"a": 1}})
        await repository.erase(fresh_subject())
        assert is_same(await repository.load(subject), stored.document)
