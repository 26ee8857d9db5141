"""What the Flask mount takes over from its host, and what it leaves alone: users, hooks, errors, paths, bodies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask, abort, request
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client

from prefsync import ConfigurationError, Parts, Settings, Subject
from prefsync.adapters.memory import MemoryRepository
from prefsync.document import Identity
from prefsync.testing.mount.callers import KEY
from prefsync_flask import PrefSync, current_preferences
from tests.flask.conftest import bearer
from tests.http.conftest import MODELS, example

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from werkzeug.test import TestResponse

Appearance = example.Appearance
DARK = {"appearance": {"theme": "dark"}}


@pytest.fixture
def close() -> Iterator[Callable[[Flask], None]]:
    """Close what apps have open when the test is over."""
    apps: list[Flask] = []
    yield apps.append
    for app in apps:
        for mount in app.extensions["prefsync"].values():
            mount.gateway.close()


@pytest.fixture
def mounted(close: Callable[[Flask], None]) -> Callable[..., PrefSync]:
    """Mount preferences in an app, all of them in memory."""

    def mount(app: Flask, models: Any = MODELS, **more: Any) -> PrefSync:
        more.setdefault("settings", Settings() if "authenticate" in more else Settings(jwt_key=KEY))
        prefsync = PrefSync(app, models, parts=Parts(repository=MemoryRepository()), **more)
        close(app)
        return prefsync

    return mount


@pytest.fixture
def app() -> Flask:
    """A host."""
    return Flask("host")


def is_problem(answer: TestResponse, status: int, name: str) -> bool:
    """Tell whether an answer is a problem as the protocol has them."""
    return (
        answer.status_code == status
        and answer.mimetype == "application/problem+json"
        and answer.get_json(force=True)["type"] == f"urn:prefsync:problem:{name}"
    )


# --- Users --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "made", [str, Subject, lambda name: Identity(Subject(name))], ids=["id", "subject", "identity"]
)
def test_the_hosts_own_authentication(
    app: Flask, mounted: Callable[..., PrefSync], made: Callable[[str], Any]
) -> None:
    """A callable in the request's context names the user, in each form; ``None`` is a 401 in the protocol's words."""

    def who() -> Any:
        name = request.headers.get("X-User")
        return None if name is None else made(name)

    mounted(app, authenticate=who)

    @app.get("/theme")
    def theme() -> str:
        return current_preferences.get(Appearance).theme

    client = app.test_client()
    anna = {"X-User": "anna"}
    assert client.patch("/preferences", json=DARK, headers=anna).status_code == 200
    assert client.get("/theme", headers=anna).text == "dark"
    assert client.get("/theme", headers={"X-User": "ben"}).text == "system"
    assert is_problem(client.get("/preferences"), 401, "unauthenticated")
    assert client.get("/theme").status_code == 401


def test_a_user_is_asked_for_once_a_request(app: Flask, mounted: Callable[..., PrefSync]) -> None:
    """However often a view uses preferences, the host's authentication is called once."""
    calls = []

    def who() -> str:
        calls.append(request.path)
        return "anna"

    mounted(app, authenticate=who)

    @app.get("/twice")
    def twice() -> str:
        current_preferences.update(Appearance, theme="dark")
        return current_preferences.get(Appearance).theme

    assert app.test_client().get("/twice").text == "dark"
    assert calls == ["/twice"]


def test_what_is_for_everybody_asks_for_nobody(app: Flask, mounted: Callable[..., PrefSync]) -> None:
    """The browser client is served and a ticket is taken without the host's authentication."""

    def who() -> None:
        abort(418)

    mounted(app, authenticate=who)
    client = app.test_client()
    assert client.get("/preferences/client.js").status_code == 200
    threads = {"wsgi.multithread": True}
    spent = client.get("/preferences/events?ticket=x", environ_overrides=threads)
    assert is_problem(spent, 401, "unauthenticated")
    assert client.get("/preferences").status_code == 418


def test_a_view_of_the_hosts_refuses_as_the_protocol_does(
    app: Flask, mounted: Callable[..., PrefSync]
) -> None:
    """Without a token, ``current_preferences`` is a 401 with a challenge, which the host's handlers may see."""
    mounted(app)
    seen: list[int | None] = []

    @app.get("/theme")
    def theme() -> str:
        return current_preferences.get(Appearance).theme

    answer = app.test_client().get("/theme")
    assert is_problem(answer, 401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")

    other = Flask("other")
    mounted(other)
    other.add_url_rule("/theme", view_func=theme)

    @other.errorhandler(HTTPException)
    def handle(error: HTTPException) -> tuple[str, int]:
        seen.append(error.code)
        return "the host's page", error.code or 500

    assert other.test_client().get("/theme").text == "the host's page"
    assert seen == [401]


# --- Errors and hooks ---------------------------------------------------------------------------------------


def test_the_hosts_handlers_are_not_asked_about_the_protocols_errors(
    app: Flask, mounted: Callable[..., PrefSync]
) -> None:
    """Whatever the host does with 404, 405, 500 and exceptions, below the prefix problems are told as they are."""
    mounted(app)
    asked = []

    def handle(error: Exception) -> tuple[str, int]:
        asked.append(error)
        return "the host's page", 500

    for kind in (404, 405, 401, 415, 422, 500, HTTPException, Exception):
        app.register_error_handler(kind, handle)  # type: ignore[arg-type]
    client = app.test_client()
    headers = bearer("anna")
    assert is_problem(client.get("/preferences/nothing/here", headers=headers), 404, "not-found")
    assert is_problem(client.post("/preferences/schema", headers=headers), 405, "method-not-allowed")
    assert is_problem(client.get("/preferences"), 401, "unauthenticated")
    assert is_problem(client.put("/preferences", data=b"x", headers=headers), 415, "unsupported-media-type")
    wrong = client.patch("/preferences", json={"appearance": {"theme": "loud"}}, headers=headers)
    assert is_problem(wrong, 422, "invalid-preferences")
    assert asked == []
    assert client.get("/elsewhere").text == "the host's page"
    assert len(asked) == 1


def test_the_hosts_hooks_see_the_protocols_requests(app: Flask, mounted: Callable[..., PrefSync]) -> None:
    """What the host does before and after each request, and at its end, it does for the mount's too."""
    mounted(app)
    seen = []

    @app.before_request
    def before() -> None:
        seen.append(f"before {request.method} {request.blueprint}")

    @app.after_request
    def after(response: Any) -> Any:
        response.headers["X-Host"] = "was here"
        return response

    @app.teardown_request
    def end(error: BaseException | None) -> None:
        seen.append(f"end {error}")

    for _ in range(2):
        answer = app.test_client().get("/preferences", headers=bearer("anna"))
        assert answer.headers["X-Host"] == "was here"
        assert int(answer.headers["Content-Length"]) == len(answer.data)
    assert seen == ["before GET prefsync", "end None"] * 2


def test_a_hook_may_refuse(app: Flask, mounted: Callable[..., PrefSync]) -> None:
    """What the host answers before a request is what the client gets."""
    mounted(app)
    app.before_request(lambda: ("closed", 451))
    assert app.test_client().get("/preferences", headers=bearer("anna")).status_code == 451


# --- Several ------------------------------------------------------------------------------------------------


def test_two_apps_do_not_mix(close: Callable[[Flask], None]) -> None:
    """One extension in two apps reads each one's own config, and keeps each one's preferences for itself."""
    prefsync = PrefSync(models=MODELS, parts=lambda _: Parts(repository=MemoryRepository()))
    apps = [Flask("one"), Flask("two")]
    for number, app in enumerate(apps):
        app.config.update(PREFSYNC_JWT_KEY=KEY, PREFSYNC_RATE_LIMIT=f"{10 + number}/minute")
        prefsync.init_app(app)
        close(app)
    one, two = (app.test_client() for app in apps)
    one.patch("/preferences", json=DARK, headers=bearer("anna"))
    first, second = (client.get("/preferences", headers=bearer("anna")) for client in (one, two))
    assert first.get_json()["values"]["appearance"]["theme"] == "dark"
    assert second.get_json()["values"]["appearance"]["theme"] == "system"
    assert "q=10;" in first.headers["RateLimit-Policy"]
    assert "q=11;" in second.headers["RateLimit-Policy"]


def test_two_mounts_in_one_app_do_not_mix(app: Flask, mounted: Callable[..., PrefSync]) -> None:
    """Each has its prefix, its name and its preferences; which one is meant must be said."""
    one = mounted(app)
    two = mounted(app, url_prefix="/more", name="more")

    @app.get("/themes")
    def themes() -> list[str]:
        with pytest.raises(ConfigurationError, match="2 PrefSyncs"):
            current_preferences.get(Appearance)
        return [each.preferences().get(Appearance).theme for each in (one, two)]

    client = app.test_client()
    client.patch("/more", json=DARK, headers=bearer("anna"))
    assert client.get("/themes", headers=bearer("anna")).get_json() == ["system", "dark"]
    with pytest.raises(ConfigurationError, match="already"):
        mounted(app, url_prefix="/third")


# --- Paths and bodies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["/api/v1/settings", "/preferences"])
def test_where_the_app_is(app: Flask, mounted: Callable[..., PrefSync], prefix: str) -> None:
    """A nested prefix, an app below another, a proxy that strips a path: the mount is found below all of them."""
    app.config["APPLICATION_ROOT"] = "/root"
    mounted(app, url_prefix=prefix)
    headers = bearer("anna")
    assert (
        app.test_client().get(prefix, headers=headers).status_code == 200
    )  # below the root, by Flask's client
    below = Client(DispatcherMiddleware(Flask("outer"), {"/below": app.wsgi_app}))
    assert below.get(f"/below{prefix}/schema", headers=headers).status_code == 200
    assert below.get(f"/below{prefix}/", headers=headers).status_code == 200
    assert is_problem(below.get(f"/below{prefix}/nothing/here", headers=headers), 404, "not-found")
    proxied = Client(ProxyFix(app.wsgi_app, x_prefix=1, x_host=1, x_proto=1))
    forwarded = {**headers, "X-Forwarded-Prefix": "/outside", "X-Forwarded-Host": "prefs.example"}
    assert proxied.get(prefix, headers=forwarded).status_code == 200


def test_a_body_that_the_host_has_read(app: Flask, mounted: Callable[..., PrefSync]) -> None:
    """A host that reads each body before takes nothing away from the mount."""
    mounted(app)
    read = []

    @app.before_request
    def look() -> None:
        read.append(request.get_data())

    client = app.test_client()
    assert client.patch("/preferences", json=DARK, headers=bearer("anna")).status_code == 200
    found = client.get("/preferences/appearance", headers=bearer("anna")).get_json()
    assert found["theme"] == "dark"
    assert json.loads(read[0]) == DARK


def test_the_hosts_own_limit_of_bodies(app: Flask, mounted: Callable[..., PrefSync]) -> None:
    """``MAX_CONTENT_LENGTH`` is for the host's own views; the mount has its own limit, told as a 413 problem."""
    app.config["MAX_CONTENT_LENGTH"] = 10
    mounted(app)
    client = app.test_client()
    assert client.patch("/preferences", json=DARK, headers=bearer("anna")).status_code == 200
    big = client.patch("/preferences", json={"plugins": {"a": "x" * 300_000}}, headers=bearer("anna"))
    assert is_problem(big, 413, "too-large")
