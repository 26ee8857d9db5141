"""The one event loop of a process for all callers that block: on a thread of its own, begun with the first call."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import logging
import os
import sys
import threading
from abc import ABC, abstractmethod
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakSet

from prefsync.errors import ConfigurationError, UnavailableError
from prefsync.forks import keep_for_ever

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["LoopThread", "LoopUser", "loop_thread"]

logger = logging.getLogger("prefsync")

T = TypeVar("T")

# Seconds that a blocking call may take. All that it waits for has shorter limits: this one is for faults.
_CALL_LIMIT: Final = 15.0

# Seconds that the thread may take to begin, and to end.
_THREAD_LIMIT: Final = 10.0


class LoopThread:
    """An event loop on a daemon thread, for which other threads wait.

    A portal that anyio starts by itself would hang the interpreter at its end, and a forked child that drops it.

    Attributes:
        loop: The event loop.
    """

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop
        self._ident = 0
        self._stopping: asyncio.Event
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prefsync", daemon=True)
        self._thread.start()
        if not self._ready.wait(_THREAD_LIMIT):
            raise UnavailableError("process", message="the event loop's thread does not begin")

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._thread.is_alive()

    def call(self, work: Coroutine[Any, Any, T], *, limit: float | None = _CALL_LIMIT) -> T:
        """Run a coroutine on the loop, and return what it returns.

        Args:
            work: The coroutine.
            limit: Seconds after which it is cancelled; ``None``: never.

        Raises:
            ConfigurationError: An event loop runs in this thread, which the wait would freeze.
            UnavailableError: It took too long, or the process is ending.
        """
        try:
            self.refuse_loops()
            future = asyncio.run_coroutine_threadsafe(work, self.loop)
        except ConfigurationError:
            work.close()
            raise
        except RuntimeError as error:  # the loop is closed
            work.close()
            raise UnavailableError("process", message="this process is shutting down") from error
        try:
            return future.result(limit)
        except TimeoutError:
            if future.done():  # it is the work's own
                raise
            raise UnavailableError("process", message=f"there was no answer within {limit:g} s") from None
        except (asyncio.CancelledError, concurrent.futures.CancelledError):
            raise UnavailableError("process", message="this process is shutting down") from None
        finally:
            future.cancel()  # does nothing to what has ended

    def refuse_loops(self) -> None:
        """Raise where a wait would freeze an event loop.

        Raises:
            ConfigurationError: One runs in this thread.
        """
        running = asyncio._get_running_loop()  # noqa: SLF001  # get_running_loop without the price of an exception
        # Under gevent all threads are one to asyncio, and our own loop seems to run in every one of them.
        if running is None or (running is self.loop and threading.get_ident() != self._ident):
            return
        raise ConfigurationError(
            "an event loop runs in this thread, and a blocking call would freeze it: in async code use prefsync.Runtime"
            " and its handles, or move the call to another thread (asyncio.to_thread)"
        )

    def stop(self) -> None:
        """End the thread; what still runs on it is cancelled."""
        if self._thread.is_alive() and threading.get_ident() != self._ident:
            self.loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(_THREAD_LIMIT)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._ident = threading.get_ident()
        self._stopping = asyncio.Event()
        self._ready.set()
        await self._stopping.wait()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return uvloop's where it is there; under gevent, whose threads are one, it would block them all."""
    monkey = sys.modules.get("gevent.monkey")
    is_patched = monkey is not None and monkey.is_module_patched("threading")
    if is_patched or find_spec("uvloop") is None:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = import_module("uvloop").new_event_loop
    return factory


class LoopUser(ABC):
    """Something that has things open on the loop, and is told when the process ends or turns out to be a child."""

    def __init__(self) -> None:
        _users.add(self)

    @abstractmethod
    def close(self) -> None:
        """Close them."""

    @abstractmethod
    def abandon(self) -> None:
        """Forget them, closing nothing: they, and the loop's thread, are the parent process's."""


_lock = threading.Lock()
_current: LoopThread | None = None
_is_ending = False
_users: WeakSet[LoopUser] = WeakSet()


def loop_thread() -> LoopThread:
    """Return this process's thread; begin it if there is none yet.

    Raises:
        UnavailableError: It does not begin, or the process is ending: what was opened now would never be closed.
    """
    global _current  # noqa: PLW0603  # one a process
    current = _current
    if _is_ending:
        raise UnavailableError("process", message="this process is shutting down")
    if current is not None and current.is_alive:
        return current
    with _lock:
        if _current is None or not _current.is_alive:
            _current = LoopThread()
            atexit.unregister(_end)
            atexit.register(_end)  # anew, so that it comes before what the host registered until now
        return _current


def _end() -> None:
    """End with the process: sessions are told, connections closed, and nothing is waited for long."""
    global _is_ending  # noqa: PLW0603
    _is_ending = True
    for user in list(_users):
        try:
            user.close()
        except Exception as error:  # noqa: BLE001  # the others are to be closed too
            logger.warning("not all could be closed: %s", error)
    if _current is not None:
        _current.stop()


def _begin_anew() -> None:
    """Forget, in a forked child, what only the parent has."""
    global _current, _is_ending, _lock  # noqa: PLW0603
    _is_ending = False
    _lock = threading.Lock()  # another thread of the parent's may have held it
    if _current is not None:
        keep_for_ever(_current)
        _current = None
    for user in list(_users):
        user.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
