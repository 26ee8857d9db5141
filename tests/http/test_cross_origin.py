"""Pages of other origins, where the host knows its users by a cookie: browsers send that whoever's page asks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import anyio
import pytest
from fastapi import Cookie, HTTPException
from flask import Flask, request

from prefsync import Parts, Settings
from prefsync.adapters.memory import MemoryRepository
from prefsync.testing.mount import Answer, Headers, newcomer
from prefsync_flask import PrefSync as FlaskPrefSync
from tests.http.conftest import MODELS, asgi_client
from tests.http.hosts import app_with, memory_mount

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from flask.testing import FlaskClient

    Ask = Callable[..., Awaitable[Answer]]

pytestmark = pytest.mark.anyio

OWN = "http://app.example"
FOREIGN = "https://evil.example"
FRIEND = "https://friend.example"
SETTINGS = Settings(allowed_origins=(FRIEND,))
COOKIE = {"Cookie": "user=alice", "Host": "app.example"}

# What a page can have sent without asking first, which is what a form can (https://fetch.spec.whatwg.org/#cors-safelisted-method
# and #cors-safelisted-request-header).
SIMPLE_TYPES = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x")


async def by_cookie(user: Annotated[str | None, Cookie()] = None) -> str:
    """Return who is signed in."""
    if user is None:
        raise HTTPException(401, "sign in")
    return user


@pytest.fixture
async def fastapi() -> AsyncIterator[Ask]:
    """A FastAPI app that knows its users by a cookie."""
    app = app_with(memory_mount(authenticate=by_cookie, settings=SETTINGS))
    async with app.router.lifespan_context(app):
        yield asgi_client(app).request


@pytest.fixture
async def flask() -> AsyncIterator[Ask]:
    """A Flask app that does."""
    app = Flask(__name__)
    prefsync = FlaskPrefSync(
        app,
        MODELS,
        authenticate=lambda: request.cookies.get("user"),
        settings=SETTINGS,
        parts=Parts(repository=MemoryRepository()),
    )
    client: FlaskClient = app.test_client(use_cookies=False)

    async def ask(
        method: str, path: str = "", *, headers: dict[str, str], body: bytes | None = None, query: str = ""
    ) -> Answer:
        send = partial(client.open, method=method, headers=headers, data=body, query_string=query)
        found = await anyio.to_thread.run_sync(send, f"/preferences{path}")
        return Answer(found.status_code, Headers(found.headers.items()), found.data)

    yield ask
    await anyio.to_thread.run_sync(prefsync.gateway(app).close)


@pytest.fixture(params=["fastapi", "flask"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Send a request to each."""
    found: Ask = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("media", SIMPLE_TYPES)
@pytest.mark.parametrize(
    "path", ["", "/", "/appearance", "/schema", "/events", "/changes", "/ws", "/client.js"]
)
async def test_what_a_form_can_send_writes_nothing(ask: Ask, path: str, media: str) -> None:
    """A ``POST`` is no write, whatever it says that it would rather be."""
    for headers, query in (
        ({}, ""),
        ({"X-HTTP-Method-Override": "PUT"}, ""),
        ({"X-HTTP-Method": "DELETE", "X-Method-Override": "DELETE"}, ""),
        ({}, "_method=PUT&method=PUT"),
    ):
        answer = await ask(
            "POST",
            path,
            headers={**COOKIE, "Origin": FOREIGN, "Content-Type": media, **headers},
            body=b'{"theme":"dark"}',
            query=query,
        )
        answer.problem(405, "method-not-allowed")
    state = await ask("GET", "", headers=COOKIE)
    assert state.ok()["revision"] == 0


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize("media", SIMPLE_TYPES)
async def test_a_body_that_needs_no_preflight_is_none(ask: Ask, method: str, media: str) -> None:
    """Even where the method was let through, a body that a form could have sent is refused for its type."""
    headers = {**COOKIE, "Origin": FOREIGN, "Content-Type": media}
    answer = await ask(method, "/appearance", headers=headers, body=b'{"theme":"dark"}')
    answer.problem(415, "unsupported-media-type")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_nothing_here_answers_a_preflight(ask: Ask, method: str) -> None:
    """Writes need one (Fetch, "CORS-preflight fetch"), and prefsync allows no origin: that is the host's to do."""
    headers = {"Host": "app.example", "Origin": FOREIGN, "Access-Control-Request-Method": method}
    answer = await ask("OPTIONS", "/appearance", headers=headers)
    assert answer.status in {401, 405}
    assert not [name for name, _ in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    ("origin", "good"),
    [
        (None, True),
        (OWN, True),
        (FRIEND, True),
        (FOREIGN, False),
        ("null", False),
        (f"{OWN}.evil.example", False),
    ],
)
async def test_a_ticket_is_for_pages_that_may_use_it(ask: Ask, origin: str | None, *, good: bool) -> None:
    """A ``POST`` is sent without asking: a ticket for a cookie is given to this origin and those on the host's list."""
    headers = COOKIE if origin is None else {**COOKIE, "Origin": origin}
    answer = await ask("POST", "/ticket", headers=headers)
    if good:
        assert answer.ok()["ticket"]
    else:
        answer.problem(403, "origin-refused")
        assert "ticket" not in answer.json()


async def test_what_a_browser_adds_by_itself_is_no_token(ask: Ask) -> None:
    """Neither is a password that it remembers for this host (RFC 7617)."""
    for line in ("Basic YTpi", "Negotiate abc", "Bearer", ""):
        headers = {**COOKIE, "Origin": FOREIGN, "Authorization": line}
        (await ask("POST", "/ticket", headers=headers)).problem(403, "origin-refused")


async def test_a_token_brings_its_own_permission() -> None:
    """A page of another origin that has a token gets a ticket for it: CORS is what says whether it may ask."""
    app = app_with(memory_mount())
    async with app.router.lifespan_context(app):
        me = newcomer(asgi_client(app))
        assert (await me.send("POST", "/ticket", headers={"Origin": FOREIGN})).ok()["ticket"]
