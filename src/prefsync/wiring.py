"""One mount's parts, built from settings or handed in, opened and closed together."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, Self

import anyio

from prefsync.adapters.memory import MemoryCache, MemoryNotifier, MemoryRateLimiter, MemoryTickets
from prefsync.caching import CachedDocuments
from prefsync.clock import Clock, SystemClock
from prefsync.errors import ConfigurationError, UnavailableError
from prefsync.feed import ChangeFeed
from prefsync.handle import PreferencesHandle
from prefsync.http.admission import Admission
from prefsync.http.handlers import PreferencesApi
from prefsync.http.options import ApiOptions
from prefsync.hub import Hub
from prefsync.polling import LongPolls
from prefsync.relay import Relay
from prefsync.resilience import Guard
from prefsync.schema import PreferencesModel, Schema
from prefsync.service import PreferenceService
from prefsync.session import Sessions
from prefsync.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from prefsync.adapters.postgres import PostgresNotifier
    from prefsync.adapters.redis import RedisClusterLink, RedisLink
    from prefsync.document import Subject
    from prefsync.ports import (
        ChangeNotifier,
        PreferenceCache,
        PreferenceRepository,
        RateLimiter,
        TicketStore,
        TokenVerifier,
    )
    from prefsync.socketio import SocketIo
    from prefsync.strictjson import Limits

__all__ = ["Health", "Parts", "Runtime"]

logger = logging.getLogger("prefsync")

# Seconds that one call to the repository may take, the wait for a free connection included.
_DATABASE_LIMIT: Final = 5.0

# Seconds between two looks at whether the database answers; reads from the cache do not find out by themselves.
_PULSE: Final = 1.0

# Seconds between two rounds of trimming, and what they leave: claimed keys for a day (protocol.md, "Retries"), changes
# for as long as a client that comes back from a holiday may want to catch up.
_TRIM_EVERY: Final = 600.0
_TRIM_PAUSE: Final = 0.1
_REQUESTS_KEPT_MS: Final = 24 * 3_600 * 1_000
_CHANGES_KEPT_MS: Final = 30 * 24 * 3_600 * 1_000
_TRIM_BATCH: Final = 1_000

# Seconds until background work that failed begins again.
_FAILED_PAUSE: Final = 1.0

# Seconds between the last farewell and the server's end: a server that sends from threads of its own, granian say, has
# taken the farewells and not sent them yet.
_FLUSH: Final = 0.25

# Seconds that open streams have to end when the app stops.
_FAREWELL_LIMIT: Final = 3.0


class Parts:
    """Adapters that the host builds by hand instead of naming them by settings; each may be left out.

    Args:
        repository: Where documents are kept.
        cache: What repeats them.
        notifier: Who tells the other processes.
        limiter: Who counts requests.
        verifier: Who verifies tokens.
        tickets: Where one-time tickets for streams are kept.
    """

    def __init__(
        self,
        *,
        repository: PreferenceRepository | None = None,
        cache: PreferenceCache | None = None,
        notifier: ChangeNotifier | None = None,
        limiter: RateLimiter | None = None,
        verifier: TokenVerifier | None = None,
        tickets: TicketStore | None = None,
    ) -> None:
        self.repository = repository
        self.cache = cache
        self.notifier = notifier
        self.limiter = limiter
        self.verifier = verifier
        self.tickets = tickets


@dataclass(frozen=True, slots=True)
class Health:
    """How one process stands, as far as it knows.

    Attributes:
        database: Whether the database answered when it was last asked, within about a second.
        notifier: Whether changes by other processes are heard of at once; where not, within about 2 s.
        sessions: Open streams.
        draining: Whether new streams are refused, because the process is to end.
    """

    database: bool
    notifier: bool
    sessions: int
    draining: bool


class Runtime:
    """Everything behind one mount. Opened as often as it is used, closed with the last use.

    Args:
        models: The namespaces.
        settings: From the environment where left out.
        parts: Adapters built by hand.
        limits: How large documents may be.
        options: What the host settles about the protocol.
        authenticates: Whether tokens are verified here; else the host's own authentication says who calls.
        socketio: Whether Socket.IO is served too.
        clock: For tests.

    Raises:
        ConfigurationError: Something cannot work as it was set up; nothing was opened.
    """

    def __init__(
        self,
        models: Iterable[PreferencesModel],
        *,
        settings: Settings | None = None,
        parts: Parts | None = None,
        limits: Limits | None = None,
        options: ApiOptions | None = None,
        authenticates: bool = True,
        socketio: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self.schema = Schema(models)
        self.settings = settings or Settings.from_environment()
        parts = parts or Parts()
        clock = clock or SystemClock()
        self._link = link = _link(self.settings)
        self.repository = _repository(self.settings) if parts.repository is None else parts.repository
        self.cache = _cache(self.settings, link, clock) if parts.cache is None else parts.cache
        self._postgres = _postgres_notifier(self.settings, clock) if parts.notifier is None else None
        self.notifier = self._postgres or _notifier(link) if parts.notifier is None else parts.notifier
        self.limiter = _limiter(self.settings, link, clock) if parts.limiter is None else parts.limiter
        self.verifier = parts.verifier
        if authenticates and self.verifier is None:
            self.verifier = _verifier(self.settings, clock)
        self.tickets = _tickets(link, self.repository, clock) if parts.tickets is None else parts.tickets
        self._clock = clock
        self._database = Guard("database", _DATABASE_LIMIT, clock)
        documents = CachedDocuments(self.repository, self.cache, self._database)
        self.service = PreferenceService(
            self.schema, self.repository, documents, self.notifier, self._database, limits=limits, clock=clock
        )
        self._relay = Relay(
            self.repository,
            self.cache,
            documents,
            self.notifier,
            self._database,
            clock,
            shared=not self._is_local(),
            untold=self.service.untold,
        )
        options = options or ApiOptions()
        feed = ChangeFeed(self.service, self.repository, self._database)
        self.hub = Hub(self.notifier, self.repository, feed, self.service, self._database, clock)
        self.sessions = Sessions(
            self.hub,
            clock,
            most=self.settings.max_sessions,
            most_per_subject=self.settings.max_sessions_per_subject,
        )
        self._polls = LongPolls(self.hub, feed, clock)
        admission = Admission(self.verifier, self.limiter, self.tickets, clock)
        self.api = PreferencesApi(
            self.service, self._polls, self.sessions, admission, clock, options, self.settings.allowed_origins
        )
        self._socket_io = self.api.socket_io = _socket_io(self.api) if socketio else None
        self._users = 0
        self._opening = anyio.Lock()
        self._stack = AsyncExitStack()

    @property
    def is_open(self) -> bool:
        """Whether its parts are open."""
        return self._users > 0

    def handle(self, subject: Subject) -> PreferencesHandle:
        """Return a subject's typed handle."""
        return PreferencesHandle(self.service, subject)

    def health(self) -> Health:
        """Return how this process stands, for a readiness probe say. Asks nobody, and takes no time."""
        return Health(
            database=self.is_open and not self._database.breaker.is_failing,
            notifier=self.hub.is_listening,
            sessions=len(self.sessions),
            draining=self.sessions.is_draining,
        )

    def drain(self) -> None:
        """Say farewell to all streams and answer all long polls; new streams are refused from now on.

        Servers wait for open connections before they tell an app to stop: call this when the process is asked to end.
        """
        self.sessions.drain()
        self._polls.drain()
        if self._socket_io is not None:
            self._socket_io.drain()

    async def drained(self) -> None:
        """Drain, and return when no stream and no long poll is open any more, or the time for that is up."""
        has_streams = len(self.sessions) > 0
        self.drain()
        with anyio.move_on_after(_FAREWELL_LIMIT):
            await self.sessions.emptied()
            await self._polls.emptied()
        if has_streams:
            await anyio.sleep(_FLUSH)

    async def __aenter__(self) -> Self:
        async with self._opening:
            if self._users == 0:
                await self._open()
            self._users += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        async with self._opening:
            self._users -= 1
            if self._users == 0:
                await self._stack.aclose()

    async def _open(self) -> None:
        if _is_one_of_several_workers() and self._is_local():
            logger.warning(
                "this process seems to be one of several, but cache, notifier and limits are its own:"
                " set PREFSYNC_REDIS_URL, or changes made by another worker are seen about a second late and limits"
                " hold per worker"
            )
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.repository)
            for shared in (self._link, self._postgres):
                if shared is not None:
                    # Two databases on one Redis, of two mounts say, must not see one another's documents.
                    shared.prefix = f"{self.settings.redis_prefix}:{await self.repository.identity()}"
            for part in (
                self.cache,
                self.notifier,
                self.limiter,
                self.tickets,
                self.verifier,
                self._socket_io,
            ):
                if part is not None and hasattr(part, "__aenter__"):
                    await stack.enter_async_context(part)
            if self._link is not None:
                await _refuse_cluster(self._link)
            # A task of its own: whoever closes may be another task than the one that opened.
            self.sessions.is_draining = self._polls.is_draining = False
            background = asyncio.create_task(self._work(), name="prefsync")
            stack.push_async_callback(_end, background)
            stack.push_async_callback(self.drained)
            self._stack = stack.pop_all()

    async def _work(self) -> None:
        async with anyio.create_task_group() as tasks:
            for work in (
                self.hub.run,
                self.sessions.run,
                self._relay.run,
                self._feel_the_pulse,
                self._trim,
            ):
                tasks.start_soon(_again_and_again, work)

    def _is_local(self) -> bool:
        return isinstance(self.cache, MemoryCache) or isinstance(self.notifier, MemoryNotifier)

    async def _feel_the_pulse(self) -> None:
        """Find out that the database is away, or back, while nobody asks it for anything."""
        while True:
            await anyio.sleep(_PULSE)
            try:
                await self._database(self.repository.ping())
            except UnavailableError:
                logger.debug("the database does not answer")

    async def _trim(self) -> None:
        """Forget old changes and claimed keys, a little at a time."""
        while True:
            now = self._clock.now()
            try:
                removed = await self._database(
                    self.repository.trim(
                        changes_before=now - _CHANGES_KEPT_MS,
                        requests_before=now - _REQUESTS_KEPT_MS,
                        limit=_TRIM_BATCH,
                    )
                )
            except UnavailableError:
                logger.debug("old changes could not be trimmed; tried again later")
                removed = 0
            await anyio.sleep(_TRIM_PAUSE if removed else _TRIM_EVERY)


async def _again_and_again(work: Callable[[], Awaitable[None]]) -> None:
    """Run what never ends by itself. One that fails in a way nobody thought of must not end the others."""
    while True:
        try:
            await work()
        except Exception:
            logger.exception("background work failed; it begins again in %.0f s", _FAILED_PAUSE)
        await anyio.sleep(_FAILED_PAUSE)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _is_one_of_several_workers() -> bool:
    """Guess whether a server started more processes like this one; servers do not tell.

    uvicorn, granian and hypercorn start workers by multiprocessing; gunicorn names itself in the environment.
    """
    if multiprocessing.parent_process() is not None:
        return True
    workers = os.environ.get("WEB_CONCURRENCY", "1")
    return workers.isdigit() and int(workers) > 1


def _link(settings: Settings) -> RedisLink | RedisClusterLink | None:
    if settings.redis_url is None:
        return None
    from prefsync.adapters.redis import RedisClusterLink, RedisLink  # only where Redis is used

    is_cluster = settings.redis_url.partition("://")[0].endswith("+cluster")
    return (RedisClusterLink if is_cluster else RedisLink)(settings.redis_url, prefix=settings.redis_prefix)


async def _refuse_cluster(link: RedisLink | RedisClusterLink) -> None:
    from prefsync.adapters.redis import RedisClusterLink
    from prefsync.adapters.redis.nodes import refuse_cluster

    if not isinstance(link, RedisClusterLink):
        await refuse_cluster(link)


def _repository(settings: Settings) -> PreferenceRepository:
    from prefsync.adapters.sqlalchemy import SqlAlchemyRepository

    return SqlAlchemyRepository(settings.database_url, pool_size=settings.pool_size)


def _cache(settings: Settings, link: RedisLink | RedisClusterLink | None, clock: Clock) -> PreferenceCache:
    if link is None:
        return MemoryCache(settings.cache_ttl, clock=clock)
    from prefsync.adapters.redis import RedisCache

    return RedisCache(link, settings.cache_ttl)


def _postgres_notifier(settings: Settings, clock: Clock) -> PostgresNotifier | None:
    if settings.notifier_url is None:
        return None
    from prefsync.adapters.postgres import PostgresNotifier

    return PostgresNotifier(settings.notifier_url, clock=clock)


def _notifier(link: RedisLink | RedisClusterLink | None) -> ChangeNotifier:
    if link is None:
        return MemoryNotifier()
    from prefsync.adapters.redis import RedisClusterLink, RedisClusterNotifier, RedisNotifier

    return RedisClusterNotifier(link) if isinstance(link, RedisClusterLink) else RedisNotifier(link)


def _limiter(settings: Settings, link: RedisLink | RedisClusterLink | None, clock: Clock) -> RateLimiter:
    if link is None:
        return MemoryRateLimiter(settings.rate_limit, clock)
    from prefsync.adapters.limits import LimitsRateLimiter

    return LimitsRateLimiter(settings.rate_limit, link, clock)


def _tickets(
    link: RedisLink | RedisClusterLink | None, repository: PreferenceRepository, clock: Clock
) -> TicketStore:
    if link is not None:
        from prefsync.adapters.redis import RedisTickets

        return RedisTickets(link)
    if find_spec("sqlalchemy") is not None:
        from prefsync.adapters.sqlalchemy import SqlAlchemyRepository, SqlAlchemyTickets

        if isinstance(repository, SqlAlchemyRepository):
            return SqlAlchemyTickets(repository, clock)
    return MemoryTickets(clock)


def _socket_io(api: PreferencesApi) -> SocketIo:
    from prefsync.socketio import SocketIo  # only where it is asked for

    return SocketIo(api.sockets)


def _verifier(settings: Settings, clock: Clock) -> TokenVerifier:
    if settings.jwt_key is None:
        raise ConfigurationError(
            "PREFSYNC_JWT_KEY is not set, so no token can be verified; set a shared secret"
            ' (python -c "import secrets; print(secrets.token_urlsafe(48))") or a public key,'
            " or hand over your own authentication"
        )
    from prefsync.adapters.jwt import JwtVerifier

    return JwtVerifier(
        settings.jwt_key,
        algorithms=settings.jwt_algorithms,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        leeway=settings.jwt_leeway,
        tenant_claim=settings.jwt_tenant_claim,
        clock=clock,
    )
