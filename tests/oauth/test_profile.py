"""Access tokens by RFC 9068, where the host asks for that; and which kinds of token pass without."""

from __future__ import annotations

from typing import Any

import pytest

from prefsync.adapters.jwt import JwtVerifier
from prefsync.errors import ConfigurationError, UnauthenticatedError
from prefsync.testing import TokenMint, hmac_sha256
from prefsync.testing.tokens import AUDIENCE, ISSUER

SECRET = "a-secret-of-more-than-32-bytes-for-tests"
MINT = TokenMint("HS256", hmac_sha256(SECRET))


def profiled(header: dict[str, Any] | None = None, **claims: Any) -> str:
    """Return a token as the profile wants it, with some of it changed."""
    good = {"client_id": "app", "jti": "1"}
    return MINT.token(header={"typ": "at+jwt", **(header or {})}, **{**good, **claims})


@pytest.mark.parametrize("kind", ["at+jwt", "AT+JWT", "application/at+jwt", "Application/AT+jwt"])
async def test_access_tokens_that_say_so(kind: str) -> None:
    """The type is a media type, of any case, with or without its first part (RFC 9068, section 4)."""
    verifier = JwtVerifier(SECRET, issuer=ISSUER, audience=AUDIENCE, profile="at+jwt")
    assert (await verifier.verify(profiled({"typ": kind}))).subject.user == "user-1"
    await JwtVerifier(SECRET).verify(profiled({"typ": kind}))


@pytest.mark.parametrize(
    "kind", ["JWT", "jwt", "application/jwt", "at+jwt;x=1", "xat+jwt", "application/application/at+jwt"]
)
async def test_others_that_do_not(kind: str) -> None:
    """An ID token, a logout token or one of an older issuer is refused."""
    verifier = JwtVerifier(SECRET, issuer=ISSUER, audience=AUDIENCE, profile="at+jwt")
    with pytest.raises(UnauthenticatedError, match="typ"):
        await verifier.verify(profiled({"typ": kind}))


async def test_a_token_without_a_type() -> None:
    """Passes where no profile is asked for, and there alone."""
    header = b'{"alg":"HS256"}'
    import json

    text = MINT.raw(json.dumps(MINT.claims(client_id="app", jti="1")).encode(), header=header)
    await JwtVerifier(SECRET).verify(text)
    with pytest.raises(UnauthenticatedError, match="typ"):
        await JwtVerifier(SECRET, issuer=ISSUER, audience=AUDIENCE, profile="at+jwt").verify(text)


@pytest.mark.parametrize("claim", ["iss", "exp", "aud", "sub", "client_id", "iat", "jti"])
@pytest.mark.parametrize("value", [..., None, "", [], True], ids=repr)
async def test_claims_that_the_profile_requires(claim: str, value: Any) -> None:
    """RFC 9068, section 2.2."""
    verifier = JwtVerifier(SECRET, issuer=ISSUER, audience=AUDIENCE, profile="at+jwt")
    with pytest.raises(UnauthenticatedError):
        await verifier.verify(profiled(**{claim: value}))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"profile": "at+jwt"}, "needs PREFSYNC_JWT_ISSUER and PREFSYNC_JWT_AUDIENCE"),
        ({"profile": "at+jwt", "issuer": ISSUER}, "needs PREFSYNC_JWT_ISSUER and PREFSYNC_JWT_AUDIENCE"),
        ({"profile": "rfc9068", "issuer": ISSUER, "audience": AUDIENCE}, "write at\\+jwt"),
    ],
)
def test_profiles_that_cannot_be_kept(options: dict[str, Any], says: str) -> None:
    """They are refused at start."""
    with pytest.raises(ConfigurationError, match=says):
        JwtVerifier(SECRET, **options)
