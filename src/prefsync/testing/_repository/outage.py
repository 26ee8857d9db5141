"""What a repository promises while its database is out of reach."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from prefsync.errors import UnavailableError
from prefsync.ports import Outcome, Write
from prefsync.testing._repository.base import RepositoryFixtures
from prefsync.testing.samples import PATIENCE, fresh_subject, is_same, step, store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from prefsync.document import Subject
    from prefsync.ports import PreferenceRepository
    from prefsync.testing.outage import Outage

__all__ = ["OutagePromises"]

# Seconds within which a call has to have found out; time-outs of a second each, one after another, are well below.
BOUND = 6.0


async def _back(repository: PreferenceRepository) -> None:
    """Wait until the repository has found out that its database is back."""
    with anyio.fail_after(PATIENCE):
        while True:
            try:
                await repository.ping()
            except UnavailableError:
                await anyio.sleep(0.02)
            else:
                return


class OutagePromises(RepositoryFixtures):
    """What a repository promises while its database is out of reach; ``outage`` comes from the subclass."""

    watches_tasks = False

    async def test_every_call_says_so_in_time(
        self, repository: PreferenceRepository, outage: Outage, subject: Subject
    ) -> None:
        """Each method raises ``UnavailableError`` within a bounded time, and nothing else."""
        stored = await store(repository, subject, {"plugins": {"a": 1}}, key="key")
        write = step(stored.document, {"plugins": {"a": 2}}, key="during")
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: repository.load(subject),
            lambda: repository.write(subject, write),
            lambda: repository.changes(subject, 0, 10),
            lambda: repository.revisions([subject]),
            lambda: repository.request(subject, "key"),
            lambda: repository.erase(subject),
            lambda: repository.trim(changes_before=1, requests_before=1, limit=1),
            lambda: repository.trim_subject(subject, 1),
            lambda: repository.logged_since(0, 1),
            lambda: repository.take_relay_turn(1, 1),
            lambda: repository.end_relay_turn(1),
            repository.ping,
        ]
        raised: list[Exception | None] = []

        async def check(call: Callable[[], Awaitable[object]]) -> None:
            try:
                with anyio.fail_after(BOUND):
                    await call()
            except Exception as error:  # noqa: BLE001  # compared below
                raised.append(error)
            else:
                raised.append(None)

        await outage.begin()
        started = time.monotonic()
        try:
            async with anyio.create_task_group() as tasks:
                for call in calls:
                    tasks.start_soon(check, call)
            took = time.monotonic() - started
        finally:
            await outage.end()
        await _back(repository)
        assert [type(error) for error in raised] == [UnavailableError] * len(calls)
        assert took < BOUND

    async def test_it_goes_on_afterwards(
        self, repository: PreferenceRepository, outage: Outage, subject: Subject
    ) -> None:
        """When the database is back, so is the repository, with everything that it had."""
        before = await store(repository, subject, {"plugins": {"a": 1}}, key="key")
        for _ in range(2):
            await outage.begin()
            with suppress(UnavailableError), anyio.move_on_after(BOUND):
                await repository.ping()
            await outage.end()
            await _back(repository)
            assert is_same(await repository.load(subject), before.document)
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                for _ in range(10):
                    tasks.start_soon(store, repository, fresh_subject(), {"plugins": {"a": 2}})

    async def test_a_write_that_meets_the_outage_is_all_there_or_not_at_all(
        self, repository: PreferenceRepository, outage: Outage, subject: Subject
    ) -> None:
        """What became of a write is uncertain then, but it is never half done, and who was told ``WRITTEN`` was right."""
        for attempt in range(3):
            before = await repository.load(subject)
            write = step(before, {"plugins": {"a": attempt}}, key=f"key {attempt}")
            outcomes: list[Outcome] = []

            async def try_it(write: Write = write, outcomes: list[Outcome] = outcomes) -> None:
                with suppress(UnavailableError):
                    outcomes.append(await repository.write(subject, write))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(try_it)
                await anyio.sleep(attempt * 0.000_5)
                await outage.begin()
            await outage.end()
            await _back(repository)
            fence = step(before, {"plugins": {"fence": attempt}})
            was_written = await repository.write(subject, fence) is Outcome.CONFLICT
            assert was_written or outcomes == []
            stands = write if was_written else fence
            assert is_same(await repository.load(subject), stands.document)
            assert (await repository.changes(subject, before.revision, 10)).changes == (stands.change,)
            assert (await repository.request(subject, f"key {attempt}") is None) != was_written
