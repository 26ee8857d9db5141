"""The example app's demo page is made of its own files alone, and signs nobody in but in the demo."""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import sys
import time
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from unittest import mock
from urllib.parse import unquote, urljoin

import demo_support
import httpx2
import jwt
import pytest

from prefsync.testing.mount import KEY
from tests.http.conftest import EXAMPLES, NO_TLS
from tests.servers import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fastapi import FastAPI
    from starlette.types import Message

pytestmark = [pytest.mark.anyio, pytest.mark.once]

TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


def app_with(**variables: str) -> FastAPI:
    """Import the example app anew, as it is under these variables."""
    spec = importlib.util.spec_from_file_location(f"page_{secrets.token_hex(4)}", EXAMPLES / "fastapi_app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with mock.patch.dict(os.environ, environment(**variables), clear=True):
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    app: FastAPI = module.app
    return app


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment with these variables in place of what would set the example app up."""
    ours = {*os.environ} - {demo_support.KEY_VARIABLE}
    kept = {name: os.environ[name] for name in ours if not name.startswith("PREFSYNC_")}
    return {**kept, "PREFSYNC_DATABASE_URL": "sqlite:///:memory:", **variables}


def client_of(app: FastAPI) -> httpx2.AsyncClient:
    """Return a client of an app that was not started: the page needs nothing that is started."""
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test")


class Page(HTMLParser):
    """What a page refers to, and what it would run by itself."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.inline: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See ``HTMLParser``."""
        found = dict(attrs)
        self.links += [url for name in ("src", "href") if (url := found.get(name)) is not None]
        if tag == "style" or (tag == "script" and "src" not in found):
            self.inline.append(tag)
        self.inline += [name for name in found if name == "style" or name.startswith("on")]


async def test_every_file_of_the_page_is_served_with_its_type() -> None:
    """All that the page, its style sheet and its modules refer to is there, at relative URLs, under a strict policy."""
    async with client_of(app_with(PREFSYNC_JWT_KEY=KEY)) as client:
        page = await client.get("/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        links = [link for link in Page(page.text).links if not link.startswith("#")]
        assert {"demo/demo.css", "demo/demo.js", "demo/icon.svg"} <= {*links}
        queue = [urljoin("/", link) for link in links if link != "./"]
        for path in queue:
            answer = await client.get(path)
            assert answer.status_code == 200, path
            assert answer.headers["content-type"] == TYPES[path.rpartition(".")[2]]
            assert answer.headers["x-content-type-options"] == "nosniff"
            for found in re.findall(r'^import .* from "([^"]+)";$', answer.text, re.MULTILINE):
                assert found.startswith(("./", "../")), found
                path_of_it = urljoin(path, found)
                if path_of_it not in queue and path_of_it != "/preferences/client.js":
                    queue.append(path_of_it)
        assert len(queue) >= len(list((EXAMPLES / "demo_page").iterdir())) - 1


@pytest.mark.parametrize("path", ["/", "/demo/demo.js"])
async def test_nothing_foreign_and_nothing_inline_can_run(path: str) -> None:
    """The policy lets the page's own files run and nothing else, and the page holds no other."""
    async with client_of(app_with(PREFSYNC_JWT_KEY=KEY)) as client:
        answer = await client.get(path)
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        if path == "/":
            assert Page(answer.text).inline == []


async def test_the_page_works_below_a_prefix_that_a_proxy_strips() -> None:
    """No URL of the page begins at the host's root, in its HTML and in its modules."""
    page = (EXAMPLES / "demo_page" / "index.html").read_text()
    assert not [link for link in Page(page).links if link.startswith("/") or ":" in link]
    for file in (EXAMPLES / "demo_page").glob("*.js"):
        rooted = re.findall(r"""(?:from|fetch\(|new URL\()\s*["'`](/[^"'`]*)""", file.read_text())
        assert not rooted, f"{file.name}: {rooted}"


@pytest.mark.parametrize(
    "path",
    [
        "/demo/../demo_support.py",
        "/demo/%2e%2e/demo_support.py",
        "/demo/..%2fdemo_support.py",
        "/demo/..%5cdemo_support.py",
        "/demo/%2e%2e%2f%2e%2e%2fpyproject.toml",
        "/demo//etc/passwd",
        "/demo/%2fetc%2fpasswd",
        "/demo/demo.js%00.py",
        "/demo/demo_support.py",
        "/demo/.",
        "/demo/",
    ],
)
async def test_nothing_but_the_page_can_be_read(path: str) -> None:
    """A path that leads out of the page's folder leads nowhere."""
    # A client would tidy the path. A server hands it over as it came, decoded once.
    scope = {
        "type": "http",
        "method": "GET",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
    }
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app_with(PREFSYNC_JWT_KEY=KEY)(scope, receive, send)
    assert sent[0]["status"] == 404
    assert b"import" not in b"".join(message.get("body", b"") for message in sent)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {demo_support.KEY_VARIABLE: ""},
        {demo_support.KEY_VARIABLE: "some-other-key-" + "x" * 40},
        {demo_support.KEY_VARIABLE: KEY + " "},
    ],
    ids=["none", "empty", "another", "nearly"],
)
async def test_an_app_with_a_key_of_its_hosts_mints_no_tokens(variables: Mapping[str, str]) -> None:
    """Whatever the demo left in the environment: where tokens are verified with another key, nobody gets one."""
    async with client_of(app_with(PREFSYNC_JWT_KEY=KEY, **variables)) as client:
        answer = await client.post("/demo/token", json={"user": "alice"})
        assert answer.status_code in {404, 405}
        assert "token" not in answer.json()
        assert (await client.get("/demo/users")).json() == {"users": []}
    with mock.patch.dict(os.environ, environment(PREFSYNC_JWT_KEY=KEY, **variables), clear=True):
        assert demo_support.token(b'{"user": "alice"}')[1] == 404


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"user": "root"}', b'{"user": ["alice"]}', b"\xff"])
async def test_only_the_demos_users_are_signed_in(body: bytes) -> None:
    """A body that names none of them is refused."""
    async with client_of(app_with(PREFSYNC_JWT_KEY=KEY, **{demo_support.KEY_VARIABLE: KEY})) as client:
        with mock.patch.dict(os.environ, environment(PREFSYNC_JWT_KEY=KEY, DEMO_TOKEN_KEY=KEY), clear=True):
            assert (await client.post("/demo/token", content=body)).status_code == 422


def test_the_demo_signs_its_users_in_for_a_short_while(tmp_path: Path) -> None:
    """``demo.py`` says where its page is before all else; who signs in there reads and writes, for two minutes."""
    command = [sys.executable, str(EXAMPLES / "demo.py"), "--port", "{port}", "--database"]
    with (
        ServerProcess([*command, str(tmp_path / "demo.sqlite3")]) as server,
        httpx2.Client(base_url=server.url, verify=NO_TLS, trust_env=False) as client,
    ):
        assert server.output.strip().splitlines()[0] == f"prefsync demo: {server.url}/"
        assert "<h1>" in client.get("/").text
        users: list[str] = client.get("/demo/users").json()["users"]
        assert len(users) >= 3
        seen: dict[str, Any] = {}
        for user in users:
            signed_in = client.post("/demo/token", json={"user": user}).json()
            claims = jwt.decode(signed_in["token"], options={"verify_signature": False})
            assert 0 < claims["exp"] - time.time() <= signed_in["expires_in"] == demo_support.TOKEN_LIFE
            header = {"Authorization": f"Bearer {signed_in['token']}"}
            changed = client.put("/preferences/plugins", json={"me": user}, headers=header)
            assert changed.status_code == 200
            seen[user] = client.get("/preferences/plugins", headers=header).json()
        assert seen == {user: {"me": user} for user in users}
