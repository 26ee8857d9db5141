"""The Flask mount keeps the wire protocol's push transports: the same suite, under gunicorn's threads.

And beside FastAPI, in a fleet of both.
"""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

import pytest

from prefsync.testing.realtime.catalogue import CatalogueContract
from prefsync.testing.realtime.delivery import DeliveryContract
from prefsync.testing.realtime.frames import FramesContract
from prefsync.testing.realtime.handshakes import HandshakesContract
from prefsync.testing.realtime.hostile import HostileContract
from prefsync.testing.realtime.joining import JoiningContract
from prefsync.testing.realtime.limits import LimitsContract
from prefsync.testing.realtime.renewal import RenewalContract
from prefsync.testing.realtime.streams import StreamsContract
from prefsync.testing.realtime.tickets import TicketsContract
from prefsync.testing.realtime.waits import WaitsContract
from prefsync.testing.realtime.writes import WritesContract
from tests.http.conftest import gunicorn_process, uvicorn_process
from tests.realtime.conftest import ProcessHost
from tests.servers import PrivateRedis

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.servers import ServerProcess


@pytest.mark.once
class TestGunicorn(
    WaitsContract,  # the first base's tests come last
    HandshakesContract,
    FramesContract,
    CatalogueContract,
    RenewalContract,
    StreamsContract,
    LimitsContract,
    HostileContract,
):
    """Under gunicorn's threads, on PostgreSQL and Redis.

    Left out is what the mixed fleet is asked below.
    """

    @pytest.fixture(scope="class")
    @classmethod
    def host(cls, postgres_url: str) -> Iterator[ProcessHost]:
        """Who runs the app under test."""
        with PrivateRedis() as private:
            storage = {"PREFSYNC_DATABASE_URL": postgres_url, "PREFSYNC_REDIS_URL": private.url}
            yield ProcessHost(storage, gunicorn_process)


@pytest.mark.once
class TestMixedFleet(DeliveryContract, JoiningContract, TicketsContract, WritesContract):
    """A process of FastAPI under uvicorn and one of Flask under gunicorn, on one PostgreSQL and Redis.

    Left out is what a second process has no part in.
    """

    @pytest.fixture(scope="class")
    @classmethod
    def host(cls, postgres_url: str) -> Iterator[ProcessHost]:
        """Who runs the apps under test: the one of each kind in turn."""
        kinds = cycle([uvicorn_process, gunicorn_process])

        def serve(settings: Mapping[str, str]) -> ServerProcess:
            return next(kinds)(settings)

        with PrivateRedis() as private:
            yield ProcessHost(
                {"PREFSYNC_DATABASE_URL": postgres_url, "PREFSYNC_REDIS_URL": private.url}, serve
            )
