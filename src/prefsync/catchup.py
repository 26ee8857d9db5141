"""What somebody who comes, or comes back, lacks of a subject's state: changes one by one, or all of it anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio

from prefsync.effective import fold_beyond

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefsync.channel import Channel, Update
    from prefsync.effective import EffectiveChange
    from prefsync.errors import UnavailableError
    from prefsync.feed import ChangeFeed
    from prefsync.service import PreferenceService

__all__ = ["MOST_MISSED", "CatchUp", "Joined", "Question"]

# Changes that are told one by one to whoever comes back; beyond them everything is replaced (protocol.md section 3).
MOST_MISSED: Final = 1_000

# Bytes of values that are told one by one; what is beyond is folded, since no more than 1 MiB may wait for a client.
_MOST_TOLD: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Joined:
    """Where a listener begins.

    Attributes:
        channel: What it follows.
        epoch: The channel's, at that moment.
        revision: The revision that it has when it has taken the rest.
        changes: What it missed, oldest first.
        reset: Replaces all it has; then there are no changes.
    """

    channel: Channel
    epoch: int
    revision: int
    changes: Sequence[EffectiveChange] = ()
    reset: Update | None = None


class CatchUp:
    """Finds what listeners missed: in the channel, in the log, or by the state itself.

    Args:
        feed: Where the changes are.
        service: Who shows states.
    """

    def __init__(self, feed: ChangeFeed, service: PreferenceService) -> None:
        self._feed = feed
        self._service = service

    async def place(self, channel: Channel, since: int | None) -> Joined:
        """Return what a listener lacks.

        Args:
            channel: What it follows.
            since: The revision that it has; ``None`` where that says nothing.

        Raises:
            UnavailableError: The database had to be asked, and is out of reach.
        """
        changes = None if since is None else channel.since(since)
        if changes is not None:
            return Joined(channel, channel.epoch, channel.revision, changes)
        if since is not None:
            epoch = channel.epoch
            page = await self._feed.page(channel.subject, since, limit=MOST_MISSED)
            if page.reset is None and not page.has_more:
                return Joined(channel, epoch, page.revision, fold_beyond(page.changes, _MOST_TOLD))
            if page.reset is not None and page.version >= channel.version:
                return Joined(channel, epoch, page.revision, (), channel.note_state(page.reset))
        epoch = channel.epoch
        reset = channel.reset or await self._state(channel)
        return Joined(channel, epoch, reset.revision, (), reset)

    async def _state(self, channel: Channel) -> Update:
        documents = self._service.documents
        document = (await documents.find(channel.subject)).document
        if document.version < channel.version:
            document = await documents.load(channel.subject)
        return channel.note_state(self._service.show_document(channel.subject, document))


class Question:
    """What is asked of the log about one channel.

    Attributes:
        channel: Which.
        since: From where, where the channel does not know yet.
        has_left: Whether it is too late to share it: its answer may be older than whoever comes now.
        is_lost: Whether the answer replaces everything: where it began is not in the log.
        answered: Set when there is an answer, or an error.
        error: Why there is none.
    """

    __slots__ = ("answered", "channel", "error", "has_left", "is_lost", "since")

    def __init__(self, channel: Channel, since: int | None) -> None:
        self.channel = channel
        self.since = since
        self.has_left = False
        self.is_lost = since is None
        self.answered = anyio.Event()
        self.error: UnavailableError | None = None
