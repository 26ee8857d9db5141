"""What announcements over PostgreSQL promise beyond the port: outages of its kind, payloads and names at their limits."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import asyncpg
import pytest
from anyio.to_thread import run_sync

from prefsync.adapters.announcements import pack
from prefsync.adapters.postgres import PostgresNotifier
from prefsync.document import Change, Subject
from prefsync.errors import UnavailableError
from prefsync.ports import Announcement, Gap, Lost
from prefsync.testing.samples import fresh_subject
from tests.contracts.support import through
from tests.servers import HOST, TcpProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.servers import PrivatePostgres

pytestmark = pytest.mark.once

LIMIT = 20.0


@pytest.fixture
def prefix() -> str:
    """A channel for each test."""
    return f"test-{secrets.token_hex(8)}"


async def expect(announcements: AsyncIterator[Announcement | Lost | Gap], *kinds: type) -> None:
    """Wait for things of these kinds and nothing else."""
    with anyio.fail_after(LIMIT):
        assert [type(await anext(announcements)) for _ in kinds] == list(kinds)


async def goes_on(
    notifier: PostgresNotifier, announcements: AsyncIterator[Announcement | Lost | Gap]
) -> None:
    """See that announcements arrive."""
    sent = Announcement(fresh_subject(), None, 7)
    with anyio.fail_after(LIMIT):
        while True:
            try:
                await notifier.publish(sent)
            except UnavailableError:
                await anyio.sleep(0.02)
            else:
                break
        assert await anext(announcements) == sent


async def ask(url: str, query: str, *arguments: Any) -> Any:
    """Return the one value of a query, asked by somebody else."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query, *arguments)
    finally:
        await connection.close()


async def test_a_backend_that_was_terminated(private_postgres: Callable[[], PrivatePostgres]) -> None:
    """``pg_terminate_backend`` ends neither subscription nor publishing; each time it is told."""
    server = await run_sync(private_postgres)
    kill = """
        SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'prefsync'
    """
    async with PostgresNotifier(server.url) as notifier, notifier.subscribe() as announcements:
        for _ in range(3):
            await goes_on(notifier, announcements)
            assert await ask(server.url, kill) == 2
            await expect(announcements, Lost, Gap)
        await goes_on(notifier, announcements)


async def test_a_server_that_is_frozen_and_one_that_restarts(
    private_postgres: Callable[[], PrivatePostgres],
) -> None:
    """Silence is noticed though nobody publishes; a restart is one outage, however many attempts fail."""
    server = await run_sync(private_postgres)
    async with PostgresNotifier(server.url) as notifier, notifier.subscribe() as announcements:
        await goes_on(notifier, announcements)
        server.pause()
        await expect(announcements, Lost)
        server.resume()
        await expect(announcements, Gap)
        await run_sync(server.stop)
        await expect(announcements, Lost)
        await run_sync(server.start)
        await expect(announcements, Gap)
        await goes_on(notifier, announcements)


class Forgetful(TcpProxy):
    """A pooler in transaction mode, as far as LISTEN is concerned: it says yes, and nobody listens."""

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data.replace(b'LISTEN "', b'NOTIFY "'))
            await writer.drain()
        writer.write_eof()


async def test_a_pooler_that_breaks_listen(
    postgres_url: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A subscription that can hear nothing counts as lost, and the log says which setting mends it."""
    async with Forgetful(HOST, 5432) as pooler:
        pooler._target = _address(postgres_url)
        async with PostgresNotifier(through(pooler, postgres_url), prefix=prefix) as notifier:
            async with notifier.subscribe() as announcements:
                await expect(announcements, Lost)
                await notifier.publish(Announcement(fresh_subject(), None, 7))
                with anyio.fail_after(LIMIT):
                    while "PREFSYNC_NOTIFIER_URL" not in caplog.text:
                        await anyio.sleep(0.02)


def _address(url: str) -> tuple[str, int]:
    host, _, port = url.rpartition("/")[0].rpartition("@")[2].partition(":")
    return host, int(port or 5432)


@pytest.mark.parametrize("subject", [Subject("user"), Subject("\U0001f600" * 255, '"' * 255)])
async def test_beyond_its_largest_payload_only_the_fact_is_told(
    postgres_url: str, prefix: str, subject: Subject
) -> None:
    """The largest payload that PostgreSQL takes travels whole; one byte more, and it is a hint."""

    def sized(length: int) -> Announcement:
        change = Change(2, 1, 2, None, {"plugins": {"x": "\u00e9" * 100}})
        room = length - len(pack(Announcement(subject, change, 2)))
        change = Change(2, 1, 2, None, {"plugins": {"x": "\u00e9" * 100 + "x" * room}})
        announcement = Announcement(subject, change, 2)
        assert len(pack(announcement)) == length
        return announcement

    async with PostgresNotifier(postgres_url, prefix=prefix) as notifier:
        async with notifier.subscribe() as announcements:
            with anyio.fail_after(LIMIT):
                await notifier.publish(sized(7_999))
                assert await anext(announcements) == sized(7_999)
                await notifier.publish(sized(8_000))
                assert await anext(announcements) == Announcement(subject, None, 2)


@pytest.mark.parametrize(
    "name", ['"; DROP', "UPPER lower", "caf\u00e9", "x" * 63, "x" * 500, "\u00e9" * 60, "%s$1"]
)
async def test_any_prefix_names_a_channel(postgres_url: str, prefix: str, name: str) -> None:
    """Whatever a prefix holds, its deployment hears itself and no other one."""
    async with (
        PostgresNotifier(postgres_url, prefix=name + prefix) as one,
        PostgresNotifier(postgres_url, prefix=name + prefix + "x") as other,
        one.subscribe() as announcements,
    ):
        await other.publish(Announcement(fresh_subject(), None, 1))
        await goes_on(one, announcements)


async def test_what_is_no_announcement_is_passed_over(postgres_url: str, prefix: str) -> None:
    """Messages of another version, or of somebody else, on the channel do not end a subscription."""
    key = fresh_subject().key
    async with PostgresNotifier(postgres_url, prefix=prefix) as notifier:
        async with notifier.subscribe() as announcements:
            for payload in ["", "null", key, key + "[1,2]", key + '[1,null,"user",[]]', "\u00e9" * 30]:
                await ask(postgres_url, "SELECT pg_notify($1, $2)", notifier._channel, payload)
            await goes_on(notifier, announcements)


async def test_publishers_of_one_moment_share_a_statement(
    postgres_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred announcements at once cost two statements at most, and all arrive in order."""
    async with PostgresNotifier(postgres_url, prefix=prefix) as notifier:
        async with notifier.subscribe() as announcements:
            assert notifier._sender is not None
            statements: list[int] = []
            notify = notifier._sender._notify

            async def count(channels: list[str], payloads: list[str]) -> None:
                statements.append(len(channels))
                await notify(channels, payloads)

            monkeypatch.setattr(notifier._sender, "_notify", count)
            sent = [Announcement(fresh_subject(), None, number) for number in range(100)]
            sending = [notifier.publish(one) for one in sent]
            for one in sending:
                await one
            with anyio.fail_after(LIMIT):
                assert [await anext(announcements) for _ in sent] == sent
            assert len(statements) <= 2


class SlowConnecting:
    """Holds connecting until it is released, and keeps what was connected.

    Args:
        patch: Puts it between.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.begun = anyio.Event()
        self.release = anyio.Event()
        self.connections: list[asyncpg.Connection[Any]] = []
        self._connect = asyncpg.connect
        patch.setattr(asyncpg, "connect", self)

    async def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Connect."""
        self.begun.set()
        await self.release.wait()
        self.connections.append(await self._connect(*arguments, **options))
        return self.connections[-1]


async def test_closing_while_the_publisher_connects(
    postgres_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However whoever closes is cancelled meanwhile, no connection is left open."""
    slow = SlowConnecting(monkeypatch)
    notifier = PostgresNotifier(postgres_url, prefix=prefix)

    async def use() -> None:
        async with notifier:
            notifier.publish(Announcement(fresh_subject(), None, 7)).close()  # type: ignore[attr-defined]
            await slow.begun.wait()

    using = asyncio.create_task(use())
    with anyio.fail_after(LIMIT):
        await slow.begun.wait()
        for _ in range(3):
            using.cancel()
            await anyio.lowlevel.cancel_shielded_checkpoint()
        slow.release.set()
        await asyncio.wait({using})
        assert using.cancelled()
        while not slow.connections:
            await anyio.sleep(0.01)
    assert slow.connections[0].is_closed()


async def test_unsubscribing_while_the_subscription_connects(
    postgres_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may take longer than the pause after which a subscription is cancelled once more."""
    slow = SlowConnecting(monkeypatch)
    monkeypatch.setattr("prefsync.adapters.inbox._ENTER_LIMIT", 0.01)
    monkeypatch.setattr("prefsync.adapters.inbox._CANCEL_AGAIN", 0.01)

    async def use() -> None:
        async with PostgresNotifier(postgres_url, prefix=prefix) as notifier, notifier.subscribe():
            await slow.begun.wait()

    using = asyncio.create_task(use())
    with anyio.fail_after(LIMIT):
        await slow.begun.wait()
        (subscription,) = (task for task in asyncio.all_tasks() if task.get_name() == "prefsync subscription")
        while subscription.cancelling() < 3:
            await anyio.sleep(0.01)
        slow.release.set()
        await using
    assert [connection.is_closed() for connection in slow.connections] == [True]
