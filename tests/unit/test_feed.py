"""The change feed: pages, resets, waits and how changes are shown."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

import anyio
import pytest
from pydantic import BaseModel, model_validator

from prefsync.adapters.memory import MemoryCache, MemoryNotifier, MemoryRepository
from prefsync.document import Change
from prefsync.errors import UnavailableError
from prefsync.feed import present
from prefsync.merge import Mutation, Reset
from prefsync.schema import Preferences, Schema
from prefsync.testing import FailingRepository, FakeClock, UnreliableNotifier
from tests.unit.support import ANNA, DEFAULTS, MODELS, PATIENCE, Process, new_subject, patch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def process() -> AsyncIterator[Process]:
    """A process whose hub listens."""
    process = Process()
    async with process.listening():
        yield process


async def test_a_client_follows_from_any_revision(process: Process) -> None:
    """From each revision, nothing included, the pages lead to the newest, each change following the one before it."""
    subject = new_subject()
    revisions = [0] + [(await process.patch(subject, "editor", tab_size=n)).revision for n in range(1, 8)]
    for start, since in enumerate(revisions):
        page = await process.feed.page(subject, since, limit=3)
        assert [change.change.revision for change in page.changes] == revisions[start + 1 : start + 4]
        assert [change.change.previous for change in page.changes] == revisions[start : start + 4][
            : len(page.changes)
        ]
        assert page.has_more == (start + 4 < len(revisions))
        assert page.revision == revisions[min(start + 3, 7)]
        assert page.newest == revisions[-1]
        assert page.reset is None


async def test_a_revision_that_is_not_in_the_log_is_a_reset(process: Process) -> None:
    """Nonsense, a revision beyond the newest, and one that was trimmed are answered with all values, at once."""
    subject = new_subject()
    first = await process.patch(subject, "editor", tab_size=1)
    await process.patch(subject, "editor", tab_size=2)
    newest = await process.patch(subject, "editor", tab_size=3)
    await process.repository.trim_subject(subject, 1)
    for since in (0, 1, first.revision, first.revision - 1, newest.revision + 1, 2**53 - 1):
        page = await process.polls.page(subject, since, wait=60)
        assert page.reset == newest
        assert page.changes == ()
        assert page.revision == page.newest == newest.revision


async def test_an_erased_subject_is_a_reset_to_nothing(process: Process) -> None:
    """A client with a revision of an erased life is told that everything is at its default."""
    subject = new_subject()
    last = await process.patch(subject, "editor", tab_size=1)
    await process.service.erase(subject)
    page = await process.feed.page(subject, last.revision)
    assert page.reset is not None
    assert page.reset.values["editor"] == DEFAULTS["editor"]
    assert page.revision == 0
    assert (await process.feed.page(subject, 0)).reset is None
    again = await process.patch(subject, "editor", tab_size=1)
    page = await process.feed.page(subject, last.revision)
    assert page.reset == again


async def test_another_schema_tag_is_a_reset(process: Process) -> None:
    """A client that knows other defaults gets everything anew; one that knows these, or names none, does not."""
    subject = new_subject()
    newest = await process.patch(subject, "editor", tab_size=1)
    for schema, is_reset in ((None, False), (process.schema.tag, False), ("other", True), ("", True)):
        page = await process.feed.page(subject, newest.revision, schema=schema)
        assert (page.reset == newest) is is_reset


async def test_a_poll_wakes_on_a_change(process: Process) -> None:
    """All who wait for a subject get its change as soon as it is announced, and nobody else does."""
    subject, other = new_subject(), new_subject()
    async with asyncio.TaskGroup() as tasks:
        polls = [tasks.create_task(process.polls.page(subject, 0, wait=60)) for _ in range(3)]
        stranger = tasks.create_task(process.polls.page(other, 0, wait=60))
        await process.followed(subject, 3)
        await process.followed(other)
        written = await process.service.write(subject, patch("editor", tab_size=1), origin="tab-1")
        with anyio.fail_after(PATIENCE):
            pages = [await poll for poll in polls]
        assert not stranger.done()
        stranger.cancel()
    for page in pages:
        assert page.revision == written.revision
        assert page.changes[0].change.origin == "tab-1"
        assert page.changes[0].changed == {"editor": {"tab_size": 1}}


async def test_a_poll_misses_nothing_that_is_written_as_it_begins() -> None:
    """A change between the poll's first look and its wait ends the wait."""
    repository, notifier = FailingRepository(MemoryRepository()), MemoryNotifier()
    process, subject = Process(repository, notifier=notifier), new_subject()

    class Overtaken(MemoryRepository):
        written = False

        async def changes(self, *arguments: Any) -> Any:
            log = await super().changes(*arguments)
            if not self.written:
                self.written = True
                await process.patch(subject, "editor", tab_size=1)
            return log

    process = Process(Overtaken(), notifier=notifier)
    async with process.listening():
        with anyio.fail_after(PATIENCE):
            page = await process.polls.page(subject, 0, wait=60)
    assert len(page.changes) == 1


async def test_a_poll_whose_time_is_up_answers_with_nothing() -> None:
    """Without a change, the answer after the wait is an empty page at the client's own revision."""
    clock = FakeClock()
    process, subject = Process(clock=clock), new_subject()
    newest = await process.patch(subject, "editor", tab_size=1)
    async with process.listening():
        for wait in (0, 0.01):
            task = asyncio.create_task(process.polls.page(subject, newest.revision, wait=wait))
            if wait:
                await process.followed(subject)
                clock.advance(1)
            with anyio.fail_after(PATIENCE):
                page = await task
            assert (page.revision, page.changes, page.reset) == (newest.revision, (), None)


async def test_a_repeated_announcement_ends_no_poll() -> None:
    """An announcement of what the client has already is no change."""
    notifier = UnreliableNotifier(MemoryNotifier())
    notifier.copies = 5
    process, subject = Process(notifier=notifier), new_subject()
    async with process.listening(), asyncio.TaskGroup() as tasks:
        poll = tasks.create_task(process.polls.page(subject, 0, wait=60))
        await process.followed(subject)
        first = await process.patch(subject, "editor", tab_size=1)
        assert (await poll).revision == first.revision
        poll = tasks.create_task(process.polls.page(subject, first.revision, wait=60))
        await process.followed(subject)
        second = await process.patch(subject, "editor", tab_size=2)
        page = await poll
    assert [change.change.revision for change in page.changes] == [second.revision]


async def test_a_database_that_is_away_is_said() -> None:
    """A poll fails where the database is out of reach, and leaves nobody waiting."""
    repository = FailingRepository(MemoryRepository())
    process, subject = Process(repository), new_subject()
    async with process.listening():
        repository.is_down = True
        with pytest.raises(UnavailableError):
            await process.polls.page(subject, 0, wait=60)


async def test_a_field_back_at_its_default_appears_with_it(process: Process) -> None:
    """What was taken away shows as its default where it is declared, and as removed where it is not."""
    subject = new_subject()
    await process.service.write(
        subject,
        Mutation(
            patch("appearance", theme="dark", font_size=20).edits | patch("plugins", b=1, a=None, c=[1]).edits
        ),
    )
    before = await process.patch(subject, "plugins", a=1)
    await process.service.write(
        subject,
        Mutation(patch("appearance", theme=None).edits | patch("plugins", b=None, a=None, c={"x": 1}).edits),
    )
    (change,) = (await process.feed.page(subject, before.revision)).changes
    assert change.changed == {"appearance": {"theme": "system"}, "plugins": {"c": {"x": 1}}}
    assert change.removed == {"plugins": ["a", "b"]}


async def test_a_reset_namespace_shows_only_what_was_stored(process: Process) -> None:
    """A reset names the fields that were set, with their defaults, and no others."""
    subject = new_subject()
    before = await process.patch(subject, "appearance", font_size=20)
    await process.service.write(subject, Mutation.reset_all(process.schema))
    (change,) = (await process.feed.page(subject, before.revision)).changes
    assert (change.changed, change.removed) == ({"appearance": {"font_size": 14}}, {})
    assert (
        await process.service.write(subject, Mutation({"appearance": Reset()}))
    ).revision == change.change.revision


async def test_a_change_shows_whole_fields(process: Process) -> None:
    """A patch of one member sends the field that it is in as a whole."""
    subject = new_subject()
    before = await process.patch(subject, "appearance", extras={"a": 1})
    await process.patch(subject, "appearance", extras={"b": 2})
    (change,) = (await process.feed.page(subject, before.revision)).changes
    assert change.changed == {"appearance": {"extras": {"a": 1, "b": 2}}}


class Narrow(Preferences, namespace="appearance"):
    """Another version of the namespace."""

    theme: Literal["system", "light"] = "light"


def test_a_change_by_another_version_is_shown_as_a_read_would() -> None:
    """What this schema does not declare is left out, and what it does not take shows as its default."""
    change = Change(
        2,
        1,
        0,
        assigned={"appearance": {"theme": "dark", "accent": 1}, "other": {"a": 1}},
        unset={"gone": ["b"]},
    )
    shown = present(Schema([Narrow]), change)
    assert shown.changed == {"appearance": {"theme": "light"}}
    assert shown.removed == {}
    assert present(Schema(MODELS), Change(2, 1, 0, assigned={"other": {"a": 1}})).changed == {}


async def test_processes_that_share_a_notifier_wake_one_another() -> None:
    """A poll in one process ends with a write in another."""
    repository, cache, notifier = MemoryRepository(), MemoryCache(), MemoryNotifier()
    one, other = (Process(repository, cache, notifier) for _ in range(2))
    subject = new_subject()
    async with one.listening(), asyncio.TaskGroup() as tasks:
        poll = tasks.create_task(one.polls.page(subject, 0, wait=60))
        await one.followed(subject)
        written = await other.patch(subject, "editor", tab_size=1)
        with anyio.fail_after(PATIENCE):
            assert (await poll).revision == written.revision


class Window(Preferences, namespace="window"):
    """Two fields that have to fit together."""

    low: int = 0
    high: int = 10
    name: str = ""

    @model_validator(mode="after")
    def _ordered(self) -> Window:
        if self.low > self.high:
            message = "low is above high"
            raise ValueError(message)
        return self


async def test_a_change_shows_the_value_that_a_read_shows() -> None:
    """Where fields are only right together, a change of one of them shows its new value and not the default."""
    process = Process(models=[Window])
    first = await process.merge("window", {"high": 100})
    second = await process.merge("window", {"low": 50})
    assert (await process.read()).values["window"] == {"low": 50, "high": 100, "name": ""}
    page = await process.feed.page(ANNA, first.revision)
    assert [change.changed for change in page.changes] == [{"window": {"low": 50}}]
    assert page.revision == second.revision


async def test_a_client_that_applies_every_change_has_what_a_read_shows() -> None:
    """Laying all changes over the state of before gives the state of now, whatever was set, reset or replaced."""
    process = Process(models=[*MODELS, Window])
    view = {name: dict(values) for name, values in (await process.read()).values.items()}
    await process.merge("window", {"high": 100, "low": 60})
    await process.put("window", {"low": 5})
    await process.merge("appearance", {"theme": "dark", "font_size": 20})
    await process.merge("appearance", {"theme": None})
    await process.merge("plugins", {"a": {"b": 1}, "c": None, "d": [1]})
    await process.merge("plugins", {"a": {"b": None, "e": 2}, "d": None})
    await process.put("plugins", {"x": None})
    await process.reset("appearance", "editor")
    await process.merge("window", {"high": 6, "low": None})
    await process.put("plugins", {})
    page = await process.feed.page(ANNA, 0)
    for change in page.changes:
        for name, fields in change.changed.items():
            view[name] |= fields
        for name, gone in change.removed.items():
            for field in gone:
                del view[name][field]
    assert view == (await process.read()).values


class Panel(BaseModel):
    """A value with members."""

    left: bool = True
    width: int = 200


class Newer(Preferences, namespace="appearance"):
    """Another version of a namespace of the example."""

    theme: Literal["system", "contrast"] = "system"
    panel: Panel = Panel()


async def test_a_change_by_another_version_keeps_the_chain() -> None:
    """A change of which this version knows nothing is told as an empty one: the client's chain has no break."""
    process = Process()
    newer = process.another([Newer])
    await newer.merge("appearance", {"panel": {"width": 300}})
    await newer.merge("appearance", {"theme": "contrast"})
    await process.merge("appearance", {"font_size": 20})
    page = await process.feed.page(ANNA, 0)
    assert [change.changed for change in page.changes] == [
        {},
        {"appearance": {"theme": "system"}},
        {"appearance": {"font_size": 20}},
    ]
    assert [change.removed for change in page.changes] == [{}, {}, {}]
    assert [change.change.previous for change in page.changes] == [
        0,
        *[change.change.revision for change in page.changes[:-1]],
    ]


async def test_a_change_is_shown_in_todays_defaults() -> None:
    """A field that went back to its default is shown with the default of the version that shows it."""
    process = Process()
    await process.merge("appearance", {"font_size": 20})
    await process.merge("appearance", {"font_size": None, "theme": "dark"})
    log = await process.repository.changes(ANNA, 0, 10)

    class Later(Preferences, namespace="appearance"):
        theme: Literal["system", "light", "dark"] = "dark"
        font_size: int = 16

    shown = present(Schema([Later]), log.changes[1])
    assert shown.changed == {"appearance": {"theme": "dark", "font_size": 16}}
