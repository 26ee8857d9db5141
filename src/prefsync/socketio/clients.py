"""One client of Socket.IO: what this side knows of it, and the way to it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import anyio

from prefsync.http.frames import Pace
from prefsync.socketio.packets import NAMESPACE, event, welcome_event
from prefsync.socketio.server import packet, update_packet
from prefsync.strictjson import encode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from prefsync.catchup import Joined
    from prefsync.channel import Update
    from prefsync.document import Identity
    from prefsync.http.messages import Socket
    from prefsync.session import Farewell, Session
    from prefsync.sessions import Sessions
    from prefsync.socketio.server import EnginePacket, Server

__all__ = ["Client"]

# Seconds that a client has to join.
_JOIN_LIMIT: Final = 10.0

# Seconds that a client has for the last that it is sent.
_CLOSE_LIMIT: Final = 2.0

# Packets that may wait for a client, answers to its own among them, before it is not read from.
_MOST_WAITING: Final = 16

# What the protocol calls the reasons for which a client is dismissed, where it is to blame.
_REFUSALS: Final = {
    "bad-frame": "malformed-request",
    "too-many": "rate-limited",
    "unauthenticated": "unauthenticated",
}

_DISCONNECT: Final = f"1{NAMESPACE},"


class Client:
    """An Engine.IO session; also the outlet of its session among those that are told of changes.

    Args:
        server: Where it is one.
        sessions: Among which it joins.
        address: Where it comes from.
        schema: The tag of today's schema.

    Attributes:
        address: Where it comes from.
        engine_id: Its Engine.IO session; empty until that has begun.
        name: The name it gives itself.
        identity: For whom it speaks.
        session: What it follows; ``None`` until it joins.
        has_asked: Whether it has sent a connect that was not refused.
        is_over: Whether nothing more is read from it or sent to it.
        lock: Held while what it posts is dealt with.
        pace: Counts what it sends.
        carrier: What serves its WebSocket.
        socket: That WebSocket.
    """

    is_plain = True
    transport: Final = "socketio"

    __slots__ = (
        "_greeting",
        "_limit",
        "_queued",
        "_schema",
        "_server",
        "_sessions",
        "_write",
        "address",
        "carrier",
        "engine_id",
        "has_asked",
        "identity",
        "is_over",
        "lock",
        "name",
        "pace",
        "session",
        "socket",
    )

    def __init__(self, server: Server, sessions: Sessions, address: str, schema: str) -> None:
        self.address = address
        self.engine_id = ""
        self.name: str | None = None
        self.identity: Identity | None = None
        self.session: Session | None = None
        self.has_asked = False
        self.is_over = False
        self.lock = asyncio.Lock()
        self.pace = Pace()
        self.carrier: asyncio.Task[None] | None = None
        self.socket: Socket | None = None
        self._server = server
        self._sessions = sessions
        self._schema = schema
        self._limit: asyncio.TimerHandle | None = None
        self._queued: str | None = None
        self._write: Callable[[str], Awaitable[None]] | None = None
        self._greeting: Callable[[], None] | None = None

    def expect_join(self) -> None:
        """Give the client its time to join, after which it is cut."""
        self._limit = asyncio.get_running_loop().call_later(_JOIN_LIMIT, self._give_up_waiting)

    def _give_up_waiting(self) -> None:
        if self.session is None:
            self.shut()

    async def has_room(self) -> None:
        """Return when not too much waits for the client, or when it is over."""
        if self.engine_id and not self.is_over:
            try:
                queue = self._server.queue(self.engine_id)
            except ConnectionError:
                return
            if queue.qsize() > _MOST_WAITING:
                await queue.join()

    async def join(self, session: Session, since: int | None, schema: str | None) -> None:
        """Begin to follow; the first that is sent waits until the connect is answered.

        Raises:
            UnavailableError: The state cannot be read.
        """
        self.session = session
        joined = await session.join(since, schema)

        async def greet() -> None:
            await self._enqueue(self._greet(joined))

        self._greeting = lambda: session.begin(joined, greet)

    def begin(self) -> None:
        """Send what follows the answer to a connect."""
        greeting, self._greeting = self._greeting, None
        if self._limit is not None and self.session is not None:
            self._limit.cancel()
        if greeting is not None:
            greeting()

    def _greet(self, joined: Joined) -> EnginePacket:
        if joined.reset is not None:
            return joined.reset.form(update_packet)
        return packet(welcome_event(joined, self._schema))

    def leave(self) -> None:
        """Follow no more."""
        session, self.session = self.session, None
        self._greeting = None
        self.has_asked = False
        if session is not None:
            self._sessions.close(session)

    def dismiss(self, reason: str) -> None:
        """Say why it ends, as far as the client has joined, and end it."""
        if self.is_over:
            return
        if reason in _REFUSALS:
            self._sessions.telemetry.refused(_REFUSALS[reason])
        session = self.session
        if session is not None:
            self._put(event("bye", encode({"reason": reason})))
            self._put(_DISCONNECT)
        self.shut(_CLOSE_LIMIT)
        if session is not None:
            session.cut()

    def shut(self, patience: float = 0.0) -> None:
        """Close the connection, once the client has taken what waits for it or its time for that is over."""
        if not self.is_over:
            self.is_over = True
            self._server.start_background_task(self._shut, patience)

    async def _shut(self, patience: float) -> None:
        try:
            with anyio.move_on_after(patience) as limit:
                await self._server.queue(self.engine_id).join()
            if patience and limit.cancelled_caught and self.socket is not None:
                self.socket.drop()
        except ConnectionError:
            return  # the client was faster
        finally:
            await self._server.close(self.engine_id)
            self.closed()
        carrier = self.carrier
        # python-engineio takes one cancellation for the end of the input, and goes on to write.
        while carrier is not None and not carrier.done():
            await asyncio.wait({carrier}, timeout=_CLOSE_LIMIT)
            carrier.cancel()

    def closed(self) -> None:
        """Note that the Engine.IO session is over."""
        self.is_over = True
        if self._limit is not None:
            self._limit.cancel()
        self.leave()

    def _put(self, message: str) -> None:
        try:
            self._server.put(self.engine_id, packet(message))
        except ConnectionError:
            self.is_over = True

    # --- What the session sends --------------------------------------------------------------------------------------

    def passed(self, text: str, write: Callable[[str], Awaitable[None]]) -> None:
        """Note that a WebSocket has taken a packet out of the queue.

        When it is the last that the session put there, the session writes to the WebSocket itself from then on: queue,
        writer and time limits of python-engineio cost several times as much, and nothing can be overtaken any more.

        Args:
            text: The packet.
            write: Writes to that WebSocket.
        """
        if text is self._queued:
            self._queued = None
            self._write = write

    async def _enqueue(self, what: EnginePacket) -> None:
        """Send something by the queue, and return when the transport has taken it: no second update waits behind one."""
        queue = self._server.queue(self.engine_id)
        self._queued = what.encode()
        queue.put_nowait(what)
        await queue.join()

    def _send(self, what: EnginePacket) -> Awaitable[None]:
        write = self._write
        return self._enqueue(what) if write is None else write(what.encode())

    def update(self, update: Update) -> Awaitable[None]:
        """See ``Outlet``."""
        return self._send(update.form(update_packet))

    async def beat(self, revision: int | None) -> None:
        """See ``Outlet``."""
        await self._send(packet(event("heartbeat", encode({"revision": revision}))))

    async def farewell(self, reason: Farewell) -> None:
        """See ``Outlet``."""
        self._put(event("bye", encode({"reason": reason.value})))
        await self._enqueue(packet(_DISCONNECT))

    def cut(self) -> None:
        """See ``Outlet``."""
        self.shut()

    def drop(self) -> None:
        """See ``Outlet``."""
        self.shut()
        if self.socket is not None:
            self.socket.drop()
