"""The contract of :class:`prefsync.ports.TicketStore`."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, ClassVar

import anyio
import pytest

from prefsync.errors import UnavailableError
from prefsync.testing.samples import CANCELLED_BY, PATIENCE, cut_short, other_tasks, settled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prefsync.ports import TicketStore
    from prefsync.testing.outage import Outage
    from prefsync.testing.samples import CancelledBy

__all__ = ["TicketsContract", "TicketsOutageContract"]

# Seconds within which a call has to have found out that the store is away.
BOUND = 6.0

_LIFE = 60

CONTENTS = (b"", b"\x00\xff\x80", b'["acme","anna"]', b"x" * 8_192)


def _name() -> str:
    return secrets.token_urlsafe(32)


class _TicketFixtures:
    # Whether no task may be left; not where the outage has tasks of its own.
    watches_tasks: ClassVar[bool] = True

    def in_use(self, tickets: Any) -> int:
        """Return how many connections are out, for adapters that have any."""
        del tickets
        return 0

    @pytest.fixture(autouse=True)
    async def _nothing_is_left(self, tickets: TicketStore) -> AsyncIterator[None]:
        tasks = other_tasks()
        yield
        await settled(lambda: self.in_use(tickets) == 0, "a connection is still out")
        if self.watches_tasks:
            await settled(lambda: other_tasks() <= tasks, f"still running: {other_tasks() - tasks}")


@pytest.mark.anyio
class TicketsContract(_TicketFixtures):
    """What every store of tickets promises. Subclass it, name the class ``Test...`` and give the fixtures.

    Fixtures of the subclass:
        tickets: The adapter, open.
        twin: Another open instance on the same tickets, where there can be one; else leave it out.
    """

    async def pass_time(self, seconds: float) -> None:
        """Let time pass; adapters on a clock of the test's move that instead."""
        await anyio.sleep(seconds)

    @pytest.fixture
    def twin(self, tickets: TicketStore) -> TicketStore:
        """Another open instance on the same tickets; override it where there can be one."""
        return tickets

    @pytest.mark.parametrize("content", CONTENTS, ids=["empty", "bytes", "text", "long"])
    async def test_a_ticket_is_taken_once(
        self, tickets: TicketStore, twin: TicketStore, content: bytes
    ) -> None:
        """What was put comes back exactly, on another instance too, and only once."""
        name = _name()
        await tickets.put(name, content, _LIFE)
        assert await twin.take(name) == content
        assert await tickets.take(name) is None
        assert await twin.take(name) is None

    async def test_an_unknown_ticket_is_nothing(self, tickets: TicketStore) -> None:
        """A name that nobody put, however it is spelled, is answered with nothing."""
        for name in (_name(), "", "*", "' OR 1=1 --", "x" * 1_000, "\u00e9\U0001f600"):
            assert await tickets.take(name) is None

    async def test_tickets_are_told_apart_by_every_character(self, tickets: TicketStore) -> None:
        """Names that differ in case or at their end alone are different tickets."""
        base = _name()
        names = [f"{base}a", f"{base}A", f"{base}a-", f"{base}_"]
        for name in names:
            await tickets.put(name, name.encode(), _LIFE)
        for name in reversed(names):
            assert await tickets.take(name) == name.encode()

    async def test_of_concurrent_takers_one_gets_it(self, tickets: TicketStore, twin: TicketStore) -> None:
        """However many take a ticket at once, through two instances, one gets it and the others nothing."""
        for number in range(10):
            name, content = _name(), str(number).encode()
            await tickets.put(name, content, _LIFE)
            taken: list[bytes | None] = []

            async def take(store: TicketStore, name: str = name, taken: list[bytes | None] = taken) -> None:
                taken.append(await store.take(name))

            async with anyio.create_task_group() as tasks:
                for taker in range(16):
                    tasks.start_soon(take, twin if taker % 2 else tickets)
            assert sorted(taken, key=lambda one: one is None) == [content] + [None] * 15

    async def test_a_ticket_expires(self, tickets: TicketStore, twin: TicketStore) -> None:
        """A ticket is good within its life and not after it, whatever the lives of others."""
        short, long, soon = _name(), _name(), _name()
        await tickets.put(long, b"long", _LIFE)
        await tickets.put(short, b"short", 1)
        await tickets.put(soon, b"soon", 1)
        assert await twin.take(soon) == b"soon"
        await self.pass_time(1.1)
        assert await twin.take(short) is None
        assert await tickets.take(short) is None
        assert await tickets.take(long) == b"long"

    async def test_it_can_be_closed_and_opened_again(self, tickets: TicketStore) -> None:
        """A store that was closed works when it is opened again."""
        await tickets.__aexit__(None, None, None)
        await tickets.__aenter__()
        name = _name()
        await tickets.put(name, b"again", _LIFE)
        assert await tickets.take(name) == b"again"

    @pytest.mark.parametrize("kind", CANCELLED_BY)
    async def test_cancelled_calls_reach_nobody_else(self, tickets: TicketStore, kind: CancelledBy) -> None:
        """After cancelled calls, nobody gets another's ticket, and none is good twice."""
        for steps in range(0, 26, 3):
            names = [_name() for _ in range(4)]
            for name in names:
                await tickets.put(name, name.encode(), _LIFE)
            taken: list[tuple[str, bytes | None]] = []

            async def take(name: str, taken: list[tuple[str, bytes | None]] = taken) -> None:
                taken.append((name, await tickets.take(name)))

            await cut_short(steps, kind, *[lambda name=name: take(name) for name in names])
            told = dict(taken)
            for name in names:
                again = await tickets.take(name)
                assert again in {None, name.encode()}
                assert told.get(name) in {None, name.encode()}
                assert again is None or told.get(name) is None


@pytest.mark.anyio
class TicketsOutageContract(_TicketFixtures):
    """What a store of tickets promises while its server is out of reach; for adapters that have one.

    Fixtures of the subclass:
        tickets: The adapter, open.
        outage: Takes the server away and brings it back, see :class:`prefsync.testing.Outage`.
    """

    watches_tasks = False

    async def test_every_call_says_so_in_time_and_it_goes_on_afterwards(
        self, tickets: TicketStore, outage: Outage
    ) -> None:
        """Both calls raise ``UnavailableError`` within a bounded time; when the server is back, so are its tickets."""
        kept = _name()
        await tickets.put(kept, b"kept", 600)
        await outage.begin()
        try:
            for _ in range(3):
                with anyio.fail_after(BOUND):
                    with pytest.raises(UnavailableError):
                        await tickets.put(_name(), b"lost", 600)
                    with pytest.raises(UnavailableError):
                        await tickets.take(_name())
        finally:
            await outage.end()
        again = _name()
        with anyio.fail_after(PATIENCE):
            while True:
                try:
                    await tickets.put(again, b"again", 600)
                except UnavailableError:
                    again = _name()  # the one before may be there
                    await anyio.sleep(0.02)
                else:
                    break
        assert await tickets.take(again) == b"again"
        assert await tickets.take(kept) == b"kept"
