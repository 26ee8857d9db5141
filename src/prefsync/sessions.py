"""All sessions of one process: how many there may be, when they end, and that none is forgotten."""

from __future__ import annotations

import heapq
import itertools
import logging
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import anyio

from prefsync.errors import UnavailableError
from prefsync.session import Farewell, InFlight, Session

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from prefsync.clock import Clock
    from prefsync.document import Subject
    from prefsync.hub import Hub
    from prefsync.session import Outlet

__all__ = ["Sessions"]

logger = logging.getLogger("prefsync")

# Seconds between two looks at who has expired and who takes nothing.
_TICK: Final = 0.25

# Looks between two heartbeats of one session: 12 s, so that neither 15 s of an event stream nor 30 s of a WebSocket
# (protocol.md section 3) pass without one.
_BEAT: Final = 48


class Sessions:
    """Keeps the sessions of one process, and looks after them.

    Args:
        hub: Who hears of changes.
        clock: For expiry and for the time between heartbeats.
        most: How many there may be.
        most_per_subject: How many of one subject there may be.

    Attributes:
        in_flight: Who has not taken yet what they were sent.
        is_draining: Whether new ones are refused.
        telemetry: Is told of them.
    """

    def __init__(self, hub: Hub, clock: Clock, *, most: int = 10_000, most_per_subject: int = 64) -> None:
        self.in_flight = InFlight(clock.monotonic())
        self.is_draining = False
        self.telemetry = hub.telemetry
        self._hub = hub
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

    def open(
        self, subject: Subject, outlet: Outlet, expires_at: float | None, revoked_by: tuple[str, ...] = ()
    ) -> Session:
        """Open a session; whoever does closes it.

        Args:
            subject: Whose changes it is told.
            outlet: The way to the client.
            expires_at: When it ends by itself, in seconds since 1970.
            revoked_by: What ends it, see ``Identity``.

        Raises:
            UnavailableError: The process drains, or has as many as it may.
        """
        self.check(subject)
        session = Session(self._hub, self.in_flight, subject, outlet)
        session.slot = next(self._next_slot)
        self._slots[session.slot].add(session)
        self._count += 1
        self._of_subject[subject.key] += 1
        self.telemetry.opened(outlet.transport)
        self.expire(session, expires_at, revoked_by)
        return session

    def close(self, session: Session) -> None:
        """Forget a session."""
        session.leave()
        session.expiry = None
        self._slots[session.slot].discard(session)
        self.telemetry.closed(session.transport)
        self._count -= 1
        self._of_subject[session.subject.key] -= 1
        if not self._of_subject[session.subject.key]:
            del self._of_subject[session.subject.key]
        if not self._count:
            self._emptied.set()
        self._forget_expiries()

    def expire(self, session: Session, at: float | None, revoked_by: tuple[str, ...] = ()) -> None:
        """Settle when a session ends by itself, in seconds since 1970 (``None``: never), and what ends it before."""
        session.revoked_by = revoked_by
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
            self.in_flight.now = now = self._clock.monotonic()
            self._end_expired()
            for session in list(self.in_flight.sessions):
                if session.is_stuck(now):
                    logger.debug("a session that took nothing is cut")
                    session.cut(is_stuck=True)
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

    def end(self, subject: Subject | None, revoked: Collection[str] = ()) -> None:
        """Say farewell to sessions, because the tokens that they were opened with are good no longer.

        Args:
            subject: Whose, all of them.
            revoked: What single tokens were revoked by.
        """
        if not revoked and (subject is None or not self._of_subject[subject.key]):
            return
        marks = frozenset(revoked)
        for slot in self._slots:
            for session in list(slot):
                if session.subject == subject or not marks.isdisjoint(session.revoked_by):
                    session.end(Farewell.EXPIRED)

    def drain(self) -> None:
        """Take no more sessions, and say farewell to those there are."""
        self.is_draining = True
        for caller in list(self._callers):
            caller.cancel()
        for slot in self._slots:
            for session in list(slot):
                session.end(Farewell.DRAINING)
