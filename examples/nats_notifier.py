"""A custom adapter: changes are announced over NATS, for hosts that run it anyway and have no Redis.

    pip install nats-py && PREFSYNC_JWT_KEY=... uvicorn --app-dir examples nats_notifier:app --workers 2

An adapter is a class with the methods of a port (``prefsync.ports.ChangeNotifier``); docs/adapters.md tells how to write
and prove one. This one passes ``prefsync.testing.NotifierContract``, see tests/examples/test_nats_notifier.py. The cache
and the rate limits stay each worker's own; what NATS loses, the core makes good from the change log.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

import anyio
from example_models import Appearance, Editor, Notifications, Plugins
from fastapi import FastAPI
from nats.aio.client import Client
from nats.errors import ConnectionClosedError, Error

from prefsync import Parts, UnavailableError
from prefsync.adapters.announcements import is_wanted, pack, unpack
from prefsync.adapters.inbox import Inbox, fed, kept_up
from prefsync.ports import Alive, Announcement, ChangeNotifier, Gap, Lost
from prefsync.resilience import Breaker, to_its_end
from prefsync_fastapi import PrefSync

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from nats.aio.msg import Msg

ERRORS = (Error, OSError, TimeoutError)
"""What NATS raises that is out of reach."""

TIME_LIMIT = 1
"""Seconds that NATS may take to answer: whoever writes a preference waits no longer for the others to be told."""

PULSE = 1
"""Seconds between two looks at whether a subscription's connection still answers."""


class NatsNotifier(ChangeNotifier):
    """Announcements on one subject of NATS; each subscription has a connection of its own, and publishing another.

    Args:
        url: ``nats://host:4222``.
        subject: Deployments that share a server need different ones.
        bound: Bytes that a subscription keeps which is not read.
    """

    def __init__(self, url: str, subject: str = "prefsync.changes", bound: int = 16 * 1024 * 1024) -> None:
        self._url = url
        self._subject = subject
        self._bound = bound
        self._breaker = Breaker("notifier")
        self._opening: asyncio.Future[_Connection] | None = None

    async def __aenter__(self) -> Self:
        return self  # connects when it has to: NATS may be away while the app starts

    async def __aexit__(self, *_: object) -> None:
        await self._drop(self._opening)

    async def publish(self, announcement: Announcement) -> None:
        """Send an announcement; it has reached NATS when this returns."""
        self._breaker.check()  # while NATS is known to be away, nobody waits for it
        try:
            await to_its_end(self._send(pack(announcement)))
        except ERRORS as error:
            raise UnavailableError("notifier") from error

    async def _send(self, message: bytes) -> None:
        if self._opening is None:
            self._opening = asyncio.ensure_future(_Connection(self._url).__aenter__())
        opening = self._opening
        try:
            connection = await asyncio.shield(opening)  # all who publish meanwhile wait for this one
            await connection.publish(self._subject, message)
            await connection.answered()
        except ERRORS:
            self._breaker.failed()
            await self._drop(opening)
            raise
        self._breaker.succeeded()

    async def _drop(self, opening: asyncio.Future[_Connection] | None) -> None:
        if opening is not None and opening is self._opening:
            self._opening = None
            await asyncio.wait([opening])
            if not opening.exception():
                await opening.result().__aexit__()

    @asynccontextmanager
    async def subscribe(
        self, wanted: Callable[[str], bool] | None = None, *, pulse: bool = False
    ) -> AsyncIterator[AsyncIterator[Announcement | Lost | Gap | Alive]]:
        """Receive announcements; the port says what else is told."""
        inbox = Inbox(unpack, self._bound, has_pulse=pulse)

        async def arrived(message: Msg) -> None:
            if is_wanted(message.data, wanted):
                inbox.put(message.data, len(message.data))

        async def listen() -> None:
            """Return or raise when the connection is lost."""
            async with _Connection(self._url) as connection:
                await connection.subscribe(self._subject, cb=arrived)
                while True:
                    asked = time.monotonic()
                    await connection.answered()  # so the subscription has begun, and goes on
                    inbox.back()
                    inbox.alive(asked)  # what was published before that came before the answer
                    with anyio.move_on_after(PULSE):
                        await connection.lost.wait()

        # `kept_up` connects again, with growing pauses, and `fed` ends it with the context.
        async with fed(inbox, lambda: kept_up(inbox, listen, ERRORS, "NATS")):
            yield inbox


class _Connection(Client):
    """A connection that does not come back by itself: nothing waits in a buffer for it meanwhile.

    Args:
        url: Of the server.

    Attributes:
        lost: Is set when it is lost.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self.lost = asyncio.Event()
        self._url = url

    async def __aenter__(self) -> Self:
        try:
            await to_its_end(  # cut off in the middle, it would leave its socket open
                self.connect(
                    self._url,
                    error_cb=_ignore,
                    closed_cb=self._closed,
                    allow_reconnect=False,
                    connect_timeout=TIME_LIMIT,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                )
            )
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.move_on_after(TIME_LIMIT, shield=True):
            await self.close()

    async def answered(self) -> None:
        """Return when NATS has taken all that was sent; raise where it is lost, or takes too long."""
        flushing = asyncio.ensure_future(self.flush(TIME_LIMIT))
        losing = asyncio.ensure_future(self.lost.wait())
        try:
            await asyncio.wait([flushing, losing], return_when=asyncio.FIRST_COMPLETED)
            if losing.done():
                raise ConnectionClosedError
            await flushing
        finally:
            flushing.cancel()
            losing.cancel()

    async def _closed(self) -> None:
        self.lost.set()


async def _ignore(_: Exception) -> None:
    """Whatever the client complains of, the call that it is about raises."""


notifier = NatsNotifier(
    os.environ.get("NATS_URL", "nats://127.0.0.1:4222"), os.environ.get("NATS_SUBJECT", "prefsync.changes")
)
prefsync = PrefSync([Appearance, Editor, Notifications, Plugins], parts=Parts(notifier=notifier))
app = FastAPI(title="prefsync over NATS")
app.include_router(prefsync.router, prefix="/preferences")
