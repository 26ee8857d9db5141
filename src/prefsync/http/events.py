"""Server-sent events (HTML standard, section 9.2; protocol.md section 3)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import anyio

from prefsync.chance import between
from prefsync.channel import Update
from prefsync.errors import PrefsyncError
from prefsync.http.messages import NOSNIFF, HttpResponse
from prefsync.http.parameters import last_event_id, number, query_of
from prefsync.http.problems import answer
from prefsync.http.rendering import VARY, render_update
from prefsync.strictjson import MAX_INTEGER

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from prefsync.catchup import Joined
    from prefsync.document import Identity
    from prefsync.http.messages import HttpRequest, Sink
    from prefsync.session import Farewell
    from prefsync.sessions import Sessions

__all__ = ["EventStreams"]

_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    NOSNIFF,
    (b"cache-control", b"no-store"),
    VARY,
    (b"x-accel-buffering", b"no"),  # nginx would keep events back (ngx_http_proxy_module, proxy_buffering)
]

# ms after which a browser connects again, spread so that those cut together do not come back together.
_RETRY: Final = (1_000, 5_000)

_BEAT: Final = b":\n\n"


class EventStreams:
    """Answers ``GET /events``.

    Args:
        sessions: Among which a stream is one.
    """

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def answer(self, request: HttpRequest, identity: Identity) -> HttpResponse:
        """Answer a request with a stream.

        Raises:
            MalformedError: The query cannot be read.
            UnavailableError: There are too many streams, or the process drains.
        """
        query = query_of(request)
        since = number(query, "since", 0, MAX_INTEGER, default=-1)
        position = last_event_id(request)
        if position is None and since >= 0:
            position = since
        self._sessions.check(identity.subject)
        response = HttpResponse(200, _HEADERS.copy())
        if request.method != "HEAD":
            response.stream = partial(self._stream, response, identity, position, query.get("schema"))
        return response

    async def _stream(
        self, response: HttpResponse, identity: Identity, since: int | None, schema: str | None, sink: Sink
    ) -> None:
        outlet = _EventOutlet(sink)
        try:
            session = self._sessions.open(identity.subject, outlet, identity.expires_at, identity.revoked_by)
        except PrefsyncError as error:
            await self._refuse(sink, error, response)
            return
        try:
            try:
                joined = await session.join(since, schema)
            except PrefsyncError as error:
                await self._refuse(sink, error, response)
                return
            with outlet.scope:
                await sink.start(response)
                session.begin(joined, partial(outlet.greet, joined))
                await sink.gone()
        finally:
            self._sessions.close(session)

    async def _refuse(self, sink: Sink, error: PrefsyncError, response: HttpResponse) -> None:
        self._sessions.telemetry.refused(error.code)
        await sink.send(_refusal(error, response))


def _refusal(error: PrefsyncError, response: HttpResponse) -> HttpResponse:
    """Answer with an error where a stream was to begin, and with all that its head was given to tell besides."""
    refusal = answer(error)
    refusal.headers += response.headers[len(_HEADERS) :]
    return refusal


class _EventOutlet:
    """The way to one event stream."""

    __slots__ = ("_sink", "is_plain", "scope")

    transport: Final = "events"

    def __init__(self, sink: Sink) -> None:
        self.is_plain = sink.is_plain
        self._sink = sink
        self.scope = anyio.CancelScope()

    async def greet(self, joined: Joined) -> None:
        events = [b"retry: %d\n\n" % between(*_RETRY)]
        if joined.reset is not None:
            events.append(joined.reset.form(_event))
        else:
            events += [_event(Update(change)) for change in joined.changes]
        await self._sink.write(b"".join(events))

    def update(self, update: Update) -> Awaitable[None]:
        return self._sink.write(update.form(_event))

    async def beat(self, revision: int | None) -> None:
        del revision  # an event would be taken for one; a comment says that the stream lives
        await self._sink.write(_BEAT)

    async def farewell(self, reason: Farewell) -> None:
        await self._sink.write(b'event: bye\ndata: {"reason":"%b"}\n\n' % reason.value.encode())
        await self._sink.end()

    def cut(self) -> None:
        self.scope.cancel()

    def drop(self) -> None:
        self._sink.drop()  # first, so that the server finds its answer's client gone and not the answer unfinished
        self.cut()


def _event(update: Update) -> bytes:
    kind = b"reset" if update.snapshot is not None else b"change"
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (update.revision, kind, update.form(render_update))
