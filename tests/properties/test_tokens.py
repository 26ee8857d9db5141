"""Whatever is sent as a token: it is refused as unauthenticated or names somebody, and nothing else ever happens."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefsync.adapters.jwt import JwtVerifier
from prefsync.adapters.jwt.jwks import read_key_set
from prefsync.adapters.oauth import IssuersVerifier
from prefsync.adapters.oauth.claims import ClaimRules
from prefsync.adapters.oauth.http import IssuerError
from prefsync.document import Identity
from prefsync.errors import UnauthenticatedError
from prefsync.testing import FakeClock, TokenMint, hmac_sha256
from prefsync.testing.tokens import AUDIENCE, ISSUER

SECRET = "a-secret-of-more-than-32-bytes-for-tests"
CLOCK = FakeClock()
MINT = TokenMint("HS256", hmac_sha256(SECRET), now=lambda: CLOCK.now() / 1000)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.sampled_from(
        [ISSUER, AUDIENCE, "at+jwt", "HS256", "RS256", "none", int(MINT.now()), 10**400, "P-256", "sig"]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
claims = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("iss", "aud", "sub", "exp", "nbf", "iat", "jti", "scope", "scp", "org", "token_use", "client_id"),
        json_values,
    ),
)
headers = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("alg", "typ", "kid", "crit", "zip", "b64", "jwk", "jku", "x5c", "x5u", "cty", "enc"), json_values
    ),
)
parts = st.binary(max_size=40).map(lambda data: urlsafe_b64encode(data).rstrip(b"=").decode())


def run(verifier: JwtVerifier | IssuersVerifier, token: str) -> Identity | None:
    """Return what a verifier makes of a token; ``None`` where it is refused. Nothing has to be waited for."""
    refusal = None
    try:
        verifier.verify(token).send(None)
    except StopIteration as done:
        assert isinstance(done.value, Identity)  # noqa: PT017  # a coroutine returns by raising
        return done.value
    except UnauthenticatedError as error:
        refusal = error
    assert refusal is not None, "it waits for something"
    assert refusal.reason == "invalid_token"
    assert len(token) < 12 or token not in str(refusal)  # shorter ones may be words of ours by chance
    return None


def verifiers() -> list[JwtVerifier | IssuersVerifier]:
    """Return a verifier of each kind, which has seen nothing yet."""
    strict = JwtVerifier(
        SECRET, issuer=ISSUER, audience=AUDIENCE, tenant_claim="org", profile="at+jwt", clock=CLOCK
    )
    lax = JwtVerifier(SECRET, clock=CLOCK)
    return [strict, lax, IssuersVerifier({"": JwtVerifier(SECRET, issuer=ISSUER, clock=CLOCK)})]


@settings(max_examples=1_500)
@given(
    st.text(max_size=200)
    | st.binary(max_size=200).map(lambda data: data.decode("latin-1"))
    | st.lists(parts, min_size=1, max_size=6).map(".".join)
    | st.from_regex(r"[A-Za-z0-9_=.+/-]{0,80}", fullmatch=True)
)
def test_any_text(text: str) -> None:
    """No text that the issuer has not signed gets in, and none is an error of the server's."""
    for verifier in verifiers():
        assert run(verifier, text) is None


@pytest.mark.once
@settings(max_examples=300)
@given(st.binary(max_size=300) | json_values.map(lambda value: json.dumps(value).encode()), headers)
def test_any_signed_payload(payload: bytes, header: dict[str, Any]) -> None:
    """Nor is what the issuer has signed, whatever is in it and in its header."""
    for verifier in verifiers():
        for token in (MINT.raw(payload), MINT.raw(payload, header=header)):
            run(verifier, token)


@pytest.mark.once
@settings(max_examples=300)
@given(claims)
def test_any_claims(members: dict[str, Any]) -> None:
    """Who gets in has a user's id that can be stored, and an end that has not come yet."""
    for verifier in verifiers():
        for token in (
            MINT.raw(json.dumps(members).encode()),
            MINT.token(header={"typ": "at+jwt"}, **{"jti": "1", "client_id": "app", **members}),
        ):
            identity = run(verifier, token)
            if identity is not None:
                assert 0 < len(identity.subject.user) <= 255
                assert identity.expires_at is not None
                assert identity.expires_at > CLOCK.now() / 1000
                identity.subject.user.encode()


@pytest.mark.once
@settings(max_examples=300)
@given(claims)
def test_any_claims_of_an_introspected_token(members: dict[str, Any]) -> None:
    """The rules take any JSON object: they refuse it as unauthenticated, or name somebody."""
    for rules in (ClaimRules(), ClaimRules(issuer=ISSUER, audience=AUDIENCE, tenant_claim="org")):
        with suppress(UnauthenticatedError):
            assert rules.read(members, MINT.now()).identity.subject.user


@pytest.mark.once
@settings(max_examples=300)
@given(
    st.fixed_dictionaries(
        {
            "keys": json_values
            | st.lists(
                st.fixed_dictionaries(
                    {},
                    optional=dict.fromkeys(
                        ("kty", "kid", "use", "alg", "crv", "n", "e", "x", "y", "d", "k", "key_ops"),
                        json_values
                        | st.sampled_from(["RSA", "EC", "OKP", "oct", "AQAB", "P-256", "Ed25519"]),
                    ),
                ),
                max_size=4,
            )
        }
    )
)
def test_any_key_set(document: dict[str, Any]) -> None:
    """Keys are left out or taken; a document that is none is the issuer's error, and nothing is ours."""
    with suppress(IssuerError):
        assert len(read_key_set(document)) <= len(document["keys"])
