"""How often a client may send."""

from __future__ import annotations

import pytest

from prefsync.http.frames import Close, FrameError, Pace


def test_a_hundred_frames_in_a_second_are_fine_and_no_more() -> None:
    """The hundred and first within a second is one too many, wherever a clock's second begins."""
    pace = Pace()
    for number in range(100):
        pace.count(10.95 + number / 1000)
    with pytest.raises(FrameError) as refusal:
        pace.count(11.9)
    assert refusal.value.code is Close.TOO_MANY


def test_a_steady_hundred_a_second_goes_on_for_ever() -> None:
    """Who sends a little less than that is never stopped, and what is kept of it stays small."""
    pace = Pace()
    for number in range(10_000):
        pace.count(number / 99)
    assert len(pace._times) <= 100


def test_after_a_pause_the_count_begins_anew() -> None:
    """A hundred at once, a second's pause, and a hundred again."""
    pace = Pace()
    for now in (5.0, 6.0, 7.5):
        for _ in range(100):
            pace.count(now)
