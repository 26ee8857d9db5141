"""URLs that secrets and trust depend on."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

__all__ = ["check_secure", "is_loopback", "shown", "well_known"]

_VISIBLE: Final = range(0x21, 0x7F)

# User and password as drivers read them: up to an "@", whatever stands in between. Digits up to the path are a port.
_PASSWORD: Final = re.compile(r"([^:/?#]+://[^:/?#\[]*):(?!\d{1,5}(?:[,/?#]|$))[^@]*@")
_WEB_USER: Final = re.compile(r"(https?://)[^/?#]*@")
_HIDDEN: Final = "***"


def check_secure(url: str, *, query: bool = True) -> SplitResult:
    """Return the parts of a URL that nobody on the way can read or change: ``https``, or this machine itself.

    Args:
        url: The URL.
        query: Whether it may have a query.

    Raises:
        ValueError: It is none; the message says what to write.
    """
    advice = "write https://host/path (http:// only to this machine, 127.0.0.1 or localhost)"
    if any(ord(char) not in _VISIBLE for char in url):
        raise ValueError(advice)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(advice) from None
    if not host or parts.scheme not in {"http", "https"}:
        raise ValueError(advice)
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError(advice)
    if parts.username is not None or parts.password is not None:
        raise ValueError("leave user and password out of it")
    if "#" in url or ("?" in url and not query):
        raise ValueError("leave out the fragment" + ("" if query else " and the query"))
    return parts


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine, whatever a name server says."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def shown(url: str) -> str:
    """Return a URL as errors, logs and screens may show it: without the password and without any value of its query.

    Drivers and issuers take secrets there under many names: ``password``, ``sslpassword``, ``token``, ``code``. In a web
    address, a user is one too.
    """
    start, rest = "", url
    if found := _PASSWORD.match(url):
        start, rest = f"{found[1]}:{_HIDDEN}@", url[found.end() :]
    place, _, query = rest.partition("#")[0].partition("?")
    if start:
        place = place.rpartition("@")[2]  # an "@" in a password that should have been quoted
    place = _WEB_USER.sub(rf"\1{_HIDDEN}@", f"{start}{place}")
    values = (one.partition("=") for one in query.split("&") if one)
    hidden = "&".join(f"{name}={_HIDDEN}" if equals else _HIDDEN for name, equals, _ in values)
    return f"{place}?{hidden}" if hidden else place


def well_known(url: str, name: str) -> str:
    """Return where metadata about a URL is: the name stands between host and path (RFC 8414 and RFC 9728, section 3.1)."""
    parts = urlsplit(url)
    path = parts.path if parts.path != "/" else ""
    return parts._replace(path=f"/.well-known/{name}{path}").geturl()
