"""A request and an answer as the protocol sees them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["ClientGoneError", "HttpRequest", "HttpResponse"]


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
            ``ClientGoneError`` where the client goes away in the middle.
        gone: Returns when the client has gone away.
    """

    method: str
    path: str
    query: bytes
    headers: dict[bytes, bytes]
    client: str
    read: Callable[[int], Awaitable[bytes]]
    gone: Callable[[], Awaitable[None]]

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
    """

    status: int
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
