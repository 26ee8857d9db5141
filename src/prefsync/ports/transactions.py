"""What the core asks of a repository that can write inside the host's own transaction."""

from __future__ import annotations

import threading
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from prefsync.ports.repository import PreferenceRepository

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prefsync.document import Change, Document, Subject
    from prefsync.ports.repository import Outcome, Write

__all__ = ["Committed", "Committing", "HostTransaction", "JoiningRepository"]


@dataclass(frozen=True, slots=True)
class Committed:
    """What a transaction of the host's leaves of one subject.

    Attributes:
        subject: Whose preferences.
        document: As they are after it.
        changes: What was logged, oldest first.
    """

    subject: Subject
    document: Document
    changes: tuple[Change, ...]


class Committing:
    """A transaction of the host's that is being committed, in whatever thread that is.

    Args:
        written: What it leaves, as far as that is known.
        doubtful: Subjects of which only the database can say what it leaves.
        is_over: Tells whether it has ended, well or not.
    """

    def __init__(
        self, written: Sequence[Committed], doubtful: Sequence[Subject], is_over: Callable[[], bool]
    ) -> None:
        self._lock = threading.Lock()
        self._written = tuple(written)
        self._doubtful = tuple(doubtful)
        self._wake: Callable[[], object] | None = None
        self.is_over = is_over

    def fail(self) -> None:
        """Note that the commit raised an error, after which it may have happened all the same."""
        with self._lock:
            self._doubtful = (*self._doubtful, *(one.subject for one in self._written))
            self._written = ()

    def outcome(self) -> tuple[Sequence[Committed], Sequence[Subject]]:
        """Return, once it is over, what it left, and the subjects of which that is not known."""
        with self._lock:
            return self._written, self._doubtful

    def wake_by(self, wake: Callable[[], object]) -> None:
        """Have something called when :meth:`end` is."""
        with self._lock:
            self._wake = wake

    def end(self) -> None:
        """Tell whoever waits that it is over."""
        with self._lock:
            if self._wake is not None:
                self._wake()


class HostTransaction(Protocol):
    """A session or connection of the host's, in whose transaction preferences are read and written."""

    @abstractmethod
    async def load(self, subject: Subject, *, newest: bool = False) -> Document:
        """Return what is stored, as the transaction sees it: with its own writes, before they are committed.

        Args:
            subject: Whose.
            newest: Whether to pass over the transaction's own idea of the present, to write upon what is stored now.

        Raises:
            ConfigurationError: There is no transaction that this could be a part of, or it is in another database.
            TransactionConflictError: The database ended the transaction because of another one.
            UnavailableError: The database refuses, or the connection is lost.
        """

    @abstractmethod
    async def write(self, subject: Subject, write: Write) -> Outcome:
        """Store document and change if ``write.expected`` is still stored; durable when the host commits.

        Raises:
            ConfigurationError: As above.
            TransactionConflictError: As above.
            UnavailableError: As above.
        """

    @abstractmethod
    async def told(self) -> None:
        """Wait, for a bounded time, until everybody has been told of what was committed of it."""


class JoiningRepository(PreferenceRepository, Protocol):
    """A repository that can also write inside the host's own transaction, in the same database."""

    @abstractmethod
    def joiner(
        self, identity: str, now: Callable[[], int], tell: Callable[[Committing], Any]
    ) -> Callable[[Any], HostTransaction]:
        """Return what makes a transaction of a session or connection of the host's; that asks the database nothing yet.

        It raises ``ConfigurationError`` for anything else.

        Args:
            identity: Of this repository, for the other one to be compared with.
            now: The time, in ms since 1970. What is committed long after it was written is moved, in the log, to the
                time of the commit, and so are its revisions: the relay looks for it there.
            tell: Called when a commit begins, in the thread that commits, and returns a future
                (``concurrent.futures``) that ends once everybody has been told; ``None`` where nobody will be.
        """
