"""Writes of many subjects, stored together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from prefsync.adapters.sqlalchemy.gathered_writes import GatheredWrites
from prefsync.document import Document
from prefsync.errors import UnavailableError
from prefsync.resilience import Guard
from prefsync.testing.samples import fresh_subject, step
from tests.unit.support import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefsync.document import Subject
    from prefsync.ports import Write

WRITE = step(Document(), {"plugins": {"a": 1}})


async def test_what_is_written_in_one_round_is_stored_together() -> None:
    """At most so many at once; each hears of its own, and whoever is left over is left to itself."""
    batches: list[int] = []

    async def store(writes: Sequence[tuple[Subject, Write]]) -> set[int]:
        batches.append(len(writes))
        return set(range(1, len(writes)))

    gathered = GatheredWrites(store, 4)
    stored = await asyncio.gather(*(gathered.write(fresh_subject(), WRITE) for _ in range(9)))
    assert batches == [4, 4]
    assert stored == [False, True, True, True, False, True, True, True, False]
    subject = fresh_subject()
    assert not any(await asyncio.gather(*(gathered.write(subject, WRITE) for _ in range(3))))
    await gathered.close()


async def test_while_two_batches_are_on_their_way_others_wait() -> None:
    """Those who wait are stored together when one is back, or as soon as they fill a batch by themselves."""
    batches: list[int] = []
    go_on = asyncio.Event()

    async def store(writes: Sequence[tuple[Subject, Write]]) -> set[int]:
        batches.append(len(writes))
        await go_on.wait()
        return set(range(len(writes)))

    gathered = GatheredWrites(store, 4)
    writers: list[asyncio.Task[bool]] = []

    async def write(count: int) -> None:
        writers.extend(asyncio.create_task(gathered.write(fresh_subject(), WRITE)) for _ in range(count))
        for _ in range(3):  # the tasks, their departure, and the batch
            await asyncio.sleep(0)

    for count in (2, 2, 1, 2):
        await write(count)
    assert batches == [2, 2]
    await write(1)
    assert batches == [2, 2, 4]
    await write(2)
    writers[-1].cancel()
    await write(2)
    go_on.set()
    async with asyncio.timeout(PATIENCE):
        stored = await asyncio.gather(*writers, return_exceptions=True)
    assert batches == [2, 2, 4, 3]
    assert [type(one) for one in stored].count(asyncio.CancelledError) == 1
    assert stored.count(True) == len(stored) - 1
    await gathered.close()


async def test_a_statement_that_fails_is_one_failure_whatever_it_was_to_store() -> None:
    """All of its writers are told, and the breaker, which opens after three in a row, counts one."""

    async def store(_writes: Sequence[tuple[Subject, Write]]) -> set[int]:
        raise UnavailableError("database")

    gathered, guard = GatheredWrites(store, 16), Guard("database", PATIENCE)
    told = await asyncio.gather(
        *(guard(gathered.write(fresh_subject(), WRITE)) for _ in range(16)), return_exceptions=True
    )
    assert {type(one) for one in told} == {UnavailableError}
    assert guard.breaker.is_failing
    assert not guard.breaker.is_down


async def test_one_that_nobody_hears_of_is_not_stored_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that does not get its turn is given up before its writers give it up."""
    monkeypatch.setattr("prefsync.adapters.sqlalchemy.gathered_writes._TIME_LIMIT", 0.05)

    async def store(_writes: Sequence[tuple[Subject, Write]]) -> set[int]:
        await asyncio.sleep(PATIENCE)
        raise AssertionError("stored late")

    gathered = GatheredWrites(store, 16)
    with pytest.raises(UnavailableError):
        await asyncio.gather(*(gathered.write(fresh_subject(), WRITE) for _ in range(2)))
    await gathered.close()


async def test_a_wait_for_other_batches_is_no_longer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the database is stuck, those who wait for their turn are told as early as those who had it."""
    monkeypatch.setattr("prefsync.adapters.sqlalchemy.gathered_writes._TIME_LIMIT", 2.0)
    monkeypatch.setattr("prefsync.adapters.sqlalchemy.gathered_writes._IN_FLIGHT", 1)
    batches: list[int] = []

    async def store(writes: Sequence[tuple[Subject, Write]]) -> set[int]:
        batches.append(len(writes))
        await asyncio.sleep(PATIENCE)
        raise AssertionError("stored late")

    async def give_up() -> float:
        with pytest.raises(UnavailableError):
            await gathered.write(fresh_subject(), WRITE)
        return asyncio.get_running_loop().time()

    gathered = GatheredWrites(store, 16)
    first = [asyncio.create_task(give_up()) for _ in range(2)]
    await asyncio.sleep(0.01)
    later = [asyncio.create_task(give_up()) for _ in range(2)]
    given_up_at = await asyncio.gather(*first, *later)
    assert batches == [2, 2]
    assert max(given_up_at) - min(given_up_at) < 1.5
    await gathered.close()
