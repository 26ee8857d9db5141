"""A part that is down costs a bounded wait, then none."""

from __future__ import annotations

import anyio
import pytest

from prefsync.errors import FieldError, InvalidPreferencesError, UnavailableError
from prefsync.resilience import Breaker, Guard
from prefsync.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    """A clock that the test moves."""
    return FakeClock()


def is_open(breaker: Breaker) -> bool:
    """Tell whether a caller is spared the wait."""
    try:
        breaker.check()
    except UnavailableError:
        return True
    return False


def test_a_single_failure_is_no_outage(clock: FakeClock) -> None:
    """Two failures leave the breaker shut, an answer between them starts the count again, three in a row open it."""
    breaker = Breaker("database", clock)
    for _ in range(2):
        breaker.failed()
        breaker.failed()
        assert not is_open(breaker)
        assert not breaker.is_down
        breaker.succeeded()
    for _ in range(3):
        assert not breaker.is_down
        breaker.failed()
    assert breaker.is_down
    assert is_open(breaker)


def test_one_caller_tries_while_the_others_are_spared(clock: FakeClock) -> None:
    """After the pause one caller gets through; until it has found out, the next ones are refused at once."""
    breaker = Breaker("database", clock)
    for _ in range(3):
        breaker.failed()
    clock.advance(0.2)
    assert is_open(breaker)
    clock.advance(0.06)
    assert not is_open(breaker)
    assert [is_open(breaker) for _ in range(10)] == [True] * 10
    breaker.succeeded()
    assert [is_open(breaker) for _ in range(10)] == [False] * 10
    assert not breaker.is_down


def test_pauses_grow_to_a_second_and_no_further(clock: FakeClock) -> None:
    """The part is tried again after 0.25, 0.5, and then every second, so that service is back within two."""
    breaker = Breaker("database", clock)
    for _ in range(3):
        breaker.failed()
    pauses = []
    for _ in range(6):
        waited = 0.0
        while is_open(breaker):
            clock.advance(0.01)
            waited += 0.01
        pauses.append(round(waited, 1))
        breaker.failed()
    assert pauses[0] == pytest.approx(0.25, abs=0.06)
    assert pauses[1] == pytest.approx(0.5, abs=0.06)
    assert pauses[2:] == [1.0] * 4
    breaker.succeeded()
    for _ in range(3):
        breaker.failed()
    clock.advance(0.26)
    assert not is_open(breaker), "after a success the pauses begin anew"


def test_a_caller_who_never_reports_does_not_shut_the_others_out(clock: FakeClock) -> None:
    """Where the one who tries is cancelled, another one tries after a pause."""
    breaker = Breaker("database", clock)
    for _ in range(3):
        breaker.failed()
    for _ in range(3):
        clock.advance(1.01)
        assert not is_open(breaker)
        assert is_open(breaker)


def test_the_wall_clock_does_not_matter(clock: FakeClock) -> None:
    """Setting the machine's clock back or ahead neither shuts a part out nor lets callers through."""
    breaker = Breaker("database", clock)
    for _ in range(3):
        breaker.failed()
    clock.set(0)
    clock.advance(0.26)
    assert not is_open(breaker)
    breaker.failed()
    clock.set(9_000_000_000_000)
    assert is_open(breaker)


def test_the_error_names_the_part(clock: FakeClock) -> None:
    """The error says which part is out of reach, as users know it."""
    breaker = Breaker("cache", clock)
    for _ in range(3):
        breaker.failed()
    with pytest.raises(UnavailableError, match="the cache is out of reach") as caught:
        breaker.check()
    assert caught.value.part == "cache"
    assert caught.value.retry_after >= 1


async def answer() -> str:
    """Be a part that is well."""
    await anyio.lowlevel.checkpoint()
    return "answer"


async def fail() -> None:
    """Be a part that knows that it is not."""
    raise UnavailableError("something inside")


async def test_a_guarded_call_returns_its_result() -> None:
    """What the part answers comes back."""
    assert await Guard("database", 5)(answer()) == "answer"


async def test_a_call_that_hangs_ends_in_time() -> None:
    """A call that does not end is cancelled after the limit and told as unavailable."""
    guard = Guard("database", 0.02)
    cancelled = anyio.Event()

    async def hang() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    with anyio.fail_after(5), pytest.raises(UnavailableError) as caught:
        await guard(hang())
    assert caught.value.part == "database"
    assert cancelled.is_set()


async def test_a_part_that_is_down_is_not_asked(clock: FakeClock) -> None:
    """After three failures calls fail at once without being begun, until it is time to try."""
    guard = Guard("database", 5, clock)
    begun = 0

    async def count() -> None:
        nonlocal begun
        begun += 1

    for _ in range(3):
        with pytest.raises(UnavailableError):
            await guard(fail())
    for _ in range(10):
        with pytest.raises(UnavailableError):
            await guard(count())
    assert begun == 0
    clock.advance(0.3)
    await guard(count())
    await guard(count())
    assert begun == 2


async def test_the_guard_names_its_own_part() -> None:
    """Whatever the adapter calls itself, users hear of the part that they know, with the cause attached."""
    with pytest.raises(UnavailableError) as caught:
        await Guard("database", 5)(fail())
    assert caught.value.part == "database"
    assert isinstance(caught.value.__cause__, UnavailableError)


async def test_other_errors_are_no_outage(clock: FakeClock) -> None:
    """A refusal or a bug is passed on as it is and does not count against the part."""
    guard = Guard("database", 5, clock)

    async def refuse() -> None:
        raise InvalidPreferencesError([FieldError("/a", "x", "y")])

    async def stumble() -> None:
        raise ZeroDivisionError

    for _ in range(5):
        with pytest.raises(InvalidPreferencesError):
            await guard(refuse())
        with pytest.raises(ZeroDivisionError):
            await guard(stumble())
    assert await guard(answer()) == "answer"


async def test_a_caller_who_goes_away_is_no_outage(clock: FakeClock) -> None:
    """Cancelled calls do not count against the part."""
    guard = Guard("database", 5, clock)
    for _ in range(5):
        with anyio.move_on_after(0.001):
            await guard(anyio.sleep(60))
    assert not guard.breaker.is_down
    assert await guard(answer()) == "answer"
