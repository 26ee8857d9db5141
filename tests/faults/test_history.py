"""The checker of histories finds what is wrong in made-up ones, and nothing in a right one."""

from __future__ import annotations

import pytest

from tests.faults.history import (
    Ack,
    Change,
    Event,
    Reset,
    count_folded,
    event_of,
    faults_of_log,
    faults_of_session,
)

START = Reset(10, {"plugins": {"old": 0}, "look": {"theme": "light"}})
FINAL = Reset(13, {"plugins": {"a": 1, "b": 2}, "look": {"theme": "light"}})

FIRST = Change(11, 10, {"plugins": {"a": 1}}, {})
SECOND = Change(12, 11, {"plugins": {"b": 2}}, {})
THIRD = Change(13, 12, {}, {"plugins": ["old"]})
FOLDED = Change(13, 11, {"plugins": {"b": 2}}, {"plugins": ["old"]})


@pytest.mark.parametrize(
    "events",
    [
        [START, FIRST, SECOND, THIRD],
        [START, FIRST, FOLDED],
        [START, FIRST, Reset(12, {"plugins": {"old": 0, "a": 1, "b": 2}, "look": {"theme": "light"}}), THIRD],
        [FINAL],
        [START, FINAL],
    ],
)
def test_nothing_is_wrong_with_a_right_history(events: list[Event]) -> None:
    """Single changes, folded ones and resets that lead to the final state are all right."""
    assert faults_of_session(events, FINAL) == []


@pytest.mark.parametrize(
    ("events", "fault"),
    [
        ([], "ends at None"),
        ([FIRST, SECOND, THIRD], "comes before any state"),
        ([START, FIRST, THIRD], "change 13 follows 12, but the session has 11"),
        ([START, FIRST, FIRST, SECOND, THIRD], "change 11 comes twice"),
        ([START, FIRST, SECOND, FIRST, THIRD], "change 11 comes after 12"),
        ([START, FIRST, SECOND], "ends at 12, not at 13"),
        ([START, FIRST, SECOND, START, FIRST, SECOND, THIRD], "goes back from 12 to 10"),
        ([START, FIRST, Change(12, 11, {"plugins": {"b": 3}}, {}), THIRD], "plugins/b: 3 for 2"),
        ([START, FIRST, SECOND, Change(13, 12, {}, {})], "plugins/old: 0 for None"),
        ([START, Change(13, 10, FOLDED.changed, FOLDED.removed)], "plugins/a: None for 1"),
    ],
)
def test_what_is_wrong_is_found(events: list[Event], fault: str) -> None:
    """Gaps, repetitions, ways back, what is left out and what was never written are each found."""
    assert fault in "; ".join(faults_of_session(events, FINAL))


LOG = [FIRST, SECOND, Change(13, 12, {"plugins": {"c": 3}}, {})]
ACKS = [Ack(11, "plugins", "a", 1), Ack(12, "plugins", "b", 2), Ack(13, "plugins", "c", 3)]


def test_nothing_is_wrong_with_a_right_log() -> None:
    """Where each acknowledged write is in the log, and nothing else, all is well."""
    assert faults_of_log(LOG, ACKS, FINAL) == []


@pytest.mark.parametrize(
    ("log", "acks", "fault"),
    [
        (LOG[:2], ACKS, "missing: Ack(revision=13"),
        ([FIRST, Change(13, 12, {"plugins": {"c": 3}}, {})], ACKS, "13 follows 12, but 11 is before it"),
        ([FIRST, Change(12, 11, {"plugins": {"b": 4}}, {}), LOG[2]], ACKS, "missing: Ack(revision=12"),
        (LOG, ACKS[:2], "nobody was acknowledged [13]"),
        (LOG, [*ACKS, Ack(12, "plugins", "b", 2)], "two writes were acknowledged with one revision"),
        (LOG[:2], ACKS[:2], "the log ends at 12, the state is of 13"),
    ],
)
def test_what_is_wrong_with_a_log_is_found(log: list[Change], acks: list[Ack], fault: str) -> None:
    """Acknowledged writes that are not in the log, or twice, a break, and what nobody wrote are each found."""
    assert fault in "; ".join(faults_of_log(log, acks, FINAL))


def test_folded_changes_are_counted() -> None:
    """A change counts as folded where the log has others on its way."""
    assert count_folded([START, FIRST, SECOND], [FIRST, SECOND, THIRD]) == 0
    assert count_folded([START, FIRST, FOLDED], [FIRST, SECOND, THIRD]) == 1


def test_messages_are_read() -> None:
    """What the protocol sends becomes what the checker checks."""
    change = {
        "revision": 11,
        "previous": 10,
        "at": "",
        "origin": None,
        "changed": {"plugins": {"a": 1}},
        "removed": {},
    }
    assert event_of(change) == FIRST
    assert event_of({"type": "reset", "revision": 13, "schema": "t", "values": FINAL.values}) == FINAL
