"""A notifier that does what its port allows: it loses, repeats and reorders."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import anyio

from prefsync.ports import Alive, Gap, Lost
from prefsync.testing.doubles import WrappedNotifier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    from prefsync.ports import Announcement, ChangeNotifier

__all__ = ["Mishaps", "UnreliableNotifier"]

# Seconds after which an announcement that waits to be overtaken goes on, where no other one comes.
_LATEST: Final = 0.05


@dataclass(frozen=True, slots=True)
class Mishaps:
    """What happens to announcements on their way to each subscription, by chance that is the same in every run.

    Attributes:
        seed: Of the chance; each subscription of a notifier draws from it by its number.
        loss: How many are lost, from 0 to 1.
        repetition: How many come twice, from 0 to 1.
        delay: How many are overtaken by one to three later ones, from 0 to 1.
    """

    seed: int = 0
    loss: float = 0.0
    repetition: float = 0.0
    delay: float = 0.0


class UnreliableNotifier(WrappedNotifier):
    """A notifier that loses, repeats and reorders, as its port allows; ``Lost``, ``Gap`` and ``Alive`` always pass.

    Args:
        inner: Does the work.
        mishaps: What happens by chance to what subscriptions receive.

    Attributes:
        calls: How often ``publish`` was called.
        loses: While true, announcements are lost, and nobody is told.
        copies: How often each announcement is sent.
        backwards: While more than 1, as many announcements are kept and then sent with the last one first.
    """

    def __init__(self, inner: ChangeNotifier, mishaps: Mishaps | None = None) -> None:
        super().__init__(inner)
        self.loses = False
        self.copies = 1
        self.backwards = 1
        self._kept: list[Announcement] = []
        self._mishaps = mishaps
        self._subscriptions = 0

    async def publish(self, announcement: Announcement) -> None:
        """Send an announcement, or do what may happen to one."""
        self.calls["publish"] += 1
        if self.loses:
            return
        self._kept.append(announcement)
        if len(self._kept) >= self.backwards:
            await self.flush()

    async def flush(self) -> None:
        """Send what was kept."""
        kept, self._kept = self._kept, []
        for announcement in reversed(kept):
            for _ in range(self.copies):
                await self.inner.publish(announcement)

    @asynccontextmanager
    async def subscribe(
        self, wanted: Callable[[str], bool] | None = None, *, pulse: bool = False
    ) -> AsyncIterator[AsyncIterator[Announcement | Lost | Gap | Alive]]:
        """Receive what is published, after what may happen to it."""
        async with self.inner.subscribe(wanted, pulse=pulse) as announcements:
            if self._mishaps is None:
                yield announcements
                return
            self._subscriptions += 1
            chance = random.Random(f"{self._mishaps.seed}/{self._subscriptions}")
            send, receive = anyio.create_memory_object_stream[Any]()
            async with anyio.create_task_group() as tasks:
                # A task of its own: waiting for the next one with a limit must not end the adapter's iterator.
                tasks.start_soon(_forward, announcements, send)
                with receive:
                    yield _spoiled(receive, self._mishaps, chance)
                tasks.cancel_scope.cancel()


async def _forward(
    announcements: AsyncIterator[Announcement | Lost | Gap | Alive], send: MemoryObjectSendStream[Any]
) -> None:
    with send:
        try:
            async for one in announcements:
                await send.send(one)
        except Exception as error:  # noqa: BLE001  # raised where the adapter would have raised it
            await send.send(error)


async def _spoiled(
    receive: MemoryObjectReceiveStream[Any], mishaps: Mishaps, chance: random.Random
) -> AsyncIterator[Announcement | Lost | Gap | Alive]:
    late: list[list[Any]] = []  # each behind how many it still lets pass
    while True:
        one: Any = None
        with anyio.move_on_after(_LATEST if late else None):
            try:
                one = await receive.receive()
            except anyio.EndOfStream:
                return
        if isinstance(one, Exception):
            raise one
        if one is None:
            yield late.pop(0)[1]
        elif isinstance(one, Lost | Gap | Alive):
            yield one
        else:
            for overtaken_by in _fate(mishaps, chance):
                if overtaken_by:
                    late.append([overtaken_by, one])
                else:
                    yield one
                    late = [[count - 1, waiting] for count, waiting in late]
        while late and late[0][0] <= 0:
            yield late.pop(0)[1]


def _fate(mishaps: Mishaps, chance: random.Random) -> list[int]:
    """Return how many others overtake each copy of an announcement that arrives."""
    if chance.random() < mishaps.loss:
        return []
    copies = 2 if chance.random() < mishaps.repetition else 1
    return [chance.randint(1, 3) if chance.random() < mishaps.delay else 0 for _ in range(copies)]
