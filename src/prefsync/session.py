"""A session that is told of changes: in order, each revision at most once, and never more than it takes.

Nothing waits in it but its position. When it has taken one update it is given the way from there to the newest
state, folded into one change, so a slow one costs no memory and loses no state (protocol.md section 3).
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol

from prefsync.channel import Update
from prefsync.eager import start_eagerly
from prefsync.effective import fold
from prefsync.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from prefsync.catchup import Joined
    from prefsync.channel import Channel
    from prefsync.document import Subject
    from prefsync.hub import Hub
    from prefsync.telemetry import Transport

__all__ = ["Farewell", "InFlight", "Outlet", "Session"]

logger = logging.getLogger("prefsync")

# Seconds that a session may take for what it was sent.
_PATIENCE: Final = 30.0

# Seconds that a session has for its farewell before it is cut.
_FAREWELL_PATIENCE: Final = 2.0


class Farewell(Enum):
    """Why a session ends; the values are the protocol's words."""

    EXPIRED = "token-expired"
    DRAINING = "going-away"


class Outlet(Protocol):
    """The way to one client, as its transport has it. Calls do not overlap.

    Attributes:
        is_plain: Whether a call may begin in one task and end in another: nothing in it opens a cancel scope or a time
            limit.
    """

    is_plain: bool

    @property
    def transport(self) -> Transport:
        """What it is, for telemetry."""

    def update(self, update: Update) -> Awaitable[None]:
        """Send an update."""

    async def beat(self, revision: int | None) -> None:
        """Send a heartbeat; the revision is ``None`` while the client may be behind."""

    async def farewell(self, reason: Farewell) -> None:
        """Send the last thing that is sent."""

    def cut(self) -> None:
        """Give the connection up: nothing more is sent. May be called more than once."""

    def drop(self) -> None:
        """Give it up together with what the client was sent and does not take."""
        self.cut()


class InFlight:
    """What sessions were sent and have not taken yet.

    Args:
        now: The time.

    Attributes:
        now: Seconds, as of the last look at the clock: one look for all sessions.
        sessions: Those that have something to take.
    """

    __slots__ = ("now", "sessions")

    def __init__(self, now: float) -> None:
        self.now = now
        self.sessions: set[Session] = set()


class Session:
    """One client that follows a subject.

    Args:
        hub: Who hears of changes.
        in_flight: Where it notes that the client has something to take.
        subject: Whose changes it is told.
        outlet: The way to the client.
    """

    __slots__ = (
        "_channel",
        "_epoch",
        "_farewell",
        "_has_begun",
        "_has_ended",
        "_has_news",
        "_hub",
        "_in_flight",
        "_is_answering",
        "_is_beat_due",
        "_is_sending",
        "_outlet",
        "_replies",
        "_revision",
        "_sending_since",
        "_task",
        "expiry",
        "revoked_by",
        "slot",
        "subject",
    )

    def __init__(self, hub: Hub, in_flight: InFlight, subject: Subject, outlet: Outlet) -> None:
        self.subject = subject
        self.expiry: int | None = None
        self.revoked_by: tuple[str, ...] = ()
        self.slot = 0
        self._hub = hub
        self._in_flight = in_flight
        self._outlet = outlet
        self._channel: Any = None
        self._epoch = 0
        self._revision = 0
        self._replies: list[Callable[[], Awaitable[None]]] = []  # an idle deque takes as much as all the rest
        self._is_beat_due = False
        self._is_answering = False
        self._has_begun = False
        self._farewell: Farewell | None = None
        self._has_ended = False
        self._has_news = False
        self._is_sending = False
        self._sending_since: float | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def transport(self) -> Transport:
        """How the client is told."""
        return self._outlet.transport

    @property
    def revision(self) -> int | None:
        """The subject's newest revision that the client was sent; ``None`` while it may be behind."""
        channel = self._channel
        if channel is None or not self._has_begun or not self._hub.is_sure_of(channel):
            return None
        is_current = self._epoch == channel.epoch and self._revision >= channel.revision
        return self._revision if is_current else None

    async def join(self, since: int | None, schema: str | None) -> Joined:
        """Begin to follow; nothing is sent before :meth:`begin`.

        Args:
            since: The newest revision that the client has.
            schema: The schema tag that it has.

        Raises:
            UnavailableError: The state cannot be read.
        """
        joined = await self._hub.join(self.subject, self, since=since, schema=schema)
        self._channel = joined.channel
        if joined.reset is None:
            self._hub.telemetry.began(self.transport, "resumed")
        else:
            self._hub.telemetry.began(self.transport, "first" if since is None else "reset")
        return joined

    def begin(self, joined: Joined, greeting: Callable[[], Awaitable[None]]) -> None:
        """Send a greeting that tells what ``join`` returned, and from now on every change after it."""
        self._replies.append(greeting)
        self._epoch, self._revision = joined.epoch, joined.revision
        self._has_begun = True
        self.wake()

    def reply(self, reply: Callable[[], Awaitable[None]]) -> None:
        """Send something in its turn, before the changes that wait."""
        self._replies.append(reply)
        self.wake()

    @property
    def has_replies(self) -> bool:
        """Whether replies wait; a client that does not take them should not be read from."""
        return bool(self._replies)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Put off a farewell while something that the client asked for is under way, and has to be answered."""
        self._is_answering = True
        try:
            yield
        finally:
            self._is_answering = False
            if self._farewell is not None:
                self.wake()

    @property
    def is_ending(self) -> bool:
        """Whether nothing that the client asks for from now on is answered."""
        return self._farewell is not None

    def beat(self) -> None:
        """Send a heartbeat when there is nothing else to send."""
        self._is_beat_due = True
        self.wake()

    def end(self, reason: Farewell) -> None:
        """Say farewell and end."""
        if self._farewell is None:
            self._farewell = reason
            if self._sending_since is not None:
                self._sending_since = self._in_flight.now  # the time for the farewell begins
            self.wake()

    def cut(self, *, is_stuck: bool = False) -> None:
        """End without a word.

        Args:
            is_stuck: Whether the client takes nothing, so that what it was sent must not be kept for it.
        """
        if not self._has_ended:
            self._has_ended = True
            try:
                (self._outlet.drop if is_stuck else self._outlet.cut)()
            except Exception:
                logger.exception("a connection could not be given up")  # and holds up no other session
        if self._task is not None and not self._task.done():
            self._task.cancel()
        # Here, because a task that is cancelled before its first step never comes to its end.
        self._sending_since = None
        self._in_flight.sessions.discard(self)

    def leave(self) -> None:
        """Follow no more: the client has gone, or the transport has said its last."""
        self.cut()
        if self._channel is not None:
            self._hub.leave(self._channel, self)
            self._channel = None

    def is_stuck(self, now: float) -> bool:
        """Tell whether the client takes nothing."""
        if self._sending_since is None:
            return False
        return now - self._sending_since > (_PATIENCE if self._farewell is None else _FAREWELL_PATIENCE)

    def wake(self) -> None:
        """Send what there is to send, unless it is being done; then look again afterwards."""
        self._has_news = True
        if self._is_sending or self._has_ended:
            return
        self._is_sending = True
        task = start_eagerly(self._send(), is_plain=self._outlet.is_plain)
        if task is not None:
            self._note_sending(task)

    def _note_sending(self, task: asyncio.Task[None]) -> None:
        """Note a task that goes on sending, if it has not come to its end in its first step."""
        if self._has_ended:
            task.cancel()
        elif self._is_sending:
            self._task = task
            self._sending_since = self._in_flight.now
            self._in_flight.sessions.add(self)

    async def _send(self) -> None:
        try:
            # Before it has begun there is no stream yet in which to say anything but replies.
            while not self._has_ended and (self._has_begun or self._replies):
                self._has_news = False
                channel = self._channel
                if self._replies:
                    await self._replies.pop(0)()
                elif self._farewell is not None and self._is_time_for_farewell:
                    await self._outlet.farewell(self._farewell)
                    self._task = None
                    self.cut()
                elif (self._revision < channel.revision or self._epoch != channel.epoch) and (
                    update := self._way(channel) or await self._look_up(channel)
                ) is not None:
                    await self._outlet.update(update)
                    self._note_delivery(update)
                elif self._is_beat_due:
                    self._is_beat_due = False
                    await self._outlet.beat(self.revision)
                elif not self._has_news:
                    break  # else something came while the database was asked for an update
                if self._sending_since is not None:
                    self._sending_since = self._in_flight.now
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # see below
            # A connection that has gone shows in many ways, each server's own.
            logger.debug("a session is over: %r", error)
            self._task = None
            self.cut()
        finally:
            self._is_sending = False
            self._task = None
            if self._sending_since is not None:
                self._sending_since = None
                self._in_flight.sessions.discard(self)

    def _note_delivery(self, update: Update) -> None:
        if self._hub.telemetry.is_on and update.change is not None:
            update.deliveries += 1
            self._hub.telemetry.delivered(self.transport, update.change.change.at, update.deliveries)

    @property
    def _is_time_for_farewell(self) -> bool:
        return self._farewell is Farewell.EXPIRED or (self._farewell is not None and not self._is_answering)

    def _way(self, channel: Channel) -> Update | None:
        """Return the way from what the client has to the newest state where it is known, and take it for gone."""
        if self._epoch != channel.epoch:
            return None
        update = channel.update(self._revision)
        if update is not None:
            self._revision = update.revision
        return update

    async def _look_up(self, channel: Channel) -> Update | None:
        """Do the same where the log or the state has to be read."""
        if self._sending_since is None:
            # What follows sets time limits, which have to end in the task that they began in (see start_eagerly).
            await asyncio.sleep(0)
        try:
            joined = await self._hub.resume(channel, self._revision, self._epoch)
        except UnavailableError:
            return None  # woken again by the hub, when the database is back
        if joined.reset is None and not joined.changes:
            return None
        if joined.reset is not None:
            self._hub.telemetry.began(self.transport, "reset")
        update = joined.reset or Update(fold(joined.changes))
        self._epoch, self._revision = joined.epoch, update.revision
        return update
