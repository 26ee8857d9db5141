"""The nodes of a Redis Cluster: one link to each, and who owns which slots."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from redis.crc import key_slot
from redis.exceptions import ResponseError

from prefsync.errors import ConfigurationError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from prefsync.adapters.redis.link import RedisLink

__all__ = ["Address", "ClusterNodes", "heed", "refuse_cluster"]

logger = logging.getLogger("prefsync")

# Seconds between two looks at which node owns which slots, however many commands fail meanwhile.
_LOOK_AGAIN: Final = 0.25

_SLOTS: Final = 16_384


class Address(NamedTuple):
    """Where a node is."""

    host: str
    port: int


class ClusterNodes:
    """Links to nodes, opened when they are needed and closed when they own nothing any more.

    Args:
        seeds: The nodes that are known from the start; they are asked for the others.
        link_to: Makes a link to a node.
        part: What is unavailable where no node answers.
    """

    def __init__(self, seeds: Sequence[Address], link_to: Callable[[Address], RedisLink], part: str) -> None:
        self._seeds = seeds
        self._link_to = link_to
        self._part = part
        self._nodes: dict[Address, RedisLink] = {}
        self._owners: list[Address | None] = [None] * _SLOTS
        self._looking: asyncio.Future[None] | None = None
        self._looked_at = 0.0
        self._is_open = False

    def open(self) -> None:
        """Begin; connections are made when they are needed."""
        self._is_open = True

    async def close(self) -> None:
        """Close all links."""
        self._is_open = False
        if self._looking is not None:
            await asyncio.wait([self._looking])
        nodes, self._nodes = self._nodes, {}
        self._owners = [None] * _SLOTS
        for node in nodes.values():
            await node.__aexit__()

    def node_of(self, key: bytes | None) -> RedisLink | None:
        """Return the link to the owner of a key, to any owner where there is no key, and ``None`` where none is known."""
        address = self._owners[random.randrange(_SLOTS) if key is None else key_slot(key)]  # noqa: S311
        return None if address is None else self._nodes.get(address)

    async def node_at(self, address: Address) -> RedisLink:
        """Return the link to a node."""
        if not self._is_open:
            raise RuntimeError("the link to Redis is not open")
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = self._link_to(address)
            await node.__aenter__()
        return node

    async def primaries(self) -> list[RedisLink]:
        """Return the links to all owners of slots."""
        if None in self._owners:
            await self.look()
        return [self._nodes[owner] for owner in set(self._owners) if owner is not None]

    def owners(self, keys: Iterable[str]) -> dict[Address, list[str]]:
        """Return keys, or channels of shards, by the node that owns them as far as is known."""
        found: dict[Address, list[str]] = {}
        for key in keys:
            owner = self._owners[key_slot(key.encode())]
            if owner is not None:
                found.setdefault(owner, []).append(key)
        return found

    def moved(self, slot: int, owner: Address) -> None:
        """Note a slot's new owner."""
        self._owners[slot] = owner

    async def look_again(self) -> None:
        """Look who owns which slots, unless somebody just did; where no node answers, what is known stays."""
        if not self._is_open or time.monotonic() - self._looked_at < _LOOK_AGAIN:
            return
        try:
            await self.look()
        except (UnavailableError, ConfigurationError) as error:
            logger.debug("the nodes of the Redis cluster are not known: %s", error)

    async def look(self) -> None:
        """Ask the nodes, one after another, who owns which slots; callers at the same time share one look.

        Raises:
            UnavailableError: No node answers.
            ConfigurationError: The server is not in cluster mode.
        """
        if self._looking is None:
            self._looking = asyncio.ensure_future(self._look())
            self._looking.add_done_callback(self._looked)
        await asyncio.shield(self._looking)

    def _looked(self, looking: asyncio.Future[None]) -> None:
        self._looking = None
        self._looked_at = time.monotonic()
        heed(looking)

    async def _look(self) -> None:
        known = list({owner for owner in self._owners if owner is not None} | set(self._nodes))
        random.shuffle(known)
        for address in [*known, *self._seeds]:
            try:
                node = await self.node_at(address)
                ranges = await node.client.gather("CLUSTER", "SLOTS")
            except (UnavailableError, RuntimeError):
                continue
            except ResponseError as error:
                if "cluster support disabled" in str(error):
                    raise ConfigurationError(
                        f"the Redis at {address.host}:{address.port} is not in cluster mode; write redis:// instead of"
                        " redis+cluster:// in PREFSYNC_REDIS_URL"
                    ) from error
                continue
            owners: list[Address | None] = [None] * _SLOTS
            for first, last, primary, *_ in ranges:
                # A node that does not know its own address means the one at which it was asked.
                host = (primary[0] or b"").decode() or address.host
                owner = Address(host if host != "?" else address.host, int(primary[1]))
                owners[first : last + 1] = [owner] * (last - first + 1)
            for owner in {owner for owner in owners if owner is not None}:
                await self.node_at(owner)
            if any(owners):
                self._owners = owners
                await self._forget({owner for owner in owners if owner is not None})
                return
        raise UnavailableError(self._part)

    async def _forget(self, current: set[Address]) -> None:
        for address in self._nodes.keys() - current - set(self._seeds):
            await self._nodes.pop(address).__aexit__()


async def refuse_cluster(link: RedisLink) -> None:
    """See that a link leads to one server; where it does not answer, it may.

    Raises:
        ConfigurationError: It leads to a node of a cluster of several shards, which would refuse most keys.
    """
    try:
        async with link:
            ranges = await link.client.gather("CLUSTER", "SLOTS")
    except (UnavailableError, ResponseError):
        return  # it is away, or says that it is no cluster
    if len({tuple(primary[:2]) for _, _, primary, *_ in ranges}) > 1:
        raise ConfigurationError(
            "PREFSYNC_REDIS_URL leads to a Redis Cluster; write redis+cluster:// (or rediss+cluster://) instead of"
            " redis:// (rediss://)"
        )


def heed(reply: asyncio.Future[Any]) -> None:
    """Look at an error, so that the event loop does not report it as one that nobody looked at."""
    if not reply.cancelled():
        reply.exception()
