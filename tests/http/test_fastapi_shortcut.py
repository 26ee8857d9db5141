"""Requests pass by FastAPI's routing once they were routed, and never by anything of the host's."""

from __future__ import annotations

import contextlib
import itertools
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import anyio
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request
from starlette.middleware import Middleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Host, Mount, Route, WebSocketRoute

from prefsync.document import Subject
from prefsync.testing.mount import newcomer
from prefsync_fastapi.routes import ProtocolRoute
from prefsync_fastapi.shortcut import Shortcut
from tests.http.conftest import asgi_client
from tests.http.hosts import app_with, memory_mount, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping

    from starlette.types import ASGIApp, Receive, Scope, Send

    from prefsync.testing.mount import Caller

pytestmark = pytest.mark.anyio


@contextlib.contextmanager
def looks(app: FastAPI) -> Iterator[Callable[[], int]]:
    """Count how often an app's first route is compared with a path."""
    first: Any = app.router.routes[0]
    regex = mock.Mock(wraps=first.path_regex)
    with mock.patch.object(first, "path_regex", regex):
        yield lambda: regex.match.call_count


async def learn(me: Caller) -> None:
    """Ask until the way is known: the first request puts the shortcut in, the second one teaches it."""
    for _ in range(3):
        assert (await me.get("/appearance")).status == 200


async def handshake(app: FastAPI, path: str) -> str | None:
    """Offer a WebSocket and go away again; return the type of what the app says first, if anything."""
    said: list[str] = []
    coming = ["websocket.connect"]

    async def receive() -> dict[str, Any]:
        return {"type": coming.pop() if coming else "websocket.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        said.append(message["type"])

    scope = {
        "type": "websocket",
        "scheme": "ws",
        "path": f"/preferences{path}",
        "query_string": b"EIO=4&transport=websocket" if "socket.io" in path else b"",
        "headers": [],
        "subprotocols": ["prefsync.v1"],
        "client": ("127.0.0.1", 1),
    }
    await app(scope, receive, send)
    return said[0] if said else None


async def stream(app: FastAPI, me: Caller) -> list[str]:
    """Open an event stream and go away again; return the status of what is answered, and what was raised."""
    said: list[str] = []
    coming = ["http.request"]

    async def receive() -> dict[str, Any]:
        return {"type": coming.pop(), "body": b""} if coming else {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            said.append(str(message["status"]))

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/preferences/events",
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {me.token}".encode())],
        "client": ("127.0.0.1", 1),
    }
    try:
        await app(scope, receive, send)
    except (LookupError, RuntimeError) as error:
        said.append(type(error).__name__)
    return said


async def test_routing_is_done_once_for_each_kind_of_request() -> None:
    """A request of a kind that was routed is not routed again; of another path, method or mount it is."""
    app = app_with(memory_mount(), memory_mount())
    with looks(app) as count:
        async with running(app) as me:
            await learn(me)
            known = count()
            for _ in range(3):
                assert (await me.get("/appearance")).status == 200
            assert count() == known
            assert (await me.get("")).status == 200
            assert (await me.put("/appearance", {"theme": "dark"})).status == 200
            assert (await me.through(asgi_client(app, "/preferences2")).get("/appearance")).status == 200
            assert count() == known + 3


async def test_what_is_not_the_protocols_is_always_routed() -> None:
    """Paths and methods that anybody can make up are not kept in memory."""
    app = app_with(memory_mount())
    with looks(app) as count:
        async with running(app) as me:
            await learn(me)
            for path, method, status in (("/nothing", "GET", 404), ("/appearance", "POST", 405)):
                known = count()
                for number in range(1, 5):
                    assert (await me.send(method, path)).status == status
                    assert count() == known + number


async def test_a_route_that_the_host_puts_before_it_is_taken() -> None:
    """Routes that change while the app runs are obeyed, as FastAPI obeys them."""
    app = app_with(memory_mount())
    async with running(app) as me:
        await learn(me)
        app.router.routes.insert(0, Route("/preferences/appearance", _elsewhere))
        assert (await me.get("/appearance")).status == 418
        assert (await me.put("/appearance", {"theme": "dark"})).status == 200
        del app.router.routes[0]
        assert (await me.get("/appearance")).status == 200


async def test_a_dependency_that_is_overridden_is_asked() -> None:
    """An override that comes while the app runs counts from then on, and no longer than it is there."""
    mount = memory_mount()
    app = app_with(mount)
    async with running(app) as me:
        assert (await me.put("/appearance", {"theme": "dark"})).status == 200
        await learn(me)
        app.dependency_overrides[mount.caller] = lambda: Subject("somebody else")
        assert (await me.get("/appearance")).json()["theme"] == "system"
        app.dependency_overrides.clear()
        assert (await me.get("/appearance")).json()["theme"] == "dark"


@pytest.mark.parametrize("where", ["include", "router", "app"])
async def test_dependencies_of_the_host_are_asked_each_time(where: str) -> None:
    """Whatever the host puts before the mount as a dependency sees every request."""
    seen: list[str] = []

    def see(request: Request) -> None:
        seen.append(request.url.path)

    dependencies = [Depends(see)]
    app = FastAPI(dependencies=dependencies if where == "app" else None)
    between = APIRouter(dependencies=dependencies if where == "router" else None)
    between.include_router(memory_mount().router, prefix="/preferences")
    app.include_router(between, dependencies=dependencies if where == "include" else None)
    async with running(app) as me:
        for number in range(1, 6):
            assert (await me.get("/appearance")).status == 200
            assert len(seen) == number


async def test_a_host_name_decides_where_a_route_says_so() -> None:
    """With a route for one host name in the app, requests go by their host name."""
    app = FastAPI()
    app.router.routes.append(Host("elsewhere.example", Mount("/preferences", _Elsewhere())))
    app.include_router(memory_mount().router, prefix="/preferences")
    async with running(app) as me:
        await learn(me)
        assert (await me.get("/appearance", headers={"Host": "elsewhere.example"})).status == 418


async def test_a_layer_around_the_router_is_passed() -> None:
    """A middleware that stands within the app's routes, and not before them, sees every request."""
    inner = app_with(memory_mount())
    app = FastAPI(lifespan=inner.router.lifespan_context)
    seen: list[str] = []

    class Note:
        def __init__(self, app: ASGIApp) -> None:
            self._app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope["path"])
            await self._app(scope, receive, send)

    app.router.routes.append(Mount("", routes=inner.router.routes, middleware=[Middleware(Note)]))
    async with running(app) as me:
        for number in range(1, 6):
            assert (await me.get("/appearance")).status == 200
            assert len(seen) == number


async def test_a_websocket_is_routed_once() -> None:
    """Handshakes at the protocol's paths are routed once, and those at made-up ones each time."""
    app = app_with(memory_mount(socketio=True))
    routed = mock.patch.object(ProtocolRoute, "handle", autospec=True, side_effect=ProtocolRoute.handle)
    async with running(app):
        assert await handshake(app, "/nothing") == "websocket.close"
        for path in ("/ws", "/socket.io/"):
            for _ in range(2):
                assert await handshake(app, path) == "websocket.accept"
            with routed as handle:
                assert await handshake(app, path) == "websocket.accept"
                assert handle.call_count == 0, path
        with routed as handle:
            for number in range(1, 5):
                assert await handshake(app, "/nothing") == "websocket.close"
                assert handle.call_count == number


async def test_what_comes_before_a_websocket_while_the_app_runs_is_obeyed() -> None:
    """A route that the host puts before a mount gets the next handshake; so does an override of a dependency."""
    mount = memory_mount()
    app = app_with(mount)
    asked: list[str] = []

    class Elsewhere:
        async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
            asked.append(scope["path"])
            await send({"type": "websocket.close"})

    def caller() -> Subject:
        asked.append("who")
        return Subject("somebody else")

    async with running(app):
        for _ in range(3):
            assert await handshake(app, "/ws") == "websocket.accept"
        app.router.routes.insert(0, WebSocketRoute("/preferences/ws", Elsewhere()))
        assert await handshake(app, "/ws") == "websocket.close"
        del app.router.routes[0]
        assert await handshake(app, "/ws") == "websocket.accept"
        assert asked == ["/preferences/ws"]
        app.dependency_overrides[mount.caller] = caller
        assert await handshake(app, "/ws") == "websocket.accept"
        app.dependency_overrides.clear()
        assert await handshake(app, "/ws") == "websocket.accept"
    assert asked == ["/preferences/ws", "who"]


async def test_errors_of_websockets_reach_the_hosts_handlers() -> None:
    """What goes wrong with a WebSocket on the shortcut is handled by the host as on the long way."""
    mount = memory_mount()
    app = app_with(mount)
    caught: list[str] = []

    @app.exception_handler(LookupError)
    async def handle(_socket: Any, error: LookupError) -> None:
        caught.append(str(error))

    async with running(app):
        for _ in range(3):
            assert await handshake(app, "/ws") == "websocket.accept"
        with mock.patch.object(mount.runtime.api, "connect", side_effect=LookupError("not here")):
            assert await handshake(app, "/ws") is None
        assert caught == ["not here"]
        assert await handshake(app, "/ws") == "websocket.accept"


async def test_errors_reach_the_hosts_handlers() -> None:
    """What goes wrong on the shortcut is handled by the host as on the long way; so is what comes after it."""
    mount = memory_mount()
    app = app_with(mount)

    @app.exception_handler(LookupError)
    async def handle(_request: Request, error: LookupError) -> Response:
        return PlainTextResponse(str(error), 418)

    async with running(app) as me:
        await learn(me)
        with mock.patch.object(mount.runtime.api, "handle", side_effect=LookupError("not here")):
            for _ in range(2):
                answer = await me.get("/appearance")
                assert (answer.status, answer.body) == (418, b"not here")
        assert (await me.get("/appearance")).status == 200


async def test_a_stream_is_routed_once_and_its_errors_are_the_hosts_until_it_begins() -> None:
    """Event streams pass by, too; one that has begun is ended by an error and not answered a second time."""
    mount = memory_mount()
    app = app_with(mount)
    caught: list[str] = []

    @app.exception_handler(LookupError)
    async def handle(_request: Request, error: LookupError) -> Response:
        caught.append(str(error))
        return PlainTextResponse(str(error), 418)

    async with running(app) as me:
        await anyio.wait_all_tasks_blocked()  # the app has just been started
        for _ in range(3):
            assert await stream(app, me) == ["200"]
        routed = mock.patch.object(ProtocolRoute, "handle", autospec=True, side_effect=ProtocolRoute.handle)
        with routed as route:
            assert await stream(app, me) == ["200"]
            assert route.call_count == 0
        with mock.patch("prefsync.session.Session.join", side_effect=LookupError("not here")):
            assert await stream(app, me) == ["418"]
        with mock.patch("prefsync.session.Session.begin", side_effect=LookupError("too late")):
            # Starlette's word for an error that has a handler, which came too late to answer.
            assert await stream(app, me) == ["200", "RuntimeError"]
    assert caught == ["not here"]


@pytest.mark.parametrize("middlewares", [0, 1])
async def test_late_errors_reach_the_handler_of_last_resort(middlewares: int) -> None:
    """What goes wrong on a shortcut after an answer has begun is told to the host's handler of everything, too."""
    app = app_with(memory_mount())
    caught: list[str] = []
    for _ in range(middlewares):
        app.add_middleware(GZipMiddleware)

    @app.exception_handler(Exception)
    async def handle(_request: Request, error: Exception) -> Response:
        caught.append(str(error))
        return PlainTextResponse(str(error), 500)

    async with running(app) as me:
        await anyio.wait_all_tasks_blocked()  # the app has just been started
        for _ in range(3):
            assert await stream(app, me) == ["200"]
        with mock.patch("prefsync.session.Session.begin", side_effect=LookupError("too late")):
            assert await stream(app, me) == ["200", "LookupError"]
    assert caught == ["too late"]


@pytest.mark.parametrize("middlewares", [0, 1])
async def test_no_middleware_of_the_hosts_is_passed_by(middlewares: int) -> None:
    """The shortcut stands before the whole app, but behind the host's middlewares where it has any."""
    app = app_with(memory_mount())
    for _ in range(middlewares):
        app.add_middleware(GZipMiddleware)
    async with running(app) as me:
        await learn(me)
        assert isinstance(app.middleware_stack, Shortcut) == (not middlewares)
        assert (await me.get("/appearance")).status == 200


@pytest.mark.parametrize("middlewares", [0, 1])
async def test_a_middleware_that_is_put_in_while_the_app_runs_is_not_passed_by(middlewares: int) -> None:
    """Wherever it is put: before all others, or behind any of them."""
    seen: list[str] = []

    class Note:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope["path"])
            await self.app(scope, receive, send)

    for place in itertools.count():
        app = app_with(memory_mount())
        for _ in range(middlewares):
            app.add_middleware(GZipMiddleware)
        async with running(app) as me:
            await learn(me)
            layers: list[Any] = [SimpleNamespace(app=app.middleware_stack)]
            while layers[-1].app is not app.router:
                layers.append(layers[-1].app)
            if place == len(layers):
                assert place > middlewares + 1
                return
            layers[place].app = Note(layers[place].app)
            app.middleware_stack = layers[0].app
            for number in range(1, 4):
                assert (await me.get("/appearance")).status == 200
                assert len(seen) == number, place
        seen.clear()


async def test_middlewares_behind_a_handler_of_errors_are_not_passed_by() -> None:
    """Hosts add one of Starlette's own before theirs, so that what those raise is answered; they see each request."""
    app = app_with(memory_mount())
    seen: list[str] = []

    class Note:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope["path"])
            await self.app(scope, receive, send)

    app.add_middleware(Note)
    app.add_middleware(ExceptionMiddleware, handlers=app.exception_handlers)
    async with running(app) as me:
        with looks(app) as count:
            await learn(me)
            known = count()
            for number in range(4, 7):
                assert (await me.get("/appearance")).status == 200
                assert len(seen) == number
            assert count() == known


async def test_a_limit_on_bodies_is_kept() -> None:
    """A host's own limit holds for requests that were routed once, too."""
    app = FastAPI(max_body_size=100)  # older releases take it for one of their extra arguments
    app.include_router(memory_mount().router, prefix="/preferences")
    async with running(app) as me:
        for _ in range(4):
            assert (await me.patch("/appearance", {"accent": "#123456"})).status == 200
        limited = hasattr(app, "max_body_size")
        long = await me.patch("/appearance", {"accent": "#" + "1" * 200})
        assert (long.status == 413) == limited


async def test_the_route_is_told_to_those_who_ask_afterwards() -> None:
    """Metrics of the host's find route and path parameters in the scope, shortcut or not."""
    found: list[tuple[str, Any]] = []

    class Metrics:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await self.app(scope, receive, send)
            if scope["type"] == "http":
                found.append((scope["route"].name, scope["path_params"]))

    app = app_with(memory_mount())
    app.add_middleware(Metrics)
    async with running(app) as me:
        with looks(app) as count:
            await learn(me)
            known = count()
            await me.get("/appearance")
            assert count() == known
    assert found == [("prefsync", {"prefsync_path": "/appearance"})] * 4


async def test_an_app_that_is_stopped_and_started_again() -> None:
    """After the stop it says that it was not started; after the next start it answers."""
    app = app_with(memory_mount())
    async with running(app) as me:
        await learn(me)
    with pytest.raises(RuntimeError, match="lifespan"):
        await newcomer(asgi_client(app)).get("/appearance")
    async with running(app) as me:
        await learn(me)


async def _elsewhere(_request: Request) -> Response:
    return PlainTextResponse("", 418)


class _Elsewhere:
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("", 418)(scope, receive, send)
