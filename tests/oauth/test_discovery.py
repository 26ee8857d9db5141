"""Where an issuer has its keys, by its own metadata (RFC 8414, OpenID Connect Discovery 1.0)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from prefsync.adapters.oauth.discovery import discover_keys
from prefsync.adapters.oauth.http import IssuerError, IssuerHttp
from prefsync.clock import SystemClock
from prefsync.errors import UnavailableError
from prefsync.settings import Settings
from prefsync.verifiers import build_verifier
from tests.oauth.issuer import KEYS, METADATA
from tests.oauth.troubles import TROUBLES, impatient

if TYPE_CHECKING:
    from tests.oauth.issuer import Issuer

OAUTH = "/.well-known/oauth-authorization-server"


def metadata(issuer: Issuer, path: str = "", /, **changes: Any) -> dict[str, Any]:
    """Return an issuer's metadata with some of it changed; what is set to ``...`` is left out."""
    members = {"issuer": issuer.url + path, "jwks_uri": issuer.url + KEYS, **changes}
    return {name: value for name, value in members.items() if value is not ...}


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("", METADATA),
        ("", OAUTH),
        ("/", METADATA),
        ("/", OAUTH),
        ("/tenant", "/tenant" + METADATA),
        ("/tenant", OAUTH + "/tenant"),
        ("/tenant/", "/tenant" + METADATA),
        ("/tenant/", OAUTH + "/tenant/"),
        ("/realms/a/b", "/realms/a/b" + METADATA),
        ("/realms/a/b", OAUTH + "/realms/a/b"),
    ],
)
async def test_both_places_are_looked_at(issuer: Issuer, path: str, place: str) -> None:
    """OpenID appends its name to the issuer's path, RFC 8414 puts its own before it."""
    issuer.answers[place] = metadata(issuer, path)
    assert await discover_keys(IssuerHttp(), issuer.url + path) == issuer.url + KEYS


@pytest.mark.parametrize(
    "claimed",
    [
        ...,
        None,
        "",
        1,
        ["URL"],
        "https://other.example",
        "URL/",
        "URL ",
        "URL#",
        "urlURL",
        "UPPER",
        "localhost",
    ],
)
async def test_metadata_of_another_issuer(issuer: Issuer, claimed: Any) -> None:
    """The issuer must be identical, or somebody speaks for another (RFC 8414, section 3.3)."""
    texts = {
        "UPPER": issuer.url.upper(),
        "localhost": issuer.url.replace("127.0.0.1", "localhost"),
    }
    if isinstance(claimed, str):
        claimed = texts.get(claimed, claimed.replace("URL", issuer.url))
    elif isinstance(claimed, list):
        claimed = [issuer.url]
    issuer.answers[METADATA] = metadata(issuer, issuer=claimed)
    issuer.answers[OAUTH] = metadata(issuer)  # which must not be a second chance
    with pytest.raises(IssuerError) as caught:
        await discover_keys(IssuerHttp(), issuer.url)
    assert "another issuer" in caught.value.reason
    assert not issuer.asked[OAUTH]


@pytest.mark.parametrize(
    "url",
    [..., None, 1, "", "keys", "file:///keys", "http://issuer.example/keys", "https://", "https://a@b/"],
)
async def test_key_sets_that_cannot_be_trusted(issuer: Issuer, url: Any) -> None:
    """The metadata may lead to another host, and never out in the clear or into files."""
    issuer.answers[METADATA] = metadata(issuer, jwks_uri=url)
    with pytest.raises(IssuerError):
        await discover_keys(IssuerHttp(), issuer.url)


async def test_a_distant_issuer_cannot_have_this_machine_asked(issuer: Issuer) -> None:
    """``http://127.0.0.1`` is for issuers on this machine: a distant one must not reach what listens here."""

    class Distant(IssuerHttp):
        async def get(self, url: str) -> dict[str, Any]:
            del url
            return {"issuer": "https://issuer.example", "jwks_uri": issuer.url + KEYS}

    with pytest.raises(IssuerError) as caught:
        await discover_keys(Distant(), "https://issuer.example")
    assert "leads to this machine" in caught.value.reason


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_metadata_that_is_none(issuer: Issuer, trouble: str) -> None:
    """Whatever else is answered is the issuer's being away; only where there is nothing, the other place is asked."""
    issuer.answers[METADATA] = TROUBLES[trouble]
    issuer.answers[OAUTH] = metadata(issuer)
    with pytest.raises(UnavailableError):
        await discover_keys(impatient(trouble), issuer.url)
    assert not issuer.asked[OAUTH]


async def test_an_issuer_without_metadata(issuer: Issuer) -> None:
    """Both places are named in the log."""
    with pytest.raises(IssuerError) as caught:
        await discover_keys(IssuerHttp(), issuer.url)
    assert issuer.url + METADATA in caught.value.reason
    assert issuer.url + OAUTH in caught.value.reason


@pytest.mark.parametrize("audience", [None, "api"])
def test_a_host_is_warned_that_takes_tokens_for_others(
    caplog: pytest.LogCaptureFixture, audience: str | None
) -> None:
    """An issuer's keys sign tokens for all of its services: without an audience, all of them get in."""
    settings = Settings(
        jwt_issuer="https://issuer.example",
        jwks_url="https://issuer.example/keys",
        jwt_algorithms=("RS256",),
        jwt_audience=audience,
    )
    build_verifier(settings, SystemClock())
    assert ("PREFSYNC_JWT_AUDIENCE is not set" in caplog.text) == (audience is None)


async def test_discovery_by_settings(issuer: Issuer) -> None:
    """The issuer's name is all that a host sets; where the keys are may change with its metadata."""
    issuer.answers[METADATA] = metadata(issuer)
    settings = Settings.from_environment(
        {
            "PREFSYNC_JWT_ISSUER": issuer.url,
            "PREFSYNC_JWT_DISCOVERY": "true",
            "PREFSYNC_JWT_ALGORITHMS": "ES256",
            "PREFSYNC_JWT_AUDIENCE": "api",
        }
    )
    mint = issuer.mint()
    verifier = build_verifier(settings, SystemClock())
    async with verifier:
        identity = await verifier.verify(mint.token(iss=issuer.url, aud="api"))
    assert identity.subject.user == "user-1"
    assert issuer.asked == {METADATA: 1, KEYS: 1}


async def test_the_log_is_told_no_secret_of_the_address(issuer: Issuer) -> None:
    """What stands before the host, or in a query, may be a key."""
    with pytest.raises(IssuerError) as caught:
        await discover_keys(IssuerHttp(), "https://me:hunter2@issuer.example")
    assert "issuer.example" in caught.value.reason
    assert "hunter2" not in caught.value.reason
    with pytest.raises(IssuerError) as caught:
        await discover_keys(IssuerHttp(), f"{issuer.url}?code=hunter2")
    assert issuer.url in caught.value.reason
    assert "hunter2" not in caught.value.reason
