"""The contract of :class:`prefsync.ports.RateLimiter`."""

from __future__ import annotations

import secrets
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, ClassVar

import anyio
import pytest

from prefsync.ports import Permit, Rate
from prefsync.testing.samples import PATIENCE, other_tasks, settled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from prefsync.ports import RateLimiter

__all__ = ["RateLimiterContract"]

MINUTE = 60

# Seconds that sums of floating-point times may be off.
_ROUNDING = 1e-6


@pytest.mark.anyio
class RateLimiterContract:
    """What every limiter promises. Subclass it, name the class ``Test...`` and give the fixture.

    Fixtures of the subclass:
        make: A function from a rate to a limiter that is not open yet. All that it makes share their counts, where the
            adapter can share them. Where they count by process when the shared count is slow to answer, give them more
            patience than in production: a test machine that is busy is no outage.

    Attributes:
        shares: Whether limiters of one ``make`` share their counts.
        short: Seconds of the window in tests that see it pass; at least 1.
    """

    shares: ClassVar[bool] = True
    short: ClassVar[int] = 1

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, for the limiter; override it where the adapter takes a clock."""
        await anyio.sleep(seconds)

    def now(self) -> float:
        """Return the limiter's time in seconds since some moment; override it where the adapter takes a clock."""
        return time.monotonic()

    @pytest.fixture(autouse=True)
    async def _nothing_is_left(self) -> AsyncIterator[None]:
        tasks = other_tasks()
        yield
        await settled(lambda: other_tasks() <= tasks, f"still running: {other_tasks() - tasks}")

    @pytest.fixture
    def key(self) -> str:
        """A key under which nothing was counted."""
        return f"key-{secrets.token_hex(8)}"

    @asynccontextmanager
    async def two(
        self, make: Callable[[Rate], RateLimiter], rate: Rate
    ) -> AsyncIterator[tuple[RateLimiter, RateLimiter]]:
        """Open two limiters that share their counts; the same one twice where they cannot."""
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(make(rate))
            second = await stack.enter_async_context(make(rate)) if self.shares else first
            yield first, second

    async def test_it_tells_its_rate(self, make: Callable[[Rate], RateLimiter]) -> None:
        """The rate is the one that it was made with."""
        async with make(Rate(7, 13)) as limiter:
            assert limiter.rate == Rate(7, 13)

    @pytest.mark.parametrize("limit", [1, 5, 100, 1_000])
    async def test_of_many_at_once_exactly_the_limit_pass(
        self, make: Callable[[Rate], RateLimiter], key: str, limit: int
    ) -> None:
        """Of many more concurrent requests than the limit, at two processes, exactly the limit pass."""
        permits: list[Permit] = []

        async def ask(limiter: RateLimiter) -> None:
            permits.append(await limiter.acquire(key))

        async with self.two(make, Rate(limit, MINUTE)) as limiters:
            with anyio.fail_after(PATIENCE):
                async with anyio.create_task_group() as tasks:
                    for number in range(limit + limit // 2 + 10):
                        tasks.start_soon(ask, limiters[number % 2])
            refused = await limiters[0].acquire(key)
        assert sum(permit.allowed for permit in permits) == limit
        assert (refused.allowed, refused.remaining) == (False, 0)

    async def test_processes_share_one_count(self, make: Callable[[Rate], RateLimiter], key: str) -> None:
        """What one process counted, another knows, one after another and to the last one."""
        async with self.two(make, Rate(6, MINUTE)) as (one, other):
            told = [await limiter.acquire(key) for limiter in [one, other, other, one, other, one]]
            assert [(permit.allowed, permit.remaining) for permit in told] == [
                (True, 5 - n) for n in range(6)
            ]
            assert not (await one.acquire(key)).allowed
            assert not (await other.acquire(key)).allowed

    async def test_what_remains_can_pass(self, make: Callable[[Rate], RateLimiter], key: str) -> None:
        """``remaining`` more requests pass at any moment, and no further one."""
        async with make(Rate(8, MINUTE)) as limiter:
            await limiter.acquire(key, 3)
            left = (await limiter.acquire(key)).remaining
            assert left == 4
            passed = [(await limiter.acquire(key)).allowed for _ in range(left + 1)]
            assert passed == [True] * left + [False]

    async def test_keys_are_counted_apart(self, make: Callable[[Rate], RateLimiter], key: str) -> None:
        """A key that is used up holds no other one up, however much alike they are."""
        keys = [
            key,
            key.upper(),
            key + " ",
            key + ":",
            key + "/1",
            ":" + key,
            f"{{{key}}}",
            f"{key}*",
            f"{key}\n",
            f"{key}\u00e9",
            f"{key}e\u0301",
            f"{key}\U0001f600",
            f"user:{key}",
            f"address:{key}",
            f"{key}:2001:db8::1",
            key * 60,
        ]
        async with make(Rate(2, MINUTE)) as limiter:
            for one in keys:
                told = [await limiter.acquire(one) for _ in range(3)]
                assert [permit.allowed for permit in told] == [True, True, False], one

    async def test_a_request_can_cost_more(self, make: Callable[[Rate], RateLimiter], key: str) -> None:
        """A cost is counted whole or not at all; what does not fit leaves room for what does."""
        async with make(Rate(10, MINUTE)) as limiter:
            assert (await limiter.acquire(key, 6)).remaining == 4
            refused = await limiter.acquire(key, 5)
            assert (refused.allowed, refused.remaining) == (False, 4)
            taken = await limiter.acquire(key, 4)
            assert (taken.allowed, taken.remaining) == (True, 0)
            assert not (await limiter.acquire(key)).allowed

    async def test_a_cost_can_be_the_whole_limit_and_no_more(
        self, make: Callable[[Rate], RateLimiter], key: str
    ) -> None:
        """A request as dear as the limit passes, a dearer one never does and counts nothing."""
        async with make(Rate(4, MINUTE)) as limiter:
            dear = await limiter.acquire(key, 5)
            assert (dear.allowed, dear.remaining) == (False, 4)
            whole = await limiter.acquire(key, 4)
            assert (whole.allowed, whole.remaining) == (True, 0)

    async def test_costs_at_once_never_pass_the_limit(
        self, make: Callable[[Rate], RateLimiter], key: str
    ) -> None:
        """Concurrent requests of different costs, at two processes, together never take more than the limit."""
        taken: list[int] = []

        async def ask(limiter: RateLimiter, cost: int) -> None:
            if (await limiter.acquire(key, cost)).allowed:
                taken.append(cost)

        async with self.two(make, Rate(50, MINUTE)) as limiters:
            async with anyio.create_task_group() as tasks:
                for number in range(60):
                    tasks.start_soon(ask, limiters[number % 2], number % 4 + 1)
            while (await limiters[0].acquire(key)).allowed:
                taken.append(1)
        assert sum(taken) == 50

    async def test_times_are_whole_seconds_within_the_window(
        self, make: Callable[[Rate], RateLimiter], key: str
    ) -> None:
        """``reset_after`` is at least 1 and no more than the window, rounded up, whether a request passes or not."""
        async with make(Rate(3, MINUTE)) as limiter:
            for _ in range(5):
                permit = await limiter.acquire(key)
                assert isinstance(permit.reset_after, int)
                assert MINUTE - PATIENCE <= permit.reset_after <= MINUTE

    async def test_after_the_time_told_one_passes(
        self, make: Callable[[Rate], RateLimiter], key: str
    ) -> None:
        """Who was refused and waits for ``reset_after`` seconds passes."""
        async with make(Rate(2, self.short)) as limiter:
            while (permit := await limiter.acquire(key)).allowed:
                pass
            await self.pass_time(permit.reset_after)
            assert (await limiter.acquire(key)).allowed

    async def test_refused_requests_count_nothing(
        self, make: Callable[[Rate], RateLimiter], key: str
    ) -> None:
        """Who goes on asking while refused passes as soon as one who waited, and then as often as the limit says."""
        async with make(Rate(3, self.short)) as limiter:
            started = self.now()
            assert all([(await limiter.acquire(key)).allowed for _ in range(3)])
            filled = self.now()
            permit = await limiter.acquire(key)
            while not permit.allowed:
                assert self.now() - filled < self.short + PATIENCE, "asking keeps it shut"
                await self.pass_time(self.short / 50)
                permit = await limiter.acquire(key)
            assert self.now() - started >= self.short - _ROUNDING

    async def test_the_window_slides(self, make: Callable[[Rate], RateLimiter], key: str) -> None:
        """No window of the rate's length sees more than the limit, also where a fixed one would begin anew.

        One request comes first and the others late in its window, and asking goes on into the next. The times
        around each request bound when it was counted, so that a slow machine cannot make a right limiter fail.
        """
        limit = 4
        passed: list[tuple[float, float]] = []

        async with make(Rate(limit, self.short)) as limiter:

            async def ask() -> bool:
                before = self.now()
                permit = await limiter.acquire(key)
                if permit.allowed:
                    passed.append((before, self.now()))
                return permit.allowed

            await ask()
            await self.pass_time(self.short * 0.75)
            end = self.now() + self.short / 2
            while self.now() < end:
                if not await ask():
                    await self.pass_time(self.short / 100)
        assert len(passed) > limit
        for (before, _), (_, after) in zip(passed, passed[limit:], strict=False):
            assert after - before >= self.short - _ROUNDING

    async def test_cancelled_requests_count_at_most_once(
        self, make: Callable[[Rate], RateLimiter], key: str
    ) -> None:
        """A request that is cancelled was counted or was not; the limit holds and nothing hangs."""
        passed = 0
        async with make(Rate(50, MINUTE)) as limiter:

            async def ask() -> None:
                await limiter.acquire(key)

            for steps in range(20):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(ask)
                    for _ in range(steps):
                        await anyio.lowlevel.checkpoint()
                    tasks.cancel_scope.cancel()
            with anyio.fail_after(PATIENCE):
                while (await limiter.acquire(key)).allowed:
                    passed += 1
        assert 30 <= passed <= 50

    async def test_it_can_be_closed_and_opened_again(
        self, make: Callable[[Rate], RateLimiter], key: str
    ) -> None:
        """A limiter that was closed works when it is opened again."""
        limiter = make(Rate(2, MINUTE))
        for _ in range(2):
            async with limiter:
                await limiter.acquire(key)
        async with limiter:
            fresh = f"{key} fresh"
            assert [(await limiter.acquire(fresh)).allowed for _ in range(3)] == [True, True, False]
