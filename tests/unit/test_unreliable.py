"""The unreliable notifier does what it says it does: the tests that stand on it would otherwise prove nothing."""

from __future__ import annotations

import anyio
import pytest

from prefsync.adapters.memory import MemoryNotifier
from prefsync.ports import Announcement, Gap, Lost
from prefsync.testing import Mishaps, UnreliableNotifier
from prefsync.testing.samples import PATIENCE
from tests.unit.support import ANNA

SENT = list(range(1, 401))
LAST = 1_000


async def heard(mishaps: Mishaps) -> list[int | str]:
    """Return what a subscription receives of ``SENT``, with an outage in the middle."""
    inner = MemoryNotifier()
    notifier = UnreliableNotifier(inner, mishaps)
    received: list[int | str] = []
    async with notifier.subscribe() as announcements:
        (inbox,) = inner._subscriptions
        for version in SENT:
            if version == 200:
                inbox.lost()
                inbox.back()
            await notifier.publish(Announcement(ANNA, None, version))

        async def end() -> None:
            while True:
                await notifier.publish(Announcement(ANNA, None, LAST))
                await anyio.sleep(0.01)

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(end)
                async for one in announcements:
                    received.append(one.version if isinstance(one, Announcement) else type(one).__name__)
                    # Four of them are behind all that three of them may have overtaken.
                    if received.count(LAST) >= 4:
                        break
                tasks.cancel_scope.cancel()
    return [one for one in received if one != LAST]


@pytest.mark.parametrize("seed", range(3))
async def test_the_same_seed_means_the_same_mishaps(seed: int) -> None:
    """What is lost and what comes twice is decided by the seed alone."""
    mishaps = Mishaps(seed, loss=0.2, repetition=0.2)
    first = await heard(mishaps)
    assert first == await heard(mishaps)
    assert first != await heard(Mishaps(seed + 1, loss=0.2, repetition=0.2))


async def test_announcements_are_lost() -> None:
    """Some are missing, the rest comes in order, and nothing twice."""
    versions = [one for one in await heard(Mishaps(loss=0.2)) if isinstance(one, int)]
    assert 250 < len(versions) < 390
    assert versions == sorted(set(versions))


async def test_announcements_are_repeated() -> None:
    """None is missing, some come twice."""
    versions = [one for one in await heard(Mishaps(repetition=0.2)) if isinstance(one, int)]
    assert sorted(set(versions)) == SENT
    assert 420 < len(versions) < 550


async def test_announcements_are_reordered() -> None:
    """None is missing and none comes twice, but not all come in order."""
    versions = [one for one in await heard(Mishaps(delay=0.2)) if isinstance(one, int)]
    assert sorted(versions) == SENT
    assert versions != SENT


async def test_outages_are_never_kept_silent() -> None:
    """Whatever happens to announcements, what is said of the link arrives, in order."""
    received = await heard(Mishaps(loss=0.9, repetition=0.9, delay=0.9))
    assert [one for one in received if isinstance(one, str)] == [Lost.__name__, Gap.__name__]
