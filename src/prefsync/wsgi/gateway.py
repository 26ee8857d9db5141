"""What a mount in a WSGI framework stands on: requests in, answers out, from the server's threads."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

from prefsync.blocking import BlockingRuntime, loop_thread
from prefsync.errors import ConfigurationError, PrefsyncError, UnavailableError
from prefsync.http import SOCKET_IO_PATHS
from prefsync.wsgi.exchange import Exchange
from prefsync.wsgi.requests import discard_body, is_encrypted, is_upgrade, request_from
from prefsync.wsgi.servers import is_told_to_stop, keep_pipe, threads_of
from prefsync.wsgi.streams import Stream, StreamSink

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefsync.document import Identity
    from prefsync.http import HttpRequest, HttpResponse
    from prefsync.wsgi.servers import Environ
    from prefsync.wsgi.streams import Answer

__all__ = ["WsgiGateway"]

# Seconds between two looks at whether the server is to end this process.
_LOOK: Final = 0.25

# Seconds after which a client that found no free thread does well to come back.
_RETRY_AFTER: Final = 5


class WsgiGateway(BlockingRuntime):
    """Answers a WSGI server's requests; also the runtime behind them.

    A stream of events holds a thread of the server's for as long as it lasts, a long poll while it waits. So only half
    of the threads may be held so; ``max_waiting`` settles another number.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting = _Waiting()
        self._watching: asyncio.Task[None] | None = None

    def answer(
        self,
        environ: Environ,
        path: str,
        read: Callable[[int], bytes],
        identity: Identity | None = None,
    ) -> Answer:
        """Answer a request; in the thread that has it.

        Args:
            environ: The request.
            path: Below the mount's prefix, decoded.
            read: Reads its body, at most so many bytes and one.
            identity: Who calls, where the host's own authentication has found out.

        Raises:
            ConfigurationError: An event loop runs in this thread; or something cannot work as it was set up.
        """
        try:
            return self._answer(environ, path, read, identity)
        except ConfigurationError:
            raise  # which no client can do anything about
        except PrefsyncError as error:
            return self.refuse(environ, error)
        finally:
            discard_body(environ)

    def _answer(
        self, environ: Environ, path: str, read: Callable[[int], bytes], identity: Identity | None
    ) -> Answer:
        self.open()
        exchange = Exchange(loop_thread(), environ)
        request = request_from(environ, path, exchange, read)
        if (refusal := self.runtime.api.refusal(request)) is not None:
            return refusal  # which waits for no thread
        if is_upgrade(environ):
            answered: Answer = exchange.answer(partial(self._connect, exchange, environ, request, identity))
            return answered
        work: Callable[[], Answer] = partial(
            exchange.answer, partial(self._handle, exchange, request, identity)
        )
        if not _may_wait(request):
            return work()
        return self._waiting.answer(environ, work, self.runtime.settings.max_waiting)

    def refuse(self, environ: Environ, error: PrefsyncError) -> HttpResponse:
        """Answer a request with an error."""
        api = self.runtime.api
        response = api.admission.refuse(error)
        response.headers += api.told(is_encrypted=is_encrypted(environ))
        return response

    def refusal(self, environ: Environ) -> HttpResponse | None:
        """Return the answer to a request that is refused before the host's own authentication is asked."""
        api = self.runtime.api
        if api.https_only is None:
            return None
        return api.refusal(request_from(environ, "", Exchange(loop_thread(), environ), _unread))

    def identify(self, environ: Environ) -> Identity:
        """Return who calls, by the bearer token of a request of the host's own.

        Raises:
            ConfigurationError: An event loop runs in this thread.
            HttpsRequiredError: It came over plain HTTP, which the host refuses.
            UnauthenticatedError: There is no token, or it is not good.
            RateLimitedError: Too many bad ones came from this address.
            UnavailableError: The database is out of reach.
        """
        api = self.open().api
        return self.call(
            api.authenticate(request_from(environ, "", Exchange(loop_thread(), environ), _unread))
        )

    async def _handle(
        self, exchange: Exchange, request: HttpRequest, identity: Identity | None
    ) -> HttpResponse | None:
        response = await self.runtime.api.handle(request, identity)
        if response.stream is None:
            return response
        await response.stream(StreamSink(exchange))
        return None

    async def _connect(
        self, exchange: Exchange, environ: Environ, request: HttpRequest, identity: Identity | None
    ) -> HttpResponse | None:
        from prefsync.wsgi.sockets import WsgiSocket  # whose library is an extra's

        await self.runtime.api.connect(WsgiSocket(exchange, environ, request), identity)
        return None

    async def _enter(self) -> None:
        await super()._enter()
        keep_pipe()
        self._watching = asyncio.create_task(self._watch())

    async def _leave(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        await super()._leave()

    def abandon(self) -> None:
        """See ``LoopUser``: the requests that wait are the parent's."""
        super().abandon()
        self._waiting = _Waiting()
        self._watching = None

    async def _watch(self) -> None:
        """Say farewell to the sessions when the process is to end: the server waits for their threads."""
        while not is_told_to_stop():  # noqa: ASYNC110  # by a signal that another thread hears
            await asyncio.sleep(_LOOK)
        await self.runtime.drained()


def _unread(_limit: int) -> bytes:
    raise TypeError("the body of a request of the host's is the host's to read")


def _may_wait(request: HttpRequest) -> bool:
    """Tell whether a request may hold its thread for long."""
    if request.method != "GET":
        return False
    if request.path == "/changes":
        return b"wait=" in unquote_to_bytes(request.query)
    return request.path == "/events" or request.path in SOCKET_IO_PATHS


class _Waiting:
    """Counts the threads that are held."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a collection of garbage in its midst may give a place back
        self._count = 0

    def answer(self, environ: Environ, work: Callable[[], Answer], most: int | None) -> Answer:
        """Answer a request that may hold its thread.

        Args:
            environ: The request.
            work: Answers it.
            most: How many there may be; ``None``: half of the server's.

        Raises:
            UnavailableError: As many are held as may be.
        """
        most = threads_of(environ) // 2 if most is None else most
        with self._lock:
            if self._count >= most:
                raise UnavailableError("process", _RETRY_AFTER, self._reason(most))
            self._count += 1
        answered: Answer | None = None
        try:
            answered = work()
        finally:
            if isinstance(answered, Stream):
                answered.on_close(self._release)
            else:
                self._release()
        return answered

    def _release(self) -> None:
        with self._lock:
            self._count -= 1

    def _reason(self, most: int) -> str:
        if not most:
            return "this server answers one request at a time and can hold none open; ask for changes without wait"
        return (
            f"{most} streams and long polls are open in this process, which is as many as its threads allow"
        )
