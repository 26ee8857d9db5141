"""What newcomers get wrong, and that one message says what to change."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import httpx2
import pytest
from fastapi import Depends, FastAPI, Header
from flask import Flask

from prefsync import ConfigurationError, Identity, Preferences, Runtime, Settings, Subject
from prefsync.client import AsyncPreferencesClient, UnexpectedAnswerError
from prefsync.errors import UnusableDatabaseError
from prefsync.http.messages import HttpRequest
from prefsync.testing.mount import KEY
from prefsync.testing.mount.callers import BOTH, mint
from prefsync_fastapi import PrefSync
from prefsync_flask import PrefSync as FlaskPrefSync
from tests.flask.conftest import client_of, eventually, gunicorn, settings_of
from tests.http.conftest import gunicorn_process

if TYPE_CHECKING:
    from pathlib import Path

NOBODY_LISTENS = "127.0.0.1:1"


class Appearance(Preferences, namespace="appearance"):
    """A namespace."""

    theme: str = "system"


def runtime_of(**settings: Any) -> Runtime:
    """Set up what an app sets up."""
    return Runtime([Appearance], settings=Settings(**{"jwt_key": KEY, **settings}))


async def said_at_start(**settings: Any) -> str:
    """Start with such settings, and return what is said."""
    with pytest.raises(ConfigurationError) as caught:
        async with runtime_of(**settings):
            pytest.fail("it started")
    said = str(caught.value)
    assert "\n" not in said
    return said


async def test_a_database_url_that_leads_nowhere() -> None:
    """The message names the URL less its password, and the setting."""
    url = f"postgresql://app:geheim@{NOBODY_LISTENS}/app"
    with pytest.raises(
        UnusableDatabaseError, match="check PREFSYNC_DATABASE_URL and that the server runs"
    ) as caught:
        await runtime_of(database_url=url).__aenter__()
    assert NOBODY_LISTENS in str(caught.value)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("url", ["app.db", "mongodb://127.0.0.1/app", "postgresql//127.0.0.1/app"])
async def test_a_database_url_that_is_none(url: str) -> None:
    """The message names the setting, and what would be right."""
    said = await said_at_start(database_url=url)
    assert "PREFSYNC_DATABASE_URL" in said
    assert "postgresql://" in said


@pytest.mark.parametrize(
    ("url", "extra"), [("postgresql://h/app", "postgres"), ("sqlite:///app.db", "sqlite")]
)
async def test_an_extra_that_is_missing(monkeypatch: pytest.MonkeyPatch, url: str, extra: str) -> None:
    """The message is the command that installs it."""
    monkeypatch.setattr("prefsync.adapters.sqlalchemy.repository.find_spec", lambda _: None)
    assert f'pip install "prefsync-kit[{extra}]"' in await said_at_start(database_url=url)


async def test_no_migration_was_run(tmp_path: Path) -> None:
    """The message is the command that makes the tables."""
    said = await said_at_start(database_url=f"sqlite:///{tmp_path / 'app.db'}", tables="check")
    assert "prefsync db upgrade" in said


async def test_two_workers_without_redis(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning at start names the setting, and what is wrong without it."""
    monkeypatch.setenv("WEB_CONCURRENCY", "2")
    async with runtime_of(database_url="sqlite:///:memory:"):
        (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
        assert "set PREFSYNC_REDIS_URL" in warning.getMessage()


async def test_no_key_for_tokens() -> None:
    """The message names the settings that would do."""
    assert "PREFSYNC_JWT_KEY" in await said_at_start(database_url="sqlite:///:memory:", jwt_key=None)


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"aud": "another"}, "PREFSYNC_JWT_AUDIENCE"),
        ({"iss": "another"}, "PREFSYNC_JWT_ISSUER"),
        ({"iat": 3_600}, "the clock here is behind"),
        ({"exp": -3_600}, "the clock here is ahead"),
    ],
    ids=["audience", "issuer", "clock behind", "clock ahead"],
)
async def test_a_token_that_was_meant_well(claims: dict[str, Any], words: str) -> None:
    """The refusal says what about the token does not fit, and which setting, or which clock, to look at."""
    now = int(time.time())
    shifted = {name: now + value if isinstance(value, int) else value for name, value in claims.items()}
    good = {"sub": "anna", "iss": "issuer", "aud": "app", "exp": now + 600, "scope": BOTH}
    token = mint({**good, **shifted}, key=KEY)

    async def read(_: int) -> bytes:
        pytest.fail("nobody reads this")

    async with runtime_of(
        database_url="sqlite:///:memory:", jwt_issuer="issuer", jwt_audience="app"
    ) as runtime:
        request = HttpRequest(
            "GET", "", b"", {b"authorization": f"Bearer {token}".encode()}, "192.0.2.1", read, read
        )
        answer = await runtime.api.handle(request)
    assert answer.status == 401
    assert words in answer.body.decode()


async def test_a_client_with_the_wrong_prefix() -> None:
    """The error says that nothing of prefsync's is there, and what to look at."""
    mounted = PrefSync([Appearance], settings=Settings(database_url="sqlite:///:memory:", jwt_key=KEY))
    app = FastAPI()
    app.include_router(mounted.router, prefix="/preferences")
    token = mint({"sub": "anna", "exp": int(time.time()) + 600, "scope": BOTH}, key=KEY)
    transport = httpx2.ASGITransport(app)
    async with AsyncPreferencesClient("http://test/settings", token, transport=transport) as client:
        with pytest.raises(UnexpectedAnswerError, match="is the client's URL that of the mount"):
            await client.get("appearance")


def test_a_setting_that_is_misspelled() -> None:
    """The message names the setting that was probably meant."""
    with pytest.raises(ConfigurationError, match="did you mean PREFSYNC_REDIS_URL"):
        Settings.from_environment({"PREFSYNC_REDIS_URI": "redis://127.0.0.1"})


@pytest.mark.once
@pytest.mark.parametrize("worker", ["gthread", "uvicorn_worker.UvicornWorker"])
def test_two_workers_of_gunicorn_without_redis(worker: str, tmp_path: Path) -> None:
    """The same warning comes from workers that are told nothing by their environment."""
    storage = {"PREFSYNC_DATABASE_URL": f"sqlite:///{tmp_path}/prefsync.sqlite3"}
    options = ("--workers", "2", "--worker-class", worker)
    if worker == "gthread":
        server = gunicorn(storage, *options, "--threads", "4")
    else:
        server = gunicorn_process(settings_of(storage), *options, app="fastapi_app:app")
    with server, client_of(server) as client:
        client.get("/preferences").raise_for_status()
        eventually(lambda: "set PREFSYNC_REDIS_URL" in server.output)


@pytest.mark.once
def test_one_worker_of_gunicorn_needs_no_redis(tmp_path: Path) -> None:
    """And where there is one, nothing is said."""
    with (
        gunicorn({"PREFSYNC_DATABASE_URL": f"sqlite:///{tmp_path}/prefsync.sqlite3"}) as server,
        client_of(server) as client,
    ):
        client.get("/preferences").raise_for_status()
        assert "PREFSYNC_REDIS_URL" not in server.output


@pytest.mark.parametrize("mount", [PrefSync, lambda models: FlaskPrefSync(Flask("host"), models), Runtime])
def test_a_model_without_its_list(mount: Any) -> None:
    """The message writes the list."""
    with pytest.raises(ConfigurationError, match=r"passed in a list: \[Appearance\]"):
        mount(Appearance)


def test_an_app_in_the_place_of_the_models() -> None:
    """The message says what belongs there."""
    app: Any = FastAPI()
    with pytest.raises(ConfigurationError, match="a list, of subclasses of Preferences; this is a FastAPI"):
        PrefSync(app)


def test_models_in_the_place_of_the_app() -> None:
    """The message has the right order."""
    models: Any = [Appearance]
    with pytest.raises(ConfigurationError, match=r"PrefSync\(app, \[...\]\)"):
        FlaskPrefSync(models)


async def _user() -> str:
    return "anna"


@pytest.mark.parametrize(
    ("mount", "given", "words"),
    [
        (PrefSync, Depends(_user), r"authenticate=current_user, without Depends\(\)"),
        (PrefSync, "anna", "a function, and not str"),
        (FlaskPrefSync, "anna", "a plain function, which Flask calls, and not str"),
        (FlaskPrefSync, _user, "a plain function, which Flask calls, and not an async one"),
    ],
    ids=["Depends", "FastAPI", "Flask", "async in Flask"],
)
def test_authentication_that_is_no_function(mount: Any, given: Any, words: str) -> None:
    """The message says so when the app is made, and not to the first user."""
    with pytest.raises(ConfigurationError, match=words):
        mount(models=[Appearance], authenticate=given)


def served(authenticate: Any) -> FastAPI:
    """Mount preferences for whom the host says."""
    settings = Settings(database_url="sqlite:///:memory:")
    app = FastAPI()
    mounted = PrefSync([Appearance], settings=settings, authenticate=authenticate)
    app.include_router(mounted.router, prefix="/preferences")
    return app


async def asked(app: FastAPI, path: str, **headers: str) -> dict[str, Any]:
    """Return what the app says to a request."""
    transport = httpx2.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        problem: dict[str, Any] = (await client.get(path, headers=headers)).json()
    return problem


async def test_authentication_that_returns_nobody() -> None:
    """FastAPI's way to say so is to raise, and the message tells."""
    with pytest.raises(
        TypeError, match=r"not NoneType; where nobody is signed in, raise HTTPException\(401\)"
    ):
        await asked(served(lambda: None), "/preferences")


async def test_a_request_without_what_the_hosts_authentication_reads() -> None:
    """The refusal names the header."""

    def by_key(x_api_key: Annotated[str, Header()]) -> str:
        return x_api_key

    problem = await asked(served(by_key), "/preferences")
    assert problem["status"] == 400
    assert problem["detail"] == "the host's authentication needs header x-api-key (Field required)"


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/apperance", "; did you mean '/appearance'?"),
        ("/Appearance", "; did you mean '/appearance'?"),
        ("/x", ""),
    ],
)
async def test_a_namespace_that_is_misspelled(path: str, meant: str) -> None:
    """The refusal names the one that was probably meant."""
    problem = await asked(served(lambda: "anna"), f"/preferences{path}")
    assert problem["status"] == 404
    assert problem["detail"] == f"there is nothing at '{path}'{meant}"


async def test_who_may_not_read_is_told_no_names() -> None:
    """Not even by the answer to a misspelled path."""
    writer = Identity(Subject("anna"), frozenset({"preferences:write"}))
    problem = await asked(served(lambda: writer), "/preferences/apperance")
    assert problem["detail"] == "there is nothing at '/apperance'"
