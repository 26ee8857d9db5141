"""Who runs a mount for the contract suite: in this process, or under a real server."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import secrets
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import httpx2
import pytest
import redis
from fastapi import Depends, FastAPI, Request, Response

from prefsync.adapters.limits import LimitsRateLimiter
from prefsync.adapters.redis import RedisCache, RedisNotifier
from prefsync.adapters.sqlalchemy import SqlAlchemyRepository
from prefsync.parts import Parts
from prefsync.settings import Settings
from prefsync.testing.mount import Answer, Headers, MountClient, MountHost
from prefsync.testing.mount.callers import KEY
from prefsync_fastapi import PrefSync
from tests.contracts.support import patient_link
from tests.servers import HOST, PrivateRedis, ServerProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

    from prefsync.ports import PreferenceRepository

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"

_ADDRESSES = itertools.count(2)

# Made once: loading the machine's certificates takes longer than all that a test does.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def load_example() -> Any:
    """Import the example app anew, with a key and a memory of its own."""
    spec = importlib.util.spec_from_file_location(
        f"example_{secrets.token_hex(4)}", EXAMPLES / "fastapi_app.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFSYNC_")}
    with mock.patch.dict(os.environ, {**kept, "PREFSYNC_JWT_KEY": KEY}, clear=True):
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    return module


example = load_example()
MODELS = [example.Appearance, example.Editor, example.Notifications, example.Plugins]


class HttpxClient(MountClient):
    """A client over a transport of httpx2's, which adds no headers of its own but ``Host`` and those of the body.

    Args:
        transport_from: Makes a transport for a client's address.
        base: The app's URL.
        prefix: Where it has its mount.
        transports: Where to note the transports that are to be closed.
    """

    def __init__(
        self,
        transport_from: Callable[[str], httpx2.AsyncBaseTransport],
        base: str = "http://testserver",
        prefix: str = "/preferences",
        transports: list[httpx2.AsyncBaseTransport] | None = None,
    ) -> None:
        self._transport_from = transport_from
        self._base = base
        self._prefix = prefix
        self._transports = [] if transports is None else transports
        # All of 127.0.0.0/8 is this machine.
        number = next(_ADDRESSES)
        self.address = f"127.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        self._transport = transport_from(self.address)
        self._transports.append(self._transport)

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
        url = f"{self._base}{self._prefix}{path}" + (f"?{query}" if query else "")
        lines = headers if isinstance(headers, (list, tuple)) else list(dict(headers).items())
        content = body if body is None or isinstance(body, bytes) else _pieces(body)
        coded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines]
        request = httpx2.Request(method, url, headers=coded, content=content)
        response = await self._transport.handle_async_request(request)
        try:
            raw = b"".join([piece async for piece in response.stream])  # type: ignore[union-attr]
        finally:
            await response.aclose()
        found = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers.raw]
        return Answer(response.status_code, Headers(found), raw)

    def elsewhere(self) -> HttpxClient:
        """See ``MountClient``."""
        return HttpxClient(self._transport_from, self._base, self._prefix, self._transports)

    async def aclose(self) -> None:
        """Close the connections of this client, and of all that were made from it."""
        for transport in self._transports:
            await transport.aclose()


async def _pieces(body: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in body:
        yield piece


def asgi_client(app: Any, prefix: str = "/preferences", **options: Any) -> HttpxClient:
    """Return a client of an app in this process; its lifespan is the caller's to run."""
    return HttpxClient(
        lambda address: httpx2.ASGITransport(app, client=(address, 40_000), **options), prefix=prefix
    )


class InProcessHost(MountHost):
    """Runs FastAPI apps on this event loop.

    Args:
        storage: The settings that say where things are stored.
        redis_url: Where the parts on Redis are, if anywhere.
        redis_prefix: What their keys and channels begin with.
        is_guarded: Whether dependencies and a middleware of the host's stand before the mount.
    """

    def __init__(
        self,
        storage: Mapping[str, str],
        redis_url: str | None = None,
        redis_prefix: str = "",
        *,
        is_guarded: bool = False,
    ) -> None:
        self._storage = storage
        self._redis_url = redis_url
        self._redis_prefix = redis_prefix
        self._is_guarded = is_guarded
        self.is_linked = redis_url is not None

    def repository(self) -> PreferenceRepository:
        """See ``MountHost``."""
        return SqlAlchemyRepository(self._storage["PREFSYNC_DATABASE_URL"])

    def mount(self, settings: Mapping[str, str], **more: Any) -> PrefSync:
        """Make a mount on this host's storage."""
        read = Settings.from_mapping({**self._storage, **settings})
        parts = Parts()
        if self._redis_url is not None:
            link = patient_link(self._redis_url, self._redis_prefix)
            parts = Parts(
                cache=RedisCache(link, read.cache_ttl),
                notifier=RedisNotifier(link),
                limiter=LimitsRateLimiter(read.rate_limit, link),
            )
        return PrefSync(MODELS, settings=read, parts=parts, **more)

    @contextlib.asynccontextmanager
    async def open(self, settings: Mapping[str, str]) -> AsyncIterator[MountClient]:
        """See ``MountHost``."""
        app = FastAPI()
        mount = self.mount(settings)
        if self._is_guarded:
            app.include_router(mount.router, prefix="/preferences", dependencies=[Depends(_let_pass)])
            app.middleware("http")(_pass_on)
        else:
            app.include_router(mount.router, prefix="/preferences")
        async with app.router.lifespan_context(app):
            yield asgi_client(app)


async def _let_pass() -> None:
    """Stand before every request, and let it through."""


async def _pass_on(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    return await call_next(request)


class ProcessHost(MountHost):
    """Runs an example app in a process of its own.

    Args:
        storage: The settings that say where things are stored.
        serve: Makes the process.
    """

    def __init__(
        self, storage: Mapping[str, str], serve: Callable[[Mapping[str, str]], ServerProcess] | None = None
    ) -> None:
        self._storage = storage
        self._serve = serve or uvicorn_process

    def repository(self) -> PreferenceRepository:
        """See ``MountHost``."""
        return SqlAlchemyRepository(self._storage["PREFSYNC_DATABASE_URL"])

    @contextlib.asynccontextmanager
    async def open(self, settings: Mapping[str, str]) -> AsyncIterator[MountClient]:
        """See ``MountHost``."""
        with self._serve({**self._storage, **settings}) as server:
            async with network_client(server.url) as client:
                yield client


@contextlib.asynccontextmanager
async def network_client(url: str) -> AsyncIterator[HttpxClient]:
    """Give a client of a server on this machine, and close it."""
    client = HttpxClient(
        lambda address: httpx2.AsyncHTTPTransport(verify=NO_TLS, local_address=address, trust_env=False), url
    )
    try:
        yield client
    finally:
        await client.aclose()


def uvicorn_process(
    settings: Mapping[str, str], app: str = "fastapi_app:app", folder: Path = EXAMPLES
) -> ServerProcess:
    """Return a server process, not started yet, that runs an ASGI app under uvicorn."""
    options = ["--app-dir", str(folder), app, "--port", "{port}", "--no-access-log"]
    return _server_process("uvicorn", options, settings)


def gunicorn_process(
    settings: Mapping[str, str],
    *options: str,
    app: str = "flask_app:app",
    folder: Path = EXAMPLES,
    tls: ssl.SSLContext | None = None,
) -> ServerProcess:
    """Return a server process, not started yet, that runs a WSGI app under gunicorn: by threads, unless told otherwise."""
    usual = [
        *(
            "--chdir",
            str(folder),
            "--bind",
            f"{HOST}:{{port}}",
            "--no-control-socket",
            "--log-level",
            "warning",
        ),
        *(
            "--limit-request-field_size",
            "65536",
        ),  # tokens may have 8 KiB, of which gunicorn takes 2 bytes less
    ]
    return _server_process("gunicorn", [*usual, *(options or ("--threads", "200")), app], settings, tls)


def _server_process(
    module: str, options: list[str], settings: Mapping[str, str], tls: ssl.SSLContext | None = None
) -> ServerProcess:
    command = [sys.executable, "-m", module, *options]
    path = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return ServerProcess(command, {**settings, "PYTHONPATH": path}, path="/preferences", tls=tls)


@pytest.fixture(scope="session")
def redis_namespace(redis_url: str) -> Iterator[str]:
    """A prefix for the keys and channels of this folder's mounts; its keys are deleted afterwards."""
    prefix = f"prefsync-test-{secrets.token_hex(8)}"
    yield prefix
    with redis.Redis.from_url(redis_url) as client:
        for pattern in (f"{prefix}*", f"*{prefix}*"):
            for key in client.scan_iter(pattern, count=1_000):
                client.unlink(key)


@pytest.fixture(scope="session")
def sqlite_host(tmp_path_factory: pytest.TempPathFactory) -> InProcessHost:
    """SQLite and parts in memory: what a host gets that sets nothing."""
    file = tmp_path_factory.mktemp("sqlite") / "prefsync.sqlite3"
    return InProcessHost({"PREFSYNC_DATABASE_URL": f"sqlite:///{file}"})


@pytest.fixture(scope="session")
def guarded_host(tmp_path_factory: pytest.TempPathFactory) -> InProcessHost:
    """The same, with things of the host's before the mount, so that FastAPI has a part in each request."""
    file = tmp_path_factory.mktemp("guarded") / "prefsync.sqlite3"
    return InProcessHost({"PREFSYNC_DATABASE_URL": f"sqlite:///{file}"}, is_guarded=True)


@pytest.fixture(scope="session")
def postgres_host(postgres_url: str, redis_url: str, redis_namespace: str) -> InProcessHost:
    """PostgreSQL and Redis: production."""
    return InProcessHost({"PREFSYNC_DATABASE_URL": postgres_url}, redis_url, redis_namespace)


@pytest.fixture(scope="session")
def near_host(postgres_url: str, redis_url: str, redis_namespace: str) -> InProcessHost:
    """The same with a near cache."""
    settings = {"PREFSYNC_DATABASE_URL": postgres_url, "PREFSYNC_NEAR_CACHE": "1MiB"}
    return InProcessHost(settings, redis_url, f"{redis_namespace}near")


@pytest.fixture(scope="session")
def uvicorn_host(postgres_url: str) -> Iterator[ProcessHost]:
    """The example app under a real server, on PostgreSQL and on a Redis of its own."""
    with PrivateRedis() as private:
        yield ProcessHost({"PREFSYNC_DATABASE_URL": postgres_url, "PREFSYNC_REDIS_URL": private.url})
