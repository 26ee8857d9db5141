"""Where the host demands HTTPS: what is the host's own, and what the server says of a connection, in both mounts."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Self

import anyio
import pytest
from fastapi import FastAPI
from flask import Flask, request

from prefsync import Parts, Settings, UnauthenticatedError
from prefsync.adapters.memory import MemoryRepository
from prefsync.testing.mount import KEY, Answer, Headers
from prefsync_fastapi import CurrentPreferences, PrefSync
from prefsync_flask import PrefSync as FlaskPrefSync
from prefsync_flask import current_preferences
from tests.http.conftest import MODELS, HttpxClient, asgi_client, example

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Ask = Callable[..., Awaitable[Answer]]
    Serve = Callable[["Host"], Awaitable[Ask]]

pytestmark = pytest.mark.anyio

REMOTE = {"Host": "app.example"}
HSTS = "Strict-Transport-Security"


class Host:
    """An app with a mount that asks whom a request names, and an endpoint of its own that has preferences.

    Attributes:
        asked: Whom the host's own authentication has named.
        refuses: Whether it names nobody.
    """

    def __init__(self, *, authenticates: bool, **settings: Any) -> None:
        self.asked: list[str] = []
        self.refuses = False
        self._more: dict[str, Any] = {
            "settings": Settings(jwt_key=KEY, require_https=True, **settings),
            "parts": Parts(repository=MemoryRepository()),
            "socketio": True,
        }
        if authenticates:
            self._more["authenticate"] = self._authenticate

    def _authenticate(self) -> str:
        if self.refuses:
            raise UnauthenticatedError("nobody is signed in", "missing")
        self.asked.append("alice")
        return "alice"

    def fastapi(self) -> FastAPI:
        """Return it in FastAPI."""
        prefsync = PrefSync(MODELS, **self._more)
        app = FastAPI()
        app.include_router(prefsync.router, prefix="/preferences")

        @app.get("/preferences2/own")
        async def own(prefs: CurrentPreferences) -> str:
            return (await prefs.get(example.Appearance)).theme

        return app

    def flask(self) -> tuple[Flask, FlaskPrefSync]:
        """Return it in Flask."""
        app = Flask(__name__)

        @app.get("/preferences2/own")
        def own() -> str:
            assert request.path == "/preferences2/own"
            theme: str = current_preferences.get(example.Appearance).theme
            return theme

        return app, FlaskPrefSync(app, MODELS, **self._more)


@pytest.fixture(params=["fastapi", "flask"])
async def serve(request: pytest.FixtureRequest) -> AsyncIterator[Serve]:
    """Run a host, and return what asks it, below a prefix and with a scheme."""
    async with _Running(request.param) as running:
        yield running.serve


class _Running:
    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._closers: list[Callable[[], Awaitable[Any]]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for close in reversed(self._closers):
            await close()

    async def serve(self, host: Host) -> Ask:
        if self._kind == "flask":
            return self._serve_flask(host)
        app = host.fastapi()
        lifespan = app.router.lifespan_context(app)
        await lifespan.__aenter__()
        self._closers.append(partial(lifespan.__aexit__, None, None, None))

        async def ask(path: str, scheme: str = "http", prefix: str = "/preferences", **more: Any) -> Answer:
            transport = asgi_client(app)._transport_from
            client = HttpxClient(transport, f"{scheme}://testserver", prefix)
            return await client.request("GET", path, **more)

        return ask

    def _serve_flask(self, host: Host) -> Ask:
        app, prefsync = host.flask()
        client = app.test_client()
        self._closers.append(partial(anyio.to_thread.run_sync, prefsync.gateway(app).close))

        async def ask(
            path: str,
            scheme: str = "http",
            prefix: str = "/preferences",
            *,
            headers: dict[str, str],
            query: str = "",
        ) -> Answer:
            send = partial(
                client.get,
                base_url=f"{scheme}://{headers['Host']}",
                headers={name: value for name, value in headers.items() if name != "Host"},
                query_string=query,
            )
            found = await anyio.to_thread.run_sync(send, f"{prefix}{path}")
            return Answer(found.status_code, Headers(found.headers.items()), found.data)

        return ask


async def test_socket_io(serve: Serve) -> None:
    """A plain poll of Engine.IO is refused before there is a session; an encrypted one is answered."""
    ask = await serve(Host(authenticates=False))
    for query in ("EIO=4&transport=polling", "EIO=4&transport=polling&sid=x"):
        (await ask("/socket.io/", headers=REMOTE, query=query)).problem(403, "https-required")


async def test_the_hosts_own_authentication_is_not_asked(serve: Serve) -> None:
    """A host that sends visitors to its log-in page would have the cookie sent in the clear again."""
    host = Host(authenticates=True)
    ask = await serve(host)
    for path in ("", "/appearance", "/schema", "/ws", "/client.js"):
        (await ask(path, headers=REMOTE)).problem(403, "https-required")
    assert host.asked == []
    assert (await ask("", "https", headers=REMOTE)).ok()["revision"] == 0
    assert host.asked == ["alice"]


async def test_endpoints_of_the_hosts_own(serve: Serve) -> None:
    """Whoever has a token read there reads none that came in the clear."""
    ask = await serve(Host(authenticates=False))
    headers = {**REMOTE, "Authorization": "Bearer x"}
    assert (await ask("/own", prefix="/preferences2", headers=headers)).status == 403
    assert (await ask("/own", "https", prefix="/preferences2", headers=headers)).status == 401


@pytest.mark.parametrize(("age", "told"), [(60, "max-age=60"), (0, None)])
async def test_what_browsers_are_told(serve: Serve, age: int, told: str | None) -> None:
    """For how long to come encrypted, or nothing, on encrypted answers of any kind."""
    ask = await serve(Host(authenticates=False, hsts_max_age=age))
    for path in ("", "/client.js", "/nothing"):
        answer = await ask(path, "https", headers=REMOTE)
        assert answer.status in {200, 401}
        assert answer.headers.get(HSTS) == told


async def test_what_the_mount_refuses_by_itself(serve: Serve) -> None:
    """Whom the host's own authentication does not know is told to come encrypted, if it did; without that, nothing."""
    host = Host(authenticates=True)
    ask = await serve(host)
    host.refuses = True
    refused = await ask("/appearance", "https", headers=REMOTE)
    refused.problem(401, "unauthenticated")
    assert refused.headers[HSTS] == "max-age=31536000"
    local = await ask("/appearance", headers={"Host": "localhost"})
    local.problem(401, "unauthenticated")
    assert HSTS not in local.headers


async def test_where_no_thread_is_free() -> None:
    """Under WSGI the refusal of a stream that would hold one too many is an answer like all others."""
    async with _Running("flask") as running:
        ask = await running.serve(Host(authenticates=False, max_waiting=0))
        for scheme, host, told in (
            ("https", REMOTE, ["max-age=31536000"]),
            ("http", {"Host": "localhost"}, []),
        ):
            answer = await ask("/events", scheme, headers=host)
            answer.problem(503, "unavailable")
            assert answer.headers.all(HSTS) == told
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_nothing_is_told_where_nothing_is_required(serve: Serve) -> None:
    """Encrypted or not, a host that has not said so is served as ever."""
    host = Host(authenticates=False)
    host._more["settings"] = Settings(jwt_key=KEY)
    ask = await serve(host)
    for scheme in ("http", "https"):
        answer = await ask("/client.js", scheme, headers=REMOTE)
        assert answer.status == 200
        assert HSTS not in answer.headers
