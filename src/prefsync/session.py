"""Sessions that are told of changes: in order, each revision at most once, and never more than they take.

Nothing waits in a session but its position. When it has taken one update it is given the way from there to the newest
state, folded into one change, so a slow session costs no memory and loses no state (protocol.md section 3).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import sys
from collections import Counter, deque
from contextlib import contextmanager
from enum import Enum
from types import coroutine
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio

from prefsync.channel import Update
from prefsync.effective import fold
from prefsync.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator

    from prefsync.channel import Channel
    from prefsync.clock import Clock
    from prefsync.document import Subject
    from prefsync.hub import Hub, Joined

__all__ = ["Farewell", "Outlet", "Session", "Sessions"]

logger = logging.getLogger("prefsync")

# Seconds between two looks at who has expired and who takes nothing.
_TICK: Final = 0.25

# Looks between two heartbeats of one session: 12 s, so that neither 15 s of an event stream nor 30 s of a WebSocket
# (protocol.md section 3) pass without one.
_BEAT: Final = 48

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

    def update(self, update: Update) -> Awaitable[None]:
        """Send an update."""

    async def beat(self, revision: int | None) -> None:
        """Send a heartbeat; the revision is ``None`` while the client may be behind."""

    async def farewell(self, reason: Farewell) -> None:
        """Send the last thing that is sent."""

    def cut(self) -> None:
        """Give the connection up: nothing more is sent. May be called more than once."""


class Session:
    """One client that follows a subject.

    Args:
        sessions: Among which it is.
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
        "_is_answering",
        "_is_beat_due",
        "_is_sending",
        "_outlet",
        "_replies",
        "_revision",
        "_sending_since",
        "_sessions",
        "_task",
        "expiry",
        "slot",
        "subject",
    )

    def __init__(self, sessions: Sessions, subject: Subject, outlet: Outlet) -> None:
        self.subject = subject
        self.expiry: int | None = None
        self.slot = 0
        self._sessions = sessions
        self._outlet = outlet
        self._channel: Any = None
        self._epoch = 0
        self._revision = 0
        self._replies: deque[Callable[[], Awaitable[None]]] = deque()
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
    def revision(self) -> int | None:
        """The subject's newest revision that the client was sent; ``None`` while it may be behind."""
        channel = self._channel
        if channel is None or not self._has_begun or not self._sessions.hub.is_sure_of(channel):
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
        joined = await self._sessions.hub.join(self.subject, self, since=since, schema=schema)
        self._channel = joined.channel
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
                self._sending_since = self._sessions.now  # the time for the farewell begins
            self.wake()

    def cut(self) -> None:
        """End without a word."""
        if not self._has_ended:
            self._has_ended = True
            try:
                self._outlet.cut()
            except Exception:
                logger.exception("a connection could not be given up")  # and holds up no other session
        if self._task is not None and not self._task.done():
            self._task.cancel()
        # Here, because a task that is cancelled before its first step never comes to its end.
        self._sending_since = None
        self._sessions.sending.discard(self)

    def leave(self) -> None:
        """Follow no more: the client has gone, or the transport has said its last."""
        self.cut()
        if self._channel is not None:
            self._sessions.hub.leave(self._channel, self)
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
        task = _start(self._send(), is_plain=self._outlet.is_plain)
        if task is not None:
            self._note_sending(task)

    def _note_sending(self, task: asyncio.Task[None]) -> None:
        """Note a task that goes on sending, if it has not come to its end in its first step."""
        if self._has_ended:
            task.cancel()
        elif self._is_sending:
            self._task = task
            self._sending_since = self._sessions.now
            self._sessions.sending.add(self)

    async def _send(self) -> None:
        try:
            # Before it has begun there is no stream yet in which to say anything but replies.
            while not self._has_ended and (self._has_begun or self._replies):
                self._has_news = False
                channel = self._channel
                if self._replies:
                    await self._replies.popleft()()
                elif self._farewell is not None and self._is_time_for_farewell:
                    await self._outlet.farewell(self._farewell)
                    self._task = None
                    self.cut()
                elif (self._revision < channel.revision or self._epoch != channel.epoch) and (
                    update := self._way(channel) or await self._look_up(channel)
                ) is not None:
                    await self._outlet.update(update)
                elif self._is_beat_due:
                    self._is_beat_due = False
                    await self._outlet.beat(self.revision)
                elif not self._has_news:
                    break  # else something came while the database was asked for an update
                if self._sending_since is not None:
                    self._sending_since = self._sessions.now
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # see below
            # A connection that has gone shows in many ways, each server's own.
            logger.debug("a session is over: %r", error)
            self._task = None
            self.cut()
        finally:
            self._is_sending = False
            if self._sending_since is not None:
                self._sending_since = None
                self._sessions.sending.discard(self)

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
            # What follows sets time limits, which have to end in the task that they began in (see _start).
            await asyncio.sleep(0)
        try:
            joined = await self._sessions.hub.resume(channel, self._revision, self._epoch)
        except UnavailableError:
            return None  # woken again by the hub, when the database is back
        if joined.reset is None and not joined.changes:
            return None
        update = joined.reset or Update(fold(joined.changes))
        self._epoch, self._revision = joined.epoch, update.revision
        return update


class Sessions:
    """All sessions of one process: how many there may be, when they end, and that none is forgotten.

    Args:
        hub: Who hears of changes.
        clock: For expiry and for the time between heartbeats.
        most: How many there may be.
        most_per_subject: How many of one subject there may be.

    Attributes:
        hub: Who hears of changes.
        now: Seconds, as of the last look at the clock.
        sending: Those that have not taken yet what they were sent.
        is_draining: Whether new ones are refused.
    """

    def __init__(self, hub: Hub, clock: Clock, *, most: int = 10_000, most_per_subject: int = 64) -> None:
        self.hub = hub
        self.now = clock.monotonic()
        self.sending: set[Session] = set()
        self.is_draining = False
        self._most = most
        self._most_per_subject = most_per_subject
        self._clock = clock
        self._count = 0
        self._of_subject: Counter[str] = Counter()
        self._slots: list[set[Session]] = [set() for _ in range(_BEAT)]
        self._next_slot = itertools.cycle(range(_BEAT))
        self._expiries: list[tuple[float, int, Session]] = []
        self._order = itertools.count()
        self._emptied = anyio.Event()
        self._callers: set[anyio.CancelScope] = set()

    def __len__(self) -> int:
        return self._count

    def check(self, subject: Subject | None = None, *, besides: int = 0) -> None:
        """Raise unless one more may be opened.

        Args:
            subject: Whose, where that is known already.
            besides: Connections that may still become sessions.

        Raises:
            UnavailableError: The process drains, or has as many as it may.
        """
        if self.is_draining:
            raise UnavailableError("process", message="this process is shutting down; connect again")
        if self._count + besides >= self._most:
            raise UnavailableError("process", message="this process has as many open streams as it may")
        if subject is not None and self._of_subject[subject.key] >= self._most_per_subject:
            raise UnavailableError("process", message="this user has as many open streams as one may")

    def open(self, subject: Subject, outlet: Outlet, expires_at: float | None) -> Session:
        """Open a session; whoever does closes it.

        Args:
            subject: Whose changes it is told.
            outlet: The way to the client.
            expires_at: When it ends by itself, in seconds since 1970.

        Raises:
            UnavailableError: The process drains, or has as many as it may.
        """
        self.check(subject)
        session = Session(self, subject, outlet)
        session.slot = next(self._next_slot)
        self._slots[session.slot].add(session)
        self._count += 1
        self._of_subject[subject.key] += 1
        self.expire(session, expires_at)
        return session

    def close(self, session: Session) -> None:
        """Forget a session."""
        session.leave()
        session.expiry = None
        self._slots[session.slot].discard(session)
        self._count -= 1
        self._of_subject[session.subject.key] -= 1
        if not self._of_subject[session.subject.key]:
            del self._of_subject[session.subject.key]
        if not self._count:
            self._emptied.set()
        self._forget_expiries()

    def expire(self, session: Session, at: float | None) -> None:
        """Settle when a session ends by itself, in seconds since 1970; ``None``: never."""
        session.expiry = None
        if at is not None:
            session.expiry = next(self._order)
            heapq.heappush(self._expiries, (at, session.expiry, session))
        self._forget_expiries()

    def _forget_expiries(self) -> None:
        """Drop what is out of date, once it is the larger part."""
        if len(self._expiries) > 2 * self._count + _BEAT:
            self._expiries = [entry for entry in self._expiries if entry[2].expiry == entry[1]]
            heapq.heapify(self._expiries)

    async def run(self) -> None:
        """Look after the sessions until cancelled."""
        for slot in itertools.cycle(self._slots):
            await anyio.sleep(_TICK)
            self.now = self._clock.monotonic()
            self._end_expired()
            for session in list(self.sending):
                if session.is_stuck(self.now):
                    logger.debug("a session that took nothing is cut")
                    session.cut()
            for session in list(slot):
                session.beat()

    def _end_expired(self) -> None:
        now = self._clock.now() / 1000
        while self._expiries and self._expiries[0][0] <= now:
            _, expiry, session = heapq.heappop(self._expiries)
            if session.expiry == expiry:
                session.end(Farewell.EXPIRED)

    @contextmanager
    def calling(self, scope: anyio.CancelScope) -> Iterator[None]:
        """Have a scope cancelled when the process drains: that of a connection that is no session yet."""
        self._callers.add(scope)
        if self.is_draining:
            scope.cancel()
        try:
            yield
        finally:
            self._callers.discard(scope)

    async def emptied(self) -> None:
        """Return when there is no session left."""
        while self._count:
            if self._emptied.is_set():
                self._emptied = anyio.Event()
            await self._emptied.wait()

    def drain(self) -> None:
        """Take no more sessions, and say farewell to those there are."""
        self.is_draining = True
        for caller in list(self._callers):
            caller.cancel()
        for slot in self._slots:
            for session in list(slot):
                session.end(Farewell.DRAINING)


def _start(work: Coroutine[Any, Any, None], *, is_plain: bool) -> asyncio.Task[None] | None:
    """Run work as far as it comes without waiting, and the rest as a task, if there is any.

    Nearly everything is sent without waiting, and a task for each of a thousand sessions costs as much as the sending.
    Before Python 3.12 the first part runs in the caller's task; where the work minds that, all of it is a task.
    """
    if sys.version_info >= (3, 12):
        task = asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True)
        return None if task.done() else task
    if not is_plain:
        return asyncio.create_task(work)
    try:
        waiting = work.send(None)
    except StopIteration:
        return None
    return asyncio.create_task(_finish(work, waiting))


@coroutine
def _finish(work: Coroutine[Any, Any, None], waiting: Any) -> Generator[Any, Any, None]:
    """Go on with a coroutine that was begun by hand and waits for something."""
    try:
        while True:
            try:
                result = yield waiting
            except BaseException as error:  # noqa: BLE001  # a cancellation too is the work's to deal with
                waiting = work.throw(error)
            else:
                waiting = work.send(result)
    except StopIteration:
        return
