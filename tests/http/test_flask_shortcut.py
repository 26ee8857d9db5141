"""Documents pass by Flask's dispatch once they were through it, and only where nobody else has a part in a request."""

from __future__ import annotations

import gc
import secrets
import time
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask, Response, request, request_started, session
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client

from prefsync import Parts, Settings
from prefsync.adapters.memory import MemoryRepository
from prefsync.testing.mount.callers import KEY, mint
from prefsync_flask import PrefSync
from tests.http.conftest import MODELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from werkzeug.test import TestResponse


CLAIMS = {"scope": "preferences:read preferences:write", "exp": time.time() + 3_600}


class Host:
    """An app with a mount in memory, and a user of it."""

    def __init__(self, app: Flask | None = None, **options: Any) -> None:
        self.app = app or Flask(__name__)
        self.prefsync = PrefSync(
            self.app,
            MODELS,
            settings=options.pop("settings", None) or Settings(jwt_key=KEY),
            parts=Parts(repository=MemoryRepository()),
            **options,
        )
        self.client = Client(self.app)  # Flask's own keeps contexts, and never goes the short way
        self._bearer = {"Authorization": f"Bearer {mint(CLAIMS | {'sub': secrets.token_hex(8)})}"}

    @property
    def ways(self) -> int:
        """How many paths and methods pass by."""
        layer: Any = self.app.wsgi_app
        return len(getattr(layer, "app", layer)._ways)

    def get(self, path: str = "", **more: Any) -> TestResponse:
        """Read."""
        return self.client.get(f"/preferences{path}", headers=self._bearer, **more)

    def put(self, path: str, values: Any) -> TestResponse:
        """Write."""
        return self.client.put(f"/preferences{path}", headers=self._bearer, json=values)


@pytest.fixture
def make() -> Iterator[Callable[..., Host]]:
    """Make hosts, and close them afterwards."""
    hosts: list[Host] = []

    def make(*arguments: Any, **options: Any) -> Host:
        hosts.append(Host(*arguments, **options))
        return hosts[-1]

    yield make
    for host in hosts:
        host.prefsync.gateway(host.app).close()


def test_the_answer_is_the_same(make: Callable[..., Host]) -> None:
    """The first request of a kind goes the long way, the next ones the short one; to the byte but for the quota."""
    host = make()
    host.put("/appearance", {"theme": "dark"})
    answers = [host.get("/appearance") for _ in range(3)]
    assert host.ways == 2
    assert len({answer.data for answer in answers}) == 1
    heads = [
        sorted((name.lower(), value) for name, value in answer.headers if name.lower() != "ratelimit")
        for answer in answers
    ]
    assert heads[0] == heads[1] == heads[2]
    assert host.put("/appearance", {"font_size": 20}).json == host.get("/appearance").json
    assert host.put("/appearance", {"font_size": 1000}).status_code == 422
    assert host.put("/appearance", {"x": "y" * 300_000}).status_code == 413


def test_what_is_no_document_never_passes(make: Callable[..., Host]) -> None:
    """Other paths, and other methods."""
    host = make()
    for path in ("/schema", "/changes?since=0", "/nothing-here", "/client.js"):
        host.get(path)
    host.client.options("/preferences")
    assert host.ways == 0


def _before(app: Flask, seen: list[str]) -> None:
    app.before_request(lambda: seen.append("before"))


def _after(app: Flask, seen: list[str]) -> None:
    @app.after_request
    def after(response: Response) -> Response:
        seen.append("after")
        return response


def _teardown(app: Flask, seen: list[str]) -> None:
    app.teardown_request(lambda _: seen.append("teardown"))


def _app_teardown(app: Flask, seen: list[str]) -> None:
    app.teardown_appcontext(lambda _: seen.append("teardown"))


@pytest.mark.parametrize("hook", [_before, _after, _teardown, _app_teardown])
def test_hooks_are_run(make: Callable[..., Host], hook: Callable[[Flask, list[str]], None]) -> None:
    """Whatever the host does before or after a request is done for each of them."""
    host, seen = make(), list[str]()
    hook(host.app, seen)
    for _ in range(3):
        assert host.get().status_code == 200
    assert len(seen) == 3


def test_signals_are_sent(make: Callable[..., Host]) -> None:
    """Also to receivers that come after the first request, those of error trackers say."""
    host, seen = make(), list[str]()
    host.get()

    def receive(_app: Flask, **_: Any) -> None:
        seen.append(request.path)

    with request_started.connected_to(receive, host.app):
        host.get()
        host.get()
    assert seen == ["/preferences"] * 2


def test_an_app_of_another_kind(make: Callable[..., Host]) -> None:
    """One that dispatches in its own way is asked each time."""
    seen: list[str] = []

    class Own(Flask):
        def full_dispatch_request(self) -> Any:
            seen.append(request.path)
            return super().full_dispatch_request()

    host = make(Own(__name__))
    for _ in range(3):
        host.get()
    assert len(seen) == 3


def test_the_hosts_own_authentication_is_asked(make: Callable[..., Host]) -> None:
    """In each request."""
    asked: list[str] = []

    def authenticate() -> str:
        asked.append(request.path)
        return "anna"

    host = make(authenticate=authenticate)
    for _ in range(3):
        host.get()
    assert len(asked) == 3


def test_layers_around_the_app(make: Callable[..., Host]) -> None:
    """One that was there before stays in front of the protocol; one that comes later is in front anyway."""
    app = Flask(__name__)
    app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
    host = make(app)
    host.get()
    host.get()
    assert host.ways == 0
    later = make()
    later.app.wsgi_app = ProxyFix(later.app.wsgi_app)  # type: ignore[method-assign]
    later.get()
    assert later.get().status_code == 200
    assert later.ways == 1


def test_a_route_of_the_hosts_below_the_prefix_stays_its_own(make: Callable[..., Host]) -> None:
    """Flask takes the more special of two."""
    host = make()
    host.app.add_url_rule("/preferences/editor", view_func=lambda: "mine")
    for _ in range(2):
        assert host.get("/editor").data == b"mine"
        assert host.get("/appearance").status_code == 200


def test_what_goes_wrong_reaches_the_hosts_handlers(
    make: Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that is none of the protocol's is the host's to answer, on the short way too."""
    host = make()

    @host.app.errorhandler(LookupError)
    def handle(error: LookupError) -> tuple[str, int]:
        return f"handled {error}", 418

    assert host.get().status_code == 200
    api = host.prefsync.gateway(host.app).runtime.api

    def fail(*_: Any) -> None:
        raise LookupError("lost")

    monkeypatch.setattr(api.reader, "_render", fail)
    answer = host.get()
    assert (answer.status_code, answer.data) == (418, b"handled lost")


def test_a_client_that_keeps_the_context(make: Callable[..., Host]) -> None:
    """``with app.test_client()`` finds the request afterwards."""
    host = make()
    host.get()
    with host.app.test_client() as client:
        client.get("/preferences")
        assert request.path == "/preferences"


def test_two_mounts_of_one_app(make: Callable[..., Host]) -> None:
    """Each answers for its own documents, by its own authentication, however often it was asked."""
    app = Flask(__name__)
    first = make(app)
    make(app, url_prefix="/more", name="more", authenticate=lambda: "anna")
    first.put("/appearance", {"theme": "dark"})
    for _ in range(3):
        more = first.client.get("/more/appearance")
        assert (more.status_code, more.json["theme"]) == (200, "system")
        assert first.get("/appearance").json["theme"] == "dark"


def test_hosts_that_are_not_trusted(make: Callable[..., Host]) -> None:
    """Are refused by Flask, also for documents that were asked for by a host that is."""
    app = Flask(__name__)
    app.config["TRUSTED_HOSTS"] = ["localhost"]
    host = make(app)
    for _ in range(2):
        assert host.get().status_code == 200
        assert host.get(base_url="http://evil.example").status_code == 400


def test_head_has_no_body(make: Callable[..., Host]) -> None:
    """Not even where it is refused before the protocol sees it: the next answer on the connection begins there."""
    host = make(settings=Settings(jwt_key=KEY, require_https=True))
    for _ in range(3):
        refused = host.client.head("/preferences", base_url="http://app.example")
        assert (refused.status_code, refused.data) == (403, b"")


def test_a_session_of_flasks_is_refreshed(make: Callable[..., Host]) -> None:
    """A permanent session that a request brings is sent anew with each answer, as Flask does."""
    host = make()
    host.app.secret_key = "for this test"

    @host.app.get("/sign-in")
    def sign_in() -> str:
        session["user"], session.permanent = "anna", True
        return "hello"

    host.client.get("/sign-in")
    for _ in range(3):
        assert "session=" in host.get().headers["Set-Cookie"]


def test_a_method_of_the_app_that_was_replaced(
    make: Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What wraps an app's dispatch, as tracers do, sees each request."""
    host, seen = make(), list[str]()
    dispatch = host.app.full_dispatch_request

    def traced() -> Any:
        seen.append(request.path)
        return dispatch()

    monkeypatch.setattr(host.app, "full_dispatch_request", traced)
    for _ in range(3):
        host.get()
    assert len(seen) == 3


def test_a_stream_that_the_host_replaces_gives_its_place_back(make: Callable[..., Host]) -> None:
    """Where a hook of the host's raises after the answer was made, nobody follows any more."""
    host = make(settings=Settings(jwt_key=KEY, max_waiting=1))

    host.app.logger.disabled = (
        True  # what it logs is kept by the test runner, and with it all that was on the way
    )

    @host.app.after_request
    def fail(response: Response) -> Response:
        raise LookupError(f"no {response.mimetype} here")

    for _ in range(3):
        assert host.get("/events").status_code == 500
        gc.collect()
    gateway = host.prefsync.gateway(host.app)
    end = time.monotonic() + 20
    while gateway.health().sessions and time.monotonic() < end:
        time.sleep(0.01)
    assert gateway.health().sessions == 0


def test_a_wait_in_any_spelling_counts(make: Callable[..., Host]) -> None:
    """A long poll needs a place whatever characters its query is written in."""
    host = make(settings=Settings(jwt_key=KEY, max_waiting=0))
    for query in ("since=0&wait=3", "since=0&%77ait=3", "since=0&w%61it=3"):
        assert host.get(f"/changes?{query}").status_code == 503
