"""Adapters of every kind for properties: opened once, driven from synchronous code by one event loop."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

from hypothesis import HealthCheck, settings

from prefsync.adapters.memory import MemoryCache, MemoryNotifier, MemoryRepository
from prefsync.adapters.redis import RedisCache, RedisNotifier
from prefsync.adapters.sqlalchemy import SqlAlchemyRepository
from prefsync.testing import FakeClock
from tests.contracts.support import patient_link

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from prefsync.ports import ChangeNotifier, PreferenceCache, PreferenceRepository


def profile(examples: int, **more: Any) -> settings:
    """Return settings for so many examples."""
    return settings(
        max_examples=examples,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.filter_too_much,
            HealthCheck.function_scoped_fixture,
        ],
        **more,
    )


class Backend:
    """A repository, two processes' caches and a notifier; what one test leaves in them is its own subjects'.

    Args:
        database: A URL; without one, everything is kept in this process.
        redis: A URL; without one, both processes share a cache in this one.
        prefix: For the keys in Redis.
    """

    def __init__(self, database: str | None = None, redis: str | None = None, prefix: str = "") -> None:
        self.repository: PreferenceRepository = (
            MemoryRepository() if database is None else SqlAlchemyRepository(database)
        )
        self.caches: tuple[PreferenceCache, PreferenceCache]
        self.notifier: ChangeNotifier = MemoryNotifier()
        if redis is None:
            shared = MemoryCache()
            self.caches = (shared, shared)
        else:
            prefix = f"{prefix}{secrets.token_hex(4)}"
            links = [patient_link(redis, prefix) for _ in range(2)]
            self.caches = (RedisCache(links[0]), RedisCache(links[1]))
            self.notifier = RedisNotifier(links[0])
        self.clock = FakeClock()
        self.latest = self.clock.now()
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run to the end what needs the loop."""
        return self._runner.run(work)

    def __enter__(self) -> Self:
        self._runner.__enter__()
        try:
            self.run(self._open())
        except BaseException:
            self._runner.__exit__(None, None, None)
            raise
        return self

    async def _open(self) -> None:
        async with AsyncExitStack() as stack:
            for part in (self.repository, *dict.fromkeys(self.caches), self.notifier):
                await stack.enter_async_context(part)
            self._stack = stack.pop_all()

    def __exit__(self, *_: object) -> None:
        try:
            self.run(self._stack.aclose())
        finally:
            self._runner.__exit__(None, None, None)
