"""FastAPI hosts around their mounts, in one app: run by uvicorn, in a process of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response

from prefsync import Settings
from tests.http.hosts import memory_mount

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def by_header(x_user: Annotated[str | None, Header()] = None) -> str:
    """Return a user's id, or refuse as this host does."""
    if x_user is None:
        raise HTTPException(418, "who are you?", {"X-Why": "no user"})
    return x_user


async def replaced() -> str:
    """Return nobody: overridden."""
    raise HTTPException(500, "must have been overridden")


async def guard(x_gate: Annotated[str | None, Header()] = None) -> None:
    """Let only those in who know the word."""
    if x_gate != "open":
        raise HTTPException(451, "closed")


# Behind a proxy that takes /proxy away.
app = FastAPI(root_path="/proxy")

_MINE = {"settings": Settings()}

app.include_router(memory_mount().router, prefix="/first")
app.include_router(memory_mount().router, prefix="/second/preferences")
app.include_router(memory_mount().router, prefix="/guarded", dependencies=[Depends(guard)])
app.include_router(memory_mount(authenticate=by_header, **_MINE).router, prefix="/own")
app.include_router(memory_mount(authenticate=replaced, **_MINE).router, prefix="/overridden")
app.dependency_overrides[replaced] = by_header


@app.middleware("http")
async def pass_on(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Stand before every request, as hosts' middlewares do (Starlette's BaseHTTPMiddleware)."""
    response = await call_next(request)
    response.headers["X-Passed"] = "yes"
    return response
