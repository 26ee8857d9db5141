"""Whose preferences a transaction of the host's has written, and what is left of that when it is committed."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.exc import SQLAlchemyError

from prefsync.adapters.sqlalchemy.operations import moved
from prefsync.adapters.sqlalchemy.runners import drive
from prefsync.ports import Committed, Committing

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Callable
    from weakref import ref

    from sqlalchemy import Connection

    from prefsync.adapters.sqlalchemy.operations import Operations
    from prefsync.document import Document, Subject
    from prefsync.ports import Write

__all__ = ["Journal"]

logger = logging.getLogger("prefsync")

# ms that a change may be old when it is committed. The relay finds what is a few times as old; older ones are moved.
_YOUNG: Final = 1_000

# Changes of one subject in one transaction that are told one by one; beyond them, that there are some.
_MOST_CHANGES: Final = 1_000


@dataclass(slots=True)
class _Touched:
    """What is known of a subject that a transaction has written.

    Attributes:
        since: The revision before the first write.
        own_since: A revision after which all is the transaction's own.
        document: As the last write left it.
        is_sure: Whether nothing has been undone since.
    """

    since: int
    own_since: int
    document: Document
    is_sure: bool = True


class Journal:
    """What is noted of the transactions on one connection of the host's; its methods are called as SQLAlchemy's events.

    Args:
        connection: The connection.
        operations: What is done at a commit.
        now: The time, in ms since 1970.
        tell: Told of each commit when it begins.

    Attributes:
        connection: The connection.
        telling: Ends when everybody has been told of the last commit.
    """

    def __init__(
        self,
        connection: ref[Connection],
        operations: Operations,
        now: Callable[[], int],
        tell: Callable[[Committing], concurrent.futures.Future[None] | None],
    ) -> None:
        self.connection = connection
        self.telling: concurrent.futures.Future[None] | None = None
        self._operations = operations
        self._now = now
        self._tell = tell
        self._committing: Committing | None = None
        self._touched: dict[Subject, _Touched] = {}

    def note(self, subject: Subject, write: Write) -> None:
        """Note what was just written."""
        before, document = write.expected.revision, write.document
        touched = self._touched.get(subject)
        if touched is None:
            self._touched[subject] = _Touched(before, before, document)
            return
        if not touched.is_sure or touched.document.revision != before:
            touched.own_since = before  # what was undone is free for others to write in between
        touched.document, touched.is_sure = document, True

    def rollback_savepoint(self, _connection: Connection, _name: str | None, _context: Any) -> None:
        """Something is undone; what, is looked up at the commit."""
        for touched in self._touched.values():
            touched.is_sure = False

    def rollback(self, _connection: Connection) -> None:
        """All is undone."""
        self._touched = {}

    def begin(self, _connection: Connection) -> None:
        """Another transaction begins: the one before is over."""
        self._touched = {}
        self.end()

    def commit(self, connection: Connection) -> None:
        """A commit is about to begin."""
        root, touched = connection.get_transaction(), self._touched
        self._touched = {}
        if not touched or root is None:
            return
        left: list[Committed] = []
        doubtful: list[Subject] = []
        for subject, known in touched.items():
            try:
                one = self._left(connection, subject, known)
            except SQLAlchemyError as error:  # the commit is not ours to prevent
                logger.debug("what is about to be committed is not known: %s", type(error).__name__)
                doubtful = list(touched)
                left = []
                break
            if one is not None:
                left.append(one)
        if left or doubtful:
            self._committing = Committing(left, doubtful, lambda: not root.is_active)
            self.telling = self._tell(self._committing)

    def _left(self, connection: Connection, subject: Subject, known: _Touched) -> Committed | None:
        """Return what is about to be committed of a subject, if anything is left of what was written.

        Looked up, because savepoints undo things, some by statements of the host's of which SQLAlchemy tells nothing.
        """
        log = drive(connection, self._operations.changes(subject, known.since, _MOST_CHANGES))
        if log.newest <= known.since:
            return None
        document = known.document
        if not known.is_sure or document.revision != log.newest:
            document = drive(connection, self._operations.load(subject))
        changes = () if log.has_more else log.changes
        own = tuple(change for change in changes if change.revision > known.own_since)
        if not own or (late := self._now() - own[-1].at) <= _YOUNG:
            return Committed(subject, document, changes)
        before = Committed(subject, document, own)
        after = moved(before, late)
        drive(connection, self._operations.move(before, after))
        return Committed(subject, after.document, (*changes[: -len(own)], *after.changes))

    def fail(self, connection: Connection) -> None:
        """Something went wrong on the connection: if that was the commit, nobody knows what became of it."""
        committing = self._committing
        if committing is not None and connection is self.connection() and not committing.is_over():
            committing.fail()

    def end(self) -> concurrent.futures.Future[None] | None:
        """Tell that the last commit is over, and return what ends when everybody else has been told."""
        committing, self._committing = self._committing, None
        if committing is None:
            return None
        committing.end()
        return self.telling
