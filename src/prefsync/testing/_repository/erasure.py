"""Erasing: nothing is left, and no revision is ever given out again."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.lowlevel
import pytest

from prefsync.document import Change, Document, Subject
from prefsync.ports import ChangeLog, Kept, Outcome, Write
from prefsync.testing._repository.base import RepositoryFixtures
from prefsync.testing.samples import CANCELLED_BY, NOW, cut_short, fresh_subject, is_same, record, step, store

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from prefsync.ports import PreferenceRepository
    from prefsync.testing.samples import CancelledBy

__all__ = ["ErasurePromises"]

T = TypeVar("T")


def first_write(revision: int, *, floor: int = 0, key: str | None = None) -> Write:
    """Return the first write of a subject, made upon an empty document, with a revision of one's choice."""
    values = {"plugins": {"late": True}}
    document = Document(revision, values, {"plugins": revision}, floor)
    change = Change(revision, 0, NOW, None, values)
    return Write(Document(floor=floor), document, change, None if key is None else record(key))


class ErasurePromises(RepositoryFixtures):
    """What a repository promises about erasing."""

    async def test_an_erased_subject_has_nothing_left(
        self, repository: PreferenceRepository, twin: PreferenceRepository, subject: Subject
    ) -> None:
        """Document, log and claimed keys are gone, and the floor covers every revision that there was."""
        await store(repository, subject, {"plugins": {"a": 1}}, key="one")
        last = await store(repository, subject, {"plugins": {"a": 2}}, key="two")
        floor = await repository.erase(subject)
        assert floor >= last.document.revision
        document = await twin.load(subject)
        assert (document.revision, dict(document.values), dict(document.revisions)) == (0, {}, {})
        assert document.floor >= floor
        assert document.version > last.document.version
        assert await twin.changes(subject, 0, 10) == ChangeLog(0)
        for revision in (last.expected.revision, last.document.revision, floor):
            assert await twin.changes(subject, revision, 10) == ChangeLog(0, complete=False)
        assert await twin.request(subject, "one") is None
        assert await twin.request(subject, "two") is None

    async def test_all_that_is_kept_can_be_told(
        self, repository: PreferenceRepository, twin: PreferenceRepository, subject: Subject
    ) -> None:
        """Document, log and claimed keys are told as they were stored, others' left out, and nothing after an erase."""
        assert await repository.kept(subject) == Kept(Document())
        first = await store(repository, subject, {"plugins": {"a": 1}}, key="one")
        last = await store(repository, subject, {"plugins": {"a": 2, "b": "ü"}}, key="two")
        await store(repository, fresh_subject(), {"plugins": {"a": 3}}, key="one")
        kept = await twin.kept(subject)
        assert is_same(kept.document, last.document)
        assert kept.changes == (first.change, last.change)
        assert kept.requests == (first.request, last.request)
        await repository.erase(subject)
        assert await twin.kept(subject) == Kept(Document())

    async def test_others_are_not_touched(self, repository: PreferenceRepository, subject: Subject) -> None:
        """Erasing one subject leaves the same user of another tenant, and everybody else, alone."""
        others = [Subject(subject.user, "tenant"), Subject(subject.user, "other"), fresh_subject()]
        writes = [await store(repository, other, {"plugins": {"a": 1}}, key="key") for other in others]
        await store(repository, subject, {"plugins": {"a": 1}}, key="key")
        await repository.erase(subject)
        for other, write in zip(others, writes, strict=True):
            assert is_same(await repository.load(other), write.document)
            assert (await repository.changes(other, 0, 10)).changes == (write.change,)
            assert await repository.request(other, "key") == write.request

    async def test_erasing_nothing_is_fine(self, repository: PreferenceRepository, subject: Subject) -> None:
        """A subject without anything can be erased, and again; what its keys had claimed goes too."""
        empty = await repository.load(subject)
        await repository.write(subject, Write(empty, empty, request=record("key")))
        for _ in range(2):
            assert await repository.erase(subject) <= (await repository.load(subject)).floor
            assert await repository.request(subject, "key") is None

    async def test_no_revision_is_given_out_twice(
        self, repository: PreferenceRepository, subject: Subject
    ) -> None:
        """Revisions rise through every erase, although the clock stands still and goes back."""
        seen = []
        for now in [NOW, NOW, NOW - 10_000, 0, NOW + 1, NOW - 1]:
            for number in range(2):
                write = await store(repository, subject, {"plugins": {"n": [number, now]}}, now=now)
                seen.append(write.document.revision)
            floor = await repository.erase(subject)
            seen.append(floor)
        assert seen == sorted(set(seen))

    async def test_after_an_erase_the_log_begins_anew(
        self, repository: PreferenceRepository, subject: Subject
    ) -> None:
        """The first change after an erase follows revision 0, and nothing of before can be gone on from."""
        before = await store(repository, subject, {"plugins": {"a": 1}})
        floor = await repository.erase(subject)
        after = await store(repository, subject, {"plugins": {"a": 2}}, key="key")
        newest = after.document.revision
        assert await repository.changes(subject, 0, 10) == ChangeLog(
            newest, (after.change,) if after.change else ()
        )
        for revision in (before.document.revision, floor):
            assert await repository.changes(subject, revision, 10) == ChangeLog(newest, complete=False)

    async def test_who_does_not_know_of_the_erase_conflicts(
        self, repository: PreferenceRepository, twin: PreferenceRepository, subject: Subject
    ) -> None:
        """A write upon what was erased, and a first write with a used-up revision, change nothing."""
        old = await store(repository, subject, {"plugins": {"a": 1}}, now=NOW + 50)
        floor = await repository.erase(subject)
        stale = step(old.document, {"plugins": {"a": 2}}, key="stale")
        assert await twin.write(subject, stale) is Outcome.CONFLICT
        for revision in (1, old.document.revision, floor):
            assert await twin.write(subject, first_write(revision, key="late")) is Outcome.CONFLICT
        assert (await repository.load(subject)).revision == 0
        assert await repository.changes(subject, 0, 10) == ChangeLog(0)
        assert await repository.request(subject, "stale") is None
        assert await repository.request(subject, "late") is None
        assert await twin.write(subject, first_write(floor + 1, floor=floor)) is Outcome.WRITTEN

    async def test_an_erase_and_late_writes_do_not_mix(
        self, repository: PreferenceRepository, twin: PreferenceRepository
    ) -> None:
        """However a late write meets the erase in progress, no used-up revision is stored."""
        for steps in range(24):
            subject = fresh_subject()
            last = await store(repository, subject, {"plugins": {"a": 1}})
            floors: list[int] = []

            async def erase(subject: Subject = subject, floors: list[int] = floors) -> None:
                floors.append(await repository.erase(subject))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(erase)
                await anyio.sleep(steps * 0.000_1)
                for late in (last.document.revision, last.document.revision - 1):
                    tasks.start_soon(twin.write, subject, first_write(late))
                tasks.start_soon(twin.write, subject, step(last.document, {"plugins": {"a": 2}}))
            document = await repository.load(subject)
            assert document.revision == 0 or document.revision > floors[0]
            log = await repository.changes(subject, 0, 10)
            assert (log.newest, log.complete) == (document.revision, True)

    async def test_an_erase_elsewhere_does_not_make_an_empty_document_newer(
        self, repository: PreferenceRepository, twin: PreferenceRepository
    ) -> None:
        """A document is of one moment: an empty one is not newer than the first write that it does not show.

        The floor is shared by all subjects. Read later than the document, it would give the empty document a version
        above the one that was written meanwhile, and a cache would keep the empty one.
        """
        for steps in range(12):
            subject, other = fresh_subject(), fresh_subject()
            floor = (await repository.load(subject)).floor
            mine = first_write(floor + 10, floor=floor)
            await repository.write(other, first_write(floor + 1_000, floor=floor))
            written: list[Outcome] = []
            loaded: list[Document] = []

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_into, written, repository.write(subject, mine))
                tasks.start_soon(repository.erase, other)
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                tasks.start_soon(_into, loaded, twin.load(subject))
            if written == [Outcome.WRITTEN]:
                assert (
                    loaded[0].revision == mine.document.revision or loaded[0].version < mine.document.version
                )

    @pytest.mark.parametrize("kind", CANCELLED_BY)
    async def test_a_cancelled_erase_is_all_done_or_not_at_all(
        self, repository: PreferenceRepository, kind: CancelledBy
    ) -> None:
        """Wherever an erase is cancelled, everything is gone or everything is there."""
        for steps in range(24):
            subject = fresh_subject()
            write = await store(repository, subject, {"plugins": {"a": 1}}, key="key")
            await cut_short(steps, kind, partial(repository.erase, subject))
            # Once another write upon the same document is decided, so is the erase.
            fence = Write(write.document, write.document, request=record("fence"))
            was_erased = await repository.write(subject, fence) is Outcome.CONFLICT
            assert (await repository.load(subject)).revision == (0 if was_erased else write.document.revision)
            assert (await repository.request(subject, "key") is None) == was_erased
            log = await repository.changes(subject, 0, 10)
            assert log.changes == (() if was_erased or write.change is None else (write.change,))


async def _into(results: list[T], call: Awaitable[T]) -> None:
    results.append(await call)
