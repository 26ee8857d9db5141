"""Reading through the cache, and keeping it right.

Three things make a cached answer as good as the database's (protocol.md section 4). Entries are guarded by version, so
a slow reader cannot put back what a writer just replaced. Writers write through before they acknowledge. And where the
cache says nothing, concurrent readers of one subject share one query, but never one that left before they came.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import anyio
import anyio.lowlevel

from prefsync.document import Document
from prefsync.errors import UnavailableError
from prefsync.ports import CacheEntry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Hashable

    from prefsync.document import Subject
    from prefsync.ports import PreferenceCache, PreferenceRepository
    from prefsync.resilience import Guard

__all__ = ["CachedDocuments", "Found", "Recent"]

logger = logging.getLogger("prefsync")

# Documents are remembered decoded, for about five times their encoded size in memory.
_REMEMBERED_BYTES: Final = 8 * 1024 * 1024

V = TypeVar("V")


class Recent(Generic[V]):
    """What was used last, within a bound in bytes.

    Args:
        bound: Bytes, by the sizes that callers state.
    """

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._held = 0
        self._values: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()

    def get(self, key: Hashable) -> V | None:
        """Return a value that was kept and not dropped since."""
        held = self._values.get(key)
        if held is None:
            return None
        self._values.move_to_end(key)
        return held[0]

    def put(self, key: Hashable, value: V, size: int) -> None:
        """Keep a value, and drop the longest unused ones beyond the bound."""
        self.drop(key)
        self._values[key] = (value, size)
        self._held += size
        while self._held > self._bound and self._values:
            _, (_, dropped) = self._values.popitem(last=False)
            self._held -= dropped

    def drop(self, key: Hashable) -> None:
        """Forget a value."""
        held = self._values.pop(key, None)
        if held is not None:
            self._held -= held[1]

    def __len__(self) -> int:
        """Count the values."""
        return len(self._values)


@dataclass(frozen=True, slots=True)
class Found:
    """A document as it was found.

    Attributes:
        document: What is stored.
        stale: The database is known to be out of reach, so this may be older than what it holds.
    """

    document: Document
    stale: bool = False


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
    """

    def __init__(self, repository: PreferenceRepository, cache: PreferenceCache, guard: Guard) -> None:
        self._repository = repository
        self._cache = cache
        self._guard = guard
        self._flights: dict[Subject, _Flight] = {}
        self._remembered: Recent[Document] = Recent(_REMEMBERED_BYTES)

    def lookup(self, subject: Subject) -> Awaitable[CacheEntry | None]:
        """Ask the cache; adapters that can have sent the question when this returns."""
        return self._cache.get(subject)

    async def find(
        self, subject: Subject, *, at_least: int = 0, lookup: Awaitable[CacheEntry | None] | None = None
    ) -> Found:
        """Return a subject's document, not older than any write acknowledged before the call.

        Args:
            subject: Whose.
            at_least: Pass over a cached entry with a lower revision.
            lookup: What :meth:`lookup` returned, where the caller started it early.

        Raises:
            UnavailableError: Neither the cache nor the database can answer.
        """
        document = await self._cached(subject, lookup if lookup is not None else self.lookup(subject))
        if document is None or document.revision < at_least:
            return Found(await self._query(subject, at_least))
        return Found(document, stale=self._guard.breaker.is_failing)

    async def load(self, subject: Subject) -> Document:
        """Return a subject's document from the database, whatever the cache has."""
        document = await self._guard(self._repository.load(subject))
        self._remember(subject, document, len(document.encode()))
        return document

    def recall(self, subject: Subject) -> Document | None:
        """Return the document as this process saw it last. It may be old: good for a compare-and-set, no more."""
        return self._remembered.get(subject)

    def note(self, subject: Subject, document: Document) -> None:
        """Remember a document that this process just stored."""
        held = self._remembered.get(subject)
        if held is None or held.version <= document.version:
            self._remember(subject, document, len(document.values_json))

    def put(self, subject: Subject, document: Document) -> Awaitable[None]:
        """Write a document through to the cache; the work may start with the call.

        Raises:
            UnavailableError: When awaited, where the cache is out of reach.
        """
        self.note(subject, document)
        return self._cache.put(subject, CacheEntry(document.version, document.encode()))

    def _remember(self, subject: Subject, document: Document, size: int) -> None:
        self._remembered.put(subject, document, size)

    async def _cached(self, subject: Subject, lookup: Awaitable[CacheEntry | None]) -> Document | None:
        """Return what the cache has; whatever is wrong with it is a miss, never the reader's error."""
        try:
            entry = await lookup
        except UnavailableError:
            return None
        if entry is None:
            return None
        held = self._remembered.get(subject)
        if held is not None and held.version == entry.version:
            return held
        try:
            document = Document.decode(entry.payload)
        except ValueError:
            logger.warning("a cached document cannot be read; the database is asked")
            return None
        if held is None or held.version < document.version:
            self._remember(subject, document, len(entry.payload))
        return document

    async def _query(self, subject: Subject, at_least: int) -> Document:
        while True:
            flight = self._flights.get(subject)
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
            document = await self._cached(subject, self.lookup(subject))
            if document is not None and document.revision >= at_least:
                return document

    async def _fly(self, subject: Subject) -> Document:
        flight = self._flights[subject] = _Flight()
        try:
            await (
                anyio.lowlevel.checkpoint()
            )  # whoever misses in the same round of the event loop gets on board
            flight.departed = True
            document = await self._guard(self._repository.load(subject))
            flight.document = document
            entry = CacheEntry(document.version, document.encode())
            self._remember(subject, document, len(entry.payload))
            try:
                await self._cache.put(subject, entry)
            except UnavailableError:
                logger.debug("a document could not be put into the cache")
        except UnavailableError as error:
            flight.error = error
            raise
        finally:
            del self._flights[subject]
            flight.landed.set()
        return document
