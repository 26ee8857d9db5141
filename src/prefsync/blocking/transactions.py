"""Preferences inside a transaction of a host whose code blocks: in the thread that has the transaction."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from prefsync.blocking.handle import BlockingPreferencesHandle
from prefsync.document import Identity

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session, scoped_session

    from prefsync.document import Subject
    from prefsync.transactions import TransactionPreferences
    from prefsync.wiring import Runtime

__all__ = ["BlockingTransactionPreferences", "within"]

T = TypeVar("T")


class BlockingTransactionPreferences:
    """Everybody's preferences, read and written inside a transaction of the host's.

    Args:
        runtime: The same with coroutines, none of which waits for an event loop.
    """

    def __init__(self, runtime: TransactionPreferences) -> None:
        self.runtime = runtime

    def of(self, user: str | Subject) -> BlockingPreferencesHandle:
        """Return somebody's typed handle.

        Args:
            user: The id of a user, or a subject.
        """
        return BlockingPreferencesHandle(self, Identity.of(user).subject)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine here and now: what it waits for is done in this thread, by the host's own driver."""
        try:
            work.send(None)
        except StopIteration as done:
            result: T = done.value
            return result
        work.close()
        raise RuntimeError("this needs an event loop")


@contextmanager
def within(
    runtime: Runtime, transaction: Session | Connection | scoped_session[Any]
) -> Iterator[BlockingTransactionPreferences]:
    """See ``BlockingRuntime.within``; for an open runtime, whatever loop that is on."""
    preferences = BlockingTransactionPreferences(runtime.transactions.join(transaction))
    yield preferences
    preferences.call(preferences.runtime.told())
