"""The protocol's operations in the host's OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.routing import Match

from prefsync.http.openapi import describe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi.params import Depends
    from starlette.types import Scope

    from prefsync.schema import Schema

__all__ = ["DocumentedRoute", "documented_routes"]


class DocumentedRoute(APIRoute):
    """Stands in the OpenAPI document and never answers: the protocol's own routes stand before it."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See ``BaseRoute``."""
        del scope
        return Match.NONE, {}


def documented_routes(schema: Schema, dependencies: list[Depends]) -> Iterator[APIRoute]:
    """Yield a route for each operation.

    Args:
        schema: What the host declared.
        dependencies: Whose security schemes the operations need.
    """
    for path, method, operation in describe(schema):
        # FastAPI makes an id of name and path: one mount included twice, or two of them, do not get the same.
        name = operation.pop("operationId")
        yield DocumentedRoute(
            path,
            _answered_elsewhere,
            methods=[method.upper()],
            name=name,
            summary=operation["summary"],
            description=operation["description"],
            tags=["preferences"],
            dependencies=dependencies,
            response_class=Response,
            openapi_extra=operation,
        )


def _answered_elsewhere() -> Any:
    """Give FastAPI an endpoint to document; its route matches no request."""
