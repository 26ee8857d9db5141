"""Writers that take turns, go away or meet a restored database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import anyio
import pytest
from pydantic import model_validator

from prefsync import PreconditionFailedError, Preferences
from prefsync.adapters.memory import MemoryRepository
from prefsync.service import IdempotentRequest
from prefsync.testing import PausingRepository
from tests.unit.support import ANNA, BERT, PATIENCE, Plugins, Process

if TYPE_CHECKING:
    from prefsync.document import Snapshot


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


async def test_writers_of_one_subject_that_wait_are_stored_as_one() -> None:
    """A hundred concurrent writers of one subject need five writes, and each has its own change and its own state."""
    repository = PausingRepository(MemoryRepository())
    process = Process(repository=repository)
    answers: dict[int, Snapshot] = {}

    async def write(number: int) -> None:
        answers[number] = await process.merge("plugins", {f"n{number}": number})

    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(write, number)
    assert len((await process.read()).values["plugins"]) == 100
    assert repository.calls["write"] == 1 + 4  # upon nothing by itself; then 32, 32, 32 and 3
    assert repository.calls["load"] <= 2
    changes = (await repository.changes(ANNA, 0, 1000)).changes
    assert [change.previous for change in changes] == [0, *(change.revision for change in changes[:-1])]
    by_revision = {change.revision: change.assigned["plugins"] for change in changes}
    for number, answer in answers.items():
        assert by_revision[answer.revision] == {f"n{number}": number}
        assert answer.values["plugins"] == {f"n{n}": n for n in range(number + 1)}


async def test_one_that_is_refused_among_those_stored_as_one_does_not_touch_the_others() -> None:
    """Stored as one, each write is decided upon what those before it leave: refused, unneeded or written."""
    repository = PausingRepository(MemoryRepository())
    process = Process(repository=repository)
    await process.merge("plugins", {"a": 0})
    hold = repository.hold("write")
    outcomes: dict[str, object] = {}

    async def write(name: str, value: object, only_upon: int | None = None) -> None:
        def condition(snapshot: Snapshot) -> None:
            if only_upon not in {None, snapshot.revision}:
                raise PreconditionFailedError("it is another")

        try:
            answer = await process.merge("plugins", {"a": value}, condition=condition)
            outcomes[name] = (answer.revision, answer.values["plugins"])
        except PreconditionFailedError as error:
            outcomes[name] = error

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write, "first", 1)
            await hold.reached()
            tasks.start_soon(write, "second", 2)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(write, "same", 2)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(write, "late", 3, 1)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(write, "third", 4)
            await anyio.wait_all_tasks_blocked()
            hold.release()
    assert repository.calls["write"] == 3
    first, second, third = (await repository.changes(ANNA, 0, 10)).changes[1:]
    assert outcomes["first"] == (first.revision, {"a": 1})
    assert outcomes["second"] == outcomes["same"] == (second.revision, {"a": 2})
    assert isinstance(outcomes["late"], PreconditionFailedError)
    assert outcomes["third"] == (third.revision, {"a": 4})


async def test_a_fault_of_one_that_is_stored_with_others_is_its_own() -> None:
    """What a host's model raises by mistake about two writes together does not reach the one that alone is fine."""

    class Moody(Preferences, namespace="moody"):
        one: int = 0
        two: int = 0

        @model_validator(mode="after")
        def _agree(self) -> Self:
            if self.one and self.two:
                raise ZeroDivisionError("not both")
            return self

    repository = PausingRepository(MemoryRepository())
    process = Process(repository=repository, models=[Moody, Plugins])
    await process.merge("plugins", {"a": 0})
    hold = repository.hold("write")
    raised: dict[str, bool] = {}

    async def write(namespace: str, name: str) -> None:
        try:
            await process.merge(namespace, {name: 1})
        except ZeroDivisionError:
            raised[name] = True
        else:
            raised[name] = False

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write, "plugins", "b")
            await hold.reached()
            for name in ("one", "two"):
                tasks.start_soon(write, "moody", name)
                await anyio.wait_all_tasks_blocked()
            hold.release()
    assert raised == {"b": False, "one": False, "two": True}
    assert (await process.read()).values["moody"] == {"one": 1, "two": 0}


async def test_large_documents_are_stored_as_one_only_as_far_as_there_is_room() -> None:
    """What is planned in one piece is bounded by bytes, too; all of it is stored all the same."""
    repository = PausingRepository(MemoryRepository())
    process = Process(repository=repository)
    await process.merge("plugins", {f"k{n}": "x" * 16_000 for n in range(6)})
    async with anyio.create_task_group() as tasks:
        for number in range(12):
            tasks.start_soon(process.merge, "plugins", {f"n{number}": number})
    values = (await process.read()).values["plugins"]
    assert all(values[f"n{number}"] == number for number in range(12))
    assert 1 + 12 / 3 <= repository.calls["write"] <= 1 + 12


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
