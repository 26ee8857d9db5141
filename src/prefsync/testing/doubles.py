"""Wrappers around real adapters that hold a call at a point, fail it, lose, repeat or reorder what it does.

No mocks: all work is done by the adapter inside, and a test decides by events when it goes on. A race that happens once
a month is then forced in every run.

Example:
    ```python
    repository = PausingRepository(MemoryRepository())
    hold = repository.hold("load", after=True)  # the next load stops when it has read and before it returns
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service.read, subject)
        await hold.reached()
        await service.write(subject, mutation)  # overtakes the reader
        hold.release()
    ```
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from typing import TYPE_CHECKING, Self, TypeVar

import anyio

from prefsync.errors import UnavailableError
from prefsync.ports import ChangeNotifier, Part, PreferenceCache, PreferenceRepository

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType
    from typing import Any

    from prefsync.document import Document, Subject
    from prefsync.ports import (
        Alive,
        Announcement,
        CacheEntry,
        ChangeLog,
        Gap,
        Kept,
        LoggedRevision,
        Lost,
        Outcome,
        RequestRecord,
        Trimmed,
        Write,
    )

__all__ = [
    "FailingCache",
    "FailingNotifier",
    "FailingRepository",
    "Hold",
    "PausingCache",
    "PausingNotifier",
    "PausingRepository",
    "WrappedNotifier",
]

T = TypeVar("T")

# Seconds after which a test that waits for something that never comes fails instead of hanging.
PATIENCE = 20.0


class Hold:
    """One call that is held at a point until the test lets it go on."""

    def __init__(self) -> None:
        self._reached = anyio.Event()
        self._released = anyio.Event()

    async def reached(self) -> None:
        """Return when a call has come to the point; ``TimeoutError`` where none comes."""
        with anyio.fail_after(PATIENCE):
            await self._reached.wait()

    @property
    def is_reached(self) -> bool:
        """Whether a call has come to the point."""
        return self._reached.is_set()

    def release(self) -> None:
        """Let the call go on; one that has not come yet will not be held."""
        self._released.set()

    async def stop_here(self) -> None:
        """Be the call that is held."""
        self._reached.set()
        await self._released.wait()


class _Wrapper:
    """Passes every call on, and counts it; subclasses do something before and after."""

    def __init__(self, inner: Part) -> None:
        self._part = inner
        self.calls: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        await self._part.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._part.__aexit__(kind, error, trace)

    async def _do(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        self.calls[name] += 1
        await self._before(name)
        result = await call()
        await self._after(name)
        return result

    async def _before(self, name: str) -> None:
        """Act before the adapter inside is asked."""

    async def _after(self, name: str) -> None:
        """Act when the adapter inside has done its work, before the caller hears of it."""


class _Pausing(_Wrapper):
    def __init__(self, inner: Part) -> None:
        super().__init__(inner)
        self._holds: defaultdict[tuple[str, bool], deque[Hold]] = defaultdict(deque)

    def hold(self, name: str, *, after: bool = False) -> Hold:
        """Hold the next call of a method, before its work is done or after; asked twice, the next two calls."""
        hold = Hold()
        self._holds[name, after].append(hold)
        return hold

    async def _before(self, name: str) -> None:
        await self._stop(name, after=False)

    async def _after(self, name: str) -> None:
        await self._stop(name, after=True)

    async def _stop(self, name: str, *, after: bool) -> None:
        if holds := self._holds[name, after]:
            await holds.popleft().stop_here()


class _Failing(_Wrapper):
    part = "database"

    def __init__(self, inner: Part) -> None:
        super().__init__(inner)
        self.is_down = False
        self._failures: defaultdict[tuple[str, bool], deque[Exception]] = defaultdict(deque)

    def fail(self, name: str, error: Exception | None = None, *, after: bool = False, times: int = 1) -> None:
        """Let the next calls of a method fail: before anything is done, or ``after`` it was and the answer is lost."""
        self._failures[name, after].extend([error or UnavailableError(self.part)] * times)

    async def _before(self, name: str) -> None:
        if self.is_down:
            raise UnavailableError(self.part)
        self._raise(name, after=False)

    async def _after(self, name: str) -> None:
        self._raise(name, after=True)

    def _raise(self, name: str, *, after: bool) -> None:
        if failures := self._failures[name, after]:
            raise failures.popleft()


# --- Repository ------------------------------------------------------------------------------------------------------


class _WrappedRepository(_Wrapper, PreferenceRepository):
    def __init__(self, inner: PreferenceRepository) -> None:
        super().__init__(inner)
        self.inner = inner

    async def identity(self) -> str:
        return await self._do("identity", self.inner.identity)

    async def load(self, subject: Subject) -> Document:
        return await self._do("load", lambda: self.inner.load(subject))

    async def write(self, subject: Subject, write: Write) -> Outcome:
        return await self._do("write", lambda: self.inner.write(subject, write))

    async def changes(self, subject: Subject, since: int, limit: int) -> ChangeLog:
        return await self._do("changes", lambda: self.inner.changes(subject, since, limit))

    async def revisions(self, subjects: Sequence[Subject]) -> Sequence[int]:
        return await self._do("revisions", lambda: self.inner.revisions(subjects))

    async def request(self, subject: Subject, key: str) -> RequestRecord | None:
        return await self._do("request", lambda: self.inner.request(subject, key))

    async def kept(self, subject: Subject) -> Kept:
        return await self._do("kept", lambda: self.inner.kept(subject))

    async def erase(self, subject: Subject) -> int:
        return await self._do("erase", lambda: self.inner.erase(subject))

    async def trim(
        self, *, changes_before: int, requests_before: int, limit: int, cursor: str = ""
    ) -> Trimmed:
        def call() -> Coroutine[Any, Any, Trimmed]:
            return self.inner.trim(
                changes_before=changes_before, requests_before=requests_before, limit=limit, cursor=cursor
            )

        return await self._do("trim", call)

    async def trim_subject(self, subject: Subject, keep: int) -> int:
        return await self._do("trim_subject", lambda: self.inner.trim_subject(subject, keep))

    async def logged_since(self, at: int, limit: int) -> Sequence[LoggedRevision]:
        return await self._do("logged_since", lambda: self.inner.logged_since(at, limit))

    async def take_relay_turn(self, now: int, pause: int) -> int | None:
        return await self._do("take_relay_turn", lambda: self.inner.take_relay_turn(now, pause))

    async def end_relay_turn(self, relayed_until: int) -> None:
        await self._do("end_relay_turn", lambda: self.inner.end_relay_turn(relayed_until))

    async def ping(self) -> None:
        await self._do("ping", self.inner.ping)


class PausingRepository(_WrappedRepository, _Pausing):
    """A repository whose calls can be held.

    Args:
        inner: Does the work.

    Attributes:
        calls: How often each method was called.
    """


class FailingRepository(_WrappedRepository, _Failing):
    """A repository that can be out of reach, or lose an answer.

    Args:
        inner: Does the work.

    Attributes:
        calls: How often each method was called.
        is_down: While true, every call fails and nothing is done.
    """


# --- Cache -----------------------------------------------------------------------------------------------------------


class _WrappedCache(_Wrapper, PreferenceCache):
    def __init__(self, inner: PreferenceCache) -> None:
        super().__init__(inner)
        self.inner = inner

    async def get(self, subject: Subject) -> CacheEntry | None:
        return await self._do("get", lambda: self.inner.get(subject))

    async def versions(self, subjects: Sequence[Subject]) -> Sequence[int | None]:
        return await self._do("versions", lambda: self.inner.versions(subjects))

    async def put(self, subject: Subject, entry: CacheEntry) -> None:
        await self._do("put", lambda: self.inner.put(subject, entry))


class PausingCache(_WrappedCache, _Pausing):
    """A cache whose calls can be held.

    Args:
        inner: Does the work.

    Attributes:
        calls: How often each method was called.
    """


class FailingCache(_WrappedCache, _Failing):
    """A cache that can be out of reach, lose what is put into it, or give back something else.

    Args:
        inner: Does the work.

    Attributes:
        calls: How often each method was called.
        is_down: While true, every call fails and nothing is done.
        loses: While true, what is put into it is lost, and nobody is told.
        corrupt: While set, makes another entry of each one that is read.
    """

    part = "cache"

    def __init__(self, inner: PreferenceCache) -> None:
        super().__init__(inner)
        self.loses = False
        self.corrupt: Callable[[CacheEntry], CacheEntry] | None = None

    async def get(self, subject: Subject) -> CacheEntry | None:
        """Return the entry, or what ``corrupt`` makes of it."""
        entry = await super().get(subject)
        return self.corrupt(entry) if entry is not None and self.corrupt is not None else entry

    async def put(self, subject: Subject, entry: CacheEntry) -> None:
        """Keep an entry, or lose it."""
        if not self.loses:
            await super().put(subject, entry)


# --- Notifier --------------------------------------------------------------------------------------------------------


class WrappedNotifier(_Wrapper, ChangeNotifier):
    """Passes everything on; a base for doubles.

    Args:
        inner: Does the work.
    """

    def __init__(self, inner: ChangeNotifier) -> None:
        super().__init__(inner)
        self.inner = inner

    async def publish(self, announcement: Announcement) -> None:
        """Send an announcement."""
        await self._do("publish", lambda: self.inner.publish(announcement))

    def subscribe(
        self, wanted: Callable[[str], bool] | None = None, *, pulse: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[Announcement | Lost | Gap | Alive]]:
        """Receive what is published."""
        return self.inner.subscribe(wanted, pulse=pulse)


class PausingNotifier(WrappedNotifier, _Pausing):
    """A notifier whose announcements can be held.

    Args:
        inner: Does the work.

    Attributes:
        calls: How often ``publish`` was called.
    """


class FailingNotifier(WrappedNotifier, _Failing):
    """A notifier that can be out of reach.

    Args:
        inner: Does the work.

    Attributes:
        calls: How often ``publish`` was called.
        is_down: While true, nothing is published and the caller is told so.
    """

    part = "notifier"
