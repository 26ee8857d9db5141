"""Operations on asyncpg's own connections: each statement is compiled once and prepared once a connection.

SQLAlchemy's asyncio layer costs several times as much as the statement itself. It still defines the tables and compiles
the statements; only running them goes around it.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import deque
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, TypeVar

from prefsync.errors import MissingExtraError, UnavailableError

if find_spec("asyncpg") is None:
    raise MissingExtraError("PostgreSQL through asyncpg", "postgres")

import asyncpg
from sqlalchemy import text
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from prefsync.adapters.sqlalchemy.operations import KeyClaimedError, Operation, Statement
from prefsync.adapters.sqlalchemy.refusals import read_only, refusal
from prefsync.adapters.sqlalchemy.runners import LostRaceError, positional

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

__all__ = ["AsyncpgRunner", "connect_through_anything", "is_pooled"]

logger = logging.getLogger("prefsync")

T = TypeVar("T")

# Seconds that connecting and one statement may take; every statement is a look-up or a write by primary key.
TIME_LIMIT: Final = 1.0

# What a connection raises that is of no use any more. asyncpg takes it for a mistake of its own where the server's last
# words were read already and the end of the stream not yet.
_LOST: Final = (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)

# Nothing is prepared under a name that another client of the pooler's could meet, or that is not there the next time.
_WITHOUT_NAMES: Final = {"statement_cache_size": 0}

_DIALECT: Final[Any] = PGDialect_asyncpg()  # type: ignore[no-untyped-call]  # as SQLAlchemy has it


class _Connections:
    """A pool, last in, first out.

    asyncpg's own pool costs as much again as the statement that runs on it: it wraps each connection for each use and
    watches over what it does there. All that this one has to do is hand them out.

    Args:
        dsn: Where to connect.
        size: The most connections.
        options: For connecting.
    """

    def __init__(self, dsn: str, size: int, options: Mapping[str, Any]) -> None:
        self._dsn = dsn
        self._size = size
        self._options = options
        self._open = 0
        self._idle: list[Any] = []
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._connecting: set[asyncio.Future[Any]] = set()
        self._closed = False

    async def acquire(self) -> Any:
        """Return a connection, opening one where none is free and there may be more."""
        while True:
            while self._idle:
                connection = self._idle.pop()
                if not connection.is_closed():
                    return connection
                self._open -= 1
            if self._open < self._size:
                return await self._connect()
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._wake_one()  # it was this one's turn, and it does not take it
                raise

    async def _connect(self) -> Any:
        self._open += 1
        connecting = asyncio.ensure_future(
            asyncpg.connect(
                self._dsn,
                timeout=TIME_LIMIT,
                command_timeout=TIME_LIMIT,
                server_settings={"application_name": "prefsync"},
                **self._options,
            )
        )
        self._connecting.add(connecting)
        connecting.add_done_callback(self._connecting.discard)
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            # Cut off in the middle, asyncpg reports an error that nobody can catch: let it end, for the next one.
            connecting.add_done_callback(self._keep)
            raise
        except BaseException:
            self._open -= 1
            self._wake_one()
            raise

    def _keep(self, connected: asyncio.Future[Any]) -> None:
        if connected.cancelled() or connected.exception():
            self._open -= 1
            self._wake_one()
        else:
            self.release(connected.result())

    def release(self, connection: Any) -> None:
        """Take a connection back on which everything went well."""
        if self._closed or connection.is_closed():
            self.discard(connection)
        else:
            self._idle.append(connection)
            self._wake_one()

    def discard(self, connection: Any) -> None:
        """Close a connection at once: what the server may still send on it must not reach the next user."""
        connection.terminate()
        self._open -= 1
        self._wake_one()

    def _wake_one(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    async def close(self) -> None:
        """Close what is idle; what is in use is closed when it comes back."""
        self._closed = True
        if self._connecting:
            await asyncio.wait(self._connecting)
        while self._idle:
            connection = self._idle.pop()
            self._open -= 1
            try:
                await connection.close(timeout=TIME_LIMIT)
            except (asyncpg.PostgresError, *_LOST):
                connection.terminate()


class NamelessConnection(asyncpg.Connection):  # type: ignore[misc]  # as asyncpg has it
    """A connection that prepares nothing under a name that another client of a pooler's could have taken."""

    async def prepare(self, query: str, *, name: str | None = None, **options: Any) -> Any:
        return await super().prepare(query, name=name or f"prefsync_{uuid.uuid4().hex}", **options)


async def connect_through_anything(dsn: str) -> Any:
    """Return a connection that works whatever stands between us and the server."""
    return await asyncpg.connect(
        dsn, timeout=TIME_LIMIT, connection_class=NamelessConnection, **_WITHOUT_NAMES
    )


def is_pooled(connection: Connection) -> bool:
    """Tell whether a pooler stands between a connection and the server: it says that it is the server's process itself."""
    driver: Any = connection.connection.driver_connection
    process = connection.execute(text("SELECT pg_backend_pid()")).scalar()
    return bool(process != driver.get_server_pid())


class AsyncpgRunner:
    """Runs operations on asyncpg connections.

    Args:
        dsn: As libpq reads it, ``postgresql://user@host/database?sslmode=...``.
        pool_size: The most connections.
        is_pooled: Whether a pooler (PgBouncer) stands between, which may run each transaction on another connection.
    """

    def __init__(self, dsn: str, pool_size: int, *, is_pooled: bool = False) -> None:
        self._connections = _Connections(dsn, pool_size, _WITHOUT_NAMES if is_pooled else {})
        self._is_pooled = is_pooled
        self._compiled: dict[Statement, tuple[str, list[str]]] = {}

    async def run(self, operation: Operation[T], *, atomic: bool = False) -> T:
        try:
            connection = await self._connections.acquire()
        except (asyncpg.PostgresError, *_LOST) as error:
            raise UnavailableError("database") from error
        try:
            if atomic or self._is_pooled:
                async with connection.transaction():
                    result = await self._drive(connection, operation)
            else:
                result = await self._drive(connection, operation)
        except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError) as error:
            self._connections.release(connection)
            raise LostRaceError("database") from error
        except asyncpg.PostgresError as error:
            refused = read_only(error)
            if refused is not None:
                self._connections.release(connection)
                raise refused from error
            logger.warning("the database refused: %s", refusal(error))
            self._connections.discard(connection)
            raise UnavailableError("database") from error
        except _LOST as error:
            self._connections.discard(connection)
            raise UnavailableError("database") from error
        except BaseException:  # cancelled in the middle of a statement
            self._connections.discard(connection)
            raise
        self._connections.release(connection)
        return result

    async def _drive(self, connection: Any, operation: Operation[T]) -> T:
        try:
            statement, parameters = next(operation)
            while True:
                try:
                    rows = await self._fetch(connection, statement, parameters)
                except asyncpg.UniqueViolationError:
                    statement, parameters = operation.throw(KeyClaimedError())
                else:
                    statement, parameters = operation.send(rows)
        except StopIteration as stop:
            result: T = stop.value
            return result

    async def _fetch(self, connection: Any, statement: Statement, parameters: Mapping[str, Any]) -> Any:
        compiled = self._compiled.get(statement)
        if compiled is None:
            compiled = self._compiled[statement] = positional(statement, _DIALECT)
        sql, names = compiled
        arguments = [parameters[name] for name in names]
        if statement.returns_rows:
            return await connection.fetch(sql, *arguments)
        tag = await connection.execute(sql, *arguments)
        return [(int(tag.rsplit(" ", 1)[1]),)]  # "DELETE 3", "INSERT 0 1"

    async def close(self) -> None:
        await self._connections.close()
