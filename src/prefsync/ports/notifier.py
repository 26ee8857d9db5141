"""What the core asks of whoever carries changes between processes."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from prefsync.ports.part import Part

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from prefsync.document import Change, Subject

__all__ = ["Alive", "Announcement", "ChangeNotifier", "Gap", "Lost"]


@dataclass(frozen=True, slots=True)
class Announcement:
    """A change on its way to the processes that have sessions of its subject.

    Attributes:
        subject: Whose it is.
        change: What was written; ``None`` where only the fact is told, as of an erase: whoever cares looks it up.
        version: ``Document.version`` after it.
        trace: Names the trace in which it was written (W3C Trace Context, ``traceparent``), where that is kept.
        erased: Whether it was an erase: the subject's sessions end.
    """

    subject: Subject
    change: Change | None
    version: int
    trace: str | None = None
    erased: bool = False


@dataclass(frozen=True, slots=True)
class Lost:
    """The link to the notifier, or a part of it, is known to be lost: announcements are missing until the next ``Gap``."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Announcements may be missing before this point, and from here on none are known to be."""


@dataclass(frozen=True, slots=True)
class Alive:
    """What was published before a moment, and will ever arrive, has arrived before this.

    Attributes:
        at: The moment, by ``time.monotonic``; infinite where nothing can be lost on the way.
    """

    at: float


class ChangeNotifier(Part, Protocol):
    """Carries announcements between processes. It may lose, repeat and reorder them; the core makes that good."""

    @abstractmethod
    def publish(self, announcement: Announcement) -> Awaitable[None]:
        """Send an announcement to every subscription of every process, this one included.

        The work may start with the call. What one task publishes of a subject in order arrives in order, where it
        arrives.
        """

    @abstractmethod
    def subscribe(
        self, wanted: Callable[[str], bool] | None = None, *, pulse: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[Announcement | Lost | Gap | Alive]]:
        """Receive what is published from the moment the context is entered.

        Args:
            wanted: Tells by ``Subject.key`` whether anybody waits for a subject; others' announcements may
                be left out, which saves reading them, but for those of an erase.
            pulse: Whether to yield ``Alive``, about each second, by which near caches know that they may be believed.

        Entering never raises, and takes a bounded time. The iterator outlives the notifier's outages: it yields
        ``Lost`` once as soon as one is noticed (first of all where the subscription could not be made), reconnects by
        itself, with growing pauses, and yields a ``Gap`` when it has. A subscription that is not read keeps a bounded
        part of what arrives, blocks nobody, and gets a ``Gap`` in place of the rest. It ends only when the context is
        left. A process holds one subscription.
        """
