"""Coroutines that are run as far as they come without waiting before they cost a task or a timer."""

from __future__ import annotations

import asyncio
import sys
from types import coroutine
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

__all__ = ["start_eagerly", "within"]

T = TypeVar("T")


def start_eagerly(work: Coroutine[Any, Any, None], *, is_plain: bool) -> asyncio.Task[None] | None:
    """Run work as far as it comes without waiting, and the rest as a task, if there is any.

    Nearly everything is sent without waiting, and a task for each of a thousand sessions costs as much as the sending.
    Before Python 3.12 the first part runs in the caller's task; where the work minds that, all of it is a task.
    """
    if sys.version_info >= (3, 12):
        task = asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True)
        return None if task.done() else task
    if not is_plain:
        return asyncio.create_task(work)
    try:
        waiting = work.send(None)
    except StopIteration:
        return None
    return asyncio.create_task(_finish(work, waiting))


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """Return what some work returns; where it has to wait for something, after so many seconds at most.

    The limit is asyncio's own: a cancel scope that is entered after the work has begun would not nest with the work's.

    Raises:
        TimeoutError: It took longer.
    """
    try:
        waiting = work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    async with asyncio.timeout(seconds):
        return await _finish(work, waiting)


@coroutine
def _finish(work: Coroutine[Any, Any, T], waiting: Any) -> Generator[Any, Any, T]:
    """Go on with a coroutine that was begun by hand and waits for something."""
    try:
        while True:
            try:
                result = yield waiting
            except BaseException as error:  # noqa: BLE001  # a cancellation too is the work's to deal with
                waiting = work.throw(error)
            else:
                waiting = work.send(result)
    except StopIteration as done:
        finished: T = done.value
        return finished
