"""Writers that take turns, go away or meet a restored database."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

from prefsync import PreconditionFailedError
from prefsync.adapters.memory import MemoryRepository
from prefsync.service import IdempotentRequest
from prefsync.testing import PausingRepository
from tests.unit.support import ANNA, BERT, PATIENCE, Process


async def test_a_writer_that_hangs_holds_nobody_else_up() -> None:
    """While one subject's write waits for the database, other subjects are read and written, and it is read itself."""
    repository = PausingRepository(MemoryRepository())
    process = Process(repository=repository)
    await process.merge("appearance", {"theme": "light"})
    hold = repository.hold("write")
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(process.merge, "appearance", {"theme": "dark"})
            await hold.reached()
            await process.merge("appearance", {"theme": "dark"}, BERT)
            assert (await process.read()).values["appearance"]["theme"] == "light"
            hold.release()
    assert (await process.read()).values["appearance"]["theme"] == "dark"


async def test_writers_that_go_away_while_they_wait_leave_their_turn_to_others() -> None:
    """Cancelled in the queue for a subject, a writer writes nothing, and those behind it go on."""
    repository = PausingRepository(MemoryRepository())
    process = Process(repository=repository)
    hold = repository.hold("write")
    scopes = [anyio.CancelScope() for _ in range(10)]

    async def write(number: int) -> None:
        with scopes[number]:
            await process.merge("plugins", {f"n{number}": number})

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(write, number)
            await hold.reached()
            for scope in scopes[1::2]:
                scope.cancel()
            await anyio.wait_all_tasks_blocked()
            hold.release()
    assert set((await process.read()).values["plugins"]) == {"n0", "n2", "n4", "n6", "n8"}
    assert not process.service._turns._waiting, "a turn was not given back"


async def test_many_writers_of_one_subject_need_one_write_each() -> None:
    """Concurrent writers in one process take turns instead of losing races to one another."""
    repository = PausingRepository(MemoryRepository())
    process = Process(repository=repository)
    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(partial(process.merge, "plugins", {f"n{number}": number}))
    assert len((await process.read()).values["plugins"]) == 100
    assert repository.calls["write"] == 100
    assert repository.calls["load"] <= 2


async def test_a_database_that_was_restored_is_gone_on_from() -> None:
    """Where the database is older than what a process remembers, writes are made upon the database's state."""
    process = Process()
    await process.merge("appearance", {"theme": "dark"})
    seen = await process.merge("plugins", {"a": 1})
    restored = Process(
        clock=process.clock, cache=process.cache, notifier=process.notifier
    )  # its backup has nothing of Anna
    restored.clock.advance(5)
    after = await restored.merge("appearance", {"font_size": 20})
    assert after.revision > seen.revision
    assert after.values["appearance"] == {**after.values["appearance"], "theme": "system", "font_size": 20}
    assert after.values["plugins"] == {}
    assert (await restored.read()).revision == after.revision
    with pytest.raises(PreconditionFailedError):
        await restored.read(at_least=after.revision + 1)


async def test_a_repeat_is_answered_as_the_first_though_everything_else_has_changed() -> None:
    """The first answer is given again after later writes, by another process, and after the values were reset."""
    process = Process()
    request = IdempotentRequest("key", b"d" * 32)
    first = await process.merge("appearance", {"theme": "dark"}, request=request)
    await process.reset("appearance")
    await process.merge("plugins", {"a": 1})
    for one in (process, process.another()):
        again = await one.merge("appearance", {"theme": "dark"}, request=request)
        assert (again.revision, again.values, dict(again.revisions)) == (
            first.revision,
            first.values,
            dict(first.revisions),
        )
    assert (await process.read()).values["appearance"]["theme"] == "system"
    log = await process.repository.changes(ANNA, 0, 10)
    assert len(log.changes) == 3


async def test_revisions_rise_though_the_clock_goes_back() -> None:
    """Two processes whose clocks differ by an hour, one of them set back, never repeat or lower a revision."""
    process = Process()
    other = process.another()
    seen = []
    for number in range(20):
        process.clock.set(1_795_000_000_000 + (3_600_000 if number % 2 else 0) - number * 1_000)
        writer = other if number % 3 else process
        seen.append((await writer.merge("plugins", {"n": number})).revision)
        if number % 7 == 6:
            await writer.service.erase(ANNA)
    assert seen == sorted(set(seen))
