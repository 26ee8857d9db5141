"""The repository on SQLite, PostgreSQL, MySQL and MariaDB."""

from __future__ import annotations

import logging
import math
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import anyio.to_thread
from sqlalchemy import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool, StaticPool

from prefsync.adapters.sqlalchemy.async_engine import AsyncEngineRunner
from prefsync.adapters.sqlalchemy.engine import EngineRunner
from prefsync.adapters.sqlalchemy.gathered_writes import GatheredWrites
from prefsync.adapters.sqlalchemy.joining import Joins
from prefsync.adapters.sqlalchemy.mysql_operations import MysqlOperations
from prefsync.adapters.sqlalchemy.operations import Operations
from prefsync.adapters.sqlalchemy.postgres_operations import MOST_WRITES_TOGETHER, PostgresOperations
from prefsync.adapters.sqlalchemy.preparing import TablesMode, prepare
from prefsync.adapters.sqlalchemy.runners import LostRaceError, Runner
from prefsync.adapters.sqlalchemy.sqlite import prepare_sqlite, refuse_scattered_memory
from prefsync.adapters.sqlalchemy.sqlite_forks import ForkAwareConnection, close_inherited
from prefsync.adapters.sqlalchemy.trim_operations import (
    MysqlTrimOperations,
    PostgresTrimOperations,
    TrimOperations,
)
from prefsync.errors import ConfigurationError, MissingExtraError, UnusableDatabaseError
from prefsync.forks import keep_for_ever
from prefsync.ports import (
    ChangeLog,
    JoiningRepository,
    Kept,
    LoggedRevision,
    Outcome,
    RequestRecord,
    Trimmed,
    Write,
)
from prefsync.urls import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Connection

    from prefsync.adapters.sqlalchemy.operations import Operation
    from prefsync.document import Document, Subject
    from prefsync.ports import Committing, HostTransaction

__all__ = ["SqlAlchemyRepository"]

T = TypeVar("T")

logger = logging.getLogger("prefsync")

# Seconds that a write on SQLite waits for another connection's to end.
_BUSY: Final = 4.0

# Bytes up to which a write is stored together with those of others, who wait for it then.
_SMALL: Final = 64 * 1024

_OPERATIONS: Final[Mapping[str, tuple[type[Operations], type[TrimOperations]]]] = {
    "postgresql": (PostgresOperations, PostgresTrimOperations),
    "sqlite": (Operations, TrimOperations),
    "mysql": (MysqlOperations, MysqlTrimOperations),
    "mariadb": (MysqlOperations, MysqlTrimOperations),
}

# Seconds after which a connection to MySQL is not used again: servers, and what stands before them, end idle ones.
_MYSQL_LIFE: Final = 1_800


class SqlAlchemyRepository(JoiningRepository):
    """Documents in SQLite, PostgreSQL, MySQL or MariaDB.

    Args:
        source: A URL (ours to open and close) or the host's own engine, async or sync (the host's to close). Plain
            ``postgresql://``, ``mysql://``, ``mariadb://`` and ``sqlite:///`` URLs are given the async driver that is
            installed. On a sync engine each operation runs in a worker thread.
        pool_size: The most connections to a database given by URL. The most threads of a sync engine whose pool does
            not say how many connections it keeps.
        tables: What to do about the tables when the repository is opened. ``create``: create them in a database that has
            none. ``upgrade``: upgrade older ones too (extra ``migrations``). ``check``: change nothing. Whatever cannot
            be worked with then is refused, with a message that says what to do.

    Attributes:
        tables: As it was given.

    Raises:
        ConfigurationError: The URL cannot be read, or names a database that is not supported; or a sync engine has a
            database in memory that its threads cannot share.
        MissingExtraError: There is no driver for it.
    """

    def __init__(
        self, source: str | AsyncEngine | Engine, *, pool_size: int = 10, tables: TablesMode = "create"
    ) -> None:
        self._source = _with_driver(source) if isinstance(source, str) else source
        self._pool_size = pool_size
        self.tables = tables
        dialect = (
            self._source.get_backend_name() if isinstance(self._source, URL) else self._source.dialect.name
        )
        try:
            operations, trim_operations = _OPERATIONS[dialect]
        except KeyError:
            raise ConfigurationError(
                f"PREFSYNC_DATABASE_URL: {dialect} is not supported; use a postgresql://, mysql:// or sqlite:/// URL"
            ) from None
        self._operations, self._trim_operations = operations(), trim_operations()
        if dialect == "sqlite" and isinstance(self._source, Engine):
            refuse_scattered_memory(self._source)
        self._open_runner: Runner | None = None
        self._gathered = self._gather()

    def _gather(self) -> GatheredWrites | None:
        operations = self._operations
        if not isinstance(operations, PostgresOperations):
            return None
        return GatheredWrites(
            lambda writes: self._runner.run(operations.write_together(writes)), MOST_WRITES_TOGETHER
        )

    @property
    def _runner(self) -> Runner:
        if self._open_runner is None:
            raise RuntimeError("the repository is not open: use it within `async with`")
        return self._open_runner

    async def __aenter__(self) -> Self:
        source = self._source
        if isinstance(source, Engine):
            await self._prepare(source)
            self._open_runner = EngineRunner(source, self._pool_size)
        elif isinstance(source, AsyncEngine):
            await self._prepare(source)
            self._open_runner = AsyncEngineRunner(source, owned=False)
        elif source.drivername == "postgresql+asyncpg":
            self._open_runner = await self._open_asyncpg(source)
        else:
            if source.get_backend_name() == "sqlite":
                close_inherited()
            engine = create_async_engine(source, **self._engine_options(source))
            if source.get_backend_name() == "sqlite":
                prepare_sqlite(engine.sync_engine, _BUSY)
            try:
                await self._prepare(engine)
            except BaseException:
                await engine.dispose()
                raise
            self._open_runner = AsyncEngineRunner(engine, owned=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._gathered is not None:
            await self._gathered.close()
        runner, self._open_runner = self._open_runner, None
        if runner is not None:
            await runner.close()

    def abandon(self) -> None:
        """Forget, in a forked process, what was opened in its parent, and close nothing; this can be opened again.

        An engine of the host's gets an empty pool.
        """
        keep_for_ever(self._open_runner, self._gathered)
        self._open_runner = None
        self._gathered = self._gather()
        if not isinstance(self._source, URL):
            engine = self._source if isinstance(self._source, Engine) else self._source.sync_engine
            keep_for_ever(engine.pool)
            engine.dispose(close=False)

    @property
    def returns_deleted(self) -> bool:
        """Whether its database returns the rows that a statement deletes."""
        return self._operations.returns_deleted

    async def run(self, operation: Operation[T]) -> T:
        """Run an operation of another store's that keeps its rows in the same database."""
        return await self._runner.run(operation)

    async def identity(self) -> str:
        known = await self._runner.run(self._operations.known_identity())
        if known is not None:
            return known
        # SQLite refuses at once to let what began as a read go on as a write, where another connection has written since.
        return await self._runner.run(self._operations.identity(), atomic=True)

    async def load(self, subject: Subject) -> Document:
        return await self._runner.run(self._operations.load(subject))

    async def write(self, subject: Subject, write: Write) -> Outcome:
        if (
            self._gathered is not None
            and write.change is not None
            and write.expected.revision
            and len(write.document.values_json) * len(write.changes) <= _SMALL
            and await self._gathered.write(subject, write)
        ):
            return Outcome.WRITTEN
        atomic = not self._operations.writes_in_one_statement
        try:
            return await self._runner.run(self._operations.write(subject, write), atomic=atomic)
        except LostRaceError:
            return Outcome.CONFLICT

    async def changes(self, subject: Subject, since: int, limit: int) -> ChangeLog:
        return await self._runner.run(self._operations.changes(subject, since, limit))

    async def revisions(self, subjects: Sequence[Subject]) -> Sequence[int]:
        return await self._runner.run(self._operations.revisions(subjects))

    async def request(self, subject: Subject, key: str) -> RequestRecord | None:
        return await self._runner.run(self._operations.request(subject, key))

    async def kept(self, subject: Subject) -> Kept:
        return await self._runner.run(self._operations.kept(subject))

    async def erase(self, subject: Subject) -> int:
        return await self._runner.run(self._operations.erase(subject), atomic=True)

    async def trim(
        self, *, changes_before: int, requests_before: int, limit: int, cursor: str = ""
    ) -> Trimmed:
        # Not in one transaction: a look keeps nobody waiting.
        run, trimming = self._runner.run, self._trim_operations
        walked = await run(trimming.walk(cursor, changes_before, limit))
        changes = await run(trimming.forget_changes(walked.old)) if walked.old else 0
        requests = await run(trimming.forget_requests(requests_before, limit))
        return Trimmed(changes + requests, walked.cursor, has_more=walked.has_more or requests >= limit)

    async def trim_subject(self, subject: Subject, keep: int) -> int:
        return await self._runner.run(self._trim_operations.trim_subject(subject, keep))

    async def logged_since(self, at: int, limit: int) -> Sequence[LoggedRevision]:
        return await self._runner.run(self._operations.logged_since(at, limit))

    async def take_relay_turn(self, now: int, pause: int) -> int | None:
        return await self._runner.run(self._operations.take_relay_turn(now, pause), atomic=True)

    async def end_relay_turn(self, relayed_until: int) -> None:
        await self._runner.run(self._operations.end_relay_turn(relayed_until))

    async def ping(self) -> None:
        await self._runner.run(self._operations.ping())

    def joiner(
        self, identity: str, now: Callable[[], int], tell: Callable[[Committing], Any]
    ) -> Callable[[Any], HostTransaction]:
        return Joins(self._operations, identity, now, tell)

    def _engine_options(self, url: URL) -> Mapping[str, Any]:
        options: dict[str, Any] = {
            "poolclass": AsyncAdaptedQueuePool,
            "max_overflow": 0,
            "pool_timeout": _BUSY,
            "hide_parameters": True,  # an error's text, which hosts log, holds no preferences
        }
        if url.get_backend_name() == "mysql":
            wait = f"SET SESSION innodb_lock_wait_timeout = {math.ceil(_BUSY)}"
            return {
                **options,
                "pool_size": self._pool_size,
                "pool_recycle": _MYSQL_LIFE,
                "pool_reset_on_return": None,  # each operation ends its transaction itself
                "isolation_level": "READ COMMITTED",  # which locks no rows but those that are written
                "connect_args": {"connect_timeout": math.ceil(_BUSY), "init_command": wait},
            }
        if url.get_backend_name() == "postgresql":
            # Prepared on the server, a statement is on one of its connections, and a pooler may take another one.
            return {**options, "pool_size": self._pool_size, "connect_args": {"prepare_threshold": None}}
        # A database in memory is gone with its one connection; one in a file has a single writer anyway.
        return {
            **options,
            "connect_args": {"factory": ForkAwareConnection},
            "pool_size": 1 if url.database in {None, "", ":memory:"} else min(self._pool_size, 4),
        }

    async def _open_asyncpg(self, url: URL) -> Runner:
        from prefsync.adapters.sqlalchemy.asyncpg import AsyncpgRunner, is_pooled

        engine = _asyncpg_engine(url)
        try:
            await self._prepare(engine)
            pooled = await self._do(engine, is_pooled)
        finally:
            await engine.dispose()
        return AsyncpgRunner(_dsn(url), self._pool_size, is_pooled=pooled)

    async def on_connection(self, work: Callable[[Connection], T]) -> T:
        """Do something on a connection of its own, be the repository open or not: upgrade the tables, say.

        Args:
            work: Is handed the connection, without a transaction, and commits what it does.

        Raises:
            UnusableDatabaseError: The database cannot be reached, or refuses.
        """
        source = self._source
        if not isinstance(source, URL):
            return await self._do(source, work)
        if source.drivername == "postgresql+asyncpg":
            return await self._do(_asyncpg_engine(source), work)
        engine = create_async_engine(source, poolclass=NullPool, hide_parameters=True)
        if source.get_backend_name() == "sqlite":
            prepare_sqlite(engine.sync_engine, _BUSY)
        return await self._do(engine, work)

    async def _prepare(self, engine: AsyncEngine | Engine) -> None:
        """See to the tables, and find out at start that the database can be reached."""
        await self._do(engine, partial(prepare, mode=self.tables))

    async def _do(self, engine: AsyncEngine | Engine, work: Callable[[Connection], T]) -> T:
        try:
            if isinstance(engine, Engine):
                if isinstance(engine.pool, StaticPool) and engine.dialect.name == "sqlite":
                    engine.connect().close()  # in this thread: one that others may not use is found out below
                return await anyio.to_thread.run_sync(_on_connection, engine, work, abandon_on_cancel=True)
            async with engine.connect() as connection:
                return await connection.run_sync(work)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            cause = getattr(error, "orig", None) or error
            where = engine.url if not isinstance(self._source, URL) else self._source
            raise UnusableDatabaseError(
                f"the database {shown(where.render_as_string(hide_password=False))} cannot be used:"
                f" {cause or type(cause).__name__};"
                " check PREFSYNC_DATABASE_URL and that the server runs"
            ) from error


def _dsn(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def _asyncpg_engine(url: URL) -> AsyncEngine:
    """Return an engine of asyncpg's for some statements at the start, whatever pooler stands between."""
    from prefsync.adapters.sqlalchemy.asyncpg import connect_through_anything  # only where it is used

    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=partial(connect_through_anything, _dsn(url)),
        poolclass=NullPool,
        hide_parameters=True,
    )


def _on_connection(engine: Engine, work: Callable[[Connection], T]) -> T:
    with engine.connect() as connection:
        return work(connection)


def _with_driver(source: str) -> URL:
    """Read a URL and give it an async driver that is installed."""
    try:
        url = make_url(source)
    except ArgumentError:
        raise ConfigurationError(
            "PREFSYNC_DATABASE_URL cannot be read; write postgresql://user:password@host/database or sqlite:///file.db"
        ) from None
    match url.drivername:
        case "postgres" | "postgresql" | "postgresql+asyncpg" if find_spec("asyncpg"):
            return url.set(drivername="postgresql+asyncpg")
        case "postgres" | "postgresql" | "postgresql+psycopg" if find_spec("psycopg"):
            return url.set(drivername="postgresql+psycopg")
        case "postgres" | "postgresql" | "postgresql+asyncpg" | "postgresql+psycopg":
            raise MissingExtraError("PostgreSQL", "postgres")
        case "mysql" | "mariadb" | "mysql+asyncmy" | "mariadb+asyncmy" if find_spec("asyncmy"):
            return url.set(drivername="mysql+asyncmy")
        case "mysql" | "mariadb" | "mysql+asyncmy" | "mariadb+asyncmy":
            raise MissingExtraError("MySQL", "mysql")
        case "sqlite" | "sqlite+aiosqlite" if find_spec("aiosqlite"):
            return url.set(drivername="sqlite+aiosqlite")
        case "sqlite" | "sqlite+aiosqlite":
            raise MissingExtraError("SQLite", "sqlite")
        case other:
            raise ConfigurationError(
                f"PREFSYNC_DATABASE_URL: {other} is not supported; use a postgresql://, mysql:// or sqlite:/// URL"
            )
