"""An event loop on a thread of its own, for the blocking client.

Only there can a time limit, or a close from another thread, interrupt whatever is under way: a blocking read of a
socket waits for as long as single bytes keep coming.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from prefsync.forks import keep_for_ever

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Future

    from prefsync.client.network import Network

__all__ = ["NetworkThread"]

T = TypeVar("T")

# Seconds that the thread may take to begin and to end.
_LIMIT = 5.0


class NetworkThread:
    """Runs coroutines of a network for threads that wait; started by the first, forgotten by a forked child.

    Args:
        connect: Makes the network, on the loop.
        after_fork: What else a forked child has to do.
    """

    def __init__(self, connect: Callable[[], Network], *after_fork: Callable[[], None]) -> None:
        self._connect = connect
        self._after_fork = after_fork
        self._lock = threading.Lock()
        self._running: _Running | None = None
        self._is_closed = False
        _ALL.add(self)

    def submit(self, work: Callable[[Network], Coroutine[Any, Any, T]]) -> Future[T]:
        """Start work on the loop.

        Raises:
            RuntimeError: This is closed.
        """
        with self._lock:
            if self._is_closed:
                raise RuntimeError("this client is closed")
            if self._running is None:
                self._running = _Running(self._connect)
            running = self._running
            return asyncio.run_coroutine_threadsafe(work(running.network), running.loop)

    def close(self) -> None:
        """Cancel all that is under way, close the network and end the thread."""
        with self._lock:
            self._is_closed = True
            running, self._running = self._running, None
        if running is not None:
            running.stop()

    def forget(self) -> None:
        """Begin anew: the thread has stayed in the parent process."""
        if self._running is not None:
            keep_for_ever(self._running)
        self._lock = threading.Lock()
        self._running = None
        for renew in self._after_fork:
            renew()


class _Running:
    """A thread with a loop and a network."""

    def __init__(self, connect: Callable[[], Network]) -> None:
        self._connect = connect
        self._is_ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prefsync-client", daemon=True)
        self._thread.start()
        if not self._is_ready.wait(_LIMIT):
            raise RuntimeError("the client's thread does not start")

    def stop(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended with the interpreter
            self.loop.call_soon_threadsafe(self._stopping.set)
        if threading.current_thread() is not self._thread:  # it may be there that the garbage is collected
            self._thread.join(_LIMIT)

    def _run(self) -> None:
        with asyncio.Runner() as runner:  # cancels at its end what still runs
            runner.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self.network = self._connect()
        self._is_ready.set()
        await self._stopping.wait()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=_LIMIT)
        await self.network.aclose()


_ALL: WeakSet[NetworkThread] = WeakSet()


def _forget_all() -> None:
    for thread in list(_ALL):
        thread.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
