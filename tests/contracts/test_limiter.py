"""Every limiter keeps the contract, and one without its Redis counts for its process."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

import pytest
from limits.aio.storage import MemoryStorage

from prefsync.adapters.limits import LimitsRateLimiter
from prefsync.adapters.memory import MemoryRateLimiter
from prefsync.adapters.redis import RedisClusterLink
from prefsync.ports import Rate
from prefsync.testing import FakeClock, RateLimiterContract
from tests.contracts.support import OUTAGES, impatient_link, patient_link, proxy_to, through
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.clusters import PrivateCluster


class InThisProcess(RateLimiterContract):
    """Counting by a clock that the test moves."""

    shares = False
    clock: FakeClock

    async def pass_time(self, seconds: float) -> None:
        """Move the clock."""
        self.clock.advance(seconds)

    def now(self) -> float:
        """Read the clock."""
        return self.clock.monotonic()


class TestMemory(InThisProcess):
    """In memory."""

    @pytest.fixture
    def make(self) -> Callable[[Rate], MemoryRateLimiter]:
        """Limiters on a clock that the test moves."""
        self.clock = FakeClock()
        return lambda rate: MemoryRateLimiter(rate, self.clock)

    async def test_forgets_keys_that_are_idle(self, make: Callable[[Rate], MemoryRateLimiter]) -> None:
        """Keys whose window has passed take no memory."""
        limiter = make(Rate(2, 60))
        for number in range(1_000):
            await limiter.acquire(f"key {number}")
            await limiter.acquire(f"key {number}", 5)
        await self.pass_time(60)
        await limiter.acquire("key")
        assert list(limiter._logs) == ["key"]

    async def test_reset_after_is_the_second_it_says(self, make: Callable[[Rate], MemoryRateLimiter]) -> None:
        """A second before ``reset_after`` nothing more passes, at it something does."""
        limiter = make(Rate(3, 60))
        for _ in range(3):
            await limiter.acquire("key")
            await self.pass_time(7)
        permit = await limiter.acquire("key")
        assert (permit.allowed, permit.reset_after) == (False, 60 - 21)
        await self.pass_time(permit.reset_after - 1)
        assert not (await limiter.acquire("key")).allowed
        await self.pass_time(1)
        assert (await limiter.acquire("key")).allowed

    @pytest.mark.parametrize("uptime", [20.4, 988.3, 3_090.1, 64_500.1, 8_387_550.3])
    async def test_reset_after_is_no_more_than_the_window_at_any_time(
        self, make: Callable[[Rate], MemoryRateLimiter], uptime: float
    ) -> None:
        """Whatever the clock shows and however it rounds, the first request is told the window and not a second more."""
        limiter = make(Rate(3, 60))
        await self.pass_time(uptime)
        assert (await limiter.acquire("key")).reset_after == 60


class TestLimitsOnAStorage(RateLimiterContract):
    """The ``limits`` library on a storage of its own that the host made, shared by two limiters."""

    @pytest.fixture
    async def make(self) -> AsyncIterator[Callable[[Rate], LimitsRateLimiter]]:
        """Limiters on one storage."""
        storage = MemoryStorage(wrap_exceptions=True)
        yield lambda rate: LimitsRateLimiter(rate, storage)
        await storage.reset()
        if storage.timer is not None:
            storage.timer.cancel()

    async def test_a_clock_that_is_ahead_makes_nobody_wait_longer(
        self, make: Callable[[Rate], LimitsRateLimiter], key: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where another process counted by a clock that is ahead of ours, we still tell no more than the window."""
        rate = Rate(2, 60)
        async with make(rate) as ahead, make(rate) as ours:
            now = time.time()
            with monkeypatch.context() as patch:
                patch.setattr(time, "time", lambda: now + 5)
                await ahead.acquire(key)
            assert (await ours.acquire(key)).reset_after == 60


class TestLimitsOnRedis(RateLimiterContract):
    """The ``limits`` library on Redis, with a link for each limiter as in two processes."""

    @pytest.fixture
    def make(self, redis_url: str, redis_prefix: str) -> Callable[[Rate], LimitsRateLimiter]:
        """Limiters that share a prefix."""
        return lambda rate: LimitsRateLimiter(rate, patient_link(redis_url, redis_prefix))


@pytest.mark.once
class TestLimitsOnACluster(RateLimiterContract):
    """The ``limits`` library on a Redis Cluster, with a link for each limiter as in two processes."""

    @pytest.fixture
    def make(self, redis_cluster: PrivateCluster) -> Callable[[Rate], LimitsRateLimiter]:
        """Limiters that share a prefix."""
        url, prefix = redis_cluster.url, f"test-{secrets.token_hex(8)}"
        return lambda rate: LimitsRateLimiter(rate, RedisClusterLink(url, prefix=prefix, time_limit=10))


@pytest.mark.once
class TestLimitsWithoutItsRedis(InThisProcess):
    """The ``limits`` library with a Redis that is down: each process counts by itself, never unlimited, never shut."""

    @pytest.fixture
    def make(self, redis_prefix: str) -> Callable[[Rate], LimitsRateLimiter]:
        """Limiters whose Redis does not answer."""
        url = f"redis://127.0.0.1:{free_port()}/0"
        self.clock = FakeClock()
        return lambda rate: LimitsRateLimiter(rate, patient_link(url, redis_prefix), self.clock)


@pytest.mark.once
@pytest.mark.parametrize("kind", OUTAGES)
async def test_a_redis_that_goes_and_comes_is_counted_by_again(
    redis_url: str, redis_prefix: str, kind: str
) -> None:
    """In an outage each process passes at most the limit, and afterwards both share one count again."""
    rate = Rate(10, 60)
    async with proxy_to(redis_url) as proxy:
        url = through(proxy, redis_url)
        async with (
            LimitsRateLimiter(rate, impatient_link(url, redis_prefix)) as one,
            LimitsRateLimiter(rate, impatient_link(url, redis_prefix)) as other,
        ):
            assert sum([(await one.acquire("before")).allowed for _ in range(20)]) == 10
            outage = OUTAGES[kind](proxy)
            await outage.begin()
            for limiter in (one, other):
                assert sum([(await limiter.acquire("during")).allowed for _ in range(20)]) == 10
            await outage.end()
            for limiter in (one, other):  # each finds out by itself that Redis is back
                while limiter._link is not None and limiter._link.breaker.is_down:
                    await limiter.acquire("probe")
            told = [(await limiter.acquire("after")).allowed for limiter in (one, other) * 10]
            assert sum(told) == 10
            assert not (await other.acquire("before")).allowed


async def test_a_forked_process_has_no_permits_of_its_parents() -> None:
    """What a process has taken in advance it uses itself; a child that is forked from it takes its own."""
    storage = MemoryStorage(wrap_exceptions=True)
    limiter = LimitsRateLimiter(Rate(1_000_000, 60), storage)
    await limiter.acquire("key")
    assert limiter.take("key") is not None
    limiter.abandon()
    assert limiter.take("key") is None
    assert (await limiter.acquire("key")).allowed
