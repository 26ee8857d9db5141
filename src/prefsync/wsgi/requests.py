"""From a WSGI environment to the protocol's request."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from prefsync.http import HttpRequest
from prefsync.wsgi.servers import stop_reading

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefsync.wsgi.exchange import Exchange
    from prefsync.wsgi.servers import Environ

__all__ = ["DISCARD_LIMIT", "IS_READ", "discard_body", "is_encrypted", "is_upgrade", "request_from"]

# Two that PEP 3333 names without the prefix.
_BODY_HEADERS: Final = {"CONTENT_TYPE": b"content-type", "CONTENT_LENGTH": b"content-length"}

# Headers' names as the protocol spells them, by their names in an environment.
_names: dict[str, bytes] = {}
_MOST_NAMES: Final = 1_000

# Bytes of a body that are read although nobody wants them, and as one piece.
_MOST_DISCARDED: Final = 1024 * 1024
_PIECE: Final = 64 * 1024

# Seconds that a client has to send what nobody wants. No token is needed for a request that is refused: whoever could
# hold a thread by it for long would need no more than as many connections as there are threads.
DISCARD_LIMIT: Final = 2.0

# Digits of a length that is worth reading as one.
_DIGITS: Final = 15

IS_READ: Final = "prefsync.is_read"
"""Set in an environment whose body was asked for, by the protocol or by the host."""


def request_from(
    environ: Environ, path: str, exchange: Exchange, read: Callable[[int], bytes]
) -> HttpRequest:
    """Translate a WSGI environment.

    Args:
        environ: The request.
        path: Below the mount's prefix, decoded.
        exchange: Where the server's thread waits for what it is to do.
        read: Reads the body, at most so many bytes and one; called in the server's thread, where it may wait.
    """
    headers = {
        _header(name): value.encode("latin-1")
        for name, value in environ.items()
        if name.startswith("HTTP_") or (name in _BODY_HEADERS and value)
    }

    async def read_body(limit: int) -> bytes:
        environ[IS_READ] = True
        return await exchange.read(lambda: read(limit))

    return HttpRequest(
        environ["REQUEST_METHOD"],
        path,
        environ.get("QUERY_STRING", "").encode("latin-1"),
        headers,
        environ.get("REMOTE_ADDR") or "",
        read_body,
        exchange.gone,
        is_encrypted(environ),
    )


def discard_body(environ: Environ) -> None:
    """Read what was sent and not asked for, unless it is much.

    A server that closes a connection with bytes unread resets it, and the client may never see why it was refused.
    One that takes its time to send them is not waited for.
    """
    left = _left_of_body(environ)
    if left <= 0:
        return
    limit = threading.Timer(DISCARD_LIMIT, stop_reading, (environ,))
    limit.daemon = True
    limit.start()
    try:
        while left > 0 and (piece := environ["wsgi.input"].read(min(left, _PIECE))):
            left -= len(piece)
    except (OSError, ValueError):
        return  # the client has gone, or the host has closed the stream
    finally:
        limit.cancel()


def _left_of_body(environ: Environ) -> int:
    """Return how many bytes are worth reading; none where more are announced than that."""
    declared = environ.get("CONTENT_LENGTH", "")
    if not declared:
        is_chunked = "HTTP_TRANSFER_ENCODING" in environ and environ.get("wsgi.input_terminated")
        return _MOST_DISCARDED if is_chunked else 0
    if environ.get(IS_READ) or not (declared.isascii() and declared.isdigit()):
        return 0
    length = int(declared[:_DIGITS])
    return length if length <= _MOST_DISCARDED else 0


def is_encrypted(environ: Environ) -> bool:
    """Tell whether a request came over TLS, as far as the server knows or trusts whoever says so."""
    return environ.get("wsgi.url_scheme") == "https"


def is_upgrade(environ: Environ) -> bool:
    """Tell whether a request asks for a WebSocket (RFC 6455, section 4.2.1)."""
    return (
        environ.get("HTTP_UPGRADE", "").lower() == "websocket"
        and "upgrade" in environ.get("HTTP_CONNECTION", "").lower()
        and environ["REQUEST_METHOD"] == "GET"
    )


def _header(name: str) -> bytes:
    """Return a header's own name; most are the same in every request."""
    found = _names.get(name) or _BODY_HEADERS.get(name)
    if found is None:
        found = name[5:].lower().replace("_", "-").encode("latin-1")
        if len(_names) < _MOST_NAMES:
            _names[name] = found
    return found
