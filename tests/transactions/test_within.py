"""Preferences inside the host's own transaction, in async code."""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)

from prefsync import (
    ConfigurationError,
    InvalidPreferencesError,
    Parts,
    Runtime,
    Settings,
    Subject,
    TransactionConflictError,
)
from prefsync.adapters.memory import MemoryRepository
from prefsync.adapters.sqlalchemy import SqlAlchemyRepository, joining
from tests.transactions.host import INSERT, Appearance, has_row, listening, theme

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from prefsync.testing import FakeClock
    from tests.transactions.conftest import Home

PATIENCE = 60.0


async def settled(told: list[Any], count: int) -> None:
    """Wait until so many announcements have come."""
    with anyio.fail_after(PATIENCE):
        while len(told) < count:
            await anyio.sleep(0.005)


async def test_preferences_are_committed_with_the_hosts_rows(
    runtime: Runtime, engine: AsyncEngine, user: str
) -> None:
    """Before the commit nobody sees them but the transaction; when it returns, reads and sessions have them."""
    assert await theme(runtime, user) == "system"
    async with listening(runtime, user) as told:
        async with AsyncSession(engine) as session:
            async with runtime.within(session) as preferences:
                await session.execute(INSERT, {"id": user})
                await preferences.of(user).update(Appearance, theme="dark")
                async with preferences.of(Subject(user)).edit(Appearance) as mine:
                    assert mine.theme == "dark"
                    mine.size = 3
            assert await theme(runtime, user) == "system"
            assert not told
            await session.commit()
            assert await theme(runtime, user) == "dark"
        await settled(told, 2)
    assert [one.change.assigned for one in told if one.change] == [
        {"appearance": {"theme": "dark"}},
        {"appearance": {"size": 3}},
    ]
    assert await has_row(engine, user)
    log = await runtime.repository.changes(Subject(user), 0, 10)
    assert log.changes == tuple(one.change for one in told)


async def test_preferences_are_undone_with_the_hosts_rows(
    runtime: Runtime, engine: AsyncEngine, user: str
) -> None:
    """After a rollback nothing is stored, nothing is cached and nobody is told."""
    async with listening(runtime, user) as told:
        with suppress(ZeroDivisionError):
            async with AsyncSession(engine) as session, session.begin():
                async with runtime.within(session) as preferences:
                    await session.execute(INSERT, {"id": user})
                    await preferences.of(user).update(Appearance, theme="dark")
                raise ZeroDivisionError
        assert await theme(runtime, user) == "system"
        await runtime.handle(Subject(user)).update(Appearance, size=1)
        await settled(told, 1)
    assert [one.change.assigned for one in told if one.change] == [{"appearance": {"size": 1}}]
    assert not await has_row(engine, user)


async def test_what_a_savepoint_undoes_is_not_told(runtime: Runtime, engine: AsyncEngine, user: str) -> None:
    """Of a transaction with savepoints that is told which is committed, and all of that."""
    async with listening(runtime, user) as told:
        async with engine.begin() as connection, runtime.within(connection) as preferences:
            mine = preferences.of(user)
            await connection.execute(INSERT, {"id": user})
            await mine.update(Appearance, theme="first")
            undone = await connection.begin_nested()
            await mine.update(Appearance, theme="undone", size=9)
            async with connection.begin_nested():
                await mine.update(Appearance, size=10)
            await undone.rollback()
            assert (await mine.get(Appearance)).theme == "first"
            async with connection.begin_nested():
                await mine.update(Appearance, size=1)
        assert (await runtime.handle(Subject(user)).get(Appearance)).model_dump() == {
            "theme": "first",
            "size": 1,
        }
        await settled(told, 2)
    assert [one.change.assigned for one in told if one.change] == [
        {"appearance": {"theme": "first"}},
        {"appearance": {"size": 1}},
    ]


async def test_a_savepoint_set_before_is_known(runtime: Runtime, engine: AsyncEngine, user: str) -> None:
    """What is undone by a savepoint from before the first preference is not told either."""
    async with listening(runtime, user) as told:
        async with engine.begin() as connection:
            await connection.execute(INSERT, {"id": user})
            savepoint = await connection.begin_nested()
            async with runtime.within(connection) as preferences:
                await preferences.of(user).update(Appearance, theme="undone")
            await savepoint.rollback()
        assert await theme(runtime, user) == "system"
    assert not told


async def test_what_is_undone_behind_our_back_is_not_told(
    runtime: Runtime, engine: AsyncEngine, user: str
) -> None:
    """A savepoint made by a statement of the host's, of which SQLAlchemy tells nothing, misleads nobody."""
    async with listening(runtime, user) as told:
        async with engine.begin() as connection:
            await connection.execute(INSERT, {"id": user})
            await connection.exec_driver_sql("SAVEPOINT mine")
            async with runtime.within(connection) as preferences:
                await preferences.of(user).update(Appearance, theme="undone")
            await connection.exec_driver_sql("ROLLBACK TO SAVEPOINT mine")
        assert await theme(runtime, user) == "system"
    assert not [one for one in told if one.change]


async def test_a_connection_is_committed_as_the_host_likes(
    runtime: Runtime, engine: AsyncEngine, user: str
) -> None:
    """One block may see several transactions; when it ends, all that was committed in it has been told."""
    async with engine.connect() as connection:
        async with runtime.within(connection) as preferences:
            mine = preferences.of(user)
            await mine.update(Appearance, theme="a")
            await connection.commit()
            await mine.update(Appearance, theme="b")
            await connection.rollback()
            await mine.update(Appearance, size=1)
            await connection.commit()
        values = await runtime.handle(Subject(user)).get(Appearance)
        assert (values.theme, values.size) == ("a", 1)


async def test_a_commit_of_which_nothing_follows_is_told(
    runtime: Runtime, engine: AsyncEngine, user: str
) -> None:
    """Where the connection is kept and not used again after the commit, everybody is told all the same."""
    async with engine.connect() as connection, listening(runtime, user) as told:
        preferences = runtime.transactions.join(connection)
        await preferences.of(user).update(Appearance, theme="dark")
        await connection.commit()
        await settled(told, 1)
        assert await theme(runtime, user) == "dark"


async def test_many_users_in_one_transaction(runtime: Runtime, engine: AsyncEngine) -> None:
    """An import of many users is one transaction, after which all are told."""
    users = [secrets.token_hex(8) for _ in range(120)]
    async with AsyncSession(engine) as session:
        async with runtime.within(session) as preferences:
            for number, user in enumerate(users):
                await preferences.of(user).update(Appearance, size=number)
        await session.commit()
    for number, user in enumerate(users):
        assert (await runtime.handle(Subject(user)).get(Appearance)).size == number


async def test_sessions_of_a_scope_are_joined(runtime: Runtime, engine: AsyncEngine, user: str) -> None:
    """A scoped session stands for the session of its scope."""
    scoped = async_scoped_session(async_sessionmaker(engine), scopefunc=lambda: 1)
    async with runtime.within(scoped) as preferences:
        await preferences.of(user).update(Appearance, theme="dark")
        await scoped.commit()
    await scoped.remove()
    assert await theme(runtime, user) == "dark"


async def test_a_session_on_a_connection_is_told_after_the_connections_commit(
    runtime: Runtime, engine: AsyncEngine, user: str
) -> None:
    """What a session commits inside the transaction of its connection is told with that one, or not at all."""
    if engine.dialect.name == "sqlite":
        pytest.skip("the driver's own transactions do not begin before the savepoint, and end with it")
    for ends_well in (False, True):
        async with engine.connect() as connection, listening(runtime, user) as told:
            await connection.begin()
            async with AsyncSession(connection, join_transaction_mode="create_savepoint") as session:
                async with runtime.within(session) as preferences:
                    await session.execute(INSERT, {"id": f"{user}{ends_well}"})
                    await preferences.of(user).update(Appearance, theme="dark")
                await session.commit()
            assert not told
            await (connection.commit() if ends_well else connection.rollback())
            if ends_well:
                await settled(told, 1)
        assert await theme(runtime, user) == ("dark" if ends_well else "system")


async def test_a_refused_value_leaves_the_transaction_as_it_was(
    runtime: Runtime, engine: AsyncEngine, user: str
) -> None:
    """Values that break the model's rules are refused before the database is asked: the host may go on."""
    async with AsyncSession(engine) as session:
        async with runtime.within(session) as preferences:
            await session.execute(INSERT, {"id": user})
            with pytest.raises(InvalidPreferencesError):
                await preferences.of(user).update(Appearance, size="large")
            await preferences.of(user).update(Appearance, size=2)
            await preferences.of(user).reset(Appearance, "size")
        await session.commit()
    assert await has_row(engine, user)
    assert (await runtime.handle(Subject(user)).get(Appearance)).size == 0


async def test_what_is_committed_late_is_logged_at_the_commit(
    runtime: Runtime, engine: AsyncEngine, clock: FakeClock, user: str
) -> None:
    """A transaction open for longer than the relay looks back is found by it: its changes have the commit's time."""
    began = clock.now()
    async with AsyncSession(engine) as session, listening(runtime, user) as told:
        async with runtime.within(session) as preferences:
            await preferences.of(user).update(Appearance, theme="dark")
            clock.advance(3_600)
            await preferences.of(user).update(Appearance, size=1)
            clock.advance(3_600)
        await session.commit()
        await settled(told, 2)
    log = await runtime.repository.changes(Subject(user), 0, 10)
    assert log.changes == tuple(one.change for one in told)
    assert log.newest == log.changes[-1].revision == log.changes[-1].at == clock.now() == began + 7_200_000
    assert [change.previous for change in log.changes] == [0, log.changes[0].revision]
    logged = await runtime.repository.logged_since(clock.now() - 1_000, 1_000)
    assert Subject(user) in {one.subject for one in logged}
    document = await runtime.repository.load(Subject(user))
    assert document.revisions == {"appearance": log.newest}
    assert told[-1].version == document.version


async def test_a_concurrent_writer_is_waited_for_and_kept(
    runtime: Runtime, engine: AsyncEngine, user: str
) -> None:
    """A write by a request while the transaction is open waits for its end, and neither undoes the other."""
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time, for which the other waits before it begins")
    await runtime.handle(Subject(user)).update(Appearance, size=1)
    async with anyio.create_task_group() as tasks:
        async with AsyncSession(engine) as session:
            async with runtime.within(session) as preferences:
                await preferences.of(user).update(Appearance, theme="dark")
                tasks.start_soon(lambda: runtime.handle(Subject(user)).update(Appearance, size=2))
                await anyio.sleep(0.05)
            await session.commit()
    values = await runtime.handle(Subject(user)).get(Appearance)
    assert (values.theme, values.size) == ("dark", 2)


async def test_a_write_in_between_is_built_upon(runtime: Runtime, engine: AsyncEngine, user: str) -> None:
    """Where the host's isolation lets it see what others commit, preferences are written upon that."""
    await runtime.handle(Subject(user)).update(Appearance, size=1)
    async with AsyncSession(engine) as session:
        async with runtime.within(session) as preferences:
            if engine.dialect.name != "sqlite":
                assert (await preferences.of(user).get(Appearance)).size == 1
            await runtime.handle(Subject(user)).update(Appearance, size=2)
            await preferences.of(user).update(Appearance, theme="dark")
        await session.commit()
    values = await runtime.handle(Subject(user)).get(Appearance)
    assert (values.theme, values.size) == ("dark", 2)


async def test_a_snapshot_that_is_too_old_is_a_conflict(
    runtime: Runtime, engine: AsyncEngine, user: str
) -> None:
    """Where the host's isolation hides what others commit, the host is told to run its transaction again."""
    if engine.dialect.name != "postgresql":
        pytest.skip("here a transaction that only reads has no snapshot yet, or writes upon the newest row")
    await runtime.handle(Subject(user)).update(Appearance, size=1)
    isolated = engine.execution_options(isolation_level="REPEATABLE READ")
    for attempt in (1, 2):
        async with AsyncSession(isolated) as session:
            async with runtime.within(session) as preferences:
                size = (await preferences.of(user).get(Appearance)).size
                if attempt == 1:
                    await runtime.handle(Subject(user)).update(Appearance, size=size + 1)
                    with pytest.raises(TransactionConflictError):
                        await preferences.of(user).update(Appearance, theme="dark")
                    continue
                await preferences.of(user).update(Appearance, theme="dark")
            await session.commit()
    values = await runtime.handle(Subject(user)).get(Appearance)
    assert (values.theme, values.size) == ("dark", 2)


async def test_a_commit_that_fails_is_not_told(runtime: Runtime, engine: AsyncEngine, user: str) -> None:
    """Where the database refuses the commit, reads and sessions stay as they were."""
    if engine.dialect.name != "postgresql":
        pytest.skip("no constraint is checked at the commit alone")
    table = f"late_{user}"
    async with engine.begin() as connection:
        await connection.execute(text(f"CREATE TABLE {table} (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)"))
    assert await theme(runtime, user) == "system"
    async with listening(runtime, user) as told:
        async with AsyncSession(engine) as session:
            async with runtime.within(session) as preferences:
                await preferences.of(user).update(Appearance, theme="dark")
                await session.execute(text(f"INSERT INTO {table} VALUES (1), (1)"))  # noqa: S608
            with pytest.raises(IntegrityError):
                await session.commit()
        assert await theme(runtime, user) == "system"
        await runtime.handle(Subject(user)).update(Appearance, size=1)
        assert await theme(runtime, user) == "system"
    assert "dark" not in str([one.change for one in told])


async def test_a_transaction_that_has_failed_already_is_not_told(
    runtime: Runtime, engine: AsyncEngine, user: str
) -> None:
    """PostgreSQL commits nothing after a failed statement and says nothing about it: reads show what is there."""
    if engine.dialect.name != "postgresql":
        pytest.skip("a failed statement leaves the transaction as it was")
    async with engine.connect() as connection:
        async with runtime.within(connection) as preferences:
            await preferences.of(user).update(Appearance, theme="dark")
            with pytest.raises(DBAPIError):
                await connection.execute(text("SELECT 1 / 0"))
            await connection.commit()
        assert await theme(runtime, user) == "system"


async def test_a_pool_of_one_connection_is_enough(home: Home, user: str) -> None:
    """Prefsync on the host's own engine: nothing that follows a commit needs a second connection."""
    engine = create_async_engine(home.by(home.driver), pool_size=1, max_overflow=0, pool_timeout=PATIENCE)
    parts = Parts(repository=SqlAlchemyRepository(engine))
    async with Runtime([Appearance], settings=Settings(), parts=parts, authenticates=False) as runtime:
        async with AsyncSession(engine) as session:
            async with runtime.within(session) as preferences:
                await preferences.of(user).update(Appearance, theme="dark")
                await session.commit()
        assert await theme(runtime, user) == "dark"
    await engine.dispose()


async def test_a_cancelled_commit_ends_in_order(runtime: Runtime, engine: AsyncEngine, user: str) -> None:
    """Whoever is cancelled while others are told is cancelled just after that, and has given the connection back."""
    release, waiting = anyio.Event(), anyio.Event()
    put, told = runtime.cache.put, joining._told

    async def put_later(*arguments: Any) -> None:
        await release.wait()
        await put(*arguments)

    async def wait(*arguments: Any) -> None:
        waiting.set()
        await told(*arguments)

    reached = False

    async def commit() -> None:
        nonlocal reached
        async with AsyncSession(engine) as session:
            async with runtime.within(session) as preferences:
                await preferences.of(user).update(Appearance, theme="dark")
            await session.commit()
            reached = True
            await anyio.lowlevel.checkpoint()
            raise AssertionError("it should have been cancelled by now")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime.cache, "put", put_later)
        patch.setattr(joining, "_told", wait)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(commit)
            await waiting.wait()
            tasks.cancel_scope.cancel()
        release.set()
    assert reached
    with anyio.fail_after(PATIENCE):
        while await theme(runtime, user) != "dark":
            await anyio.sleep(0.01)
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]


async def begin_twice(connection: AsyncConnection) -> None:
    """Begin a transaction in two phases."""
    await connection.run_sync(lambda blocking: blocking.begin_twophase())


async def test_what_cannot_be_joined_is_refused(
    runtime: Runtime, engine: AsyncEngine, home: Home, user: str, tmp_path: Any
) -> None:
    """Each thing that is no transaction, or in another database, is refused with what would be right."""
    with pytest.raises(ConfigurationError, match="not within str"):
        async with runtime.within("session"):  # type: ignore[arg-type]
            raise AssertionError
    async with AsyncSession() as session, runtime.within(session) as preferences:
        with pytest.raises(ConfigurationError, match="AsyncSession\\(engine\\)"):
            await preferences.of(user).get(Appearance)
    unopened = engine.connect()
    async with runtime.within(unopened) as preferences:
        with pytest.raises(ConfigurationError, match="not open"):
            await preferences.of(user).get(Appearance)
    async with unopened as connection, runtime.within(connection) as preferences:
        await connection.close()
        with pytest.raises(ConfigurationError, match="not open"):
            await preferences.of(user).get(Appearance)
    autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
    async with autocommit.connect() as connection, runtime.within(connection) as preferences:
        with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
            await preferences.of(user).update(Appearance, theme="dark")
    elsewhere = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    other = create_async_engine(elsewhere.replace("sqlite", "sqlite+aiosqlite"))
    async with AsyncSession(other) as session, runtime.within(session) as preferences:
        with pytest.raises(ConfigurationError, match="none of prefsync's tables"):
            await preferences.of(user).get(Appearance)
    async with (
        Runtime([Appearance], settings=Settings(database_url=elsewhere), authenticates=False),
        AsyncSession(other) as session,
        runtime.within(session) as preferences,
    ):
        with pytest.raises(ConfigurationError, match="another database"):
            await preferences.of(user).get(Appearance)
    await other.dispose()
    if home.url.startswith("postgresql"):
        async with engine.connect() as connection:
            await begin_twice(connection)
            async with runtime.within(connection) as preferences:
                with pytest.raises(ConfigurationError, match="two-phase"):
                    await preferences.of(user).update(Appearance, theme="dark")
    in_memory = Parts(repository=MemoryRepository())
    async with (
        Runtime([Appearance], settings=Settings(), parts=in_memory, authenticates=False) as other_runtime,
        AsyncSession(engine) as session,
    ):
        with pytest.raises(ConfigurationError, match="MemoryRepository"):
            async with other_runtime.within(session):
                raise AssertionError
    with pytest.raises(RuntimeError, match="open"):
        async with Runtime([Appearance], settings=Settings(), authenticates=False).within(
            AsyncSession(engine)
        ):
            raise AssertionError
