"""What is told of how prefsync fares: to nobody, unless the host switches it on.

Only what happened is told, in words of a fixed number: no ids, no values, no names of fields. HTTP requests, SQL and
Redis commands are the business of the host's other instrumentations.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

__all__ = ["OFF", "CacheResult", "Operation", "Start", "Telemetry", "Transport"]

Transport: TypeAlias = Literal["events", "websocket", "socketio"]
"""How a session is told of changes."""

Start: TypeAlias = Literal["first", "resumed", "reset"]
"""How a session began: with nothing, going on from what it had, or with everything anew although it had something."""

CacheResult: TypeAlias = Literal["near", "hit", "miss"]
"""Where a document was found: in this process's near cache, in the cache, or not."""

Operation: TypeAlias = Literal["write", "load"]
"""What is worth a span."""

_NOTHING: Final[AbstractContextManager[None]] = nullcontext()


class Telemetry:
    """Is told of what happens. This one keeps nothing and costs next to nothing; what does more derives from it.

    Called on the event loop, often: returns at once, and never raises.

    Attributes:
        is_on: Whether anything is kept. Where it costs to find out what to tell, that is asked first.
    """

    is_on: bool = False

    # --- Reading and writing -----------------------------------------------------------------------------------------

    def cache_read(self, result: CacheResult) -> None:
        """Note that a document was asked for, and where it was found."""

    def written(self, changes: int) -> None:
        """Note that changes were committed."""

    def lost_race(self) -> None:
        """Note that another write was faster, so that one has to be made upon the newer state."""

    def refused(self, reason: str) -> None:
        """Note that a request, a frame or a connection was refused.

        Args:
            reason: The problem's name, as protocol.md section 2 lists them.
        """

    # --- Making good -------------------------------------------------------------------------------------------------

    def repeated(self) -> None:
        """Note that the relay has announced what its writer had not."""

    def repaired(self) -> None:
        """Note that the relay has replaced a cached document that was out of date or missing."""

    # --- Sessions ----------------------------------------------------------------------------------------------------

    def opened(self, transport: Transport) -> None:
        """Note that a session was opened."""

    def closed(self, transport: Transport) -> None:
        """Note that one was closed."""

    def began(self, transport: Transport, start: Start) -> None:
        """Note how a session began, or that it had to begin anew in its midst (``reset``)."""

    def delivered(self, transport: Transport, at: int, sessions: int) -> None:
        """Note that a session's transport has taken a change.

        Args:
            transport: Which.
            at: When the change was made, in ms since 1970.
            sessions: How many of this process have taken it by now.
        """

    # --- Traces ------------------------------------------------------------------------------------------------------

    def span(self, operation: Operation) -> AbstractContextManager[None]:
        """Return a context in which an operation is under way."""
        del operation
        return _NOTHING

    def trace(self) -> str | None:
        """Return what names the trace that is on, as W3C Trace Context writes ``traceparent``."""
        return None

    def delivery(self, trace: str | None) -> AbstractContextManager[None]:
        """Return a context in which a change is handed to the sessions of this process.

        Args:
            trace: What :meth:`trace` returned where the change was written.
        """
        del trace
        return _NOTHING


OFF: Final = Telemetry()
"""Told of everything, and keeps nothing."""
