"""Idempotency keys: claimed with the write, or without a change, and never twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from prefsync.ports import Outcome, RequestRecord, Write
from prefsync.testing._repository.base import RepositoryFixtures
from prefsync.testing.samples import NOW, fresh_subject, is_same, record, step, store

if TYPE_CHECKING:
    from prefsync.document import Subject
    from prefsync.ports import PreferenceRepository

__all__ = ["KeyPromises"]


class KeyPromises(RepositoryFixtures):
    """What a repository promises about idempotency keys."""

    async def test_an_unclaimed_key_has_no_record(
        self, repository: PreferenceRepository, subject: Subject
    ) -> None:
        """Nothing is told about a key that nobody claimed, whether its subject is there or not."""
        assert await repository.request(subject, "key") is None
        await store(repository, subject, {"plugins": {"a": 1}}, key="other")
        assert await repository.request(subject, "key") is None

    async def test_a_key_is_claimed_with_its_write(
        self, repository: PreferenceRepository, twin: PreferenceRepository, subject: Subject
    ) -> None:
        """Key, digest, answer and time come back to the byte, through another instance too."""
        everything = bytes(range(256))
        claimed = RequestRecord("key", everything[224:], everything * 400, NOW + 7)
        write = step(await repository.load(subject), {"plugins": {"a": 1}})
        write = Write(write.expected, write.document, write.change, claimed)
        assert await repository.write(subject, write) is Outcome.WRITTEN
        assert await twin.request(subject, "key") == claimed
        empty = RequestRecord("empty", bytes(32), b"", NOW)
        again = step(write.document, {"plugins": {"a": 2}})
        again = Write(again.expected, again.document, again.change, empty)
        assert await repository.write(subject, again) is Outcome.WRITTEN
        assert await twin.request(subject, "empty") == empty

    async def test_a_claimed_key_stops_the_write(
        self, repository: PreferenceRepository, twin: PreferenceRepository, subject: Subject
    ) -> None:
        """Under a key that was claimed before, document, change and record stay as they were."""
        first = await store(repository, subject, {"plugins": {"a": 1}}, key="key")
        late = step(first.document, {"plugins": {"a": 2}}, key="key", now=NOW + 5)
        assert await twin.write(subject, late) is Outcome.KEY_CLAIMED
        assert is_same(await repository.load(subject), first.document)
        assert (await repository.changes(subject, 0, 10)).changes == (first.change,)
        assert await repository.request(subject, "key") == first.request

    async def test_a_claimed_key_upon_an_older_document_is_refused_either_way(
        self, repository: PreferenceRepository, subject: Subject
    ) -> None:
        """Where both are true, key claimed and race lost, one of the two is told and nothing is written."""
        first = await store(repository, subject, {"plugins": {"a": 1}}, key="key")
        second = await store(repository, subject, {"plugins": {"a": 2}})
        late = step(first.document, {"plugins": {"a": 3}}, key="key")
        assert await repository.write(subject, late) in {Outcome.KEY_CLAIMED, Outcome.CONFLICT}
        assert is_same(await repository.load(subject), second.document)
        assert await repository.request(subject, "key") == first.request

    async def test_a_key_can_be_claimed_without_a_change(
        self, repository: PreferenceRepository, twin: PreferenceRepository, subject: Subject
    ) -> None:
        """A write that changes nothing claims its key, on a present subject and an absent one, and logs nothing."""
        for expected in ["absent", "present"]:
            document = await repository.load(subject)
            log = await repository.changes(subject, 0, 10)
            claim = Write(document, document, request=record(expected))
            assert await repository.write(subject, claim) is Outcome.WRITTEN
            assert await twin.request(subject, expected) == claim.request
            assert await twin.write(subject, claim) is Outcome.KEY_CLAIMED
            assert is_same(await twin.load(subject), document)
            assert await twin.changes(subject, 0, 10) == log
            if expected == "absent":
                await store(repository, subject, {"plugins": {"a": 1}})

    async def test_a_claim_upon_an_older_document_conflicts(
        self, repository: PreferenceRepository, subject: Subject
    ) -> None:
        """A key is claimed for the state that its answer tells, or not at all."""
        empty = await repository.load(subject)
        old = (await store(repository, subject, {"plugins": {"a": 1}})).document
        await store(repository, subject, {"plugins": {"a": 2}})
        for key, document in [("empty", empty), ("old", old)]:
            claim = Write(document, document, request=record(key))
            assert await repository.write(subject, claim) is Outcome.CONFLICT
            assert await repository.request(subject, key) is None

    async def test_of_concurrent_claims_one_is_written(
        self, repository: PreferenceRepository, twin: PreferenceRepository
    ) -> None:
        """Of concurrent writes under one key exactly one is written, those that change nothing included."""
        for changes in (False, True):
            subject = fresh_subject()
            document = (await store(repository, subject, {"plugins": {"a": -1}})).document
            outcomes: list[Outcome] = []

            async def claim(
                number: int,
                subject: Subject = subject,
                outcomes: list[Outcome] = outcomes,
                *,
                changes: bool = changes,
            ) -> None:
                through = twin if number % 2 else repository
                current = await through.load(subject)
                write = Write(current, current, request=record("key", answer=b"%d" % number))
                if changes:
                    made = step(current, {"plugins": {"a": number}})
                    write = Write(made.expected, made.document, made.change, write.request)
                outcomes.append(await through.write(subject, write))

            async with anyio.create_task_group() as tasks:
                for number in range(12):
                    tasks.start_soon(claim, number)
            assert outcomes.count(Outcome.WRITTEN) == 1
            log = await repository.changes(subject, document.revision, 10)
            assert len(log.changes) == (1 if changes else 0)
            claimed = await repository.request(subject, "key")
            assert claimed is not None
            if changes:
                assert log.changes[0].assigned == {"plugins": {"a": int(claimed.answer)}}

    async def test_keys_are_compared_byte_for_byte(
        self, repository: PreferenceRepository, subject: Subject
    ) -> None:
        """Keys that differ in case, length or punctuation alone are different keys, up to 128 characters."""
        keys = [
            "key",
            "KEY",
            "Key",
            "kex",
            "k",
            "key!",
            "'",
            '"',
            "\\",
            "%",
            "_",
            "$1",
            ":key",
            "{}",
            "~" * 128,
            "~" * 127,
        ]
        for key in keys:
            assert await repository.request(subject, key) is None, key
            await store(repository, subject, {"plugins": {"key": key}}, key=key)
        for key in keys:
            assert await repository.request(subject, key) == record(key), key

    async def test_each_subject_has_keys_of_its_own(
        self, repository: PreferenceRepository, subject: Subject
    ) -> None:
        """What one subject has claimed is free for another, the same user in another tenant included."""
        for other in [subject, fresh_subject(), type(subject)(subject.user, "tenant")]:
            assert await repository.request(other, "key") is None
            await store(repository, other, {"plugins": {"a": 1}}, key="key")
