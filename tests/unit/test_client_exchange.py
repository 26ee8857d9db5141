"""How a client gives up: its rules, driven without a network."""

from __future__ import annotations

import pytest

from prefsync.client import RefusedError, UnreachableError
from prefsync.client.core import ClientCore
from prefsync.client.messages import Answer, AskToken, Failure, Send, Wait

REFUSED = Failure("ConnectError: refused", ConnectionError("refused"))
BUSY = Answer(
    503, {"content-type": "application/problem+json"}, b'{"type":"urn:prefsync:unavailable","title":"Busy"}'
)


def give_up(*came: Answer | Failure | None) -> Exception:
    """Let a read get these answers, ``None`` for silence; with the last one, its time is up.

    Returns:
        What it raised.
    """
    now = 0.0
    steps = ClientCore("http://example.com/preferences", time_limit=10.0, now=lambda: now).read(None)
    answers = list(came)

    def drive() -> None:
        nonlocal now
        result: object = None
        while True:
            match steps.send(result):
                case AskToken():
                    result = "token"
                case Wait():
                    result = None
                case Send(limit=limit):
                    result = answers.pop(0) or Failure(f"no whole answer in {limit:.3g} s", is_silence=True)
                    now = 0.0 if answers else 10.0
                case step:
                    pytest.fail(f"a read does not {step}")

    with pytest.raises((RefusedError, UnreachableError)) as caught:
        drive()
    assert not answers
    return caught.value


def test_the_reason_outlives_an_attempt_cut_short() -> None:
    """The last attempt may have a millisecond: that it came to nothing in it explains nothing."""
    error = give_up(REFUSED, None)
    assert "after ConnectError: refused" in str(error)
    assert error.__cause__ is REFUSED.error


def test_silence_does_not_hide_what_was_before() -> None:
    """Silence again and again is told with the last thing that was no silence."""
    assert "after status 503" in str(give_up(REFUSED, BUSY, None, None))


@pytest.mark.parametrize(
    ("came", "words"),
    [((None,), "no whole answer in 10 s"), ((BUSY, REFUSED), "limit: ConnectError: refused")],
    ids=["silence alone", "a failure at the end"],
)
def test_without_an_earlier_reason(came: tuple[Answer | Failure | None, ...], words: str) -> None:
    """What failed last is told by itself where it says enough, or where there is nothing else."""
    error = give_up(*came)
    assert isinstance(error, UnreachableError)
    assert words in str(error)
    assert "after" not in str(error)


def test_a_busy_server() -> None:
    """Who answers is not unreachable, whatever was before."""
    assert isinstance(give_up(REFUSED, None, BUSY), RefusedError)
