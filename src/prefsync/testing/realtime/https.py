"""protocol.md, section 2, "Errors": ``https-required``, for what is opened and lasts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prefsync.testing.mount.callers import KEY
from prefsync.testing.realtime.members import Member, greeted
from prefsync.testing.realtime.suite import RealtimeSuite

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prefsync.testing.realtime.client import RealtimeClient, RealtimeHost

__all__ = ["HttpsContract"]


class HttpsContract(RealtimeSuite):
    """Where the host demands HTTPS, plain WebSockets are refused."""

    @pytest.fixture(scope="class")
    @classmethod
    async def https_only(cls, host: RealtimeHost) -> AsyncIterator[RealtimeClient]:
        """Run an app that is served encrypted alone, and reach it unencrypted."""
        async with host.open({"PREFSYNC_JWT_KEY": KEY, "PREFSYNC_REQUIRE_HTTPS": "true"}) as client:
            yield client

    async def test_a_plain_handshake_is_refused(self, https_only: RealtimeClient) -> None:
        """``403`` before the upgrade: a good token, a ticket, nobody named, whatever path it is for."""
        bare = Member(https_only)
        remote = {"Host": "app.example"}
        for headers, query, path in (
            ({**bare.bearer, **remote}, "", "/ws"),
            ({**bare.bearer, **remote, "X-Forwarded-Proto": "https"}, "", "/ws"),
            (remote, "ticket=x", "/ws"),
            (remote, "", "/ws"),
            ({**bare.bearer, **remote}, "", "/nothing"),
        ):
            client = https_only.elsewhere()
            answer = await client.handshake(headers=headers, query=query, path=path)
            answer.problem(403, "https-required")

    async def test_this_machine_is_exempt(self, https_only: RealtimeClient) -> None:
        """What has not left it needs no encryption."""
        bare = Member(https_only)
        async with https_only.websocket(headers=bare.bearer) as socket:
            await socket.say(type="hello")
            assert (await greeted(socket))["type"] == "reset"
