"""A runtime for code that blocks: opened on the process's event loop with its first use."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from prefsync.blocking.handle import BlockingPreferencesHandle
from prefsync.blocking.loop import LoopUser, loop_thread
from prefsync.blocking.transactions import within
from prefsync.errors import UnavailableError, UnusableDatabaseError
from prefsync.schema import listed
from prefsync.wiring import Runtime

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session, scoped_session

    from prefsync.blocking.loop import LoopThread
    from prefsync.blocking.transactions import BlockingTransactionPreferences
    from prefsync.clock import Clock
    from prefsync.document import Subject
    from prefsync.health import Health
    from prefsync.http.options import ApiOptions
    from prefsync.parts import Parts
    from prefsync.schema import PreferencesModel
    from prefsync.settings import Settings
    from prefsync.strictjson import Limits

__all__ = ["BlockingRuntime"]

logger = logging.getLogger("prefsync")

T = TypeVar("T")

# Seconds that opening may take, and closing: farewells to open streams are a part of it.
_OPEN_LIMIT: Final = 30.0
_CLOSE_LIMIT: Final = 8.0

# Seconds after an opening that failed in which no other is tried: each would hold a caller up for as long.
_FAILED_PAUSE: Final = 1.0


class BlockingRuntime(LoopUser):
    """Preferences for scripts, task workers and frameworks whose code blocks: Celery, Django's views, a shell.

    Nothing is opened before the first use. All threads of the process share what is open; a forked child forgets
    it and opens its own. What was not closed is closed when the interpreter ends. Also a context manager.

    Args:
        models: The namespaces: subclasses of ``Preferences`` and ``OpenPreferences``.
        settings: From the environment (``PREFSYNC_...``) where left out.
        parts: Adapters built by hand; engines may be sync ones.
        limits: How large documents may be.
        options: What a host can settle about the protocol.
        authenticates: Whether tokens are verified here, which needs a key; a script has no use for that.
        socketio: Whether Socket.IO is served.
        clock: For tests.

    Raises:
        ConfigurationError: Something cannot work as it was set up.

    Example:
        ```python
        preferences = BlockingRuntime([Appearance])
        theme = preferences.handle(Subject("anna")).get(Appearance).theme
        ```
    """

    def __init__(
        self,
        models: Iterable[PreferencesModel],
        *,
        settings: Settings | None = None,
        parts: Parts | None = None,
        limits: Limits | None = None,
        options: ApiOptions | None = None,
        authenticates: bool = False,
        socketio: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self._make = partial(
            Runtime,
            listed(models),
            settings=settings,
            parts=parts,
            limits=limits,
            options=options,
            authenticates=authenticates,
            socketio=socketio,
            clock=clock,
        )
        self._runtime = self._make()
        self._lock = threading.Lock()
        self._thread: LoopThread | None = None
        self._is_open = False
        self._failure: tuple[float, UnavailableError] | None = None
        super().__init__()

    @property
    def runtime(self) -> Runtime:
        """What is behind it; its coroutines run on the process's loop alone, by :meth:`call`."""
        return self._runtime

    def open(self) -> Runtime:
        """Open everything, unless that is done.

        Raises:
            ConfigurationError: An event loop runs in this thread; or something cannot work as it was set up.
            UnavailableError: The database is out of reach.
        """
        if not self._is_open:
            thread = loop_thread()
            thread.refuse_loops()
            with self._lock:
                if not self._is_open:
                    self._refuse_haste()
                    self._thread = thread
                    try:
                        thread.call(self._enter(), limit=_OPEN_LIMIT)
                    except UnavailableError as error:
                        self._failure = time.monotonic(), error
                        raise
                    except UnusableDatabaseError as error:
                        # Told here and not to clients: it names the server. Another try may well succeed.
                        logger.error("%s", error)  # noqa: TRY400  # it is one line that says all
                        failure = UnavailableError("database")
                        self._failure = time.monotonic(), failure
                        raise failure from error
                    self._is_open = True
        return self._runtime

    def _refuse_haste(self) -> None:
        if self._failure is not None and time.monotonic() - self._failure[0] < _FAILED_PAUSE:
            raise UnavailableError(self._failure[1].part) from self._failure[1]

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of the runtime's where it belongs, and return what it returns.

        Raises:
            ConfigurationError: An event loop runs in this thread, which the wait would freeze.
            UnavailableError: The database is out of reach, or there was no answer in time.
        """
        try:
            self.open()
        except BaseException:
            work.close()
            raise
        return loop_thread().call(work)

    def revoke(
        self,
        *,
        token: str | None = None,
        token_id: str | None = None,
        subject: Subject | None = None,
        until: float | None = None,
    ) -> None:
        """Refuse tokens from now on, and end the streams they have opened, in this process: see ``Runtime.revoke``."""

        async def revoke() -> None:
            self._runtime.revoke(token=token, token_id=token_id, subject=subject, until=until)

        self.call(revoke())

    def handle(self, subject: Subject) -> BlockingPreferencesHandle:
        """Return a subject's typed handle."""
        return BlockingPreferencesHandle(self, subject)

    def within(
        self, transaction: Session | Connection | scoped_session[Any]
    ) -> AbstractContextManager[BlockingTransactionPreferences]:
        """Read and write preferences inside a transaction of the host's: with its rows, or not at all.

        ``with preferences.within(session) as mine: mine.of("anna").update(Appearance, theme="dark")``. The host commits,
        in the block or after it. Then the cache and everybody's sessions are told, which ``commit`` waits for.

        Args:
            transaction: A session or connection of SQLAlchemy's, in the database that preferences are kept in.

        Raises:
            ConfigurationError: It is none, or in another database; or an event loop runs in this thread.
            UnavailableError: The database is out of reach.
        """
        return within(self.open(), transaction)

    def health(self) -> Health:
        """Return how this process stands; see :meth:`Runtime.health`. Opens nothing."""
        return self._runtime.health()

    def close(self) -> None:
        """Close what was opened; the next use opens it again.

        Raises:
            ConfigurationError: An event loop runs in this thread.
            UnavailableError: Another thread is opening it, and does not come to an end.
        """
        if self._thread is not None:
            self._thread.refuse_loops()
        if not self._lock.acquire(timeout=_CLOSE_LIMIT):
            raise UnavailableError("process", message="this is being opened by another thread")
        try:
            if self._is_open and self._thread is not None:
                self._is_open = False
                self._thread.call(self._leave(), limit=_CLOSE_LIMIT)
        finally:
            self._lock.release()

    async def _enter(self) -> None:
        await self._runtime.__aenter__()

    async def _leave(self) -> None:
        await self._runtime.__aexit__()

    def abandon(self) -> None:
        """See ``LoopUser``: a child's parts are made anew, from the same settings."""
        self._lock = threading.Lock()
        self._failure = None
        self._is_open = False
        if self._thread is not None:  # be it that it was closed since, or is half open
            self._thread = None
            self._runtime.abandon()
            self._runtime = self._make()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
