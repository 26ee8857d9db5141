"""What all parts of the suite stand on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from prefsync.testing.mount.callers import KEY
from prefsync.testing.realtime.members import Member, Transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prefsync.testing.realtime.client import RealtimeClient, RealtimeHost

__all__ = ["BURST", "PLACES", "RealtimeSuite"]

_SETTINGS: Final = {"PREFSYNC_JWT_KEY": KEY, "PREFSYNC_JWT_LEEWAY": "0"}

BURST: Final = 5
"""Requests in a minute of the app that soon refuses."""

PLACES: Final = 3
"""Sessions that it may have."""


@pytest.mark.anyio
class RealtimeSuite:
    """The fixtures of the suite; a mount's own test class overrides ``host``."""

    @pytest.fixture(scope="class")
    @classmethod
    def host(cls) -> RealtimeHost:
        """Who runs the app under test."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    async def mount(cls, host: RealtimeHost) -> AsyncIterator[RealtimeClient]:
        """Run an app that limits nobody, and whose clock is nobody else's."""
        async with host.open({**_SETTINGS, "PREFSYNC_RATE_LIMIT": "100000/minute"}) as client:
            yield client

    @pytest.fixture(scope="class")
    @classmethod
    async def second(cls, host: RealtimeHost, mount: RealtimeClient) -> AsyncIterator[RealtimeClient]:
        """Run another process that shares everything with the first; where processes cannot, be the first."""
        if not host.is_linked:
            yield mount
            return
        async with host.open({**_SETTINGS, "PREFSYNC_RATE_LIMIT": "100000/minute"}) as client:
            yield client

    @pytest.fixture(scope="class")
    @classmethod
    async def strict(cls, host: RealtimeHost) -> AsyncIterator[RealtimeClient]:
        """Run an app whose limit is soon over, and which is soon full."""
        settings = {"PREFSYNC_RATE_LIMIT": f"{BURST}/minute", "PREFSYNC_MAX_SESSIONS": str(PLACES)}
        async with host.open({**_SETTINGS, **settings}) as client:
            yield client

    @pytest.fixture(scope="class")
    @classmethod
    async def apart(cls, host: RealtimeHost) -> AsyncIterator[RealtimeClient]:
        """Run an app whose limits for writes and for streams are soon over, and no other."""
        settings = {"PREFSYNC_RATE_LIMIT_WRITES": "2/minute", "PREFSYNC_RATE_LIMIT_STREAMS": "2/minute"}
        async with host.open({**_SETTINGS, **settings}) as client:
            yield client

    @pytest.fixture
    async def doomed(self, host: RealtimeHost) -> AsyncIterator[RealtimeClient]:
        """Run an app for one test, which ends it."""
        async with host.open(_SETTINGS) as client:
            yield client

    @pytest.fixture
    def me(self, mount: RealtimeClient) -> Member:
        """Be a user for whom nothing is stored yet."""
        return Member(mount)

    @pytest.fixture
    def there(self, second: RealtimeClient, me: Member) -> Member:
        """Be the same user at the other process."""
        return me.through(second)

    @pytest.fixture
    def somebody(self, mount: RealtimeClient) -> Member:
        """Be another user."""
        return Member(mount)

    @pytest.fixture
    def limited(self, strict: RealtimeClient) -> Member:
        """Be a user whose requests are soon refused."""
        return Member(strict)

    @pytest.fixture(params=["websocket", "events"])
    def transport(self, request: pytest.FixtureRequest) -> Transport:
        """Follow over each transport."""
        transport: Transport = request.param
        return transport
