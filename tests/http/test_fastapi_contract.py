"""The FastAPI mount keeps the wire protocol: one suite, on five kinds of host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prefsync.testing.mount import LinkedContract, MountContract
from prefsync.testing.mount.changes import ChangesContract
from prefsync.testing.mount.coding import CodingContract
from prefsync.testing.mount.conditions import ConditionsContract
from prefsync.testing.mount.documents import DocumentsContract
from prefsync.testing.mount.errors import ErrorsContract
from prefsync.testing.mount.fidelity import FidelityContract
from prefsync.testing.mount.https import HttpsContract
from prefsync.testing.mount.isolation import IsolationContract
from prefsync.testing.mount.limits import LimitsContract
from prefsync.testing.mount.rates import RatesContract
from prefsync.testing.mount.retries import RetriesContract
from prefsync.testing.mount.scopes import ScopesContract
from prefsync.testing.mount.tokens import TokensContract
from prefsync.testing.mount.values import ValuesContract
from prefsync.testing.mount.waiting import WaitingContract

if TYPE_CHECKING:
    from tests.http.conftest import InProcessHost, ProcessHost


class TestInMemory(MountContract):
    """In this process, on SQLite, with cache, notifier and limiter in memory."""

    @pytest.fixture(scope="class")
    @classmethod
    def host(cls, sqlite_host: InProcessHost) -> InProcessHost:
        """Who runs the app under test."""
        return sqlite_host


@pytest.mark.once
class TestPostgresAndRedis(
    DocumentsContract,
    FidelityContract,
    ConditionsContract,
    RetriesContract,
    ValuesContract,
    LimitsContract,
    ChangesContract,
    WaitingContract,
    LinkedContract,
    IsolationContract,
    RatesContract,
):
    """In this process, on PostgreSQL and Redis.

    Left out is what no store, notifier or limiter has a part in.
    """

    @pytest.fixture(scope="class")
    @classmethod
    def host(cls, postgres_host: InProcessHost) -> InProcessHost:
        """Who runs the app under test."""
        return postgres_host


@pytest.mark.once
class TestNearCache(
    DocumentsContract,
    FidelityContract,
    ConditionsContract,
    RetriesContract,
    ChangesContract,
    IsolationContract,
):
    """The same with a near cache, which in one process is as exact as the shared one."""

    @pytest.fixture(scope="class")
    @classmethod
    def host(cls, near_host: InProcessHost) -> InProcessHost:
        """Who runs the app under test."""
        return near_host


@pytest.mark.once
class TestGuarded(
    DocumentsContract,
    LimitsContract,
    WaitingContract,
    ErrorsContract,
    TokensContract,
    ScopesContract,
    RatesContract,
    HttpsContract,
):
    """In this process, with a dependency and a middleware of the host's before the mount: the way through FastAPI.

    Left out is what comes after the request has been handed over.
    """

    @pytest.fixture(scope="class")
    @classmethod
    def host(cls, guarded_host: InProcessHost) -> InProcessHost:
        """Who runs the app under test."""
        return guarded_host


@pytest.mark.once
class TestUvicorn(
    FidelityContract,
    RetriesContract,
    LimitsContract,
    CodingContract,
    ChangesContract,
    WaitingContract,
    LinkedContract,
    ErrorsContract,
    TokensContract,
    HttpsContract,
):
    """The example app as it is, in two processes under a real server, on PostgreSQL and Redis.

    Left out is what no server and no second process has a part in.
    """

    @pytest.fixture(scope="class")
    @classmethod
    def host(cls, uvicorn_host: ProcessHost) -> ProcessHost:
        """Who runs the app under test."""
        return uvicorn_host
