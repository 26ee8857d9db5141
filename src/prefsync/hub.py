"""One subscription a process, handed out to whoever follows a subject here; costs nothing for all other subjects.

What the notifier loses is made good from the change log: at once where the chain of revisions shows it, and else by the
rounds of ``prefsync.reconciling``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import anyio

from prefsync.catchup import MOST_MISSED, CatchUp, Question
from prefsync.channel import Channel
from prefsync.effective import present
from prefsync.errors import UnavailableError
from prefsync.ports import Alive, Gap, Lost
from prefsync.reconciling import Reconciler
from prefsync.telemetry import OFF

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from anyio.abc import TaskGroup

    from prefsync.catchup import Joined
    from prefsync.channel import Listener
    from prefsync.clock import Clock
    from prefsync.document import Change, Subject
    from prefsync.effective import EffectiveChange
    from prefsync.feed import ChangeFeed
    from prefsync.near import NearCache
    from prefsync.ports import Announcement, ChangeNotifier, PreferenceRepository
    from prefsync.resilience import Guard
    from prefsync.service import PreferenceService
    from prefsync.telemetry import Telemetry

__all__ = ["Hub"]

logger = logging.getLogger("prefsync")

# A notifier that fails at once on every attempt must not spin; one that comes back must not be waited for long.
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0

# Seconds that a change waits for those in front of it before the log is asked: reordering is over in less.
_REORDERING: Final = 0.02


class Hub:
    """Keeps the channels of the subjects that are followed in this process.

    Args:
        notifier: Where announcements come from.
        repository: Where the revisions are.
        feed: Where the changes are.
        service: Who shows states.
        guard: Bounds the calls to the repository.
        clock: For the time between two rounds.
        near: What else hears of changes, if the host wants a near cache.
        telemetry: Is told of sessions and deliveries.

    Attributes:
        on_erased: Called with each subject that was erased, and the version of what is left of it.
        delay: Seconds that announcements take, when it was last known; ``None`` where it never was.
        telemetry: Is told of sessions and deliveries.
    """

    def __init__(
        self,
        notifier: ChangeNotifier,
        repository: PreferenceRepository,
        feed: ChangeFeed,
        service: PreferenceService,
        guard: Guard,
        clock: Clock,
        near: NearCache | None = None,
        telemetry: Telemetry = OFF,
    ) -> None:
        self.delay: float | None = None
        self.telemetry = telemetry
        self.on_erased: Callable[[Subject, int], None] | None = None
        self._near = near
        self._notifier = notifier
        self._feed = feed
        self._schema = service.schema
        self._catch_up = CatchUp(feed, service)
        self._clock = clock
        self._channels: dict[str, Channel] = {}
        self._asking: dict[str, Question] = {}
        self._reconciler = Reconciler(
            repository,
            guard,
            clock,
            self._channels,
            ask=lambda channel: self._begin_to_ask(channel, is_fresh=True),
            wake=self._wake,
        )
        self._tasks: TaskGroup | None = None

    @property
    def is_listening(self) -> bool:
        """Whether announcements arrive, as far as the notifier knows."""
        return self._reconciler.is_listening

    @property
    def has_caught_up(self) -> bool:
        """Whether a round since announcements arrive has made good what was lost before."""
        return self._reconciler.is_listening and self._reconciler.has_caught_up

    def is_sure_of(self, channel: Channel) -> bool:
        """Tell whether nothing is known that a channel lacks, and it would have been heard of."""
        return channel.is_known and not channel.is_behind and self._reconciler.is_sure

    async def reconcile(self) -> int:
        """Make good what was lost, and return how many channels were not up to date.

        Raises:
            UnavailableError: The database is out of reach.
        """
        return await self._reconciler.reconcile()

    async def run(self) -> None:
        """Listen until cancelled.

        Whatever goes wrong is logged and begun again: the listener never dies silently.
        """
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            try:
                tasks.start_soon(self._reconciler.run)
                await self._listen_again_and_again()
            finally:
                self._tasks = None
                self._reconciler.is_listening = False

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
            if schema not in {None, self._schema.tag}:
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
            return await self._catch_up.place(channel, since)
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
            return await self._catch_up.place(channel, since if epoch == channel.epoch else None)
        except UnavailableError:
            self._reconciler.failed()
            raise

    def _present(self, change: Change) -> EffectiveChange:
        return present(self._schema, change)

    # --- Asking the log ----------------------------------------------------------------------------------------------

    async def _ask(self, channel: Channel, since: int | None = None, *, is_fresh: bool = False) -> Question:
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
    ) -> Question:
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
            or (question.has_left and (is_fresh or not self.is_listening))
        ):
            question = self._asking[key] = Question(channel, since)
            self._tasks.start_soon(self._answer, question, pause)
        return question

    async def _answer(self, question: Question, pause: float) -> None:
        channel = question.channel
        try:
            if pause:
                await anyio.sleep(pause)
                if not channel.is_behind:
                    return
            question.has_left = True
            is_asked = False
            while channel.is_behind or not is_asked:
                asked_at, heard, losses = channel.version, channel.heard, self._reconciler.losses
                since = channel.revision if channel.is_known else question.since
                page = await self._feed.page(channel.subject, since, limit=MOST_MISSED)
                # Else what came after the answer may have been lost.
                is_asked = losses == self._reconciler.losses
                question.is_lost |= page.reset is not None
                if channel.read(page, asked_at=asked_at, heard=heard):
                    self._wake(channel)
        except UnavailableError as error:
            question.error = error
            self._reconciler.failed()
        except Exception:
            # One subject's trouble is not everybody's: an error in this task would end the listener too.
            logger.exception("the changes of a subject could not be read")
            question.error = UnavailableError("database")
            self._reconciler.failed()
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
                async with self._subscribe() as announcements:
                    self._found()  # something may have been announced before the subscription stood
                    async for announcement in announcements:
                        pause = _FIRST_PAUSE
                        if isinstance(announcement, Lost):
                            self._lost()
                        elif isinstance(announcement, Gap):
                            self._found()
                        elif isinstance(announcement, Alive):
                            self._is_sure_until(announcement.at)
                        else:
                            self._hear(announcement)
            except Exception:
                logger.exception("the listener for changes failed; it starts again in %.1f s", pause)
            else:
                logger.error("the notifier ended its subscription; it is made again in %.1f s", pause)
            self._lost()
            await anyio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _is_sure_until(self, at: float) -> None:
        self.delay = max(0.0, self._clock.monotonic() - at)
        if self._near is not None:
            self._near.believe(at)

    def _subscribe(self) -> AbstractAsyncContextManager[AsyncIterator[Announcement | Lost | Gap | Alive]]:
        near, channels = self._near, self._channels
        wanted = channels.__contains__ if near is None else lambda key: key in channels or key in near
        return self._notifier.subscribe(wanted, pulse=True)

    def _found(self) -> None:
        if self._near is not None:
            self._near.forget()
        self._reconciler.found()

    def _lost(self) -> None:
        if self._near is not None:
            self._near.doubt()
        self._reconciler.lost()

    def _hear(self, announcement: Announcement) -> None:
        if self._near is not None:
            self._near.hear(announcement.subject.key, announcement.version)
        if announcement.erased and self.on_erased is not None:
            self.on_erased(announcement.subject, announcement.version)
        channel = self._channels.get(announcement.subject.key)
        if channel is None:
            return
        if channel.hear(announcement):
            self._wake(channel, announcement.trace)
        if channel.is_behind and channel.is_known:
            self._begin_to_ask(channel, pause=_REORDERING if announcement.change is not None else 0)

    def _wake(self, channel: Channel, trace: str | None = None) -> None:
        # In a task of its own: whatever listeners do in it, the one that hears of changes lives on.
        if self._tasks is not None:
            wake = self._wake_in_trace if self.telemetry.is_on else _wake_all
            self._tasks.start_soon(wake, channel, trace)

    async def _wake_in_trace(self, channel: Channel, trace: str | None) -> None:
        with self.telemetry.delivery(trace):
            await _wake_all(channel)


async def _wake_all(channel: Channel, _trace: str | None = None) -> None:
    for listener in tuple(channel.listeners):
        try:
            listener.wake()
        except Exception:
            logger.exception("somebody who follows a subject could not be woken")  # the others still are
