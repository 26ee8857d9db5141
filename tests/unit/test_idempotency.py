"""Writes that are repeated under a key."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from prefsync.adapters.memory import MemoryNotifier, MemoryRepository
from prefsync.errors import (
    IdempotencyMismatchError,
    InvalidPreferencesError,
    PreconditionFailedError,
    UnavailableError,
)
from prefsync.service import IdempotentRequest
from prefsync.testing import (
    FailingRepository,
    PausingNotifier,
)
from tests.unit.support import Process, new_subject, patch

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefsync.document import Snapshot


def of_revision(revision: int) -> Callable[[Snapshot], None]:
    """Return the condition that a subject's revision be this one."""

    def condition(snapshot: Snapshot) -> None:
        if snapshot.revision != revision:
            raise PreconditionFailedError("another revision")

    return condition


async def test_a_repeated_request_gets_the_first_answer() -> None:
    """The same key and request give the first answer after later writes, through any process, and write nothing."""
    repository = MemoryRepository()
    one, other, subject = Process(repository), Process(repository), new_subject()
    request, mutation = IdempotentRequest("key", b"digest"), patch("appearance", theme="dark")
    first = await one.service.write(subject, mutation, request=request)
    newest = await other.patch(subject, "appearance", theme="light")
    for process in (one, other, Process(repository)):
        assert await process.service.write(subject, mutation, request=request) == first
    assert (await repository.load(subject)).revision == newest.revision


async def test_a_repeat_is_answered_though_its_condition_does_not_hold_any_more() -> None:
    """The write itself made its condition false; its repeat still gets the first answer."""
    process, subject = Process(), new_subject()
    request = IdempotentRequest("key", b"digest")
    first = await process.service.write(
        subject, patch("editor", tab_size=2), request=request, condition=of_revision(0)
    )
    again = await process.service.write(
        subject, patch("editor", tab_size=2), request=request, condition=of_revision(0)
    )
    assert again == first


async def test_a_key_used_for_another_request_is_refused() -> None:
    """The same key with another request is a mismatch, whether that would change something or not."""
    process, subject = Process(), new_subject()
    first = await process.service.write(
        subject, patch("editor", tab_size=2), request=IdempotentRequest("key", b"1")
    )
    for mutation in (
        patch("editor", tab_size=3),
        patch("editor", tab_size=2),
        patch("editor", tab_size="wrong"),
    ):
        with pytest.raises(IdempotencyMismatchError):
            await process.service.write(subject, mutation, request=IdempotentRequest("key", b"2"))
    assert await process.service.read(subject) == first


async def test_a_keyed_write_that_changes_nothing_claims_its_key() -> None:
    """A no-op under a key is repeated as such, after later writes too, and sends nothing."""
    notifier = PausingNotifier(MemoryNotifier())
    process, subject = Process(notifier=notifier), new_subject()
    request, mutation = IdempotentRequest("key", b"1"), patch("plugins", a=None)
    first = await process.service.write(subject, mutation, request=request)
    assert first.revision == 0
    assert notifier.calls["publish"] == 0
    newer = await process.patch(subject, "plugins", a=1)
    assert await process.service.write(subject, mutation, request=request) == first
    assert await process.service.read(subject) == newer


async def test_a_refused_write_claims_no_key() -> None:
    """The key of a refused write is free for another request."""
    process, subject = Process(), new_subject()
    with pytest.raises(InvalidPreferencesError):
        await process.service.write(
            subject, patch("editor", tab_size="x"), request=IdempotentRequest("key", b"1")
        )
    with pytest.raises(PreconditionFailedError):
        await process.service.write(
            subject,
            patch("editor", tab_size=3),
            request=IdempotentRequest("key", b"2"),
            condition=of_revision(1),
        )
    answer = await process.service.write(
        subject, patch("editor", tab_size=2), request=IdempotentRequest("key", b"3")
    )
    assert answer.values["editor"]["tab_size"] == 2


@pytest.mark.parametrize("processes", [1, 2, 5])
async def test_of_concurrent_requests_with_one_key_one_writes(processes: int) -> None:
    """Twenty requests at once under one key make one change, and all get its answer."""
    repository = MemoryRepository()
    services = [Process(repository) for _ in range(processes)]
    subject, request = new_subject(), IdempotentRequest("key", b"1")
    answers = await asyncio.gather(
        *(
            services[n % processes].service.write(subject, patch("editor", tab_size=2), request=request)
            for n in range(20)
        )
    )
    assert all(answer == answers[0] for answer in answers)
    assert len((await repository.changes(subject, 0, 100)).changes) == 1


async def test_a_write_whose_answer_was_lost_can_be_repeated() -> None:
    """Where the database stored a write and its answer was lost, the repeat finds it."""
    repository = FailingRepository(MemoryRepository())
    process, subject, request = Process(repository), new_subject(), IdempotentRequest("key", b"1")
    repository.fail("write", after=True)
    with pytest.raises(UnavailableError):
        await process.service.write(subject, patch("editor", tab_size=2), request=request)
    stored = (await repository.load(subject)).revision
    answer = await process.service.write(subject, patch("editor", tab_size=2), request=request)
    assert answer.revision == stored
    assert len((await repository.changes(subject, 0, 100)).changes) == 1
