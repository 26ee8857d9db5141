"""Hearing early that the process is to end: servers wait for open connections before they tell the app."""

from __future__ import annotations

import asyncio
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

__all__ = ["told_to_stop"]

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def told_to_stop(call: Callable[[], None]) -> Iterator[None]:
    """Call something on this event loop as soon as the process is asked to end.

    The handlers that are there, the server's, run as before. Nothing is done where there are none, or outside of the
    main thread, where Python allows no handlers: there the host has to say it (``prefsync.drain()``).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    restores = [_chain(number, loop, call) for number in _SIGNALS]
    try:
        yield
    finally:
        for restore in restores:
            restore()


def _chain(number: int, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> Callable[[], None]:
    """Put a handler before the one that is there, and return what takes it away."""
    before = signal.getsignal(number)
    is_on = True

    def handle(received: int, frame: FrameType | None) -> None:
        if is_on and not loop.is_closed():
            loop.call_soon_threadsafe(call)
        if callable(before):
            before(received, frame)

    def restore() -> None:
        nonlocal is_on
        is_on = False
        if signal.getsignal(number) is handle:
            signal.signal(number, before)

    # The default action and "ignore" are no functions: a handler in their place would change what the signal does.
    if not callable(before):
        return restore
    signal.signal(number, handle)
    return restore
