"""Everything behind one mount: put together, opened and closed together, and looked after while it is open."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, Final, Self

import anyio

from prefsync.adapters.memory import MemoryCache, MemoryNotifier
from prefsync.caching import CachedDocuments
from prefsync.clock import Clock, SystemClock
from prefsync.containing import ContainedCache, ContainedNotifier
from prefsync.document import Document
from prefsync.errors import ConfigurationError
from prefsync.feed import ChangeFeed
from prefsync.forks import keep_for_ever
from prefsync.handle import PreferencesHandle
from prefsync.health import Health, Pulse
from prefsync.http.admission import Admission
from prefsync.http.handlers import PreferencesApi
from prefsync.http.https import HttpsOnly
from prefsync.http.options import ApiOptions
from prefsync.http.quotas import Quotas
from prefsync.http.reading import RENDERED_BYTES
from prefsync.hub import Hub
from prefsync.near import NearCache
from prefsync.parts import (
    Parts,
    build_cache,
    build_limiters,
    build_link,
    build_notifier,
    build_postgres_notifier,
    build_repository,
    build_telemetry,
    build_tickets,
    refuse_cluster,
)
from prefsync.polling import LongPolls
from prefsync.ports import CacheEntry
from prefsync.relay import Relay
from prefsync.resilience import Guard
from prefsync.schema import PreferencesModel, Schema, listed
from prefsync.service import PreferenceService
from prefsync.sessions import Sessions
from prefsync.settings import Settings
from prefsync.transactions import Transactions
from prefsync.trimming import Trimmer
from prefsync.verifiers import build_resource, build_verifier
from prefsync.workers import is_one_of_several

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session

    from prefsync.document import Subject
    from prefsync.socketio import SocketIo
    from prefsync.strictjson import Limits
    from prefsync.transactions import TransactionPreferences

__all__ = ["Runtime"]

logger = logging.getLogger("prefsync")

# Seconds that one call to the repository may take, the wait for a free connection included.
_DATABASE_LIMIT: Final = 5.0

# Seconds until background work that failed begins again.
_FAILED_PAUSE: Final = 1.0

# Seconds between the last farewell and the server's end: a server that sends from threads of its own, granian say, has
# taken the farewells and not sent them yet.
_FLUSH: Final = 0.25

# Seconds that open streams have to end when the app stops.
_FAREWELL_LIMIT: Final = 3.0


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

    Attributes:
        resource: What clients are told about where to get a token (RFC 9728), where ``PREFSYNC_RESOURCE_URL`` is set.

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
        models = listed(models)
        self._arguments = {name: value for name, value in locals().items() if name != "self"}
        self.schema = Schema(models)
        self.settings = settings or Settings.from_environment()
        parts = parts or Parts()
        clock = clock or SystemClock()
        self._link = link = build_link(self.settings)
        self.repository = build_repository(self.settings) if parts.repository is None else parts.repository
        self.cache = build_cache(self.settings, link, clock) if parts.cache is None else parts.cache
        self._postgres = build_postgres_notifier(self.settings, clock) if parts.notifier is None else None
        self.notifier = self._postgres or build_notifier(link) if parts.notifier is None else parts.notifier
        # What the host hands in may be its own, and raise what nobody thought of.
        cache = self.cache if parts.cache is None else ContainedCache(self.cache)
        notifier = self.notifier if parts.notifier is None else ContainedNotifier(self.notifier)
        self.limiter, self.operation_limiters = build_limiters(self.settings, link, clock, parts)
        self.verifier = parts.verifier
        if authenticates and self.verifier is None:
            self.verifier = build_verifier(self.settings, clock)
        self.tickets = build_tickets(link, self.repository, clock) if parts.tickets is None else parts.tickets
        self._clock = clock
        self.telemetry = build_telemetry(self.settings, clock) if parts.telemetry is None else parts.telemetry
        self._database = Guard("database", _DATABASE_LIMIT, clock)
        # Half of its bytes for documents, half for what is rendered of them.
        half = self.settings.near_cache // 2
        near = NearCache(half, self.settings.cache_ttl, clock) if half else None
        documents = CachedDocuments(self.repository, cache, self._database, near, self.telemetry)
        self.service = PreferenceService(
            self.schema,
            self.repository,
            documents,
            notifier,
            self._database,
            limits=limits,
            clock=clock,
            telemetry=self.telemetry,
        )
        self._relay = Relay(
            self.repository,
            cache,
            documents,
            notifier,
            self._database,
            clock,
            shared=not self._is_local(),
            untold=self.service.announcer.untold,
            telemetry=self.telemetry,
        )
        options = options or ApiOptions()
        feed = ChangeFeed(self.service, self.repository, self._database)
        self.transactions = Transactions(self.service, self.repository, clock)
        self.hub = Hub(
            notifier, self.repository, feed, self.service, self._database, clock, near, self.telemetry
        )
        self._trimmer = Trimmer(self.repository, self._database, clock)
        self._pulse = Pulse(self._database, self.repository, cache, self.hub, self._relay, clock)
        self.sessions = Sessions(
            self.hub,
            clock,
            most=self.settings.max_sessions,
            most_per_subject=self.settings.max_sessions_per_subject,
        )
        self.hub.on_erased = self._erased
        self._polls = LongPolls(self.hub, feed, clock)
        self.resource = build_resource(self.settings, options)
        admission = Admission(
            self.verifier,
            Quotas.of(self.limiter, self.operation_limiters),
            self.tickets,
            clock,
            None if self.resource is None else self.resource.metadata_url,
            self.telemetry,
        )
        self.api = PreferencesApi(
            self.service,
            self._polls,
            self.sessions,
            admission,
            clock,
            options,
            self.settings.allowed_origins,
            HttpsOnly(self.settings.hsts_max_age) if self.settings.require_https else None,
            half or RENDERED_BYTES,
        )
        self._socket_io = self.api.socket_io = _socket_io(self.api) if socketio else None
        self._users = 0
        self._is_abandoned = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening = anyio.Lock()
        self._stack = AsyncExitStack()

    @property
    def is_open(self) -> bool:
        """Whether its parts are open."""
        return self._users > 0

    def remade(self, **changes: Any) -> Runtime:
        """Return another one, made of the same arguments but for those given: for tests of a host's app."""
        return Runtime(**{**self._arguments, **changes})

    def handle(self, subject: Subject) -> PreferencesHandle:
        """Return a subject's typed handle."""
        return PreferencesHandle(self.service, subject)

    def within(
        self, transaction: AsyncSession | AsyncConnection | async_scoped_session[Any]
    ) -> AbstractAsyncContextManager[TransactionPreferences]:
        """Read and write preferences inside a transaction of the host's: with its rows, or not at all.

        ``async with prefsync.within(session) as preferences: await preferences.of("anna").update(Appearance, ...)``.
        The host commits, in the block or after it. Then the cache and everybody's sessions are told, which ``commit``
        waits for.

        Args:
            transaction: A session or connection of SQLAlchemy's, in the database that preferences are kept in.

        Raises:
            ConfigurationError: It is none, or in another database.
        """
        return self.transactions.within(transaction)

    def health(self) -> Health:
        """Return how this process stands, for a readiness probe say. Asks nobody, and takes no time."""
        return Health(
            database=self.is_open and self._pulse.has_database,
            notifier=self.hub.is_listening,
            sessions=len(self.sessions),
            draining=self.sessions.is_draining,
            parts=self._pulse.parts() if self.is_open else {},
        )

    def revoke(
        self,
        *,
        token: str | None = None,
        token_id: str | None = None,
        subject: Subject | None = None,
        until: float | None = None,
    ) -> None:
        """Refuse tokens from now on, and end the streams that they have opened: in this process, so call it in each.

        A ticket that was issued before may still open a stream for the minute that it lives.

        Args:
            token: A token.
            token_id: The ``jti`` of one.
            subject: Whose tokens: all that were issued until now, and those that do not say when (``iat``).
            until: When the last of them expires, in seconds since 1970; a day from now where left out.

        Raises:
            ConfigurationError: Tokens are verified by something that cannot be told.
        """
        revoked: Collection[str] = ()
        if self.verifier is not None:
            revoke = getattr(self.verifier, "revoke", None)
            if revoke is None:
                raise ConfigurationError("what verifies tokens here has no revoke(): see RevokingVerifier")
            revoked = revoke(token=token, token_id=token_id, subject=subject, until=until) or ()
        self.sessions.end(subject, revoked)

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

    def abandon(self) -> None:
        """Forget, in a forked process, everything that was opened in its parent, and close nothing.

        For ``os.register_at_fork(after_in_child=...)``. This runtime is of no use here any more; what it held is kept
        for ever, because to let go of it would reach the parent. Parts that the host handed over can be opened again,
        by another runtime made of the same arguments.
        """
        self._is_abandoned = True
        keep_for_ever(self, self._loop, asyncio.all_tasks(self._loop) if self._loop else None)
        limiters = (self.limiter, *self.operation_limiters.values())
        for part in (self.repository, self.cache, self.notifier, *limiters, self.tickets, self.verifier):
            abandon = getattr(part, "abandon", None)
            if abandon is not None:
                abandon()

    async def __aenter__(self) -> Self:
        if self._is_abandoned:
            raise RuntimeError("this was opened before the process was forked: make a new one here")
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
        if is_one_of_several() and self._is_local():
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
                *self.operation_limiters.values(),
                self.tickets,
                self.verifier,
                self._socket_io,
            ):
                if part is not None and hasattr(part, "__aenter__"):
                    await stack.enter_async_context(part)
            if self._link is not None:
                await refuse_cluster(self._link)
            await stack.enter_async_context(self.transactions)
            # A task of its own: whoever closes may be another task than the one that opened.
            self.sessions.is_draining = self._polls.is_draining = False
            self._loop = asyncio.get_running_loop()
            background = asyncio.create_task(self._work(), name="prefsync")
            stack.push_async_callback(_end, background)
            stack.push_async_callback(self.drained)
            self._stack = stack.pop_all()

    def _erased(self, subject: Subject, version: int) -> None:
        self.sessions.end(subject)
        self.service.documents.forget(subject, version)
        if isinstance(self.cache, MemoryCache):  # which only this process can tell
            self.cache.keep(subject, CacheEntry(version, Document(floor=version).encode()))

    async def _work(self) -> None:
        async with anyio.create_task_group() as tasks:
            for work in (
                self.hub.run,
                self.sessions.run,
                self._relay.run,
                self._pulse.run,
                self._trimmer.run,
            ):
                tasks.start_soon(_again_and_again, work)

    def _is_local(self) -> bool:
        return isinstance(self.cache, MemoryCache) or isinstance(self.notifier, MemoryNotifier)


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


def _socket_io(api: PreferencesApi) -> SocketIo:
    from prefsync.socketio import SocketIo  # only where it is asked for

    return SocketIo(api.sockets)
