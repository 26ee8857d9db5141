"""SQLite in forked processes: what the parent had open is closed before the child opens anything.

SQLite notes in memory which locks its process holds on a file, and a fork copies the note without the locks: the child's
own connections would go without them, and lose writes when the parent closes the file
(https://www.sqlite.org/howtocorrupt.html, section 2.6). Closing what rests takes the note away and does nothing to the
file; closing what is in the middle of something would. So a fork waits a moment for a rest.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Self
from weakref import WeakSet

from prefsync.errors import ConfigurationError
from prefsync.forks import keep_for_ever

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ForkAwareConnection", "close_inherited"]

# Seconds that a fork waits for transactions to end; ours take milliseconds unless another process writes, too.
_REST_LIMIT: Final = 1.0

# Seconds that closing may take: what the host's own threads did with SQLite can have left locks that stay shut.
_CLOSE_LIMIT: Final = 1.0

_OPEN: Final[WeakSet[ForkAwareConnection]] = WeakSet()
_INHERITED: Final[list[ForkAwareConnection]] = []


class ForkAwareConnection(sqlite3.Connection):
    """A connection that is known here for as long as it lives, and that says when it is at work."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.calls = 0
        _OPEN.add(self)

    @property
    def is_at_work(self) -> bool:
        """Whether a thread is inside of SQLite with it, or there is a transaction on it."""
        try:
            return self.calls > 0 or self.in_transaction
        except sqlite3.ProgrammingError:  # closed
            return False

    @contextmanager
    def working(self) -> Iterator[None]:
        """Be at work."""
        self.calls += 1
        try:
            yield
        finally:
            self.calls -= 1

    def cursor(self, factory: Any = None) -> Any:
        """See the base class."""
        return super().cursor(factory or _Cursor)

    def commit(self) -> None:
        """See the base class."""
        with self.working():
            super().commit()

    def rollback(self) -> None:
        """See the base class."""
        with self.working():
            super().rollback()


class _Cursor(sqlite3.Cursor):
    def execute(self, *args: Any) -> Self:
        with self.connection.working():  # type: ignore[attr-defined]  # a connection of the class above made it
            try:
                return super().execute(*args)
            except sqlite3.Error:
                # Here and not when it is collected, in whichever thread that is: a cursor that still has its statement
                # waits there for whatever its connection is doing, which may be waiting for the file to be free. That
                # thread was the event loop's (SQLAlchemy 2.0 leaves cursors open whose statement failed).
                self.close()
                raise


def close_inherited() -> None:
    """Close what was open in the process that this one was forked from.

    Raises:
        ConfigurationError: It was in the middle of something.
    """
    closing = threading.Thread(target=_close_those_at_rest, name="prefsync-closing", daemon=True)
    closing.start()
    closing.join(_CLOSE_LIMIT)
    if _INHERITED:
        raise ConfigurationError(
            "this process was forked in the middle of work on a SQLite file, which it cannot use for that reason:"
            " fork before anything is read or written, or use PostgreSQL"
        )


def _close_those_at_rest() -> None:
    for connection in list(_INHERITED):
        if not connection.is_at_work:
            with suppress(sqlite3.Error):  # in memory, and so of one thread: a copy that nobody else has
                connection.close()
            _INHERITED.remove(connection)


def _wait_for_rest() -> None:
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        return  # whose transactions would have to go on in this thread
    end = time.monotonic() + _REST_LIMIT
    while any(connection.is_at_work for connection in list(_OPEN)) and time.monotonic() < end:
        time.sleep(0.000_5)


def _inherit() -> None:
    _INHERITED.extend(_OPEN)
    _OPEN.clear()
    keep_for_ever(*_INHERITED)  # collected, they would be closed whatever they were at


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_wait_for_rest, after_in_child=_inherit)
