"""A part that is down costs a bounded wait, then none at all until it is tried again."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio

from prefsync.clock import Clock, SystemClock
from prefsync.errors import ReadOnlyError, UnavailableError

T = TypeVar("T")  # 3.11 has no type parameters

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["AlreadyCountedError", "Breaker", "Guard", "to_its_end"]

logger = logging.getLogger("prefsync")

# A single slow answer is no outage; three in a row without a good one between them are.
_FAILURES_TO_OPEN: Final = 3

# Short enough that service is back within two seconds of the part (reliability figures 9 and 10).
_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 1.0

# Seconds between two lines in the log about a database that stores nothing.
_BETWEEN_COMPLAINTS: Final = 60.0


class AlreadyCountedError(UnavailableError):
    """The very failure that another caller was told of: the breaker hears of it by him."""


class Breaker:
    """Remembers that a part is down, lets one caller at a time try it, and spares the others the wait.

    Args:
        part: As users know it: ``database``, ``cache``.
        clock: For tests.
    """

    def __init__(self, part: str, clock: Clock | None = None) -> None:
        self.part = part
        self._clock = clock or SystemClock()
        self._failures = 0
        self._pause = _FIRST_PAUSE
        self._retry_at = 0.0

    @property
    def is_down(self) -> bool:
        """Whether the last thing known of the part is that it failed for good."""
        return self._failures >= _FAILURES_TO_OPEN

    @property
    def is_failing(self) -> bool:
        """Whether the last thing known of the part is that it did not answer once."""
        return self._failures > 0

    def check(self) -> None:
        """Raise ``UnavailableError`` while the part is known to be down and it is nobody's turn to try."""
        if self._failures < _FAILURES_TO_OPEN:
            return
        now = self._clock.monotonic()
        if now < self._retry_at:
            raise UnavailableError(self.part)
        self._retry_at = now + self._pause  # this caller tries; the others wait for what it finds

    def succeeded(self) -> None:
        """Note that the part answered."""
        if self._failures >= _FAILURES_TO_OPEN:
            logger.warning("the %s answers again", self.part)
        self._failures = 0
        self._pause = _FIRST_PAUSE

    def failed(self) -> None:
        """Note that the part did not answer."""
        self._failures += 1
        if self._failures < _FAILURES_TO_OPEN:
            return
        if self._failures == _FAILURES_TO_OPEN:
            logger.warning("the %s does not answer; going on without it until it does", self.part)
        self._retry_at = self._clock.monotonic() + self._pause
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)


class Guard:
    """Runs calls to one part, each with a time limit, behind a breaker.

    Args:
        part: As users know it.
        time_limit: Seconds that one call may take.
        clock: For tests.
    """

    def __init__(self, part: str, time_limit: float, clock: Clock | None = None) -> None:
        self.breaker = Breaker(part, clock)
        self._time_limit = time_limit
        self._clock = clock or SystemClock()
        self._complains_at = 0.0

    async def __call__(self, call: Coroutine[Any, Any, T]) -> T:
        """Await a call.

        Raises:
            ReadOnlyError: The part answers, and stores nothing.
            UnavailableError: It took too long, the part said that it is out of reach, or it is known to be.
        """
        try:
            self.breaker.check()
        except UnavailableError:
            call.close()
            raise
        # What asyncio.timeout does, at a third of its price.
        task = asyncio.current_task()
        if task is None:
            call.close()
            raise RuntimeError("this must run in a task")
        limit = _Limit(task)
        timer = asyncio.get_running_loop().call_later(self._time_limit, limit.expire)
        try:
            result = await call
        except ReadOnlyError as error:
            self.breaker.succeeded()  # it answers, and reads go on
            self._complain(str(error))
            raise
        except (TimeoutError, UnavailableError) as error:
            if not isinstance(error, AlreadyCountedError):
                self.breaker.failed()
            raise UnavailableError(self.breaker.part) from error
        except asyncio.CancelledError as error:
            if not limit.is_what_cancelled:
                raise
            self.breaker.failed()
            raise UnavailableError(self.breaker.part) from error
        finally:
            timer.cancel()
            limit.end()
        self.breaker.succeeded()
        return result

    def _complain(self, message: str) -> None:
        """Log now and then what keeps happening: background work finds it out each second."""
        now = self._clock.monotonic()
        if now >= self._complains_at:
            self._complains_at = now + _BETWEEN_COMPLAINTS
            logger.warning("%s; reads go on", message)


class _Limit:
    """Cancels a task when its time is over, and takes that back."""

    __slots__ = ("_before", "_expired", "_task")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task
        self._before = task.cancelling()
        self._expired = False

    def expire(self) -> None:
        """Interrupt the task."""
        self._expired = True
        self._task.cancel()

    @property
    def is_what_cancelled(self) -> bool:
        """Whether nobody else cancelled the task meanwhile."""
        return self._expired and self._task.cancelling() - 1 <= self._before

    def end(self) -> None:
        """Let nothing be left of the interruption."""
        if self._expired:
            self._task.uncancel()


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Await work that must not stop in the middle; whoever is cancelled meanwhile waits for its end all the same.

    A task of its own is safe from every way to cancel the caller, and costs less than a shielded scope.
    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    ended: asyncio.Future[None] = loop.create_future()

    task.add_done_callback(partial(_tell, ended))  # what asyncio.shield does, at half its price
    try:
        await ended
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):
            while not task.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({task})
        raise
    return task.result()


def _tell(ended: asyncio.Future[None], task: asyncio.Task[Any]) -> None:
    if not ended.done():
        ended.set_result(None)
    elif not task.cancelled():
        task.exception()  # nobody is left to hear of it
