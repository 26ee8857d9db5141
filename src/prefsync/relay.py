"""The relay: makes good what a process did not tell, because it died or was cut off after its commit.

The change log is the outbox (design: transactional outbox). The relay looks through what was logged lately and, where
the cache has an older state, does what the writer would have done. Repeating is harmless: versions guard the cache, and
revisions the sessions.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import anyio

from prefsync.document import Subject
from prefsync.errors import UnavailableError
from prefsync.ports import Announcement, CacheEntry
from prefsync.telemetry import OFF

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefsync.caching import CachedDocuments
    from prefsync.clock import Clock
    from prefsync.ports import ChangeNotifier, LoggedRevision, PreferenceCache, PreferenceRepository
    from prefsync.resilience import Guard
    from prefsync.telemetry import Telemetry

__all__ = ["Relay"]

logger = logging.getLogger("prefsync")

# Seconds between two looks at the log; all processes together look about this often.
_PAUSE: Final = 1.0

# ms that a look goes back behind the last one's end: transactions commit in another order than their changes' times
# say, and the clocks of processes differ.
_OVERLAP: Final = 5_000

# ms that the first look of all goes back.
_FIRST_LOOK: Final = 60_000

_PAGE: Final = 500

# ms after which a change is looked at once more. A reader that was overtaken by the write may put back what it read,
# where the cache has lost the newer entry meanwhile, and with it the guard. Its query began before the commit, which
# the change's time is up to 5 s before; query and put take up to 7 s more.
_SETTLED: Final = 12_000

# Nobody's: its entry in the cache tells up to when the log had been relayed when the cache was as it is. A restart from
# an old snapshot, or a failover to a replica that was behind, takes that back together with the documents.
_MARK: Final = Subject("prefsync: relayed until", "prefsync: 4b6f2a0e9d1c")


class Relay:
    """Repeats what was not told.

    Args:
        repository: Whose log it looks through.
        cache: What tells whether a change was told.
        documents: Where the state comes from.
        notifier: Who tells it.
        guard: Bounds the calls to the repository.
        clock: For the age of changes.
        shared: Whether the cache is shared by all processes, so that one of them at a time does the work for all;
            else each process looks after its own.
        untold: Whose changes this process could not tell of. The cache does not show it: a server that was frozen
            may have kept what it was sent, and the announcement that was to follow was never sent.
        telemetry: Is told of what had to be repeated.

    Attributes:
        looked_at: When it last had looked, or found that another process does, by the clock's monotonic time.
    """

    def __init__(
        self,
        repository: PreferenceRepository,
        cache: PreferenceCache,
        documents: CachedDocuments,
        notifier: ChangeNotifier,
        guard: Guard,
        clock: Clock,
        *,
        shared: bool,
        untold: set[Subject] | None = None,
        telemetry: Telemetry = OFF,
    ) -> None:
        self._repository = repository
        self._cache = cache
        self._documents = documents
        self._notifier = notifier
        self._guard = guard
        self._clock = clock
        self._shared = shared
        self._untold = set() if untold is None else untold
        self._telemetry = telemetry
        self._relayed_until = 0
        self._seen: dict[Subject, int] = {}
        self._unpublished: set[Subject] = set()
        self.looked_at: float | None = None

    async def run(self) -> None:
        """Look through the log again and again, until cancelled."""
        while True:
            try:
                await self.tell_own()
                await self.look()
                self.looked_at = self._clock.monotonic()
            except UnavailableError as error:
                logger.debug("the log could not be relayed: %s", error)
            await anyio.sleep(_PAUSE)

    async def tell_own(self) -> None:
        """Tell of what this process itself could not tell of when it was written.

        Raises:
            UnavailableError: It still cannot; what is left is told by a later call.
        """
        for subject in list(self._untold):
            document = await self._documents.load(subject)
            await self._documents.put(subject, document)
            await self._notifier.publish(Announcement(subject, None, document.version))
            self._untold.discard(subject)
            self._telemetry.repeated()

    async def look(self) -> int:
        """Look through what was logged since the last look, and return how many subjects had to be told of.

        Raises:
            UnavailableError: The database or the cache is out of reach; the next look begins where this one did.
        """
        now = self._clock.now()
        relayed_until = self._relayed_until
        if self._shared:
            turn = await self._guard(self._repository.take_relay_turn(now, int(_PAUSE * 900)))
            if turn is None:
                return 0
            relayed_until = turn
        since = min(now, relayed_until or now - _FIRST_LOOK)
        told = await self._look_from(since - _OVERLAP)
        if self._shared:
            told += await self._look_again(since, now)
        self._relayed_until = now
        if self._shared:
            await self._cache.put(_MARK, CacheEntry(now, b""))
            await self._guard(self._repository.end_relay_turn(now))
        return told

    async def _look_again(self, since: int, now: int) -> int:
        """Replace what is old in a cache that may have lost what it had; what is missing hides nothing.

        Args:
            since: When the look before this one was.
            now: When this one is.
        """
        told, at, until = 0, since - _SETTLED, now - _SETTLED
        (mark,) = await self._cache.versions([_MARK])
        if mark is not None and mark < since:
            logger.warning("the cache went back in time; it is brought up to date")
            at, until = min(at, mark - _OVERLAP), now
        while True:
            page = await self._guard(self._repository.logged_since(at, _PAGE))
            settled = [logged for logged in page if logged.at <= until]
            for logged in await self._old_among(settled):
                await self._tell(logged.subject, logged.revision)
                told += 1
            if len(settled) < _PAGE or len(settled) < len(page):
                return told
            at = page[-1].at + 1

    async def _old_among(self, page: Sequence[LoggedRevision]) -> list[LoggedRevision]:
        versions = await self._cache.versions([logged.subject for logged in page]) if page else []
        return [
            logged
            for logged, version in zip(page, versions, strict=True)
            if version is not None and version < logged.revision
        ]

    async def _look_from(self, at: int) -> int:
        told = 0
        seen: dict[Subject, int] = {}
        while True:
            page = await self._guard(self._repository.logged_since(at, _PAGE))
            newest = {logged.subject: logged.revision for logged in page}
            new = {
                subject: revision
                for subject, revision in newest.items()
                if self._seen.get(subject, 0) < revision
            }
            told += await self._tell_untold(new)
            seen |= newest
            if len(page) < _PAGE:
                self._seen = seen
                return told
            at = page[-1].at + 1

    async def _tell_untold(self, newest: dict[Subject, int]) -> int:
        subjects = list(newest)
        versions = await self._cache.versions(subjects) if subjects else []
        told = 0
        for subject, version in zip(subjects, versions, strict=True):
            # What was put and then could not be published is in the cache, and still untold.
            if version is not None and version >= newest[subject] and subject not in self._unpublished:
                continue
            # An entry that is missing may be all that is missing. In this process's own cache it hides nothing old,
            # and most subjects never come here; in the shared one it may be the write-through that was lost.
            await self._tell(subject, newest[subject], put=version is not None or self._shared)
            told += 1
        if told:
            logger.debug("told of %d changes that their writers had not told of", told)
        return told

    async def _tell(self, subject: Subject, revision: int, *, put: bool = True) -> None:
        if put:
            await self._documents.put(subject, await self._documents.load(subject))
            self._telemetry.repaired()
        self._unpublished.add(subject)
        await self._notifier.publish(Announcement(subject, None, revision))
        self._unpublished.discard(subject)
        self._telemetry.repeated()
