"""Reading and writing one subject's preferences: the rules of protocol.md, without any transport."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import anyio

from prefsync.announcing import Announcer
from prefsync.clock import Clock, SystemClock
from prefsync.document import Change, Document, Snapshot
from prefsync.errors import (
    IdempotencyMismatchError,
    PreconditionFailedError,
    PrefsyncError,
    ReadOnlyError,
    UnavailableError,
)
from prefsync.exporting import export_of
from prefsync.merge import difference
from prefsync.ports import Outcome, RequestRecord, Write
from prefsync.resilience import to_its_end
from prefsync.strictjson import Limits
from prefsync.telemetry import OFF
from prefsync.turns import Turn, Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prefsync.caching import CachedDocuments, Found, Lookup
    from prefsync.document import Subject
    from prefsync.merge import Mutation
    from prefsync.ports import ChangeNotifier, PreferenceRepository
    from prefsync.resilience import Guard
    from prefsync.schema import Schema
    from prefsync.telemetry import Telemetry

__all__ = ["IdempotentRequest", "PreferenceService", "Task"]

logger = logging.getLogger("prefsync")

# A lost race costs a reload; a writer that loses this often shares its subject with a flood, and is told to come back.
_MOST_RACES: Final = 64

# Writes of one subject that wait for the same turn are stored as one, at most so many, and of so many bytes: planning
# them is one piece of work, during which nobody else is served.
_MOST_AS_ONE: Final = 32
_BYTES_AS_ONE: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class IdempotentRequest:
    """A write that may be sent again.

    Attributes:
        key: As the client chose it.
        digest: Of method, path and body; another digest under the same key is another request.
    """

    key: str
    digest: bytes


@dataclass(slots=True)
class Task:
    """What one call of :meth:`PreferenceService.write` asks for.

    Attributes:
        mutation: What to do.
        condition: When.
        request: The idempotency key, if there is one.
        origin: The name the client gives itself.
        may_join: Whether it may be stored as one with others.
        outcome: Where somebody else has done it along: the document that it left, or why it was refused.
    """

    mutation: Mutation
    condition: Callable[[Snapshot], None] | None
    request: IdempotentRequest | None
    origin: str | None
    may_join: bool
    outcome: Document | PrefsyncError | None = None


def _may_join(task: Task) -> bool:
    return task.may_join


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
        telemetry: Is told of what is written.

    Attributes:
        announcer: Tells of what is stored.
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
        telemetry: Telemetry = OFF,
    ) -> None:
        self.schema = schema
        self.documents = documents
        self.limits = limits or Limits()
        self._repository = repository
        self._guard = guard
        self._clock = clock or SystemClock()
        self._telemetry = telemetry
        self.announcer = Announcer(repository, documents, notifier, guard, telemetry)
        self._turns: Turns[Task] = Turns()

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

    async def find(self, subject: Subject, *, at_least: int = 0, lookup: Lookup | None = None) -> Found:
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
        # A key can turn out to be claimed, and then nothing of what is stored with it holds.
        task = Task(mutation, condition, request, origin, may_join=request is None)
        with self._telemetry.span("write"):
            return await self._in_turn(subject, task)

    async def _in_turn(self, subject: Subject, task: Task) -> Snapshot:
        while (turn := await self._turns.take(subject.key, task)) is None:
            if task.outcome is not None:
                return self._show_outcome(subject, task.outcome)
            task.may_join = (
                False  # somebody else wrote in between; by itself it is decided upon the newer state
            )
        try:
            return await self._write(subject, task, turn)
        finally:
            turn.end()
            turn.dismiss()

    async def _write(self, subject: Subject, task: Task, turn: Turn[Task]) -> Snapshot:
        """Return the state to answer with."""
        # A document from memory or cache is good for a compare-and-set, which finds out if it is old. Every other
        # outcome (a refusal, nothing to change) is decided again upon the database's before it is told.
        document = self.documents.recall(subject) or (await self.documents.find(subject)).document
        if task.may_join and document.revision:
            along = turn.take_along(_MOST_AS_ONE - 1, _may_join)
            if along:
                await to_its_end(self._write_as_one(subject, document, [task, *along], turn))
                if task.outcome is not None:
                    return self._show_outcome(subject, task.outcome)
                newest = await self.documents.load(subject)
                return await self._write_alone(subject, newest, task, turn, is_fresh=True)
        return await self._write_alone(subject, document, task, turn)

    async def _write_alone(
        self,
        subject: Subject,
        document: Document,
        task: Task,
        turn: Turn[Task],
        *,
        is_fresh: bool = False,
    ) -> Snapshot:
        for _ in range(_MOST_RACES):
            write = error = None
            try:
                write = self.plan(subject, document, task)
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

    async def _write_as_one(
        self, subject: Subject, document: Document, tasks: Sequence[Task], turn: Turn[Task]
    ) -> None:
        """Do several tasks, each upon what the one before leaves, in one write that logs each of their changes.

        Sets the outcomes where it is stored, which also proves that all was decided upon the newest state. Else it
        leaves them unset, and each is to be done by itself; also those that there is no more room for.
        """
        write, outcomes = self._plan_as_one(subject, document, tasks)
        if write is None:
            return
        is_over = True
        try:
            is_over = await self._store(subject, write, turn) is Outcome.WRITTEN
        except BaseException as error:
            # Whether it is stored is not known, unless the database says that it stores nothing.
            said = str(error) if isinstance(error, ReadOnlyError) else None
            outcomes = [
                UnavailableError("database") if said is None else ReadOnlyError(said) for _ in outcomes
            ]
            if not isinstance(error, UnavailableError):
                raise
        finally:
            if is_over:
                for task, outcome in zip(tasks, outcomes, strict=False):
                    task.outcome = outcome

    def _plan_as_one(
        self, subject: Subject, document: Document, tasks: Sequence[Task]
    ) -> tuple[Write | None, list[Document | PrefsyncError]]:
        """Return what to store, if anything, and the outcomes of the first tasks once it is."""
        outcomes: list[Document | PrefsyncError] = []
        changes: list[Change] = []
        after = document
        size = 0
        for task in tasks:
            try:
                write = self.plan(subject, after, task)
            except PrefsyncError as refusal:
                outcomes.append(refusal)
                continue
            except Exception:  # noqa: BLE001  # a fault of the host's, which belongs to whose task has it
                return None, []
            if write is not None and write.change is not None:
                after = write.document
                changes.append(write.change)
                size += len(after.values_json)
            outcomes.append(after)
            if size > _BYTES_AS_ONE:
                break
        write = Write(document, after, changes[-1], earlier=tuple(changes[:-1])) if changes else None
        return write, outcomes

    def plan(self, subject: Subject, document: Document, task: Task) -> Write | None:
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
            answer = self.show_document(subject, after).encode()
            record = RequestRecord(task.request.key, task.request.digest, answer, now)
        return Write(document, after, change, record)

    async def _store(self, subject: Subject, write: Write, turn: Turn[Task]) -> Outcome:
        place = self.documents.place(subject)
        outcome = await self._guard(self._repository.write(subject, write))
        if outcome is Outcome.CONFLICT:
            self._telemetry.lost_race()
        if outcome is Outcome.WRITTEN:
            self.documents.note(subject, write.document, place)
            turn.end()  # the next writer needs no more than the database's answer
            if write.change is not None:
                await self.announcer.announce(subject, write.document, write.changes)
        return outcome

    async def _answer(self, subject: Subject, request: IdempotentRequest) -> Snapshot | None:
        """Return what a request was answered before, if it was."""
        record = await self._guard(self._repository.request(subject, request.key))
        if record is None:
            return None
        if record.digest != request.digest:
            raise IdempotencyMismatchError(
                "this idempotency key was used for another request; use a new one for each write"
            )
        return Snapshot.decode(subject, record.answer)

    async def erase(self, subject: Subject) -> None:
        """Remove all that is kept of a subject, and end its sessions.

        May be called again, and has to be after an error: only a call that returns says that nothing is left.

        Raises:
            UnavailableError: The database is out of reach, and nothing was removed; or the cache or the notifier is, and
                that cache, or near caches of other processes, may still hold what the database does not.
        """
        with anyio.CancelScope(shield=True):
            floor = await self._guard(self._repository.erase(subject))
            await self.announcer.announce_erased(subject, Document(floor=floor))

    async def export(self, subject: Subject) -> dict[str, Any]:
        """Return all that is kept of a subject, as JSON: what is stored, the log of changes, the claimed requests.

        Raises:
            UnavailableError: The database is out of reach.
        """
        return export_of(subject, await self._guard(self._repository.kept(subject)))

    def _show_outcome(self, subject: Subject, outcome: Document | PrefsyncError) -> Snapshot:
        if isinstance(outcome, PrefsyncError):
            raise outcome
        return self.show_document(subject, outcome)

    def show_document(self, subject: Subject, document: Document, *, stale: bool = False) -> Snapshot:
        """Return a document as the schema shows it."""
        revisions = {name: document.revisions.get(name, 0) for name in self.schema.namespaces}
        values = self.schema.show(document)
        return Snapshot(subject, document.revision, self.schema.tag, values, revisions, stale)
