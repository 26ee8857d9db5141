"""What the rules ask of the network, and what comes back: values, without any I/O.

The rules are generators of steps. Whoever drives one does each step and sends its result in, so that the awaiting and the
blocking client share every decision.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    from prefsync.client.values import Change, Reset

__all__ = [
    "Answer",
    "AskToken",
    "Cut",
    "Failure",
    "Open",
    "Read",
    "Request",
    "Send",
    "Step",
    "Steps",
    "Tell",
    "Wait",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request.

    Attributes:
        method: In capitals.
        path: Below the URL of the mount, ``""`` or ``/appearance``.
        headers: All of them but those of the connection. Not shown: a token is among them.
        query: Encoded, without the question mark.
        body: In full.
    """

    method: str
    path: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: str = ""
    body: bytes | None = field(default=None, repr=False)

    def with_headers(self, **headers: str) -> Request:
        """Return the same request with more headers; an underscore stands for a hyphen."""
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return replace(self, headers={**self.headers, **more})


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response.

    Attributes:
        status: Its status.
        headers: By name in lower case.
        body: In full, decoded.
        is_open: It is an event stream, whose body is for ``Read``.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(default=b"", repr=False)
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """There was no answer, or it broke off.

    Attributes:
        what: In words.
        error: What the HTTP library raised.
        is_silence: Nothing broke: the time was up.
    """

    what: str
    error: Exception | None = None
    is_silence: bool = False


@dataclass(frozen=True, slots=True)
class AskToken:
    """Give the token, another one where there can be one if this one was rejected: ``str``."""

    rejected: str | None
    limit: float


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request and read the whole answer: ``Answer | Failure``."""

    request: Request
    limit: float


@dataclass(frozen=True, slots=True)
class Open:
    """Send a request and leave the body of its answer unread if it is an event stream: ``Answer | Failure``."""

    request: Request
    limit: float


@dataclass(frozen=True, slots=True)
class Read:
    """Read what has come of the open body, waiting for it: ``bytes | Failure``, no bytes at its end."""

    limit: float


@dataclass(frozen=True, slots=True)
class Cut:
    """End the open answer."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for some seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Tell:
    """Hand an event to the watcher."""

    event: Change | Reset


Step: TypeAlias = AskToken | Send | Open | Read | Cut | Wait | Tell
Steps: TypeAlias = Generator[Step, Any, T]
