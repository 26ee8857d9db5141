"""Server-sent events are read as the HTML standard says, however the bytes arrive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsync.client.sse import EventParser, EventTooLargeError, ServerSentEvent

LINES = st.one_of(
    st.sampled_from(["", "data", "data:", "data: ", "event: change", "id: 7", "id: a\0b", "id", "retry: 12"]),
    st.sampled_from([": comment", ":", "retry: 1x", "retry: -1", "retry: ²", "DATA: x", " data: x", "event"]),
    st.text(max_size=8).map(lambda text: f"data:{text}"),
    st.text(max_size=8),
)
STREAMS = st.builds(
    lambda bom, lines: bom + b"".join(line.encode("utf-8", "replace") + end for line, end in lines),
    st.sampled_from([b"", b"\xef\xbb\xbf", b"\xef\xbb\xbf\xef\xbb\xbf"]),
    st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r", b"\r\n"]))),
)


def read(parser: EventParser, *pieces: bytes) -> list[ServerSentEvent]:
    """Feed pieces, and return all events."""
    return [event for piece in pieces for event in parser.feed(piece)]


def by_the_standard(stream: bytes) -> list[ServerSentEvent]:
    """Read a whole stream word for word as the standard's algorithm goes (section 9.2.6)."""
    text = stream.decode("utf-8", "replace")
    text = text.removeprefix("\ufeff")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")[:-1]
    data = name = last_event_id = ""
    events = []
    for line in lines:
        if line == "":
            if data != "":
                events.append(ServerSentEvent(name or "message", data.removesuffix("\n"), last_event_id))
            data = name = ""
        elif not line.startswith(":"):
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                name = value
            elif field == "data":
                data += value + "\n"
            elif field == "id" and "\0" not in value:
                last_event_id = value
    return events


@given(STREAMS | st.binary(), st.data())
def test_any_cut_gives_the_same_events(stream: bytes, data: st.DataObject) -> None:
    """However a stream is cut, inside of characters and line ends too, its events are those of the standard."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert read(EventParser(), *pieces) == by_the_standard(stream)


def test_the_standards_examples() -> None:
    """The standard's own examples come out as it says."""
    assert read(EventParser(), b"data: YHOO\ndata: +2\ndata: 10\n\n") == [
        ServerSentEvent("message", "YHOO\n+2\n10", "")
    ]
    stream = b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n"
    assert read(EventParser(), stream) == [
        ServerSentEvent("message", "first event", "1"),
        ServerSentEvent("message", "second event", ""),
    ]
    assert [event.data for event in read(EventParser(), b"data\n\ndata\ndata\n\ndata:")] == ["", "\n"]
    assert [event.data for event in read(EventParser(), b"data:test\n\ndata: test\n\n")] == ["test", "test"]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_an_event_is_there_with_its_last_byte(end: bytes) -> None:
    """Nothing is held back until more comes: a lone CR may be the end, and a later LF is no second one."""
    parser = EventParser()
    assert read(parser, b"data: a", end) == []
    assert [event.data for event in read(parser, end[:1])] == ["a"]
    assert [event.data for event in read(parser, end[1:], b"data: b", end, end)] == ["b"]


def test_retry() -> None:
    """The reconnection time is the last one given in digits alone."""
    parser = EventParser()
    parser.feed(b"retry: 1500\nretry: 2x\nretry:\nretry: +3\n")
    assert parser.retry == 1500


def test_an_event_without_an_end() -> None:
    """An event that grows without bounds is given up; comments, of any number, are none."""
    parser = EventParser(most=1_000)
    for _ in range(500):
        parser.feed(b": still here\n")
    with pytest.raises(EventTooLargeError):
        read(parser, *[b"data: 0123456789\n"] * 200)
    with pytest.raises(EventTooLargeError):
        EventParser(most=1_000).feed(b"x" * 1_001)
