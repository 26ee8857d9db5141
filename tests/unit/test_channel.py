"""A channel goes forward only along the chain, whatever the notifier and the database do to it."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefsync import Schema
from prefsync.channel import Channel, Update
from prefsync.document import Change, Snapshot
from prefsync.effective import EffectiveChange, fold, present
from prefsync.feed import Page
from prefsync.ports import Announcement
from tests.unit.support import ANNA, MODELS

SCHEMA = Schema(MODELS)

View = dict[str, dict[str, Any]]


def shown(change: Change) -> EffectiveChange:
    """Show a change in effective values."""
    return present(SCHEMA, change)


@dataclass
class State:
    """What a database holds of the subject."""

    revision: int = 0
    floor: int = 0
    stored: View = field(default_factory=dict)
    log: list[Change] = field(default_factory=list)

    @property
    def version(self) -> int:
        """As ``Document.version``."""
        return max(self.revision, self.floor)

    def snapshot(self) -> Snapshot:
        """Return what a read returns."""
        return Snapshot(ANNA, self.revision, SCHEMA.tag, SCHEMA.effective(self.stored), {})

    def page(self, since: int | None, limit: int) -> Page:
        """Answer as the feed does."""
        later = [change for change in self.log if since is not None and change.revision > since]
        if since is None or (since != self.revision and (not later or later[0].previous != since)):
            return Page(
                self.revision, self.revision, self.revision, self.version, reset=deepcopy(self.snapshot())
            )
        changes = tuple(shown(change) for change in later[:limit])
        revision = changes[-1].change.revision if changes else since
        return Page(since, revision, self.revision, self.revision, changes, len(later) > limit)


class World:
    """A database that is written, erased and restored, a notifier that does what it may, and one who follows."""

    def __init__(self) -> None:
        self.now = 1_000
        self.state = State()
        self.backups: list[State] = []
        self.wire: list[Announcement] = []
        self.answers: list[tuple[Page, int, int]] = []
        self.views: dict[int, Any] = {0: SCHEMA.effective({})}
        self.channel = Channel(ANNA, shown)
        self.channel.read(self.state.page(None, 10), asked_at=-1, heard=-1)
        self.epoch, self.revision, self.view = self.channel.epoch, 0, deepcopy(self.views[0])

    def write(self, choice: int) -> None:
        """Write, and announce it."""
        self.backups.append(deepcopy(self.state))
        state, name = self.state, "xyz"[choice % 3]
        self.now += 1 + choice % 5
        revision = max(state.version + 1, self.now)
        plugins = state.stored.setdefault("plugins", {})
        assigned, unset = {"plugins": {name: choice}}, {}
        if name in plugins and choice % 2:
            del plugins[name]
            assigned, unset = {}, {"plugins": [name]}
        else:
            plugins[name] = choice
        change = Change(revision, state.revision, self.now, None, assigned, unset)
        state.log.append(change)
        state.revision = revision
        self.views[revision] = deepcopy(state.snapshot().values)
        self.wire.append(Announcement(ANNA, change, state.version))

    def erase(self) -> None:
        """Erase, and announce it."""
        self.state = State(floor=self.state.version + 1)
        self.wire.append(Announcement(ANNA, None, self.state.version))

    def restore(self, choice: int) -> None:
        """Bring a backup back; nobody announces that."""
        if self.backups:
            self.state = deepcopy(self.backups[choice % len(self.backups)])
            self.now += 100

    def deliver(self, choice: int, *, again: bool) -> None:
        """Hand over any announcement, an old one maybe, and maybe once more later."""
        if self.wire:
            number = choice % len(self.wire)
            self.channel.hear(self.wire[number] if again else self.wire.pop(number))

    def ask(self, limit: int) -> None:
        """Ask the log; the answer comes later."""
        channel = self.channel
        self.answers.append(
            (self.state.page(channel.revision, 1 + limit % 4), channel.version, channel.heard)
        )

    def answer(self, choice: int) -> None:
        """Let any answer arrive."""
        if self.answers:
            page, asked_at, heard = self.answers.pop(choice % len(self.answers))
            self.channel.read(page, asked_at=asked_at, heard=heard)

    def follow(self) -> None:
        """Take what there is, as a session does."""
        channel = self.channel
        if self.epoch == channel.epoch and self.revision >= channel.revision:
            return
        update = channel.update(self.revision) if self.epoch == channel.epoch else None
        update = update or channel.reset or channel.note_state(self.state.snapshot())
        if update.snapshot is not None:
            self.view = deepcopy(update.snapshot.values)
        else:
            assert update.change is not None
            assert update.previous == self.revision, "the chain is broken"
            assert update.revision > self.revision, "a revision came twice, or went backwards without a reset"
            for name, values in update.change.changed.items():
                self.view[name].update(deepcopy(values))
            for name, gone in update.change.removed.items():
                for key in gone:
                    self.view[name].pop(key, None)
        self.epoch, self.revision = channel.epoch, update.revision
        assert self.view == self.views[self.revision], "the state is not that of its revision"

    def settle(self) -> None:
        """Do what the hub does now and then: compare revisions, and ask until there is nothing more to hear."""
        if self.channel.revision != self.state.revision:
            self.channel.doubt()
        for _ in range(10):
            if not self.channel.is_behind:
                break
            channel = self.channel
            asked_at, heard = channel.version, channel.heard
            channel.read(self.state.page(channel.revision, 1_000), asked_at=asked_at, heard=heard)
        assert not self.channel.is_behind, "the log is asked for ever"
        self.follow()
        assert self.channel.revision == self.state.revision
        assert self.view == self.state.snapshot().values


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "write",
                "write",
                "deliver",
                "deliver",
                "repeat",
                "ask",
                "answer",
                "follow",
                "erase",
                "restore",
                "settle",
            ]
        ),
        st.integers(0, 29),
    ),
    max_size=40,
)


@given(STEPS)
@settings(max_examples=400)
def test_who_follows_is_never_misled_and_ends_on_the_newest_state(steps: list[tuple[str, int]]) -> None:
    """Each step follows the one before and shows its revision's state, and the last shows the database's.

    Through losses, repetitions, reordering, late answers, erasures and restored backups.
    """
    world = World()
    do = {
        "write": world.write,
        "deliver": partial(world.deliver, again=False),
        "repeat": partial(world.deliver, again=True),
        "ask": world.ask,
        "answer": world.answer,
        "follow": lambda _: world.follow(),
        "erase": lambda _: world.erase(),
        "restore": world.restore,
        "settle": lambda _: world.settle(),
    }
    for step, choice in steps:
        do[step](choice)
    world.settle()


def link(revision: int, previous: int, value: Any = 1) -> Announcement:
    """Return an announcement of a change."""
    change = Change(revision, previous, revision, assigned={"plugins": {"n": value}})
    return Announcement(ANNA, change, revision)


def known(revision: int = 0) -> Channel:
    """Return a channel that knows a state."""
    channel = Channel(ANNA, shown)
    page = State(revision).page(revision, 10)
    assert not channel.read(page, asked_at=-1, heard=-1)
    return channel


def test_the_chain_is_followed_through_any_order() -> None:
    """Changes that overtake one another are handed on in order as soon as the first of them is there."""
    channel = known()
    for revision in (3, 2, 5, 4):
        assert not channel.hear(link(revision, revision - 1))
        assert channel.is_behind
    assert channel.hear(link(1, 0))
    assert channel.revision == 5
    assert not channel.is_behind
    changes = channel.since(0)
    assert changes is not None
    assert [one.change.revision for one in changes] == [1, 2, 3, 4, 5]


def test_what_is_written_after_the_answer_is_not_forgotten_by_it() -> None:
    """An answer that was read before a change was heard of leaves the channel behind, not up to date."""
    channel = known()
    asked_at, heard = channel.version, channel.heard
    page = State(0).page(0, 10)
    channel.hear(link(9, 8))
    channel.read(page, asked_at=asked_at, heard=heard)
    assert channel.is_behind


def test_an_answer_older_than_the_chain_is_dropped() -> None:
    """An answer that the chain has overtaken moves nothing, not even where it replaces everything."""
    channel = known()
    asked_at, heard = channel.version, channel.heard
    old = State(0).page(None, 10)
    same = State(2).page(None, 10)
    channel.hear(link(1, 0))
    channel.hear(link(2, 1))
    for page in (old, same):
        assert not channel.read(page, asked_at=asked_at, heard=heard)
    assert (channel.revision, channel.epoch) == (2, 0)


def test_a_change_from_before_an_erase_does_not_come_back() -> None:
    """Where the erase is heard of first, the change that it removed does not bring its values back."""
    channel = known()
    channel.hear(Announcement(ANNA, None, 6))
    assert channel.is_behind
    channel.read(State(floor=6).page(0, 10), asked_at=0, heard=6)
    assert not channel.is_behind
    assert not channel.hear(link(5, 0))
    assert channel.revision == 0
    assert channel.hear(link(8, 0))


def test_a_page_that_is_not_the_last_leaves_the_channel_behind() -> None:
    """Until the last page of a long log was read, nobody takes the channel for up to date."""
    state = State(5, log=[Change(n, n - 1, n) for n in range(1, 6)])
    channel = Channel(ANNA, shown)
    channel.read(state.page(0, 3), asked_at=-1, heard=-1)
    assert channel.revision == 3
    assert channel.is_behind
    channel.read(state.page(3, 3), asked_at=channel.version, heard=channel.heard)
    assert channel.revision == 5
    assert not channel.is_behind


def test_memory_is_bounded_in_changes() -> None:
    """However many changes come, a few are remembered, and the way from before them is said to be unknown."""
    channel = known()
    for revision in range(1, 1_001):
        channel.hear(link(revision, revision - 1))
        channel.update(revision - 1)
    assert len(channel._links) == 32
    assert len(channel._updates) <= 32
    assert channel._bytes == sum(size for _, size in channel._links.values())
    assert channel.since(1_000 - 33) is None
    changes = channel.since(1_000 - 32)
    assert changes is not None
    assert len(changes) == 32


@pytest.mark.parametrize("size", [10_000, 100_000])
def test_memory_is_bounded_in_bytes(size: int) -> None:
    """Large changes are remembered up to a bound, the newest one always."""
    channel = known()
    for revision in range(1, 21):
        channel.hear(link(revision, revision - 1, "x" * size))
        assert len(channel._links) == 1 or channel._bytes <= 64 * 1024
        assert channel.update(revision - 1) is not None
    assert channel._bytes == sum(held for _, held in channel._links.values())


def test_memory_is_bounded_in_changes_that_came_early() -> None:
    """Changes whose predecessor never comes are forgotten, and the channel stays behind."""
    channel = known()
    for revision in range(2, 2_000, 2):
        channel.hear(link(revision, revision - 1))
        assert len(channel._early) <= 16
        assert channel.is_behind


def test_one_way_is_worked_out_once_for_all() -> None:
    """All who are at one position share one update, written once in each form, until the channel goes on."""
    channel = known()
    for revision in (1, 2, 3):
        channel.hear(link(revision, revision - 1, revision))
    update = channel.update(1)
    assert update is channel.update(1)
    assert update is not None
    written: list[Update] = []

    def write(one: Update) -> str:
        written.append(one)
        return f"{one.previous} to {one.revision}"

    assert [update.form(write) for _ in range(3)] == ["1 to 3"] * 3
    assert written == [update]
    changes = channel.since(1)
    assert changes is not None
    assert update.change == fold(changes)
    channel.hear(link(4, 3))
    later = channel.update(1)
    assert later is not None
    assert later.revision == 4
    assert channel.update(4) is None
    assert channel.update(77) is None
