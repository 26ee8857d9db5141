"""HTTP/1.1, WebSocket and event streams on a bare connection, so that the suite sees what is on the wire.

The frames are those of ``websockets`` (its sans-I/O layer); only what it would hide, handshakes that are refused and
clients that do not read, is done by hand.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import struct
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final

from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, OPEN, Protocol

from prefsync.testing.mount.client import Answer, Headers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

__all__ = ["PATIENCE", "Closed", "Connection", "EventStream", "WebSocket", "connect"]

PATIENCE: Final = 15.0
"""Seconds within which what should happen at once has happened, on a busy machine too."""


class Closed(Exception):  # noqa: N818  # no error: how each conversation ends
    """A WebSocket was closed.

    Args:
        code: By the server's close frame; 1006 where there was none (RFC 6455, section 7.1.5).
        reason: Its words.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Connection:
    """A TCP connection.

    Args:
        reader: What comes.
        writer: What goes.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer

    @property
    def port(self) -> int:
        """The port that this side has: by it the server's side is found among its connections."""
        port: int = self._writer.get_extra_info("sockname")[1]
        return port

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(data)
        await self._writer.drain()

    async def head(self) -> tuple[int, Headers]:
        """Read the head of an answer: its status and headers."""
        raw = await self.reader.readuntil(b"\r\n\r\n")
        status, *lines = raw.decode("latin-1").split("\r\n")[:-2]
        pairs = (line.partition(":") for line in lines)
        return int(status.split(" ", 2)[1]), Headers((name, value.strip()) for name, _, value in pairs)

    async def answer(self) -> Answer:
        """Read an answer to its end."""
        async with asyncio.timeout(PATIENCE):
            status, headers = await self.head()
            if status == 101:
                body = b""
            elif (length := headers.get("Content-Length")) is not None:
                body = await self.reader.readexactly(int(length))
            elif "chunked" in headers.members("Transfer-Encoding"):
                body = b"".join([chunk async for chunk in self.chunks()])
            else:
                body = await self.reader.read()
            return Answer(status, headers, body)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Read the chunks of a body one by one (RFC 9112, section 7.1)."""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            yield await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readuntil(b"\r\n")

    def close(self) -> None:
        """Hang up."""
        self._writer.close()

    def reset(self) -> None:
        """Hang up rudely: the server sees a reset (RST), as when a machine vanishes from a network."""
        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


async def connect(
    address: tuple[str, int], source: str | None = None, *, receive_buffer: int | None = None
) -> Connection:
    """Connect.

    Args:
        address: Host and port.
        source: The address to come from.
        receive_buffer: Bytes that the system keeps for a client that does not read.
    """
    raw = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        raw.settimeout(0)
        if receive_buffer is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source is not None:
            raw.bind((source, 0))
        await asyncio.get_running_loop().sock_connect(raw, address)
        # The buffer of asyncio's own must be as small, and still hold the longest line.
        reader, writer = await asyncio.open_connection(
            sock=raw, limit=2**20 if receive_buffer is None else 4_096
        )
    except BaseException:
        raw.close()
        raise
    return Connection(reader, writer)


def request(method: str, target: str, host: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """Return the head of a request; a ``Host`` among the headers wins."""
    lines = list(headers)
    if not any(name.lower() == "host" for name, _ in lines):
        lines.insert(0, ("Host", host))
    head = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in lines), "", ""]
    return "\r\n".join(head).encode("latin-1")


def upgrade(target: str, host: str, headers: Iterable[tuple[str, str]], subprotocols: Sequence[str]) -> bytes:
    """Return a WebSocket's handshake (RFC 6455, section 4.1)."""
    lines = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", b64encode(secrets.token_bytes(16)).decode()),
        *headers,
    ]
    if subprotocols:
        lines.append(("Sec-WebSocket-Protocol", ", ".join(subprotocols)))
    return request("GET", target, host, lines)


class WebSocket:
    """A WebSocket after its handshake.

    Args:
        connection: What it runs over.

    Attributes:
        connection: What it runs over.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._protocol = Protocol(CLIENT, state=OPEN, max_size=None)
        self._frames: list[Frame] = []

    async def say(self, **members: Any) -> None:
        """Send a frame of the protocol's: a JSON object."""
        await self.send(json.dumps(members, ensure_ascii=False))

    async def send(self, message: str | bytes) -> None:
        """Send a message, text or binary."""
        if isinstance(message, str):
            self._protocol.send_text(message.encode("utf-8", "surrogatepass"))
        else:
            self._protocol.send_binary(message)
        await self._flush()

    async def send_raw(self, payload: bytes, *pieces: bytes, ping_between: bool = False) -> None:
        """Send a text message of any bytes, in as many fragments as there are pieces."""
        self._protocol.send_text(payload, fin=not pieces)
        for number, piece in enumerate(pieces, start=1):
            if ping_between:
                self._protocol.send_ping(b"between")
            self._protocol.send_continuation(piece, fin=number == len(pieces))
        await self._flush()

    async def drip(self, message: str, *, pause: float = 0) -> None:
        """Send a text message a byte at a time, with so many seconds after each."""
        self._protocol.send_text(message.encode())
        for byte in b"".join(self._protocol.data_to_send()):
            await self.connection.send(bytes([byte]))
            await asyncio.sleep(pause)

    async def hear(self, *, within: float = PATIENCE) -> dict[str, Any]:
        """Return the next frame, heartbeats aside.

        Raises:
            Closed: There is none.
        """
        async with asyncio.timeout(within):
            while (frame := await self.hear_any())["type"] == "heartbeat":
                assert frame.keys() == {"type", "revision"}
            return frame

    async def hear_any(self) -> dict[str, Any]:
        """Return the next frame, whenever it comes.

        Raises:
            Closed: There is none.
        """
        payload = b""
        while True:
            frame = await self._frame()
            if frame.opcode is Opcode.CLOSE:
                close = self._protocol.close_rcvd
                raise Closed(
                    1005 if close is None else int(close.code), "" if close is None else close.reason
                )
            assert frame.opcode is not Opcode.BINARY, "the server sends text"
            if frame.opcode in {Opcode.TEXT, Opcode.CONT}:
                payload += frame.data
                if frame.fin:
                    found = json.loads(payload.decode())
                    assert isinstance(found, dict)
                    return found

    async def closed(self, *, within: float = PATIENCE) -> int:
        """Return the code that the server closes with, whatever it says before."""
        try:
            async with asyncio.timeout(within):
                while True:
                    await self.hear_any()
        except Closed as end:
            return end.code

    async def _frame(self) -> Frame:
        while not self._frames:
            try:
                data = await self.connection.reader.read(65_536)
            except ConnectionError:
                data = b""
            if not data:
                raise Closed(1006, "")
            self._protocol.receive_data(data)
            self._frames += [event for event in self._protocol.events_received() if isinstance(event, Frame)]
            await self._flush()  # pongs, and the answer to a close
        return self._frames.pop(0)

    async def _flush(self) -> None:
        try:
            await self.connection.send(b"".join(self._protocol.data_to_send()))
        except ConnectionError:
            return  # what was said before is still there to be read


class EventStream:
    """An event stream after its head.

    Args:
        connection: What it runs over.
        headers: Of its head.

    Attributes:
        connection: What it runs over.
        headers: Of its head.
        retries: The reconnection times that it has told, in ms.
    """

    def __init__(self, connection: Connection, headers: Headers) -> None:
        self.connection = connection
        self.headers = headers
        self.retries: list[int] = []
        self._chunks = connection.chunks()
        self._rest = b""

    async def hear(self, *, within: float = PATIENCE) -> tuple[str, str | None, Any] | None:
        """Return the type, the id and the data of the next event; ``None`` where the stream has ended."""
        async with asyncio.timeout(within):
            while (block := await self.block()) is not None:
                fields = [line.partition(": ")[::2] for line in block if not line.startswith(":")]
                self.retries += [int(value) for name, value in fields if name == "retry"]
                found = dict(fields)
                if "data" in found:
                    assert found.keys() <= {"id", "event", "data"}
                    return found["event"], found.get("id"), json.loads(found["data"])
            return None

    async def block(self) -> list[str] | None:
        """Return the lines of the next event or comment; ``None`` where the stream has ended."""
        while b"\n\n" not in self._rest:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                assert not self._rest, "the stream ended within an event"
                return None
            self._rest += chunk
        block, self._rest = self._rest.split(b"\n\n", 1)
        return block.decode().split("\n")
