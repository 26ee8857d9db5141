"""The checker of histories finds what is wrong in made-up ones, and nothing in a right one."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tests.faults.history import (
    Change,
    Event,
    HistoryError,
    Read,
    Reset,
    Write,
    count_folded,
    event_of,
    faults_of_history,
    faults_of_session,
    judge,
    lags,
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
def test_nothing_is_wrong_with_a_right_session(events: list[Event]) -> None:
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
def test_what_is_wrong_with_a_session_is_found(events: list[Event], fault: str) -> None:
    """Gaps, repetitions, ways back, what is left out and what was never written are each found."""
    assert fault in "; ".join(faults_of_session(events, FINAL))


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


# --- All clients of a user --------------------------------------------------------------------------------------------

# Time runs from left to right:
#
#   0    1    2    3    4    5    6    7    8    9
#   |-- one --|
#             |-- two (upon 11) --|
#        |-- unknown: done ...
#                       |-- unknown: not done ...
#                       |---------|  refused
#                                 |-- three --|
BEGIN = Reset(10, {"plugins": {}})
ONE = Write(0, 2, {"plugins": {"a": 1}}, 11)
TWO = Write(2, 6, {"plugins": {"a": 2, "b": 2}}, 12, upon=11)
DONE = Write(1, math.inf, {"plugins": {"c": 3, "d": 3}})
NOT_DONE = Write(4, math.inf, {"plugins": {"c": 4}})
REFUSED = Write(4, 6, {"plugins": {"c": 5}}, upon=10, is_refused=True)
THREE = Write(6, 8, {"plugins": {"a": 6}}, 14)
WRITES = [ONE, TWO, DONE, NOT_DONE, REFUSED, THREE]

FEED = [
    Change(11, 10, ONE.values, {}),
    Change(12, 11, TWO.values, {}),
    Change(13, 12, DONE.values, {}),
    Change(14, 13, THREE.values, {}),
]
AT_12 = {"plugins": {"a": 2, "b": 2}}
AT_14 = {"plugins": {"a": 6, "b": 2, "c": 3, "d": 3}}
END = Reset(14, AT_14)
READS = [
    Read(0, 1, 10, {"plugins": {}}),
    Read(2, 3, 11, {"plugins": {"a": 1}}),  # the next write is under way, and has not been seen
    Read(3, 4, 12, AT_12),  # the same, and it has
    Read(9, 9.5, 11, {"plugins": {"a": 1}}, is_marked=True),
    Read(9, 9.5, 14, AT_14, at_least=14),
]


def test_nothing_is_wrong_with_a_right_history() -> None:
    """Writes whose outcome nobody knows may have been done or not; marked reads may be old."""
    assert faults_of_history(WRITES, READS, BEGIN, FEED, END) == []
    assert max(behind for _, behind in lags(WRITES, READS)) == 0


def without(left_out: Change) -> list[Change]:
    """Return a feed that lost a change without a trace."""
    feed: list[Change] = []
    for change in FEED:
        if change is not left_out:
            feed.append(replace(change, previous=feed[-1].revision if feed else BEGIN.revision))
    return feed


WRITTEN_TWICE = [*FEED, Change(15, 14, DONE.values, {})]


@pytest.mark.parametrize(
    ("writes", "feed", "fault"),
    [
        (WRITES, without(FEED[0]), "missing: Write(begin=0, end=2"),
        (WRITES, FEED[:3], "missing: Write(begin=6, end=8"),
        (WRITES, [FEED[0], *FEED[2:]], "13 follows 12, but 11 is before it"),
        (WRITES, [FEED[1], FEED[0], *FEED[2:]], "12 follows 11, but 10 is before it"),
        (WRITES, [FEED[0], FEED[0], *FEED[1:]], "11 follows 10, but 11 is before it"),
        (WRITES, FEED[:3], "the feed ends at 13, the state is of 14"),
        (
            WRITES,
            [*FEED[:3], Change(14, 13, {"plugins": {"a": 7}}, {})],
            "the feed ends with plugins/a: 7 for 6",
        ),
        (
            WRITES,
            [*FEED[:3], Change(14, 13, {"plugins": {"a": 7}}, {})],
            "not as acknowledged: Write(begin=6",
        ),
        (
            WRITES,
            [*FEED[:2], Change(13, 12, {"plugins": {"c": 3}}, {}), FEED[3]],
            "a part of a write: Change(revision=13",
        ),
        (
            WRITES,
            [*FEED[:2], Change(13, 12, {"plugins": {"x": 1}}, {}), FEED[3]],
            "nobody wrote: Change(revision=13",
        ),
        (WRITES, [*FEED[:2], Change(13, 12, DONE.values, {"plugins": ["b"]}), FEED[3]], "Change(revision=13"),
        (WRITES, WRITTEN_TWICE, "written twice: Write(begin=1"),
        (
            WRITES,
            [*FEED[:2], Change(13, 12, REFUSED.values, {}), FEED[3]],
            "refused, and written all the same",
        ),
        ([*WRITES[:-1], replace(THREE, revision=12)], FEED, "2 writes were acknowledged with 12"),
        ([ONE, replace(TWO, upon=10), *WRITES[2:]], FEED, "lost update: 12 was to be upon 10, and hides 11"),
        (
            [*WRITES[:2], replace(DONE, upon=11), *WRITES[3:]],
            FEED,
            "lost update: 13 was to be upon 11, and hides 12",
        ),
        (
            [replace(ONE, begin=7, end=7.5), *WRITES[1:]],
            FEED,
            "out of order: 12 was known before Write(begin=7",
        ),
    ],
)
def test_what_is_wrong_with_writes_is_found(writes: list[Write], feed: list[Change], fault: str) -> None:
    """What is lost, half done, done twice, done though refused, hidden, or in an order that was not."""
    assert fault in "; ".join(faults_of_history(writes, READS, BEGIN, feed, END))


@pytest.mark.parametrize(
    ("read", "fault"),
    [
        (Read(2.5, 3, 10, {"plugins": {}}), "read 10 0.50 s after something newer was known"),
        (Read(4.5, 5, 11, {"plugins": {"a": 1}}), "read 11 0.50 s after"),  # somebody has read 12
        (Read(9, 9.5, 13, AT_12, is_marked=True), "read at 13 plugins/c: None for 3, plugins/d: None for 3"),
        (
            Read(9, 9.5, 13, {"plugins": {**AT_12["plugins"], "c": 3}}, is_marked=True),
            "plugins/d: None for 3",
        ),
        (Read(9, 9.5, 15, AT_14), "read 15, which never was"),
        (Read(9, 9.5, 12, AT_12, at_least=14, is_marked=True), "read 12 instead of 14 or later"),
        (Read(0, 1.5, 12, AT_12), "read 12 before it was written"),
    ],
)
def test_what_is_wrong_with_a_read_is_found(read: Read, fault: str) -> None:
    """What is old, half of a state, of no state, or of one that was yet to come."""
    assert fault in "; ".join(faults_of_history(WRITES, [*READS, read], BEGIN, FEED, END))


def test_a_read_may_be_behind_as_long_as_is_allowed() -> None:
    """The allowance is for unmarked reads without a demand, from when something newer was known."""
    old = Read(2.5, 3, 10, {"plugins": {}})
    assert faults_of_history(WRITES, [*READS, old], BEGIN, FEED, END, lag=0.5) == []
    assert faults_of_history(WRITES, [*READS, old], BEGIN, FEED, END, lag=0.4) != []
    demanding = replace(old, at_least=11)
    assert faults_of_history(WRITES, [*READS, demanding], BEGIN, FEED, END, lag=0.5) != []


def test_a_write_after_a_read_is_newer() -> None:
    """Who has read a revision and writes then gets a later one, whoever it is."""
    early = Read(3, 3.5, 14, AT_14)
    assert "out of order: 14 was known" in "; ".join(
        faults_of_history(WRITES, [*READS, early], BEGIN, FEED, END, lag=60)
    )


def test_what_is_wrong_is_raised() -> None:
    """Faults fail a test with their words, in an error of its own kind; none is no error."""
    judge([])
    with pytest.raises(HistoryError, match="lost"):
        judge(["lost: a write"])
