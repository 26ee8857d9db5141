"""What waits for one client comes out as it went in, and whoever waits for its end hears of that."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from prefsync.socketio.queues import PacketQueue

pytestmark = [pytest.mark.anyio, pytest.mark.once]

LIMIT = 20.0


async def test_items_come_out_in_the_order_they_went_in() -> None:
    """Whether somebody waits for the first or not, each item is got once, the oldest first."""
    queue: PacketQueue[int] = PacketQueue()
    first, second = queue.get(), queue.get()
    for number in range(5):
        queue.put_nowait(number)
    assert queue.qsize() == 3
    with anyio.fail_after(LIMIT):
        assert [await first, await second, await queue.get(), queue.get_nowait(), await queue.get()] == list(
            range(5)
        )
    with pytest.raises(asyncio.QueueEmpty):
        queue.get_nowait()


async def test_who_has_waited_too_long_takes_nothing() -> None:
    """Items go to those who still wait, and into the queue where nobody does."""
    queue: PacketQueue[str] = PacketQueue()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue.get(), 0.001)
    gone, waiting = queue.get(), queue.get()
    gone.cancel()
    queue.put_nowait("first")
    queue.put_nowait("second")
    with anyio.fail_after(LIMIT):
        assert (await waiting, await queue.get()) == ("first", "second")
    assert queue.qsize() == 0


async def test_joining_lasts_until_every_item_has_been_dealt_with() -> None:
    """Items that were got and not dealt with count; one who gives up joining holds up no other."""
    queue: PacketQueue[str] = PacketQueue()
    with anyio.fail_after(LIMIT):
        await queue.join()
        queue.put_nowait("first")
        await queue.put("second")
        impatient, patient = asyncio.ensure_future(queue.join()), asyncio.ensure_future(queue.join())
        await asyncio.sleep(0)
        impatient.cancel()
        assert [await queue.get(), await queue.get()] == ["first", "second"]
        queue.task_done()
        await asyncio.sleep(0)
        assert not patient.done()
        queue.task_done()
        await patient
        await queue.join()
