"""Preferences in the middle of the host's own transaction, on its session or connection.

SQLAlchemy tells of rollbacks, and that a commit is about to begin. That one is over it does not tell: what follows is
that the connection is given back, or used again, or else somebody looks.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from weakref import WeakKeyDictionary, ref

from sqlalchemy import Connection, event
from sqlalchemy.engine import TwoPhaseTransaction
from sqlalchemy.exc import SQLAlchemyError, UnboundExecutionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
from sqlalchemy.ext.asyncio.exc import AsyncContextNotStarted
from sqlalchemy.orm import Session, scoped_session
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from prefsync.adapters.sqlalchemy.journal import Journal
from prefsync.adapters.sqlalchemy.refusals import refusal
from prefsync.adapters.sqlalchemy.runners import drive, is_busy, is_lost_race
from prefsync.errors import ConfigurationError, TransactionConflictError, UnavailableError
from prefsync.ports import HostTransaction, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Dialect, Engine
    from sqlalchemy.engine import ExceptionContext
    from sqlalchemy.pool import ConnectionPoolEntry

    from prefsync.adapters.sqlalchemy.operations import Operation, Operations
    from prefsync.document import Document, Subject
    from prefsync.ports import Committing, Write

__all__ = ["JoinedTransaction", "Joins"]

logger = logging.getLogger("prefsync")

T = TypeVar("T")

# Under which name of a pooled connection's own notes the journals of the transaction on it are found.
_NOTES: Final = "prefsync"

_NOT_OPEN: Final = "this connection is not open: hand it over inside of the block that opens it, async with engine.begin() say"

# Seconds for which whoever commits waits until everybody has been told; it goes on after that.
_TELLING_LIMIT: Final = 2.0


class Joins:
    """What one repository knows of the transactions that it joins.

    Args:
        operations: What is done in them.
        identity: Of the repository.
        now: The time, in ms since 1970.
        tell: See ``JoiningRepository.joiner``.
    """

    def __init__(
        self,
        operations: Operations,
        identity: str,
        now: Callable[[], int],
        tell: Callable[[Committing], concurrent.futures.Future[None] | None],
    ) -> None:
        self.operations = operations
        self._identity = identity
        self._now = now
        self._tell = tell
        self._known: WeakKeyDictionary[Dialect, bool] = WeakKeyDictionary()

    def __call__(self, transaction: Any) -> JoinedTransaction:
        """Return a session or connection as a transaction.

        Raises:
            ConfigurationError: It is neither.
        """
        return JoinedTransaction(transaction, self)

    def check(self, connection: Connection) -> None:
        """Find out whether there is a transaction on a connection that preferences can be a part of.

        Raises:
            ConfigurationError: There is none.
        """
        if isinstance(connection.get_transaction(), TwoPhaseTransaction):
            raise ConfigurationError("preferences cannot be written in a two-phase transaction")
        if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
            raise ConfigurationError(
                "this connection commits every statement by itself (isolation_level AUTOCOMMIT): preferences can be"
                " written in a transaction alone"
            )
        if self._known.get(connection.dialect):
            return
        try:
            identity = drive(connection, self.operations.known_identity())
        except SQLAlchemyError as error:
            raise ConfigurationError(
                "this transaction is in a database that has none of prefsync's tables, or may not read them: it has to"
                " be the one that PREFSYNC_DATABASE_URL, or the engine of the SqlAlchemyRepository, leads to"
            ) from error
        if identity != self._identity:
            raise ConfigurationError(
                "this transaction is in another database than prefsync: it has to be the one that PREFSYNC_DATABASE_URL,"
                " or the engine of the SqlAlchemyRepository, leads to"
            )
        self._known[connection.dialect] = True

    def journal(self, connection: Connection) -> Journal:
        """Return what is noted of the transaction on a connection, and begin to follow it."""
        notes = connection.info.setdefault(_NOTES, {})
        kept = notes.get(id(self))
        if kept is not None and kept.connection() is connection:
            return cast("Journal", kept)
        journal = Journal(ref(connection), self.operations, self._now, self._tell)
        notes[id(self)] = journal
        for name in ("begin", "commit", "rollback", "rollback_savepoint"):
            event.listen(connection, name, getattr(journal, name))
        _listen_once(connection.engine)
        return journal


class JoinedTransaction(HostTransaction):
    """A session or connection of the host's.

    Args:
        transaction: The session or connection.
        joins: What is known of all of them.

    Raises:
        ConfigurationError: It is neither.
    """

    def __init__(self, transaction: Any, joins: Joins) -> None:
        if isinstance(transaction, scoped_session | async_scoped_session):
            transaction = transaction()
        if not isinstance(transaction, Session | Connection | AsyncSession | AsyncConnection):
            raise ConfigurationError(
                "preferences are written within a session or connection of SQLAlchemy's, not within"
                f" {type(transaction).__name__}"
            )
        self._transaction = transaction
        self._joins = joins
        self._journals: list[Journal] = []

    async def load(self, subject: Subject, *, newest: bool = False) -> Document:
        operations = self._joins.operations
        return await self._run(partial((operations.load_newest if newest else operations.load), subject))

    async def write(self, subject: Subject, write: Write) -> Outcome:
        return await self._run(partial(self._joins.operations.write, subject, write), (subject, write))

    async def told(self) -> None:
        journals, self._journals = self._journals, []
        for journal in journals:
            telling = journal.telling
            if telling is None:
                continue
            if isinstance(self._transaction, Session | Connection):
                wait_until_told(telling)
            else:
                await asyncio.wait({asyncio.wrap_future(telling)}, timeout=_TELLING_LIMIT)

    async def _run(self, make: Callable[[], Operation[T]], written: tuple[Subject, Write] | None = None) -> T:
        transaction = self._transaction
        if isinstance(transaction, Session | Connection):
            return self._on(transaction, make, written)
        if isinstance(transaction, AsyncSession):
            return await transaction.run_sync(self._on, make, written)
        try:
            return await transaction.run_sync(self._on, make, written)
        except AsyncContextNotStarted as error:
            raise ConfigurationError(_NOT_OPEN) from error

    def _on(
        self,
        transaction: Session | Connection,
        make: Callable[[], Operation[T]],
        written: tuple[Subject, Write] | None,
    ) -> T:
        try:
            connection = _connection_of(transaction)
            self._joins.check(connection)
            journal = self._joins.journal(connection)
            if journal not in self._journals:
                self._journals.append(journal)
            result = drive(connection, make())
        except SQLAlchemyError as error:
            if is_lost_race(error) or is_busy(error):
                raise TransactionConflictError from error
            logger.warning("the database refused: %s", refusal(getattr(error, "orig", None) or error))
            raise UnavailableError("database") from error
        if written is not None and result is Outcome.WRITTEN:
            journal.note(*written)
        return result


def _connection_of(transaction: Session | Connection) -> Connection:
    if isinstance(transaction, Session):
        try:
            return transaction.connection()
        except UnboundExecutionError as error:
            raise ConfigurationError(
                "this session does not say on which engine to work: make it of one, AsyncSession(engine) or"
                " Session(engine); where it has several (binds=), hand over the connection of prefsync's database,"
                " session.connection(bind_arguments=...), instead"
            ) from error
    if transaction.closed:
        raise ConfigurationError(_NOT_OPEN)
    return transaction


def wait_until_told(telling: concurrent.futures.Future[None]) -> None:
    """Wait until everybody has been told, where that holds up nobody else and nothing can come of it but time."""
    if in_greenlet():
        await_only(_told(telling))
    elif asyncio._get_running_loop() is None:  # noqa: SLF001  # get_running_loop without the price of an exception
        with suppress(TimeoutError, concurrent.futures.CancelledError):
            telling.result(_TELLING_LIMIT)


async def _told(telling: concurrent.futures.Future[None]) -> None:
    try:
        await asyncio.wait({asyncio.wrap_future(telling)}, timeout=_TELLING_LIMIT)
    except asyncio.CancelledError:
        # What has been committed is to end in order, its connection given back: the task is cancelled where it waits next.
        task = asyncio.current_task()
        if task is not None:
            task.cancel()
            task.uncancel()


def _listen_once(engine: Engine) -> None:
    if not event.contains(engine.pool, "checkin", _given_back):
        event.listen(engine.pool, "checkin", _given_back)
    if not event.contains(engine, "handle_error", _failed):
        event.listen(engine, "handle_error", _failed)


def _given_back(_connection: object, entry: ConnectionPoolEntry) -> None:
    """Let whoever committed go on when everybody has been told: then the connection is given back."""
    journals: dict[int, Journal] = entry.info.pop(_NOTES, {})
    for journal in journals.values():
        if (telling := journal.end()) is not None:
            wait_until_told(telling)


def _failed(context: ExceptionContext) -> None:
    connection = context.connection
    if connection is None or connection.closed or connection.invalidated:
        return
    journals: dict[int, Journal] = connection.info.get(_NOTES, {})
    for journal in journals.values():
        journal.fail(connection)
