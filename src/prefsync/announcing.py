"""What follows a write that is stored: the cache has it, the other processes hear of it, and its log stays short."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from prefsync.errors import UnavailableError
from prefsync.ports import Announcement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefsync.caching import CachedDocuments
    from prefsync.document import Change, Document, Subject
    from prefsync.ports import ChangeNotifier, PreferenceRepository
    from prefsync.resilience import Guard
    from prefsync.telemetry import Telemetry

__all__ = ["Announcer"]

logger = logging.getLogger("prefsync")

# Subjects of which this process remembers that it could not tell of a change; beyond them, sessions are reconciled.
_MOST_UNTOLD: Final = 10_000

# The change log of one subject is cut back to this many changes, looked at after every so many writes of
# this process.
_CHANGES_KEPT: Final = 1_000
_WRITES_BETWEEN_TRIMS: Final = 100


class Announcer:
    """Tells of what is stored. It stands whether that succeeds or not: what is not told now, the relay tells.

    Args:
        repository: Has the change logs.
        documents: The cache.
        notifier: Who tells the other processes.
        guard: Bounds the calls to the repository.
        telemetry: Is told of what is written.

    Attributes:
        untold: Whose changes this process stored and could not tell of; for the relay.
    """

    def __init__(
        self,
        repository: PreferenceRepository,
        documents: CachedDocuments,
        notifier: ChangeNotifier,
        guard: Guard,
        telemetry: Telemetry,
    ) -> None:
        self.untold = documents.untold
        self._repository = repository
        self._documents = documents
        self._notifier = notifier
        self._guard = guard
        self._telemetry = telemetry
        self._writes = 0

    async def announce(self, subject: Subject, document: Document, changes: Sequence[Change]) -> None:
        """Write through to the cache and tell the other processes, in one round trip where both are one server."""
        self._telemetry.written(len(changes))
        trace = self._telemetry.trace()
        told = [Announcement(subject, change, change.revision, trace) for change in changes]
        # The cache first: whoever hears of the change and reads finds it there.
        under_way = [
            self._documents.put(subject, document),
            *map(self._notifier.publish, told or [Announcement(subject, None, document.version)]),
        ]
        for step in under_way:
            try:
                await step
            except UnavailableError as error:
                logger.debug("a change was stored, but not told: %s", error)
                self.remember_untold(subject)
        if changes:
            await self._trim_now_and_then(subject, len(changes))

    async def announce_erased(self, subject: Subject, document: Document) -> None:
        """Have everybody forget a subject.

        Args:
            subject: Whose preferences were erased.
            document: What is left, which is empty.

        Raises:
            UnavailableError: The cache or the notifier is out of reach, and not all have forgotten.
        """
        self._documents.forget(subject, document.version)
        await self._documents.put(subject, document)
        try:
            await self._notifier.publish(Announcement(subject, None, document.version, erased=True))
        except UnavailableError:
            # No log has it. Should this process live on, sessions and near caches are at least told of the state.
            self.remember_untold(subject)
            raise

    def remember_untold(self, subject: Subject) -> None:
        """Have the relay tell of a subject's state, whatever that is."""
        if len(self.untold) < _MOST_UNTOLD:
            self.untold.add(subject)

    async def _trim_now_and_then(self, subject: Subject, changes: int) -> None:
        before, self._writes = self._writes, self._writes + changes
        if before // _WRITES_BETWEEN_TRIMS == self._writes // _WRITES_BETWEEN_TRIMS:
            return
        try:
            await self._guard(self._repository.trim_subject(subject, _CHANGES_KEPT))
        except UnavailableError:
            logger.debug("a change log could not be trimmed; a later write does it")
