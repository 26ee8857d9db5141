"""What the core asks of storage."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, Protocol

from prefsync.ports.part import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefsync.document import Change, Document, Subject

__all__ = [
    "CLOCKS_DIFFER",
    "ChangeLog",
    "Kept",
    "LoggedRevision",
    "Outcome",
    "PreferenceRepository",
    "RequestRecord",
    "Trimmed",
    "Write",
]


CLOCKS_DIFFER: Final = 60_000
"""ms by which the clocks of processes that share a database may differ without any of them being wrong."""


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """A write that was made under an idempotency key.

    Attributes:
        key: As the client chose it.
        digest: Of the request; the same key with another digest is another request.
        answer: What to answer again, opaque to the repository.
        at: When, in ms since 1970.
    """

    key: str
    digest: bytes
    answer: bytes
    at: int


@dataclass(frozen=True, slots=True)
class Write:
    """A compare-and-set of one subject's document.

    Attributes:
        expected: The document that the write was made upon.
        document: The one to store. The same object as ``expected`` where nothing changes and only a key is claimed.
        change: What to log; ``None`` just where nothing changes.
        request: The idempotency key to claim with it.
        earlier: Changes to log before ``change``, oldest first, where several writes are stored as one. Only upon a
            document that is not empty.
    """

    expected: Document
    document: Document
    change: Change | None = None
    request: RequestRecord | None = None
    earlier: tuple[Change, ...] = ()

    @property
    def changes(self) -> tuple[Change, ...]:
        """All that is to be logged, oldest first."""
        return self.earlier if self.change is None else (*self.earlier, self.change)


class Outcome(Enum):
    """How a compare-and-set ended; anything but ``WRITTEN`` left everything as it was."""

    WRITTEN = auto()
    CONFLICT = auto()
    """The stored revision is not the expected one."""
    KEY_CLAIMED = auto()
    """The idempotency key was claimed before. May be told instead of ``CONFLICT`` where both are true."""


@dataclass(frozen=True, slots=True)
class ChangeLog:
    """A part of a subject's change log.

    Attributes:
        newest: The subject's revision, read together with the changes.
        changes: Those after the revision asked for, oldest first, each one's ``previous`` the revision before it.
        complete: Whether the revision asked for is in the log: it is the newest, or some change follows it directly.
            Otherwise ``changes`` is empty.
        has_more: Whether changes were left out because of the limit.
    """

    newest: int
    changes: tuple[Change, ...] = ()
    complete: bool = True
    has_more: bool = False


@dataclass(frozen=True, slots=True)
class LoggedRevision:
    """That a subject was changed, as the relay needs to know it.

    Attributes:
        subject: Whose preferences.
        revision: Of the change.
        at: When, in ms since 1970, by the clock of the process that wrote it.
    """

    subject: Subject
    revision: int
    at: int


@dataclass(frozen=True, slots=True)
class Kept:
    """All that is kept of one subject.

    Attributes:
        document: What is stored; empty where nothing is.
        changes: Its log, oldest first.
        requests: Claimed keys, oldest first.
        created_at: When the document was first stored, in ms since 1970, where that is kept.
        updated_at: When it was last.
    """

    document: Document
    changes: tuple[Change, ...] = ()
    requests: tuple[RequestRecord, ...] = ()
    created_at: int | None = None
    updated_at: int | None = None


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What one call to :meth:`PreferenceRepository.trim` did.

    Attributes:
        removed: How many changes and claimed keys.
        cursor: Where the next call goes on. Means something to the repository only.
        has_more: Whether there may be more to remove from there on, now.
    """

    removed: int
    cursor: str
    has_more: bool


class PreferenceRepository(Part, Protocol):
    """Documents, their change log and the claimed idempotency keys: the truth that everything else repeats."""

    @abstractmethod
    async def identity(self) -> str:
        """Return a name that this database has and no other: whatever repeats its documents is kept under it."""

    @abstractmethod
    async def load(self, subject: Subject) -> Document:
        """Return what is stored, as of one moment not before the call; an empty document where there is nothing.

        After an erase the empty document's ``floor`` is at least the highest revision that the subject ever had.
        """

    @abstractmethod
    async def write(self, subject: Subject, write: Write) -> Outcome:
        """Store document, change and claimed key together, or none of them, if ``write.expected`` is still stored.

        ``WRITTEN`` is told only when it is durable. Of concurrent writes upon one document at most one is
        written. Where
        ``write.expected`` is empty, nothing is stored and the new revision lies at or below the repository's floor (a
        subject was erased meanwhile), the outcome is ``CONFLICT``.
        """

    @abstractmethod
    async def changes(self, subject: Subject, since: int, limit: int) -> ChangeLog:
        """Return at most ``limit`` changes after a revision, and the newest revision, as of one moment."""

    @abstractmethod
    async def revisions(self, subjects: Sequence[Subject]) -> Sequence[int]:
        """Return the revision of each subject, 0 where nothing is stored; one statement for all of them."""

    @abstractmethod
    async def request(self, subject: Subject, key: str) -> RequestRecord | None:
        """Return what was recorded under an idempotency key, if anything."""

    @abstractmethod
    async def kept(self, subject: Subject) -> Kept:
        """Return all that :meth:`erase` would remove."""

    @abstractmethod
    async def erase(self, subject: Subject) -> int:
        """Remove all that is kept of a subject and return the floor: no revision up to it is ever given out again."""

    @abstractmethod
    async def trim(
        self, *, changes_before: int, requests_before: int, limit: int, cursor: str = ""
    ) -> Trimmed:
        """Remove a batch of old changes and claimed keys.

        A change's age is that of its revision, which goes up whatever the clock does: what is left of a subject's
        log has no hole. Each subject's newest change stays, however old it is.

        No single call holds the database for long: it looks at about ``limit`` changes and as many keys, whatever
        there is besides, and most of them may have to stay. A caller calls again from the cursor that is returned for
        as long as there is more, and later goes on from there with what has become old meanwhile. Several may do so
        at the same time. What had to stay is looked at again only by a caller who begins anew.

        Args:
            changes_before: Changes of this time (ms since 1970) and later are young.
            requests_before: The same of claimed keys.
            limit: The size of a batch.
            cursor: As an earlier call returned it, or empty to begin.
        """

    @abstractmethod
    async def trim_subject(self, subject: Subject, keep: int) -> int:
        """Remove all but a subject's newest ``keep`` changes (at least one) and return how many were removed."""

    @abstractmethod
    async def logged_since(self, at: int, limit: int) -> Sequence[LoggedRevision]:
        """Return the newest change of each subject of which any was logged at a time (ms since 1970) or after it.

        The oldest ``limit`` of them, in order of their time; those of one ms are never parted, so there may be more.
        """

    @abstractmethod
    async def take_relay_turn(self, now: int, pause: int) -> int | None:
        """Take the turn to relay, if nobody has for ``pause`` ms; of callers at the same time one gets it.

        A turn that was taken more than ``CLOCKS_DIFFER`` later than now was taken before somebody set the clock
        back, and is free.

        Returns:
            Up to when (ms since 1970) the log has been relayed, 0 where it never was; ``None`` if it is not the turn.
        """

    @abstractmethod
    async def end_relay_turn(self, relayed_until: int) -> None:
        """Remember up to when the log has been relayed; an earlier time than remembered changes nothing."""

    @abstractmethod
    async def ping(self) -> None:
        """Return when the database answers."""
