"""One writer at a time for each subject in this process, in the order they came."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Turn", "Turns"]

T = TypeVar("T")


class Turns(Generic[T]):
    """Hands out turns.

    Concurrent writers would lose races to one another, and each lost race costs two statements.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, deque[_Waiter[T]] | None] = {}

    async def take(self, key: str, task: T) -> Turn[T] | None:
        """Wait for a turn.

        Args:
            key: Of the subject.
            task: What it is wanted for, for the one before, who may do it along with his own.

        Returns:
            The turn, or ``None`` where the one before has tried to do the task along with his own.
        """
        if key not in self._waiting:
            self._waiting[key] = None
            return Turn(self, key)
        waiting = self._waiting[key]
        if waiting is None:
            waiting = self._waiting[key] = deque()
        waiter = _Waiter(task)
        waiting.append(waiter)
        try:
            return Turn(self, key) if await waiter.is_my_turn else None
        except asyncio.CancelledError:
            told = waiter.is_my_turn
            if told.done() and not told.cancelled() and told.result():
                self.give_to_next(key)  # it was this one's turn, and it does not take it
            raise

    def give_to_next(self, key: str) -> None:
        """End a turn."""
        waiting = self._waiting[key]
        while waiting:
            turn = waiting.popleft().is_my_turn
            if not turn.done():
                turn.set_result(True)
                return
        del self._waiting[key]

    def take_along(self, key: str, most: int, fits: Callable[[T], bool]) -> list[_Waiter[T]]:
        """Remove those who are next from the queue, as long as they fit."""
        waiting = self._waiting[key]
        taken: list[_Waiter[T]] = []
        while waiting and len(taken) < most:
            if not waiting[0].is_my_turn.done():
                if not fits(waiting[0].task):
                    break
                taken.append(waiting[0])
            waiting.popleft()
        return taken


class _Waiter(Generic[T]):
    """Somebody who waits for a turn."""

    __slots__ = ("is_my_turn", "task")

    def __init__(self, task: T) -> None:
        self.task = task
        self.is_my_turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()


class Turn(Generic[T]):
    """A subject's turn, until it is ended."""

    __slots__ = ("_along", "_key", "_turns")

    def __init__(self, turns: Turns[T], key: str) -> None:
        self._turns: Turns[T] | None = turns
        self._key = key
        self._along: tuple[_Waiter[T], ...] = ()

    def take_along(self, most: int, fits: Callable[[T], bool]) -> list[T]:
        """Return the tasks of those who are next, as long as they fit; they wait for :meth:`dismiss`."""
        if self._turns is not None:
            self._along = (*self._along, *self._turns.take_along(self._key, most, fits))
        return [waiter.task for waiter in self._along]

    def end(self) -> None:
        """Let the next one write; does nothing when called again."""
        turns, self._turns = self._turns, None
        if turns is not None:
            turns.give_to_next(self._key)

    def dismiss(self) -> None:
        """Let those go on whose tasks were taken along."""
        along, self._along = self._along, ()
        for waiter in along:
            if not waiter.is_my_turn.done():
                waiter.is_my_turn.set_result(False)
