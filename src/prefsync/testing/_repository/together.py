"""Writes that are stored together: of many subjects at once, and several of one subject as one."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from prefsync.ports import ChangeLog, Outcome
from prefsync.testing._repository.base import RepositoryFixtures
from prefsync.testing.samples import HOSTILE_SUBJECTS, NOW, fresh_subject, is_same, record, step, store

if TYPE_CHECKING:
    from prefsync.document import Document, Subject, Values
    from prefsync.ports import PreferenceRepository, Write

__all__ = ["TogetherPromises"]


def as_one(before: Document, count: int, *, key: str | None = None) -> Write:
    """Return several changes upon a document as one write."""
    writes: list[Write] = []
    for number in range(count):
        after = writes[-1].document if writes else before
        writes.append(step(after, {"plugins": {"n": number}}, now=NOW + number, origin=f"tab-{number}"))
    earlier = tuple(change for write in writes[:-1] for change in write.changes)
    claimed = None if key is None else record(key)
    return replace(writes[-1], expected=before, earlier=earlier, request=claimed)


class TogetherPromises(RepositoryFixtures):
    """What a repository promises about writes that come together."""

    async def test_several_changes_are_stored_as_one(
        self, repository: PreferenceRepository, twin: PreferenceRepository, subject: Subject
    ) -> None:
        """The last document is stored, and each change is in the log as it was, with a claimed key or without."""
        first = await store(repository, subject, {"plugins": {"n": "old"}})
        several = as_one(first.document, 5)
        assert await repository.write(subject, several) is Outcome.WRITTEN
        assert is_same(await twin.load(subject), several.document)
        more = as_one(several.document, 2, key="key")
        assert await twin.write(subject, more) is Outcome.WRITTEN
        assert is_same(await repository.load(subject), more.document)
        logged = (await repository.changes(subject, first.document.revision, 100)).changes
        assert logged == (*several.changes, *more.changes)
        assert await repository.request(subject, "key") == more.request

    async def test_several_changes_as_one_are_all_refused_or_none(
        self, repository: PreferenceRepository, subject: Subject
    ) -> None:
        """Upon an older document, or under a claimed key, none of them is stored."""
        first = await store(repository, subject, {"plugins": {"n": "old"}})
        second = await store(repository, subject, {"plugins": {"n": "new"}}, key="key")
        assert await repository.write(subject, as_one(first.document, 3)) is Outcome.CONFLICT
        claimed = as_one(second.document, 3, key="key")
        assert await repository.write(subject, claimed) is Outcome.KEY_CLAIMED
        assert is_same(await repository.load(subject), second.document)
        assert (await repository.changes(subject, first.document.revision, 10)).changes == (second.change,)

    async def test_writes_of_many_subjects_at_once_are_each_their_own(
        self, repository: PreferenceRepository, twin: PreferenceRepository
    ) -> None:
        """Of concurrent writes, each is stored, or refused for what is its own fault, and no other's is touched."""
        tag = secrets.token_hex(4)
        tenants = {subject: f"{tag}{(subject.tenant or '')[:200]}" for subject in HOSTILE_SUBJECTS}
        subjects = [replace(subject, tenant=tenant) for subject, tenant in tenants.items()]
        assert len(set(subjects)) == len(subjects)
        old = [await store(repository, subject, {"plugins": {"of": tag}}) for subject in subjects]
        new = [
            await store(
                twin,
                subject,
                {"plugins": {"n": number, "by": tag}},
                key=f"{tag} taken" if number % 5 == 1 else None,
            )
            for number, subject in enumerate(subjects)
        ]
        writes = []
        for number, (subject, before) in enumerate(zip(subjects, new, strict=True)):
            values: Values = {"plugins": {"user": subject.user, "by": tag, "x": [None, "\u2028", 1.5]}}
            key = f"{tag} taken" if number % 5 == 1 else f"{tag} {number}" if number % 3 == 0 else None
            upon = old[number].document if number % 7 == 2 else before.document
            writes.append(step(upon, values, key=key, origin=f"tab-{number}", now=NOW + number))
        outcomes = await asyncio.gather(
            *(repository.write(subject, write) for subject, write in zip(subjects, writes, strict=True))
        )
        assert set(outcomes) == set(Outcome)
        for number, (subject, write) in enumerate(zip(subjects, writes, strict=True)):
            before = new[number]
            stored, log = await twin.load(subject), await twin.changes(subject, before.document.revision, 10)
            if number % 5 == 1:
                assert outcomes[number] in {Outcome.KEY_CLAIMED, Outcome.CONFLICT}
            else:
                assert outcomes[number] is (Outcome.CONFLICT if number % 7 == 2 else Outcome.WRITTEN)
            if outcomes[number] is Outcome.WRITTEN:
                assert write.change is not None
                assert is_same(stored, write.document)
                assert log == ChangeLog(write.document.revision, (write.change,))
            else:
                assert is_same(stored, before.document)
                assert log == ChangeLog(before.document.revision)
            if write.request is not None and number % 5 != 1:
                claimed = await twin.request(subject, write.request.key)
                assert claimed == (write.request if outcomes[number] is Outcome.WRITTEN else None)

    async def test_two_instances_that_write_the_same_subjects_at_once_do_not_stop_one_another(
        self, repository: PreferenceRepository, twin: PreferenceRepository
    ) -> None:
        """Of each pair of writes upon one document one is stored, in whatever order the two meet the subjects."""
        subjects = [fresh_subject() for _ in range(30)]
        before = [await store(repository, subject, {"plugins": {"n": 0}}) for subject in subjects]
        for turn in range(1, 6):
            pairs = [
                [step(write.document, {"plugins": {"n": turn, "by": by}}) for by in ("one", "two")]
                for write in before
            ]
            there = [repository.write(s, pair[0]) for s, pair in zip(subjects, pairs, strict=True)]
            back = [twin.write(s, pair[1]) for s, pair in zip(subjects[::-1], pairs[::-1], strict=True)]
            outcomes = await asyncio.gather(*there, *back)
            ones, twos = outcomes[: len(subjects)], outcomes[: len(subjects) - 1 : -1]
            for number, (one, two) in enumerate(zip(ones, twos, strict=True)):
                assert {one, two} == {Outcome.WRITTEN, Outcome.CONFLICT}
                before[number] = pairs[number][0 if one is Outcome.WRITTEN else 1]
