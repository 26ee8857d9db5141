"""What passes between a device and the app, whichever framework that is made with."""

from __future__ import annotations

import json
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from types import TracebackType

__all__ = ["PATIENCE", "Application", "Listener", "Reply", "Request", "Subscription"]

PATIENCE: Final = 20.0
"""Seconds after which something that should have come by itself counts as missing; bounds a wait, and is none."""

_FAILED: Final = 400


@dataclass(frozen=True, slots=True)
class Request:
    """What a device sends.

    Attributes:
        method: The method.
        url: Absolute.
        headers: By name.
        body: Bytes.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
        return urlsplit(self.url).scheme

    @property
    def authority(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def raw_path(self) -> str:
        """The path as it is sent."""
        return urlsplit(self.url).path or "/"

    @property
    def path(self) -> str:
        """The path, decoded."""
        return unquote(self.raw_path)

    @property
    def query(self) -> str:
        """The query as it is sent."""
        return urlsplit(self.url).query

    @property
    def lines(self) -> list[tuple[str, str]]:
        """The header lines, with those that every client adds."""
        lines = [("host", urlsplit(self.url).netloc)]
        lines += [(name.lower(), value) for name, value in self.headers.items()]
        if self.body:
            lines.append(("content-length", str(len(self.body))))
        return lines


@dataclass(frozen=True, slots=True)
class Reply:
    """What the app answered.

    Attributes:
        status: The status code.
        headers: By name in lower case; several lines of one name are joined.
        body: Bytes.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)

    def ok(self) -> Any:
        """Return the JSON of an answer that must be a success.

        Raises:
            AssertionError: It is none; the message says what the app answered.
        """
        if self.status >= _FAILED:
            raise AssertionError(f"the app answered {self.status}: {self._reason()}")
        return self.json()

    def _reason(self) -> str:
        if not self.headers.get("content-type", "").startswith("application/problem+json"):
            return self.text[:2_000]
        problem = self.json()
        lines = [f"{problem.get('type', '').rpartition(':')[2]}, {problem.get('detail')}"]
        lines += [f"{error['pointer']}: {error['detail']}" for error in problem.get("errors", ())]
        return "\n  ".join(lines)


class Listener(Protocol):
    """Who takes what comes over a stream; called in a thread of the app's."""

    def started(self, reply: Reply) -> None:
        """Take the head of the answer; its body is empty."""

    def received(self, chunk: bytes) -> None:
        """Take some bytes."""

    def ended(self, error: BaseException | None) -> None:
        """Take note of the end: of the app's doing, or by an error in it."""


class Subscription(Protocol):
    """A stream that is open."""

    def close(self) -> None:
        """Go away, and return when the app has noticed."""


class Application(Protocol):
    """The host's app, run in this process."""

    def __enter__(self) -> object:
        """Start it."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""

    @abstractmethod
    def request(self, request: Request) -> Reply:
        """Answer a request. What the app raises is raised here."""

    @abstractmethod
    def listen(self, request: Request, listener: Listener) -> Subscription:
        """Open a stream."""

    @abstractmethod
    def run(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Run a coroutine on the event loop that the app's preferences live on, and return what it returns."""
