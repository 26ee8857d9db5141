"""Frames that clients send over a WebSocket, read strictly (protocol.md section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from prefsync.errors import MalformedError
from prefsync.http.parameters import KEY, ORIGIN
from prefsync.strictjson import MAX_INTEGER, parse

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Close",
    "Frame",
    "FrameError",
    "Hello",
    "Pace",
    "Patch",
    "Ping",
    "Token",
    "interpret",
    "read_frame",
    "read_hello",
]


_MOST_IN_A_SECOND: Final = 100


class Close(IntEnum):
    """Why a WebSocket is closed; those below 4000 are RFC 6455's, section 7.4.1, and IANA's."""

    GOING_AWAY = 1001
    TOO_BIG = 1009
    TRY_AGAIN = 1013
    BAD_FRAME = 4400
    UNAUTHENTICATED = 4401
    FORBIDDEN = 4403
    NO_HELLO = 4408
    TOO_MANY = 4429


class FrameError(Exception):
    """A frame that ends the connection.

    Args:
        code: To close with.
        message: What was wrong, at most 123 bytes.
    """

    def __init__(self, code: Close, message: str) -> None:
        super().__init__(message)
        self.code = code


class Pace:
    """Holds a client to 100 frames in a second, whenever that second begins."""

    __slots__ = ("_times",)

    def __init__(self) -> None:
        self._times: list[float] = []

    def count(self, now: float) -> None:
        """Count a frame.

        Args:
            now: In seconds, of a clock that never goes back.

        Raises:
            FrameError: There were more within the last second.
        """
        times = self._times
        if times and now - times[-1] >= 1:
            times.clear()
        times.append(now)
        if len(times) > _MOST_IN_A_SECOND and now - times.pop(0) < 1:
            raise FrameError(Close.TOO_MANY, f"more than {_MOST_IN_A_SECOND} frames in a second")


@dataclass(frozen=True, slots=True)
class Hello:
    """The first frame.

    Attributes:
        token: A bearer token.
        since: The revision that the client has.
        schema: The schema tag that it has.
        client: The name it gives itself.
    """

    token: str | None = None
    since: int | None = None
    schema: str | None = None
    client: str | None = None


@dataclass(frozen=True, slots=True)
class Patch:
    """A write.

    Attributes:
        id: Its idempotency key.
        patch: A merge patch over namespaces.
        if_revision: The revision that it was made upon, where that is a condition.
    """

    id: str
    patch: dict[str, Any]
    if_revision: int | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """A fresh token."""

    token: str


@dataclass(frozen=True, slots=True)
class Ping:
    """A question whether the server lives."""


Frame: TypeAlias = Hello | Patch | Token | Ping


def read_frame(message: str | bytes, limit: int) -> Frame:
    """Read a message.

    Args:
        message: As it came.
        limit: The most bytes it may have.

    Raises:
        FrameError: It is none of the protocol's frames.
    """
    if isinstance(message, bytes):
        raise FrameError(Close.BAD_FRAME, "send text frames, not binary ones")
    if len(message) > limit:
        raise _too_big(limit)
    raw = message.encode("utf-8", "surrogatepass")
    if len(raw) > limit:
        raise _too_big(limit)
    try:
        members = parse(raw, cuts=True)  # what is wrong inside of a patch ends no connection
    except MalformedError as error:
        raise FrameError(Close.BAD_FRAME, str(error)[:120]) from None
    return interpret(members)


def interpret(members: Any) -> Frame:
    """Read a message that was parsed already.

    Raises:
        FrameError: It is none of the protocol's frames.
    """
    if not isinstance(members, dict):
        raise FrameError(Close.BAD_FRAME, "a frame must be a JSON object")
    match members.get("type"):
        case "hello":
            return read_hello(members)
        case "patch":
            return read_patch(members)
        case "token":
            return Token(_member(members, "token", _is_token))
        case "ping":
            return Ping()
        case _:
            raise FrameError(Close.BAD_FRAME, "the type must be hello, patch, token or ping")


def read_hello(members: dict[str, Any]) -> Hello:
    """Read a hello's members.

    Raises:
        FrameError: One has another form.
    """
    return Hello(
        _member(members, "token", _is_token, None),
        _member(members, "since", _is_revision, None),
        _member(members, "schema", _is_text, None),
        _member(members, "client", _is_origin, None),
    )


def read_patch(members: dict[str, Any]) -> Patch:
    """Read a write's members.

    Raises:
        FrameError: One is missing, or has another form.
    """
    return Patch(
        _member(members, "id", _is_key),
        _member(members, "patch", _is_object),
        _member(members, "if_revision", _is_revision, None),
    )


_REQUIRED: Final = object()


def _member(
    members: dict[str, Any], name: str, fits: Callable[[Any], bool], default: object = _REQUIRED
) -> Any:
    if name not in members:
        if default is _REQUIRED:
            raise FrameError(Close.BAD_FRAME, f"the member {name} is missing")
        return default
    if not fits(members[name]):
        raise FrameError(Close.BAD_FRAME, f"the member {name} has another form than the protocol's")
    return members[name]


def _too_big(limit: int) -> FrameError:
    return FrameError(Close.TOO_BIG, f"a frame may have at most {limit} bytes")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_token(value: Any) -> bool:
    return isinstance(value, str) and value.isascii() and value != ""


def _is_origin(value: Any) -> bool:
    return isinstance(value, str) and ORIGIN.fullmatch(value) is not None


def _is_key(value: Any) -> bool:
    return isinstance(value, str) and KEY.fullmatch(value) is not None


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_revision(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_INTEGER
