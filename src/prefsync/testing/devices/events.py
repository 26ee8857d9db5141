"""Events of a stream, as devices read them: by the rules of the HTML standard that this protocol makes use of.

The Python client's parser knows all of them, but belongs to an extra that a host's tests need not have.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Event", "EventReader"]


class Event(NamedTuple):
    """An event.

    Attributes:
        name: Its type.
        data: Its data, JSON as text.
    """

    name: str
    data: str


class EventReader:
    """Reads one stream, however its bytes are cut."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[Event]:
        """Take the next bytes, and return the events that they complete."""
        *blocks, self._rest = (self._rest + chunk).split(b"\n\n")
        events = [_event(block.decode()) for block in blocks]
        return [event for event in events if event.data]


def _event(block: str) -> Event:
    """Read the lines of a block; one of comments or of ``retry`` alone is an event without data."""
    fields: dict[str, list[str]] = {}
    for line in block.split("\n"):
        name, _, value = line.partition(":")
        fields.setdefault(name, []).append(value.removeprefix(" "))
    return Event(fields.get("event", ["message"])[-1], "\n".join(fields.get("data", [])))
