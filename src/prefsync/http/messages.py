"""A request and an answer as the protocol sees them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

__all__ = ["NOSNIFF", "ClientGoneError", "HttpRequest", "HttpResponse", "PushTransport", "Sink", "Socket"]


NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
"""On every answer with a body: it holds what users have chosen, and is to be taken for nothing but what it says."""


class ClientGoneError(Exception):
    """The client went away before it had sent its request; there is nobody to answer and nothing to do."""


@dataclass(slots=True)
class HttpRequest:
    """What a mount takes out of its framework's request.

    Attributes:
        method: In capitals.
        path: Below the mount's prefix, decoded, with its leading slash or empty.
        query: As sent, without the question mark.
        headers: By name in lower case; several lines of one name joined by ``, `` (RFC 9110, section 5.3).
        client: The client's address, as far as the server trusts whoever named it.
        read: Reads the body, at most this many bytes; one byte more says that it is longer. Raises
            ``ClientGoneError`` where the client goes away in the middle. May be cancelled, where the body takes too long.
        gone: Returns when the client has gone away.
        is_encrypted: Whether it came over TLS, as far as the server knows or trusts whoever says so.
    """

    method: str
    path: str
    query: bytes
    headers: dict[bytes, bytes]
    client: str
    read: Callable[[int], Coroutine[Any, Any, bytes]]
    gone: Callable[[], Awaitable[None]]
    is_encrypted: bool = False

    def header(self, name: bytes) -> str | None:
        """Return a header's value."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")


@dataclass(slots=True)
class HttpResponse:
    """What a mount hands back.

    Attributes:
        status: The status code.
        headers: In order, names in lower case, ``content-length`` included.
        body: Empty for ``HEAD`` and ``304``.
        stream: Where it is set, the mount calls it with a sink, and it sends everything: this answer's head and a body
            that lasts, or another answer.
    """

    status: int
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    stream: Callable[[Sink], Awaitable[None]] | None = None


class Sink(Protocol):
    """Where an answer goes that is sent bit by bit. Every call but ``gone`` raises where the client has gone.

    Attributes:
        is_plain: Whether a call may begin in one task and end in another: nothing on the way opens a cancel scope or a
            time limit.
    """

    is_plain: bool

    async def send(self, response: HttpResponse) -> None:
        """Send an answer in full."""

    async def start(self, response: HttpResponse) -> None:
        """Send an answer's head."""

    def write(self, chunk: bytes) -> Awaitable[None]:
        """Send a part of its body, at once; what it returns is done when the server has taken it."""

    async def end(self) -> None:
        """End its body."""

    async def gone(self) -> None:
        """Return when the client has gone away."""

    def drop(self) -> None:
        """Drop the connection with all that the client has not taken, as far as the server can be brought to it."""


class Socket(Protocol):
    """A WebSocket as a mount hands it over, before the handshake is answered."""

    @property
    def request(self) -> HttpRequest:
        """The handshake."""

    @property
    def subprotocols(self) -> Sequence[str]:
        """What the client offers."""

    async def refuse(self, response: HttpResponse) -> None:
        """Answer the handshake with an HTTP response."""

    async def accept(self, subprotocol: str | None, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """Complete the handshake.

        Args:
            subprotocol: The one that is spoken.
            headers: What the answer tells besides.
        """

    async def receive(self) -> str | bytes | None:
        """Return the next message, text or binary; ``None`` when the client has gone or closed."""

    def send(self, text: str) -> Awaitable[None]:
        """Send a text message; returns when the server has taken it. Raises where the client has gone."""

    async def close(self, code: int, reason: str) -> None:
        """Close; nothing can be sent afterwards."""

    def drop(self) -> None:
        """Drop the connection with all that the client has not taken, as far as the server can be brought to it."""


class PushTransport(Protocol):
    """A way to tell sessions that is there only where the host asks for it."""

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer a request, whoever sends it: the transport authenticates by its own means."""

    async def connect(self, socket: Socket, told: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """Serve a WebSocket until it ends.

        Args:
            socket: As the mount hands it over.
            told: Headers that the handshake's answer has in any case.
        """
