"""One subscription a process, handed out to whoever follows a subject here; costs nothing for all other subjects.

What the notifier loses is made good from the change log: at once where the chain of revisions shows it, after each
reconnect, and every now and then for all subjects together (design: "reconcile").
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio

from prefsync.channel import Channel, Update
from prefsync.effective import present
from prefsync.errors import UnavailableError
from prefsync.ports import Gap, Lost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyio.abc import TaskGroup

    from prefsync.channel import Listener
    from prefsync.clock import Clock
    from prefsync.document import Change, Subject
    from prefsync.effective import EffectiveChange
    from prefsync.feed import ChangeFeed
    from prefsync.ports import Announcement, ChangeNotifier, PreferenceRepository
    from prefsync.resilience import Guard
    from prefsync.service import PreferenceService

__all__ = ["Hub", "Joined"]

logger = logging.getLogger("prefsync")

# A notifier that fails at once on every attempt must not spin; one that comes back must not be waited for long.
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0

# Seconds between two rounds in which the database is asked for the revisions of all that are followed here: while the
# notifier works (protocol.md section 4, promise 2, says 30), while it does not, and after a round that failed.
_RECONCILE: Final = 28.0
_RECONCILE_DEAF: Final = 2.0
_RECONCILE_FAILED: Final = 1.0

# Seconds between two rounds, whatever calls for the next one: what fails again and again must not spin.
_RECONCILE_APART: Final = 0.1

# Seconds that a change waits for those in front of it before the log is asked: reordering is over in less.
_REORDERING: Final = 0.02

# Subjects in one query.
_BATCH: Final = 5_000

# Questions under way at once while a round makes good what it found.
_AT_ONCE: Final = 16

# Changes that are told one by one to whoever comes back; beyond them everything is replaced (protocol.md section 3).
MOST_MISSED: Final = 1_000


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


class Hub:
    """Keeps the channels of the subjects that are followed in this process.

    Args:
        notifier: Where announcements come from.
        repository: Where the revisions are.
        feed: Where the changes are.
        service: Who shows states.
        guard: Bounds the calls to the repository.
        clock: For the time between two rounds.
    """

    def __init__(
        self,
        notifier: ChangeNotifier,
        repository: PreferenceRepository,
        feed: ChangeFeed,
        service: PreferenceService,
        guard: Guard,
        clock: Clock,
    ) -> None:
        self._notifier = notifier
        self._repository = repository
        self._feed = feed
        self._service = service
        self._guard = guard
        self._clock = clock
        self._channels: dict[str, Channel] = {}
        self._asking: dict[str, _Question] = {}
        self._is_listening = False
        self._has_caught_up = False
        self._losses = 0
        self._has_failed = False
        self._reconciled_at = 0.0
        self._reconcile_due = anyio.Event()
        self._tasks: TaskGroup | None = None

    @property
    def is_listening(self) -> bool:
        """Whether announcements arrive, as far as the notifier knows."""
        return self._is_listening

    def is_sure_of(self, channel: Channel) -> bool:
        """Tell whether nothing is known that a channel lacks, and it would have been heard of."""
        if channel.is_behind or not channel.is_known:
            return False
        if self._is_listening:
            return self._has_caught_up
        return self._has_caught_up and self._clock.monotonic() - self._reconciled_at < 2 * _RECONCILE_DEAF

    async def run(self) -> None:
        """Listen until cancelled.

        Whatever goes wrong is logged and begun again: the listener never dies silently.
        """
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            try:
                tasks.start_soon(self._reconcile_now_and_then)
                await self._listen_again_and_again()
            finally:
                self._tasks = None
                self._is_listening = False

    # --- Following a subject -----------------------------------------------------------------------------------------

    async def join(
        self, subject: Subject, listener: Listener, *, since: int | None = None, schema: str | None = None
    ) -> Joined:
        """Begin to follow a subject: from now on the listener is woken, until it leaves.

        Args:
            subject: Whose.
            listener: Who follows.
            since: The newest revision that it has.
            schema: The schema tag that it has.

        Raises:
            UnavailableError: The state cannot be read. Then the listener does not follow.
        """
        channel = self._channels.get(subject.key)
        if channel is None:
            channel = Channel(subject, self._present)
            self._channels[subject.key] = channel
        channel.listeners.add(listener)  # before the first look: what is written after it is heard of
        try:
            if schema not in {None, self._service.schema.tag}:
                since = None
            question = None
            if not self.is_sure_of(channel):
                question = await self._ask(channel, since)
            if (
                since is not None
                and since > channel.revision
                and (question is None or question.since != since)
            ):
                question = await self._ask(
                    channel, since, is_fresh=True
                )  # the client has heard of it before us
            if question is not None and question.since == since and question.is_lost:
                since = None
            return await self._place(channel, since)
        except BaseException:
            self.leave(channel, listener)
            raise

    def leave(self, channel: Channel, listener: Listener) -> None:
        """Follow no more."""
        channel.listeners.discard(listener)
        if not channel.listeners and self._channels.get(channel.subject.key) is channel:
            del self._channels[channel.subject.key]

    async def resume(self, channel: Channel, since: int, epoch: int) -> Joined:
        """Return what a listener lacks.

        Args:
            channel: What it follows.
            since: The revision that it has.
            epoch: The channel's when it got that.

        Raises:
            UnavailableError: The database had to be asked, and is out of reach.
        """
        try:
            return await self._place(channel, since if epoch == channel.epoch else None)
        except UnavailableError:
            self._failed()
            raise

    async def _place(self, channel: Channel, since: int | None) -> Joined:
        changes = None if since is None else channel.since(since)
        if changes is not None:
            return Joined(channel, channel.epoch, channel.revision, changes)
        if since is not None:
            epoch = channel.epoch
            page = await self._feed.page(channel.subject, since, limit=MOST_MISSED)
            if page.reset is None and not page.has_more:
                return Joined(channel, epoch, page.revision, page.changes)
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

    def _present(self, change: Change) -> EffectiveChange:
        return present(self._service.schema, change)

    # --- Asking the log ----------------------------------------------------------------------------------------------

    async def _ask(self, channel: Channel, since: int | None = None, *, is_fresh: bool = False) -> _Question:
        """Bring a channel up to date; whoever asks at the same time shares the question.

        Raises:
            UnavailableError: The database is out of reach.
        """
        question = self._begin_to_ask(channel, since, is_fresh=is_fresh)
        await question.answered.wait()
        if question.error is not None:
            raise UnavailableError(question.error.part) from question.error
        return question

    def _begin_to_ask(
        self, channel: Channel, since: int | None = None, *, pause: float = 0, is_fresh: bool = False
    ) -> _Question:
        """Ask, or share a question.

        Even one that has left already will do where announcements arrive: what was written since then is heard of.
        """
        if self._tasks is None:
            raise UnavailableError("notifier")  # the process shuts down
        key = channel.subject.key
        question = self._asking.get(key)
        if (
            question is None
            or question.channel is not channel
            or (question.has_left and (is_fresh or not self._is_listening))
        ):
            question = self._asking[key] = _Question(channel, since)
            self._tasks.start_soon(self._answer, question, pause)
        return question

    async def _answer(self, question: _Question, pause: float) -> None:
        channel = question.channel
        try:
            if pause:
                await anyio.sleep(pause)
                if not channel.is_behind:
                    return
            question.has_left = True
            is_asked = False
            while channel.is_behind or not is_asked:
                asked_at, heard, losses = channel.version, channel.heard, self._losses
                since = channel.revision if channel.is_known else question.since
                page = await self._feed.page(channel.subject, since, limit=MOST_MISSED)
                is_asked = losses == self._losses  # else what came after the answer may have been lost
                question.is_lost |= page.reset is not None
                if channel.read(page, asked_at=asked_at, heard=heard):
                    self._wake(channel)
        except UnavailableError as error:
            question.error = error
            self._failed()
        except Exception:
            # One subject's trouble is not everybody's: an error in this task would end the listener too.
            logger.exception("the changes of a subject could not be read")
            question.error = UnavailableError("database")
            self._failed()
        except BaseException:
            question.error = UnavailableError("process")  # which shuts down: nothing is known of the channel
            raise
        finally:
            if self._asking.get(channel.subject.key) is question:
                del self._asking[channel.subject.key]
            question.answered.set()

    # --- Listening ---------------------------------------------------------------------------------------------------

    async def _listen_again_and_again(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                async with self._notifier.subscribe(self._channels.__contains__) as announcements:
                    self._found()  # something may have been announced before the subscription stood
                    async for announcement in announcements:
                        pause = _FIRST_PAUSE
                        if isinstance(announcement, Lost):
                            self._lost()
                        elif isinstance(announcement, Gap):
                            self._found()
                        else:
                            self._hear(announcement)
            except Exception:
                logger.exception("the listener for changes failed; it starts again in %.1f s", pause)
            else:
                logger.error("the notifier ended its subscription; it is made again in %.1f s", pause)
            self._lost()
            await anyio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _found(self) -> None:
        self._is_listening = True
        self._has_caught_up = False
        self._losses += 1
        self._reconcile_due.set()

    def _lost(self) -> None:
        self._is_listening = False
        self._losses += 1
        self._reconcile_due.set()

    def _failed(self) -> None:
        """Have a round made soon: it wakes whoever could not be told of something."""
        self._has_failed = True
        self._reconcile_due.set()

    def _hear(self, announcement: Announcement) -> None:
        channel = self._channels.get(announcement.subject.key)
        if channel is None:
            return
        if channel.hear(announcement):
            self._wake(channel)
        if channel.is_behind and channel.is_known:
            self._begin_to_ask(channel, pause=_REORDERING if announcement.change is not None else 0)

    def _wake(self, channel: Channel) -> None:
        # In a task of its own: whatever listeners do in it, the one that hears of changes lives on.
        if self._tasks is not None:
            self._tasks.start_soon(_wake_all, channel)

    # --- Reconciling -------------------------------------------------------------------------------------------------

    async def _reconcile_now_and_then(self) -> None:
        while True:
            try:
                self._reconcile_due, self._has_failed = anyio.Event(), False
                await self.reconcile()
            except UnavailableError as error:
                logger.debug("sessions could not be reconciled: %s", error)
                self._has_failed = True
            except Exception:
                logger.exception("reconciling failed; it is tried again in %.1f s", _RECONCILE_FAILED)
                self._has_failed = True
            await anyio.sleep(_RECONCILE_APART)
            if not self._has_failed:
                pause = _RECONCILE if self._is_listening else _RECONCILE_DEAF
                # Spread, so that the processes of a deployment do not ask all at once.
                with anyio.move_on_after(pause * random.uniform(0.9, 1)):  # noqa: S311  # no cryptography
                    await self._reconcile_due.wait()
            if self._has_failed:
                await anyio.sleep(_RECONCILE_FAILED)

    async def reconcile(self) -> int:
        """Ask for the revisions of all that are followed here, and return how many channels were not up to date.

        Raises:
            UnavailableError: The database is out of reach.
        """
        began, losses = self._clock.monotonic(), self._losses
        channels = [channel for channel in self._channels.values() if channel.is_known]
        behind: list[Channel] = []
        for start in range(0, len(channels), _BATCH):
            batch = channels[start : start + _BATCH]
            expected = [channel.revision for channel in batch]
            found = await self._guard(self._repository.revisions([channel.subject for channel in batch]))
            for channel, before, revision in zip(batch, expected, found, strict=True):
                if revision not in {before, channel.revision}:
                    channel.doubt()
                if channel.is_behind:
                    behind.append(channel)
                else:
                    self._wake(channel)  # who could not be told of something while the database was away
        # All that is behind is known to be, and no other channel's state is in doubt.
        self._reconciled_at = began
        self._has_caught_up = losses == self._losses
        error: UnavailableError | None = None
        for start in range(0, len(behind), _AT_ONCE):
            questions = [
                self._begin_to_ask(channel, is_fresh=True)
                for channel in behind[start : start + _AT_ONCE]
                if channel.listeners
            ]
            for question in questions:
                await question.answered.wait()
                error = error or question.error
        if error is not None:  # only now: one subject that cannot be read holds up no other
            raise UnavailableError(error.part) from error
        return len(behind)


class _Question:
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


async def _wake_all(channel: Channel) -> None:
    for listener in tuple(channel.listeners):
        try:
            listener.wake()
        except Exception:
            logger.exception("somebody who follows a subject could not be woken")  # the others still are
