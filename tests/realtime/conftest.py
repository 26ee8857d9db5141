"""Who runs a mount for the realtime suite: servers in processes of their own."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

import httpx2
import psutil
import pytest

from prefsync.adapters.sqlalchemy import SqlAlchemyRepository
from prefsync.testing.realtime import RealtimeClient, RealtimeHost
from tests.http.conftest import NO_TLS, HttpxClient, uvicorn_process
from tests.servers import HOST, PrivateRedis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence

    from prefsync.ports import PreferenceRepository
    from prefsync.testing.mount import Answer
    from tests.servers import ServerProcess


class ProcessClient(RealtimeClient):
    """A client of an app in a process of its own.

    Args:
        server: The process.
        plain: What sends plain requests.
        prefix: Where the app has its mount.
    """

    def __init__(self, server: ServerProcess, plain: HttpxClient, prefix: str = "/preferences") -> None:
        super().__init__((HOST, server.port), prefix, plain.address)
        self._server = server
        self._plain = plain

    async def request(
        self,
        method: str,
        path: str = "",
        *,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        body: bytes | Iterable[bytes] | None = None,
        query: str = "",
    ) -> Answer:
        """See ``MountClient``."""
        return await self._plain.request(method, path, headers=headers, body=body, query=query)

    def elsewhere(self) -> ProcessClient:
        """See ``MountClient``."""
        return ProcessClient(self._server, self._plain.elsewhere(), self.prefix)

    def memory(self) -> int:
        """See ``RealtimeClient``."""
        process = psutil.Process(self._server.pid)
        return sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))

    def stop(self) -> None:
        """See ``RealtimeClient``."""
        os.kill(self._server.pid, signal.SIGTERM)

    def log(self) -> str:
        """See ``RealtimeClient``."""
        return self._server.output


@contextlib.asynccontextmanager
async def client_of(server: ServerProcess, prefix: str = "/preferences") -> AsyncIterator[ProcessClient]:
    """Talk to the mount that a process has at a prefix."""
    plain = HttpxClient(
        lambda address: httpx2.AsyncHTTPTransport(verify=NO_TLS, local_address=address, trust_env=False),
        server.url,
        prefix,
    )
    try:
        yield ProcessClient(server, plain, prefix)
    finally:
        await plain.aclose()


class ProcessHost(RealtimeHost):
    """Runs an example app in processes of their own.

    Args:
        storage: The settings that say where things are stored.
        serve: Makes the process.
    """

    def __init__(
        self,
        storage: Mapping[str, str],
        serve: Callable[[Mapping[str, str]], ServerProcess] = uvicorn_process,
    ) -> None:
        self._storage = storage
        self._serve = serve
        self.is_linked = "PREFSYNC_REDIS_URL" in storage

    def repository(self) -> PreferenceRepository:
        """See ``MountHost``."""
        return SqlAlchemyRepository(self._storage["PREFSYNC_DATABASE_URL"])

    @contextlib.asynccontextmanager
    async def open(self, settings: Mapping[str, str]) -> AsyncIterator[RealtimeClient]:
        """See ``MountHost``."""
        with self._serve({**self._storage, **settings}) as server:
            async with client_of(server) as client:
                yield client


@pytest.fixture(scope="session")
def processes(postgres_url: str) -> Iterator[ProcessHost]:
    """PostgreSQL and a Redis of their own: production."""
    with PrivateRedis() as private:
        yield ProcessHost({"PREFSYNC_DATABASE_URL": postgres_url, "PREFSYNC_REDIS_URL": private.url})


@pytest.fixture(scope="session")
def process(tmp_path_factory: pytest.TempPathFactory) -> ProcessHost:
    """SQLite and parts in memory: what a host gets that sets nothing."""
    file = tmp_path_factory.mktemp("sqlite") / "prefsync.sqlite3"
    return ProcessHost({"PREFSYNC_DATABASE_URL": f"sqlite:///{file}"})
