"""What the documentation shows works: every page's Python runs, and does what the page says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from prefsync import Parts, Runtime, Subject
from tests.docs.pages import as_module, blocks, text_of
from tests.http.conftest import uvicorn_process

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

pytestmark = pytest.mark.once


def test_readme(
    load: Callable[[Path], ModuleType], bearer: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    """The first screen is two apps, each whole: their endpoint and their mounted paths answer."""
    in_fastapi, in_flask = blocks("README.md", "python")
    (tmp_path / "in_fastapi.py").write_text(in_fastapi.code, encoding="utf-8")
    (tmp_path / "in_flask.py").write_text(in_flask.code, encoding="utf-8")
    with TestClient(load(tmp_path / "in_fastapi.py").app) as client:
        assert client.get("/dashboard").status_code == 401
        assert client.get("/dashboard", headers=bearer("alice")).json() == "system"
        changed = client.patch("/preferences/appearance", json={"theme": "dark"}, headers=bearer("alice"))
        assert changed.json() == {"theme": "dark"}
        assert client.get("/dashboard", headers=bearer("alice")).json() == "dark"
    app = load(tmp_path / "in_flask.py").app
    answer = app.test_client().get("/dashboard", headers=bearer("alice"))
    assert (answer.status_code, answer.text) == (200, "dark")  # of the same database
    assert app.test_client().get("/dashboard").status_code == 401
    (mount,) = app.extensions["prefsync"].values()
    mount.gateway.close()


def test_readme_shows_the_whole_app_in_few_lines() -> None:
    """What a reader has to write fits a screen: ten lines that are neither import nor blank, at most."""
    for block in blocks("README.md", "python"):
        lines = [
            line for line in block.code.splitlines() if line and not line.startswith(("from ", "import "))
        ]
        assert len(lines) <= 10


def test_transactions(
    run: Callable[[str], ModuleType], bearer: Callable[[str], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways of the page write users and preferences in one transaction, and what they wrote is there at once."""
    monkeypatch.setenv("PREFSYNC_DATABASE_URL", "sqlite:///docs.sqlite3")
    page = run("docs/transactions.md")
    with TestClient(page.app) as client:
        assert client.post("/sign-up/alice", params={"theme": "dark"}).status_code == 200
        assert client.post("/import", json=["bob", "carol"]).status_code == 200
        for user in ("alice", "bob", "carol"):
            assert client.get("/preferences/appearance", headers=bearer(user)).json() == {"theme": "dark"}
    page.blocking_engine.dispose()


def test_guide(run: Callable[[str], ModuleType], bearer: Callable[[str], dict[str, str]]) -> None:
    """The guide's app works, shows its docstrings as descriptions, and answers errors as the guide says."""
    page = run("docs/guide.md")
    with TestClient(page.app) as client:
        schema = client.get("/preferences/schema", headers=bearer("alice")).json()
        appearance = schema["properties"]["appearance"]
        assert appearance["description"] == "How the app looks."
        assert appearance["properties"]["theme"]["description"] == "Light, dark, or as the device is set."
        plugins = client.get("/preferences/plugins", headers=bearer("alice")).json()
        assert plugins == {"spelling": {"language": "en"}}
        assert client.get("/editor", headers=bearer("alice")).json() == {"font_size": 14}
        assert "/preferences/appearance" in client.get("/openapi.json").json()["paths"]
    page.own_app.dependency_overrides.clear()
    with TestClient(page.own_app) as client:
        refused = client.get("/preferences")
        assert refused.status_code == 401
        assert refused.json()["type"] == "urn:prefsync:problem:unauthenticated"
        client.cookies["session"] = "s3cr3t"
        assert client.get("/theme").json() == "system"


def test_flask(run: Callable[[str], ModuleType], bearer: Callable[[str], dict[str, str]]) -> None:
    """The app of the page works, and so do its commands."""
    page = run("docs/flask.md")
    client = page.app.test_client()
    assert client.post("/lights-out", headers=bearer("alice")).text == "dark"
    assert client.get("/dashboard", headers=bearer("alice")).text == "dark"
    assert client.get("/dashboard").status_code == 401
    for line in [line for block in blocks("docs/flask.md", "sh") for line in block.code.splitlines()]:
        if line.startswith("flask "):
            arguments = shlex.split(line.replace("--app app ", "").replace("erase", "erase --yes"))[1:]
            result = page.app.test_cli_runner().invoke(args=arguments)
            assert result.exit_code == 0, f"{line}: {result.output}"
    for app, mount in ((page.app, page.prefsync), (page.own_app, page.own)):
        mount.gateway(app).close()


def test_guide_names_every_reserved_name() -> None:
    """The names that no namespace may have are those in the code."""
    from prefsync.schema import RESERVED_NAMES

    (rule,) = [line for line in text_of("docs/guide.md").splitlines() if line.startswith("| Names |")]
    assert set(re.findall(r"`([a-z]+)`", rule)) == RESERVED_NAMES


async def test_production(run: Callable[[str], ModuleType]) -> None:
    """Scripts write and erase, the host's own engine serves, and CORS lets the protocol's headers through."""
    page = run("docs/production.md")
    models = [page.Appearance, page.Plugins]
    await page.enlarge(["alice", "bob"])
    async with Runtime(models, authenticates=False) as runtime:
        assert (await runtime.handle(Subject("alice")).get(page.Appearance)).font_size == 18
    await page.forget("alice")
    async with Runtime(models, authenticates=False) as runtime:
        assert (await runtime.handle(Subject("alice")).get(page.Appearance)).font_size == 14
        assert (await runtime.handle(Subject("bob")).get(page.Appearance)).font_size == 18
    parts = Parts(repository=page.parts.repository)
    async with Runtime(models, parts=parts, authenticates=False) as runtime:
        await runtime.handle(Subject("carol")).update(page.Plugins, spelling=None)
        assert dict(await runtime.handle(Subject("carol")).get(page.Plugins)) == {"spelling": None}
    await page.engine.dispose()

    transport = httpx2.ASGITransport(page.app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        asked = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "PATCH"}
        asked["Access-Control-Request-Headers"] = "authorization,content-type,if-match,prefsync-min-revision"
        assert (await client.options("/preferences", headers=asked)).status_code == 200
        shown = (await client.get("/", headers=asked)).headers["Access-Control-Expose-Headers"]
        assert {"ETag", "Prefsync-Revision", "RateLimit", "RateLimit-Policy", "Retry-After"} <= set(
            shown.split(", ")
        )


def test_settings(run: Callable[[str], ModuleType]) -> None:
    """The settings page's mounts can be made."""
    page = run("docs/settings.md")
    assert page.strict.runtime.service.limits.body == 32 * 1024


def test_tokens(run: Callable[[str], ModuleType], bearer: Callable[[str], dict[str, str]]) -> None:
    """The tokens page's mounts can be made, revocation works, and the metadata stands where the page says."""
    page = run("docs/tokens.md")
    with TestClient(page.app) as client:
        found = client.get("/.well-known/oauth-protected-resource/preferences").json()
        assert found["resource"] == "https://api.example.com/preferences"
        refused = client.get("/preferences").headers["WWW-Authenticate"]
        url = "https://api.example.com/.well-known/oauth-protected-resource/preferences"
        assert f'resource_metadata="{url}"' in refused
    assert page.flask_app.test_client().get("/.well-known/oauth-protected-resource/preferences").json == found
    app = FastAPI()
    app.include_router(page.prefsync.router, prefix="/preferences")
    with TestClient(app) as client:
        assert client.get("/preferences", headers=bearer("alice")).status_code == 200
        page.prefsync.runtime.revoke(subject=Subject("alice"))
        assert client.get("/preferences", headers=bearer("alice")).status_code == 401
        assert client.get("/preferences", headers=bearer("bob")).status_code == 200


async def test_protocol_follows(
    run: Callable[[str], ModuleType], example_app: FastAPI, bearer: Callable[[str], dict[str, str]]
) -> None:
    """The protocol page's client has, after each write and each reset, what a read returns."""
    follow = run("docs/protocol.md").follow
    mirror: dict[str, Any] = {}
    async with (
        example_app.router.lifespan_context(example_app),
        httpx2.AsyncClient(
            transport=httpx2.ASGITransport(example_app), base_url="http://test", headers=bearer("alice")
        ) as client,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(follow, client, mirror)
        for method, path, body in [
            ("PATCH", "/appearance", {"theme": "dark"}),
            ("PATCH", "/plugins", {"foo": {"a": 1}, "bar": 2}),
            ("PATCH", "/plugins", {"foo": None}),
            ("PUT", "/editor", {"rulers": [80]}),
            ("DELETE", "", None),
        ]:
            answer = await client.request(method, f"/preferences{path}", json=body)
            assert answer.status_code == 200
            state = (await client.get("/preferences")).json()["values"]
            with anyio.fail_after(10):
                while mirror != state:  # what the page's client does is seen only here
                    await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()


async def test_protocol_names_paths_that_are_there(
    example_app: FastAPI, bearer: Callable[[str], dict[str, str]]
) -> None:
    """Every method and path of the protocol page is answered."""
    rows = re.findall(r"^\| `([A-Z]+) (/[^`]*)` \|", text_of("docs/protocol.md"), re.MULTILINE)
    assert len(rows) == 14
    async with (
        example_app.router.lifespan_context(example_app),
        httpx2.AsyncClient(
            transport=httpx2.ASGITransport(example_app), base_url="http://test", headers=bearer("alice")
        ) as client,
    ):
        for method, path in rows:
            url = f"/preferences{path.replace('{ns}', 'editor')}"
            body = {} if method in {"PUT", "PATCH"} else None
            # A stream would not end here, and a WebSocket needs a handshake: that of HTTP is refused in its own words.
            asked = "HEAD" if path == "/events" else method
            expected = 400 if path == "/ws" else 200
            answer = await client.request(asked, url, json=body, params={"since": "0"})
            assert answer.status_code == expected, (method, path, answer.text)


async def test_python_client(
    run: Callable[[str], ModuleType],
    jwt_key: str,
    bearer: Callable[[str], dict[str, str]],
    example_app: FastAPI,
) -> None:
    """The Python client's page reads, writes, counts up, follows and explains."""
    page = run("docs/python-client.md")
    token = bearer("alice")["Authorization"].removeprefix("Bearer ")
    with uvicorn_process(
        {"PREFSYNC_JWT_KEY": jwt_key, "PREFSYNC_DATABASE_URL": "sqlite:///served.sqlite3"}
    ) as server:
        url = f"{server.url}/preferences"

        def blocking() -> None:
            assert page.lights_out(url, token)["theme"] == "dark"
            pointers = [line.partition(":")[0] for line in page.explain(url, token)]
            assert pointers == ["/appearance/theme", "/editor/tab_size"]
            with page.PreferencesClient(url, token) as prefs:
                prefs.patch("plugins", {"stop": True})
                assert page.mirror(url, token) == prefs.get()

        await anyio.to_thread.run_sync(blocking)
        assert (await page.enlarge(url, token)).font_size == 16
    async with example_app.router.lifespan_context(example_app):
        assert await page.theme_of(example_app, token) == "system"


def test_python_client_names_every_name() -> None:
    """The page has every public name of the client but what a watch is called."""
    import prefsync.client

    text = text_of("docs/python-client.md")
    names = set(prefsync.client.__all__) - {"AsyncWatch", "Watch", "FieldError"}
    assert [name for name in sorted(names) if not re.search(rf"(?<!\w){name}(?!\w)", text)] == []


def test_client(run: Callable[[str], ModuleType]) -> None:
    """The script of the client's page writes declarations, and its test knows when they are stale."""
    page = run("docs/client.md")
    page.DECLARATIONS.write_text(page.typescript(page.MODELS), encoding="utf-8")
    page.test_the_front_end_knows_our_preferences()
    page.DECLARATIONS.write_text(page.typescript(page.MODELS[:1]), encoding="utf-8")
    with pytest.raises(AssertionError, match="run the script"):
        page.test_the_front_end_knows_our_preferences()


def test_adapters(run: Callable[[str], ModuleType]) -> None:
    """The adapters page can be read as one module."""
    page = run("docs/adapters.md")
    assert type(page.prefsync.runtime.cache) is page.FileCache


def test_adapters_example_keeps_the_contract(tmp_path: Path) -> None:
    """The cache on the adapters page passes the contract suite, run as the page says."""
    module = tmp_path / "test_page.py"
    module.write_text(as_module("docs/adapters.md").rpartition("from prefsync import Parts")[0])
    options = ["-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(module)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert int(re.findall(r"(\d+) passed", ran.stdout)[0]) > 20


def test_testing(tmp_path: Path) -> None:
    """The tests on the page about testing pass as they stand there, each file under the name in its first line."""
    for block in blocks("docs/testing.md", "python"):
        name = block.code.partition("\n")[0].removeprefix("# ")
        folder = tmp_path / ("flask" if "flask" in name else "fastapi")
        folder.mkdir(exist_ok=True)
        (folder / name.replace("flask_conftest", "conftest")).write_text(block.code)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.findall(r"(\d+) passed", ran.stdout) == ["9"]


def test_testing_names_every_fixture() -> None:
    """Each fixture of the plugin has its row."""
    import prefsync_pytest

    rows = re.findall(r"^\| `(prefsync_[a-z]+)` \|", text_of("docs/testing.md"), re.MULTILINE)
    assert sorted(rows) == sorted(prefsync_pytest.__all__)
