"""A thousand subjects beside a million: what a request costs must not depend on how much is stored."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64decode
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import redis

from tests.bench.crowd import Crowd
from tests.bench.growth.ground import Chart, Section
from tests.bench.meters import cpu_seconds
from tests.bench.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.growth.ground import Ground
    from tests.servers import ServerProcess

__all__ = ["Filled", "filled", "measure"]

ACTIVE: Final = 1_000
CHANGES: Final = 10
"""Of each subject."""

_LIMIT: Final = 1.2
_PATH: Final = "/preferences"
_MINUTE: Final = 60_000
_BATCHES: Final = 3

# What one subject has, whom the app itself made, is what all have, a day ago; each change a minute after the last.
_FILL: Final = """
INSERT INTO user_preferences (tenant_id, user_id, document, revision, revisions, created_at, updated_at)
SELECT '', name, jsonb_set(seed.document, '{{plugins,owner}}', to_jsonb(name)), newest,
       (SELECT jsonb_object_agg(key, newest) FROM jsonb_object_keys(seed.revisions) AS key), newest, newest
FROM user_preferences AS seed, {people}
WHERE seed.user_id = 'seed'
"""
_LOG: Final = """
INSERT INTO preference_changes (tenant_id, user_id, revision, previous, patch, replaced, origin, at)
SELECT '', name, newest - age * {minute}, newest - (age + 1) * {minute}, seed.patch, seed.replaced, NULL,
       newest - age * {minute}
FROM (SELECT * FROM preference_changes WHERE user_id = 'seed' ORDER BY revision DESC LIMIT 1) AS seed,
     {people}, generate_series({changes} - 1, 0, -1) AS age
"""
_PEOPLE: Final = """
(SELECT 'user-' || CASE WHEN n < 10000 THEN lpad(n::text, 4, '0') ELSE n::text END AS name,
        {newest} - n % 100000 AS newest
 FROM generate_series(0, {subjects} - 1) AS n) AS people
"""


@dataclass(frozen=True, slots=True)
class Filled:
    """A database with subjects, and an app on it.

    Attributes:
        subjects: How many.
        postgres: Its URL.
        server: The app.
        crowd: Who of them is active: as many in each database, and as much apart as can be.
        newest: The revision of the first of them.
    """

    subjects: int
    postgres: str
    server: ServerProcess
    crowd: Crowd
    newest: int

    @property
    def step(self) -> int:
        """How far the active ones are apart."""
        return self.subjects // ACTIVE

    def since(self, number: int) -> int:
        """Return the revision that an active one had five changes ago."""
        return self.newest - number * self.step % 100_000 - 5 * _MINUTE


@contextmanager
def filled(ground: Ground, subjects: int) -> Iterator[Filled]:
    """Make a database with so many subjects, ``CHANGES`` changes each, and start an app on it."""
    step = subjects // ACTIVE
    crowd = Crowd(names=[f"user-{number * step:04d}" for number in range(ACTIVE)])
    with ground.database() as postgres, ground.app(postgres, crowd.key) as server:
        ground.progress(f"storing {subjects:,} subjects and {subjects * CHANGES:,} changes")
        seeds = Crowd(names=["seed"], key=crowd.key)
        ground.fill(server, seeds)
        ground.ask(server, [next(seeds.patches(lambda _: _PATH))])
        newest = (int(time.time()) - 86_400) * 1_000
        people = _PEOPLE.format(newest=newest, subjects=subjects)
        ground.execute(
            postgres,
            _FILL.format(people=people),
            _LOG.format(people=people, minute=_MINUTE, changes=CHANGES),
            "VACUUM (ANALYZE) user_preferences",
            "VACUUM (ANALYZE) preference_changes",
            "CHECKPOINT",
        )
        yield Filled(subjects, postgres, server, crowd, newest)


def measure(ground: Ground, few: Filled, many: Filled) -> Section:
    """Measure requests of as many active subjects, of a few and of many."""
    sides = (few, many)
    kinds = {"cached GET": _cached, "uncached GET": _uncached, "feed": _feed, "PUT": _put}
    rows: list[Any] = [
        (
            "request",
            f"µs at {few.subjects:,}",
            f"µs at {many.subjects:,}",
            "ratio",
            "of PostgreSQL, µs",
            "µs",
            "ratio",
        )
    ]
    lines: dict[str, list[tuple[float, float]]] = {}
    outcomes = []
    for kind, take in kinds.items():
        found: dict[int, list[_Cost]] = {side.subjects: [] for side in sides}
        for number in range(ground.rounds):
            for side in sides:
                ground.progress(f"{kind}, {side.subjects:,} subjects, round {number + 1} of {ground.rounds}")
                found[side.subjects].append(take(ground, side))
        before, after = ([cost.server for cost in found[side.subjects]] for side in sides)
        ratios = [late / early for early, late in zip(before, after, strict=True)]
        theirs = [median(cost.database for cost in found[side.subjects]) for side in sides]
        rows.append(
            (
                kind,
                f"{median(before):,.0f}",
                f"{median(after):,.0f}",
                f"{median(ratios):.2f}",
                *(f"{each:,.0f}" for each in theirs),
                f"{theirs[1] / theirs[0]:.2f}" if theirs[0] > 1 else "",
            )
        )
        lines[kind] = [(side.subjects, median(c.server for c in found[side.subjects])) for side in sides]
        outcomes.append(
            Outcome.at_most(
                f"{kind} with {many.subjects:,} subjects and {many.subjects * CHANGES:,} changes",
                _LIMIT,
                f"times the processor time at {few.subjects:,}",
                ratios,
            )
        )
    chart = Chart(
        "growth-subjects",
        "Processor time of a request, by how much is stored",
        f"subjects, {CHANGES} changes each",
        "µs",
        lines,
        is_logarithmic=True,
    )
    return Section(f"From {few.subjects:,} subjects to {many.subjects:,}", rows, [chart], outcomes)


@dataclass(frozen=True, slots=True)
class _Cost:
    """µs of processor time of a request, in the app and in PostgreSQL."""

    server: float
    database: float


def _check(request: bytes, answer: bytes) -> None:
    values = json.loads(answer.partition(b"\r\n\r\n")[2])["values"]
    assert values["plugins"]["owner"].encode() in _owner(request), "somebody else's document"


def _owner(request: bytes) -> bytes:
    # A token's claims can be read without its key (RFC 7519, section 3.1).
    claims = request.partition(b"Bearer ")[2].split(b".", 2)[1]
    return urlsafe_b64decode(claims + b"=" * (-len(claims) % 4))


def _loaded(ground: Ground, side: Filled, requests: Iterator[bytes], check: Any = _check) -> _Cost:
    before = _database_cpu(ground, side)
    figures = ground.load([side.server], lambda: requests, check)
    spent = _database_cpu(ground, side) - before
    # PostgreSQL is read outside of the load, so the warm-up's part has to be left out.
    share = ground.seconds / (ground.seconds + 0.5)
    return _Cost(figures.cpu, spent * share / (figures.rate * ground.seconds) * 1e6)


def _database_cpu(ground: Ground, side: Filled) -> float:
    pids = ground.execute(
        side.postgres,
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    return sum(cpu_seconds(row["pid"]) for row in pids)


def _cached(ground: Ground, side: Filled) -> _Cost:
    ground.ask(side.server, (side.crowd.read(_PATH, user) for user in side.crowd.users))
    return _loaded(ground, side, side.crowd.reads(_PATH))


def _uncached(ground: Ground, side: Filled) -> _Cost:
    """Read each document once, after it has left the cache as it does when its time is up; several times."""
    requests = [side.crowd.read(_PATH, user) for user in side.crowd.users]
    spent = [0.0, 0.0]
    for _ in range(_BATCHES):
        with redis.Redis.from_url(ground.stores.redis) as client:
            for keys in _chunks(list(client.scan_iter("*:doc:*", count=1_000))):
                client.unlink(*keys)
        before = cpu_seconds(side.server.pid), _database_cpu(ground, side)
        for request, answer in ground.ask(side.server, requests).items():
            _check(request, answer)
        after = cpu_seconds(side.server.pid), _database_cpu(ground, side)
        spent = [total + now - then for total, then, now in zip(spent, before, after, strict=True)]
    each = _BATCHES * len(requests)
    return _Cost(spent[0] / each * 1e6, spent[1] / each * 1e6)


def _chunks(keys: list[Any]) -> Iterator[list[Any]]:
    return (keys[start : start + 1_000] for start in range(0, len(keys), 1_000))


def _feed(ground: Ground, side: Filled) -> _Cost:
    numbers = {user.name: number for number, user in enumerate(side.crowd.users)}
    requests = side.crowd.reads(lambda user: f"{_PATH}/changes?since={side.since(numbers[user.name])}")
    return _loaded(ground, side, requests, _check_feed)


def _check_feed(_: bytes, answer: bytes) -> None:
    page = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert len(page["changes"]) == 5, page
    assert not page["reset"], page


def _put(ground: Ground, side: Filled) -> _Cost:
    return _loaded(ground, side, side.crowd.replaces(lambda _: _PATH))
