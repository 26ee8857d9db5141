"""Who runs an operation: a connection of SQLAlchemy's, async or in a thread, or asyncpg's own prepared statements."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import anyio
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from prefsync.adapters.sqlalchemy.operations import KeyClaimedError, Operation, Statement
from prefsync.adapters.sqlalchemy.refusals import read_only, refusal, state_of
from prefsync.adapters.sqlalchemy.sqlite import begin_to_write
from prefsync.errors import UnavailableError
from prefsync.ports import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping

    from sqlalchemy import Connection, Dialect

__all__ = [
    "Calls",
    "LostRaceError",
    "Runner",
    "drive",
    "errors_of_ours",
    "is_busy",
    "is_lost_race",
    "positional",
    "reading_options",
    "transact",
]

logger = logging.getLogger("prefsync")

T = TypeVar("T")

# Seconds that an operation may take, the wait for a connection included.
_TIME_LIMIT: Final = 4.5

# PostgreSQL, appendix A: serialization_failure and deadlock_detected. The server undid the transaction; in a
# compare-and-set that is the same as having lost the race.
_LOST_RACES: Final = {"40001", "40P01"}

# MySQL and MariaDB: deadlock found, and MariaDB's "record has changed since last read" (snapshot isolation).
_MYSQL_LOST_RACES: Final = {1213, 1020}

# SQLite's SQLITE_BUSY, its lowest byte whatever the extended code is: another connection writes, or has written.
_SQLITE_BUSY: Final = 5

# Drivers whose single statements run in a transaction all the same.
_IN_TRANSACTIONS: Final = {"aiosqlite", "pysqlite", "psycopg2"}

# Dialects whose drivers ask the server, several times, for another way to end transactions, and to have the old one back.
_SLOW_TO_CHANGE: Final = {"mysql", "mariadb"}


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
            ReadOnlyError: The database answers, and stores nothing.
            UnavailableError: The database is out of reach or refuses.
        """
        ...

    async def close(self) -> None:
        """Close what this runner opened."""
        ...


def transact(connection: Connection, operation: Operation[T], *, atomic: bool) -> T:
    """Run an operation on a connection that has no transaction yet, and commit what it did if it ended well."""
    if atomic and connection.dialect.name == "sqlite":
        begin_to_write(connection)
    result = drive(connection, operation)
    if result is Outcome.CONFLICT or result is Outcome.KEY_CLAIMED:
        connection.rollback()
    else:
        connection.commit()
    return result


def drive(connection: Connection, operation: Operation[T]) -> T:
    """Run an operation on a connection, in the transaction that it has."""
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


def is_lost_race(error: SQLAlchemyError) -> bool:
    """Tell whether the database undid a transaction because of another one."""
    cause: Any = getattr(error, "orig", None)
    if state_of(cause) in _LOST_RACES:
        return True
    return bool(getattr(cause, "args", None)) and cause.args[0] in _MYSQL_LOST_RACES


def is_busy(error: SQLAlchemyError) -> bool:
    """Tell whether SQLite could not go on because of another connection."""
    code: int | None = getattr(getattr(error, "orig", None), "sqlite_errorcode", None)
    return code is not None and code & 0xFF == _SQLITE_BUSY


@contextmanager
def errors_of_ours() -> Iterator[None]:
    """Say what SQLAlchemy says in the words of the port."""
    try:
        yield
    except DBAPIError as error:
        if is_lost_race(error):
            raise LostRaceError("database") from error
        refused = read_only(error.orig)
        if refused is not None:
            raise refused from error
        if not error.connection_invalidated:
            logger.warning("the database refused: %s", refusal(error.orig))
        raise UnavailableError("database") from error
    except (SQLAlchemyError, OSError) as error:
        raise UnavailableError("database") from error


class Calls:
    """Calls that must not be cancelled in the middle, and that nobody waits for beyond their time."""

    def __init__(self) -> None:
        self._under_way: set[asyncio.Task[Any]] = set()

    async def to_its_end(
        self, call: Coroutine[Any, Any, T], give_up: Callable[[asyncio.Task[T]], object]
    ) -> T:
        """Await a call. Whoever cancels meanwhile waits for its end.

        Args:
            call: What to await.
            give_up: Told of one that takes too long, which is then left to end by itself: some drivers take seconds to
                give up.

        Raises:
            UnavailableError: It takes too long.
        """
        loop = asyncio.get_running_loop()
        task = loop.create_task(call)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
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
            task.add_done_callback(_look_at)
            give_up(task)
        elif cancelled is None:
            return task.result()
        else:
            _look_at(task)
        raise cancelled or UnavailableError("database")

    async def ended(self) -> None:
        """Wait for those that are under way, for as long as any call may take: they hold connections."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=_TIME_LIMIT)


def _look_at(task: asyncio.Task[Any]) -> None:
    """Take note of an error that nobody waits for any more."""
    if not task.cancelled():
        task.exception()


def reading_options(dialect: Dialect) -> Mapping[str, Any]:
    """Return the options of an engine for single statements.

    They need no BEGIN and COMMIT around them, which would be two more round trips. psycopg2 has them all the same: it
    asks the server when a connection is given back, and one that was cut just then would be lost to the pool.
    """
    if dialect.driver in _IN_TRANSACTIONS or dialect.name in _SLOW_TO_CHANGE:
        return {}
    return {"isolation_level": "AUTOCOMMIT"}


def positional(statement: Statement, dialect: Any) -> tuple[str, list[str]]:
    """Compile a statement for a driver that numbers its parameters; return it with their names in order."""
    compiled = statement.sql.compile(dialect=dialect)
    return str(compiled), list(compiled.positiontup or ())
