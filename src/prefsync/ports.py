"""The ports: what the core asks of storage, cache, notifier, limiter and verifier. The architecture on one page.

Adapters of this package subclass these protocols; others just match them. Each port has a contract suite in
``prefsync.testing`` that an adapter runs to prove that it keeps what its port says.

Common to all: a method that cannot do its work because its part is out of reach raises
:class:`~prefsync.errors.UnavailableError` within a bounded time and leaves nothing half done. Adapters own what they
opened themselves and close it in ``__aexit__``; what was handed to them is the host's to close. Nothing is opened, and
nothing bound to an event loop, before ``__aenter__``.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from prefsync.document import Change, Document, Identity, Subject

__all__ = [
    "CLOCKS_DIFFER",
    "Announcement",
    "CacheEntry",
    "ChangeLog",
    "ChangeNotifier",
    "Gap",
    "LoggedRevision",
    "Lost",
    "Outcome",
    "Part",
    "Permit",
    "PreferenceCache",
    "PreferenceRepository",
    "Rate",
    "RateLimiter",
    "RequestRecord",
    "TicketStore",
    "TokenVerifier",
    "Write",
]


# ms by which the clocks of processes that share a database may differ without any of them being wrong.
CLOCKS_DIFFER: Final = 60_000


class Part(Protocol):
    """What every adapter is: something that is opened and closed once, and can be opened again after that."""

    @abstractmethod
    async def __aenter__(self) -> Self:
        """Open what the adapter needs. Raises ``ConfigurationError`` where it never can."""

    @abstractmethod
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close what the adapter opened."""


# --- Repository ------------------------------------------------------------------------------------------------------


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
    """

    expected: Document
    document: Document
    change: Change | None = None
    request: RequestRecord | None = None


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
    async def erase(self, subject: Subject) -> int:
        """Remove all that is kept of a subject and return the floor: no revision up to it is ever given out again."""

    @abstractmethod
    async def trim(self, *, changes_before: int, requests_before: int, limit: int) -> int:
        """Remove old changes and claimed keys, given as ms since 1970, and return how many were removed.

        A change's age is that of its revision, which goes up whatever the clock does: what is left of a subject's
        log has no hole. Each subject's newest change stays. At most about ``limit`` of each are removed at once: a
        caller calls again until 0 is returned, so that no single call holds the database for long.
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


# --- Cache -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """A document as a cache keeps it.

    Attributes:
        version: ``Document.version``; orders the states of a subject.
        payload: ``Document.encode()``, opaque to the cache.
    """

    version: int
    payload: bytes


class PreferenceCache(Part, Protocol):
    """Encoded documents by subject, guarded by version: an older one never replaces a newer one."""

    @abstractmethod
    def get(self, subject: Subject) -> Awaitable[CacheEntry | None]:
        """Return the entry, or ``None``. The work may start with the call, before the result is awaited."""

    @abstractmethod
    async def versions(self, subjects: Sequence[Subject]) -> Sequence[int | None]:
        """Return the version of each subject's entry, ``None`` where there is none."""

    @abstractmethod
    def put(self, subject: Subject, entry: CacheEntry) -> Awaitable[None]:
        """Keep an entry for the cache's time to live, unless one of the same or a newer version is there.

        Atomic over all processes that share the cache. The work may start with the call.
        """


# --- Notifier --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Announcement:
    """A change on its way to the processes that have sessions of its subject.

    Attributes:
        subject: Whose it is.
        change: What was written; ``None`` where only the fact is told, as of an erase: whoever cares looks it up.
        version: ``Document.version`` after it.
    """

    subject: Subject
    change: Change | None
    version: int


@dataclass(frozen=True, slots=True)
class Lost:
    """The link to the notifier, or a part of it, is known to be lost: announcements are missing until the next ``Gap``."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Announcements may be missing before this point, and from here on none are known to be."""


class ChangeNotifier(Part, Protocol):
    """Carries announcements between processes. It may lose, repeat and reorder them; the core makes that good."""

    @abstractmethod
    def publish(self, announcement: Announcement) -> Awaitable[None]:
        """Send an announcement to every subscription of every process, this one included.

        The work may start with the call. What one task publishes of a subject in order arrives in order, where it
        arrives.
        """

    @abstractmethod
    def subscribe(
        self, wanted: Callable[[str], bool] | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Announcement | Lost | Gap]]:
        """Receive what is published from the moment the context is entered.

        Args:
            wanted: Tells by ``Subject.key`` whether anybody waits for a subject; others' announcements may
                be left out, which saves reading them.

        Entering never raises, and takes a bounded time. The iterator outlives the notifier's outages: it yields
        ``Lost`` once as soon as one is noticed (first of all where the subscription could not be made), reconnects by
        itself, with growing pauses, and yields a ``Gap`` when it has. A subscription that is not read keeps a bounded
        part of what arrives, blocks nobody, and gets a ``Gap`` in place of the rest. It ends only when the context is
        left. A process holds one subscription.
        """


# --- Limiter, verifier and tickets --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rate:
    """How much may pass: no window of this length ever sees more.

    Attributes:
        limit: Requests.
        window: Seconds.
    """

    limit: int
    window: int


@dataclass(frozen=True, slots=True)
class Permit:
    """A limiter's answer.

    Attributes:
        allowed: Whether the request may pass; a refused one counts nothing.
        remaining: How many more could pass now.
        reset_after: Whole seconds, rounded up, until more can pass than now; the ``Retry-After`` of a refused one.
    """

    allowed: bool
    remaining: int
    reset_after: int


class RateLimiter(Part, Protocol):
    """Counts requests by key over all processes that share the limiter."""

    rate: Rate

    @abstractmethod
    async def acquire(self, key: str, cost: int = 1) -> Permit:
        """Count a request if it fits: exact under concurrency, at most ``rate.limit`` in any ``rate.window``.

        Never raises ``UnavailableError``: where the shared count is out of reach, it counts by process.
        """


class TicketStore(Part, Protocol):
    """Secrets that are good once, on whichever process they come back."""

    @abstractmethod
    async def put(self, name: str, content: bytes, life: int) -> None:
        """Keep something under a name that nobody has used, for so many seconds."""

    @abstractmethod
    async def take(self, name: str) -> bytes | None:
        """Return what is kept, and keep it no longer; of concurrent callers one gets it."""


class TokenVerifier(Part, Protocol):
    """Turns a bearer token into who calls."""

    @abstractmethod
    async def verify(self, token: str) -> Identity:
        """Return whom a token speaks for.

        Raises:
            UnauthenticatedError: Whatever is wrong with the token; verification never raises anything else for it.
            UnavailableError: The issuer has to be asked and cannot be.
        """
