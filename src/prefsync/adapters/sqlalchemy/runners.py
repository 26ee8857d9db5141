"""Who runs an operation: a connection of SQLAlchemy's, or asyncpg's own prepared statements."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import anyio.lowlevel
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from prefsync.adapters.sqlalchemy.operations import KeyClaimedError, Operation, Statement
from prefsync.errors import UnavailableError
from prefsync.ports import Outcome

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["AsyncEngineRunner", "LostRaceError", "Runner", "drive", "prepare_sqlite"]

logger = logging.getLogger("prefsync")

T = TypeVar("T")

# Seconds that an operation may take, the wait for a connection included.
_TIME_LIMIT: Final = 4.5

# PostgreSQL, appendix A: serialization_failure and deadlock_detected. The server undid the transaction; in a
# compare-and-set that is the same as having lost the race.
_LOST_RACES: Final = {"40001", "40P01"}


class LostRaceError(UnavailableError):
    """The database undid a transaction because of another one; in a compare-and-set that is a conflict."""


class Runner(Protocol):
    """Runs operations on one database."""

    async def run(self, operation: Operation[T], *, atomic: bool = False) -> T:
        """Run an operation.

        Args:
            operation: What to do.
            atomic: All of its statements in one transaction, undone unless it ends well.

        Raises:
            LostRaceError: The database undid it because of another transaction.
            UnavailableError: The database is out of reach or refuses.
        """
        ...

    async def close(self) -> None:
        """Close what this runner opened."""
        ...


def drive(connection: Connection, operation: Operation[T]) -> T:
    """Run an operation on a connection, inside whatever transaction is on there."""
    try:
        statement, parameters = next(operation)
        while True:
            try:
                result = connection.execute(statement.sql, dict(parameters))
                rows: Any = result.fetchall() if statement.returns_rows else [(result.rowcount,)]
            except IntegrityError:
                statement, parameters = operation.throw(KeyClaimedError())
            else:
                statement, parameters = operation.send(rows)
    except StopIteration as stop:
        ended: T = stop.value
        return ended


class AsyncEngineRunner:
    """Runs operations on an async engine.

    Args:
        engine: Of any driver.
        owned: Whether to dispose of it at the end.
    """

    def __init__(self, engine: AsyncEngine, *, owned: bool) -> None:
        self._reading = engine.execution_options(**({} if engine.dialect.name == "sqlite" else _AUTOCOMMIT))
        self._writing = engine.execution_options(prefsync_write=True)
        self._engine = engine
        self._owned = owned
        self._late: set[asyncio.Task[Any]] = set()

    async def run(self, operation: Operation[T], *, atomic: bool = False) -> T:
        await anyio.lowlevel.checkpoint_if_cancelled()
        try:
            return await self._to_its_end(self._run(operation, atomic=atomic))
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) in _LOST_RACES:
                raise LostRaceError("database") from error
            if not error.connection_invalidated:
                logger.warning("the database refused: %s", error.orig)
            raise UnavailableError("database") from error
        except (SQLAlchemyError, OSError) as error:
            raise UnavailableError("database") from error

    async def _to_its_end(self, call: Coroutine[Any, Any, T]) -> T:
        """Await a call that must not be cancelled in the middle.

        SQLAlchemy then leaves connections and tasks behind (its issues 6652, 8145, 12077). Whoever cancels waits for
        the call to end. One that takes too long is left to end by itself: some drivers take seconds to give up.
        """
        loop = asyncio.get_running_loop()
        task = loop.create_task(call)
        end = loop.time() + _TIME_LIMIT
        cancelled: asyncio.CancelledError | None = None
        while not task.done() and (left := end - loop.time()) > 0:
            try:
                # Once cancelled, behind a shield: anyio would cancel the wait again in each round of the loop.
                with anyio.CancelScope(shield=cancelled is not None):
                    await asyncio.wait({task}, timeout=left)
            except asyncio.CancelledError as error:
                cancelled = error
        if not task.done():
            task.cancel()
            self._late.add(task)
            task.add_done_callback(self._forget)
        elif cancelled is None:
            return task.result()
        elif not task.cancelled():
            task.exception()  # looked at: nobody waits for it any more
        raise cancelled or UnavailableError("database")

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._late.discard(task)
        if not task.cancelled():
            task.exception()

    async def _run(self, operation: Operation[T], *, atomic: bool) -> T:
        async with (self._writing if atomic else self._reading).connect() as connection:
            result = await connection.run_sync(drive, operation)
            if result is Outcome.CONFLICT or result is Outcome.KEY_CLAIMED:
                await connection.rollback()
            else:
                await connection.commit()
            return result

    async def close(self) -> None:
        if self._late:
            await asyncio.wait(self._late, timeout=_TIME_LIMIT)
        if self._owned:
            await self._engine.dispose()


# A statement by itself needs no BEGIN and COMMIT around it, which would be two more round trips.
_AUTOCOMMIT: Final[Mapping[str, Any]] = {"isolation_level": "AUTOCOMMIT"}


def prepare_sqlite(engine: AsyncEngine, busy_seconds: float) -> None:
    """Make SQLite durable, and let readers go on while one connection writes.

    Write-ahead logging with full synchronisation: an acknowledged commit survives a power cut
    (https://www.sqlite.org/pragma.html#pragma_synchronous). A write takes its lock at the start: a
    transaction that reads first and writes then can fail although it waited
    (https://www.sqlite.org/lang_transaction.html, section 2.2).
    """

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # pysqlite must not open transactions by itself
        cursor = connection.cursor()
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            f"busy_timeout = {int(busy_seconds * 1000)}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get("prefsync_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def positional(statement: Statement, dialect: Any) -> tuple[str, list[str]]:
    """Compile a statement for a driver that numbers its parameters; return it with their names in order."""
    compiled = statement.sql.compile(dialect=dialect)
    return str(compiled), list(compiled.positiontup or ())
