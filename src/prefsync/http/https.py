"""Encrypted connections only, where the host demands them (protocol.md, "Errors": ``https-required``)."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from prefsync.errors import PrefsyncError

if TYPE_CHECKING:
    from prefsync.http.messages import HttpRequest
    from prefsync.http.quotas import Headers

__all__ = ["HttpsOnly", "HttpsRequiredError"]

# What proxies add. That there is one is believed, what it says never: the server or the host knows whom to trust.
_OF_PROXIES: Final = (
    b"forwarded",
    b"via",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-real-ip",
)


class HttpsRequiredError(PrefsyncError):
    """A request came over plain HTTP. It is refused and not redirected: the next one must not bring a token, too."""

    code = "https-required"


class HttpsOnly:
    """Refuses what was not encrypted, and tells browsers to come encrypted from then on.

    Args:
        max_age: Seconds for which browsers remember it (RFC 6797, section 6.1.1); 0: they are not told.
    """

    def __init__(self, max_age: int) -> None:
        self._told: Headers = []
        if max_age:
            self._told.append((b"strict-transport-security", b"max-age=%d" % max_age))

    def told(self, *, is_encrypted: bool) -> Headers:
        """Return what an answer tells beside all else: nothing over plain HTTP (RFC 6797, section 7.2)."""
        return self._told if is_encrypted else []

    def check(self, request: HttpRequest) -> Headers:
        """Return what the answer tells beside all else.

        Raises:
            HttpsRequiredError: The request came over plain HTTP, and not from this machine.
        """
        if not request.is_encrypted and not _is_from_here(request):
            raise HttpsRequiredError("plain HTTP is refused here: send this, with another token, by HTTPS")
        return self.told(is_encrypted=request.is_encrypted)


def _is_from_here(request: HttpRequest) -> bool:
    """Tell whether a request has not left this machine.

    A proxy on the same machine connects from a loopback address for anybody. So the client must also have meant this
    machine, and nothing may say that it came by a proxy.
    """
    if any(name in request.headers for name in _OF_PROXIES):
        return False
    try:
        host = urlsplit("//" + (request.header(b"host") or "")).hostname or ""
    except ValueError:  # a bracket without its other
        return False
    return _is_loopback(request.client) and (host == "localhost" or _is_loopback(host))


def _is_loopback(address: str) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)  # as an IPv6 socket names clients of IPv4
    return (mapped or found).is_loopback
