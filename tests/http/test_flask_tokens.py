"""Tokens of an issuer's through the Flask mount: what clients are told, and when their access ends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask

from prefsync import Parts, Settings, Subject
from prefsync.adapters.memory import MemoryRepository
from prefsync.testing.mount.callers import BOTH, KEY, mint
from prefsync_flask import PrefSync
from tests.http.conftest import MODELS
from tests.oauth.issuer import KEYS, Issuer

if TYPE_CHECKING:
    from collections.abc import Iterator

RESOURCE = "https://api.example.com/preferences"
METADATA_URL = "https://api.example.com/.well-known/oauth-protected-resource/preferences"


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """An issuer with a key for ES256."""
    with Issuer() as issuer:
        yield issuer


def mounted(**settings: Any) -> tuple[PrefSync, Any]:
    """Return a mount in memory, and a client of its app, which has a view of its own."""
    app = Flask(__name__)
    prefsync = PrefSync(
        app, MODELS, settings=Settings(**settings), parts=Parts(repository=MemoryRepository())
    )
    app.add_url_rule("/mine", view_func=lambda: {"has": prefsync.preferences() is not None})
    return prefsync, app.test_client()


def bearer(token: str) -> dict[str, str]:
    """Return the header of a token."""
    return {"Authorization": f"Bearer {token}"}


def test_every_challenge_says_where_to_get_a_token() -> None:
    """In the protocol's refusals and in those of the host's own views."""
    prefsync, client = mounted(jwt_key=KEY, jwt_issuer="https://issuer.example", resource_url=RESOURCE)
    for path in ("/preferences/", "/mine"):
        for headers in ({}, bearer("abc")):
            refused = client.get(path, headers=headers)
            assert refused.status_code == 401
            assert f'resource_metadata="{METADATA_URL}"' in refused.headers["WWW-Authenticate"]
            assert ("error=" in refused.headers["WWW-Authenticate"]) == bool(headers)
    resource = prefsync.gateway(client.application).runtime.resource
    assert resource is not None
    assert resource.metadata()["authorization_servers"] == ["https://issuer.example"]
    prefsync.gateway(client.application).close()


def test_an_issuers_keys(issuer: Issuer) -> None:
    """They are fetched on the process's event loop; an issuer that cannot be asked is ``503``, in views too."""
    settings = {
        "jwks_url": issuer.url + KEYS,
        "jwt_issuer": issuer.url,
        "jwt_audience": RESOURCE,
        "jwt_algorithms": ("ES256",),
    }
    good = bearer(issuer.mint().token(iss=issuer.url, aud=RESOURCE))
    prefsync, client = mounted(**settings)
    assert client.get("/preferences/", headers=good).status_code == 200
    assert client.get("/mine", headers=good).json == {"has": True}
    prefsync.gateway(client.application).close()
    issuer.stop()
    prefsync, client = mounted(**settings)
    for path in ("/preferences/", "/mine"):
        answer = client.get(path, headers=good)
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
    prefsync.gateway(client.application).close()


def test_revoking_a_users_tokens() -> None:
    """From a view or a script, in any thread: the next request with an older token is refused."""
    prefsync, client = mounted(jwt_key=KEY)
    now = int(time.time())
    tokens = {
        user: mint({"sub": user, "iat": now - 5, "exp": now + 600, "scope": BOTH})
        for user in ("alice", "bob")
    }
    for token in tokens.values():
        assert client.get("/preferences/", headers=bearer(token)).status_code == 200
    prefsync.gateway(client.application).revoke(subject=Subject("alice"))
    assert client.get("/preferences/", headers=bearer(tokens["alice"])).status_code == 401
    assert client.get("/preferences/", headers=bearer(tokens["bob"])).status_code == 200
    prefsync.gateway(client.application).close()
