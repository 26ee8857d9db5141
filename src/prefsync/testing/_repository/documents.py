"""Documents: absence, compare-and-set, exact values, hostile ids, cancellation, the lifecycle."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

from prefsync.document import Document, Subject
from prefsync.ports import Outcome, Write
from prefsync.strictjson import canonical, encode
from prefsync.testing._repository.base import RepositoryFixtures
from prefsync.testing.samples import (
    CANCELLED_BY,
    EXACT_VALUES,
    HOSTILE_SUBJECTS,
    PATIENCE,
    cut_short,
    fresh_subject,
    is_same,
    record,
    step,
    store,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from prefsync.ports import PreferenceRepository
    from prefsync.testing.samples import CancelledBy

__all__ = ["DocumentPromises"]

# More than any pool of a test has connections.
MANY = 25


class DocumentPromises(RepositoryFixtures):
    """What a repository promises about documents."""

    async def test_nothing_is_an_empty_document(
        self, repository: PreferenceRepository, subject: Subject
    ) -> None:
        """Of a subject without anything, the document is empty and has revision 0."""
        document = await repository.load(subject)
        assert (document.revision, dict(document.values), dict(document.revisions)) == (0, {}, {})

    async def test_what_is_written_is_loaded(
        self, repository: PreferenceRepository, twin: PreferenceRepository, subject: Subject
    ) -> None:
        """Values, revision and the namespaces' revisions come back, through another instance too."""
        first = await store(repository, subject, {"appearance": {"theme": "dark"}, "plugins": {"a": 1}})
        assert is_same(await repository.load(subject), first.document)
        second = await store(twin, subject, {"plugins": {"a": 2}})
        assert is_same(await repository.load(subject), second.document)
        assert is_same(await twin.load(subject), second.document)

    async def test_an_emptied_document_keeps_its_revision(
        self, repository: PreferenceRepository, subject: Subject
    ) -> None:
        """A write that leaves no values is no erase: revision and namespaces' revisions stay."""
        await store(repository, subject, {"plugins": {"a": 1}})
        emptied = await store(repository, subject, {})
        assert is_same(await repository.load(subject), emptied.document)
        assert emptied.document.revision > 0

    async def test_values_come_back_exactly(
        self, repository: PreferenceRepository, twin: PreferenceRepository, subject: Subject
    ) -> None:
        """Every JSON value comes back as its one canonical text, from the document and from the log."""
        first = await store(repository, subject, {"plugins": EXACT_VALUES})
        loaded = await twin.load(subject)
        changes = (await twin.changes(subject, 0, 10)).changes
        for name, value in EXACT_VALUES.items():
            expected = encode(canonical(value))
            assert encode(loaded.values["plugins"][name]) == expected, name
            assert encode(changes[0].assigned["plugins"][name]) == expected, name
        assert encode(loaded.values) == encode(first.document.values), "members are not in canonical order"
        await store(repository, subject, {})
        replaced = (await twin.changes(subject, first.document.revision, 10)).changes[0].replaced
        assert encode(canonical(replaced)) == encode(first.document.values)

    async def test_minus_zero_is_zero(self, repository: PreferenceRepository, subject: Subject) -> None:
        """The sign of zero is dropped, whichever way it was written."""
        await store(repository, subject, {"plugins": {"zero": -0.0}})
        assert encode((await repository.load(subject)).values) == b'{"plugins":{"zero":0.0}}'

    async def test_a_large_document_comes_back(
        self, repository: PreferenceRepository, subject: Subject
    ) -> None:
        """A document of the default limit's 128 KiB is nothing special."""
        write = await store(
            repository, subject, {"plugins": {f"name {i}": "\u00e9" * 1_000 for i in range(65)}}
        )
        assert is_same(await repository.load(subject), write.document)

    async def test_revisions_reach_the_last_safe_integer(
        self, repository: PreferenceRepository, subject: Subject
    ) -> None:
        """A revision of 2^53 - 1, from a clock far ahead, is stored like any other."""
        now = 2**53 - 1 - (1 << 20)
        write = await store(repository, subject, {"plugins": {"a": 1}}, now=now)
        assert is_same(await repository.load(subject), write.document)
        assert (await repository.changes(subject, 0, 10)).changes[0].at == now

    async def test_a_write_upon_an_older_document_conflicts(
        self, repository: PreferenceRepository, subject: Subject
    ) -> None:
        """A lost race leaves document, log and key as they were."""
        old = (await store(repository, subject, {"plugins": {"a": 1}})).document
        new = (await store(repository, subject, {"plugins": {"a": 2}})).document
        late = step(old, {"plugins": {"a": 3}}, key="late")
        assert await repository.write(subject, late) is Outcome.CONFLICT
        assert is_same(await repository.load(subject), new)
        assert [c.revision for c in (await repository.changes(subject, 0, 10)).changes] == [
            old.revision,
            new.revision,
        ]
        assert await repository.request(subject, "late") is None

    async def test_a_write_upon_a_document_that_never_was_conflicts(
        self, repository: PreferenceRepository, subject: Subject
    ) -> None:
        """An expected revision that is not stored is a conflict, on an absent subject and on a present one."""
        imagined = Document(1_234, {"plugins": {"a": 1}}, {"plugins": 1_234})
        write = step(imagined, {"plugins": {"a": 2}})
        assert await repository.write(subject, write) is Outcome.CONFLICT
        assert (await repository.load(subject)).revision == 0
        await store(repository, subject, {"plugins": {"a": 1}})
        assert await repository.write(subject, write) is Outcome.CONFLICT

    async def test_a_first_write_on_a_present_subject_conflicts(
        self, repository: PreferenceRepository, subject: Subject
    ) -> None:
        """Who expects nothing and finds something has lost a race."""
        empty = await repository.load(subject)
        stored = (await store(repository, subject, {"plugins": {"a": 1}})).document
        assert await repository.write(subject, step(empty, {"plugins": {"a": 2}})) is Outcome.CONFLICT
        assert is_same(await repository.load(subject), stored)

    @pytest.mark.parametrize("is_first", [True, False], ids=["nothing", "something"])
    async def test_of_concurrent_writes_one_is_written(
        self, repository: PreferenceRepository, twin: PreferenceRepository, *, is_first: bool
    ) -> None:
        """Of many concurrent writes upon one document, through two instances, exactly one is written."""
        for _ in range(3):
            subject = fresh_subject()
            if not is_first:
                await store(repository, subject, {"plugins": {"a": -1}})
            before = await repository.load(subject)
            writes = [step(before, {"plugins": {"a": n}}, key=f"key {n}") for n in range(MANY)]
            won: list[Write] = []

            async def write(
                one: Write, through: PreferenceRepository, subject: Subject = subject, won: list[Write] = won
            ) -> None:
                if await through.write(subject, one) is Outcome.WRITTEN:
                    won.append(one)

            async with anyio.create_task_group() as tasks:
                for number, one in enumerate(writes):
                    tasks.start_soon(write, one, twin if number % 2 else repository)
            assert len(won) == 1
            assert is_same(await twin.load(subject), won[0].document)
            log = await repository.changes(subject, before.revision, 100)
            assert [change.revision for change in log.changes] == [won[0].document.revision]
            claimed = [
                one.request.key
                for one in writes
                if one.request and await twin.request(subject, one.request.key)
            ]
            assert claimed == [won[0].request.key if won[0].request else ""]

    async def test_concurrent_writers_who_retry_all_get_through(
        self, repository: PreferenceRepository, twin: PreferenceRepository, subject: Subject
    ) -> None:
        """No update is lost: writers who reload after each conflict leave all of their values."""

        async def add(name: str, through: PreferenceRepository) -> None:
            while True:
                before = await through.load(subject)
                values = {"plugins": {**before.values.get("plugins", {}), name: 1}}
                if await through.write(subject, step(before, values)) is Outcome.WRITTEN:
                    return

        names = {f"writer {number}" for number in range(10)}
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                for number, name in enumerate(names):
                    tasks.start_soon(add, name, twin if number % 2 else repository)
        assert set((await repository.load(subject)).values["plugins"]) == names

    async def test_no_two_subjects_are_mixed_up(self, repository: PreferenceRepository) -> None:
        """Ids with separators, quotes, wildcards, look-alikes and 255 characters are each a subject of their own."""
        writes = {}
        for number, subject in enumerate(HOSTILE_SUBJECTS):
            assert (await repository.load(subject)).revision == 0, subject
            writes[subject] = await store(
                repository, subject, {"plugins": {"mine": number}}, key=f"k{number}"
            )
        for number, (subject, write) in enumerate(writes.items()):
            assert is_same(await repository.load(subject), write.document), subject
            log = await repository.changes(subject, 0, 10)
            assert [change.assigned for change in log.changes] == [{"plugins": {"mine": number}}], subject
            assert await repository.request(subject, f"k{number}") == write.request, subject
            assert await repository.request(subject, f"k{number + 1}") is None, subject
        for erased, subject in enumerate(HOSTILE_SUBJECTS):
            await repository.erase(subject)
            for other in HOSTILE_SUBJECTS[erased + 1 : erased + 3]:
                assert is_same(await repository.load(other), writes[other].document), (subject, other)

    async def test_many_calls_at_once_all_end_well(self, repository: PreferenceRepository) -> None:
        """More concurrent calls than there are connections wait for one another."""
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                for number in range(4 * MANY):
                    tasks.start_soon(partial(store, repository, fresh_subject(), {"plugins": {"n": number}}))

    @pytest.mark.parametrize("kind", CANCELLED_BY)
    async def test_a_cancelled_write_is_all_there_or_not_at_all(
        self, repository: PreferenceRepository, subject: Subject, kind: CancelledBy
    ) -> None:
        """Wherever a write is cancelled, document, change and key are stored together or none of them."""
        for steps in range(26):
            before = await repository.load(subject)
            write = step(before, {"plugins": {"cancelled": steps}}, key=f"key {steps}")
            await cut_short(steps, kind, partial(repository.write, subject, write))
            # What the server may still be doing is over when another compare-and-set upon the same document is.
            with anyio.fail_after(PATIENCE):
                fence = step(before, {"plugins": {"fence": steps}})
                was_written = await repository.write(subject, fence) is Outcome.CONFLICT
            stands = write if was_written else fence
            assert is_same(await repository.load(subject), stands.document)
            log = await repository.changes(subject, before.revision, 10)
            assert log.changes == (stands.change,)
            claimed = await repository.request(subject, f"key {steps}")
            assert claimed == (write.request if was_written else None)

    @pytest.mark.parametrize("kind", CANCELLED_BY)
    async def test_cancelled_calls_leave_nothing_behind(
        self, repository: PreferenceRepository, subject: Subject, kind: CancelledBy
    ) -> None:
        """After many cancelled calls of every kind, all connections are back, and no answer reaches another caller."""
        kept = await store(repository, subject, {"plugins": {"kept": True}}, key="kept")
        others = [fresh_subject() for _ in range(2)]
        for other in others:
            await store(repository, other, {"plugins": {"other": other.user}})
        calls: list[Callable[[], Awaitable[object]]] = [
            partial(repository.erase, fresh_subject()),
            partial(repository.trim, changes_before=1, requests_before=1, limit=1),
            partial(repository.logged_since, 0, 10),
        ]
        for other in others:
            calls += [
                partial(repository.load, other),
                partial(repository.changes, other, 0, 10),
                partial(repository.request, other, "none"),
                partial(repository.trim_subject, other, 1),
                repository.ping,
            ]
        for steps in range(0, 26, 2):
            await cut_short(steps, kind, *calls)
            with anyio.fail_after(PATIENCE):
                assert is_same(await repository.load(subject), kept.document)
                assert await repository.request(subject, "kept") == kept.request
                assert (await repository.load(others[0])).values == {"plugins": {"other": others[0].user}}

    async def test_a_task_can_be_cancelled_between_calls(
        self, repository: PreferenceRepository, subject: Subject
    ) -> None:
        """Who makes one call after another, and nothing else, can be stopped."""
        made = 0

        async def call_on() -> None:
            nonlocal made
            for made in range(1, 401):  # noqa: B007  # counted for the outside
                await repository.load(subject)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call_on)
            while made < 3:
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        assert made < 400

    async def test_it_can_be_closed_and_opened_again(
        self, repository: PreferenceRepository, subject: Subject
    ) -> None:
        """A repository that was closed works when it is opened again, and a durable one still has everything."""
        write = await store(repository, subject, {"plugins": {"a": 1}}, key="key")
        await repository.__aexit__(None, None, None)
        await repository.__aenter__()
        if self.durable:
            assert is_same(await repository.load(subject), write.document)
            assert await repository.request(subject, "key") == record("key")
        later = await store(repository, subject, {"plugins": {"a": 2}})
        assert is_same(await repository.load(subject), later.document)

    async def test_the_database_has_one_name(
        self, repository: PreferenceRepository, twin: PreferenceRepository
    ) -> None:
        """Every instance on a database, also one that was closed and opened again, tells the same name of it."""
        names = [await repository.identity(), await twin.identity(), await repository.identity()]
        if self.durable:
            await repository.__aexit__(None, None, None)
            await repository.__aenter__()
            names.append(await repository.identity())
        assert len(set(names)) == 1
        assert names[0]

    async def test_it_answers_a_ping(self, repository: PreferenceRepository) -> None:
        """A ping returns while the database answers."""
        with anyio.fail_after(PATIENCE):
            await repository.ping()
