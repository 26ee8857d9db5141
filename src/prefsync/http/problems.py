"""Errors as problem details (RFC 9457): the one place that knows their HTTP status."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from prefsync.errors import (
    InsufficientScopeError,
    InvalidPreferencesError,
    PrefsyncError,
    RateLimitedError,
    UnauthenticatedError,
    UnavailableError,
)
from prefsync.http.messages import NOSNIFF, HttpResponse
from prefsync.strictjson import MAX_ERRORS, encode

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ForbiddenMethodError",
    "TooLargeError",
    "UnsupportedMediaTypeError",
    "answer",
    "answer_status",
    "problem",
    "problem_with_delay",
]


class TooLargeError(PrefsyncError):
    """The body is larger than the host takes; it was not read to its end."""

    code = "too-large"


class UnsupportedMediaTypeError(PrefsyncError):
    """The body is no JSON by its own account, or it is compressed.

    Attributes:
        coding: Whether its coding is at fault and not its type.
    """

    code = "unsupported-media-type"

    def __init__(self, message: str, *, coding: bool = False) -> None:
        super().__init__(message)
        self.coding = coding


class ForbiddenMethodError(PrefsyncError):
    """The path exists, and does not take this method.

    Attributes:
        allowed: The methods it takes.
    """

    code = "method-not-allowed"

    def __init__(self, allowed: tuple[str, ...]) -> None:
        super().__init__(f"this path takes {', '.join(allowed)}")
        self.allowed = allowed


STATUS: Final[dict[str, tuple[int, str]]] = {
    "malformed-request": (400, "The request cannot be read"),
    "unauthenticated": (401, "A valid token is needed"),
    "insufficient-scope": (403, "The token does not allow this"),
    "https-required": (403, "This is served over HTTPS alone"),
    "origin-refused": (403, "Pages of this origin may not connect"),
    "not-found": (404, "There is nothing here"),
    "method-not-allowed": (405, "This method is not for this path"),
    "precondition-failed": (412, "The state is not the one that was made a condition"),
    "too-large": (413, "The body is too large"),
    "unsupported-media-type": (415, "The body must be JSON"),
    "invalid-preferences": (422, "These preferences break the rules"),
    "idempotency-mismatch": (422, "The idempotency key was used for another request"),
    "precondition-required": (428, "A condition is needed"),
    "rate-limited": (429, "Too many requests"),
    "unavailable": (503, "A part of the service is out of reach"),
}

# What the protocol calls a refusal that a host tells by status alone.
_CODES: Final = {401: "unauthenticated", 403: "insufficient-scope", 429: "rate-limited", 503: "unavailable"}

_REALM: Final = 'Bearer realm="preferences"'


def problem(error: PrefsyncError) -> dict[str, Any]:
    """Describe an error as problem details."""
    status, title = STATUS[error.code]
    detail = str(error)
    members: dict[str, Any] = {
        "type": f"urn:prefsync:problem:{error.code}",
        "title": title,
        "status": status,
        "detail": detail,
    }
    if isinstance(error, InvalidPreferencesError):
        members["errors"] = [
            {"pointer": entry.pointer, "code": entry.code, "detail": entry.detail}
            for entry in error.errors[:MAX_ERRORS]
        ]
    return members


def problem_with_delay(error: PrefsyncError) -> dict[str, Any]:
    """Describe an error where there are no headers to say when to try again."""
    members = problem(error)
    if isinstance(error, (RateLimitedError, UnavailableError)):
        members["retry_after"] = error.retry_after
    return members


def answer(error: PrefsyncError, resource_metadata: str | None = None) -> HttpResponse:
    """Answer with an error.

    Args:
        error: What went wrong.
        resource_metadata: The URL at which clients find out where to get a token (RFC 9728, section 5.1).
    """
    members = problem(error)
    body = encode(members)
    headers = _headers_of(body)
    match error:
        case UnauthenticatedError() | InsufficientScopeError():
            headers.append((b"www-authenticate", _challenge(error, resource_metadata).encode()))
        case UnsupportedMediaTypeError(coding=True):
            headers.append((b"accept-encoding", b"identity"))  # RFC 9110, section 15.5.16
        case ForbiddenMethodError(allowed=allowed):
            headers.append((b"allow", ", ".join(allowed).encode()))
        case RateLimitedError(retry_after=seconds) | UnavailableError(retry_after=seconds):
            headers.append((b"retry-after", b"%d" % seconds))
        case _:
            pass
    return HttpResponse(members["status"], headers, body)


def answer_status(status: int, detail: str, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """Answer with what a host's own authentication refuses by an HTTP status, in the protocol's form.

    Args:
        status: 400 or above.
        detail: The host's words.
        headers: The host's headers, ``WWW-Authenticate`` say.
    """
    code = _CODES.get(status)
    body = encode(
        {
            "type": f"urn:prefsync:problem:{code}" if code else "about:blank",
            "title": STATUS[code][1] if code else HTTPStatus(status).phrase,
            "status": status,
            "detail": detail,
        }
    )
    fields = [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    if status == HTTPStatus.UNAUTHORIZED and all(name != b"www-authenticate" for name, _ in fields):
        fields.append((b"www-authenticate", _REALM.encode()))
    return HttpResponse(status, [*_headers_of(body), *fields], body)


def _challenge(error: UnauthenticatedError | InsufficientScopeError, resource_metadata: str | None) -> str:
    """Say what kind of token is needed (RFC 6750, section 3); of a token that was not sent there is no more to say."""
    challenge = _REALM
    if isinstance(error, InsufficientScopeError):
        challenge += f', error="insufficient_scope", error_description="{_quotable(str(error))}", scope="{error.scope}"'
    elif error.reason != "missing":
        challenge += f', error="invalid_token", error_description="{_quotable(str(error))}"'
    return challenge if resource_metadata is None else f'{challenge}, resource_metadata="{resource_metadata}"'


def _headers_of(body: bytes) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
        NOSNIFF,
        (b"cache-control", b"no-store"),
        (b"vary", b"Authorization, Accept-Encoding"),
    ]


def _quotable(text: str) -> str:
    """Keep what RFC 6750, section 3, allows in an error description."""
    return "".join(char for char in text if char.isascii() and char.isprintable() and char not in '"\\')
