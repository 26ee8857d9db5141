"""Tokens of an issuer's through a mount: what clients are told, and when their access ends."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from prefsync import ConfigurationError, Parts, Settings, Subject
from prefsync.adapters.jwt import JwtVerifier
from prefsync.adapters.memory import MemoryRepository
from prefsync.adapters.oauth import IssuersVerifier
from prefsync.testing import TokenMint, hmac_sha256
from prefsync.testing.mount import KEY
from prefsync.testing.mount.callers import BOTH, READ, WRITE, mint
from prefsync_fastapi import CurrentPreferences  # noqa: TC001  # FastAPI looks it up when it runs
from tests.http.hosts import app_with, memory_mount, running
from tests.oauth.issuer import KEYS, METADATA, Issuer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefsync.testing.mount import Caller
    from prefsync_fastapi import PrefSync

pytestmark = pytest.mark.anyio

RESOURCE = "https://api.example.com/v1/preferences"
METADATA_URL = "https://api.example.com/.well-known/oauth-protected-resource/v1/preferences"


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """An issuer with a key for ES256, and metadata."""
    with Issuer() as issuer:
        issuer.answers[METADATA] = {"issuer": issuer.url, "jwks_uri": issuer.url + KEYS}
        yield issuer


def mount_for(issuer: Issuer, **settings: Any) -> PrefSync:
    """Return a mount that finds its issuer's keys by itself."""
    found = Settings(
        jwt_issuer=issuer.url,
        jwt_discovery=True,
        jwt_algorithms=("ES256",),
        jwt_audience=RESOURCE,
        resource_url=RESOURCE,
        **settings,
    )
    return memory_mount(settings=found)


def bearer(issuer: Issuer, **claims: Any) -> dict[str, str]:
    """Return the header of a token of an issuer's."""
    good = {"iss": issuer.url, "aud": RESOURCE, "scope": BOTH}
    return {"Authorization": "Bearer " + issuer.mint().token(**{**good, **claims})}


def challenge(value: str) -> dict[str, str]:
    """Return the parameters of a challenge for bearer tokens (RFC 9110, section 11.6.1)."""
    scheme, _, rest = value.partition(" ")
    assert scheme == "Bearer"
    pairs = (parameter.split("=", 1) for parameter in rest.split(", "))
    found = {name: text.strip('"') for name, text in pairs}
    assert len(found) == rest.count('="'), "no parameter stands there twice"
    return found


async def test_an_issuer_that_is_found_by_itself(issuer: Issuer) -> None:
    """Two settings are enough: metadata and keys are fetched, and tokens are taken or refused by them."""
    async with running(app_with(mount_for(issuer))) as me:
        (await me.client.request("GET", headers=bearer(issuer))).ok()
        for claims in ({"iss": "https://other.example"}, {"aud": "other"}, {"exp": 1}):
            refused = await me.client.request("GET", headers=bearer(issuer, **claims))
            refused.problem(401, "unauthenticated")
    assert issuer.asked == {METADATA: 1, KEYS: 1}


async def test_an_issuer_that_cannot_be_asked(issuer: Issuer) -> None:
    """``503`` with ``Retry-After``: not the token's fault, which counts against no limit; and ``401`` for what is none."""
    issuer.stop()
    async with running(app_with(mount_for(issuer))) as me:
        for _ in range(3):
            answer = await me.client.request("GET", headers=bearer(issuer))
            assert "issuer" in answer.problem(503, "unavailable")["detail"]
            assert int(answer.headers["Retry-After"]) > 0
            assert "WWW-Authenticate" not in answer.headers
            assert "RateLimit" not in answer.headers
            assert str(issuer.port) not in answer.content.decode()
        bad = await me.client.request("GET", headers={"Authorization": "Bearer abc"})
        bad.problem(401, "unauthenticated")


# --- What a client is told ----------------------------------------------------------------------------------


async def test_where_to_get_a_token(issuer: Issuer) -> None:
    """The metadata stands at the root of the host, whatever the prefix, open to all, as RFC 9728 has it."""
    mount = mount_for(issuer)
    app = app_with(mount)
    app.include_router(mount.metadata_router)
    async with running(app, prefix="") as me:
        answer = await me.client.request("GET", METADATA_URL.removeprefix("https://api.example.com"))
        assert answer.ok() == {
            "resource": RESOURCE,
            "authorization_servers": [issuer.url],
            "scopes_supported": [READ, WRITE],
            "bearer_methods_supported": ["header"],
        }
        assert "max-age" in answer.headers["Cache-Control"]


async def test_every_challenge_says_where(issuer: Issuer) -> None:
    """``resource_metadata`` (RFC 9728, section 5.1) stands in the protocol's refusals and in those of the host's routes."""
    mount = mount_for(issuer)
    app = app_with(mount)

    @app.get("/mine")
    async def mine(prefs: CurrentPreferences) -> None:
        del prefs

    async with running(app, prefix="") as me:
        for path in ("/preferences", "/mine"):
            none = challenge((await me.client.request("GET", path)).headers["WWW-Authenticate"])
            assert none == {"realm": "preferences", "resource_metadata": METADATA_URL}
            bad = await me.client.request("GET", path, headers={"Authorization": "Bearer abc"})
            told = challenge(bad.headers["WWW-Authenticate"])
            assert told.pop("error_description")
            assert told == {
                "realm": "preferences",
                "error": "invalid_token",
                "resource_metadata": METADATA_URL,
            }
        lacking = await me.client.request(
            "GET", "/preferences", headers=bearer(issuer, scope="preferences:write")
        )
        lacking.problem(403, "insufficient-scope")
        assert challenge(lacking.headers["WWW-Authenticate"]) == {
            "realm": "preferences",
            "error": "insufficient_scope",
            "error_description": "this needs the scope preferences:read",
            "scope": READ,
            "resource_metadata": METADATA_URL,
        }


async def test_without_a_name_nothing_is_told() -> None:
    """Where the host has not said what the mount is called, challenges are as before, and there is no metadata."""
    mount = memory_mount()
    async with running(app_with(mount)) as me:
        refused = await me.client.request("GET", headers={"Authorization": "Bearer abc"})
        assert "resource_metadata" not in refused.headers["WWW-Authenticate"]
    with pytest.raises(ConfigurationError, match="set PREFSYNC_RESOURCE_URL"):
        assert mount.metadata_router


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://api.example.com", "/.well-known/oauth-protected-resource"),
        ("https://api.example.com/", "/.well-known/oauth-protected-resource"),
        ("https://api.example.com/a", "/.well-known/oauth-protected-resource/a"),
        ("https://api.example.com/a/", "/.well-known/oauth-protected-resource/a/"),
        ("https://api.example.com:8443/a/b", "/.well-known/oauth-protected-resource/a/b"),
    ],
)
def test_where_metadata_stands(url: str, path: str) -> None:
    """Its name is put between host and path (RFC 9728, section 3.1)."""
    resource = memory_mount(settings=Settings(jwt_key=KEY, resource_url=url)).runtime.resource
    assert resource is not None
    assert resource.metadata_path == path
    assert "authorization_servers" not in resource.metadata()


# --- When access ends ---------------------------------------------------------------------------------------


def test_revoking_ends_a_users_streams() -> None:
    """All streams of the user end as if their tokens had run out, and no older token opens one; others' go on."""
    mount = memory_mount()
    now = int(time.time())
    tokens = {
        user: mint({"sub": user, "exp": now + 600, "iat": now - 5, "scope": BOTH})
        for user in ("alice", "bob")
    }
    with TestClient(app_with(mount)) as client:
        assert client.portal is not None

        def connect(user: str) -> Any:
            headers = {"Authorization": f"Bearer {tokens[user]}"}
            return client.websocket_connect("/preferences/ws", ["prefsync.v1"], headers=headers)

        with connect("alice") as first, connect("alice") as second, connect("bob") as other:
            for socket in (first, second, other):
                socket.send_json({"type": "hello"})
                assert socket.receive_json()["type"] == "reset"
            client.portal.call(lambda: mount.runtime.revoke(subject=Subject("alice")))
            for socket in (first, second):
                with pytest.raises(WebSocketDisconnect) as closed:
                    socket.receive_json()
                assert closed.value.code == 4401
            other.send_json({"type": "ping"})
            assert other.receive_json()["type"] == "pong"
        refused = client.get("/preferences", headers={"Authorization": f"Bearer {tokens['alice']}"})
        assert refused.status_code == 401
        later = mint({"sub": "alice", "exp": now + 600, "iat": time.time() + 1, "scope": BOTH})
        assert client.get("/preferences", headers={"Authorization": f"Bearer {later}"}).status_code == 200


async def test_revoking_one_token() -> None:
    """By itself or by its id: the next request with it is refused, and the user's others are not."""
    mount = memory_mount()
    async with running(app_with(mount)) as me:
        first, second, third = (me.holding(jti=str(number)) for number in range(3))
        for caller in (first, second, third):
            (await caller.get()).ok()
        mount.runtime.revoke(token=first.token)
        mount.runtime.revoke(token_id="1")
        for caller in (first, second):
            refused = await caller.get()
            assert refused.problem(401, "unauthenticated")["detail"] == "the token was revoked"
        (await third.get()).ok()


@pytest.mark.parametrize("by", ["token", "token_id"])
def test_revoking_one_token_ends_the_streams_that_it_has_opened(by: str) -> None:
    """By itself or through a ticket; not those of the user's other token, nor one that took that since."""
    mount = memory_mount(socketio=True)
    ends = int(time.time()) + 600
    one, other = (mint({"sub": "alice", "exp": ends, "scope": BOTH, "jti": jti}) for jti in ("one", "other"))
    with TestClient(app_with(mount)) as client, ExitStack() as stack:
        portal = client.portal
        assert portal is not None

        def connect(query: str = "", **hello: str) -> Any:
            socket = client.websocket_connect(f"/preferences/ws{query}", ["prefsync.v1"])
            stack.enter_context(socket)
            socket.send_json({"type": "hello", **hello})
            assert socket.receive_json()["type"] == "reset"
            return socket

        ticket = client.post("/preferences/ticket", headers={"Authorization": f"Bearer {one}"}).json()[
            "ticket"
        ]
        ending = [connect(token=one), connect(f"?ticket={ticket}"), connect(token=one)]
        staying = [connect(token=other), connect(token=one)]
        staying[1].send_json({"type": "token", "token": other})
        assert staying[1].receive_json() == {"type": "ok"}
        engine = client.websocket_connect("/preferences/socket.io/?EIO=4&transport=websocket")
        stack.enter_context(engine)
        engine.send_text(f'40/preferences,{{"token":"{one}"}}')
        assert [engine.receive_text()[:2] for _ in range(3)] == ["0{", "40", "42"]
        revoke = {"token": one} if by == "token" else {"token_id": "one"}
        portal.call(lambda: mount.runtime.revoke(**revoke))
        for socket in ending:
            with pytest.raises(WebSocketDisconnect) as closed:
                socket.receive_json()
            assert closed.value.code == 4401
        assert engine.receive_text() == '42/preferences,["bye",{"reason":"token-expired"}]'
        for socket in staying:
            socket.send_json({"type": "ping"})
            assert socket.receive_json()["type"] == "pong"


async def test_verifiers_that_cannot_be_told() -> None:
    """A verifier of the host's own that knows no revocation says so, instead of doing nothing."""

    class Own:
        async def verify(self, token: str) -> Any:
            raise NotImplementedError(token)

    mount = memory_mount(parts=Parts(repository=MemoryRepository(), verifier=Own()))
    with pytest.raises(ConfigurationError, match="has no revoke"):
        mount.runtime.revoke(token="x")


# --- Several issuers ----------------------------------------------------------------------------------------


async def test_one_user_of_two_issuers() -> None:
    """What one writes the other does not read, and neither sees the other's changes."""
    secrets = {"first": KEY, "partners": "the-secret-of-the-partners-issuer-for-tests"}
    verifier = IssuersVerifier(
        {
            name if name != "first" else "": JwtVerifier(secret, issuer=f"https://{name}.example")
            for name, secret in secrets.items()
        }
    )
    mount = memory_mount(parts=Parts(repository=MemoryRepository(), verifier=verifier))
    async with running(app_with(mount)) as me:
        callers = {name: _CallerOf(me, name, secret) for name, secret in secrets.items()}
        for name, caller in callers.items():
            (await caller.send("PUT", "/plugins", b'{"of":"%s"}' % name.encode())).ok()
        for name, caller in callers.items():
            assert (await caller.send("GET", "/plugins")).ok() == {"of": name}
            changes = (await caller.send("GET", "/changes", query="since=0")).ok()
            assert "first" not in str(changes) or name == "first"
            assert "partners" not in str(changes) or name == "partners"


class _CallerOf:
    """The user ``alice`` of an issuer."""

    def __init__(self, me: Caller, name: str, secret: str) -> None:
        self._client = me.client
        text = TokenMint("HS256", hmac_sha256(secret)).token(sub="alice", iss=f"https://{name}.example")
        self._headers = {"Authorization": f"Bearer {text}", "Content-Type": "application/json"}

    async def send(self, method: str, path: str, body: bytes | None = None, query: str = "") -> Any:
        """Send a request."""
        return await self._client.request(method, path, headers=self._headers, body=body, query=query)


def test_the_metadata_is_no_part_of_the_hosts_schema() -> None:
    """It is for clients of OAuth, and not an operation of the app."""
    mount = memory_mount(settings=Settings(jwt_key=KEY, resource_url=RESOURCE))
    app = FastAPI()
    app.include_router(mount.metadata_router)
    assert app.openapi()["paths"] == {}
