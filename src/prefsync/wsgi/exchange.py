"""Between a server's thread, which has a request and waits, and the event loop, where it is answered."""

from __future__ import annotations

import asyncio
import logging
import queue
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from prefsync.errors import UnavailableError
from prefsync.http import ClientGoneError, HttpResponse
from prefsync.wsgi.servers import drop_client, has_client_left, stop_reading

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from prefsync.blocking import LoopThread
    from prefsync.wsgi.servers import Environ

__all__ = ["Exchange", "HandedOver", "settle"]

logger = logging.getLogger("prefsync")

# Seconds between two looks at whether the client is still there: a thread that waits for nobody is wanted elsewhere.
_LOOK: Final = 1.0

# Nobody reads it.
_CLIENT_GONE: Final = 400


class HandedOver:
    """Stands for an answer where the connection was taken over: there is nothing to send.

    Args:
        stay: What the thread has to do until the connection ends.
    """

    __slots__ = ("stay",)

    def __init__(self, stay: Callable[[], object] | None) -> None:
        self.stay = stay


# What it returns is the answer, if it has one.
Order: TypeAlias = "Callable[[], Any]"
Work: TypeAlias = "Callable[[], Coroutine[Any, Any, HttpResponse | None]]"


class Exchange:
    """One request. The thread does what the loop orders, until one of the orders has an answer.

    Args:
        thread: Has the loop.
        environ: The request, for what the server can tell of its client.

    Attributes:
        loop: The event loop.
    """

    __slots__ = ("_client_gone", "_environ", "_is_finished", "_orders", "_task", "_thread", "loop")

    def __init__(self, thread: LoopThread, environ: Environ) -> None:
        self.loop = thread.loop
        self._thread = thread
        self._environ = environ
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._task: asyncio.Task[None] | None = None
        self._client_gone: asyncio.Future[None] | None = None
        self._is_finished = False

    # --- On the server's thread --------------------------------------------------------------------------------------

    def answer(self, work: Work) -> Any:
        """Have the request answered on the loop, and return the answer.

        Args:
            work: Answers it; what returns ``None`` has called :meth:`finish`.

        Raises:
            ConfigurationError: An event loop runs in this thread, which the wait would freeze.
            UnavailableError: The process is ending.
        """
        self._thread.refuse_loops()
        if not self.tell(self._begin, work):
            raise UnavailableError("process", message="this process is shutting down")
        try:
            while True:
                answer = self.next_order()()
                if answer is not None:
                    return answer
        except BaseException:  # the server gives the request up, say
            self.leave()
            raise

    def next_order(self) -> Order:
        """Return what to do next.

        Raises:
            UnavailableError: The loop has ended.
        """
        while True:
            try:
                return self._orders.get(timeout=_LOOK)
            except queue.Empty:
                if not self._thread.is_alive:
                    raise UnavailableError("process", message="this process is shutting down") from None
                if has_client_left(self._environ):
                    self.leave()

    def leave(self) -> None:
        """Say that the client has gone."""
        self.tell(self._leave)

    def tell(self, call: Callable[..., Any], *args: Any) -> bool:
        """Have something called on the loop, and return whether that still runs."""
        try:
            self.loop.call_soon_threadsafe(call, *args)
        except RuntimeError:
            return False
        return True

    # --- On the loop -------------------------------------------------------------------------------------------------

    def order(self, order: Order) -> None:
        """Have the thread do something."""
        self._orders.put(order)

    def finish(self, answer: Any) -> None:
        """Have the thread answer."""
        self._is_finished = True
        self.order(lambda: answer)

    async def do(self, order: Callable[[], Any]) -> Any:
        """Have the thread do something, and return what it returned."""
        done = self.loop.create_future()

        def obey() -> None:
            try:
                result = order()
            except Exception as error:  # noqa: BLE001  # raised where it was ordered
                self.tell(_fail, done, error)
            else:
                self.tell(settle, done, result)

        self.order(obey)
        return await done

    async def read(self, read: Callable[[], bytes]) -> bytes:
        """Have the thread read the body; a thread that still reads when this is cancelled is told that there is no more."""
        try:
            body: bytes = await self.do(read)
        except asyncio.CancelledError:
            stop_reading(self._environ)
            raise
        return body

    async def gone(self) -> None:
        """Return when the client has gone, as far as the server can tell."""
        if self._client_gone is None:
            self._client_gone = self.loop.create_future()
        await asyncio.shield(self._client_gone)

    def drop(self) -> None:
        """Drop the connection, with all that the client has not taken."""
        drop_client(self._environ)

    def _leave(self) -> None:
        if self._client_gone is None:
            self._client_gone = self.loop.create_future()
        settle(self._client_gone, None)

    def _begin(self, work: Work) -> None:
        self._task = self.loop.create_task(self._work(work))

    async def _work(self, work: Work) -> None:
        try:
            response = await work()
            if response is not None:
                self.finish(response)
        except ClientGoneError:
            self.finish(HttpResponse(_CLIENT_GONE))
        except asyncio.CancelledError:
            self._fail(UnavailableError("process", message="this process is shutting down"))
            raise
        except ConnectionError as error:
            logger.debug("a connection is over: %r", error)
            if not self._is_finished:
                self.finish(HttpResponse(_CLIENT_GONE))
        except Exception as error:  # noqa: BLE001  # for the thread, and the framework that has called from it
            self._fail(error)
        finally:
            # A stream whose client has left ends without a word, and its thread waits for one.
            self.order(_end)

    def _fail(self, error: Exception) -> None:
        """Have the thread raise an error; log what it will not hear of any more."""
        if self._is_finished and not isinstance(error, UnavailableError):
            logger.error("a connection failed", exc_info=error)

        def fail() -> None:
            raise error

        self.order(fail)


def _end() -> None:
    raise ConnectionResetError("the request is over")


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def settle(future: asyncio.Future[Any], result: Any) -> None:
    """Set the result of a future, on its loop; it may have been cancelled."""
    if not future.done():
        future.set_result(result)
