"""What a request costs in calls of functions, which no machine makes more or fewer: a regression fails here.

Times say little on a machine that others use. How often a request calls one of prefsync's functions, or one of Python's
from there, is the same every time; what the framework around it calls depends on its version and is bounded loosely.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import pytest

import prefsync
import prefsync_fastapi
from prefsync import Parts, Rate, Settings, Subject
from prefsync.adapters.limits import LimitsRateLimiter
from prefsync.adapters.memory import MemoryRepository
from prefsync.adapters.redis import RedisCache, RedisLink, RedisNotifier
from prefsync.testing.mount import KEY, mint
from prefsync_fastapi import PrefSync
from tests.http.conftest import MODELS
from tests.http.hosts import app_with, memory_mount
from tests.servers import create_database, drop_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import FrameType

    from fastapi import FastAPI

pytestmark = [pytest.mark.anyio, pytest.mark.once]

TIMES: Final = 15
"""How often each request is made: background work comes in between now and then, and not most of the time."""

OURS: Final = tuple(str(Path(str(package.__file__)).parent) for package in (prefsync, prefsync_fastapi))


@dataclass
class Calls:
    """Counts the calls of a thread.

    Attributes:
        ours: Of functions of prefsync's, and from these of functions written in C.
        python: Of all functions written in Python.
    """

    ours: int = 0
    python: int = 0

    def __enter__(self) -> Self:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            self.python += 1
        if event in {"call", "c_call"}:
            self.ours += frame.f_code.co_filename.startswith(OURS)


def is_near(mount: PrefSync, user: User) -> bool:
    """Tell whether the near cache speaks: it does not until announcements are known to arrive."""
    near = mount.runtime.hub._near
    return near is not None and near.get(Subject(user.name).key) is not None


class User:
    """Sends requests to an app as a server does, with nothing in between.

    Args:
        app: The app.
        name: The user's.
    """

    def __init__(self, app: FastAPI, name: str) -> None:
        self._app = app
        self.name = name
        token = mint({"sub": name, "exp": 4_000_000_000, "scope": "preferences:read preferences:write"})
        self._headers = [(b"host", b"testserver"), (b"authorization", f"Bearer {token}".encode())]

    async def send(self, method: str, value: Any = None, etag: bytes = b"") -> tuple[dict[str, Any], Calls]:
        """Send a request; return the start of its answer, and what it cost."""
        body = b"" if value is None else json.dumps(value).encode()
        headers = [*self._headers, (b"content-length", str(len(body)).encode())]
        headers += [(b"content-type", b"application/json")] if body else []
        headers += [(b"if-none-match", etag)] if etag else []
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "server": ("127.0.0.1", 8000),
            "client": ("127.0.0.1", 40_000),
            "scheme": "http",
            "method": method,
            "root_path": "",
            "path": "/preferences",
            "raw_path": b"/preferences",
            "query_string": b"",
            "headers": headers,
            "state": {},
            "extensions": {},
        }
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        with Calls() as calls:
            await self._app(scope, receive, send)
        return sent[0], calls


@dataclass(frozen=True)
class Cost:
    """What a request costs.

    Attributes:
        ours: Calls of prefsync's functions, and from these of functions written in C.
        python: Calls of all functions written in Python, the framework's and the drivers' too.
    """

    ours: int
    python: int


COSTS: Final = {
    "memory": {
        "GET": Cost(97, 77),
        "304": Cost(107, 83),
        "PUT": Cost(483, 398),
        "PATCH": Cost(411, 368),
    },
    "near": {
        "GET": Cost(65, 52),
        "304": Cost(63, 51),
        "PUT": Cost(510, 415),
        "PATCH": Cost(438, 385),
    },
    "servers": {
        "GET": Cost(136, 163),
        "304": Cost(146, 169),
        "PUT": Cost(571, 513),
        "PATCH": Cost(499, 483),
    },
}
"""By what documents are kept in, and by request. Who makes it less writes that here, or the next rise would go unseen."""

MARGIN: Final = 1.05
LOOSE_MARGIN: Final = 1.2
"""Of what depends on the versions of others."""


def _settings(**more: Any) -> Settings:
    return Settings(jwt_key=KEY, rate_limit=Rate(1_000_000, 60), **more)


@pytest.fixture(scope="module", params=COSTS)
async def stack(
    request: pytest.FixtureRequest, database: str, redis_url: str, redis_namespace: str
) -> AsyncIterator[tuple[str, PrefSync, FastAPI]]:
    """An app over memory, over that with a near cache, or over PostgreSQL and Redis."""
    if request.param == "servers":
        settings = _settings(database_url=database)
        # A machine that is busy with other tests is no Redis that is out of reach.
        link = RedisLink(redis_url, prefix=f"{redis_namespace}-calls", time_limit=10)
        limiter = LimitsRateLimiter(settings.rate_limit, link)
        parts = Parts(cache=RedisCache(link, 300), notifier=RedisNotifier(link), limiter=limiter)
        mount = PrefSync(MODELS, settings=settings, parts=parts)
    else:
        more = {"near_cache": 1 << 20} if request.param == "near" else {}
        mount = memory_mount(parts=Parts(repository=MemoryRepository()), settings=_settings(**more))
    app = app_with(mount)
    async with app.router.lifespan_context(app):
        yield request.param, mount, app


@pytest.fixture(scope="module")
def database(postgres_url: str) -> Iterator[str]:
    """A database of these tests' own: what others log there would be work for the relay here."""
    name = f"prefsync_test_{secrets.token_hex(8)}"
    yield create_database(postgres_url, name)
    drop_database(postgres_url, name)


@pytest.mark.parametrize("kind", ["GET", "304", "PUT", "PATCH"])
async def test_calls_of_a_request(stack: tuple[str, PrefSync, FastAPI], kind: str) -> None:
    """A request costs as many calls as it did, and no more."""
    where, mount, app = stack
    user = User(app, f"calls-{kind}-{secrets.token_hex(4)}")
    async with asyncio.timeout(60):
        costs = await usual_costs(user, kind)
        while where == "near" and not (is_near(mount, user) and (costs := await usual_costs(user, kind))):
            await asyncio.sleep(0.05)
    ours = statistics.median_low(calls.ours for calls in costs)
    python = statistics.median_low(calls.python for calls in costs)
    known = COSTS[where][kind]
    told = f"{kind} over {where}: Cost({ours}, {python})"
    assert ours <= known.ours * MARGIN, f"{told}, which is more than before: {known}"
    assert python <= known.python * LOOSE_MARGIN, f"{told}, which is more than before: {known}"
    assert ours >= known.ours * 0.9, f"{told}: good! Write it into COSTS in place of {known}"


async def usual_costs(user: User, kind: str) -> list[Calls]:
    """Send requests of a kind, and return what each of them cost."""
    costs = []
    for number in range(TIMES + 3):
        value = {"appearance": {"font_size": 10 + number, "theme": "dark"}}
        if kind in {"PUT", "PATCH"}:
            start, calls = await user.send(kind, value)
        else:
            if number == 0:
                start, calls = await user.send("PUT", value)
            etag = dict(start["headers"])[b"etag"] if kind == "304" else b""
            start, calls = await user.send("GET", etag=etag)
        assert start["status"] == (304 if kind == "304" else 200)
        if number >= 3:  # by then all is known that is remembered
            costs.append(calls)
    return costs
