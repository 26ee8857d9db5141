"""The protocol over WebSocket (RFC 6455; protocol.md section 3)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio

from prefsync.errors import (
    InsufficientScopeError,
    MalformedError,
    PrefsyncError,
    RateLimitedError,
    UnauthenticatedError,
    UnavailableError,
)
from prefsync.http.frames import Close, FrameError, Hello, Pace, Patch, Ping, Token, read_frame
from prefsync.http.origins import check_origin
from prefsync.http.parameters import query_of, refuse_token_in
from prefsync.http.rendering import render_change, render_update
from prefsync.session import Farewell
from prefsync.strictjson import encode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from prefsync.catchup import Joined
    from prefsync.channel import Update
    from prefsync.clock import Clock
    from prefsync.document import Identity
    from prefsync.http.admission import Admission
    from prefsync.http.messages import Socket
    from prefsync.http.options import ApiOptions
    from prefsync.http.quotas import Headers
    from prefsync.http.writing import Writer
    from prefsync.session import Session
    from prefsync.sessions import Sessions

__all__ = ["SUBPROTOCOL", "WebSockets"]

SUBPROTOCOL: Final = "prefsync.v1"

# Seconds that a client has for its hello.
_HELLO_LIMIT: Final = 10.0

# Seconds that a client has to take a close frame.
_CLOSE_LIMIT: Final = 2.0

_REASONS: Final = {
    Farewell.EXPIRED: (Close.UNAUTHENTICATED, Farewell.EXPIRED.value),
    Farewell.DRAINING: (Close.GOING_AWAY, Farewell.DRAINING.value),
}


class WebSockets:
    """Serves ``GET /ws``.

    Args:
        sessions: Among which a connection is one.
        admission: Who may come in.
        writer: Does what ``patch`` frames ask for.
        options: What the host has settled.
        clock: For the rate of frames.
        allowed_origins: Whose pages may connect, besides the app's own.
    """

    def __init__(
        self,
        sessions: Sessions,
        admission: Admission,
        writer: Writer,
        options: ApiOptions,
        clock: Clock,
        allowed_origins: Collection[str] = (),
    ) -> None:
        self.sessions = sessions
        self.admission = admission
        self.writer = writer
        self.options = options
        self.clock = clock
        self.allowed_origins = allowed_origins

    async def serve(
        self, socket: Socket, identity: Identity | None = None, told: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        """Serve one connection until it ends.

        Args:
            socket: As the mount hands it over.
            identity: Who calls, where the host's own authentication has found out.
            told: Headers that the handshake's answer has in any case.
        """
        headers: Headers = [*told]
        try:
            ticket = self._check(socket)
            if identity is None and ticket is None and b"authorization" in socket.request.headers:
                identity = await self.admission.identify(socket.request, headers)
            if identity is not None:
                await self.check(identity, headers)
        except PrefsyncError as error:
            response = self.admission.refuse(error)
            response.headers += headers
            await socket.refuse(response)
            return
        conversation = _Conversation(self, socket)
        await socket.accept(SUBPROTOCOL, headers)
        try:
            if identity is None and ticket is not None:
                identity = await self.admission.redeem(ticket, socket.request.client, [])
                await self.check(identity, headers)
            await conversation.run(identity)
        except FrameError as error:
            await self._end(socket, error.code, error, MalformedError.code)
        except UnauthenticatedError as error:
            await self._end(socket, Close.UNAUTHENTICATED, error, error.code)
        except InsufficientScopeError as error:
            await self._end(socket, Close.FORBIDDEN, error, error.code)
        except (RateLimitedError, UnavailableError) as error:
            await self._end(socket, Close.TRY_AGAIN, error, error.code)

    async def _end(self, socket: Socket, code: Close, error: Exception, reason: str) -> None:
        self.admission.telemetry.refused(reason)
        await _close(socket, code, error)

    async def check(self, identity: Identity, headers: Headers) -> None:
        """Raise unless whoever was named may open one more connection, and count it.

        Raises:
            RateLimitedError: There were too many requests.
            InsufficientScopeError: They may not read.
            UnavailableError: They have as many as they may.
        """
        await self.admission.quotas.streams.count(identity.subject.key, headers)
        if not identity.may(self.options.read_scope):
            raise InsufficientScopeError(self.options.read_scope)
        self.sessions.check(identity.subject)

    def _check(self, socket: Socket) -> str | None:
        """Check what can be seen before anybody is named, and return the ticket."""
        self.sessions.check()
        refuse_token_in(socket.request)
        check_origin(socket.request, self.allowed_origins)
        ticket = query_of(socket.request).get("ticket")
        if SUBPROTOCOL not in socket.subprotocols:
            raise MalformedError(f"offer the subprotocol {SUBPROTOCOL} (Sec-WebSocket-Protocol)")
        return ticket


class _Conversation:
    """One connection after its handshake; also the outlet of its session."""

    is_plain = True
    transport: Final = "websocket"

    __slots__ = (
        "_client",
        "_identity",
        "_pace",
        "_reading",
        "_scope",
        "_session",
        "_socket",
        "_sockets",
    )

    def __init__(self, sockets: WebSockets, socket: Socket) -> None:
        self._sockets = sockets
        self._socket = socket
        self._identity: Identity | None = None
        self._session: Session | None = None
        self._client: str | None = None
        self._scope = anyio.CancelScope()
        self._reading: anyio.CancelScope | None = None
        self._pace = Pace()

    async def run(self, identity: Identity | None) -> None:
        """Talk until either side ends it."""
        self._identity = identity
        hello = await self._hello()
        if hello is None:
            return
        session = await self._open(hello)
        try:
            joined = await session.join(hello.since, hello.schema)
            with self._scope:
                session.begin(joined, partial(self._greet, joined))
                while not session.is_ending and (frame := await self._read()) is not None:
                    with session.answering():
                        await self._answer(session, frame)
                if session.is_ending:
                    await anyio.sleep_forever()  # until the farewell was said, which ends this scope
        finally:
            self._sockets.sessions.close(session)

    async def _hello(self) -> Hello | None:
        frame = None
        sessions = self._sockets.sessions
        with anyio.move_on_after(_HELLO_LIMIT) as limit, sessions.calling(limit):
            frame = await self._receive()
        if limit.cancelled_caught and sessions.is_draining:
            await self._socket.close(*_REASONS[Farewell.DRAINING])
            return None
        if limit.cancelled_caught:
            raise FrameError(Close.NO_HELLO, "no hello came in time")
        if frame is not None and not isinstance(frame, Hello):
            raise FrameError(Close.BAD_FRAME, "the first frame must be a hello")
        return frame

    async def _open(self, hello: Hello) -> Session:
        """Return the session that a hello asks for."""
        self._client = hello.client
        named = self._identity
        if hello.token is not None:
            identity = await self._verify(hello.token)
            if named is None:
                await self._sockets.check(identity, [])
        elif named is None:
            raise UnauthenticatedError("the hello must bring a token", "missing")
        else:
            identity = named
        self._identity = identity
        self._session = self._sockets.sessions.open(
            identity.subject, self, identity.expires_at, identity.revoked_by
        )
        return self._session

    async def _verify(self, token: str) -> Identity:
        """Return whom a token speaks for: nobody else than before, and somebody who may read."""
        identity = await self._sockets.admission.verify(token, self._socket.request.client, [])
        if self._identity is not None and identity.subject != self._identity.subject:
            raise UnauthenticatedError("the token is another subject's")
        if not identity.may(self._sockets.options.read_scope):
            raise InsufficientScopeError(self._sockets.options.read_scope)
        return identity

    async def _read(self) -> Hello | Patch | Token | Ping | None:
        """Return the next frame; ``None`` when there is none, or a farewell is to be said."""
        with anyio.CancelScope() as self._reading:
            return await self._receive()
        return None

    async def _receive(self) -> Hello | Patch | Token | Ping | None:
        message = await self._socket.receive()
        if message is None:
            return None
        self._pace.count(self._sockets.clock.monotonic())
        return read_frame(message, self._sockets.writer.limits.body)

    async def _answer(self, session: Session, frame: Hello | Patch | Token | Ping) -> None:
        match frame:
            case Ping():
                await self._say(session, lambda: {"type": "pong", "revision": session.revision})
            case Patch():
                reply = await self._write(frame)
                await self._say(session, lambda: reply)
            case Token():
                identity = await self._verify(frame.token)
                self._identity = identity
                self._sockets.sessions.expire(session, identity.expires_at, identity.revoked_by)
                await self._say(session, lambda: {"type": "ok"})
            case Hello():
                raise FrameError(Close.BAD_FRAME, "a second hello")

    async def _write(self, frame: Patch) -> dict[str, Any]:
        """Write what a frame asks for, and return the ack or nack."""
        identity = self._identity
        if identity is None:
            raise TypeError("nobody is named")
        return await self._sockets.writer.answer(identity, frame, self._client)

    async def _say(self, session: Session, what: Callable[[], dict[str, Any]]) -> None:
        """Reply in turn, and wait until the client takes it: one that reads nothing is not read from."""
        said = anyio.Event()

        async def reply() -> None:
            await self._socket.send(encode(what()).decode())
            said.set()

        session.reply(reply)
        if not said.is_set():
            await said.wait()

    async def _greet(self, joined: Joined) -> None:
        if joined.reset is not None:
            await self._socket.send(joined.reset.form(_frame))
            return
        changes = [render_change(change) for change in joined.changes]
        schema = self._sockets.writer.schema.tag
        welcome = {"type": "welcome", "revision": joined.revision, "schema": schema, "changes": changes}
        await self._socket.send(encode(welcome).decode())

    # --- What the session sends --------------------------------------------------------------------------------------

    def update(self, update: Update) -> Awaitable[None]:
        """See ``Outlet``."""
        return self._socket.send(update.form(_frame))

    async def beat(self, revision: int | None) -> None:
        """See ``Outlet``."""
        await self._socket.send(encode({"type": "heartbeat", "revision": revision}).decode())

    async def farewell(self, reason: Farewell) -> None:
        """See ``Outlet``."""
        if self._reading is not None:
            self._reading.cancel()  # granian closes no WebSocket that is read from
        await self._socket.close(*_REASONS[reason])

    def cut(self) -> None:
        """See ``Outlet``."""
        self._scope.cancel()

    def drop(self) -> None:
        """See ``Outlet``."""
        self._socket.drop()
        self.cut()


def _frame(update: Update) -> str:
    kind = "reset" if update.snapshot is not None else "change"
    return f'{{"type":"{kind}",' + update.form(render_update).decode()[1:]


async def _close(socket: Socket, code: Close, error: Exception) -> None:
    """Close with the error's words, as far as a close frame has room.

    RFC 6455, section 5.5: 125 bytes, of which the code takes two. A client that takes nothing is not waited for.
    """
    with anyio.move_on_after(_CLOSE_LIMIT) as limit:
        await socket.close(code, str(error).encode()[:123].decode(errors="ignore"))
    if limit.cancelled_caught:
        socket.drop()
