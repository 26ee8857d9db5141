"""What two versions of prefsync tell each other in a rolling deploy."""

from __future__ import annotations

from typing import Any

import pytest

from prefsync import Subject
from prefsync.adapters.announcements import key_of, pack, unpack
from prefsync.document import Change
from prefsync.ports import Announcement
from prefsync.strictjson import decode, encode

CHANGE = Change(2, 1, 2, "tab-1", {"appearance": {"theme": "dark"}})
TRACE = f"00-{'a' * 32}-{'b' * 16}-01"


def test_without_a_trace_nothing_is_added() -> None:
    """Where telemetry is off, a message is what it was before there were traces."""
    message = pack(Announcement(Subject("alice", "acme"), CHANGE, 2))
    assert decode(message[len(key_of(message)) :]) == [2, "acme", "alice", CHANGE.to_json()]


def test_a_trace_comes_last() -> None:
    """It stands behind all else, and comes back."""
    sent = Announcement(Subject("alice"), CHANGE, 2, TRACE)
    assert decode(pack(sent)[len(sent.subject.key) :])[4:] == [TRACE]
    received = unpack(pack(sent))
    assert received == sent


@pytest.mark.parametrize("more", [[None], [1], [{"trace": 1}], [TRACE, "of a later version", {}]])
def test_what_is_not_understood_is_passed_over(more: list[Any]) -> None:
    """A later version may say more: the change is taken all the same."""
    subject = Subject("alice")
    received = unpack(subject.key.encode() + encode([2, None, "alice", CHANGE.to_json(), *more]))
    assert received is not None
    assert received.change == CHANGE
    assert received.trace == (TRACE if more[0] == TRACE else None)
