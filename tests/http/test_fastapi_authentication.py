"""Who calls: the host's own authentication, its guards before the mount, and preferences in its own endpoints."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Request
from fastapi.security import APIKeyHeader, OAuth2PasswordBearer
from starlette.exceptions import HTTPException as StarletteHTTPException

from prefsync import ConfigurationError, Identity, InvalidPreferencesError, OpenPreferences, Subject
from prefsync.handle import PreferencesHandle
from prefsync.testing.mount import newcomer
from prefsync.testing.mount.callers import DEFAULTS, READ
from prefsync_fastapi import CurrentPreferences, PrefSync
from tests.http.conftest import asgi_client, example
from tests.http.hosts import app_with, memory_mount, running

pytestmark = pytest.mark.anyio

USER = {"X-User": "alice"}


# --- The host's own authentication --------------------------------------------------------------------------


async def by_header(x_user: Annotated[str, Header()]) -> str:
    """Return a user's id."""
    return x_user


def in_a_thread(x_user: Annotated[str, Header()]) -> Subject:
    """Return a subject, from a plain function."""
    return Subject(x_user, "tenant")


class ByClass:
    """Return an identity, from an object."""

    async def __call__(self, x_user: Annotated[str, Header()]) -> Identity:
        """Be asked."""
        return Identity(Subject(x_user))


async def in_turn(request: Request, user: Annotated[str, Depends(by_header)]) -> AsyncIterator[str]:
    """Depend on another, and clean up."""
    request.state.open = True
    yield user
    request.state.open = False


KINDS = [by_header, in_a_thread, ByClass(), in_turn]


async def test_the_browser_client_is_for_whoever_asks() -> None:
    """Pages import it before anybody has signed in, so the host's own authentication is not asked about it."""
    async with running(app_with(memory_mount(authenticate=by_header))) as me:
        assert (await me.client.request("GET", "/client.js")).status == 200
        (await me.client.request("POST", "/client.js")).problem(405, "method-not-allowed")


@pytest.mark.parametrize("authenticate", KINDS, ids=["async", "sync", "class", "nested"])
async def test_the_hosts_own_authentication(authenticate: Callable[..., Any]) -> None:
    """Any dependency that names the user will do, and no token is asked for."""
    async with running(app_with(memory_mount(authenticate=authenticate))) as me:
        client = me.client
        wrote = await client.request(
            "PATCH",
            "/appearance",
            headers={**USER, "Content-Type": "application/json"},
            body=b'{"theme":"dark"}',
        )
        assert wrote.ok()["theme"] == "dark"
        read = await client.request("GET", "/appearance", headers=USER)
        assert (read.body, read.etag) == (wrote.body, wrote.etag)
        assert read.headers["RateLimit"].startswith('"user";r=98')
        other = await client.request("GET", "/appearance", headers={"X-User": "bob"})
        assert other.ok() == DEFAULTS["appearance"]
        (await client.request("GET", "/nothing", headers=USER)).problem(404, "not-found")
        (await client.request("POST", "", headers=USER)).problem(405, "method-not-allowed")
        (await client.request("GET", "", headers=USER, query="token=x")).problem(400, "malformed-request")
        head = await client.request("HEAD", "/appearance", headers=USER)
        assert (head.status, head.body, head.etag) == (200, b"", read.etag)
        (await client.request("GET", "")).problem(400, "malformed-request")  # the host's header is required


async def test_a_scheme_of_fastapis() -> None:
    """``OAuth2PasswordBearer`` and its like refuse in their own way, and it comes out as a problem."""
    scheme = OAuth2PasswordBearer(tokenUrl="token")

    async def user(token: Annotated[str, Depends(scheme)]) -> str:
        if token != "good":
            raise HTTPException(
                401, "Could not validate credentials", {"WWW-Authenticate": 'Bearer realm="host"'}
            )
        return "alice"

    async with running(app_with(memory_mount(authenticate=user))) as me:
        missing = await me.client.request("GET")
        missing.problem(401, "unauthenticated")
        assert missing.headers["WWW-Authenticate"] == "Bearer"
        bad = await me.client.request("GET", headers={"Authorization": "Bearer bad"})
        assert bad.problem(401, "unauthenticated")["detail"] == "Could not validate credentials"
        assert bad.headers.all("WWW-Authenticate") == ['Bearer realm="host"']
        (await me.client.request("GET", headers={"Authorization": "Bearer good"})).ok()


@pytest.mark.parametrize("kind", [HTTPException, StarletteHTTPException], ids=["fastapi", "starlette"])
@pytest.mark.parametrize(
    ("status", "names"),
    [
        (401, {"urn:prefsync:problem:unauthenticated"}),
        (
            403,
            {"urn:prefsync:problem:insufficient-scope", "about:blank"},
        ),  # the host need not speak of scopes
        (429, {"urn:prefsync:problem:rate-limited"}),
    ],
)
async def test_refusals_of_the_hosts_are_problems(
    kind: type[StarletteHTTPException], status: int, names: set[str]
) -> None:
    """``HTTPException`` of the host's authentication is told in the protocol's form, for every path and method."""

    async def nobody() -> str:
        raise kind(status, "not you", {"X-Why": "because", "Retry-After": "7"})

    async with running(app_with(memory_mount(authenticate=nobody))) as me:
        for method, path in (("GET", ""), ("PUT", "/appearance"), ("GET", "/nothing"), ("POST", "/schema")):
            answer = await me.client.request(method, path)
            assert answer.status == status
            assert answer.headers["Content-Type"] == "application/problem+json"
            members = answer.json()
            assert members["type"] in names
            assert (members["status"], members["detail"]) == (status, "not you")
            assert answer.headers["X-Why"] == "because"
            assert answer.headers["Retry-After"] == "7"
            assert ("WWW-Authenticate" in answer.headers) == (status == 401)
        head = await me.client.request("HEAD")
        assert (head.status, head.body) == (status, b"")


async def test_other_refusals_of_the_hosts_are_problems_too() -> None:
    """A status that the protocol has no name for is a problem without one (RFC 9457, section 4.2.1)."""

    async def nobody() -> str:
        raise HTTPException(402, {"pay": "first"})

    async with running(app_with(memory_mount(authenticate=nobody))) as me:
        answer = await me.client.request("GET")
        assert answer.status == 402
        assert answer.headers["Content-Type"] == "application/problem+json"
        members = answer.json()
        assert (members["type"], members["status"]) == ("about:blank", 402)


async def test_an_identity_may_have_scopes_and_an_end() -> None:
    """What the host says of its caller holds as a token's claims would."""

    async def reader() -> Identity:
        return Identity(Subject("alice"), frozenset({READ}))

    async with running(app_with(memory_mount(authenticate=reader))) as me:
        (await me.client.request("GET")).ok()
        (await me.client.request("DELETE")).problem(403, "insufficient-scope")


@pytest.mark.parametrize("answer", [None, 7, ["alice"], {"user": "alice"}])
async def test_authentication_that_returns_something_else(answer: Any) -> None:
    """It is the host's mistake, and said in words; nobody is let in."""

    async def broken() -> Any:
        return answer

    async with running(app_with(memory_mount(authenticate=broken))) as me:
        with pytest.raises(TypeError, match="authenticate must return"):
            await me.client.request("GET")


async def test_the_hosts_tests_can_override_who_calls() -> None:
    """``dependency_overrides[prefsync.caller]``, at any time, also after requests were served."""
    mount = memory_mount()
    app = app_with(mount)

    async with running(app) as me:
        (await me.patch("/appearance", {"theme": "dark"})).ok()
        (await me.client.request("GET")).problem(401, "unauthenticated")
        app.dependency_overrides[mount.caller] = lambda: me.user
        assert (await me.client.request("GET", "/appearance")).ok()["theme"] == "dark"
        app.dependency_overrides[mount.caller] = lambda: Subject("somebody else")
        assert (await me.client.request("GET", "/appearance")).ok()["theme"] == "system"
        app.dependency_overrides.clear()
        (await me.client.request("GET")).problem(401, "unauthenticated")


async def test_a_hosts_own_authentication_can_be_overridden() -> None:
    """By the host's own function, as everywhere in FastAPI."""
    mount = memory_mount(authenticate=by_header)
    app = app_with(mount)
    app.dependency_overrides[by_header] = lambda: "overridden"
    async with running(app) as me:
        (await me.client.request("GET")).ok()


# --- Guards -------------------------------------------------------------------------------------------------


class Guard:
    """A dependency of the host's that lets through who has the password, and counts."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, x_password: Annotated[str, Header()] = "") -> None:
        """Be asked."""
        self.asked += 1
        if x_password != "open sesame":
            raise HTTPException(403, "no")


def on_include(mount: PrefSync, control: APIRouter, guard: Guard) -> FastAPI:
    """Guard an include."""
    app = FastAPI()
    for router, prefix in ((mount.router, "/preferences"), (control, "/control")):
        app.include_router(router, prefix=prefix, dependencies=[Depends(guard)])
    return app


def on_app(mount: PrefSync, control: APIRouter, guard: Guard) -> FastAPI:
    """Guard the whole app."""
    app = FastAPI(dependencies=[Depends(guard)])
    app.include_router(mount.router, prefix="/preferences")
    app.include_router(control, prefix="/control")
    return app


def on_router(mount: PrefSync, control: APIRouter, guard: Guard) -> FastAPI:
    """Guard a router that includes it."""
    app, outer = FastAPI(), APIRouter(dependencies=[Depends(guard)])
    outer.include_router(mount.router, prefix="/preferences")
    outer.include_router(control, prefix="/control")
    app.include_router(outer)
    return app


def on_nested_include(mount: PrefSync, control: APIRouter, guard: Guard) -> FastAPI:
    """Guard an include of a router that includes it."""
    app, outer, middle = FastAPI(), APIRouter(), APIRouter()
    middle.include_router(mount.router, prefix="/preferences")
    middle.include_router(control, prefix="/control")
    outer.include_router(middle)
    app.include_router(outer, dependencies=[Depends(guard)])
    return app


def on_inner_include(mount: PrefSync, control: APIRouter, guard: Guard) -> FastAPI:
    """Guard the innermost include of several."""
    app, outer, middle = FastAPI(), APIRouter(), APIRouter()
    for router, prefix in ((mount.router, "/preferences"), (control, "/control")):
        middle.include_router(router, prefix=prefix, dependencies=[Depends(guard)])
    outer.include_router(middle)
    app.include_router(outer)
    return app


def on_app_afterwards(mount: PrefSync, control: APIRouter, guard: Guard) -> FastAPI:
    """Add the guard to the app before the includes, but after it was made."""
    app = FastAPI()
    app.router.dependencies.append(Depends(guard))
    app.include_router(mount.router, prefix="/preferences")
    app.include_router(control, prefix="/control")
    return app


GUARDED = [on_include, on_app, on_router, on_nested_include, on_inner_include, on_app_afterwards]


@pytest.mark.parametrize("guarded", GUARDED)
async def test_guards_of_the_host_are_never_passed_over(guarded: Callable[..., FastAPI]) -> None:
    """Wherever FastAPI runs a dependency for an ordinary route, it runs for the mount, once a request, and decides."""
    guard, control = Guard(), APIRouter()

    @control.get("/x")
    async def x() -> str:
        return "control"

    app = guarded(memory_mount(), control, guard)
    password = {"X-Password": "open sesame"}
    async with running(app) as me:
        assert (await me.through(asgi_client(app, "/control")).get("/x")).status == 403
        for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "POST", "OPTIONS"):
            for path in ("", "/", "/appearance", "/schema", "/changes", "/nothing"):
                before = guard.asked
                answer = await me.write(method, path, {"theme": "dark"}, query="since=0")
                assert answer.status == 403
                assert answer.headers["Content-Type"] == "application/problem+json"
                assert guard.asked == before + 1
        before = guard.asked
        assert (await me.get(headers=password)).ok()["revision"] == 0
        (await me.patch("/appearance", {"theme": "dark"}, headers=password)).ok()
        (await me.get("/nothing", headers=password)).problem(404, "not-found")
        (await me.client.request("GET", headers=password)).problem(401, "unauthenticated")
        (await me.get("/changes", query="since=0&wait=30", headers=password)).ok()
        assert guard.asked == before + 5


async def test_a_guard_that_comes_after_the_first_request() -> None:
    """What is included with a guard later is guarded, what was included without one goes on as before."""
    guard, mount, app = Guard(), memory_mount(), FastAPI()
    app.include_router(mount.router, prefix="/preferences")
    async with running(app) as me:
        (await me.get()).ok()
        app.include_router(mount.router, prefix="/guarded", dependencies=[Depends(guard)])
        there = me.through(asgi_client(app, "/guarded"))
        assert (await there.get()).status == 403
        (await there.get(headers={"X-Password": "open sesame"})).ok()
        (await me.get()).ok()


@pytest.mark.parametrize("where", ["app", "outer", "mount"])
async def test_a_guard_that_is_added_to_a_router_later(where: str) -> None:
    """It holds for the mount just where it holds for an ordinary route that was included in the same way."""
    guard, mount, control = Guard(), memory_mount(), APIRouter()
    app, outer = FastAPI(), APIRouter()

    @control.get("/x")
    async def x() -> str:
        return "control"

    outer.include_router(mount.router, prefix="/preferences")
    outer.include_router(control, prefix="/control")
    app.include_router(outer)
    async with running(app) as me:
        there = me.through(asgi_client(app, "/control"))
        assert ((await there.get("/x")).status, (await me.get()).status) == (200, 200)
        for router in {"app": [app.router], "outer": [outer], "mount": [mount.router, control]}[where]:
            router.dependencies.append(Depends(guard))
        assert (await me.get()).status == (await there.get("/x")).status
        late = APIRouter()
        late.include_router(outer, prefix="/late")
        app.include_router(late)
        routes = [me.through(asgi_client(app, f"/late/{name}")) for name in ("preferences", "control")]
        assert (await routes[0].get()).status == (await routes[1].get("/x")).status


async def test_a_guard_that_reads_the_body() -> None:
    """One that verifies a signature over the body, say, leaves the body for the mount."""

    async def signed(request: Request) -> None:
        if b"theme" not in await request.body():
            raise HTTPException(403, "not signed")

    app = FastAPI()
    app.include_router(memory_mount().router, prefix="/preferences", dependencies=[Depends(signed)])
    async with running(app) as me, asyncio.timeout(5):
        assert (await me.put("/editor", {})).status == 403
        assert (await me.patch("/appearance", {"theme": "dark"})).ok()["theme"] == "dark"


async def test_a_key_that_the_host_demands_beside_the_token() -> None:
    """A guard that is a security scheme of FastAPI's."""
    app = FastAPI()
    key = APIKeyHeader(name="X-Api-Key")
    app.include_router(memory_mount().router, prefix="/preferences", dependencies=[Depends(key)])
    async with running(app) as me:
        refused = await me.get()
        assert refused.status in {401, 403}
        assert refused.headers["Content-Type"] == "application/problem+json"
        (await me.get(headers={"X-Api-Key": "any"})).ok()


# --- Preferences in the host's own endpoints ----------------------------------------------------------------


def with_endpoints(app: FastAPI) -> FastAPI:
    """Give an app endpoints that use a user's preferences."""

    @app.get("/theme")
    async def theme(prefs: CurrentPreferences) -> str:
        return (await prefs.get(example.Appearance)).theme

    @app.post("/dark")
    async def dark(prefs: CurrentPreferences) -> dict[str, Any]:
        async with prefs.edit(example.Appearance) as mine:
            mine.theme = "dark"
        return mine.model_dump()

    return app


async def test_a_user_in_an_endpoint() -> None:
    """``CurrentPreferences`` is the typed handle of who calls; what it writes is a change like any other."""
    app = with_endpoints(app_with(memory_mount()))
    async with running(app) as me:
        host = me.through(asgi_client(app, ""))
        assert (await host.get("/theme")).ok() == "system"
        waiting = asyncio.ensure_future(me.changes(0, wait=30))
        await asyncio.sleep(0)
        assert (await host.send("POST", "/dark")).ok()["theme"] == "dark"
        (change,) = (await waiting)["changes"]
        assert change["changed"] == {"appearance": {"theme": "dark"}}
        assert (await me.get("/appearance")).ok()["theme"] == "dark"
        assert (await host.get("/theme")).ok() == "dark"


async def test_nobody_in_an_endpoint() -> None:
    """Without a good token: ``401`` with its challenge, in the host's own form."""
    app = with_endpoints(app_with(memory_mount()))
    async with running(app, "") as me:
        missing = await me.client.request("GET", "/theme")
        bad = await me.client.request("GET", "/theme", headers={"Authorization": "Bearer bad"})
        assert missing.status == bad.status == 401
        assert "error" not in missing.headers["WWW-Authenticate"]
        assert 'error="invalid_token"' in bad.headers["WWW-Authenticate"]
        assert missing.headers["Content-Type"] == "application/json"


class Second(OpenPreferences, namespace="second"):
    """A namespace of a second mount's."""


async def test_an_endpoint_between_two_mounts() -> None:
    """With two mounts it is an error that says how to name one; naming one works."""
    first, second = memory_mount(), memory_mount([Second])
    app = with_endpoints(app_with(first, second))

    @app.get("/first")
    async def of_first(prefs: Annotated[PreferencesHandle, Depends(first.preferences)]) -> str:
        return (await prefs.get(example.Appearance)).theme

    @app.get("/second")
    async def of_second(prefs: Annotated[PreferencesHandle, Depends(second.preferences)]) -> dict[str, Any]:
        return dict(await prefs.get(Second))

    async with running(app, "") as me:
        with pytest.raises(ConfigurationError, match=r"2 PrefSyncs .* Depends\(prefsync\.preferences\)"):
            await me.get("/theme")
        assert (await me.get("/first")).ok() == "system"
        assert (await me.get("/second")).ok() == {}


async def test_an_endpoint_without_a_mount() -> None:
    """An app that includes no router is told to."""
    app = with_endpoints(FastAPI())
    async with running(app, "") as me:
        with pytest.raises(ConfigurationError, match="include its router"):
            await me.get("/theme")


async def test_an_endpoint_with_the_hosts_own_authentication() -> None:
    """``CurrentPreferences`` cannot know it and says so; the mount's own dependency does."""
    mount = memory_mount(authenticate=by_header)
    app = with_endpoints(app_with(mount))

    @app.get("/mine")
    async def mine(prefs: Annotated[PreferencesHandle, Depends(mount.preferences)]) -> str:
        return prefs.subject.user

    async with running(app, "") as me:
        with pytest.raises(ConfigurationError, match=r"Depends\(prefsync\.preferences\)"):
            await me.client.request("GET", "/theme", headers=USER)
        assert (await me.client.request("GET", "/mine", headers=USER)).ok() == "alice"
        assert (
            await me.client.request("GET", "/mine")
        ).status == 422  # FastAPI's own words for a missing header


async def test_the_handle_writes_what_it_is_told_and_no_more() -> None:
    """``edit`` writes the fields that were touched, ``update`` and ``reset`` those that are named."""
    mount = memory_mount()
    async with running(app_with(mount)) as me:
        prefs = mount.runtime.handle(me.subject)
        async with prefs.edit(example.Appearance) as mine:
            await me.patch("/appearance", {"font_size": 30, "accent": "#000000"})
            mine.theme = "dark"
        expected = {**DEFAULTS["appearance"], "theme": "dark", "font_size": 30, "accent": "#000000"}
        assert (await me.get("/appearance")).ok() == expected
        assert (await prefs.update(example.Appearance, font_size=9)).font_size == 9
        assert (await prefs.reset(example.Appearance, "accent")).accent == "#3366ff"
        async with prefs.edit(example.Plugins) as plugins:
            plugins["a"] = {"b": [1]}
        assert (await me.get("/plugins")).ok() == {"a": {"b": [1]}}
        assert (await prefs.reset(example.Appearance)).model_dump() == DEFAULTS["appearance"]


async def test_the_handle_writes_nothing_where_something_is_wrong() -> None:
    """An exception in the block, or a value that breaks the rules."""
    mount = memory_mount()
    async with running(app_with(mount)) as me:
        prefs = mount.runtime.handle(me.subject)

        async def edit(size: int) -> None:
            async with prefs.edit(example.Appearance) as mine:
                mine.font_size = size
                mine.theme = {12: "dark"}[size]

        with pytest.raises(KeyError):
            await edit(13)
        with pytest.raises(InvalidPreferencesError):
            await prefs.update(example.Appearance, theme="neon")
        with pytest.raises(InvalidPreferencesError):
            await prefs.update(example.Appearance, nothing=1)
        with pytest.raises(InvalidPreferencesError):
            await prefs.update(example.Appearance, font_size=1_000)
        assert (await me.get()).revision == 0
        assert await newcomer(me.client).values() == DEFAULTS
