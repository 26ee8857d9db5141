"""A link to a Redis Cluster: one link to each node, and commands sent to the node that owns their key's slot."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit, urlunsplit

from redis.exceptions import AskError, ClusterDownError, MovedError

from prefsync.adapters.redis.link import TIME_LIMIT, RedisLink, run_script
from prefsync.adapters.redis.nodes import Address, ClusterNodes, heed
from prefsync.errors import ConfigurationError, UnavailableError
from prefsync.ports import Part
from prefsync.resilience import Breaker

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from prefsync.clock import Clock

__all__ = ["ClusterClient", "RedisClusterLink"]

logger = logging.getLogger("prefsync")

_SCHEMES: Final = {"redis+cluster": "redis", "rediss+cluster": "rediss"}

# A command whose slot is on its way to another node is redirected once or twice; more is a cluster in disorder.
_MOST_REDIRECTS: Final = 4


class ClusterClient:
    """A client whose commands go to the nodes that own their keys, those of one moment and node in one pipeline.

    Commands have one key, as all of ours do, or none, and then go to any node.

    Args:
        nodes: Who owns what.
        breaker: Knows whether the cluster answers.
    """

    def __init__(self, nodes: ClusterNodes, breaker: Breaker) -> None:
        self._nodes = nodes
        self._breaker = breaker
        self._tasks: set[asyncio.Task[None]] = set()

    def gather(self, *args: Any, **options: Any) -> asyncio.Future[Any]:
        """Send a command with those of others; the reply can be awaited later."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        node = self._nodes.node_of(_key(args))
        if node is None:
            self._start(self._look_and_send(args, options, answer))
        else:
            self._send(node, args, options, answer, _MOST_REDIRECTS)
        return answer

    async def drain(self) -> None:
        """Wait for what is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look_and_send(
        self, args: tuple[Any, ...], options: dict[str, Any], answer: asyncio.Future[Any]
    ) -> None:
        try:
            await self._nodes.look()
        except (UnavailableError, ConfigurationError) as error:
            _fail(answer, UnavailableError(self._breaker.part), error)
            return
        node = self._nodes.node_of(_key(args))
        if node is None:
            _fail(answer, UnavailableError(self._breaker.part))
        else:
            self._send(node, args, options, answer, _MOST_REDIRECTS)

    def _send(
        self,
        node: RedisLink,
        args: tuple[Any, ...],
        options: dict[str, Any],
        answer: asyncio.Future[Any],
        redirects: int,
    ) -> None:
        def replied(reply: asyncio.Future[Any]) -> None:
            error = UnavailableError(self._breaker.part) if reply.cancelled() else reply.exception()
            if error is None:
                self._breaker.succeeded()
                if not answer.done():
                    answer.set_result(reply.result())
            elif isinstance(error, AskError | MovedError) and redirects:
                self._start(self._redirect(error, args, options, answer, redirects - 1))
            else:
                if isinstance(error, UnavailableError | ClusterDownError):
                    self._breaker.failed()
                    self._start(self._nodes.look_again())
                _fail(answer, error)

        node.client.gather(*args, **options).add_done_callback(replied)

    async def _redirect(
        self,
        error: AskError,
        args: tuple[Any, ...],
        options: dict[str, Any],
        answer: asyncio.Future[Any],
        redirects: int,
    ) -> None:
        try:
            node = await self._nodes.node_at(Address(error.host, error.port))
            if isinstance(error, MovedError):
                self._nodes.moved(error.slot_id, Address(error.host, error.port))
                self._start(self._nodes.look_again())
            else:
                # Side by side in one pipeline: it is for the next command on the connection.
                node.client.gather("ASKING").add_done_callback(heed)
            self._send(node, args, options, answer, redirects)
        except (RuntimeError, ConfigurationError) as closed:
            _fail(answer, UnavailableError(self._breaker.part), closed)


class RedisClusterLink(Part):
    """What the cache, the notifier and the limiter of one process share, on a Redis Cluster.

    Args:
        source: ``redis+cluster://user:password@host:port``, or ``rediss+cluster://...``; several hosts with commas
            between them are asked in turn for the others.
        prefix: Begins every key and channel; two deployments on one cluster need two.
        time_limit: Seconds that a round trip may take.
        clock: For tests.

    Raises:
        ConfigurationError: The URL cannot be read; or, when it is opened, the server is not in cluster mode.
    """

    def __init__(
        self,
        source: str,
        *,
        prefix: str = "prefsync",
        time_limit: float = TIME_LIMIT,
        clock: Clock | None = None,
    ) -> None:
        self.prefix = prefix  # may be changed until the first of those who share the link is opened
        self.breaker = Breaker("cache", clock)
        self._time_limit = time_limit
        self._clock = clock
        self._url = urlsplit(source)
        self.nodes = ClusterNodes(self._read_seeds(), self._link_to, self.breaker.part)
        self._client: ClusterClient | None = None
        self._users = 0

    def _read_seeds(self) -> list[Address]:
        hosts = self._url.netloc.rpartition("@")[2].split(",")
        try:
            seeds = [_address(host) for host in hosts]
        except ValueError:
            seeds = []
        if not seeds or self._url.scheme not in _SCHEMES or self._url.path.strip("/") not in {"", "0"}:
            raise ConfigurationError(
                "PREFSYNC_REDIS_URL cannot be read; for a cluster write redis+cluster://host:6379, or"
                " rediss+cluster://..., several hosts with commas between them, and no database number"
            )
        self._link_to(seeds[0])  # the rest of the URL is judged here
        return seeds

    def _link_to(self, address: Address) -> RedisLink:
        user, at, _ = self._url.netloc.rpartition("@")
        host = f"[{address.host}]" if ":" in address.host else address.host
        parts = self._url._replace(
            scheme=_SCHEMES[self._url.scheme], netloc=f"{user}{at}{host}:{address.port}"
        )
        return RedisLink(
            urlunsplit(parts), prefix=self.prefix, time_limit=self._time_limit, clock=self._clock
        )

    @property
    def client(self) -> ClusterClient:
        """The client for commands. Only between enter and exit."""
        if self._client is None:
            raise RuntimeError("the link to Redis is not open")
        return self._client

    async def __aenter__(self) -> Self:
        self._users += 1
        if self._users == 1:
            self._client = ClusterClient(self.nodes, self.breaker)
            self.nodes.open()
            try:
                await self.nodes.look()
            except UnavailableError:
                logger.warning("no node of the Redis cluster answers; going on without it until one does")
            except BaseException:
                await self.__aexit__()
                raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._users -= 1
        if self._users:
            return
        client, self._client = self._client, None
        if client is not None:
            await client.drain()
        await self.nodes.close()

    def script(self, text: str, digest: str, keys: list[str], args: list[Any]) -> Awaitable[Any]:
        """Run a Lua script of one key, sending its text only where a node does not know it. Starts with the call.

        Raises:
            UnavailableError: When awaited, where Redis is out of reach or refuses to run it.
        """
        return run_script(self.client, self.breaker.part, text, digest, keys, args)


def _address(host: str) -> Address:
    parts = urlsplit(f"//{host}")
    if not parts.hostname:
        raise ValueError("a host is missing")
    return Address(parts.hostname, parts.port or 6379)


def _key(args: tuple[Any, ...]) -> bytes | None:
    is_script = str(args[0]).upper() in {"EVAL", "EVALSHA"}
    at = 3 if is_script and int(args[2]) else 1
    if len(args) <= at or (is_script and at == 1):
        return None
    key = args[at]
    return key if isinstance(key, bytes) else str(key).encode(errors="replace")


def _fail(answer: asyncio.Future[Any], error: BaseException, cause: BaseException | None = None) -> None:
    if not answer.done():
        if cause is not None:
            error.__cause__ = cause
        answer.set_exception(error)
