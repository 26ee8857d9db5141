"""What a FastAPI host does with its mount: start it, include it, put its own things around it."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Self

import pytest
from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware

from prefsync import ApiOptions, ConfigurationError, OpenPreferences, Parts, Rate, Settings
from prefsync.adapters.memory import MemoryRepository
from prefsync.testing.mount import KEY, newcomer
from prefsync_fastapi import CurrentPreferences, PrefSync
from tests.http.conftest import MODELS, asgi_client, example
from tests.http.hosts import CountingRepository, app_with, memory_mount, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from fastapi import Response

    from prefsync.testing.mount import Caller
    from tests.servers import PrivateRedis

pytestmark = pytest.mark.anyio


async def works(me: Caller) -> bool:
    """Tell whether reading and writing work."""
    (await me.patch("/appearance", {"theme": "dark"})).ok()
    return (await me.get("/appearance")).ok()["theme"] == "dark"


# --- Lifespan -----------------------------------------------------------------------------------------------


def by_router(mount: PrefSync) -> FastAPI:
    """Leave it to the router."""
    return app_with(mount)


def by_app_and_router(mount: PrefSync) -> FastAPI:
    """Name the lifespan, and include the router that brings it along."""
    return app_with(mount, lifespan=mount.lifespan)


def by_hosts_own(mount: PrefSync) -> FastAPI:
    """Have a lifespan of one's own, and leave the mount's to the router."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, str]]:
        yield {"host": "state"}

    return app_with(mount, lifespan=lifespan)


def by_hosts_own_around(mount: PrefSync) -> FastAPI:
    """Enter the mount's lifespan in one's own."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        async with mount.lifespan(app):
            yield {"host": "state"}

    return app_with(mount, lifespan=lifespan)


def by_two_includes(mount: PrefSync) -> FastAPI:
    """Include the router under two prefixes."""
    return app_with(mount, mount)


def by_nested_includes(mount: PrefSync) -> FastAPI:
    """Include the router in a router in a router."""
    inner, outer, app = APIRouter(), APIRouter(prefix="/v1"), FastAPI()
    inner.include_router(mount.router, prefix="/preferences")
    outer.include_router(inner, prefix="/api")
    app.include_router(outer)
    return app


WAYS = [by_router, by_app_and_router, by_hosts_own, by_hosts_own_around, by_two_includes, by_nested_includes]


@pytest.mark.parametrize("way", WAYS)
async def test_everything_is_started_and_stopped_once(way: Callable[[PrefSync], FastAPI]) -> None:
    """However the host brings the lifespan in; and the app can be started again."""
    repository = CountingRepository()
    mount = memory_mount(parts=Parts(repository=repository))
    app = way(mount)
    prefix = "/v1/api/preferences" if way is by_nested_includes else "/preferences"
    for times in (1, 2):
        async with running(app, prefix) as me:
            assert (repository.opened, repository.closed) == (times, times - 1)
            assert await works(me)
        assert (repository.opened, repository.closed) == (times, times)
        assert not mount.runtime.is_open


@pytest.mark.parametrize("way", [by_hosts_own, by_hosts_own_around])
async def test_the_hosts_lifespan_keeps_its_state(way: Callable[[PrefSync], FastAPI]) -> None:
    """What a host's lifespan yields is still yielded."""
    app = way(memory_mount())
    async with app.router.lifespan_context(app) as state:
        assert state == {"host": "state"}


async def test_a_start_that_fails_leaves_nothing_open() -> None:
    """The parts that were open already are closed, and the error is the host's to see."""
    repository = CountingRepository()

    class Failing(MemoryRepository):
        async def __aenter__(self) -> Self:
            raise ConfigurationError("no such part")

    mount = memory_mount(parts=Parts(repository=repository, cache=Failing()))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="no such part"):
        async with running(app_with(mount)):
            pytest.fail("it started")
    assert (repository.opened, repository.closed) == (1, 1)
    assert not mount.runtime.is_open


async def test_an_app_that_was_not_started_says_so() -> None:
    """Where no lifespan ran, the error says what to do, and is no hang."""
    me = newcomer(asgi_client(app_with(memory_mount())))
    with pytest.raises(RuntimeError, match="lifespan"):
        await me.get()


async def test_a_mounted_sub_app() -> None:
    """No server starts a sub-app's lifespan: without it the error says what to do, with it everything works."""
    mount = memory_mount()
    inner = app_with(mount)

    @inner.get("/theme")
    async def theme(prefs: CurrentPreferences) -> str:
        return (await prefs.get(example.Appearance)).theme

    def outer(**options: Any) -> FastAPI:
        app = FastAPI(**options)
        app.mount("/sub", inner)
        return app

    async with running(outer(), "/sub/preferences") as me:
        with pytest.raises(RuntimeError, match=r"async with prefsync\.lifespan"):
            await me.get()

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with mount.lifespan(inner):
            yield

    app = outer(lifespan=lifespan)
    async with running(app, "/sub/preferences") as me:
        assert await works(me)
        assert (await me.through(asgi_client(app, "/sub")).get("/theme")).json() == "dark"


# --- Prefixes and paths -------------------------------------------------------------------------------------


async def test_one_router_under_two_prefixes() -> None:
    """Both show the same preferences."""
    app = app_with(*[memory_mount()] * 2)
    async with running(app) as me:
        wrote = await me.put("/plugins", {"a": 1})
        there = await me.through(asgi_client(app, "/preferences2")).get("/plugins")
        assert (there.body, there.etag) == (wrote.body, wrote.etag)


class Other(OpenPreferences, namespace="other"):
    """A namespace of the second mount's."""


async def test_two_mounts_in_one_app() -> None:
    """Each has its own namespaces, documents and limits, for the same user."""
    second = memory_mount([Other], settings=Settings(jwt_key=KEY, rate_limit=Rate(5, 60)))
    app = app_with(memory_mount(), second)
    async with running(app) as me:
        there = me.through(asgi_client(app, "/preferences2"))
        (await me.put("/plugins", {"a": 1})).ok()
        assert (await there.get()).ok()["values"] == {"other": {}}
        (await there.put("/other", {"b": 2})).ok()
        (await there.get("/plugins")).problem(404, "not-found")
        (await me.get("/other")).problem(404, "not-found")
        assert (await me.get("/plugins")).ok() == {"a": 1}
        for _ in range(2):
            await there.get()
        (await there.get()).problem(429, "rate-limited")
        (await me.get()).ok()


@pytest.mark.once
async def test_two_mounts_on_two_databases_and_one_redis(
    tmp_path: Path, private_redis: Callable[[], PrivateRedis]
) -> None:
    """What one database has is not shown for the other, whatever they share beside it."""
    url = private_redis().url
    mounts = [
        PrefSync(
            MODELS, settings=Settings(jwt_key=KEY, database_url=f"sqlite:///{tmp_path}/{n}.db", redis_url=url)
        )
        for n in (1, 2)
    ]
    app = app_with(*mounts)
    async with running(app) as me:
        there = me.through(asgi_client(app, "/preferences2"))
        await me.put("/plugins", {"a": 1})
        assert (await there.get()).revision == 0
        assert (await there.get("/plugins")).ok() == {}
        await there.put("/plugins", {"b": 2})
        assert (await me.get("/plugins")).ok() == {"a": 1}


@pytest.mark.filterwarnings("ignore:The `root_path` parameter")
@pytest.mark.parametrize(
    ("root_path", "prefix", "app_root"),
    [
        pytest.param("", "/preferences", "/api", id="known-to-the-app-alone"),
        pytest.param("/api", "/api/preferences", "", id="told-by-the-server"),
        pytest.param("/api", "/preferences", "", id="stripped-by-the-proxy"),
        pytest.param("/api", "/api/preferences", "/api", id="told-by-both"),
        pytest.param("/a/b", "/a/b/preferences", "", id="deep"),
        pytest.param("/preferences", "/preferences/preferences", "", id="of-the-same-name"),
    ],
)
async def test_behind_a_proxy(root_path: str, prefix: str, app_root: str) -> None:
    """A root path, stripped or not, is no part of the protocol's paths, and no answer names an absolute URL."""
    app = app_with(memory_mount(), root_path=app_root)
    async with running(app, prefix, root_path=root_path) as me:
        assert await works(me)
        for path in ("", "/", "/schema"):
            answer = await me.get(path)
            answer.ok()
            assert b"http://testserver" not in answer.body
        (await me.get("/nothing")).problem(404, "not-found")


async def test_paths_of_the_host_beside_the_mount() -> None:
    """What only begins like the prefix is the host's, declared before or after."""
    app = FastAPI()

    @app.get("/preferencesX")
    async def before() -> str:
        return "before"

    @app.get("/preferences/own")
    async def own() -> str:
        return "own"

    app.include_router(memory_mount().router, prefix="/preferences")

    @app.get("/preferences-after")
    async def after() -> str:
        return "after"

    async with running(app, "") as me:
        for path, expected in (
            ("/preferencesX", "before"),
            ("/preferences/own", "own"),
            ("/preferences-after", "after"),
        ):
            assert (await me.get(path)).ok() == expected
        (await me.get("/preferences")).ok()
        for path in ("/preferencesY", "/preference", "/preferences%0A", "/preferences%0D%0A", "/"):
            answer = await me.get(path)
            assert answer.status == 404
            assert answer.headers["Content-Type"] == "application/json", "not the host's 404"


# --- Middleware ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
async def test_the_hosts_compression_does_not_compress_twice(coding: str) -> None:
    """With ``GZipMiddleware`` every answer can still be read, and has one coding at most."""
    app = app_with(memory_mount())
    app.add_middleware(GZipMiddleware, minimum_size=1)
    async with running(app) as me:
        big = {f"k{n}": "prefsync" * 10 for n in range(50)}
        await me.put("/plugins", big)
        for path in ("", "/plugins", "/appearance", "/schema"):
            plain = await me.get(path)
            answer = await me.get(path, headers={"Accept-Encoding": coding})
            assert answer.ok() == plain.json()
            assert len(answer.headers.all("Content-Encoding")) <= 1
            assert answer.etag == plain.etag
            assert answer.headers.all("Content-Length") == [str(len(answer.body))]
            assert answer.headers.members("Vary") >= {"authorization", "accept-encoding"}


async def test_cors_in_the_hosts_hands() -> None:
    """A preflight is answered by the middleware, without a token; other answers get its headers beside ours."""
    app = app_with(memory_mount())
    origin = "https://app.example"
    app.add_middleware(CORSMiddleware, allow_origins=[origin], allow_methods=["*"], allow_headers=["*"])
    async with running(app) as me:
        preflight = await me.client.request(
            "OPTIONS",
            "/appearance",
            headers={
                "Origin": origin,
                "Access-Control-Request-Method": "PATCH",
                "Access-Control-Request-Headers": "authorization,content-type,if-match,idempotency-key",
            },
        )
        assert preflight.status == 200
        assert preflight.headers["Access-Control-Allow-Origin"] == origin
        assert "PATCH" in preflight.headers["Access-Control-Allow-Methods"]
        answer = await me.get("/appearance", headers={"Origin": origin})
        assert answer.headers["Access-Control-Allow-Origin"] == origin
        assert answer.headers.members("Vary") == {"authorization", "accept-encoding", "origin"}
        refused = await me.client.request("GET", "", headers={"Origin": origin})
        refused.problem(401, "unauthenticated")
        assert refused.headers["Access-Control-Allow-Origin"] == origin


async def test_a_middleware_of_the_hosts() -> None:
    """``@app.middleware("http")`` sees the requests, and may change the answers."""
    app = app_with(memory_mount())
    seen: list[str] = []

    @app.middleware("http")
    async def note(request: Request, call_next: Callable[[Request], Any]) -> Response:
        seen.append(request.url.path)
        answer: Response = await call_next(request)
        answer.headers["X-Host"] = "was here"
        return answer

    async with running(app) as me:
        assert await works(me)
        assert (await me.get("/nothing")).headers["X-Host"] == "was here"
        assert (await me.changes(0, wait=30))["changes"]
    assert seen == ["/preferences/appearance"] * 2 + ["/preferences/nothing", "/preferences/changes"]


async def test_the_hosts_exception_handlers_see_no_refusal_of_the_protocols() -> None:
    """A host that turns every ``HTTPException`` into something else does so for its own paths alone."""
    app = app_with(memory_mount())

    @app.exception_handler(HTTPException)
    async def other(_request: Request, _error: HTTPException) -> Response:
        pytest.fail("the host was asked")

    async with running(app) as me:
        (await me.client.request("GET")).problem(401, "unauthenticated")
        (await me.client.request("GET", headers={"Authorization": "Bearer x"})).problem(
            401, "unauthenticated"
        )
        (await me.send("POST", "/appearance")).problem(405, "method-not-allowed")
        (await me.get("/nothing")).problem(404, "not-found")


# --- Options ------------------------------------------------------------------------------------------------


async def test_the_host_can_demand_if_match() -> None:
    """``428`` for a write without it, and nothing is written; reads need none."""
    async with running(app_with(memory_mount(options=ApiOptions(require_if_match=True)))) as me:
        for method in ("PUT", "PATCH", "DELETE"):
            for path in ("", "/appearance"):
                (await me.write(method, path, {})).problem(428, "precondition-required")
                answer = await me.write(method, path, {}, headers={"If-None-Match": '"x"'})
                answer.problem(428, "precondition-required")
        tag = (await me.get("/appearance")).etag
        (await me.patch("/appearance", {"theme": "dark"}, headers={"If-Match": tag})).ok()
        answer = await me.patch("/appearance", {"theme": "light"}, headers={"If-Match": tag})
        answer.problem(412, "precondition-failed")


async def test_the_names_of_the_scopes_can_be_set() -> None:
    """What is demanded, and named in the challenge, is what the host has set."""
    options = ApiOptions(read_scope="prefs.r", write_scope="prefs.w")
    async with running(app_with(memory_mount(options=options))) as me:
        refused = await me.get()
        refused.problem(403, "insufficient-scope")
        assert 'scope="prefs.r"' in refused.headers["WWW-Authenticate"]
        reader = me.holding(scope="prefs.r")
        (await reader.get()).ok()
        assert 'scope="prefs.w"' in (await reader.put("", {})).headers["WWW-Authenticate"]
        (await me.holding(scope="prefs.w").put("", {})).ok()


@pytest.mark.parametrize("way", [by_router, by_nested_includes])
async def test_the_rate_limit_holds_for_an_included_router(way: Callable[[PrefSync], FastAPI]) -> None:
    """Since FastAPI 0.137 routers are included as a tree, at which limiters of others fail silently."""
    mount = memory_mount(settings=Settings(jwt_key=KEY, rate_limit=Rate(2, 60)))
    async with running(
        way(mount), "/v1/api/preferences" if way is by_nested_includes else "/preferences"
    ) as me:
        assert [(await me.get()).status for _ in range(4)] == [200, 200, 429, 429]


async def test_the_leeway_can_be_none() -> None:
    """With 0 s a token is over when it says so."""
    async with running(app_with(memory_mount(settings=Settings(jwt_key=KEY, jwt_leeway=0)))) as me:
        (await me.holding(exp=time.time() + 60).get()).ok()
        (await me.holding(exp=time.time() - 1).get()).problem(401, "unauthenticated")
