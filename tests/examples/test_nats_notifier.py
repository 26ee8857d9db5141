"""The custom adapter keeps its port's contract on a real NATS."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

import pytest

from prefsync.client import Change, PreferencesClient, Reset
from prefsync.testing import NotifierContract, NotifierOutageContract
from prefsync.testing._notifier.base import announcement
from prefsync.testing.mount.callers import KEY
from prefsync.testing.samples import fresh_subject, other_tasks
from tests.browser.gate import token
from tests.conftest import available
from tests.contracts.support import Cut
from tests.http.conftest import uvicorn_process
from tests.servers import PrivateNats, TcpProxy, local_nats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from prefsync.ports import ChangeNotifier
    from prefsync.testing import Outage

pytestmark = pytest.mark.once

LIMIT = 60.0
"""Seconds that bound a hang."""


@pytest.fixture(scope="session")
def nats_url() -> Iterator[str]:
    """A NATS that lets us in: that of ``PREFSYNC_TEST_NATS_URL``, else on 127.0.0.1:4222, else a private one."""
    with contextlib.ExitStack() as stack:
        url = os.environ.get("PREFSYNC_TEST_NATS_URL") or local_nats()
        yield url or stack.enter_context(available(PrivateNats)).url


@pytest.fixture(scope="session")
def example(load: Callable[..., Any]) -> Any:
    """The example, which takes nothing for an outage that is none: this machine may be busy."""
    example = load("nats_notifier")
    example.TIME_LIMIT = 15
    return example


@pytest.fixture
def subject_name() -> str:
    """A subject of NATS for each test."""
    return f"prefsync-test.{secrets.token_hex(8)}"


class TestNatsNotifier(NotifierContract):
    """Two instances, as in two processes."""

    # Less than what a host would set: the burst beyond it takes a second then.
    bound: ClassVar[int] = 1024 * 1024
    burst: ClassVar[int] = 1_500

    # Each connection has tasks of its own, and that which publishes stays open: they are counted below instead.
    watches_tasks: ClassVar[bool] = False

    async def open_subscriptions(self, notifier: Any) -> int:
        """Count the tasks, of which each connection has as many."""
        await notifier.publish(announcement(fresh_subject()))
        return len(other_tasks())

    @pytest.fixture
    async def notifier(self, example: Any, nats_url: str, subject_name: str) -> AsyncIterator[ChangeNotifier]:
        """The adapter."""
        async with example.NatsNotifier(nats_url, subject_name, self.bound) as notifier:
            yield notifier

    @pytest.fixture
    async def twin(
        self, example: Any, nats_url: str, subject_name: str, notifier: ChangeNotifier
    ) -> AsyncIterator[ChangeNotifier]:
        """Another, on the same subject."""
        del notifier
        async with example.NatsNotifier(nats_url, subject_name, self.bound) as twin:
            await twin.publish(announcement(fresh_subject()))
            yield twin


class TestNatsOutage(NotifierOutageContract):
    """NATS is cut off."""

    @pytest.fixture
    async def proxy(self, nats_url: str) -> AsyncIterator[TcpProxy]:
        """What stands between."""
        parts = urlsplit(nats_url)
        async with TcpProxy(parts.hostname or "", parts.port or 4222) as proxy:
            yield proxy

    @pytest.fixture
    async def notifier(
        self, example: Any, proxy: TcpProxy, subject_name: str
    ) -> AsyncIterator[ChangeNotifier]:
        """The adapter, through the proxy."""
        async with example.NatsNotifier(f"nats://127.0.0.1:{proxy.port}", subject_name) as notifier:
            yield notifier

    @pytest.fixture
    def outage(self, proxy: TcpProxy) -> Outage:
        """Closes every connection and refuses new ones."""
        return Cut(proxy)


def test_two_processes_tell_each_other(nats_url: str, subject_name: str, tmp_path: Path) -> None:
    """What is written through one shows in a session on the other, and travels over NATS."""
    settings = {
        "PREFSYNC_DATABASE_URL": f"sqlite:///{(tmp_path / 'shared.sqlite3').as_posix()}",
        "PREFSYNC_JWT_KEY": KEY,
        "NATS_URL": nats_url,
        "NATS_SUBJECT": subject_name,
    }
    app = "nats_notifier:app"
    with uvicorn_process(settings, app) as one, uvicorn_process(settings, app) as other:
        told = token(subject_name)
        with (
            PreferencesClient(f"{one.url}/preferences", told) as writer,
            PreferencesClient(f"{other.url}/preferences", told) as reader,
            reader.watch(time_limit=LIMIT) as events,
        ):
            assert isinstance(next(events), Reset)
            writer.patch("appearance", {"theme": "dark"})
            change = next(events)
            assert isinstance(change, Change)
            assert change.changed == {"appearance": {"theme": "dark"}}
