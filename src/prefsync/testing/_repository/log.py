"""The change log: order, chain, limits, and what is said where a revision is not in it."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

from prefsync.ports import ChangeLog, Outcome
from prefsync.testing._repository.base import RepositoryFixtures
from prefsync.testing.samples import HOSTILE_SUBJECTS, NOW, fresh_subject, record, step, store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prefsync.document import Change, Subject
    from prefsync.ports import PreferenceRepository

__all__ = ["LogPromises", "TrimPromises"]

# Long before anything else that the contracts write, so that trimming here removes nothing of other tests.
LONG_AGO = 1_000_000


async def _write_some(
    repository: PreferenceRepository, subject: Subject, count: int, *, now: int = NOW, first: int = 0
) -> list[Change]:
    written = []
    for number in range(first, first + count):
        write = await store(repository, subject, {"plugins": {"n": number}}, now=now + number)
        assert write.change is not None
        written.append(write.change)
    return written


def _revisions(log: ChangeLog) -> list[int]:
    return [change.revision for change in log.changes]


class LogPromises(RepositoryFixtures):
    """What a repository promises about its change log."""

    async def test_a_log_of_nothing_is_complete(
        self, repository: PreferenceRepository, subject: Subject
    ) -> None:
        """Of a subject without anything, nothing was missed since revision 0."""
        assert await repository.changes(subject, 0, 10) == ChangeLog(0)

    async def test_changes_come_back_as_they_were_logged(
        self, repository: PreferenceRepository, twin: PreferenceRepository, subject: Subject
    ) -> None:
        """Revision, previous, time, origin, what was set, taken away and replaced: all of it is there."""
        writes = [
            await store(
                repository, subject, {"appearance": {"theme": "dark"}, "plugins": {"a": [1]}}, origin="tab-1"
            ),
            await store(
                repository, subject, {"appearance": {"theme": "light"}}, now=NOW + 5, origin="x" * 64
            ),
            await store(repository, subject, {"appearance": {"theme": None}, "editor": {"rulers": []}}),
        ]
        log = await twin.changes(subject, 0, 10)
        assert list(log.changes) == [write.change for write in writes]
        assert log == ChangeLog(writes[-1].document.revision, log.changes)
        assert log.changes[1].unset == {"plugins": ["a"]}
        assert log.changes[1].replaced == {"appearance": {"theme": "dark"}, "plugins": {"a": [1]}}

    async def test_the_revisions_of_many_are_told_at_once(
        self, repository: PreferenceRepository, twin: PreferenceRepository
    ) -> None:
        """In the order asked for, 0 where nothing is stored, the same for one that is asked for twice."""
        written: dict[Subject, int] = {}
        for number, subject in enumerate(HOSTILE_SUBJECTS[::2]):
            before = await repository.load(subject)
            write = step(before, {"plugins": {"n": secrets.token_hex(4)}}, now=NOW + number)
            assert await repository.write(subject, write) is Outcome.WRITTEN
            written[subject] = write.document.revision
        unknown = fresh_subject()
        asked = [*HOSTILE_SUBJECTS[::2], unknown, *HOSTILE_SUBJECTS[:4:2], unknown]
        assert list(await twin.revisions(asked)) == [written.get(subject, 0) for subject in asked]
        assert list(await twin.revisions([])) == []
        for subject in HOSTILE_SUBJECTS[::2]:
            await repository.erase(subject)
        assert list(await twin.revisions(asked)) == [0] * len(asked)

    async def test_the_revisions_of_thousands_are_told_at_once(
        self, repository: PreferenceRepository
    ) -> None:
        """Five thousand subjects, a few of them known, are one call."""
        subjects = [fresh_subject() for _ in range(5_000)]
        expected = [0] * len(subjects)
        for place in (0, 1, 2_500, 4_999):
            expected[place] = (
                await store(repository, subjects[place], {"plugins": {"n": 1}})
            ).document.revision
        assert list(await repository.revisions(subjects)) == expected

    async def test_each_change_follows_the_one_before(
        self, repository: PreferenceRepository, subject: Subject
    ) -> None:
        """Oldest first, without gaps: each ``previous`` is the ``revision`` before it, the first one's 0."""
        written = await _write_some(repository, subject, 12)
        log = await repository.changes(subject, 0, 100)
        assert list(log.changes) == written
        assert [change.previous for change in log.changes] == [0, *_revisions(log)[:-1]]

    async def test_a_revision_in_the_log_is_gone_on_from(
        self, repository: PreferenceRepository, subject: Subject
    ) -> None:
        """After any revision that was there, the log has just what came later; after the newest, nothing."""
        written = await _write_some(repository, subject, 5)
        newest = written[-1].revision
        for seen, change in enumerate(written, start=1):
            expected = ChangeLog(newest, tuple(written[seen:]))
            assert await repository.changes(subject, change.revision, 10) == expected

    async def test_a_limit_cuts_the_end_off_and_says_so(
        self, repository: PreferenceRepository, subject: Subject
    ) -> None:
        """``has_more`` is true just where changes were left out, and paging gives every change once."""
        written = await _write_some(repository, subject, 7)
        newest = written[-1].revision
        assert await repository.changes(subject, 0, 7) == ChangeLog(newest, tuple(written))
        assert await repository.changes(subject, 0, 6) == ChangeLog(newest, tuple(written[:6]), has_more=True)
        seen: list[Change] = []
        pages: list[tuple[int, bool, int]] = []
        since = 0
        while True:
            page = await repository.changes(subject, since, 3)
            seen += page.changes
            pages.append((len(page.changes), page.has_more, page.newest))
            if not page.has_more:
                break
            since = page.changes[-1].revision
        assert seen == written
        assert pages == [(3, True, newest), (3, True, newest), (1, False, newest)]

    @pytest.mark.parametrize("where", ["before", "between", "beyond", "far beyond"])
    async def test_a_revision_that_never_was_is_not_in_the_log(
        self, repository: PreferenceRepository, subject: Subject, where: str
    ) -> None:
        """Nothing is told after a revision that the subject never had: what lies between cannot be known."""
        first = await store(repository, subject, {"plugins": {"n": 1}})
        later = first.document.revision + 1_000
        newest = (await store(repository, subject, {"plugins": {"n": 2}}, now=later)).document.revision
        since = {"before": 1, "between": newest - 1, "beyond": newest + 1, "far beyond": 2**53 - 1}[where]
        assert await repository.changes(subject, since, 10) == ChangeLog(newest, complete=False)

    async def test_a_revision_of_nothing_is_not_in_the_log(
        self, repository: PreferenceRepository, subject: Subject
    ) -> None:
        """Of a subject without anything, a revision above 0 is not known."""
        assert await repository.changes(subject, 17, 10) == ChangeLog(0, complete=False)

    async def test_a_log_is_of_one_moment(
        self, repository: PreferenceRepository, twin: PreferenceRepository, subject: Subject
    ) -> None:
        """While others write, the changes read still lead without a gap to the newest revision told with them."""
        first = (await _write_some(repository, subject, 1))[0]

        async def read() -> None:
            while True:
                log = await twin.changes(subject, first.revision, 1_000)
                assert log.complete
                chain = [first.revision, *_revisions(log)]
                assert [change.previous for change in log.changes] == chain[:-1]
                assert chain[-1] == log.newest
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await _write_some(repository, subject, 25, first=1)
            tasks.cancel_scope.cancel()


class TrimPromises(RepositoryFixtures):
    """What a repository promises about what it forgets."""

    @pytest.fixture
    async def start(self, repository: PreferenceRepository, subject: Subject) -> int:
        """A time that every revision from then on is a time of, and before which nothing matters any more."""
        return (await repository.load(subject)).floor + 1_000_000

    async def _trim(self, repository: PreferenceRepository, before: int, limit: int = 1_000) -> list[int]:
        return [removed async for removed, _ in self._steps(repository, before, limit)]

    async def _steps(
        self,
        repository: PreferenceRepository,
        before: int,
        limit: int,
        *,
        cursor: str = "",
        requests_before: int | None = None,
    ) -> AsyncIterator[tuple[int, str]]:
        has_more = True
        while has_more:
            trimmed = await repository.trim(
                changes_before=before,
                requests_before=before if requests_before is None else requests_before,
                limit=limit,
                cursor=cursor,
            )
            cursor, has_more = trimmed.cursor, trimmed.has_more
            yield trimmed.removed, cursor

    async def test_old_changes_go_and_the_newest_stays(
        self, repository: PreferenceRepository, twin: PreferenceRepository, subject: Subject, start: int
    ) -> None:
        """Trimmed changes are gone and said to be, younger ones are told, and the newest stays however old it is."""
        old = await _write_some(repository, subject, 4, now=start)
        await self._trim(repository, start + 2)
        newest = old[-1].revision
        assert await twin.changes(subject, 0, 10) == ChangeLog(newest, complete=False)
        assert await twin.changes(subject, old[0].revision, 10) == ChangeLog(newest, complete=False)
        assert await twin.changes(subject, old[1].revision, 10) == ChangeLog(newest, tuple(old[2:]))
        await self._trim(repository, start + 1_000)
        assert await twin.changes(subject, old[1].revision, 10) == ChangeLog(newest, complete=False)
        assert await twin.changes(subject, old[2].revision, 10) == ChangeLog(newest, (old[3],))
        assert (await twin.load(subject)).values == {"plugins": {"n": 3}}

    @pytest.mark.parametrize("limit", [1, 2, 100])
    @pytest.mark.parametrize(
        "times",
        [[500, 100, 600, 50, 700], [100, 500, 100, 600], [500] * 8, [0, 599, 0, 0, 0]],
        ids=["set back again and again", "set back once", "standing still", "ahead for a moment"],
    )
    async def test_trimming_leaves_no_hole(
        self, repository: PreferenceRepository, subject: Subject, start: int, times: list[int], limit: int
    ) -> None:
        """Whatever the clock did between writes, what is told of a trimmed log has no gap, at no time of trimming."""
        others = [cursor async for _, cursor in self._steps(repository, start, 1_000)][-1]
        revisions = [0]
        for number, now in enumerate(times):
            write = await store(repository, subject, {"plugins": {"n": number}}, now=start + now)
            revisions.append(write.document.revision)
        async for _ in self._steps(repository, start + 550, limit, cursor=others, requests_before=0):
            for since in revisions:
                log = await repository.changes(subject, since, 100)
                if log.complete:
                    told = [since, *_revisions(log)]
                    assert [change.previous for change in log.changes] == told[:-1]
                    assert told[-1] == log.newest
        young = [revision for revision in revisions[1:] if revision >= start + 550] or revisions[-1:]
        log = await repository.changes(subject, revisions[revisions.index(young[0]) - 1], 100)
        assert _revisions(log) == young

    async def test_trimming_goes_in_small_steps(self, repository: PreferenceRepository, start: int) -> None:
        """No call removes much more than its limit, of many subjects together, and all calls remove everything."""
        await self._trim(repository, start)
        subjects = [fresh_subject() for _ in range(8)]
        for subject in subjects:
            for number in range(4):
                await store(
                    repository,
                    subject,
                    {"plugins": {"n": number}},
                    now=start + number,
                    key=f"key {number}",
                )
        removed = await self._trim(repository, start + 10, limit=3)
        assert sum(removed) == 8 * 3 + 8 * 4
        assert max(removed) <= 2 * 3 + 2
        for subject in subjects:
            log = await repository.changes(subject, (await repository.load(subject)).revision, 10)
            assert log.complete

    @pytest.mark.parametrize("limit", [1, 3, 100])
    async def test_what_stays_is_passed(
        self, repository: PreferenceRepository, start: int, limit: int
    ) -> None:
        """Changes that have to stay hide none behind them, be they of one ms or of many, nor are they in the way.

        A caller who goes on finds what has become old, and one who begins anew what does not have to stay any more.
        """
        await self._trim(repository, start)
        idle = [fresh_subject() for _ in range(7)]
        for number, subject in enumerate(idle):
            await store(repository, subject, {"plugins": {"n": 0}}, now=start + number // 4)
        active = [fresh_subject() for _ in range(4)]
        for number in (1, 2):
            for subject in active:
                await store(repository, subject, {"plugins": {"n": number}}, now=start + number)
        steps = [step async for step in self._steps(repository, start + 10, limit)]
        assert sum(removed for removed, _ in steps) == 4
        assert max(removed for removed, _ in steps) <= 2 * limit
        for subject in active:
            await store(repository, subject, {"plugins": {"n": 3}}, now=start + 20)
            await store(repository, subject, {"plugins": {"n": 4}}, now=start + 21)
        _, cursor = steps[-1]
        on = [removed async for removed, _ in self._steps(repository, start + 30, limit, cursor=cursor)]
        assert sum(on) >= 4
        assert sum(on) + sum(await self._trim(repository, start + 30, limit)) == 2 * 4
        for subject in (*idle, *active):
            document = await repository.load(subject)
            log = await repository.changes(subject, 0, 10)
            assert log.complete is (subject in idle)
            assert len((await repository.kept(subject)).changes) == 1
            assert log.newest == document.revision

    async def test_old_keys_go_and_young_ones_stay(
        self, repository: PreferenceRepository, subject: Subject
    ) -> None:
        """A key that was trimmed is free again; changes are not touched by the keys' age."""
        await store(repository, subject, {"plugins": {"n": 1}}, now=LONG_AGO, key="old")
        await store(repository, subject, {"plugins": {"n": 2}}, now=LONG_AGO + 500, key="young")
        async for removed, _ in self._steps(repository, 0, 100, requests_before=LONG_AGO + 500):
            assert removed <= 100
        assert await repository.request(subject, "old") is None
        assert await repository.request(subject, "young") == record("young", at=LONG_AGO + 500)
        assert len((await repository.changes(subject, 0, 10)).changes) == 2
        await store(repository, subject, {"plugins": {"n": 3}}, key="old")

    @pytest.mark.parametrize(("keep", "left"), [(3, 3), (1, 1), (0, 1), (100, 6)])
    async def test_a_subjects_log_is_cut_to_a_count(
        self, repository: PreferenceRepository, subject: Subject, keep: int, left: int
    ) -> None:
        """The newest ``keep`` changes stay, at least one, and the number of those removed is returned."""
        other = fresh_subject()
        await _write_some(repository, other, 6)
        written = await _write_some(repository, subject, 6)
        newest = written[-1].revision
        assert await repository.trim_subject(subject, keep) == 6 - left
        assert await repository.trim_subject(subject, keep) == 0
        assert await repository.changes(subject, written[-left].previous, 10) == ChangeLog(
            newest, tuple(written[-left:])
        )
        if left < 6:
            assert await repository.changes(subject, 0, 10) == ChangeLog(newest, complete=False)
        assert len((await repository.changes(other, 0, 10)).changes) == 6

    async def test_nothing_to_trim_is_nothing(
        self, repository: PreferenceRepository, subject: Subject
    ) -> None:
        """A subject without changes has none to remove."""
        assert await repository.trim_subject(subject, 1) == 0

    async def test_trimming_and_writing_go_together(
        self, repository: PreferenceRepository, twin: PreferenceRepository, subject: Subject, start: int
    ) -> None:
        """While a log is written and trimmed from two sides, the newest change is always there."""

        async def trim() -> None:
            while True:
                await twin.trim_subject(subject, 2)
                await twin.trim(changes_before=start + 1_000, requests_before=start + 1_000, limit=100)
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(trim)
            for number in range(20):
                write = await store(repository, subject, {"plugins": {"n": number}}, now=start + number)
                log = await repository.changes(subject, write.expected.revision, 10)
                assert log == ChangeLog(write.document.revision, (write.change,) if write.change else ())
            tasks.cancel_scope.cancel()
