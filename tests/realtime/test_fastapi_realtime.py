"""The FastAPI mount keeps the wire protocol's push transports: one suite, on two kinds of deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prefsync.testing.realtime import RealtimeContract
from prefsync.testing.realtime.delivery import DeliveryContract
from prefsync.testing.realtime.joining import JoiningContract
from prefsync.testing.realtime.limits import LimitsContract
from prefsync.testing.realtime.tickets import TicketsContract
from prefsync.testing.realtime.waits import WaitsContract
from prefsync.testing.realtime.writes import WritesContract

if TYPE_CHECKING:
    from tests.realtime.conftest import ProcessHost


@pytest.mark.once
class TestProcesses(RealtimeContract):
    """Two processes under uvicorn, on PostgreSQL and Redis."""

    @pytest.fixture(scope="class")
    @classmethod
    def host(cls, processes: ProcessHost) -> ProcessHost:
        """Who runs the app under test."""
        return processes


@pytest.mark.once
class TestProcess(
    WaitsContract,
    JoiningContract,
    DeliveryContract,
    TicketsContract,
    WritesContract,
    LimitsContract,
):
    """One process under uvicorn, on SQLite, with everything else in memory.

    Left out is what no store, notifier or limiter has a part in.
    """

    @pytest.fixture(scope="class")
    @classmethod
    def host(cls, process: ProcessHost) -> ProcessHost:
        """Who runs the app under test."""
        return process
