"""Requests pass by FastAPI's routing once they were routed, and never by anything of the host's."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from fastapi import APIRouter, Depends, FastAPI, Request
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Host, Mount, Route

from prefsync.document import Subject
from prefsync.testing.mount import newcomer
from tests.http.conftest import asgi_client
from tests.http.hosts import app_with, memory_mount, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
