"""A fault of a host's own cache or notifier counts as that part being out of reach, and is no error of its callers.

Their ports promise no error but ``UnavailableError``, and everything goes on without either of them.
"""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

from prefsync.errors import UnavailableError
from prefsync.ports import ChangeNotifier, PreferenceCache

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
    from contextlib import AbstractAsyncContextManager

    from prefsync.document import Subject
    from prefsync.ports import Alive, Announcement, CacheEntry, Gap, Lost

__all__ = ["ContainedCache", "ContainedNotifier"]

T = TypeVar("T")

logger = logging.getLogger("prefsync")

# Faults that are told of, by place and class; code that makes up a new one each time must not fill the log, nor memory.
_MOST_TOLD: Final = 100


class _Faults:
    """Makes ``UnavailableError`` of whatever one part raises, and tells of each kind once.

    Args:
        part: As users know it.
    """

    def __init__(self, part: str) -> None:
        self._part = part
        self._told: set[tuple[str, int, type[Exception]]] = set()

    def call(self, work: Callable[[], Awaitable[T]]) -> Awaitable[T]:
        """Begin a call, and return what can be awaited of it."""
        try:
            return _Call(work(), self)
        except Exception as error:  # noqa: BLE001  # whatever it is
            return _Call(_raised(error), self)

    def unavailable(self, error: Exception) -> UnavailableError:
        """Return the error to raise instead of one."""
        # By hand: the standard library looks at each frame's file, and a cache that is away raises at each request.
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        filename = "" if place is None else place.tb_frame.f_code.co_filename
        line = 0 if place is None else place.tb_lineno
        kind = (filename, line, type(error))
        if kind not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add(kind)
            # Without its message, which may hold somebody's id or values.
            logger.error(
                "the %s raised %s (%s, line %s), which its port does not have: taken to be out of reach, and told once",
                self._part,
                type(error).__name__,
                filename,
                line,
            )
        return UnavailableError(self._part)


class _Call(Generic[T]):
    """A call that may be under way, and ends with an answer or ``UnavailableError``.

    Args:
        inner: The adapter's.
        faults: Knows what to make of errors.
    """

    __slots__ = ("_faults", "_inner")

    def __init__(self, inner: Awaitable[T], faults: _Faults) -> None:
        self._inner = inner
        self._faults = faults

    def __await__(self) -> Generator[Any, Any, T]:
        try:
            return (yield from self._inner.__await__())
        except UnavailableError:
            raise
        except Exception as error:
            raise self._faults.unavailable(error) from error

    def close(self) -> None:
        """Be done with it, where it was not awaited."""
        if inspect.iscoroutine(self._inner):
            self._inner.close()


async def _raised(error: Exception) -> Any:
    raise error


class _Contained:
    def __init__(self, part: str) -> None:
        self._faults = _Faults(part)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Do nothing: the adapter is opened and closed by whoever has it."""


class ContainedCache(_Contained, PreferenceCache):
    """A cache of which nothing comes but what its port promises.

    Args:
        inner: The host's, which is opened and closed elsewhere.
    """

    def __init__(self, inner: PreferenceCache) -> None:
        super().__init__("cache")
        self._inner = inner

    def get(self, subject: Subject) -> Awaitable[CacheEntry | None]:
        """Return the entry, if there is one."""
        return self._faults.call(lambda: self._inner.get(subject))

    async def versions(self, subjects: Sequence[Subject]) -> Sequence[int | None]:
        """Return the version of each subject's entry."""
        return await self._faults.call(lambda: self._inner.versions(subjects))

    def put(self, subject: Subject, entry: CacheEntry) -> Awaitable[None]:
        """Keep an entry."""
        return self._faults.call(lambda: self._inner.put(subject, entry))


class ContainedNotifier(_Contained, ChangeNotifier):
    """A notifier that publishes or is out of reach. What goes wrong with a subscription is the hub's to see to.

    Args:
        inner: The host's, which is opened and closed elsewhere.
    """

    def __init__(self, inner: ChangeNotifier) -> None:
        super().__init__("notifier")
        self._inner = inner

    def publish(self, announcement: Announcement) -> Awaitable[None]:
        """Send an announcement."""
        return self._faults.call(lambda: self._inner.publish(announcement))

    def subscribe(
        self, wanted: Callable[[str], bool] | None = None, *, pulse: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[Announcement | Lost | Gap | Alive]]:
        """Receive what is published."""
        return self._inner.subscribe(wanted, pulse=pulse)
