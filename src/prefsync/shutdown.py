"""Hearing early that the process is to end: servers wait for open connections before they tell the app."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from contextlib import contextmanager
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from types import FrameType

__all__ = ["told_to_stop"]

# By which servers, service managers, terminals (and gunicorn, of its workers) ask a process to end; not each system
# has all of them.
_SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGQUIT", "SIGBREAK") if hasattr(signal, name)
)


# Seconds that a server which takes signals from the event loop is held back, and the loop with it.
_HOLD: Final = 0.1


@contextmanager
def told_to_stop(
    begin: Callable[[], None], finish: Callable[[], Coroutine[Any, Any, None]]
) -> Iterator[None]:
    """Do some work, which must not take long, when the process is asked to end, and let the server hear of it then.

    The handlers that are there, the server's, run when the work is done; at once where a signal comes again. A server
    that takes signals from the event loop (``loop.add_signal_handler``), as granian does, hears of it after the first
    part of the work and a moment in which it can send what it was given, from threads of its own.

    Nothing is done where there are no handlers, or outside of the main thread, where Python allows none: there the host
    has to say it (``prefsync.drain()``).

    Args:
        begin: The first part of the work.
        finish: The rest.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    chain = _Chain(asyncio.get_running_loop(), begin, finish)
    chain.put()
    try:
        yield
    finally:
        chain.take_away()


class _Chain:
    """Handlers before those that are there.

    Args:
        loop: Where the work is done.
        begin: What is done first.
        finish: What is done then.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        begin: Callable[[], None],
        finish: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self._loop = loop
        self._first = begin
        self._finish = finish
        self._before: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._is_on = True
        self._is_working = False
        self._task: asyncio.Task[None] | None = None

    def put(self) -> None:
        """Put a handler before each that is there."""
        for number in _SIGNALS:
            before = signal.getsignal(number)
            # The default action and "ignore" are no functions: a handler in their place would change what the signal
            # does.
            if callable(before):
                self._before[number] = before
                signal.signal(number, self._handle)

    def take_away(self) -> None:
        """Take the handlers away, as far as nobody has put others before them."""
        self._is_on = False
        for number, before in self._before.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, before)
        if self._task is not None:
            self._task.cancel()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        before = self._before[number]
        if not self._is_on or self._is_working or self._loop.is_closed():
            before(number, frame)
            return
        self._is_working = True
        if self._is_the_loops(before):
            before(number, frame)
            self._loop.call_soon_threadsafe(self._begin, None)
        else:
            self._loop.call_soon_threadsafe(self._begin, partial(before, number, frame))

    def _is_the_loops(self, handler: Callable[[int, FrameType | None], Any]) -> bool:
        """Tell whether a handler is there because one was added to the loop: uvloop's own, or asyncio's, a dummy."""
        return getattr(handler, "__self__", None) is self._loop or (
            isinstance(handler, FunctionType) and handler.__module__.startswith("asyncio.")
        )

    def _begin(self, afterwards: Callable[[], Any] | None) -> None:
        self._first()
        if afterwards is None:
            # What was added to the loop is called after this, in the order in which the loop was told.
            time.sleep(_HOLD)
        self._task = self._loop.create_task(self._finish())
        # In a callback and not in the task: a handler may raise KeyboardInterrupt, which is to leave the loop.
        self._task.add_done_callback(lambda _: self._end(afterwards))

    def _end(self, afterwards: Callable[[], Any] | None) -> None:
        self._is_working = False
        if afterwards is not None:
            afterwards()
