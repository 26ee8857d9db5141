"""Packets that clients send, checked before python-socketio sees them, and those that are sent to many.

Its parsers take what the protocol's rules for bodies refuse (duplicate names, ``NaN``), gather binary attachments
without a bound, and log what they fail on with a traceback. Engine.IO protocol 4, Socket.IO protocol 5.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from prefsync.errors import MalformedError
from prefsync.http.frames import Close, FrameError
from prefsync.http.rendering import render_change, render_update
from prefsync.strictjson import encode, parse

if TYPE_CHECKING:
    from prefsync.catchup import Joined
    from prefsync.channel import Update

__all__ = [
    "NAMESPACE",
    "SEPARATOR",
    "Kind",
    "Message",
    "event",
    "read_packet",
    "update_event",
    "welcome_event",
]

NAMESPACE: Final = "/preferences"

# Between the packets of one payload of HTTP long-polling.
SEPARATOR: Final = "\x1e"

# Engine.IO packets that carry no message: close, the probe of an upgrade, pong, upgrade.
_BARE: Final = frozenset({"1", "2probe", "3", "5"})

# A Socket.IO packet: type, namespace, acknowledgement id, data. Names and ids are shorter than this in every client.
_MESSAGE: Final = re.compile(r"4([0-6])(?:(/[^,]{0,127})(?:,|\Z))?([0-9]{0,15})(.*)\Z", re.DOTALL)


class Kind(Enum):
    """What a client may send."""

    CONNECT = "0"
    DISCONNECT = "1"
    EVENT = "2"


@dataclass(frozen=True, slots=True)
class Message:
    """A Socket.IO packet.

    Attributes:
        kind: What it is.
        namespace: Which namespace it is for.
        data: Of a connect: what authenticates, or ``None``; of an event: its name and arguments.
    """

    kind: Kind
    namespace: str
    data: Any = None


def read_packet(text: str) -> Message | None:
    """Read an Engine.IO packet; ``None`` where it carries no message.

    Raises:
        FrameError: It is broken, or none that a client of this protocol sends.
    """
    if text in _BARE:
        return None
    match = _MESSAGE.match(text)
    if match is None:
        raise _bad("no packet of Engine.IO 4 and Socket.IO 5 that a client sends")
    number, namespace, acknowledgement, rest = match.groups()
    # A query behind a namespace's name is no part of it.
    namespace = (namespace or "/").partition("?")[0]
    data = _parse(rest) if rest else None
    match number:
        case Kind.CONNECT.value if not acknowledgement and (data is None or isinstance(data, dict)):
            return Message(Kind.CONNECT, namespace, data)
        case Kind.DISCONNECT.value if not acknowledgement and not rest:
            return Message(Kind.DISCONNECT, namespace)
        case Kind.EVENT.value if isinstance(data, list) and data and isinstance(data[0], str):
            return Message(Kind.EVENT, namespace, data)
        case _:
            raise _bad("not a connect, a disconnect or an event in text")


def event(name: str, data: bytes) -> str:
    """Write an event of the protocol's namespace.

    Args:
        name: Its name.
        data: Its argument, as JSON.
    """
    return f'2{NAMESPACE},["{name}",{data.decode()}]'


def update_event(update: Update) -> str:
    """Write what a session is told of."""
    return event("reset" if update.snapshot is not None else "change", update.form(render_update))


def welcome_event(joined: Joined, schema: str) -> str:
    """Write what a session is greeted with that was reset by nothing."""
    changes = [render_change(change) for change in joined.changes]
    return event("welcome", encode({"revision": joined.revision, "schema": schema, "changes": changes}))


def _parse(text: str) -> Any:
    try:
        return parse(text.encode("utf-8", "surrogatepass"), cuts=True)
    except MalformedError as error:
        raise _bad(str(error)[:120]) from None


def _bad(message: str) -> FrameError:
    return FrameError(Close.BAD_FRAME, message)
