"""The Flask mount keeps the wire protocol: the same suite as FastAPI's."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import anyio
import pytest
from flask import Flask
from werkzeug.serving import make_server

from prefsync.adapters.sqlalchemy import SqlAlchemyRepository
from prefsync.testing.mount import LinkedContract, MountContract, MountHost
from prefsync.testing.mount.changes import ChangesContract
from prefsync.testing.mount.coding import CodingContract
from prefsync.testing.mount.documents import DocumentsContract
from prefsync.testing.mount.errors import ErrorsContract
from prefsync.testing.mount.fidelity import FidelityContract
from prefsync.testing.mount.https import HttpsContract
from prefsync.testing.mount.limits import LimitsContract
from prefsync.testing.mount.retries import RetriesContract
from prefsync.testing.mount.tokens import TokensContract
from prefsync.testing.mount.waiting import WaitingContract
from prefsync_flask import PrefSync
from tests.http.conftest import MODELS, ProcessHost, gunicorn_process, network_client
from tests.servers import HOST, PrivateRedis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from prefsync.ports import PreferenceRepository
    from prefsync.testing.mount import MountClient


class WerkzeugHost(MountHost):
    """Runs Flask apps in this process, by Werkzeug's own server.

    Args:
        storage: The settings that say where things are stored.
    """

    is_linked = False

    def __init__(self, storage: Mapping[str, str]) -> None:
        self._storage = storage

    def repository(self) -> PreferenceRepository:
        """See ``MountHost``."""
        return SqlAlchemyRepository(self._storage["PREFSYNC_DATABASE_URL"])

    @contextlib.asynccontextmanager
    async def open(self, settings: Mapping[str, str]) -> AsyncIterator[MountClient]:
        """See ``MountHost``."""
        app = Flask(__name__)
        app.config.update(self._storage, **settings)
        prefsync = PrefSync(app, MODELS)
        server = make_server(HOST, 0, app, threaded=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            async with network_client(f"http://{HOST}:{server.server_port}") as client:
                yield client
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
            await anyio.to_thread.run_sync(prefsync.gateway(app).close)


@pytest.fixture(scope="module")
def werkzeug_host(tmp_path_factory: pytest.TempPathFactory) -> WerkzeugHost:
    """SQLite and parts in memory: what a host gets that sets nothing."""
    file = tmp_path_factory.mktemp("flask") / "prefsync.sqlite3"
    return WerkzeugHost({"PREFSYNC_DATABASE_URL": f"sqlite:///{file}"})


@pytest.mark.once
class TestInMemory(MountContract):
    """In this process, on SQLite, with cache, notifier and limiter in memory."""

    @pytest.fixture(scope="class")
    @classmethod
    def host(cls, werkzeug_host: WerkzeugHost) -> WerkzeugHost:
        """Who runs the app under test."""
        return werkzeug_host


class TestEachPython(DocumentsContract, RetriesContract, WaitingContract):
    """The same on every Python, with what has a part in threads and waits."""

    @pytest.fixture(scope="class")
    @classmethod
    def host(cls, werkzeug_host: WerkzeugHost) -> WerkzeugHost:
        """Who runs the app under test."""
        return werkzeug_host


@pytest.mark.once
class TestGunicorn(
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
    """The example app as it is, in two processes under gunicorn's threads, on PostgreSQL and Redis.

    Left out is what no server and no second process has a part in.
    """

    @pytest.fixture(scope="class")
    @classmethod
    def host(cls, postgres_url: str) -> Iterator[ProcessHost]:
        """Who runs the app under test."""
        with PrivateRedis() as private:
            storage = {"PREFSYNC_DATABASE_URL": postgres_url, "PREFSYNC_REDIS_URL": private.url}
            yield ProcessHost(storage, gunicorn_process)
