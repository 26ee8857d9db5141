"""One piece of work for all who want its result at the same time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from prefsync.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable

__all__ = ["Flights"]

T = TypeVar("T")


class Flights(Generic[T]):
    """Lets those who want the same thing at the same time wait for one task; whoever stops waiting stops nobody else."""

    def __init__(self) -> None:
        self._tasks: dict[Hashable, asyncio.Task[T]] = {}

    def is_under_way(self, key: Hashable) -> bool:
        """Tell whether somebody waits for a thing."""
        return key in self._tasks

    async def share(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the result of the work that is under way, or of this.

        Args:
            key: What is wanted.
            work: Begun where nobody else has.

        Raises:
            UnavailableError: The work was given up by :meth:`aclose`.
        """
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.get_running_loop().create_task(work())
            task.add_done_callback(partial(self._land, key))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and not _is_cancelled():
                raise UnavailableError("issuer") from None
            raise

    async def aclose(self) -> None:
        """Give up all work."""
        for task in list(self._tasks.values()):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task

    def _land(self, key: Hashable, task: asyncio.Task[T]) -> None:
        del self._tasks[key]
        if not task.cancelled():
            task.exception()  # retrieved, for the case that all who waited have gone


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
