"""Every error that prefsync raises on purpose, each with a stable code.

HTTP status codes are not here: ``prefsync.http.problems`` maps codes to them, so that the core stays free of
transports.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

__all__ = [
    "ConfigurationError",
    "FieldError",
    "IdempotencyMismatchError",
    "IncompatibleTablesError",
    "InsufficientScopeError",
    "InvalidPreferencesError",
    "MalformedError",
    "MissingExtraError",
    "PreconditionFailedError",
    "PreconditionRequiredError",
    "PrefsyncError",
    "RateLimitedError",
    "ReadOnlyError",
    "TransactionConflictError",
    "UnauthenticatedError",
    "UnavailableError",
    "UndeclaredNamespaceError",
    "UnusableDatabaseError",
]


class PrefsyncError(Exception):
    """Root of all errors of this library.

    Attributes:
        code: A stable, machine-readable name, the same in every release.
    """

    code: ClassVar[str] = "error"


class ConfigurationError(PrefsyncError):
    """The host set something up that cannot work; raised at start, in one line that says what to change."""

    code = "configuration"


class UnusableDatabaseError(ConfigurationError):
    """The database cannot be opened: it is away for the moment, or what was set up does not lead to it."""


class IncompatibleTablesError(UnusableDatabaseError):
    """The database's tables are older or newer than this code can work with; the message says what to run."""

    code = "incompatible-tables"


class MissingExtraError(ConfigurationError, ImportError):
    """A part was asked for whose optional dependency is not installed.

    Args:
        feature: What was asked for, as the reader knows it.
        extra: The extra of the distribution that brings the dependency.
    """

    code = "missing-extra"

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f'{feature} needs an optional dependency: pip install "prefsync-kit[{extra}]"')
        self.extra = extra


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing that is wrong with submitted preferences.

    Attributes:
        pointer: A JSON pointer (RFC 6901) from the document's root, ``/appearance/theme``.
        code: A stable name of the rule, ``literal_error``.
        detail: The rule in words, never the value that broke it.
    """

    pointer: str
    code: str
    detail: str


class InvalidPreferencesError(PrefsyncError):
    """Submitted preferences break the rules; nothing was written.

    Attributes:
        errors: All that is wrong, at least one entry.
    """

    code = "invalid-preferences"

    def __init__(self, errors: list[FieldError]) -> None:
        first = errors[0]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        super().__init__(f"{first.pointer or 'the body'}: {first.detail}{more}")
        self.errors = errors


class MalformedError(PrefsyncError):
    """What was sent cannot be read at all: broken JSON, or a bad header or parameter."""

    code = "malformed-request"


class UndeclaredNamespaceError(PrefsyncError):
    """A namespace was named that the host did not declare."""

    code = "not-found"


class PreconditionFailedError(PrefsyncError):
    """The state is not the one that the caller made its condition; nothing was written."""

    code = "precondition-failed"


class PreconditionRequiredError(PrefsyncError):
    """The host demands a condition (``If-Match``) on every write, and there was none."""

    code = "precondition-required"


class IdempotencyMismatchError(PrefsyncError):
    """An idempotency key was used again for another request; nothing was written."""

    code = "idempotency-mismatch"


class UnauthenticatedError(PrefsyncError):
    """There is no token, or one that fails verification.

    Attributes:
        reason: ``missing`` where nothing was sent; ``invalid_token`` (RFC 6750, section 3.1) otherwise.
    """

    code = "unauthenticated"

    def __init__(self, message: str, reason: Literal["missing", "invalid_token"] = "invalid_token") -> None:
        super().__init__(message)
        self.reason = reason


class InsufficientScopeError(PrefsyncError):
    """The token is good but does not carry the scope that the operation needs.

    Attributes:
        scope: The scope that is missing.
    """

    code = "insufficient-scope"

    def __init__(self, scope: str) -> None:
        super().__init__(f"this needs the scope {scope}")
        self.scope = scope


class RateLimitedError(PrefsyncError):
    """The caller's quota is used up.

    Attributes:
        retry_after: Whole seconds after which a request can pass again.
    """

    code = "rate-limited"

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many requests: try again in {retry_after} s")
        self.retry_after = retry_after


class TransactionConflictError(PrefsyncError):
    """Another transaction came in between the host's own one, in which preferences were written.

    Nothing of it can be kept: roll it back, and run all of it again.
    """

    code = "transaction-conflict"

    def __init__(self) -> None:
        super().__init__("another transaction came in between: roll this one back, and run all of it again")


class UnavailableError(PrefsyncError):
    """A part that prefsync stands on is out of reach; nothing was half done.

    Attributes:
        part: ``database``, ``cache``, ``notifier``, ``issuer``, or ``process``: this one takes no more streams.
        retry_after: Whole seconds after which trying again makes sense.
    """

    code = "unavailable"

    def __init__(self, part: str, retry_after: int = 1, message: str | None = None) -> None:
        super().__init__(message or f"the {part} is out of reach")
        self.part = part
        self.retry_after = retry_after


class ReadOnlyError(UnavailableError):
    """The database answers, and stores nothing: it is read-only, or its disk is full. Nothing was half done.

    Args:
        message: Which of the two.
    """

    def __init__(self, message: str) -> None:
        # What ends it is somebody's work, or a failover.
        super().__init__("database", retry_after=5, message=message)
