"""What one process knows of a subject that somebody listens to: its newest state, and how it came there. Without I/O.

Announcements may be lost, repeated and reordered. A channel goes forward only along the chain of ``previous``, so what
it hands on is in order, without a gap and without a repetition; where the chain is broken it says that the log must be
asked.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from prefsync.effective import EffectiveChange, fold
from prefsync.strictjson import encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefsync.document import Change, Snapshot, Subject
    from prefsync.feed import Page
    from prefsync.ports import Announcement

__all__ = ["Channel", "Listener", "Update"]

T = TypeVar("T")

# Changes that a channel remembers, so that a session that is a little behind costs no query: this many, and within
# this many bytes of values.
_REMEMBERED: Final = 32
_REMEMBERED_BYTES: Final = 64 * 1024

# Changes that came before those in front of them; more than these in a row are a loss, not a reordering.
_EARLY: Final = 16


class Listener(Protocol):
    """Somebody in this process who follows a subject."""

    def wake(self) -> None:
        """Note that there may be something new. Called often, from the listener for changes: returns at once."""


class Update:
    """What brings whoever has seen one revision to another. Shared by all who are in the same position.

    Attributes:
        previous: The revision it leads away from; ``None`` where it replaces everything.
        revision: The revision it leads to.
        change: What changed; ``None`` where it replaces everything.
        snapshot: Everything, where it replaces everything.
        deliveries: How many have taken it, where telemetry asks for that.
    """

    __slots__ = ("_forms", "change", "deliveries", "previous", "revision", "snapshot")

    def __init__(self, content: EffectiveChange | Snapshot) -> None:
        self.change: EffectiveChange | None = None
        self.snapshot: Snapshot | None = None
        if isinstance(content, EffectiveChange):
            self.change = content
            self.previous: int | None = content.change.previous
            self.revision = content.change.revision
        else:
            self.snapshot = content
            self.previous = None
            self.revision = content.revision
        self.deliveries = 0
        self._forms: dict[Any, Any] = {}

    def form(self, write: Callable[[Update], T]) -> T:
        """Return the update as a transport writes it; written once, however many take it."""
        written: T | None = self._forms.get(write)
        if written is None:
            written = self._forms[write] = write(self)
        return written


class Channel:
    """One subject's state as this process has heard of it.

    Args:
        subject: Whose.
        present: Shows a logged change in effective values.

    Attributes:
        subject: Whose.
        revision: The newest revision that can be handed on; means nothing until ``is_known``.
        version: What orders the states, erased ones included (``Document.version``).
        epoch: Counts how often the chain was begun anew: whoever is from an earlier one has to be reset.
        listeners: Who follows.
    """

    def __init__(self, subject: Subject, present: Callable[[Change], EffectiveChange]) -> None:
        self.subject = subject
        self.revision = 0
        self.version = -1
        self.epoch = 0
        self.listeners: set[Listener] = set()
        self._present = present
        self._heard = -1
        self._is_doubted = False
        self._links: OrderedDict[int, tuple[EffectiveChange, int]] = OrderedDict()
        self._bytes = 0
        self._early: dict[int, Change] = {}
        self._updates: dict[int, Update] = {}
        self._reset: Update | None = None

    @property
    def is_known(self) -> bool:
        """Whether the subject's state was ever read."""
        return self.version >= 0

    @property
    def is_behind(self) -> bool:
        """Whether something newer than the state was heard of, or the database is known to hold another."""
        return self._heard > self.version or self._is_doubted

    def doubt(self) -> None:
        """Note that the database holds another state, until the log was asked."""
        self._is_doubted = True

    @property
    def heard(self) -> int:
        """The newest version that was heard of."""
        return max(self._heard, self.version)

    def hear(self, announcement: Announcement) -> bool:
        """Take an announcement, and return whether there is something new to hand on."""
        if announcement.version <= self.version:
            return False
        self._heard = max(self._heard, announcement.version)
        change = announcement.change
        if change is None or not self.is_known:
            return False
        if change.previous == self.revision:
            self._advance(change)
            while (following := self._early.pop(self.revision, None)) is not None:
                self._advance(following)
            return True
        if len(self._early) >= _EARLY:
            self._early.clear()
        self._early[change.previous] = change
        return False

    def read(self, page: Page, *, asked_at: int, heard: int) -> bool:
        """Take what the log was found to hold after ``asked_at``, and return whether there is something new.

        Args:
            page: The answer.
            asked_at: ``version`` when the log was asked.
            heard: ``heard`` when the log was asked.
        """
        self._is_doubted = False
        if self._heard <= heard:
            self._heard = -1  # what was heard of is in the answer, or is not in the database at all
        if page.version <= self.version and asked_at != self.version:
            return False  # the chain went on while the answer was on its way, as far as that or further
        if page.reset is not None:
            self._begin(page.reset, page.version)
            return True
        if not self.is_known:
            self.revision, self.version = page.start, page.start
        before = self.revision
        for change in page.changes:
            if change.change.previous == self.revision:
                self._link(change)
        self._early = {at: change for at, change in self._early.items() if at >= self.revision}
        while (following := self._early.pop(self.revision, None)) is not None:
            self._advance(following)
        if page.has_more:
            self._heard = max(self._heard, page.version)
        else:
            # What was heard of is behind this state, though it may have left no revision: an erase does not.
            self.version = max(self.version, page.version, heard)
        return self.revision != before

    def since(self, position: int) -> list[EffectiveChange] | None:
        """Return the changes after a revision; ``None`` where they are not remembered."""
        changes: list[EffectiveChange] = []
        while position != self.revision:
            link = self._links.get(position)
            if link is None:
                return None
            changes.append(link[0])
            position = link[0].change.revision
        return changes

    def update(self, position: int) -> Update | None:
        """Return what leads from a revision to the newest; ``None`` where it is not remembered."""
        update = self._updates.get(position)
        if update is None:
            changes = self.since(position)
            if not changes:
                return None
            update = self._updates[position] = Update(fold(changes))
        return update

    @property
    def reset(self) -> Update | None:
        """What replaces everything by the newest state, where that was read."""
        return self._reset if self._reset is not None and self._reset.revision == self.revision else None

    def note_state(self, snapshot: Snapshot) -> Update:
        """Return what replaces everything by a state, and remember it for whoever else needs it."""
        update = Update(snapshot)
        if snapshot.revision == self.revision:
            self._reset = update
        return update

    def _advance(self, change: Change) -> None:
        self._link(self._present(change))

    def _link(self, change: EffectiveChange) -> None:
        size = len(encode(change.changed))
        self._links[self.revision] = (change, size)
        self._bytes += size
        while len(self._links) > 1 and (len(self._links) > _REMEMBERED or self._bytes > _REMEMBERED_BYTES):
            _, (_, dropped) = self._links.popitem(last=False)
            self._bytes -= dropped
        self.revision = change.change.revision
        self.version = max(self.version, self.revision)
        self._updates.clear()
        self._reset = None

    def _begin(self, snapshot: Snapshot, version: int) -> None:
        """Begin the chain anew: there is no way from what was handed on so far to the state."""
        if self.is_known:
            self.epoch += 1
        self.revision, self.version = snapshot.revision, version
        self._links.clear()
        self._bytes = 0
        self._early.clear()
        self._updates.clear()
        self._reset = Update(snapshot)
