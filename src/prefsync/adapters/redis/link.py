"""One link to Redis for everything in a process: commands of concurrent requests travel in one pipeline."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import DataError, NoScriptError, RedisError, ResponseError

from prefsync.errors import ConfigurationError, UnavailableError
from prefsync.ports import Part
from prefsync.resilience import Breaker

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from prefsync.clock import Clock

__all__ = ["GatheringRedis", "RedisLink"]

# While this many pipelines are on their way, further commands wait and travel together in the next one. More of them
# mean smaller pipelines, and a pipeline costs more than the commands in it.
_IN_FLIGHT: Final = 2

# Seconds. A Redis that is up answers in well under a millisecond; one that is frozen must not hold requests for long.
TIME_LIMIT: Final = 0.25


# A command's words, its options, and who waits for the reply.
_Command: TypeAlias = tuple[tuple[Any, ...], dict[str, Any], "asyncio.Future[Any]"]


class GatheringRedis(Redis):
    """A client whose commands, of all tasks in one round of the event loop, travel as one pipeline.

    A caller that is cancelled leaves no reply behind on a connection (the fault of CVE-2023-28858): pipelines run in
    tasks of their own. Commands that block a connection (``BLPOP``, ``SUBSCRIBE``) do not belong here.

    Args:
        source: The client whose connections to use.
        breaker: Knows whether Redis answers.
    """

    def __init__(self, source: Redis, breaker: Breaker) -> None:
        super().__init__(connection_pool=source.connection_pool)
        self.auto_close_connection_pool = False
        self._breaker = breaker
        self._waiting: list[_Command] = []
        self._scheduled = False
        self._in_flight = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command with those of others, and return its reply.

        Raises:
            UnavailableError: Redis is out of reach.
            ResponseError: Redis answered with an error.
        """
        return await self.gather(*args, **options)

    def gather(self, *args: Any, **options: Any) -> asyncio.Future[Any]:
        """Send a command with those of others; the reply can be awaited later."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        try:
            self._breaker.check()
        except UnavailableError as error:
            future.set_exception(error)
            return future
        self._waiting.append((args, options, future))
        if not self._scheduled:
            self._scheduled = True
            # Not at once but a round later: what a request starts in tasks of its own travels along.
            loop.call_soon(loop.call_soon, self._depart)
        return future

    def _depart(self) -> None:
        self._scheduled = False
        if self._waiting and self._in_flight < _IN_FLIGHT:
            batch, self._waiting = self._waiting, []
            self._in_flight += 1
            task = asyncio.get_running_loop().create_task(self._travel_and_return(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _travel_and_return(self, batch: list[_Command]) -> None:
        try:
            await self._travel(batch)
        finally:
            self._in_flight -= 1
            if self._waiting:
                self._depart()

    async def _ask(self, commands: list[tuple[tuple[Any, ...], dict[str, Any]]]) -> list[Any]:
        pipeline = self.pipeline(transaction=False)
        for args, options in commands:
            pipeline.execute_command(*args, **options)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies

    async def _travel(self, batch: list[_Command]) -> None:
        replies: list[Any]
        try:
            replies = await self._ask([(args, options) for args, options, _ in batch])
        except (DataError, UnicodeError) as error:
            # One of them cannot be written as a command at all: it fails alone.
            replies = [error] if len(batch) == 1 else []
            for alone in batch if len(batch) > 1 else []:
                await self._travel([alone])
        except (RedisError, OSError, TimeoutError) as error:
            self._breaker.failed()
            replies = [UnavailableError(self._breaker.part)] * len(batch)
            for reply in replies:
                reply.__cause__ = error
        else:
            self._breaker.succeeded()
        for (_, _, future), reply in zip(batch, replies, strict=False):
            if future.done():
                continue
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)

    async def drain(self) -> None:
        """Wait for what is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)


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
        self._gathering: GatheringRedis | None = None
        self._users = 0
        if isinstance(source, str):
            _check_url(source)
        elif source.connection_pool.connection_kwargs.get("decode_responses"):
            raise ConfigurationError(
                "the Redis client decodes replies to str; hand over one without decode_responses=True"
            )

    @property
    def client(self) -> GatheringRedis:
        """The client for commands. Only between enter and exit."""
        if self._gathering is None:
            raise RuntimeError("the link to Redis is not open")
        return self._gathering

    async def __aenter__(self) -> Self:
        self._users += 1
        if self._users == 1:
            if isinstance(self._source, str):
                self._own = self._source_client(self._source)
            self._gathering = GatheringRedis(self._raw(), self.breaker)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._users -= 1
        if self._users:
            return
        if self._gathering is not None:
            await self._gathering.drain()
            self._gathering = None
        if self._own is not None:
            await self._own.aclose()
            self._own = None

    def pubsub(self) -> Any:
        """Return a subscriber on a connection of its own."""
        return self._raw().pubsub()

    def script(self, text: str, digest: str, keys: list[str], args: list[Any]) -> Awaitable[Any]:
        """Run a Lua script, sending its text only where Redis does not know it. Starts with the call.

        Raises:
            UnavailableError: When awaited, where Redis is out of reach or refuses to run it.
        """
        reply = self.client.gather("EVALSHA", digest, len(keys), *keys, *args)
        return self._finish(reply, ("EVAL", text, len(keys), *keys, *args))

    async def _finish(self, reply: asyncio.Future[Any], in_full: tuple[Any, ...]) -> Any:
        try:
            try:
                return await reply
            except NoScriptError:
                return await self.client.gather(*in_full)
        except ResponseError as error:  # out of memory, read-only after a failover, loading after a restart
            raise UnavailableError(self.breaker.part) from error

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
    except ValueError as error:
        raise ConfigurationError(
            f"PREFSYNC_REDIS_URL cannot be read ({error}); write redis://host:6379/0, rediss://... or unix://..."
        ) from None
