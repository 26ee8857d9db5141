"""The repository on SQLite and PostgreSQL."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from sqlalchemy import URL, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool

from prefsync.adapters.sqlalchemy.operations import operations_for
from prefsync.adapters.sqlalchemy.runners import AsyncEngineRunner, LostRaceError, Runner, prepare_sqlite
from prefsync.adapters.sqlalchemy.tables import metadata
from prefsync.errors import ConfigurationError, MissingExtraError
from prefsync.ports import ChangeLog, LoggedRevision, Outcome, PreferenceRepository, RequestRecord, Write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

    from prefsync.adapters.sqlalchemy.operations import Operation
    from prefsync.document import Document, Subject

__all__ = ["SqlAlchemyRepository"]

T = TypeVar("T")

logger = logging.getLogger("prefsync")

# Any number that no other user of advisory locks is likely to take: "prefsync" as bytes.
_ADVISORY_LOCK: Final = int.from_bytes(b"prefsync") % 2**63

# Seconds that a write on SQLite waits for another connection's to end.
_BUSY: Final = 4.0


class SqlAlchemyRepository(PreferenceRepository):
    """Documents in SQLite or PostgreSQL.

    Args:
        source: A URL (ours to open and close) or the host's own async engine (the host's to close). Plain
            ``postgresql://`` and ``sqlite:///`` URLs are given the async driver that is installed.
        pool_size: The most connections to a database given by URL.
        create_tables: Whether to create missing tables when the repository is opened.

    Raises:
        ConfigurationError: The URL cannot be read, or names a database that is not supported.
        MissingExtraError: There is no driver for it.
    """

    def __init__(self, source: str | AsyncEngine, *, pool_size: int = 10, create_tables: bool = True) -> None:
        self._source: URL | AsyncEngine = _with_driver(source) if isinstance(source, str) else source
        self._pool_size = pool_size
        self._create_tables = create_tables
        dialect = (
            self._source.get_backend_name() if isinstance(self._source, URL) else self._source.dialect.name
        )
        try:
            self._operations = operations_for(dialect)
        except KeyError:
            raise ConfigurationError(
                f"PREFSYNC_DATABASE_URL: {dialect} is not supported; use a postgresql:// or sqlite:/// URL"
            ) from None
        self._open_runner: Runner | None = None

    @property
    def _runner(self) -> Runner:
        if self._open_runner is None:
            raise RuntimeError("the repository is not open: use it within `async with`")
        return self._open_runner

    async def __aenter__(self) -> Self:
        source = self._source
        if isinstance(source, AsyncEngine):
            await self._prepare(source)
            self._open_runner = AsyncEngineRunner(source, owned=False)
        elif source.drivername == "postgresql+asyncpg":
            self._open_runner = await self._open_asyncpg(source)
        else:
            engine = create_async_engine(source, **self._engine_options(source))
            if source.get_backend_name() == "sqlite":
                prepare_sqlite(engine, _BUSY)
            await self._prepare(engine)
            self._open_runner = AsyncEngineRunner(engine, owned=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        runner, self._open_runner = self._open_runner, None
        if runner is not None:
            await runner.close()

    async def run(self, operation: Operation[T]) -> T:
        """Run an operation of another store's that keeps its rows in the same database."""
        return await self._runner.run(operation)

    async def identity(self) -> str:
        return await self._runner.run(self._operations.identity())

    async def load(self, subject: Subject) -> Document:
        return await self._runner.run(self._operations.load(subject))

    async def write(self, subject: Subject, write: Write) -> Outcome:
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

    async def erase(self, subject: Subject) -> int:
        return await self._runner.run(self._operations.erase(subject), atomic=True)

    async def trim(self, *, changes_before: int, requests_before: int, limit: int) -> int:
        return await self._runner.run(self._operations.trim(changes_before, requests_before, limit))

    async def trim_subject(self, subject: Subject, keep: int) -> int:
        return await self._runner.run(self._operations.trim_subject(subject, keep))

    async def logged_since(self, at: int, limit: int) -> Sequence[LoggedRevision]:
        return await self._runner.run(self._operations.logged_since(at, limit))

    async def take_relay_turn(self, now: int, pause: int) -> int | None:
        return await self._runner.run(self._operations.take_relay_turn(now, pause), atomic=True)

    async def end_relay_turn(self, relayed_until: int) -> None:
        await self._runner.run(self._operations.end_relay_turn(relayed_until))

    async def ping(self) -> None:
        await self._runner.run(self._operations.ping())

    def _engine_options(self, url: URL) -> Mapping[str, Any]:
        options: dict[str, Any] = {
            "poolclass": AsyncAdaptedQueuePool,
            "max_overflow": 0,
            "pool_timeout": _BUSY,
        }
        if url.get_backend_name() != "sqlite":
            return {**options, "pool_size": self._pool_size}
        # A database in memory is gone with its one connection; one in a file has a single writer anyway.
        return {
            **options,
            "pool_size": 1 if url.database in {None, "", ":memory:"} else min(self._pool_size, 4),
        }

    async def _open_asyncpg(self, url: URL) -> Runner:
        import asyncpg  # only where this driver is used

        from prefsync.adapters.sqlalchemy.asyncpg import TIME_LIMIT, AsyncpgRunner

        dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
        engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=lambda: asyncpg.connect(dsn, timeout=TIME_LIMIT),
            poolclass=NullPool,
        )
        try:
            await self._prepare(engine)
        finally:
            await engine.dispose()
        return AsyncpgRunner(dsn, self._pool_size)

    async def _prepare(self, engine: AsyncEngine) -> None:
        """Create missing tables, and find out at start that the database can be reached."""
        try:
            async with engine.begin() as connection:
                if not self._create_tables:
                    await connection.execute(text("SELECT 1"))
                    return
                if engine.dialect.name == "postgresql":
                    # Processes that start together would otherwise race to create the same table.
                    await connection.execute(
                        text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADVISORY_LOCK}
                    )
                await connection.run_sync(_create)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            cause = getattr(error, "orig", None) or error
            where = engine.url if not isinstance(self._source, URL) else self._source
            raise ConfigurationError(
                f"the database {where.render_as_string()} cannot be used: {cause or type(cause).__name__};"
                " check PREFSYNC_DATABASE_URL and that the server runs"
            ) from error


def _create(connection: Connection) -> None:
    metadata.create_all(connection)
    # There from the beginning, so that it can be locked before anything was ever erased.
    start = text("INSERT INTO preference_erasures (id, floor) VALUES (1, 0) ON CONFLICT (id) DO NOTHING")
    connection.execute(start)


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
        case "sqlite" | "sqlite+aiosqlite" if find_spec("aiosqlite"):
            return url.set(drivername="sqlite+aiosqlite")
        case "sqlite" | "sqlite+aiosqlite":
            raise MissingExtraError("SQLite", "sqlite")
        case other:
            raise ConfigurationError(
                f"PREFSYNC_DATABASE_URL: {other} is not supported; use a postgresql:// or sqlite:/// URL"
            )
