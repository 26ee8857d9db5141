"""What a request costs: statements on PostgreSQL and trips to Redis, counted on the wire (design.md, section 8)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import secrets
import statistics
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import pytest

from prefsync.adapters.limits import LimitsRateLimiter
from prefsync.adapters.redis import RedisCache, RedisLink, RedisNotifier
from prefsync.parts import Parts
from prefsync.relay import Relay
from prefsync.settings import Settings
from prefsync.testing.mount import KEY, newcomer
from prefsync_fastapi import PrefSync
from tests.http.conftest import MODELS, asgi_client
from tests.http.hosts import app_with
from tests.http.wire import PostgresTap, RedisTap
from tests.servers import create_database, drop_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from prefsync.testing.mount import Caller

pytestmark = [pytest.mark.anyio, pytest.mark.once]

TIMES = 15
"""How often each kind of request is made: the usual cost is the promise, whatever a timer does in between."""


class Bench:
    """A mount whose servers are both tapped."""

    def __init__(
        self, postgres: PostgresTap, redis: RedisTap, prefix: str, rate: str, near: str = "0"
    ) -> None:
        self.postgres, self.redis = postgres, redis
        settings = Settings.from_mapping(
            {
                "PREFSYNC_JWT_KEY": KEY,
                "PREFSYNC_DATABASE_URL": postgres.url,
                "PREFSYNC_RATE_LIMIT": rate,
                "PREFSYNC_NEAR_CACHE": near,
            }
        )
        # A machine that is busy with other tests is no Redis that is out of reach, which would send readers elsewhere.
        self.link = RedisLink(redis.url, prefix=prefix, time_limit=10)
        self.cache = RedisCache(self.link, 300)
        limiter = LimitsRateLimiter(settings.rate_limit, self.link)
        parts = Parts(cache=self.cache, notifier=RedisNotifier(self.link), limiter=limiter)
        self.mount = PrefSync(MODELS, settings=settings, parts=parts)
        self.app = app_with(self.mount)

    def newcomer(self) -> Caller:
        """Return a user whom nobody has seen."""
        return newcomer(asgi_client(self.app))

    async def forget(self, me: Caller) -> None:
        """Have the user's document in no cache, as after its time to live."""
        assert await self.link.client.gather("DEL", self.cache._prefix + me.subject.key) == 1

    @contextlib.contextmanager
    def noting(self, *users: Caller) -> Iterator[Noted]:
        """Note what a block asks about users."""
        names = [name.encode() for me in users for name in (me.user, me.subject.key)]
        with self.postgres.noting(*names) as statements, self.redis.noting(*names) as commands:
            yield Noted(statements, commands)

    async def cost(self, me: Caller, method: str, path: str = "", value: Any = None, **more: Any) -> Cost:
        """Return what a user's request costs, which must succeed."""
        with self.noting(me) as noted:
            assert (await me.write(method, path, value, **more)).status < 400
        return noted.cost


@dataclass
class Noted:
    """What went over the wire, by round trip."""

    statements: list[list[str]]
    commands: list[list[str]]

    @property
    def cost(self) -> Cost:
        """How much it is."""
        return Cost(sum(map(len, self.statements)), len(self.statements), len(self.commands))


class Cost(NamedTuple):
    """What a request costs: statements, round trips to PostgreSQL and those to Redis."""

    statements: int
    database: int
    redis: int


@pytest.fixture(scope="module")
def database(postgres_url: str) -> Iterator[str]:
    """A database of these tests' own: what others log there would be work for the relay here."""
    name = f"prefsync_test_{secrets.token_hex(8)}"
    yield create_database(postgres_url, name)
    drop_database(postgres_url, name)


@pytest.fixture(scope="module")
async def bench(database: str, redis_url: str, redis_namespace: str) -> AsyncIterator[Bench]:
    """A mount with the default limit, its connections made and its statements prepared."""
    async with PostgresTap(database) as postgres, RedisTap(redis_url) as redis:
        bench = Bench(postgres, redis, f"{redis_namespace}-trips", "100/minute")
        async with bench.app.router.lifespan_context(bench.app):
            for _ in range(2):
                me = bench.newcomer()
                await warm(bench, me)
            yield bench


async def warm(bench: Bench, me: Caller) -> None:
    """Send each kind of request once."""
    await me.put("/appearance", {"theme": "dark"})
    await me.patch("/appearance", {"theme": "light"}, headers={"Idempotency-Key": me.user})
    await me.delete()
    await bench.forget(me)
    await me.get()
    await me.changes(0)


def usual(costs: list[Cost]) -> Cost:
    """Return the cost that most had."""
    return statistics.mode(costs)


async def test_a_cached_read(bench: Bench) -> None:
    """No statement, and one round trip to Redis: limiter and cache are asked together."""
    me = bench.newcomer()
    await me.put("/plugins", {"a": 1})
    for path in ("", "/plugins"):
        costs = [await bench.cost(me, "GET", path) for _ in range(TIMES)]
        assert max(cost.statements for cost in costs) == 0
        assert usual(costs) == Cost(0, 0, 1)


async def test_a_read_of_what_the_client_has(bench: Bench) -> None:
    """``304`` costs no more."""
    me = bench.newcomer()
    headers = {"If-None-Match": (await me.put("/plugins", {"a": 1})).etag}
    costs = [await bench.cost(me, "GET", "/plugins", headers=headers) for _ in range(TIMES)]
    assert max(cost.statements for cost in costs) == 0
    assert usual(costs) == Cost(0, 0, 1)


async def test_a_read_of_a_revision(bench: Bench) -> None:
    """``Prefsync-Min-Revision`` that the cache satisfies costs no more either."""
    me = bench.newcomer()
    headers = {"Prefsync-Min-Revision": str((await me.put("/plugins", {"a": 1})).revision)}
    costs = [await bench.cost(me, "GET", "/plugins", headers=headers) for _ in range(TIMES)]
    assert usual(costs) == Cost(0, 0, 1)


@pytest.mark.parametrize(
    ("kind", "commands"),
    [
        ("GET", [["GET", "EVALSHA"]]),
        ("304", [["GET", "EVALSHA"]]),
        ("PUT", [["EVALSHA"], ["EVALSHA", "PUBLISH"]]),
        ("PATCH", [["EVALSHA"], ["EVALSHA", "PUBLISH"]]),
    ],
)
async def test_commands_of_a_request(bench: Bench, kind: str, commands: list[list[str]]) -> None:
    """These commands go to Redis for a request, by round trip, and no others."""
    me = bench.newcomer()
    etag = (await me.put("/plugins", {"n": -1})).etag
    method = "GET" if kind == "304" else kind
    found: Counter[str] = Counter()
    for n in range(TIMES):
        value = None if method == "GET" else {"n": n}
        headers = {"If-None-Match": etag} if kind == "304" else {}
        with bench.noting(me) as noted:
            assert (await me.write(method, "/plugins", value, headers=headers)).status < 400
        found[json.dumps(noted.commands)] += 1
    ((usual_commands, _),) = found.most_common(1)
    assert json.loads(usual_commands) == commands


@pytest.mark.parametrize(("rate", "trips"), [("100/minute", 1), ("100000/minute", 0)])
async def test_a_read_from_the_near_cache(
    database: str, redis_url: str, redis_namespace: str, rate: str, trips: int
) -> None:
    """No statement; one trip for the limiter, or usually none, where the limit is so high that permits are leased."""
    async with PostgresTap(database) as postgres, RedisTap(redis_url) as redis:
        bench = Bench(postgres, redis, f"{redis_namespace}-near", rate, near="1MiB")
        async with bench.app.router.lifespan_context(bench.app), asyncio.timeout(60):
            near = False
            while not near:  # it says nothing until announcements are known to arrive
                me = bench.newcomer()
                await me.put("/plugins", {"a": 1})
                costs = [await bench.cost(me, "GET") for _ in range(TIMES)]
                assert max(cost.statements for cost in costs) == 0
                with bench.redis.noting(bench.cache._prefix.encode() + me.subject.key.encode()) as asked:
                    await me.get()
                near = not asked and usual(costs) == Cost(0, 0, trips)


async def test_a_read_that_misses(bench: Bench) -> None:
    """One statement, and two round trips to Redis: to find nothing, and to put what was found."""
    costs = []
    for _ in range(TIMES):
        me = bench.newcomer()
        await me.put("/plugins", {"a": 1})
        await bench.forget(me)
        costs.append(await bench.cost(me, "GET"))
        assert (await bench.cost(me, "GET")).statements == 0
    assert usual(costs) == Cost(1, 1, 2)


async def test_a_read_where_nothing_is_stored(bench: Bench) -> None:
    """The first read of a new user is a miss like any other, and the next is none."""
    counts = []
    for _ in range(TIMES):
        me = bench.newcomer()
        with bench.postgres.noting() as statements:  # one of which may name no user
            (await me.get()).ok()
        counts.append(sum(map(len, statements)))
        assert (await bench.cost(me, "GET")).statements == 0
    assert statistics.mode(counts) == 1


async def test_a_stampede_is_one_query(bench: Bench) -> None:
    """Fifty readers of one subject that is in no cache ask the database once."""
    me = bench.newcomer()
    await me.get()
    await bench.forget(me)
    with bench.noting(me) as noted:
        answers = await asyncio.gather(*(me.get() for _ in range(50)))
    assert {answer.status for answer in answers} == {200}
    assert noted.cost.statements == 1
    assert noted.cost.redis <= 10


async def test_concurrent_readers_share_their_trips(bench: Bench) -> None:
    """The commands of requests that come together travel together."""
    users = [bench.newcomer() for _ in range(50)]
    for me in users:
        await me.get()
    with bench.noting(*users) as noted:
        await asyncio.gather(*(me.get() for me in users))
    assert noted.cost.statements == 0
    assert noted.cost.redis <= 10


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize("has_key", [False, True], ids=["plain", "idempotent"])
async def test_a_write_upon_what_is_known(bench: Bench, method: str, *, has_key: bool) -> None:
    """One statement, and two round trips to Redis: the limiter before, cache and announcement after."""
    me = bench.newcomer()
    await me.put("/appearance", {"theme": "light"})
    costs = []
    for n in range(TIMES):
        headers = {"Idempotency-Key": f"{me.user}-{n}"} if has_key else {}
        body = {"font_size": 10 + n, "theme": "dark"}
        costs.append(await bench.cost(me, method, "/appearance", body, headers=headers))
    assert usual(costs) == Cost(1, 1, 2)


async def test_a_write_upon_the_state_it_names(bench: Bench) -> None:
    """``If-Match`` costs no more."""
    me = bench.newcomer()
    await me.put("/plugins", {"n": -1})
    costs = []
    for n in range(TIMES):
        headers = {"If-Match": (await me.get("/plugins")).etag}
        costs.append(await bench.cost(me, "PUT", "/plugins", {"n": n}, headers=headers))
    assert usual(costs) == Cost(1, 1, 2)


async def test_a_refusal_by_the_limiter_asks_nobody_else(bench: Bench) -> None:
    """``429`` costs one round trip, and no statement."""
    me = bench.newcomer()
    await asyncio.gather(*(me.get() for _ in range(100)))
    for _ in range(TIMES):
        with bench.noting(me) as noted:
            (await me.put("/appearance", {"theme": "dark"})).problem(429, "rate-limited")
        assert noted.cost == Cost(0, 0, 1)


async def test_a_waiting_client_costs_nothing(bench: Bench) -> None:
    """While nothing happens; and a change of somebody else's does not make it look."""
    me, somebody = bench.newcomer(), bench.newcomer()
    polls = [asyncio.ensure_future(me.changes(0, wait=30)) for _ in range(5)]
    await asyncio.sleep(0.2)  # so that they wait
    with bench.noting(me) as noted:
        await somebody.put("/plugins", {"a": 1})
        await asyncio.sleep(0.2)  # so that they would have looked
    assert noted.cost == Cost(0, 0, 0)
    assert not any(poll.done() for poll in polls)
    await me.put("/plugins", {"a": 1})
    for page in await asyncio.gather(*polls):
        assert len(page["changes"]) == 1


async def test_a_usual_mix(
    database: str, redis_url: str, redis_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """95 reads on 5 writes over 1,000 users, some of whom come far more often: at most 0.06 statements a request."""

    async def rest(_: Relay) -> None:
        """Do nothing: what the relay has to repeat depends on what other tests left, and on the machine."""
        await anyio.sleep_forever()

    monkeypatch.setattr(Relay, "run", rest)
    chance = random.Random(95)
    async with PostgresTap(database) as postgres, RedisTap(redis_url) as redis:
        bench = Bench(postgres, redis, f"{redis_namespace}-mix", "100000/minute")
        async with bench.app.router.lifespan_context(bench.app):
            client = asgi_client(bench.app)
            users = [newcomer(client) for _ in range(1_000)]
            for start in range(0, len(users), 100):
                await asyncio.gather(*(me.get() for me in users[start : start + 100]))
            weights = [1 / rank for rank in range(1, len(users) + 1)]
            requests = 3_000
            kinds = [chance.random() < 0.05 for _ in range(requests)]
            plan = iter(zip(chance.choices(users, weights, k=requests), kinds, strict=True))

            async def work() -> None:
                for me, writes in plan:
                    if writes:
                        answer = await me.patch("/plugins", {"n": chance.random()})
                    else:
                        answer = await me.get(chance.choice(["", "/appearance", "/plugins"]))
                    assert answer.status == 200

            with postgres.noting() as statements, redis.noting() as commands:
                await asyncio.gather(*(work() for _ in range(20)))
    kinds_of = Counter(statement[:60] for trip in statements for statement in trip)
    # Of documents: what looks around once a second does so however many requests come meanwhile.
    count = sum("user_preferences" in statement for trip in statements for statement in trip)
    trips, writes = len(commands), sum(kinds)
    assert count > writes / 2, "the tap missed something"
    assert count / requests <= 0.06, (
        f"{count} statements for {requests} requests, {writes} of them writes: {kinds_of}"
    )
    assert trips / requests <= 1, f"{trips} round trips to Redis for {requests} requests"
