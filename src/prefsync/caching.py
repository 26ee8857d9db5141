"""Reading through the cache, and keeping it right.

Three things make a cached answer as good as the database's (protocol.md section 4). Entries are guarded by version, so
a slow reader cannot put back what a writer just replaced. Writers write through before they acknowledge. And where the
cache says nothing, concurrent readers of one subject share one query, but never one that left before they came.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

import anyio
import anyio.lowlevel

from prefsync.document import Document, footprint
from prefsync.errors import UnavailableError
from prefsync.ports import CacheEntry
from prefsync.recent import Recent
from prefsync.telemetry import OFF

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from prefsync.document import Subject
    from prefsync.near import NearCache, Place
    from prefsync.ports import PreferenceCache, PreferenceRepository
    from prefsync.resilience import Guard
    from prefsync.telemetry import Telemetry

__all__ = ["CachedDocuments", "Found", "Lookup"]

logger = logging.getLogger("prefsync")

# What may be kept of documents, decoded, in each process.
_REMEMBERED_BYTES: Final = 32 * 1024 * 1024

# Seconds after which what was read is not put into the cache any more. The guard there is as old as the newest entry, and
# a process that was frozen in between may come after its end.
_LATEST_PUT: Final = 6.0


class Found(NamedTuple):
    """A document as it was found.

    Attributes:
        document: What is stored.
        stale: The database is known to be out of reach, so this may be older than what it holds.
    """

    document: Document
    stale: bool = False


@dataclass(slots=True)
class Lookup:
    """A question to the cache that may be on its way.

    Attributes:
        reply: What it has.
        place: Where the near cache keeps the document once it is known, if there is one.
    """

    reply: Awaitable[CacheEntry | None]
    place: Place | None

    def close(self) -> None:
        """Be done with it, where the reply was not awaited; does nothing where it was."""
        close = getattr(self.reply, "close", None)
        if close is not None:
            close()


@dataclass(slots=True)
class _Flight:
    """One query for a subject that several readers wait for."""

    departed: bool = False
    landed: anyio.Event = field(default_factory=anyio.Event)
    document: Document | None = None
    error: UnavailableError | None = None


class CachedDocuments:
    """Documents by subject: from the cache where it has them, else from the database and into the cache.

    Args:
        repository: The truth.
        cache: What repeats it.
        guard: Bounds the calls to the repository.
        near: A cache of this process's own in front of it, if the host wants one.
        telemetry: Is told of hits and misses.

    Attributes:
        untold: Whose changes this process stored and could not tell the cache or the other processes of.
        on_forgotten: Called with each subject of which nothing may be kept in memory any more.
    """

    def __init__(
        self,
        repository: PreferenceRepository,
        cache: PreferenceCache,
        guard: Guard,
        near: NearCache | None = None,
        telemetry: Telemetry = OFF,
    ) -> None:
        self._repository = repository
        self._cache = cache
        self._guard = guard
        self._near = near
        self._telemetry = telemetry
        self.untold: set[Subject] = set()
        self.on_forgotten: list[Callable[[Subject], None]] = []
        self._flights: dict[str, _Flight] = {}
        self._remembered: Recent[Document] = Recent(_REMEMBERED_BYTES)

    @property
    def is_near(self) -> bool:
        """Whether there is a near cache."""
        return self._near is not None

    def near(self, subject: Subject) -> Found | None:
        """Return what the near cache has, without asking anybody."""
        if self._near is None or (document := self._near.get(subject.key)) is None:
            return None
        return Found(document, stale=self._guard.breaker.is_failing)

    def at_hand(self, subject: Subject) -> Document | None:
        """Return what the near cache has, unless it would have to be marked as stale."""
        if self._near is None or self._guard.breaker.is_failing:
            return None
        return self._near.get(subject.key)

    def lookup(self, subject: Subject) -> Lookup:
        """Ask the cache; adapters that can have sent the question when this returns."""
        place = self.place(subject)
        return Lookup(self._cache.get(subject), place)

    def place(self, subject: Subject) -> Place | None:
        """Return where the near cache keeps what is read or written after this, if there is one."""
        return None if self._near is None else self._near.place(subject.key)

    async def find(self, subject: Subject, *, at_least: int = 0, lookup: Lookup | None = None) -> Found:
        """Return a subject's document, not older than any write acknowledged before the call.

        With a near cache, it may be older by the time that an announcement takes, unless ``at_least`` is given.

        Args:
            subject: Whose.
            at_least: Pass over a cached entry with a lower revision.
            lookup: What :meth:`lookup` returned, where the caller started it early.

        Raises:
            UnavailableError: Neither the cache nor the database can answer.
        """
        if lookup is None:
            if not at_least and (found := self.near(subject)) is not None:
                self._telemetry.cache_read("near")
                return found
            lookup = self.lookup(subject)
        document = await self._cached(subject, lookup.reply)
        self._telemetry.cache_read("miss" if document is None else "hit")
        is_cached = document is not None and document.revision >= at_least
        if document is None or not is_cached:
            document = await self._query(subject, at_least)
        self._keep_near(subject, lookup.place, document)
        return Found(document, stale=is_cached and self._guard.breaker.is_failing)

    async def load(self, subject: Subject) -> Document:
        """Return a subject's document from the database, whatever the cache has."""
        document = await self._guard(self._repository.load(subject))
        if not self._was_erased(subject, document):
            self._remember(subject, document, len(document.encode()))
        return document

    def recall(self, subject: Subject) -> Document | None:
        """Return the document as this process saw it last. It may be old: good for a compare-and-set, no more."""
        return self._remembered.get(subject.key)

    def note(self, subject: Subject, document: Document, place: Place | None = None) -> None:
        """Remember a document that this process just stored.

        Args:
            subject: Whose it is.
            document: What was stored.
            place: Taken before it was.
        """
        self._keep_near(subject, place, document)
        held = self._remembered.get(subject.key)
        if held is document:
            return
        if held is None or held.version <= document.version:
            self._remember(subject, document, len(document.values_json))

    def forget(self, subject: Subject, version: int) -> None:
        """Keep nothing of an erased subject in memory, nor what somebody is still reading who began before that.

        Args:
            subject: Whose.
            version: Of the empty document that the erase left.
        """
        if self._near is not None:
            self._near.hear(subject.key, version)
        held = self._remembered.get(subject.key)
        if held is None or held.version <= version:
            self._remember(subject, Document(floor=version), 0)
        for forget in self.on_forgotten:
            forget(subject)

    def is_outdated(self, subject: Subject, document: Document) -> bool:
        """Tell whether this process has seen a newer state, an erase for one."""
        held = self._remembered.get(subject.key)
        return held is not None and held.version > document.version

    def put(self, subject: Subject, document: Document) -> Awaitable[None]:
        """Write a document through to the cache; the work may start with the call.

        Raises:
            UnavailableError: When awaited, where the cache is out of reach.
        """
        if self._near is not None:
            self._near.hear(subject.key, document.version)
        self.note(subject, document)
        return self._cache.put(subject, CacheEntry(document.version, document.encode()))

    def _keep_near(self, subject: Subject, place: Place | None, document: Document) -> None:
        if self._near is not None and place is not None:
            self._near.keep(subject.key, place, document)

    def _was_erased(self, subject: Subject, document: Document) -> bool:
        """Tell whether a document was read before an erase. Any other older one is a restored backup's."""
        held = self._remembered.get(subject.key)
        return held is not None and not held.revision and held.version > document.version

    def _remember(self, subject: Subject, document: Document, length: int) -> None:
        self._remembered.put(subject.key, document, footprint(length))

    async def _cached(self, subject: Subject, lookup: Awaitable[CacheEntry | None]) -> Document | None:
        """Return what the cache has; whatever is wrong with it is a miss, never the reader's error."""
        try:
            entry = await lookup
        except UnavailableError:
            return None
        if entry is None:
            return None
        held = self._remembered.get(subject.key)
        if held is not None and held.version == entry.version:
            return held
        try:
            document = Document.decode(entry.payload)
        except ValueError:
            logger.warning("a cached document cannot be read; the database is asked")
            return None
        if held is not None and held.version > document.version:
            # Of a write that is on its way, the cache may know a moment later than this process. Of one that it was
            # away for it never heard, and of an erased user nothing older may be shown.
            return None if subject in self.untold or not held.revision else document
        self._remember(subject, document, len(entry.payload))
        return document

    async def _query(self, subject: Subject, at_least: int) -> Document:
        while True:
            flight = self._flights.get(subject.key)
            if flight is None:
                return await self._fly(subject)
            joined = not flight.departed
            await flight.landed.wait()
            if joined and flight.error is not None:
                raise UnavailableError(flight.error.part) from flight.error
            if joined and flight.document is not None:
                return flight.document
            # The query had left before this reader came, so its result may be older than a write that this reader has
            # to see. What it put into the cache went through the guard there, and is as good as any cached entry.
            document = await self._cached(subject, self._cache.get(subject))
            if document is not None and document.revision >= at_least:
                return document

    async def _fly(self, subject: Subject) -> Document:
        flight = self._flights[subject.key] = _Flight()
        try:
            await (
                anyio.lowlevel.checkpoint()
            )  # whoever misses in the same round of the event loop gets on board
            flight.departed = True
            departed_at = time.monotonic()
            with self._telemetry.span("load"):
                document = await self._guard(self._repository.load(subject))
            flight.document = document
            entry = CacheEntry(document.version, document.encode())
            if not self._was_erased(subject, document):
                self._remember(subject, document, len(entry.payload))
            try:
                if time.monotonic() - departed_at < _LATEST_PUT:
                    await self._cache.put(subject, entry)
            except UnavailableError:
                logger.debug("a document could not be put into the cache")
        except UnavailableError as error:
            flight.error = error
            raise
        finally:
            del self._flights[subject.key]
            flight.landed.set()
        return document
