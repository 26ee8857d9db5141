"""What the core asks of a cache."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from prefsync.ports.part import Part

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from prefsync.document import Subject

__all__ = ["CacheEntry", "PreferenceCache"]


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
