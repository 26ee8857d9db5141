"""The ports: what the core asks of storage, cache, notifier, limiter and verifier. The architecture on one page.

Adapters of this package subclass these protocols; others just match them. Each port has a contract suite in
``prefsync.testing`` that an adapter runs to prove that it keeps what its port says.

Common to all: a method that cannot do its work because its part is out of reach raises
:class:`~prefsync.errors.UnavailableError` within a bounded time and leaves nothing half done. Whatever else the host's
own cache raises, or its notifier where it publishes, is a fault, which is logged once and then taken for that. Adapters
own what they opened themselves and close it in ``__aexit__``; what was handed to them is the host's to close. Nothing is
opened, and nothing bound to an event loop, before ``__aenter__``.
"""

from prefsync.ports.cache import CacheEntry, PreferenceCache
from prefsync.ports.limiter import Operation, Permit, Rate, RateLimiter, ReadyRateLimiter
from prefsync.ports.notifier import Alive, Announcement, ChangeNotifier, Gap, Lost
from prefsync.ports.part import Part
from prefsync.ports.repository import (
    CLOCKS_DIFFER,
    ChangeLog,
    Kept,
    LoggedRevision,
    Outcome,
    PreferenceRepository,
    RequestRecord,
    Trimmed,
    Write,
)
from prefsync.ports.tokens import RememberingVerifier, RevokingVerifier, TicketStore, TokenVerifier
from prefsync.ports.transactions import Committed, Committing, HostTransaction, JoiningRepository

__all__ = [
    "CLOCKS_DIFFER",
    "Alive",
    "Announcement",
    "CacheEntry",
    "ChangeLog",
    "ChangeNotifier",
    "Committed",
    "Committing",
    "Gap",
    "HostTransaction",
    "JoiningRepository",
    "Kept",
    "LoggedRevision",
    "Lost",
    "Operation",
    "Outcome",
    "Part",
    "Permit",
    "PreferenceCache",
    "PreferenceRepository",
    "Rate",
    "RateLimiter",
    "ReadyRateLimiter",
    "RememberingVerifier",
    "RequestRecord",
    "RevokingVerifier",
    "TicketStore",
    "TokenVerifier",
    "Trimmed",
    "Write",
]
