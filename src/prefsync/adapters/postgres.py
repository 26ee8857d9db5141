"""Announcements over PostgreSQL's LISTEN and NOTIFY (extra ``postgres``), for teams without Redis."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from contextlib import asynccontextmanager, suppress
from hashlib import blake2b
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from prefsync.adapters.announcements import is_wanted, pack, unpack
from prefsync.adapters.inbox import Inbox, fed, kept_up
from prefsync.errors import ConfigurationError, MissingExtraError, UnavailableError
from prefsync.ports import Alive, Announcement, ChangeNotifier, Gap, Lost
from prefsync.resilience import Breaker, to_its_end

if find_spec("asyncpg") is None:
    raise MissingExtraError("announcements over PostgreSQL (prefsync.adapters.postgres)", "postgres")

import asyncpg

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from prefsync.clock import Clock

__all__ = ["PostgresNotifier"]

logger = logging.getLogger("prefsync")

# Bytes of a payload (PostgreSQL's NOTIFY: "must be shorter than 8000 bytes") and of a channel's name (NAMEDATALEN).
_LARGEST_PAYLOAD: Final = 7_999
_LONGEST_NAME: Final = 63

# Announcements in one statement; PostgreSQL looks through those of a transaction for equal ones.
_BATCH: Final = 500

# Seconds that connecting, one statement, and a publish as a whole may take.
TIME_LIMIT: Final = 1.0
_PUBLISH_LIMIT: Final = 1.5

# Seconds between two looks at whether the listening connection answers, and how many of them pass between heartbeats,
# each of which wakes every listener of the database.
_PULSE: Final = 1.0
_PULSES_A_BEAT: Final = 5

# Several arrays side by side keep their order, and notifications of a transaction arrive in the order of their sending.
_NOTIFY: Final = (
    "SELECT pg_notify(channel, payload) FROM unnest($1::text[], $2::text[]) AS sent (channel, payload)"
)

# A connection that the server has just closed.
_CLOSED: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # its last words were read, the end of the stream not yet
    ConnectionError,
)

_ERRORS: Final = (asyncpg.PostgresError, *_CLOSED, UnavailableError, OSError, TimeoutError)


class PostgresNotifier(ChangeNotifier):
    """Announcements on one channel for each deployment. A change of 8,000 bytes or more travels as a mere hint.

    Each subscription holds one connection, and publishing another. They must reach the server itself: a pooler that
    hands out connections for each transaction breaks LISTEN, which is noticed and logged.

    Args:
        dsn: As libpq reads it, ``postgresql://user@host/database?sslmode=...``.
        prefix: Begins the channel's name; two deployments on one database need two. May be changed until it is opened.
        clock: For tests.

    Raises:
        ConfigurationError: The URL cannot be read.
    """

    def __init__(self, dsn: str, *, prefix: str = "prefsync", clock: Clock | None = None) -> None:
        _check_url(dsn)
        self.prefix = prefix
        self._dsn = dsn
        self._breaker = Breaker("notifier", clock)
        self._sender: _Sender | None = None
        self._channel = ""

    async def __aenter__(self) -> Self:
        self._channel = _name(f"{self.prefix}:changes:1")
        self._sender = _Sender(self._dsn, self._breaker)
        return self

    async def __aexit__(self, *_: object) -> None:
        sender, self._sender = self._sender, None
        if sender is not None:
            # Whoever closes is often cancelled himself, and what is being connected would be nobody's.
            await to_its_end(sender.close())

    def publish(self, announcement: Announcement) -> Awaitable[None]:
        message = pack(announcement)
        if len(message) > _LARGEST_PAYLOAD:
            message = pack(Announcement(announcement.subject, None, announcement.version))
        return self._send(self._channel, message.decode())

    async def _wait(self, sent: asyncio.Future[None]) -> None:
        try:
            async with asyncio.timeout(_PUBLISH_LIMIT):
                await asyncio.shield(sent)
        except TimeoutError as error:
            raise UnavailableError("notifier") from error

    def _send(self, channel: str, payload: str) -> Awaitable[None]:
        if self._sender is None:
            raise RuntimeError("the notifier is not open")
        return self._wait(self._sender.send(channel, payload))

    @asynccontextmanager
    async def subscribe(
        self, wanted: Callable[[str], bool] | None = None, *, pulse: bool = False
    ) -> AsyncIterator[AsyncIterator[Announcement | Lost | Gap | Alive]]:
        inbox = Inbox(unpack, has_pulse=pulse)

        def arrived(_connection: object, _pid: int, _channel: str, payload: object) -> None:
            message = str(payload).encode()
            if is_wanted(message, wanted):
                inbox.put(message, len(message))

        async def listen() -> None:
            async with _connected(self._dsn, inbox.lost) as connection:
                await connection.add_listener(self._channel, arrived)
                await self._stay(connection, inbox)

        async with fed(inbox, lambda: kept_up(inbox, listen, _ERRORS, "PostgreSQL")):
            yield inbox

    async def _stay(self, connection: Any, inbox: Inbox) -> None:
        """Return or raise when a connection is lost, or hears nothing of what is sent."""
        ended, heard = asyncio.Event(), asyncio.Event()
        connection.add_termination_listener(lambda _: ended.set())
        beats = _name(f"{self._channel}:{secrets.token_hex(8)}")
        await connection.add_listener(beats, lambda *_: heard.set())
        while True:
            heard.clear()
            sent = time.monotonic()
            await self._send(beats, "")
            try:
                async with asyncio.timeout(_PULSE * 2):
                    await heard.wait()
            except TimeoutError:
                raise TimeoutError(
                    "it hears nothing; behind a pooler, give the server's own address in PREFSYNC_NOTIFIER_URL"
                ) from None
            inbox.back()
            inbox.alive(sent)
            for _ in range(_PULSES_A_BEAT):
                with suppress(TimeoutError):
                    async with asyncio.timeout(_PULSE):
                        await ended.wait()
                if ended.is_set():
                    return
                sent = time.monotonic()
                # The answer comes after the notifications of whatever was committed before the question.
                await connection.fetchval("SELECT 1", timeout=_PULSE * 2)
                inbox.alive(sent)


class _Sender:
    """One connection that notifies: what waits when it is free travels in one statement.

    Args:
        dsn: Where to connect.
        breaker: Knows whether PostgreSQL answers.
    """

    def __init__(self, dsn: str, breaker: Breaker) -> None:
        self._dsn = dsn
        self._breaker = breaker
        self._connection: Any = None
        self._waiting: list[tuple[str, str, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    def send(self, channel: str, payload: str) -> asyncio.Future[None]:
        """Notify; starts with the call, after all earlier ones."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        future.add_done_callback(_heed)
        try:
            self._breaker.check()
        except UnavailableError as error:
            future.set_exception(error)
            return future
        self._waiting.append((channel, payload, future))
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._work(), name="prefsync notifications")
        return future

    async def _work(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
            error: UnavailableError | None = None
            try:
                await self._notify([channel for channel, _, _ in batch], [payload for _, payload, _ in batch])
            except _ERRORS as cause:
                logger.debug("announcements could not be sent: %r", cause)
                self._breaker.failed()
                self._drop()
                error = UnavailableError("notifier")
                error.__cause__ = cause
                # What came meanwhile shall not wait as long again.
                batch, self._waiting = batch + self._waiting, []
            else:
                self._breaker.succeeded()
            for _, _, future in batch:
                if future.done():
                    continue
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)

    async def _notify(self, channels: list[str], payloads: list[str]) -> None:
        if self._connection is not None:
            try:
                await self._connection.execute(_NOTIFY, channels, payloads, timeout=TIME_LIMIT)
            except _CLOSED:
                self._drop()  # a server that restarted closed it; announcements may be repeated
            else:
                return
        self._connection = await asyncpg.connect(self._dsn, **_OPTIONS)
        await self._connection.execute(_NOTIFY, channels, payloads, timeout=TIME_LIMIT)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def close(self) -> None:
        """Send what waits, and close."""
        if self._task is not None:
            await asyncio.wait([self._task])
        if self._connection is not None:
            await _close(self._connection)


_OPTIONS: Final[dict[str, Any]] = {
    "timeout": TIME_LIMIT,
    "command_timeout": TIME_LIMIT,
    "server_settings": {"application_name": "prefsync"},
}


@asynccontextmanager
async def _connected(dsn: str, lost: Callable[[], None]) -> AsyncIterator[Any]:
    """Hold a connection, and say that it is lost before the time that closing it takes."""
    # In a task of its own: cut off in the middle, asyncpg reports an error that nobody can catch.
    connecting = asyncio.ensure_future(asyncpg.connect(dsn, **_OPTIONS))
    try:
        yield await asyncio.shield(connecting)
    finally:
        lost()
        await to_its_end(_close_when_open(connecting))


async def _close_when_open(connecting: asyncio.Future[Any]) -> None:
    await asyncio.wait([connecting])
    if not connecting.cancelled() and not connecting.exception():
        await _close(connecting.result())


async def _close(connection: Any) -> None:
    try:
        await connection.close(timeout=TIME_LIMIT / 2)
    except _ERRORS:
        connection.terminate()


def _check_url(dsn: str) -> None:
    """Find out now what asyncpg would stumble over at each attempt, with words that hold a part of the password."""
    try:
        hosts = urlsplit(dsn).netloc.rpartition("@")[2].split(",")
    except ValueError:
        hosts = [":?"]
    for host in hosts:
        port = host.rpartition("]")[2].partition(":")[2]
        if port and not (port.isascii() and port.isdigit()):
            raise ConfigurationError(
                "PREFSYNC_NOTIFIER_URL cannot be read; write postgresql://user:password@host:5432/database, the password"
                " percent-encoded"
            )


def _heed(sent: asyncio.Future[None]) -> None:
    """Look at an error, so that the event loop does not report it where the publisher was cancelled."""
    if not sent.cancelled():
        sent.exception()


def _name(text: str) -> str:
    """Return a channel's name: the text, or a digest of it where PostgreSQL would find it too long."""
    if len(text.encode()) <= _LONGEST_NAME:
        return text
    return f"prefsync:{blake2b(text.encode(), digest_size=24).hexdigest()}"
