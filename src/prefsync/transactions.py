"""Preferences inside the host's own transaction: written with its rows, or not at all."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Self

import anyio

from prefsync.document import Identity
from prefsync.errors import ConfigurationError, TransactionConflictError
from prefsync.handle import PreferencesHandle
from prefsync.ports import Outcome
from prefsync.service import Task

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import AsyncIterator, Callable

    from prefsync.clock import Clock
    from prefsync.document import Snapshot, Subject
    from prefsync.merge import Mutation
    from prefsync.ports import Committed, Committing, HostTransaction, PreferenceRepository
    from prefsync.schema import Schema
    from prefsync.service import PreferenceService

__all__ = ["TransactionPreferences", "Transactions"]

logger = logging.getLogger("prefsync")

# Each lost race is a write that somebody else committed, and from the second on the row is locked.
_MOST_RACES: Final = 8

# Seconds between two looks at whether a commit is over, of which some hosts' ways to commit do not tell.
_FIRST_LOOK: Final = 0.001
_LONGEST_LOOK: Final = 0.1

# Seconds after which a commit that does not end is left to the relay, which asks the database.
_COMMIT_LIMIT: Final = 60.0

# Subjects of one transaction that are told of at once.
_AT_ONCE: Final = 100


class Transactions:
    """What joins transactions of the host's, and tells of what they wrote once they are committed.

    Args:
        service: Who plans writes, and tells of them.
        repository: Where preferences are kept.
        clock: For the time of a commit.
    """

    def __init__(self, service: PreferenceService, repository: PreferenceRepository, clock: Clock) -> None:
        self._service = service
        self._repository = repository
        self._clock = clock
        self._join: Callable[[Any], HostTransaction] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._telling: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        joiner = getattr(self._repository, "joiner", None)
        if joiner is not None:
            self._join = joiner(await self._repository.identity(), self._clock.now, self._tell)
        self._loop = asyncio.get_running_loop()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._loop = None
        if self._telling:
            await asyncio.wait(self._telling, timeout=_COMMIT_LIMIT / 10)

    def join(self, transaction: Any) -> TransactionPreferences:
        """Return the preferences as a transaction sees them.

        Args:
            transaction: The host's session or connection.

        Raises:
            ConfigurationError: The repository cannot join it.
        """
        if self._loop is None:
            raise RuntimeError("nothing is open yet: enter the lifespan, or the runtime, first")
        if self._join is None:
            raise ConfigurationError(
                f"{type(self._repository).__name__} cannot write in a transaction of yours: keep preferences in your own"
                " database, by PREFSYNC_DATABASE_URL or SqlAlchemyRepository(engine)"
            )
        return TransactionPreferences(self._service, self._join(transaction))

    @asynccontextmanager
    async def within(self, transaction: Any) -> AsyncIterator[TransactionPreferences]:
        """See ``Runtime.within``."""
        preferences = self.join(transaction)
        yield preferences
        await preferences.told()

    def _tell(self, committing: Committing) -> concurrent.futures.Future[None] | None:
        """Tell of what is being committed when that is over; from any thread."""
        loop = self._loop
        if loop is None:
            return None
        work = self._tell_when_over(committing, loop)
        try:
            return asyncio.run_coroutine_threadsafe(work, loop)
        except RuntimeError:  # the loop is closed: this process ends, and another's relay tells
            work.close()
            return None

    async def _tell_when_over(self, committing: Committing, loop: asyncio.AbstractEventLoop) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)
        ended = asyncio.Event()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop is closed, which is no concern of the host's commit
                loop.call_soon_threadsafe(ended.set)

        committing.wake_by(wake)
        pause = _FIRST_LOOK
        with anyio.move_on_after(_COMMIT_LIMIT):
            while not committing.is_over():
                with anyio.move_on_after(pause):
                    await ended.wait()
                    ended.clear()
                pause = min(2 * pause, _LONGEST_LOOK)
        if not committing.is_over():
            committing.fail()
        written, doubtful = committing.outcome()
        for subject in doubtful:
            self._service.announcer.remember_untold(subject)
        for start in range(0, len(written), _AT_ONCE):
            async with anyio.create_task_group() as tasks:
                for one in written[start : start + _AT_ONCE]:
                    tasks.start_soon(self._announce, one)

    async def _announce(self, one: Committed) -> None:
        try:
            await self._service.announcer.announce(one.subject, one.document, one.changes)
        except Exception:
            logger.exception("a change was committed, but not told; the relay does it")
            self._service.announcer.remember_untold(one.subject)


class TransactionPreferences:
    """Everybody's preferences, read and written inside a transaction of the host's.

    Args:
        service: Who plans writes.
        transaction: Where they go.
    """

    def __init__(self, service: PreferenceService, transaction: HostTransaction) -> None:
        self._writer = _Writer(service, transaction)
        self._transaction = transaction

    def of(self, user: str | Subject) -> PreferencesHandle:
        """Return somebody's typed handle.

        Args:
            user: The id of a user, or a subject.
        """
        return self.handle(Identity.of(user).subject)

    def handle(self, subject: Subject) -> PreferencesHandle:
        """Return a subject's typed handle."""
        return PreferencesHandle(self._writer, subject)

    async def told(self) -> None:
        """Wait, for a bounded time, until everybody has been told of what was committed until now."""
        await self._transaction.told()


class _Writer:
    """Reads and writes for handles: by the rules of the service, and past its cache.

    Args:
        service: Who plans writes.
        transaction: Where they go.
    """

    def __init__(self, service: PreferenceService, transaction: HostTransaction) -> None:
        self._service = service
        self._transaction = transaction

    @property
    def schema(self) -> Schema:
        return self._service.schema

    async def read(self, subject: Subject) -> Snapshot:
        return self._service.show_document(subject, await self._transaction.load(subject))

    async def write(self, subject: Subject, mutation: Mutation) -> Snapshot:
        task = Task(mutation, None, None, None, may_join=False)
        document = await self._transaction.load(subject)
        for _ in range(_MOST_RACES):
            write = self._service.plan(subject, document, task)
            if write is None:
                return self._service.show_document(subject, document)
            if await self._transaction.write(subject, write) is Outcome.WRITTEN:
                return self._service.show_document(subject, write.document)
            document = await self._transaction.load(subject, newest=True)
        raise TransactionConflictError
