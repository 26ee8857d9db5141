"""Server-sent events from bytes (HTML standard, section 9.2.6): pure, and the same for any way the bytes are cut."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import Final

__all__ = ["EventParser", "EventTooLargeError", "ServerSentEvent"]

_LINE_END: Final = re.compile(r"\r\n|\r|\n")

# A thousand changes folded into one are no larger than a document; this is far beyond any that a host would allow.
_MOST: Final = 64 * 1024 * 1024


class EventTooLargeError(ValueError):
    """An event without an end: whatever sends it, it is no event stream of ours."""


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """An event.

    Attributes:
        name: Its type, ``message`` where none was given.
        data: Its lines, joined.
        last_event_id: The newest id that the stream has given.
    """

    name: str
    data: str
    last_event_id: str


class EventParser:
    """Reads one stream; a new connection needs a new one.

    Args:
        most: Characters that an unfinished event may have.

    Attributes:
        retry: The reconnection time that the stream asks for, in ms.
    """

    def __init__(self, most: int = _MOST) -> None:
        self.retry: int | None = None
        self._most = most
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._is_at_start = True
        self._is_after_cr = False
        self._line: list[str] = []
        self._size = 0
        self._name = ""
        self._data: list[str] = []
        self._id = ""

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Take the next bytes, and return the events that they complete.

        Raises:
            EventTooLargeError: An event has become too large; there is no going on.
        """
        text = self._decoder.decode(data)
        if self._is_at_start and text:
            self._is_at_start = False
            text = text.removeprefix("\ufeff")
        if self._is_after_cr and text:
            self._is_after_cr = False
            text = text.removeprefix("\n")
        if not text:
            return []
        self._is_after_cr = text.endswith("\r")
        *ended, rest = _LINE_END.split(text)
        events = []
        for part in ended:
            self._keep(part)
            line = "".join(self._line)
            self._line.clear()
            if line:
                self._take(line)
            elif (event := self._dispatch()) is not None:
                events.append(event)
        self._keep(rest)
        return events

    def _keep(self, part: str) -> None:
        self._size += len(part)
        if self._size > self._most:
            raise EventTooLargeError(f"an event has more than {self._most} characters")
        self._line.append(part)

    def _take(self, line: str) -> None:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "":
                self._size -= len(line)  # a comment; any number of them may come
            case "event":
                self._name = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdigit():
                self.retry = int(value[:9])
            case _:
                pass

    def _dispatch(self) -> ServerSentEvent | None:
        data, name = self._data, self._name or "message"
        self._data, self._name, self._size = [], "", 0
        # Lines without text count: "data" alone is an event whose data is empty, as is no event without any.
        return ServerSentEvent(name, "\n".join(data), self._id) if data else None
