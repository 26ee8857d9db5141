"""python-socketio, set up for one namespace: the only module that imports it.

Each process has a server of its own, and none has a client manager that spans processes: changes come to every process
by the notifier, and go from the hub to the sessions that are connected here.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, Protocol

import engineio
import socketio
from engineio.packet import MESSAGE
from engineio.packet import Packet as EnginePacket
from socketio.exceptions import ConnectionRefusedError as RefusedError
from socketio.packet import Packet

from prefsync.socketio.packets import NAMESPACE, update_event
from prefsync.socketio.queues import PacketQueue
from prefsync.strictjson import encode, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from contextlib import AbstractContextManager

    from prefsync.channel import Update

__all__ = ["MOST_PACKETS", "EnginePacket", "Events", "RefusedError", "Server", "packet", "update_packet"]

# Packets that python-engineio takes in one payload. Raising its class attribute would lift the bound for a server of
# the host's own, too, so larger payloads are handed to it in parts.
MOST_PACKETS: Final = 16

# Seconds, Engine.IO's own defaults: a poll is answered before the usual proxy's 30 s or 60 s are over.
_PING_INTERVAL: Final = 25
_PING_TIMEOUT: Final = 20


def _logger() -> logging.Logger:
    """Return what python-socketio logs to: below errors it writes packets down, tokens and all."""
    logger = logging.getLogger("prefsync.socketio")
    logger.setLevel(logging.ERROR)
    logger.addFilter(_is_error)
    return logger


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


class _StrictJson:
    """The protocol's JSON, in place of a module."""

    @staticmethod
    def loads(text: str) -> Any:
        return parse(text.encode("utf-8", "surrogatepass"), cuts=True)

    @staticmethod
    def dumps(value: Any, separators: tuple[str, str]) -> str:
        del separators  # always compact
        return encode(value).decode()


class _Packet(Packet):  # type: ignore[misc]  # ships no types
    json = _StrictJson
    uses_binary_events = False


class _Engine(engineio.AsyncServer):  # type: ignore[misc]  # ships no types
    """An Engine.IO server that is handed environments and not ASGI scopes, and keeps little for each client.

    Its tasks end with it: those that ping would outlive it by a ping's interval.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Its own translation keeps a class that it makes for each request, as long as a WebSocket lasts.
        self._async: dict[str, Any] = {**vars(self)["_async"], "translate_request": _as_it_is}

    def create_queue(self, *_args: Any, **_kwargs: Any) -> PacketQueue[Any]:
        return PacketQueue()

    def start_background_task(
        self, target: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **kwargs: Any
    ) -> asyncio.Task[Any]:
        tasks: set[asyncio.Task[Any]] = self.__dict__.setdefault("background", set())
        task = asyncio.create_task(target(*args, **kwargs))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task


def _as_it_is(environ: dict[str, Any]) -> dict[str, Any]:
    return environ


class Events(Protocol):
    """What a server tells whoever has it."""

    def opened(self, engine_id: str, environ: dict[str, Any]) -> None:
        """Note that an Engine.IO session has begun."""

    def closed(self, engine_id: str) -> None:
        """Note that an Engine.IO session is over."""

    def answered(self, engine_id: str) -> None:
        """Note that a connect was answered, whether it was let in or not."""

    def answering(self, engine_id: str) -> AbstractContextManager[None]:
        """Return what lasts for as long as an event is dealt with, until its answer waits to be sent."""


class Server(socketio.AsyncServer):  # type: ignore[misc]  # ships no types
    """A Socket.IO server without an ASGI app: whoever has it hands over requests.

    Args:
        body_limit: Bytes of one payload or frame.
        events: Who is told what happens.
        handlers: What is called on events of the protocol's namespace.
    """

    def __init__(
        self, body_limit: int, events: Events, handlers: Mapping[str, Callable[..., Coroutine[Any, Any, Any]]]
    ) -> None:
        logger = _logger()
        super().__init__(
            async_mode="asgi",
            serializer=_Packet,
            async_handlers=False,  # one after the other: whoever sends faster than we write is not read from
            always_connect=False,  # a refused connection is told by connect_error, and never was a connection
            namespaces=[NAMESPACE],
            ping_interval=_PING_INTERVAL,
            ping_timeout=_PING_TIMEOUT,
            max_http_buffer_size=body_limit,
            http_compression=False,
            cors_allowed_origins=[],  # origins are checked before, and the headers of CORS are the host's
            logger=logger,
            engineio_logger=logger,
        )
        self._events = events
        for name, handler in handlers.items():
            self.on(name, handler, namespace=NAMESPACE)

    def _engineio_server_class(self) -> type[engineio.AsyncServer]:
        return _Engine

    async def _handle_eio_connect(self, eio_sid: str, environ: dict[str, Any]) -> None:
        await super()._handle_eio_connect(eio_sid, environ)
        self._events.opened(eio_sid, environ)

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        try:
            await super()._handle_eio_disconnect(eio_sid, reason)
        finally:
            self._events.closed(eio_sid)

    async def _handle_connect(self, eio_sid: str, namespace: str | None, data: Any) -> None:
        try:
            await super()._handle_connect(eio_sid, namespace, data)
        finally:
            self._events.answered(eio_sid)

    async def _handle_event(self, eio_sid: str, namespace: str | None, number: int | None, data: Any) -> None:
        with self._events.answering(eio_sid):
            await super()._handle_event(eio_sid, namespace, number, data)

    def put(self, engine_id: str, packet: EnginePacket) -> None:
        """Put a packet into a client's queue.

        Raises:
            ConnectionError: The client has gone.
        """
        self.queue(engine_id).put_nowait(packet)

    def queue(self, engine_id: str) -> PacketQueue[EnginePacket]:
        """Return what waits for a client; its ``join`` returns when nothing does.

        Raises:
            ConnectionError: The client has gone.
        """
        engine = self.eio.sockets.get(engine_id)
        if engine is None or engine.closed:
            raise ConnectionError(f"the Engine.IO session {engine_id} is over")
        queue: PacketQueue[EnginePacket] = engine.queue
        return queue

    async def close(self, engine_id: str) -> None:
        """Close an Engine.IO session; one that is over stays so."""
        engine = self.eio.sockets.get(engine_id)
        if engine is not None and not engine.closed:
            await engine.close(wait=False)
            if engine.upgraded:
                # Left to itself, python-engineio waits for the client to close, which many take for the server's part.
                engine.queue.put_nowait(None)

    def give_up_upgrade(self, engine_id: str) -> None:
        """Let a client go on polling whose WebSocket ended before it was one: python-engineio waits for it."""
        engine = self.eio.sockets.get(engine_id)
        if engine is not None and not engine.upgraded:
            engine.upgrading = False

    async def aclose(self) -> None:
        """End what runs in the background."""
        tasks = list(self.eio.__dict__.get("background", ()))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def packet(message: str) -> EnginePacket:
    """Return a packet that carries a Socket.IO packet; encoded once, however many clients it is sent to."""
    return EnginePacket(MESSAGE, message)


def update_packet(update: Update) -> EnginePacket:
    """Return the packet that tells an update."""
    return packet(update_event(update))
