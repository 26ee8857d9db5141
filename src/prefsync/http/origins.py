"""Whose pages may open a connection (RFC 6454; RFC 6455, section 10.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from prefsync.errors import PrefsyncError

if TYPE_CHECKING:
    from collections.abc import Collection

    from prefsync.http.messages import HttpRequest

__all__ = ["OriginRefusedError", "check_origin", "check_origin_of_credentials"]

_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class OriginRefusedError(PrefsyncError):
    """A page of another origin wants to connect, in the name of whoever looks at it."""

    code = "origin-refused"


def check_origin(request: HttpRequest, allowed: Collection[str]) -> None:
    """Raise unless a connection comes from a page of this site, from one on the host's list, or from no page.

    Args:
        request: The handshake.
        allowed: Origins as browsers send them, ``https://app.example``.

    Raises:
        OriginRefusedError: It comes from elsewhere.
    """
    origin = request.header(b"origin")
    if origin is None or origin.lower() in {one.lower() for one in allowed}:
        return
    if not _is_same(origin, request.header(b"host") or ""):
        raise OriginRefusedError(
            "pages of this origin may not connect here; the host names those that may in PREFSYNC_ALLOWED_ORIGINS"
        )


def check_origin_of_credentials(request: HttpRequest, allowed: Collection[str]) -> None:
    """Raise unless a request brings a token, or comes from where :func:`check_origin` allows.

    What a browser adds by itself, a cookie say, it adds for pages of any origin, and to a plain ``POST`` without asking.
    A token was put there by somebody who has it; CORS says whose pages may do so.

    Args:
        request: The request.
        allowed: Origins as browsers send them.

    Raises:
        OriginRefusedError: It comes from elsewhere.
    """
    if not (request.header(b"authorization") or "").lower().startswith("bearer "):
        check_origin(request, allowed)


def _is_same(origin: str, host: str) -> bool:
    """Tell whether an origin has the host and port of a ``Host`` header; both may leave out the scheme's usual port."""
    try:
        page, target = urlsplit(origin), urlsplit(f"//{host}")
        usual = _PORTS.get(page.scheme, 0)
        here, there = (page.hostname, page.port or usual), (target.hostname, target.port or usual)
    except ValueError:  # a port that is none
        return False
    # A browser's origin is scheme, host and port, and nothing else.
    is_whole = (
        usual and page.hostname and origin.partition("://")[2] == page.netloc and "@" not in page.netloc
    )
    return bool(is_whole) and here == there
