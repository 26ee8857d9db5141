"""A way past the host's routing, for requests that have been through it once.

FastAPI looks for the route of each request anew and stacks up contexts for dependencies and files on the way, which
costs more than a cached read; a WebSocket or a stream holds them, some 5 KiB, for as long as it lasts, and what is sent
on a stream passes through each of them. What it found stays true
as long as nobody changes the routes.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from fastapi import routing
from fastapi.routing import APIRoute, APIRouter, APIWebSocketRoute
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute

from prefsync_fastapi.openapi import DocumentedRoute
from prefsync_fastapi.translate import STARTED, send_response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from prefsync.http import HttpResponse

__all__ = ["Shortcut", "learn", "raise_failure"]

# Under these names things travel in an ASGI scope: which shortcut a request passed by, and what went wrong on one.
_PASSED_BY: Final = "prefsync_shortcut"
_FAILURE: Final = "prefsync_failure"

# Types of ASGI scopes that may pass by, and what stands for the method of WebSockets, which have none.
_PASSING: Final = frozenset({"http", "websocket"})
_NO_METHOD: Final = ""

_MOST_WAYS: Final = 10_000

# Where the middlewares of every app are from. They see to what goes wrong, and that is raised again behind them.
_ERROR_HANDLING: Final = frozenset(
    {
        "fastapi._body_limit",
        "fastapi.telemetry._asgi",
        "starlette.middleware.errors",
        "starlette.middleware.exceptions",
    }
)

# Where the middleware is from that stands between those and the routing.
_CLOSING_FILES: Final = "fastapi.middleware.asyncexitstack"

# What the router leaves in a scope for those who look at it afterwards: metrics and traces go by route.
_LEFT_BY_ROUTER: Final = ("router", "route", "endpoint", "path_params")

# FastAPI's own telemetry, where it is on, wants to see each request routed.
_TELEMETRY: Final = "fastapi.telemetry"

# It has no public name. Where it has another one, no included router is known, and every request goes the long way.
_INCLUDED: Final[Any] = getattr(routing, "_IncludedRouter", None)

# What matches by type, path and method alone, or never.
_PLAIN_MATCHES: Final[frozenset[Any]] = frozenset(
    kind.matches
    for kind in (
        Route,
        WebSocketRoute,
        Mount,
        APIRoute,
        APIWebSocketRoute,
        DocumentedRoute,
        _INCLUDED or Route,
    )
)

_Key: TypeAlias = tuple[str, str, str]


class Destination(Protocol):
    """A route of ours that answers for itself."""

    def is_free(self) -> bool:
        """Tell whether it is ready to answer."""
        ...

    def answer_at_once(self, scope: Scope) -> HttpResponse | None:
        """Answer a request for which nobody has to be waited for; ``None``: ask :meth:`answer`."""
        ...

    async def answer(self, scope: Scope, receive: Receive) -> HttpResponse:
        """Answer a request."""
        ...

    def connect(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve a WebSocket until it ends."""
        ...


class Shortcut:
    """Stands behind the host's middlewares and before the app's routing; before all of the app where it has none.

    Args:
        host: The app.
        passed: What comes after this and before the routing, in order.

    Attributes:
        host: The app.
        app: What comes after this; named as Starlette's own middlewares name it.
    """

    def __init__(self, host: Any, passed: list[Any]) -> None:
        self.app: ASGIApp = passed[0]
        self.host = host
        self._passed = list(pairwise([self, *passed, host.router]))
        self._ways: dict[_Key, tuple[Destination, dict[str, Any]]] = {}
        self._known: list[tuple[list[BaseRoute], list[BaseRoute]]] = []

    @classmethod
    def add_to(cls, host: Any) -> None:
        """Put one into an app that has built its middlewares, if they are as expected and it has none yet."""
        layers = _layers(host)
        last = len(layers) - 1
        while last >= 0 and type(layers[last]).__module__ == _CLOSING_FILES:
            last -= 1
        # The host may have others of the kind before its own middlewares: the last one is the app's.
        if last < 0 or type(layers[last]) is not ExceptionMiddleware or any(type(at) is cls for at in layers):
            return
        if all(type(layer).__module__ in _ERROR_HANDLING for layer in layers[: last + 1]):
            host.middleware_stack = cls(host, layers)
        else:
            layers[last - 1].app = cls(host, layers[last:])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as ASGI apps do, one way or the other."""
        if scope["type"] not in _PASSING:
            await self.app(scope, receive, send)
            return
        key = _key(scope)
        way = self._ways.get(key)
        if way is None or not (way[0].is_free() and self._is_open(scope)):
            scope[_PASSED_BY] = (self, key)
            await self.app(scope, receive, send)
            return
        scope.update(way[1])
        try:
            if scope["type"] == "websocket":
                await way[0].connect(scope, receive, send)
                return
            response = way[0].answer_at_once(scope)
            if response is None:
                response = await way[0].answer(scope, receive)
            await send_response(response, scope, receive, send)
        except Exception as error:
            scope[_FAILURE] = error  # it is raised again where the host's handlers see it
            if not scope.get(STARTED):
                await self.app(scope, receive, send)
                return
            await self.app(scope, receive, _nowhere)
            raise

    def _is_open(self, scope: Scope) -> bool:
        """Tell whether a request would still be routed as the one before it."""
        for layer, following in self._passed:
            if layer.app is not following:  # somebody has put another one in between
                return False
        for routes, known in self._known:
            if routes != known:
                self._ways.clear()
                self._known = []
                return False
        return not (scope.get("path_params") or scope.get(_TELEMETRY) or self.host.dependency_overrides)

    def learn(self, key: _Key, scope: Scope, destination: Any) -> None:
        """Remember where a request was routed to, if its path and method alone decided it."""
        if _key(scope) != key or len(self._ways) >= _MOST_WAYS:
            return
        if not self._known:
            top = self.host.router
            routers = list(_routers(top))
            if top.middleware_stack != top.app or not all(map(_is_plain, routers)):
                return
            self._known = [(router.routes, list(router.routes)) for router in routers]
        if any(destination is route for _, known in self._known for route in known):
            self._ways[key] = (destination, {name: scope[name] for name in _LEFT_BY_ROUTER if name in scope})


def learn(scope: Scope, destination: Any) -> None:
    """Let a request that came the long way be the last of its kind that does.

    Args:
        scope: As it arrived at the destination.
        destination: A route that is also a :class:`Destination`.
    """
    shortcut, key = scope.get(_PASSED_BY, (None, None))
    if shortcut is not None and shortcut.host is scope["app"]:
        shortcut.learn(key, scope, destination)
    else:
        Shortcut.add_to(scope["app"])


async def raise_failure(scope: Scope, send: Send) -> None:
    """Raise what was raised on the shortcut, for the host's exception handlers."""
    failure: Exception | None = scope.pop(_FAILURE, None)
    if failure is None:
        return
    if scope.get(STARTED):  # by which those on the way out know that they can answer nothing any more
        await send({"type": "http.response.start", "status": 200, "headers": []})
    raise failure


async def _nowhere(message: Message) -> None:
    """Take what is said after a response has begun."""
    del message


def _layers(host: Any) -> list[Any]:
    """Return an app's middlewares, the outermost one first; none where they do not lead to its router."""
    layers: list[Any] = []
    layer = host.middleware_stack
    while layer is not None and layer is not host.router:
        layers.append(layer)
        layer = getattr(layer, "app", None)
    return layers if layer is not None else []


def _key(scope: Scope) -> _Key:
    return scope.get("method", _NO_METHOD), scope["path"], scope.get("root_path", "")


def _routers(router: Any) -> Iterator[Any]:
    """Yield a router and all that are included in it."""
    yield router
    for route in router.routes:
        if type(route) is _INCLUDED:
            yield from _routers(route.original_router)


def _is_plain(router: Any) -> bool:
    """Tell whether a router and its routes go by path and method alone."""
    kind: Any = type(router)
    return all(
        getattr(kind, name) is getattr(APIRouter, name) for name in ("__call__", "app", "matches", "handle")
    ) and all(
        # A mount on everything may be a layer around what it mounts.
        (type(route).matches in _PLAIN_MATCHES or getattr(route, "goes_by_path", False))
        and not (isinstance(route, Mount) and route.path == "")
        for route in router.routes
    )
