"""Reading and writing one subject's preferences: the rules of protocol.md, without any transport."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import anyio

from prefsync.clock import Clock, SystemClock
from prefsync.document import Change, Document, Snapshot
from prefsync.errors import IdempotencyMismatchError, PreconditionFailedError, PrefsyncError, UnavailableError
from prefsync.merge import difference
from prefsync.ports import Announcement, Outcome, RequestRecord, Write
from prefsync.resilience import to_its_end
from prefsync.strictjson import Limits, decode, encode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from prefsync.caching import CachedDocuments, Found
    from prefsync.document import Subject
    from prefsync.merge import Mutation
    from prefsync.ports import CacheEntry, ChangeNotifier, PreferenceRepository
    from prefsync.resilience import Guard
    from prefsync.schema import Schema

__all__ = ["IdempotentRequest", "PreferenceService"]

logger = logging.getLogger("prefsync")

# A lost race costs a reload; a writer that loses this often shares its subject with a flood, and is told to come back.
_MOST_RACES: Final = 64

# Subjects of which this process remembers that it could not tell of a change; beyond them, sessions are reconciled.
_MOST_UNTOLD: Final = 10_000

# The change log of one subject is cut back to this many changes, looked at after every so many writes of
# this process.
_CHANGES_KEPT: Final = 1_000
_WRITES_BETWEEN_TRIMS: Final = 100


@dataclass(frozen=True, slots=True)
class IdempotentRequest:
    """A write that may be sent again.

    Attributes:
        key: As the client chose it.
        digest: Of method, path and body; another digest under the same key is another request.
    """

    key: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class _Task:
    """What one call of :meth:`PreferenceService.write` asks for."""

    mutation: Mutation
    condition: Callable[[Snapshot], None] | None
    request: IdempotentRequest | None
    origin: str | None


class _Turns:
    """One writer at a time for each subject in this process, in the order they came.

    Concurrent writers would lose races to one another, and each lost race costs two statements.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    async def take(self, key: str) -> _Turn:
        """Wait for a subject's turn."""
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = deque()
            return _Turn(self, key)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_to_next(key)  # it was this one's turn, and it does not take it
            raise
        return _Turn(self, key)

    def give_to_next(self, key: str) -> None:
        """End a turn."""
        waiting = self._waiting[key]
        while waiting:
            turn = waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        del self._waiting[key]


class _Turn:
    """A subject's turn, until it is ended."""

    __slots__ = ("_key", "_turns")

    def __init__(self, turns: _Turns, key: str) -> None:
        self._turns: _Turns | None = turns
        self._key = key

    def end(self) -> None:
        """Let the next one write; does nothing when called again."""
        turns, self._turns = self._turns, None
        if turns is not None:
            turns.give_to_next(self._key)


class PreferenceService:
    """What the mounts, the sessions and the host's own code call.

    Args:
        schema: What the host declared.
        repository: Where documents are kept.
        documents: The same through the cache.
        notifier: Who tells the other processes.
        guard: Bounds the calls to the repository.
        limits: How large documents may be.
        clock: Where revisions come from.

    Attributes:
        untold: Whose changes this process stored and could not tell of; for the relay.
    """

    def __init__(
        self,
        schema: Schema,
        repository: PreferenceRepository,
        documents: CachedDocuments,
        notifier: ChangeNotifier,
        guard: Guard,
        *,
        limits: Limits | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.schema = schema
        self.documents = documents
        self.limits = limits or Limits()
        self._repository = repository
        self._notifier = notifier
        self._guard = guard
        self._clock = clock or SystemClock()
        self.untold: set[Subject] = set()
        self._writes = 0
        self._turns = _Turns()

    async def read(self, subject: Subject, *, at_least: int = 0) -> Snapshot:
        """Return a subject's effective values.

        Args:
            subject: Whose.
            at_least: The lowest revision that will do.

        Raises:
            PreconditionFailedError: The database itself has nothing that new.
            UnavailableError: Neither cache nor database can answer.
        """
        found = await self.find(subject, at_least=at_least)
        return self.show_document(subject, found.document, stale=found.stale)

    async def find(
        self, subject: Subject, *, at_least: int = 0, lookup: Awaitable[CacheEntry | None] | None = None
    ) -> Found:
        """Return a subject's document, for those who show it themselves; see :meth:`read`."""
        found = await self.documents.find(subject, at_least=at_least, lookup=lookup)
        if found.document.revision < at_least:
            newest = found.document.revision
            raise PreconditionFailedError(
                f"the newest revision is {newest}, older than the {at_least} that was asked for"
            )
        return found

    async def write(
        self,
        subject: Subject,
        mutation: Mutation,
        *,
        condition: Callable[[Snapshot], None] | None = None,
        request: IdempotentRequest | None = None,
        origin: str | None = None,
    ) -> Snapshot:
        """Change a subject's preferences: all of it or nothing.

        Args:
            subject: Whose.
            mutation: What to do.
            condition: Raises where the state is not what the caller wants it to be; asked before anything is written,
                and again about the newer state after each lost race.
            request: Makes the write safe to repeat: the first answer is given again and nothing is written.
            origin: The name the client gives itself.

        Returns:
            The state that this write left, durable in the database.

        Raises:
            InvalidPreferencesError: The result breaks a rule.
            PreconditionFailedError: As ``condition`` raises it.
            IdempotencyMismatchError: The key was used for another request.
            UnavailableError: The database is out of reach.
        """
        task = _Task(mutation, condition, request, origin)
        turn = await self._turns.take(subject.key)
        try:
            return await self._write(subject, task, turn)
        finally:
            turn.end()

    async def _write(self, subject: Subject, task: _Task, turn: _Turn) -> Snapshot:
        """Return the state to answer with."""
        # A document from memory or cache is good for a compare-and-set, which finds out if it is old. Every other
        # outcome (a refusal, nothing to change) is decided again upon the database's before it is told.
        document = self.documents.recall(subject) or (await self.documents.find(subject)).document
        is_fresh = False
        for _ in range(_MOST_RACES):
            write = error = None
            try:
                write = self._plan(subject, document, task)
            except PrefsyncError as refusal:
                error = refusal
            outcome = None
            if write is not None:
                # Once the database has it the others must hear of it, even where the caller goes away in between.
                outcome = await to_its_end(self._store(subject, write, turn))
            if write is not None and outcome is Outcome.WRITTEN:
                return self.show_document(subject, write.document)
            if task.request is not None and outcome is not Outcome.CONFLICT:
                answer = await self._answer(subject, task.request)
                if answer is not None:
                    return answer
            if write is None and is_fresh:
                if error is not None:
                    raise error
                return self.show_document(subject, document)
            document, is_fresh = await self.documents.load(subject), True
        logger.warning("a write lost %d races in a row and was given up", _MOST_RACES)
        raise UnavailableError("database")

    def _plan(
        self,
        subject: Subject,
        document: Document,
        task: _Task,
    ) -> Write | None:
        """Return what to store, or ``None`` where a write would leave everything as it is."""
        if task.condition is not None:
            task.condition(self.show_document(subject, document))
        now = self._clock.now()
        edited = task.mutation.edit(self.schema, document, self.limits)
        step = difference(document, edited.values, now=now, origin=task.origin, limits=self.limits)
        after, change = step or (document, None)
        if step is not None:
            self.schema.know(after, document, edited.valid)
        if change is None and task.request is None:
            return None
        record = None
        if task.request is not None:
            answer = _encode_snapshot(self.show_document(subject, after))
            record = RequestRecord(task.request.key, task.request.digest, answer, now)
        return Write(document, after, change, record)

    async def _store(self, subject: Subject, write: Write, turn: _Turn) -> Outcome:
        outcome = await self._guard(self._repository.write(subject, write))
        if outcome is Outcome.WRITTEN:
            self.documents.note(subject, write.document)
            turn.end()  # the next writer needs no more than the database's answer
            if write.change is not None:
                await self._announce(subject, write.document, write.change)
                await self._trim_now_and_then(subject)
        return outcome

    async def _announce(self, subject: Subject, document: Document, change: Change | None) -> None:
        """Write through to the cache and tell the other processes, in one round trip where both are one server."""
        # The cache first: whoever hears of the change and reads finds it there.
        under_way = (
            self.documents.put(subject, document),
            self._notifier.publish(Announcement(subject, change, document.version)),
        )
        for step in under_way:
            try:
                await step
            except UnavailableError as error:
                logger.debug("a change was stored, but not told: %s", error)
                if len(self.untold) < _MOST_UNTOLD:
                    self.untold.add(subject)

    async def _trim_now_and_then(self, subject: Subject) -> None:
        self._writes += 1
        if self._writes % _WRITES_BETWEEN_TRIMS:
            return
        try:
            await self._guard(self._repository.trim_subject(subject, _CHANGES_KEPT))
        except UnavailableError:
            logger.debug("a change log could not be trimmed; a later write does it")

    async def _answer(self, subject: Subject, request: IdempotentRequest) -> Snapshot | None:
        """Return what a request was answered before, if it was."""
        record = await self._guard(self._repository.request(subject, request.key))
        if record is None:
            return None
        if record.digest != request.digest:
            raise IdempotencyMismatchError(
                "this idempotency key was used for another request; use a new one for each write"
            )
        return _decode_snapshot(subject, record.answer)

    async def erase(self, subject: Subject) -> None:
        """Remove all that is kept of a subject.

        May be called again, and has to be after an error: only a call that returns says that nothing is left.

        Raises:
            UnavailableError: The database is out of reach, and nothing was removed; or the cache is, and may still hold
                what the database does not.
        """
        with anyio.CancelScope(shield=True):
            floor = await self._guard(self._repository.erase(subject))
            document = Document(floor=floor)
            await self.documents.put(subject, document)
            await self._announce(subject, document, None)

    def show_document(self, subject: Subject, document: Document, *, stale: bool = False) -> Snapshot:
        """Return a document as the schema shows it."""
        revisions = {name: document.revisions.get(name, 0) for name in self.schema.namespaces}
        values = self.schema.show(document)
        return Snapshot(subject, document.revision, self.schema.tag, values, revisions, stale)


def _encode_snapshot(snapshot: Snapshot) -> bytes:
    return encode([snapshot.revision, snapshot.schema, snapshot.revisions, snapshot.values])


def _decode_snapshot(subject: Subject, answer: bytes) -> Snapshot:
    parts: Any = decode(answer)
    revision, schema, revisions, values = parts
    return Snapshot(subject, revision, schema, values, revisions)
