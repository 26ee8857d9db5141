"""What requests say in their query and in headers of the protocol's own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from prefsync.errors import MalformedError
from prefsync.strictjson import MAX_INTEGER

if TYPE_CHECKING:
    from prefsync.http.messages import HttpRequest

__all__ = [
    "KEY",
    "ORIGIN",
    "last_event_id",
    "matching",
    "minimum_revision",
    "number",
    "query_of",
    "refuse_token_in",
    "seconds",
]

ORIGIN: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
KEY: Final = re.compile(r"[\x21-\x7e]{1,128}")

_REVISION: Final = re.compile(r"[0-9]{1,16}")
# As programs print numbers, 1e-05 among them.
_SECONDS: Final = re.compile(r"[0-9]{1,3}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?")


def refuse_token_in(request: HttpRequest) -> None:
    """Refuse a token in a URL, where logs and histories keep it (RFC 9700, section 4.3.2)."""
    if not request.query:
        return
    # Whatever bytes a query holds, Latin-1 reads them.
    query = parse_qsl(request.query.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
    if any(name in {"token", "access_token"} for name, _ in query):
        raise MalformedError(
            "a token does not belong in a URL: send it in a header, and take this one for leaked"
        )


def query_of(request: HttpRequest) -> dict[str, str]:
    """Return the query's parameters.

    Raises:
        MalformedError: It cannot be read, or names one twice.
    """
    try:
        pairs = parse_qsl(request.query.decode("ascii"), keep_blank_values=True, errors="strict")
    except (UnicodeDecodeError, ValueError):
        raise MalformedError("the query cannot be read: percent-encode it as UTF-8") from None
    query = dict(pairs)
    if len(query) != len(pairs):
        raise MalformedError("a query parameter is given twice")
    return query


def number(query: dict[str, str], name: str, least: int, most: int, default: int | None = None) -> int:
    """Return a parameter that is an integer within bounds.

    Raises:
        MalformedError: It is not, or it is missing and there is no default.
    """
    value = query.get(name)
    if value is None and default is not None:
        return default
    if value is None or not _REVISION.fullmatch(value) or not least <= int(value) <= most:
        raise MalformedError(f"the query parameter {name} must be an integer from {least} to {most}")
    return int(value)


def seconds(query: dict[str, str], name: str, most: float) -> float:
    """Return a parameter that is a time, 0 where it is missing.

    Raises:
        MalformedError: It is none, or too long.
    """
    value = query.get(name, "0")
    if not _SECONDS.fullmatch(value) or float(value) > most:
        raise MalformedError(f"the query parameter {name} must be seconds from 0 to {most:.0f}")
    return float(value)


def minimum_revision(request: HttpRequest) -> int:
    """Return the lowest revision that will do."""
    value = request.header(b"prefsync-min-revision")
    if value is None:
        return 0
    if not _REVISION.fullmatch(value) or int(value) > MAX_INTEGER:
        raise MalformedError("Prefsync-Min-Revision must be a revision, an integer from 0 to 2^53 - 1")
    return int(value)


def last_event_id(request: HttpRequest) -> int | None:
    """Return the revision that a reconnecting event stream has; one that is no number counts as missing."""
    value = request.header(b"last-event-id")
    if value is None or not _REVISION.fullmatch(value) or int(value) > MAX_INTEGER:
        return None
    return int(value)


def matching(request: HttpRequest, name: bytes, pattern: re.Pattern[str], rule: str) -> str | None:
    """Return a header's value.

    Raises:
        MalformedError: It has another form.
    """
    value = request.header(name)
    if value is not None and not pattern.fullmatch(value):
        raise MalformedError(f"{name.decode().title()} must have {rule}")
    return value
