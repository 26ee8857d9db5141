"""The server that a team would write by hand in an afternoon, for comparison; honest work, with nothing of prefsync in it.

FastAPI, SQLAlchemy's asyncio on asyncpg, redis.asyncio, PyJWT, limits, python-socketio: each as its documentation shows
it, with pools, without what costs and brings nothing (``expire_on_commit``, pings before each use). The same documents
and rules as the example app, the rendered answer cached in Redis, an entity tag, limits that all processes share, the
headers that tell them, and an event to the user's other sessions over whichever process. What prefsync has beyond that
it has not: a log to catch up from, idempotency keys, conditional writes, service while Redis is away.

Started with ``BENCH_DATABASE_URL``, ``BENCH_REDIS_URL`` and ``BENCH_JWT_KEY``.
"""

from __future__ import annotations

import os
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import jwt
import socketio
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from limits import parse
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from redis.asyncio import Redis
from sqlalchemy import BigInteger, select
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["app"]

_KEY: Final = os.environ.get("BENCH_JWT_KEY", "")
_REDIS_URL: Final = os.environ.get("BENCH_REDIS_URL", "redis://127.0.0.1:6379/0")
_DATABASE_URL: Final = os.environ.get("BENCH_DATABASE_URL", "postgresql://127.0.0.1/bench")
_CACHE_TTL: Final = 300

# Refuses nobody here, and costs what 100 a minute cost elsewhere: what Redis looks through for a request depends on how
# many are in the window, and on the limit.
_LIMIT: Final = parse("1000/second")


# --- Documents -------------------------------------------------------------------------------------------------------


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Appearance(_Strict):
    """How the app looks."""

    theme: Literal["system", "light", "dark"] = "system"
    accent: Annotated[str, Field(pattern=r"^#[0-9A-Fa-f]{6}$")] = "#3366ff"
    font_size: Annotated[int, Field(ge=8, le=72)] = 14
    density: Literal["comfortable", "compact"] = "comfortable"


class Editor(_Strict):
    """How text is edited."""

    tab_size: Annotated[int, Field(ge=1, le=16)] = 4
    word_wrap: bool = False
    rulers: Annotated[list[int], Field(max_length=8)] = []


class Notifications(_Strict):
    """What the app may interrupt for."""

    email: bool = True
    push: bool = False
    digest: Literal["off", "daily", "weekly"] = "weekly"
    muted_channels: Annotated[list[str], Field(max_length=100)] = []


class Document(_Strict):
    """All of a user's preferences."""

    appearance: Appearance = Appearance()
    editor: Editor = Editor()
    notifications: Notifications = Notifications()
    plugins: dict[str, Any] = {}


class State(BaseModel):
    """A document as it is told."""

    revision: int
    values: Document


# --- Storage ---------------------------------------------------------------------------------------------------------


class _Base(DeclarativeBase):
    pass


class Preferences(_Base):
    """One row for each user."""

    __tablename__ = "bench_handwritten"

    user_id: Mapped[str] = mapped_column(primary_key=True)
    document: Mapped[dict[str, Any]] = mapped_column(JSONB)
    revision: Mapped[int] = mapped_column(BigInteger)


engine = create_async_engine(
    _DATABASE_URL.replace("postgresql://", "postgresql+asyncpg://", 1), pool_size=10, max_overflow=10
)
session_maker = async_sessionmaker(engine, expire_on_commit=False)
cache = Redis.from_url(_REDIS_URL)
limiter = MovingWindowRateLimiter(RedisStorage(f"async+{_REDIS_URL}", implementation="redispy"))


async def _opened() -> AsyncIterator[AsyncSession]:
    async with session_maker() as session:
        yield session


_Session = Annotated[AsyncSession, Depends(_opened)]


def _cache_key(user: str) -> str:
    return f"prefsync-bench-handwritten:{user}"


# --- Who calls, and how often -----------------------------------------------------------------------------------------

_bearer = HTTPBearer()


async def _verified(credentials: Annotated[HTTPAuthorizationCredentials, Depends(_bearer)]) -> dict[str, Any]:
    try:
        claims: dict[str, Any] = jwt.decode(
            credentials.credentials, _KEY, ["HS256"], leeway=30, options={"require": ["sub", "exp"]}
        )
    except jwt.InvalidTokenError as error:
        raise HTTPException(401, "invalid token", {"WWW-Authenticate": "Bearer"}) from error
    return claims


async def _user(
    claims: Annotated[dict[str, Any], Depends(_verified)], request: Request, response: Response
) -> str:
    scope = "preferences:read" if request.method == "GET" else "preferences:write"
    if scope not in claims.get("scope", "").split():
        raise HTTPException(403, "insufficient scope")
    user = str(claims["sub"])
    is_allowed = await limiter.hit(_LIMIT, user)
    window = await limiter.get_window_stats(_LIMIT, user)
    left = max(0, round(window.reset_time - time.time()))
    if not is_allowed:
        raise HTTPException(429, "too many requests", {"Retry-After": str(max(1, left))})
    response.headers["RateLimit-Policy"] = f'"user";q={_LIMIT.amount};w={_LIMIT.get_expiry()}'
    response.headers["RateLimit"] = f'"user";r={window.remaining};t={left}'
    return user


_User = Annotated[str, Depends(_user)]


# --- HTTP ------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(_Base.metadata.create_all)
    yield
    await cache.aclose()
    await engine.dispose()


api = FastAPI(lifespan=_lifespan)


@api.get("/preferences")
async def read(user: _User, request: Request, response: Response) -> Response:
    """Return the user's preferences, from Redis if they are there."""
    body: Any = await cache.get(_cache_key(user))
    if body is None:
        async with session_maker() as session:
            row = await session.get(Preferences, user)
        state = (
            State(revision=0, values=Document())
            if row is None
            else State(revision=row.revision, values=Document.model_validate(row.document))
        )
        body = _render(state)
        await cache.set(_cache_key(user), body, ex=_CACHE_TTL)
    return _answer(body, request, response)


@api.put("/preferences")
async def replace(
    document: Document, user: _User, session: _Session, request: Request, response: Response
) -> Response:
    """Store a whole document."""
    stored = document.model_dump(mode="json", exclude_unset=True)
    statement = insert(Preferences).values(user_id=user, document=stored, revision=1)
    statement = statement.on_conflict_do_update(
        index_elements=[Preferences.user_id],
        set_={"document": statement.excluded.document, "revision": Preferences.revision + 1},
    )
    revision = (await session.execute(statement.returning(Preferences.revision))).scalar_one()
    await session.commit()
    return await _tell(user, State(revision=revision, values=document), request, response)


@api.patch("/preferences")
async def change(
    patch: dict[str, dict[str, Any]], user: _User, session: _Session, request: Request, response: Response
) -> Response:
    """Change some fields; null takes one away."""
    query = select(Preferences).where(Preferences.user_id == user).with_for_update()
    row = (await session.execute(query)).scalar_one_or_none()
    if row is None:
        row = Preferences(user_id=user, document={}, revision=0)
        session.add(row)
    stored = {name: dict(fields) for name, fields in row.document.items()}
    for name, fields in patch.items():
        held = stored.setdefault(name, {})
        held.update(fields)
        stored[name] = {field: value for field, value in held.items() if value is not None}
    try:
        document = Document.model_validate(stored)
    except ValidationError as error:
        raise HTTPException(422, error.errors(include_url=False, include_context=False)) from error
    row.document = stored
    row.revision += 1
    await session.commit()
    return await _tell(user, State(revision=row.revision, values=document), request, response)


async def _tell(user: str, state: State, request: Request, response: Response) -> Response:
    """Make a new state known to the cache and to the user's sessions, and answer with it."""
    await cache.delete(_cache_key(user))
    await sockets.emit("change", state.model_dump(mode="json"), room=user)
    return _answer(_render(state), request, response)


def _render(state: State) -> bytes:
    return f"{state.revision}\n{state.model_dump_json()}".encode()


def _answer(rendered: bytes, request: Request, response: Response) -> Response:
    revision, _, body = rendered.partition(b"\n")
    etag = f'"{revision.decode()}"'
    headers = {
        **response.headers,
        "ETag": etag,
        "Cache-Control": "private, no-cache",
        "Vary": "Authorization",
    }
    if request.method == "GET" and request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


# --- Socket.IO -------------------------------------------------------------------------------------------------------

sockets = socketio.AsyncServer(async_mode="asgi", client_manager=socketio.AsyncRedisManager(_REDIS_URL))


@sockets.event  # type: ignore[untyped-decorator]  # ships no types
async def connect(sid: str, _environ: dict[str, Any], auth: dict[str, str] | None) -> None:
    """Let a user in who has a token."""
    try:
        claims = jwt.decode((auth or {})["token"], _KEY, ["HS256"], leeway=30)
    except (KeyError, jwt.InvalidTokenError) as error:
        raise socketio.exceptions.ConnectionRefusedError("unauthenticated") from error
    await sockets.enter_room(sid, claims["sub"])


app = socketio.ASGIApp(sockets, api)
