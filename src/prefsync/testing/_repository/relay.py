"""What the relay needs: the log of all subjects in order of time, and one turn at a time."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import anyio
import pytest

from prefsync.ports import LoggedRevision
from prefsync.testing._repository.base import RepositoryFixtures
from prefsync.testing.samples import fresh_subject, store

if TYPE_CHECKING:
    from prefsync.document import Subject
    from prefsync.ports import PreferenceRepository

__all__ = ["RelayPromises"]

# Later than everything else that the contracts write, each test later than the one before: only a test's own changes
# are found, and a turn that was taken is over.
FAR_AHEAD = 3_000_000_000_000
_later = count()


class RelayPromises(RepositoryFixtures):
    """What a repository promises to the relay."""

    @pytest.fixture
    def since(self) -> int:
        """A time after everything that was logged."""
        return FAR_AHEAD + next(_later) * 1_000_000

    async def test_the_log_of_all_is_in_order_of_time(
        self, repository: PreferenceRepository, twin: PreferenceRepository, since: int
    ) -> None:
        """Subjects, revisions and times of all changes come back, those at the time asked for included."""
        expected = []
        tenants = [None, "acme", "' OR 1=1", "caf\u00e9", "\U0001f600" * 255, " "]
        for number, subject in enumerate(fresh_subject(tenant) for tenant in tenants * 2):
            write = await store(
                repository, subject, {"plugins": {"relay": number + since}}, now=since + number
            )
            expected.append(LoggedRevision(subject, write.document.revision, since + number))
        assert list(await twin.logged_since(since, 100)) == expected
        assert list(await twin.logged_since(since + 5, 100)) == expected[5:]
        assert list(await twin.logged_since(since + 12, 100)) == []

    async def test_a_limit_never_parts_one_ms(self, repository: PreferenceRepository, since: int) -> None:
        """The oldest changes up to the limit are told, with all of the last one's ms: who goes on after it misses none."""
        for number, offset in enumerate([0, 1, 1, 1, 2, 2, 3]):
            await store(repository, fresh_subject(), {"plugins": {"n": number}}, now=since + offset)
        for limit, told in [(1, 1), (2, 4), (3, 4), (4, 4), (5, 6), (6, 6), (7, 7), (100, 7)]:
            assert len(await repository.logged_since(since, limit)) == told, limit
        seen: list[LoggedRevision] = []
        at = since
        while page := await repository.logged_since(at, 2):
            seen += page
            at = page[-1].at + 1
        assert [one.at - since for one in seen] == [0, 1, 1, 1, 2, 2, 3]
        assert len({one.subject for one in seen}) == 7

    async def test_of_each_subject_the_newest_change_is_told(
        self, repository: PreferenceRepository, since: int
    ) -> None:
        """A subject that was written often is told once, with its newest revision and time, and in that place."""
        often, once = fresh_subject(), fresh_subject()
        for number in range(2):
            await store(repository, often, {"plugins": {"n": number}}, now=since + 2 * number)
        write = await store(repository, often, {"plugins": {"n": 2}}, now=since + 4)
        other = await store(repository, once, {"plugins": {"n": 1}}, now=since + 1)
        first = LoggedRevision(once, other.document.revision, since + 1)
        second = LoggedRevision(often, write.document.revision, since + 4)
        assert list(await repository.logged_since(since, 100)) == [first, second]
        assert list(await repository.logged_since(since, 1)) == [first]
        assert list(await repository.logged_since(since + 3, 100)) == [second]

    async def test_of_concurrent_callers_one_gets_the_turn(
        self, repository: PreferenceRepository, twin: PreferenceRepository, since: int
    ) -> None:
        """At one time one caller gets the turn, and the next one only when the pause is over."""
        for now in (since, since + 1_000, since + 5_000):
            turns: list[int | None] = []

            async def take(
                through: PreferenceRepository, now: int = now, turns: list[int | None] = turns
            ) -> None:
                turns.append(await through.take_relay_turn(now, 1_000))

            async with anyio.create_task_group() as tasks:
                for number in range(10):
                    tasks.start_soon(take, twin if number % 2 else repository)
            assert len([turn for turn in turns if turn is not None]) == 1
            assert await twin.take_relay_turn(now + 999, 1_000) is None
        assert await repository.take_relay_turn(since, 1_000) is None

    async def test_how_far_it_was_relayed_is_remembered(
        self, repository: PreferenceRepository, twin: PreferenceRepository, since: int
    ) -> None:
        """The next turn, of any process, begins where the last one ended, and never before that."""
        now = since + 100_000
        assert await repository.take_relay_turn(now, 1_000) is not None
        await repository.end_relay_turn(since)
        assert await twin.take_relay_turn(now + 1_000, 1_000) == since
        await twin.end_relay_turn(since - 5)
        assert await repository.take_relay_turn(now + 2_000, 1_000) == since

    async def test_an_erased_subject_is_not_in_the_log(
        self, repository: PreferenceRepository, subject: Subject, since: int
    ) -> None:
        """What was erased is not relayed either."""
        await store(repository, subject, {"plugins": {"a": 1}}, now=since)
        await repository.erase(subject)
        assert list(await repository.logged_since(since, 100)) == []
