"""The adapters of one mount: those that the host hands in, and those that settings name.

Drivers are imported here, and only where one is asked for.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from prefsync.adapters.memory import MemoryCache, MemoryNotifier, MemoryRateLimiter, MemoryTickets
from prefsync.telemetry import OFF

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefsync.adapters.postgres import PostgresNotifier
    from prefsync.adapters.redis import RedisClusterLink, RedisLink
    from prefsync.clock import Clock
    from prefsync.ports import (
        ChangeNotifier,
        Operation,
        PreferenceCache,
        PreferenceRepository,
        Rate,
        RateLimiter,
        TicketStore,
        TokenVerifier,
    )
    from prefsync.settings import Settings
    from prefsync.telemetry import Telemetry

__all__ = [
    "Parts",
    "build_cache",
    "build_limiters",
    "build_link",
    "build_notifier",
    "build_postgres_notifier",
    "build_repository",
    "build_telemetry",
    "build_tickets",
    "refuse_cluster",
]


class Parts:
    """Adapters that the host builds by hand instead of naming them by settings; each may be left out.

    Args:
        repository: Where documents are kept: ``SqlAlchemyRepository(engine)`` on the host's own engine, async or sync.
        cache: What repeats them.
        notifier: Who tells the other processes.
        limiter: Who counts requests.
        operation_limiters: Who counts those that have a rate of their own: by ``reads``, ``writes`` and ``streams``.
        verifier: Who verifies tokens.
        tickets: Where one-time tickets for streams are kept.
        telemetry: Who is told of how all this fares.
    """

    def __init__(
        self,
        *,
        repository: PreferenceRepository | None = None,
        cache: PreferenceCache | None = None,
        notifier: ChangeNotifier | None = None,
        limiter: RateLimiter | None = None,
        operation_limiters: Mapping[Operation, RateLimiter] | None = None,
        verifier: TokenVerifier | None = None,
        tickets: TicketStore | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.repository = repository
        self.cache = cache
        self.notifier = notifier
        self.limiter = limiter
        self.operation_limiters = dict(operation_limiters or {})
        self.verifier = verifier
        self.tickets = tickets
        self.telemetry = telemetry


def build_link(settings: Settings) -> RedisLink | RedisClusterLink | None:
    """Return what all that use Redis share, a server's or a cluster's; ``None`` without Redis."""
    if settings.redis_url is None:
        return None
    from prefsync.adapters.redis import RedisClusterLink, RedisLink  # only where Redis is used

    is_cluster = settings.redis_url.partition("://")[0].endswith("+cluster")
    return (RedisClusterLink if is_cluster else RedisLink)(settings.redis_url, prefix=settings.redis_prefix)


def build_repository(settings: Settings) -> PreferenceRepository:
    """Return the repository of the settings' database."""
    from prefsync.adapters.sqlalchemy import SqlAlchemyRepository

    return SqlAlchemyRepository(settings.database_url, pool_size=settings.pool_size, tables=settings.tables)


def build_cache(
    settings: Settings, link: RedisLink | RedisClusterLink | None, clock: Clock
) -> PreferenceCache:
    """Return a cache in Redis, or one of this process's own."""
    if link is None:
        return MemoryCache(settings.cache_ttl, clock=clock)
    from prefsync.adapters.redis import RedisCache

    return RedisCache(link, settings.cache_ttl)


def build_postgres_notifier(settings: Settings, clock: Clock) -> PostgresNotifier | None:
    """Return the notifier that PostgreSQL is, where the settings ask for that."""
    if settings.notifier_url is None:
        return None
    from prefsync.adapters.postgres import PostgresNotifier

    return PostgresNotifier(settings.notifier_url, clock=clock)


def build_notifier(link: RedisLink | RedisClusterLink | None) -> ChangeNotifier:
    """Return the notifier that Redis is, or one that reaches nobody but this process."""
    if link is None:
        return MemoryNotifier()
    from prefsync.adapters.redis import RedisClusterLink, RedisClusterNotifier, RedisNotifier

    return RedisClusterNotifier(link) if isinstance(link, RedisClusterLink) else RedisNotifier(link)


def build_limiters(
    settings: Settings, link: RedisLink | RedisClusterLink | None, clock: Clock, parts: Parts
) -> tuple[RateLimiter, dict[Operation, RateLimiter]]:
    """Return what counts requests, and what counts those of operations that have a rate of their own."""
    rates: dict[Operation, Rate | None] = {
        "reads": settings.rate_limit_reads,
        "writes": settings.rate_limit_writes,
        "streams": settings.rate_limit_streams,
    }
    operations = {name: _limiter(rate, link, clock) for name, rate in rates.items() if rate is not None}
    limiter = _limiter(settings.rate_limit, link, clock) if parts.limiter is None else parts.limiter
    return limiter, {**operations, **parts.operation_limiters}


def _limiter(rate: Rate, link: RedisLink | RedisClusterLink | None, clock: Clock) -> RateLimiter:
    """Return a limiter that counts in Redis, or one of this process's own."""
    if link is None:
        return MemoryRateLimiter(rate, clock)
    from prefsync.adapters.limits import LimitsRateLimiter

    return LimitsRateLimiter(rate, link, clock)


def build_tickets(
    link: RedisLink | RedisClusterLink | None, repository: PreferenceRepository, clock: Clock
) -> TicketStore:
    """Return where processes share tickets: Redis, else the database; in memory where there is neither."""
    if link is not None:
        from prefsync.adapters.redis import RedisTickets

        return RedisTickets(link)
    if find_spec("sqlalchemy") is not None:
        from prefsync.adapters.sqlalchemy import SqlAlchemyRepository, SqlAlchemyTickets

        if isinstance(repository, SqlAlchemyRepository):
            return SqlAlchemyTickets(repository, clock)
    return MemoryTickets(clock)


def build_telemetry(settings: Settings, clock: Clock) -> Telemetry:
    """Return what tells OpenTelemetry, where the settings ask for that."""
    if not settings.telemetry:
        return OFF
    from prefsync.adapters.opentelemetry import OtelTelemetry

    return OtelTelemetry(clock=clock)


async def refuse_cluster(link: RedisLink | RedisClusterLink) -> None:
    """Raise where the link is one to a single server, and that belongs to a cluster.

    Raises:
        ConfigurationError: It does.
    """
    from prefsync.adapters.redis import RedisClusterLink
    from prefsync.adapters.redis.nodes import refuse_cluster

    if not isinstance(link, RedisClusterLink):
        await refuse_cluster(link)
