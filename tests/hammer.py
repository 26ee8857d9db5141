"""Very many requests of several users over two connections, one in ten cancelled: ``python -m tests.hammer 100000``.

A client that goes away in the middle is where drivers have handed one user's rows to the next (redis-py 2665, asyncmy
108). Every answer is looked at: whatever is in it must be its asker's.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import random
import secrets
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prefsync.testing.mount import KEY, newcomer
from tests.http.conftest import InProcessHost
from tests.http.test_flask_contract import WerkzeugHost
from tests.servers import PrivatePostgres, PrivateRedis, create_database, drop_database, local_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefsync.testing.mount import Caller, MountClient, MountHost

USERS = 40
AT_ONCE = 24
CANCELLED = 0.1

LONGEST = 0.02
"""Seconds after which at the latest a request that is to be cancelled is."""

SETTINGS = {
    "PREFSYNC_JWT_KEY": KEY,
    "PREFSYNC_JWT_TENANT_CLAIM": "tenant",
    "PREFSYNC_RATE_LIMIT": "10000000/minute",
    "PREFSYNC_POOL_SIZE": "2",
    "PREFSYNC_CACHE_TTL": "0.01",  # most reads reach the database
}


@dataclass
class Tally:
    """What came of it.

    Attributes:
        sent: Requests.
        cancelled: Those that were given up before their answer.
        answers: The others, by status.
        mixed: Answers that held what is somebody else's.
    """

    sent: int = 0
    cancelled: int = 0
    answers: dict[int, int] = field(default_factory=dict)
    mixed: list[str] = field(default_factory=list)


async def hammer(client: MountClient, requests: int, seed: int = 0) -> Tally:
    """Send requests, and return what came of them.

    Args:
        client: Of a mount whose tokens name a tenant.
        requests: How many.
        seed: Of who asks for what, and what is cancelled when.
    """
    chance, tally = random.Random(seed), Tally()
    names = [f"user-{number}-{secrets.token_hex(4)}" for number in range(USERS // 2)]
    callers = [newcomer(client, sub=name, tenant=tenant) for name in names for tenant in ("one", "two")]
    marks = [f"{caller._claims['tenant']}/{caller.user}" for caller in callers]
    for caller, mark in zip(callers, marks, strict=True):
        (await caller.put("/plugins", {"owner": mark, "n": 0})).ok()

    async def work() -> None:
        while tally.sent < requests:
            tally.sent += 1
            chosen = chance.randrange(len(callers))
            asking = asyncio.ensure_future(_ask(callers[chosen], marks[chosen], tally.sent, chance))
            if chance.random() < CANCELLED:
                await asyncio.sleep(chance.random() ** 3 * LONGEST)
                asking.cancel()
            try:
                answer = await asking
            except asyncio.CancelledError:
                tally.cancelled += 1
                continue
            tally.answers[answer.status] = tally.answers.get(answer.status, 0) + 1
            if answer.status == 200 and (owners := set(_owners(answer.json()))) - {marks[chosen]}:
                tally.mixed.append(f"{marks[chosen]} was told of {owners}")

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return tally


def _ask(me: Caller, mark: str, number: int, chance: random.Random) -> Any:
    """Return a request of a user's, not sent yet."""
    key = {"Idempotency-Key": f"key-{number % 50}-{chance.randrange(10)}"}  # users use the same ones
    match chance.randrange(7):
        case 0:
            return me.patch("/plugins", {"n": number})
        case 1:
            return me.patch("", {"plugins": {"owner": mark}}, headers=key)
        case 2:
            return me.put("/plugins", {"owner": mark, "n": number})
        case 3:
            return me.get("/changes", query="since=0&limit=5")
        case 4:
            return me.get("/plugins")
        case _:
            return me.get()


def _owners(value: Any) -> Iterator[str]:
    """Yield whose marks are anywhere in an answer."""
    if isinstance(value, dict):
        if isinstance(value.get("owner"), str):
            yield value["owner"]
        for item in value.values():
            yield from _owners(item)
    elif isinstance(value, list):
        for item in value:
            yield from _owners(item)


def check(tally: Tally, requests: int) -> None:
    """Raise unless all that was asked for was answered, to the right ones."""
    assert not tally.mixed, tally.mixed[:5]
    assert tally.cancelled + sum(tally.answers.values()) == tally.sent >= requests
    assert tally.cancelled >= requests * CANCELLED / 4, "many that were to be cancelled were answered first"
    # A key that was used for another request is refused; so is who comes too late for two connections.
    assert tally.answers.keys() <= {200, 422, 503}, tally.answers
    assert tally.answers[200] >= requests * 0.6, tally.answers


def hosts(database: str, redis: str) -> dict[str, MountHost]:
    """Return both mounts, on PostgreSQL and Redis."""
    storage = {"PREFSYNC_DATABASE_URL": database}
    linked = {"PREFSYNC_REDIS_URL": redis, "PREFSYNC_REDIS_PREFIX": f"hammer-{secrets.token_hex(4)}"}
    return {"FastAPI": InProcessHost({**storage, **linked}), "Flask": WerkzeugHost({**storage, **linked})}


async def _run(host: MountHost, requests: int, seed: int) -> Tally:
    async with host.open(SETTINGS) as client:
        return await hammer(client, requests, seed)


def main() -> None:
    """Hammer both mounts, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("requests", nargs="?", type=int, default=100_000, help="for each mount")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    with contextlib.ExitStack() as stack:
        server = local_postgres() or stack.enter_context(PrivatePostgres()).url
        name = f"prefsync_hammer_{secrets.token_hex(4)}"
        database = create_database(server, name)
        stack.callback(drop_database, server, name)
        redis = stack.enter_context(PrivateRedis()).url
        for mount, host in hosts(database, redis).items():
            started = time.monotonic()
            tally = asyncio.run(_run(host, chosen.requests, chosen.seed))
            check(tally, chosen.requests)
            counts = {"sent": tally.sent, "cancelled": tally.cancelled, "answers": tally.answers, "mixed": 0}
            line = f"{mount}: {json.dumps(counts)} in {time.monotonic() - started:.0f} s"
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
