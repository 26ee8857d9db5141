"""Operations on the host's own sync engine, each in one hop to a worker thread."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread
from sqlalchemy.pool import QueuePool, StaticPool

from prefsync.adapters.sqlalchemy.runners import Calls, errors_of_ours, reading_options, transact
from prefsync.errors import UnavailableError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

    from prefsync.adapters.sqlalchemy.operations import Operation

__all__ = ["EngineRunner"]

T = TypeVar("T")


class EngineRunner:
    """Runs operations on a sync engine, in threads of its own number.

    Args:
        engine: Of any driver; the host's to dispose of.
        most: The most threads, where the engine's pool does not say how many connections it keeps.
    """

    def __init__(self, engine: Engine, most: int) -> None:
        self._reading = engine.execution_options(**reading_options(engine.dialect))
        self._writing = engine.execution_options(prefsync_write=True)
        self._engine = engine
        # Those beyond would only wait for a connection. What the pool opens beyond its size is left to the host.
        self._threads = anyio.CapacityLimiter(_connections_kept(engine) or most)
        self._calls = Calls()

    async def run(self, operation: Operation[T], *, atomic: bool = False) -> T:
        await anyio.lowlevel.checkpoint_if_cancelled()
        call = _Call(self._writing if atomic else self._reading, operation, atomic=atomic)
        with errors_of_ours():
            return await self._calls.to_its_end(
                anyio.to_thread.run_sync(call.run, limiter=self._threads), call.give_up
            )

    async def close(self) -> None:
        await self._calls.ended()


def _connections_kept(engine: Engine) -> int:
    pool = engine.pool
    if isinstance(pool, StaticPool):
        return 1
    return pool.size() if isinstance(pool, QueuePool) else 0


class _Call(Generic[T]):
    """One operation on its way through a thread.

    Args:
        engine: With the options that the operation needs.
        operation: What to do.
        atomic: All of its statements in one transaction.
    """

    def __init__(self, engine: Engine, operation: Operation[T], *, atomic: bool) -> None:
        self._engine = engine
        self._operation = operation
        self._atomic = atomic
        self._lock = threading.Lock()
        self._has_begun = False
        self._is_given_up = False
        self._socket: socket.socket | None = None

    def run(self) -> T:
        """Do all of it; in the thread."""
        self._has_begun = True
        with self._engine.connect() as connection, self._abandonable(connection):
            return transact(connection, self._operation, atomic=self._atomic)

    def give_up(self, task: asyncio.Task[T]) -> None:
        """Let the thread end soon: nobody waits for it any more.

        A driver may wait for ever for a server that is silent. Its thread would be lost, and so would be the
        connection, which is one of the host's.
        """
        with self._lock:
            self._is_given_up = True
            if self._socket is not None:
                with suppress(OSError):  # the server has closed it already
                    self._socket.shutdown(socket.SHUT_RDWR)
        if not self._has_begun:
            task.cancel()

    @contextmanager
    def _abandonable(self, connection: Connection) -> Iterator[None]:
        ours = _socket_of(connection)
        try:
            with self._lock:
                if self._is_given_up:  # after a long wait for a connection: nothing may happen any more
                    raise UnavailableError("database")
                self._socket = ours
            yield
        finally:
            with self._lock:
                self._socket = None
            if ours is not None:
                ours.close()
                if self._is_given_up:
                    connection.invalidate()


def _socket_of(connection: Connection) -> socket.socket | None:
    """Return another handle of the socket that a connection is on, if it is on one and its driver tells which.

    It stays that socket's own whatever the driver does: the number of one that is closed is soon another's.
    """
    driver: Any = connection.connection.driver_connection
    number = getattr(driver, "fileno", None)
    if number is None:
        return None
    return socket.fromfd(number(), socket.AF_INET, socket.SOCK_STREAM)
