"""Documents in Redis, guarded by version."""

from __future__ import annotations

import asyncio
from hashlib import sha1
from typing import TYPE_CHECKING, Final, Self

from redis.exceptions import ResponseError

from prefsync.chance import between
from prefsync.errors import UnavailableError
from prefsync.ports import CacheEntry, PreferenceCache

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator, Sequence

    from prefsync.adapters.redis.cluster import RedisClusterLink
    from prefsync.adapters.redis.link import RedisLink
    from prefsync.document import Subject

__all__ = ["RedisCache"]

# An entry is its version in 16 digits (2^53 has 16), then the document: a reply tells its version without being parsed,
# and the script below compares versions as text, whatever precision Lua's numbers have.
_DIGITS: Final = 16

_PUT: Final = """
local held = redis.call('GETRANGE', KEYS[1], 0, 15)
if #held == 16 and not string.find(held, '%D') and held >= string.sub(ARGV[1], 1, 16) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_PUT_DIGEST: Final = sha1(_PUT.encode(), usedforsecurity=False).hexdigest()


class RedisCache(PreferenceCache):
    """Encoded documents in Redis, shared by all processes.

    Args:
        link: To Redis, or to a cluster.
        ttl: Seconds an entry lives, less up to a tenth, so that what was written together does not expire together.
    """

    def __init__(self, link: RedisLink | RedisClusterLink, ttl: float = 300) -> None:
        self._link = link
        self._ttl = ttl
        self._prefix = ""

    async def __aenter__(self) -> Self:
        await self._link.__aenter__()
        # The number is of the entry's format: processes with another one neither read nor overwrite these.
        self._prefix = f"{self._link.prefix}:doc:1:"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._link.__aexit__()

    def get(self, subject: Subject) -> Awaitable[CacheEntry | None]:
        return _Lookup(self._link.client.gather("GET", self._prefix + subject.key), self._link.breaker.part)

    async def versions(self, subjects: Sequence[Subject]) -> Sequence[int | None]:
        client = self._link.client
        asked = [
            client.gather("GETRANGE", self._prefix + subject.key, 0, _DIGITS - 1) for subject in subjects
        ]
        try:
            replies = await asyncio.gather(*asked)
        except ResponseError as error:
            raise UnavailableError(self._link.breaker.part) from error
        return [int(reply) if len(reply) == _DIGITS and reply.isdigit() else None for reply in replies]

    def put(self, subject: Subject, entry: CacheEntry) -> Awaitable[None]:
        value = b"%0*d%b" % (_DIGITS, entry.version, entry.payload)
        milliseconds = int(self._ttl * 1000 * between(0.9, 1))
        return self._link.script(
            _PUT, _PUT_DIGEST, [self._prefix + subject.key], [value, max(1, milliseconds)]
        )


class _Lookup:
    """A question that is under way; one that nobody awaits any more leaves no trace."""

    __slots__ = ("_part", "_reply")

    def __init__(self, reply: asyncio.Future[bytes | None], part: str) -> None:
        self._reply = reply
        self._part = part
        reply.add_done_callback(_heed)

    def __await__(self) -> Generator[object, None, CacheEntry | None]:
        try:
            value = yield from self._reply.__await__()
        except ResponseError as error:
            raise UnavailableError(self._part) from error
        if value is None or len(value) < _DIGITS or not value[:_DIGITS].isdigit():
            return None
        return CacheEntry(int(value[:_DIGITS]), value[_DIGITS:])


def _heed(reply: asyncio.Future[bytes | None]) -> None:
    """Look at an error, so that the event loop does not report it as one that nobody looked at."""
    if not reply.cancelled():
        reply.exception()
