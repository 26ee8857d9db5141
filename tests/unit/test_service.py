"""Writers that take turns, go away or meet a restored database; the rest is in ``tests/core``."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

from prefsync import PreconditionFailedError
from prefsync.adapters.memory import MemoryRepository
from prefsync.service import IdempotentRequest
from prefsync.testing import PausingRepository
from tests.unit.support import ANNA, BERT, LIMIT, make_kit


async def test_a_writer_that_hangs_holds_nobody_else_up() -> None:
    """While one subject's write waits for the database, other subjects are read and written, and it is read itself."""
    repository = PausingRepository(MemoryRepository())
    kit = make_kit(repository=repository)
    await kit.patch("appearance", {"theme": "light"})
    hold = repository.hold("write")
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kit.patch, "appearance", {"theme": "dark"})
            await hold.reached()
            await kit.patch("appearance", {"theme": "dark"}, BERT)
            assert (await kit.read()).values["appearance"]["theme"] == "light"
            hold.release()
    assert (await kit.read()).values["appearance"]["theme"] == "dark"


async def test_writers_that_go_away_while_they_wait_leave_their_turn_to_others() -> None:
    """Cancelled in the queue for a subject, a writer writes nothing, and those behind it go on."""
    repository = PausingRepository(MemoryRepository())
    kit = make_kit(repository=repository)
    hold = repository.hold("write")
    scopes = [anyio.CancelScope() for _ in range(10)]

    async def write(number: int) -> None:
        with scopes[number]:
            await kit.patch("plugins", {f"n{number}": number})

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(write, number)
            await hold.reached()
            for scope in scopes[1::2]:
                scope.cancel()
            await anyio.wait_all_tasks_blocked()
            hold.release()
    assert set((await kit.read()).values["plugins"]) == {"n0", "n2", "n4", "n6", "n8"}
    assert not kit.service._turns._locks, "a turn was not given back"


async def test_many_writers_of_one_subject_need_one_write_each() -> None:
    """Concurrent writers in one process take turns instead of losing races to one another."""
    repository = PausingRepository(MemoryRepository())
    kit = make_kit(repository=repository)
    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(partial(kit.patch, "plugins", {f"n{number}": number}))
    assert len((await kit.read()).values["plugins"]) == 100
    assert repository.calls["write"] == 100
    assert repository.calls["load"] <= 2


async def test_a_database_that_was_restored_is_gone_on_from() -> None:
    """Where the database is older than what a process remembers, writes are made upon the database's state."""
    kit = make_kit()
    await kit.patch("appearance", {"theme": "dark"})
    seen = await kit.patch("plugins", {"a": 1})
    restored = make_kit(
        clock=kit.clock, cache=kit.cache, notifier=kit.notifier
    )  # its backup has nothing of Anna
    restored.clock.advance(5)
    after = await restored.patch("appearance", {"font_size": 20})
    assert after.revision > seen.revision
    assert after.values["appearance"] == {**after.values["appearance"], "theme": "system", "font_size": 20}
    assert after.values["plugins"] == {}
    assert (await restored.read()).revision == after.revision
    with pytest.raises(PreconditionFailedError):
        await restored.read(at_least=after.revision + 1)


async def test_a_repeat_is_answered_as_the_first_though_everything_else_has_changed() -> None:
    """The first answer is given again after later writes, by another process, and after the values were reset."""
    kit = make_kit()
    request = IdempotentRequest("key", b"d" * 32)
    first = await kit.patch("appearance", {"theme": "dark"}, request=request)
    await kit.reset("appearance")
    await kit.patch("plugins", {"a": 1})
    for one in (kit, kit.another()):
        again = await one.patch("appearance", {"theme": "dark"}, request=request)
        assert (again.revision, again.values, dict(again.revisions)) == (
            first.revision,
            first.values,
            dict(first.revisions),
        )
    assert (await kit.read()).values["appearance"]["theme"] == "system"
    log = await kit.repository.changes(ANNA, 0, 10)
    assert len(log.changes) == 3


async def test_revisions_rise_though_the_clock_goes_back() -> None:
    """Two processes whose clocks differ by an hour, one of them set back, never repeat or lower a revision."""
    kit = make_kit()
    other = kit.another()
    seen = []
    for number in range(20):
        kit.clock.set(1_795_000_000_000 + (3_600_000 if number % 2 else 0) - number * 1_000)
        writer = other if number % 3 else kit
        seen.append((await writer.patch("plugins", {"n": number})).revision)
        if number % 7 == 6:
            await writer.service.erase(ANNA)
    assert seen == sorted(set(seen))
