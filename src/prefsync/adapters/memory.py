"""Adapters that keep everything in this process: good for one process, for tests and for demos."""

from __future__ import annotations

import math
import uuid
from collections import OrderedDict, deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final, Self

import anyio
import anyio.lowlevel

from prefsync.adapters.inbox import Inbox
from prefsync.clock import Clock, SystemClock
from prefsync.document import Document
from prefsync.ports import (
    CLOCKS_DIFFER,
    CacheEntry,
    ChangeLog,
    ChangeNotifier,
    Kept,
    LoggedRevision,
    Outcome,
    Permit,
    PreferenceCache,
    PreferenceRepository,
    ReadyRateLimiter,
    TicketStore,
    Trimmed,
)
from prefsync.recent import Recent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from prefsync.document import Change, Subject
    from prefsync.ports import Alive, Announcement, Gap, Lost, Rate, RequestRecord, Write

__all__ = ["MemoryCache", "MemoryNotifier", "MemoryRateLimiter", "MemoryRepository"]


# Bytes that count for an announcement that a subscription has not taken yet. Measuring each one would cost more than all
# else that is done with it; at this size some 10,000 may wait.
_ANNOUNCEMENT_SIZE: Final = 1_500

# What an entry of the cache takes in memory beside its document, its subject included; measured.
_ENTRY_BYTES: Final = 600


class _InMemory:
    """Nothing to open and nothing to close."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None


@dataclass(slots=True)
class _Row:
    document: Document = field(default_factory=Document)
    changes: list[Change] = field(default_factory=list)
    requests: dict[str, RequestRecord] = field(default_factory=dict)


class MemoryRepository(_InMemory, PreferenceRepository):
    """Documents in a dictionary; gone with the process."""

    def __init__(self) -> None:
        self._rows: dict[Subject, _Row] = {}
        self._floor = 0
        self._identity = uuid.uuid4().hex
        self._relay_turn = 0
        self._relayed_until = 0

    async def identity(self) -> str:
        return self._identity

    async def load(self, subject: Subject) -> Document:
        row = self._rows.get(subject)
        is_empty = row is None or row.document.revision == 0
        document = Document(floor=self._floor) if row is None or is_empty else row.document
        await anyio.lowlevel.checkpoint()
        return document

    async def write(self, subject: Subject, write: Write) -> Outcome:
        await anyio.lowlevel.checkpoint()
        row = self._rows.get(subject) or _Row()
        if write.request is not None and write.request.key in row.requests:
            return Outcome.KEY_CLAIMED
        if row.document.revision != write.expected.revision:
            return Outcome.CONFLICT
        if write.change is not None:
            if write.expected.revision == 0 and write.document.revision <= self._floor:
                return Outcome.CONFLICT
            row.document = write.document
            row.changes.extend(write.changes)
        if write.request is not None:
            row.requests[write.request.key] = write.request
        self._rows[subject] = row
        return Outcome.WRITTEN

    async def changes(self, subject: Subject, since: int, limit: int) -> ChangeLog:
        await anyio.lowlevel.checkpoint()
        row = self._rows.get(subject) or _Row()
        newest = row.document.revision
        later = [change for change in row.changes if change.revision > since]
        if since != newest and (not later or later[0].previous != since):
            return ChangeLog(newest, complete=False)
        return ChangeLog(newest, tuple(later[:limit]), has_more=len(later) > limit)

    async def revisions(self, subjects: Sequence[Subject]) -> Sequence[int]:
        await anyio.lowlevel.checkpoint()
        rows = [self._rows.get(subject) for subject in subjects]
        return [row.document.revision if row else 0 for row in rows]

    async def request(self, subject: Subject, key: str) -> RequestRecord | None:
        await anyio.lowlevel.checkpoint()
        row = self._rows.get(subject)
        return row.requests.get(key) if row else None

    async def kept(self, subject: Subject) -> Kept:
        await anyio.lowlevel.checkpoint()
        row = self._rows.get(subject) or _Row()
        return Kept(row.document, tuple(row.changes), tuple(row.requests.values()))

    async def erase(self, subject: Subject) -> int:
        await anyio.lowlevel.checkpoint()
        row = self._rows.pop(subject, None)
        if row is not None and row.document.revision:
            self._floor = max(self._floor, row.document.revision + 1)
        return self._floor

    async def trim(
        self, *, changes_before: int, requests_before: int, limit: int, cursor: str = ""
    ) -> Trimmed:
        await anyio.lowlevel.checkpoint()
        passed, removed = int(cursor or 0), 0
        for row in islice(self._rows.values(), passed, passed + limit):
            old = sum(change.revision < changes_before for change in row.changes[:-1])
            gone = [key for key, record in row.requests.items() if record.at < requests_before]
            left = limit - removed
            del row.changes[: min(old, left)]
            for key in gone[:left]:
                del row.requests[key]
            removed += min(old, left) + min(len(gone), left)
            if removed >= limit:
                return Trimmed(removed, str(passed), has_more=True)
            passed += 1
        # At the end the next call begins anew: those who came first are written to as well as those who came last.
        has_more = passed < len(self._rows)
        return Trimmed(removed, str(passed) if has_more else "", has_more=has_more)

    async def trim_subject(self, subject: Subject, keep: int) -> int:
        await anyio.lowlevel.checkpoint()
        row = self._rows.get(subject)
        surplus = max(0, len(row.changes) - max(1, keep)) if row else 0
        if row and surplus:
            del row.changes[:surplus]
        return surplus

    async def logged_since(self, at: int, limit: int) -> Sequence[LoggedRevision]:
        await anyio.lowlevel.checkpoint()
        found = [
            LoggedRevision(subject, row.changes[-1].revision, latest)
            for subject, row in self._rows.items()
            if row.changes and (latest := max(change.at for change in row.changes)) >= at
        ]
        found.sort(key=lambda logged: logged.at)
        last = found[limit - 1].at if len(found) > limit else None
        return found if last is None else [logged for logged in found if logged.at <= last]

    async def take_relay_turn(self, now: int, pause: int) -> int | None:
        await anyio.lowlevel.checkpoint()
        if now - pause < self._relay_turn <= now + CLOCKS_DIFFER:
            return None
        self._relay_turn = now
        return self._relayed_until

    async def end_relay_turn(self, relayed_until: int) -> None:
        await anyio.lowlevel.checkpoint()
        self._relayed_until = max(self._relayed_until, relayed_until)

    async def ping(self) -> None:
        await anyio.lowlevel.checkpoint()


class MemoryCache(_InMemory, PreferenceCache):
    """Encoded documents, those that were used not long ago, within a bound in bytes.

    Args:
        ttl: Seconds an entry lives.
        bound: Bytes.
        clock: For tests.
    """

    def __init__(self, ttl: float = 300, bound: int = 64 * 1024 * 1024, clock: Clock | None = None) -> None:
        self._ttl = ttl
        self._clock = clock or SystemClock()
        self._entries: Recent[tuple[CacheEntry, float]] = Recent(bound)

    async def get(self, subject: Subject) -> CacheEntry | None:
        return self._get(subject)

    async def versions(self, subjects: Sequence[Subject]) -> Sequence[int | None]:
        entries = [self._get(subject) for subject in subjects]
        return [entry.version if entry else None for entry in entries]

    async def put(self, subject: Subject, entry: CacheEntry) -> None:
        self.keep(subject, entry)

    def keep(self, subject: Subject, entry: CacheEntry) -> None:
        """Do what :meth:`put` does, without an event loop."""
        held = self._get(subject)
        if held is None or held.version < entry.version:
            expires = self._clock.monotonic() + self._ttl
            self._entries.put(subject, (entry, expires), _ENTRY_BYTES + len(entry.payload))

    def _get(self, subject: Subject) -> CacheEntry | None:
        held = self._entries.get(subject)
        if held is None:
            return None
        entry, expires = held
        if expires <= self._clock.monotonic():
            self._entries.drop(subject)
            return None
        return entry


class MemoryNotifier(_InMemory, ChangeNotifier):
    """Announcements within this process."""

    def __init__(self) -> None:
        self._subscriptions: set[Inbox] = set()

    async def publish(self, announcement: Announcement) -> None:
        await anyio.lowlevel.checkpoint()
        for inbox in self._subscriptions:
            inbox.put(announcement, _ANNOUNCEMENT_SIZE)

    @asynccontextmanager
    async def subscribe(
        self, wanted: Callable[[str], bool] | None = None, *, pulse: bool = False
    ) -> AsyncIterator[AsyncIterator[Announcement | Lost | Gap | Alive]]:
        del wanted  # there is nothing to save: announcements are not read from anywhere
        inbox = Inbox(_as_it_is, has_pulse=pulse)
        inbox.alive(math.inf)
        self._subscriptions.add(inbox)
        try:
            yield inbox
        finally:
            self._subscriptions.discard(inbox)
            inbox.close()


def _as_it_is(announcement: Announcement) -> Announcement:
    return announcement


class MemoryTickets(_InMemory, TicketStore):
    """Tickets of this process.

    Args:
        clock: For tests.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._kept: dict[str, tuple[bytes, float]] = {}

    async def put(self, name: str, content: bytes, life: int) -> None:
        now = self._clock.monotonic()
        while self._kept and (oldest := next(iter(self._kept))) and self._kept[oldest][1] <= now:
            del self._kept[oldest]
        self._kept[name] = (content, now + life)

    async def take(self, name: str) -> bytes | None:
        content, expires = self._kept.pop(name, (b"", 0.0))
        return content if expires > self._clock.monotonic() else None


class MemoryRateLimiter(_InMemory, ReadyRateLimiter):
    """An exact sliding log by key.

    Args:
        rate: What may pass.
        clock: For tests.
    """

    def __init__(self, rate: Rate, clock: Clock | None = None) -> None:
        self.rate = rate
        self._clock = clock or SystemClock()
        self._logs: OrderedDict[str, deque[float]] = OrderedDict()

    @property
    def is_ready(self) -> bool:
        return True

    def take(self, key: str, cost: int = 1) -> Permit:
        now = self._clock.monotonic()
        self._forget(now)
        log = self._logs.setdefault(key, deque())
        while log and now - log[0] >= self.rate.window:
            log.popleft()
        allowed = len(log) + cost <= self.rate.limit
        if allowed:
            log.extend([now] * cost)
            self._logs.move_to_end(key)
        elif not log:
            del self._logs[key]
        # In this order, rounding cannot make it more than the window: a difference of times rounds to 0 or more.
        reset = self.rate.window - (now - log[0]) if log else self.rate.window
        return Permit(allowed, self.rate.limit - len(log), max(1, math.ceil(reset)))

    async def acquire(self, key: str, cost: int = 1) -> Permit:
        return self.take(key, cost)

    def _forget(self, now: float) -> None:
        """Drop the logs whose newest entry has left the window: in order of that entry, they are the first."""
        while self._logs:
            key, log = next(iter(self._logs.items()))
            if log and now - log[-1] < self.rate.window:
                return
            del self._logs[key]
