"""The examples without a page: two frameworks in one fleet, two tenants at one issuer."""

from __future__ import annotations

import re
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from prefsync.client import Change, PreferencesClient, Reset
from tests.http.conftest import EXAMPLES, NO_TLS
from tests.servers import ServerProcess, free_port

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.once

LIMIT = 60.0
"""Seconds that bound a hang."""


def await_port(port: int) -> None:
    """Return as soon as somebody listens."""
    deadline = time.monotonic() + LIMIT
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), LIMIT).close()
        except OSError:
            assert time.monotonic() < deadline, f"nobody listens on {port}"
            time.sleep(0.05)
        else:
            return


def test_a_mixed_fleet_is_in_step(postgres_url: str, redis_url: str, redis_prefix: str) -> None:
    """What is written through Flask shows in a session on FastAPI, and the other way round; both end when asked to."""
    settings = {
        "PREFSYNC_DATABASE_URL": postgres_url,
        "PREFSYNC_REDIS_URL": redis_url,
        "PREFSYNC_REDIS_PREFIX": redis_prefix,
    }
    flask_port = free_port()
    flask = f"http://127.0.0.1:{flask_port}"
    command = [sys.executable, str(EXAMPLES / "mixed_fleet.py"), "--fastapi-port", "{port}"]
    with ServerProcess([*command, "--flask-port", str(flask_port)], settings) as fleet:
        token = re.findall(r"^TOKEN=(\S+)$", fleet.output, re.MULTILINE)[0]
        urls = [fleet.url, flask]
        await_port(flask_port)
        for written, watched, theme in [(*urls, "dark"), (*reversed(urls), "light")]:
            with (
                PreferencesClient(f"{written}/preferences", token) as writer,
                PreferencesClient(f"{watched}/preferences", token) as reader,
                reader.watch(time_limit=LIMIT) as events,
            ):
                assert isinstance(next(events), Reset)
                writer.patch("appearance", {"theme": theme})
                change = next(events)
                assert isinstance(change, Change)
                assert change.changed == {"appearance": {"theme": theme}}
        assert fleet.terminate() == 0


def bearer(token: str) -> dict[str, str]:
    """Return the header that a token travels in."""
    return {"Authorization": f"Bearer {token}"}


def test_tenants_never_mix(load: Callable[..., Any], tmp_path: Any) -> None:
    """Two users of one name in two tenants are two people; who names no tenant, or another audience, is nobody."""
    example = load("tenants_app")
    database = {"PREFSYNC_DATABASE_URL": f"sqlite:///{(tmp_path / 'tenants.sqlite3').as_posix()}"}
    with (
        example.Issuer(example.AUDIENCE) as issuer,
        TestClient(example.make_app(issuer.url, **database)) as client,
    ):
        acme, globex = (bearer(issuer.token("alice", tenant)) for tenant in example.TENANTS)
        path = "/preferences/appearance"
        assert client.patch(path, json={"theme": "dark"}, headers=acme).status_code == 200
        assert client.get(path, headers=acme).json()["theme"] == "dark"
        assert client.get(path, headers=globex).json()["theme"] == "system"
        assert client.get("/greeting", headers=acme).json() == "Welcome to the dark side."
        assert client.get("/greeting", headers=globex).json() == "Welcome to the system side."

        reader = bearer(issuer.token("alice", "acme", scope="preferences:read"))
        assert client.patch(path, json={"theme": "light"}, headers=reader).status_code == 403
        assert client.get(path, headers=bearer(issuer.token("alice", ""))).status_code == 401
        with example.Issuer("https://somebody.else") as other:
            assert client.get(path, headers=bearer(other.token("alice", "acme"))).status_code == 401


def test_tenants_sign_in_at_the_issuer() -> None:
    """The one command starts issuer and app, and what it prints is good for both."""
    issuer = f"http://127.0.0.1:{(issuer_port := free_port())}"
    command = [sys.executable, str(EXAMPLES / "tenants_app.py"), "--port", "{port}"]
    settings = {"PREFSYNC_DATABASE_URL": "sqlite:///:memory:"}
    with (
        ServerProcess([*command, "--issuer-port", str(issuer_port)], settings) as app,
        httpx2.Client(verify=NO_TLS, trust_env=False) as client,
    ):
        assert app.output.count(f"{issuer}/token") == 2
        assert app.output.count(f"{app.url}/preferences/appearance") == 4
        form = {"username": "alice", "tenant": "acme"}
        token = client.post(f"{issuer}/token", data=form).json()["access_token"]
        shown = client.get(f"{app.url}/preferences/appearance", headers=bearer(token))
        assert shown.json()["theme"] == "system"
        form["tenant"] = "unheard-of"
        assert client.post(f"{issuer}/token", data=form).status_code == 400
