"""Compares the cache with the database, all the time (the idea of Meta's Polaris)."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Self

from prefsync import Subject
from prefsync.adapters.redis import RedisCache, RedisLink
from prefsync.adapters.sqlalchemy import SqlAlchemyRepository
from prefsync.errors import UnavailableError

if TYPE_CHECKING:
    from types import TracebackType

    from tests.faults.fleet import Fleet

# Seconds between two looks.
PAUSE = 0.05


class Auditor:
    """Looks at what cache and database say of users, while both answer.

    An async context manager.

    Args:
        fleet: Whose.

    Attributes:
        users: Who is looked at.
        comparisons: How many were made.
        behind: How often the cache was.
        oldest: Seconds that it was, at the most, and not yet known to be level again.
    """

    def __init__(self, fleet: Fleet) -> None:
        self.users: list[str] = []
        self.comparisons = self.behind = 0
        self.oldest = 0.0
        self._fleet = fleet
        self._since: dict[str, tuple[int, float]] = {}

    async def __aenter__(self) -> Self:
        self._repository = await SqlAlchemyRepository(self._fleet.postgres.url).__aenter__()
        prefix = f"prefsync:{await self._repository.identity()}"
        self._cache = await RedisCache(RedisLink(self._fleet.redis.url, prefix=prefix)).__aenter__()
        self._task = asyncio.create_task(self._work())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})
        await self._cache.__aexit__()
        await self._repository.__aexit__(kind, error, trace)

    async def level(self, limit: float) -> bool:
        """Wait until nothing is behind, and tell whether that is so."""
        deadline = time.monotonic() + limit
        while True:
            await self._look()
            if not self._since:
                return True
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(PAUSE)

    async def _work(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(PAUSE)

    async def _look(self) -> None:
        subjects = [Subject(user) for user in self.users]
        try:
            # In this order: what is stored after the question is no fault of the cache's.
            stored = await self._repository.revisions(subjects)
            cached = await self._cache.versions(subjects)
        except UnavailableError:
            self._since.clear()  # how long it has been behind is counted from when it can be asked
            return
        now = time.monotonic()
        for user, revision, version in zip(self.users, stored, cached, strict=True):
            self.comparisons += 1
            if version is None or version >= revision:
                self._since.pop(user, None)
                continue
            self.behind += 1
            known, since = self._since.get(user, (0, 0.0))
            if known != version:
                since = now
                self._since[user] = version, now
            self.oldest = max(self.oldest, now - since)
