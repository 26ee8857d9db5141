"""A way past the host's routing, for requests that have been through it once.

FastAPI looks for the route of each request anew and stacks up contexts for dependencies and files on the way, which
costs more than a cached read. What it found stays true as long as nobody changes the routes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from fastapi import routing
from fastapi.routing import APIRoute, APIRouter, APIWebSocketRoute
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute

from prefsync_fastapi.openapi import DocumentedRoute
from prefsync_fastapi.translate import send_response

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp, Receive, Scope, Send

    from prefsync.http import HttpResponse

__all__ = ["Shortcut", "learn", "raise_failure"]

# Under these names things travel in an ASGI scope: which shortcut a request passed by, and what went wrong on one.
_PASSED_BY: Final = "prefsync_shortcut"
_FAILURE: Final = "prefsync_failure"

_MOST_WAYS: Final = 10_000

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

    async def answer(self, scope: Scope, receive: Receive) -> HttpResponse:
        """Answer a request."""
        ...


class Shortcut:
    """Stands behind the host's middlewares and before the app's routing.

    Args:
        host: The app.
        app: What comes after this; named as Starlette's own middlewares name it.

    Attributes:
        host: The app.
        app: What comes after this.
    """

    def __init__(self, host: Any, app: ASGIApp) -> None:
        self.app = app
        self.host = host
        self._ways: dict[_Key, tuple[Destination, dict[str, Any]]] = {}
        self._known: list[tuple[list[BaseRoute], list[BaseRoute]]] = []

    @classmethod
    def add_to(cls, host: Any) -> None:
        """Put one into an app that has built its middlewares, if they are as expected and it has none yet."""
        holder = host.middleware_stack
        while holder is not None:
            inner = getattr(holder, "app", None)
            if isinstance(inner, cls):
                return
            if type(inner) is ExceptionMiddleware:
                holder.app = cls(host, inner)
                return
            holder = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as ASGI apps do, one way or the other."""
        if scope["type"] != "http":
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
            response = await way[0].answer(scope, receive)
        except Exception as error:  # noqa: BLE001  # it is raised again where the host's handlers see it
            scope[_FAILURE] = error
            await self.app(scope, receive, send)
            return
        await send_response(response, scope, receive, send)

    def _is_open(self, scope: Scope) -> bool:
        """Tell whether a request would still be routed as the one before it."""
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


def raise_failure(scope: Scope) -> None:
    """Raise what was raised on the shortcut, for the host's exception handlers."""
    failure: Exception | None = scope.pop(_FAILURE, None)
    if failure is not None:
        raise failure


def _key(scope: Scope) -> _Key:
    return scope["method"], scope["path"], scope.get("root_path", "")


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
