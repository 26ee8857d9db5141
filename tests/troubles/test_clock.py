"""A clock that jumps, by hours, forward and back: no write is lost, none is refused, and all stay in order."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
import pytest

from prefsync.ports import Rate
from prefsync.testing.clock import FakeClock
from tests.troubles.conftest import mounted

if TYPE_CHECKING:
    from pathlib import Path

    from prefsync.testing.mount import Caller

pytestmark = pytest.mark.once

LIMIT = 60
HOUR = 3_600_000
DAYS = 3 * 24 * 3_600


def clock_of_today() -> FakeClock:
    """Return a clock that tells today's time, as tokens do."""
    return FakeClock(time.time_ns() // 1_000_000)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/x.sqlite3"
    database: str = request.getfixturevalue("database")
    return database


async def write(caller: Caller, size: int, key: str) -> int:
    """Write, and return the revision; the same again under the same key changes nothing."""
    headers = {"Idempotency-Key": f'"{key}"'}
    first = await caller.patch("/editor", {"tab_size": size}, headers=headers)
    assert first.status == 200, first
    again = await caller.patch("/editor", {"tab_size": size}, headers=headers)
    assert again.headers["ETag"] == first.headers["ETag"]
    return int((await caller.get()).headers["Prefsync-Revision"])


async def test_revisions_go_up_whatever_the_clock_does(url: str) -> None:
    """Over jumps of hours each write has a higher revision, keys hold, and the feed has all in order without a gap."""
    clock = clock_of_today()
    async with mounted(url, clock=clock) as (_, newcomer):
        caller = newcomer.holding(exp=int(time.time()) + DAYS)
        revisions = [await write(caller, 1, "first")]
        for number, hours in enumerate([5, -8, 2, 11, -11], start=2):
            clock.set(clock.now() + hours * HOUR)
            revisions.append(await write(caller, number, f"number-{number}"))
        assert revisions == sorted(set(revisions))
        answer = await caller.get("/changes", query=f"since={revisions[0]}")
        changes = answer.json()["changes"]
        assert [change["revision"] for change in changes] == revisions[1:]
        assert [change["previous"] for change in changes] == revisions[:-1]
        repeated = await caller.patch("/editor", {"tab_size": 1}, headers={"Idempotency-Key": '"first"'})
        assert repeated.status == 200
        assert (await caller.get("/editor")).json()["tab_size"] == 6, "the first write was made once more"


async def test_other_processes_hear_of_changes_after_a_jump(url: str) -> None:
    """Processes without Redis look through the log by its times, and still find what was written after a jump."""
    clock = clock_of_today()
    async with mounted(url, clock=clock) as (_, here), mounted(url, clock=clock) as (_, there):
        writer = here.holding(exp=int(time.time()) + DAYS)
        reader = writer.through(there.client)
        for size, hours in enumerate([0, 5, -8], start=1):
            assert (await reader.get("/editor")).status == 200  # it is cached there now
            clock.set(clock.now() + hours * HOUR)
            assert (await writer.patch("/editor", {"tab_size": size})).status == 200
            with anyio.fail_after(LIMIT):
                while (await reader.get("/editor")).json()["tab_size"] != size:
                    await anyio.sleep(0.05)


async def test_limits_and_tokens_after_a_jump() -> None:
    """Limits go by the clock that never jumps; a token is good for as long as the clock on the wall says."""
    clock = clock_of_today()
    async with mounted("sqlite://", rate=Rate(3, 60), clock=clock) as (_, newcomer):
        caller = newcomer.holding(exp=int(time.time()) + DAYS)
        assert [(await caller.get()).status for _ in range(4)] == [200, 200, 200, 429]
        clock.set(clock.now() - 8 * HOUR)
        assert (await caller.get()).status == 429
        clock.advance(61)
        assert (await caller.get()).status == 200
        for_an_hour = newcomer.holding(sub="other")
        clock.set(clock.now() + 13 * HOUR)
        assert (await for_an_hour.get()).status == 401
        clock.set(clock.now() - 13 * HOUR)
        assert (await for_an_hour.get()).status == 200
