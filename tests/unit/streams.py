"""Clients of sessions, in this process: they check what they are told, and take it as slowly as a test wants."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any

from prefsync.channel import Update
from prefsync.session import Outlet
from prefsync.testing.samples import settled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from prefsync.catchup import Joined
    from prefsync.document import Subject
    from prefsync.session import Farewell, Session
    from prefsync.sessions import Sessions
    from tests.unit.support import Process

__all__ = ["Client", "connected", "in_step"]


class Client(Outlet):
    """A client that keeps the effective values, and fails where it is misled.

    Args:
        revision: What it has from before.
        view: The effective values at that revision.
        is_plain: See ``Outlet``.

    Attributes:
        heard: What it was told, in order: kind and revision.
        cuts: How often the connection was given up.
        error: Raised by whatever is sent next.
    """

    transport = "events"

    def __init__(
        self, revision: int | None = None, view: dict[str, Any] | None = None, *, is_plain: bool = True
    ) -> None:
        self.revision = revision
        self.view: dict[str, Any] = deepcopy(view or {})
        self.is_plain = is_plain
        self.heard: list[tuple[str, Any]] = []
        self.cuts = 0
        self.error: Exception | None = None
        self._open = asyncio.Event()
        self._open.set()
        self._is_busy = False

    def hold(self) -> None:
        """Take nothing until released."""
        self._open.clear()

    def release(self) -> None:
        """Take what comes."""
        self._open.set()

    def kinds(self) -> list[str]:
        """Return the kinds of what it was told."""
        return [kind for kind, _ in self.heard]

    async def send(self, kind: str, content: Any = None, updates: Sequence[Update] = ()) -> None:
        """Be sent something, as slowly as the test wants."""
        assert not self._is_busy, "calls overlap"
        assert not self.cuts, "something was sent after the end"
        self._is_busy = True
        try:
            if self.error is not None:
                raise self.error
            await asyncio.sleep(0)
            await self._open.wait()
        finally:
            self._is_busy = False
        self.heard.append((kind, content))
        for update in updates:
            self._take(update)

    def _take(self, update: Update) -> None:
        if update.snapshot is not None:
            self.view = deepcopy(dict(update.snapshot.values))
        else:
            assert update.change is not None
            assert update.previous == self.revision, "the chain is broken"
            assert update.revision > (self.revision or 0), "a revision came twice"
            for name, values in update.change.changed.items():
                self.view[name] = self.view.get(name, {}) | deepcopy(dict(values))
            for name, gone in update.change.removed.items():
                for key in gone:
                    self.view[name].pop(key, None)
        self.revision = update.revision

    async def greet(self, joined: Joined) -> None:
        """Be told how things stand."""
        if joined.reset is not None:
            await self.send("reset", joined.reset.revision, [joined.reset])
        else:
            await self.send("welcome", joined.revision, [Update(change) for change in joined.changes])

    async def update(self, update: Update) -> None:
        """See ``Outlet``."""
        await self.send("reset" if update.snapshot else "change", update.revision, [update])

    async def beat(self, revision: int | None) -> None:
        """See ``Outlet``."""
        await self.send("beat", revision)

    async def farewell(self, reason: Farewell) -> None:
        """See ``Outlet``."""
        await self.send("bye", reason)

    def cut(self) -> None:
        """See ``Outlet``."""
        self.cuts += 1


@asynccontextmanager
async def connected(
    sessions: Sessions,
    subject: Subject,
    client: Client,
    *,
    schema: str | None = None,
    expires_at: float | None = None,
) -> AsyncIterator[Session]:
    """Have a client follow a subject for the length of a block, as the transports do it."""
    session = sessions.open(subject, client, expires_at)
    try:
        joined = await session.join(client.revision, schema)
        session.begin(joined, partial(client.greet, joined))
        yield session
    finally:
        sessions.close(session)


async def in_step(process: Process, subject: Subject, *clients: Client) -> None:
    """Wait until clients have what the database holds."""
    document = await process.repository.load(subject)
    values = process.service.show_document(subject, document).values
    await settled(
        lambda: all(one.revision == document.revision and one.view == values for one in clients),
        "a client did not get the newest state",
    )
