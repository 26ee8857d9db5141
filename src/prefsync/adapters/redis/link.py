"""One link to Redis for everything in a process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError

from prefsync.adapters.redis.gathering import GatheringClient
from prefsync.errors import ConfigurationError, UnavailableError
from prefsync.ports import Part
from prefsync.resilience import Breaker

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Sequence

    from prefsync.clock import Clock

__all__ = ["RedisLink"]

# Seconds. A Redis that is up answers in well under a millisecond; one that is frozen must not hold requests for long.
TIME_LIMIT: Final = 0.25


class Gathering(Protocol):
    """A client whose commands of one moment travel together: of one server, or of a cluster."""

    def gather(self, *args: Any) -> asyncio.Future[Any]:
        """Send a command; the reply can be awaited later."""


class RedisLink(Part):
    """What the cache, the notifier and the limiter of one process share.

    Args:
        source: A URL (ours to open and close) or the host's own ``redis.asyncio.Redis`` (the host's to close).
        prefix: Begins every key and channel; two deployments on one Redis need two.
        time_limit: Seconds that a round trip may take.
        clock: For tests.

    Raises:
        ConfigurationError: The URL cannot be read, or the client decodes replies.
    """

    def __init__(
        self,
        source: str | Redis,
        *,
        prefix: str = "prefsync",
        time_limit: float = TIME_LIMIT,
        clock: Clock | None = None,
    ) -> None:
        self.prefix = prefix  # may be changed until the first of those who share the link is opened
        self.breaker = Breaker("cache", clock)
        self._source = source
        self._time_limit = time_limit
        self._own: Redis | None = None
        self._gathering: GatheringClient | None = None
        self._users = 0
        if isinstance(source, str):
            _check_url(source)
        elif source.connection_pool.connection_kwargs.get("decode_responses"):
            raise ConfigurationError(
                "the Redis client decodes replies to str; hand over one without decode_responses=True"
            )

    @property
    def client(self) -> GatheringClient:
        """The client for commands. Only between enter and exit."""
        if self._gathering is None:
            raise RuntimeError("the link to Redis is not open")
        return self._gathering

    async def __aenter__(self) -> Self:
        self._users += 1
        if self._users == 1:
            if isinstance(self._source, str):
                self._own = self._source_client(self._source)
            self._gathering = GatheringClient(self._raw(), self.breaker, self._time_limit)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._users -= 1
        if self._users:
            return
        if self._gathering is not None:
            gathering, self._gathering = self._gathering, None
            await gathering.close()
        if self._own is not None:
            await self._own.aclose()
            self._own = None

    def pubsub(self) -> Any:
        """Return a subscriber on a connection of its own."""
        return self._raw().pubsub()

    def script(
        self, text: str, digest: str, keys: list[str], args: Sequence[str | bytes | float]
    ) -> Awaitable[Any]:
        """Run a Lua script, sending its text only where Redis does not know it. Starts with the call.

        Raises:
            UnavailableError: When awaited, where Redis is out of reach or refuses to run it.
        """
        return run_script(self.client, self.breaker.part, text, digest, keys, args)

    def _raw(self) -> Redis:
        if self._own is not None:
            return self._own
        if isinstance(self._source, str):
            raise TypeError("the link to Redis is not open")
        return self._source

    def _source_client(self, url: str) -> Redis:
        return Redis.from_url(
            url,
            socket_timeout=self._time_limit,
            socket_connect_timeout=self._time_limit,
            socket_keepalive=True,
            # One try on a fresh connection for one that a restarted server closed; a frozen server is not asked twice.
            retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
            max_connections=64,
        )


def _check_url(url: str) -> None:
    try:
        Redis.from_url(url)
    except ValueError:  # whose message may hold a part of the password
        raise ConfigurationError(
            "PREFSYNC_REDIS_URL cannot be read; write redis://:password@host:6379/0, rediss://... or unix://..., the"
            " password percent-encoded"
        ) from None


def run_script(
    client: Gathering,
    part: str,
    text: str,
    digest: str,
    keys: list[str],
    args: Sequence[str | bytes | float],
) -> Awaitable[Any]:
    """Run a Lua script on a link's client; see ``RedisLink.script``."""
    reply = client.gather("EVALSHA", digest, len(keys), *keys, *args)
    return _finish(reply, client, part, ("EVAL", text, len(keys), *keys, *args))


async def _finish(reply: asyncio.Future[Any], client: Gathering, part: str, in_full: tuple[Any, ...]) -> Any:
    try:
        try:
            return await reply
        except NoScriptError:
            return await client.gather(*in_full)
    except ResponseError as error:  # out of memory, read-only after a failover, loading after a restart
        raise UnavailableError(part) from error
