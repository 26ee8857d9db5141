"""protocol.md, section 2, "Rate limit"."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from prefsync.testing.mount.callers import KEY, WRITE, Caller, mint, newcomer
from prefsync.testing.mount.suite import MountSuite, label

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prefsync.testing.mount.client import Answer, MountClient, MountHost

__all__ = ["RatesContract"]

_LIMIT: Final = 100
_QUOTA: Final = re.compile(r'"(user|user-reads|user-writes|user-streams|address)";r=([0-9]+);t=([0-9]+)')

# Requests in a second of the app that is made to be waited for.
_BURST: Final = 3


def _left(answer: Answer, policy: str = "user", limit: int = _LIMIT, window: int = 60) -> int:
    """Return how many requests an answer says are left, its headers being in good form."""
    assert answer.headers.all("RateLimit-Policy") == [f'"{policy}";q={limit};w={window}']
    (quota,) = answer.headers.all("RateLimit")
    match = _QUOTA.fullmatch(quota)
    assert match, quota
    assert match[1] == policy
    assert 0 <= int(match[2]) <= limit
    assert 0 <= int(match[3]) <= window
    return int(match[2])


class RatesContract(MountSuite):
    """100 requests a minute for each user, 100 failing tokens a minute for each address; other rates where the host says."""

    @pytest.fixture(scope="class")
    @classmethod
    async def hasty(cls, host: MountHost) -> AsyncIterator[MountClient]:
        """Run an app whose limit is soon over."""
        settings = {"PREFSYNC_JWT_KEY": KEY, "PREFSYNC_RATE_LIMIT": f"{_BURST}/second"}
        async with host.open(settings) as client:
            yield client

    @pytest.fixture(scope="class")
    @classmethod
    async def apart(cls, host: MountHost) -> AsyncIterator[MountClient]:
        """Run an app that gives operations rates of their own."""
        rates = {"READS": "5/minute", "WRITES": "3/minute", "STREAMS": "2/minute"}
        settings = {f"PREFSYNC_RATE_LIMIT_{name}": rate for name, rate in rates.items()}
        async with host.open({"PREFSYNC_JWT_KEY": KEY, **settings}) as client:
            yield client

    # --- Users -----------------------------------------------------------------------------------------------------

    async def test_the_limit_is_exact(self, me: Caller) -> None:
        """100 requests pass, each telling what is left; the next is ``429`` with ``Retry-After``, and does nothing."""
        for n in range(_LIMIT):
            answer = await (me.patch("/plugins", {"n": n}) if n % 10 == 0 else me.get("/plugins"))
            answer.ok()
            assert _left(answer) == _LIMIT - 1 - n
        refused = [await me.get(), await me.put("/plugins", {"too": "much"}), await me.get("/nothing")]
        for answer in refused:
            answer.problem(429, "rate-limited")
            assert _left(answer) == 0
            (seconds,) = answer.headers.all("Retry-After")
            assert 1 <= int(seconds) <= 60
        # A user's other token and another address share the quota.
        (await me.holding(scope=WRITE).delete()).problem(429, "rate-limited")
        (await me.through(me.client.elsewhere()).get()).problem(429, "rate-limited")
        (await me.get("/changes", query="since=0&wait=30")).problem(429, "rate-limited")

    async def test_the_limit_is_exact_under_concurrency(self, me: Caller, somebody: Caller) -> None:
        """Of 130 requests at once, 100 pass; another user at the same address notices nothing."""
        answers = await asyncio.gather(*(me.get("/appearance") for _ in range(130)))
        assert sorted(answer.status for answer in answers) == [200] * 100 + [429] * 30
        assert _left(await somebody.get()) == _LIMIT - 1

    async def test_a_refused_write_wrote_nothing(self, me: Caller) -> None:
        """Not even where it races with those that pass."""
        answers = await asyncio.gather(*(me.patch("/plugins", {f"k{n}": 1}) for n in range(110)))
        passed = {f"k{n}" for n, answer in enumerate(answers) if answer.status == 200}
        assert [answer.status for answer in answers if answer.status != 200] == [429] * 10
        newest = max(
            (answer for answer in answers if answer.status == 200), key=lambda answer: answer.revision
        )
        assert newest.ok().keys() == passed

    @pytest.mark.parametrize(
        ("method", "path", "more", "status"),
        [
            ("GET", "", {}, 200),
            ("HEAD", "/appearance", {}, 200),
            ("PATCH", "/appearance", {"value": {"theme": "dark"}}, 200),
            ("DELETE", "", {}, 200),
            ("GET", "/schema", {}, 200),
            ("GET", "/changes", {"query": "since=0"}, 200),
            ("GET", "/changes", {"query": "since=0&wait=0.05"}, 200),
            ("GET", "", {"headers": {"If-None-Match": "*"}}, 304),
            ("GET", "/schema", {"headers": {"If-None-Match": "*"}}, 304),
            ("GET", "/changes", {}, 400),
            ("GET", "", {"query": "token=x"}, 400),
            ("PUT", "", {"raw": b"{"}, 400),
            ("GET", "/nothing", {}, 404),
            ("PUT", "/nothing", {"value": {}}, 404),
            ("POST", "", {}, 405),
            ("OPTIONS", "/schema", {}, 405),
            ("GET", "", {"headers": {"If-Match": '"x"'}}, 412),
            ("PUT", "", {"value": {}, "headers": {"If-Match": '"x"'}}, 412),
            ("GET", "", {"headers": {"Prefsync-Min-Revision": "1"}}, 412),
            ("PUT", "", {"raw": b" " * 300_000}, 413),
            ("PUT", "", {"raw": b"{}", "media": None}, 415),
            ("PUT", "", {"value": {"nowhere": {}}}, 422),
        ],
        ids=label,
    )
    async def test_every_answer_to_a_valid_token_tells_the_quota(
        self, me: Caller, method: str, path: str, more: dict[str, Any], status: int
    ) -> None:
        """Errors and ``304`` too; each request counts one, whatever became of it."""
        for expected in (_LIMIT - 1, _LIMIT - 2):
            answer = await me.send(method, path, **more)
            assert answer.status == status
            assert _left(answer) == expected

    async def test_a_missing_scope_counts_too(self, me: Caller) -> None:
        """``403`` is an answer to a valid token."""
        powerless = me.holding(scope="")
        for n, (method, path) in enumerate(
            [("GET", ""), ("PUT", ""), ("DELETE", "/plugins"), ("GET", "/schema")]
        ):
            answer = await powerless.write(method, path, {})
            answer.problem(403, "insufficient-scope")
            assert _left(answer) == _LIMIT - 1 - n

    async def test_a_long_poll_counts_once(self, me: Caller) -> None:
        """However long it takes."""
        waiting = asyncio.ensure_future(me.get("/changes", query="since=0&wait=30"))
        await asyncio.sleep(0.05)
        wrote = await me.patch("/plugins", {"a": 1})
        polled = await waiting
        assert sorted([_left(wrote), _left(polled)]) == [_LIMIT - 2, _LIMIT - 1]
        assert _left(await me.get()) == _LIMIT - 3

    async def test_retry_after_is_true(self, hasty: MountClient) -> None:
        """After that many seconds a request passes, and no window of a second sees more than the limit."""
        me = newcomer(hasty)
        spans: list[tuple[float, float]] = []
        while len(spans) <= _BURST:
            before = time.monotonic()
            answer = await me.get()
            if answer.status == 429:
                (seconds,) = answer.headers.all("Retry-After")
                assert seconds == "1"
                await asyncio.sleep(int(seconds))
                before = time.monotonic()
                answer = await me.get()
            answer.ok()
            assert _left(answer, limit=_BURST, window=1) < _BURST
            spans.append((before, time.monotonic()))
        for first, last in zip(spans, spans[_BURST:], strict=False):
            assert last[1] - first[0] >= 1, "more requests than the limit in one window"

    # --- Operations ------------------------------------------------------------------------------------------------

    async def test_operations_with_rates_of_their_own(self, apart: MountClient) -> None:
        """Reads, writes and streams are counted apart, each exactly; each answer tells the quota that it used up."""
        me = newcomer(apart)

        async def read() -> Answer:
            return await me.get("/plugins")

        async def write() -> Answer:
            return await me.patch("/plugins", {"n": 1})

        async def ask_for_ticket() -> Answer:
            return await me.send("POST", "/ticket")

        for ask, policy, limit in (
            (write, "user-writes", 3),
            (ask_for_ticket, "user-streams", 2),
            (read, "user-reads", 5),
        ):
            for left in reversed(range(limit)):
                answer = await ask()
                answer.ok()
                assert _left(answer, policy, limit) == left
            refused = await ask()
            refused.problem(429, "rate-limited")
            assert _left(refused, policy, limit) == 0
            assert 1 <= int(refused.headers["Retry-After"]) <= 60
        for method, path, policy, limit in (
            ("PUT", "/nothing", "user-writes", 3),
            ("DELETE", "", "user-writes", 3),
            ("GET", "/events", "user-streams", 2),
            ("GET", "/ws", "user-streams", 2),
            ("GET", "/changes", "user-reads", 5),
            ("GET", "/schema", "user-reads", 5),
            ("POST", "", "user-reads", 5),
            ("GET", "/nothing", "user-reads", 5),
        ):
            refused = await me.send(method, path)
            refused.problem(429, "rate-limited")
            assert _left(refused, policy, limit) == 0
        (await newcomer(apart).patch("/plugins", {"n": 1})).ok()
        bad = await apart.elsewhere().request("GET", headers={"Authorization": "Bearer bad"})
        assert _left(bad, "address") == _LIMIT - 1

    async def test_operations_with_rates_of_their_own_are_exact_under_concurrency(
        self, apart: MountClient
    ) -> None:
        """Of many writes and reads at once, of each as many pass as its own limit says."""
        me = newcomer(apart)
        writes = [me.patch("/plugins", {f"k{n}": 1}) for n in range(9)]
        answers = await asyncio.gather(*writes, *(me.get() for _ in range(9)))
        assert sorted(answer.status for answer in answers[:9]) == [200] * 3 + [429] * 6
        assert sorted(answer.status for answer in answers[9:]) == [200] * 5 + [429] * 4

    # --- Addresses -------------------------------------------------------------------------------------------------

    async def test_failing_tokens_are_counted_by_address(self, mount: MountClient, me: Caller) -> None:
        """100 are told why they fail, the next are ``429``; a valid token from there passes all the same."""
        there = mount.elsewhere()
        bad = {"Authorization": f"Bearer {mint({'sub': me.user}, key='another secret')}"}
        for n in range(_LIMIT):
            answer = await there.request("GET", "/appearance", headers=bad)
            answer.problem(401, "unauthenticated")
            assert _left(answer, "address") == _LIMIT - 1 - n
        for method, path in (("GET", ""), ("PUT", "/appearance"), ("GET", "/changes"), ("GET", "/nothing")):
            answer = await there.request(method, path, headers=bad)
            answer.problem(429, "rate-limited")
            assert _left(answer, "address") == 0
            assert 1 <= int(answer.headers["Retry-After"]) <= 60
        passed = await me.through(there).get()
        passed.ok()
        assert _left(passed) == _LIMIT - 1
        (await there.request("GET")).problem(401, "unauthenticated")
        (await mount.elsewhere().request("GET", headers=bad)).problem(401, "unauthenticated")

    async def test_no_token_counts_nothing(self, mount: MountClient) -> None:
        """Only a token that fails does."""
        there = mount.elsewhere()
        for headers in [{}, {"Authorization": "Basic eDp5"}] * 5:
            (await there.request("GET", headers=headers)).problem(401, "unauthenticated")
        answer = await there.request("GET", headers={"Authorization": "Bearer bad"})
        assert _left(answer, "address") == _LIMIT - 1

    async def test_good_tokens_count_nothing_by_address(self, mount: MountClient) -> None:
        """Many users may share one address."""
        there = mount.elsewhere()
        for _ in range(5):
            (await newcomer(there).get()).ok()
        answer = await there.request("GET", headers={"Authorization": "Bearer bad"})
        assert _left(answer, "address") == _LIMIT - 1
