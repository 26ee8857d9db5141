"""prefsync: user preferences in your own app, validated, stored, cached, and in sync on all of a user's devices.

This package is the core, free of frameworks; ``prefsync_fastapi`` and ``prefsync_flask`` mount it.
"""

from prefsync.document import Change, Identity, Snapshot, Subject
from prefsync.errors import (
    ConfigurationError,
    FieldError,
    IdempotencyMismatchError,
    InsufficientScopeError,
    InvalidPreferencesError,
    MalformedError,
    MissingExtraError,
    PreconditionFailedError,
    PreconditionRequiredError,
    PrefsyncError,
    RateLimitedError,
    TransactionConflictError,
    UnauthenticatedError,
    UnavailableError,
    UndeclaredNamespaceError,
)
from prefsync.handle import PreferencesHandle
from prefsync.health import Health, PartHealth
from prefsync.http.options import ApiOptions
from prefsync.parts import Parts
from prefsync.ports import Rate
from prefsync.schema import OpenPreferences, Preferences, Schema
from prefsync.settings import Settings
from prefsync.strictjson import Limits
from prefsync.transactions import TransactionPreferences
from prefsync.wiring import Runtime

__version__ = "0.1.0"

__all__ = [
    "ApiOptions",
    "Change",
    "ConfigurationError",
    "FieldError",
    "Health",
    "IdempotencyMismatchError",
    "Identity",
    "InsufficientScopeError",
    "InvalidPreferencesError",
    "Limits",
    "MalformedError",
    "MissingExtraError",
    "OpenPreferences",
    "PartHealth",
    "Parts",
    "PreconditionFailedError",
    "PreconditionRequiredError",
    "Preferences",
    "PreferencesHandle",
    "PrefsyncError",
    "Rate",
    "RateLimitedError",
    "Runtime",
    "Schema",
    "Settings",
    "Snapshot",
    "Subject",
    "TransactionConflictError",
    "TransactionPreferences",
    "UnauthenticatedError",
    "UnavailableError",
    "UndeclaredNamespaceError",
    "__version__",
]
