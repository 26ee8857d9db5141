"""The contract of :class:`prefsync.ports.TokenVerifier`, for those that take JSON Web Tokens."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from prefsync.document import Subject
from prefsync.errors import UnauthenticatedError
from prefsync.testing.hostile_tokens import HOSTILE_TOKENS
from prefsync.testing.samples import PATIENCE
from prefsync.testing.tokens import AUDIENCE, ISSUER, TENANT_CLAIM

if TYPE_CHECKING:
    from prefsync.ports import TokenVerifier
    from prefsync.testing.tokens import TokenMint

__all__ = ["TokenVerifierContract"]


@pytest.mark.anyio
class TokenVerifierContract:
    """What every verifier of JSON Web Tokens promises. Subclass it, name the class ``Test...`` and give the fixtures.

    Fixtures of the subclass:
        verifier: The adapter, open; made for ``issuer``, ``audience`` and ``tenant_claim``, a leeway of at most 60
            seconds, and the key that ``mint`` signs with.
        mint: A :class:`prefsync.testing.TokenMint`.

    Attributes:
        issuer: Whom the verifier trusts.
        audience: Whom the tokens are for.
        tenant_claim: Where the tenant is.
    """

    issuer = ISSUER
    audience = AUDIENCE
    tenant_claim = TENANT_CLAIM

    async def test_a_good_token_speaks_for_its_user(self, verifier: TokenVerifier, mint: TokenMint) -> None:
        """User, tenant, scopes and expiry are the token's, the same each time that it is shown."""
        expires = int(mint.now()) + 300
        token = mint.token(exp=expires)
        for _ in range(3):
            identity = await verifier.verify(token)
            assert identity.subject == Subject("user-1", "acme")
            assert identity.scopes == frozenset({"preferences:read", "preferences:write"})
            assert identity.expires_at is not None
            assert expires <= identity.expires_at <= expires + 60

    @pytest.mark.parametrize(
        ("claims", "scopes"),
        [
            ({"scope": "a b"}, {"a", "b"}),
            ({"scope": ["a", "b c"]}, {"a", "b c"}),
            ({"scope": ..., "scp": "a b"}, {"a", "b"}),
            ({"scope": ..., "scp": ["a", "b"]}, {"a", "b"}),
            ({"scope": ...}, set()),
            ({"scope": ""}, set()),
            ({"scope": " a  b "}, {"a", "b"}),
            ({"scope": None}, set()),
            ({"scope": 7}, set()),
            ({"scope": {"preferences:read": True}}, set()),
            ({"scope": ["a", 7, None, ["b"]]}, {"a"}),
        ],
    )
    async def test_scopes_are_read_from_scope_or_scp(
        self, verifier: TokenVerifier, mint: TokenMint, claims: dict[str, Any], scopes: set[str]
    ) -> None:
        """A string of scopes or a list of them is read; anything else grants nothing."""
        assert (await verifier.verify(mint.token(**claims))).scopes == frozenset(scopes)

    @pytest.mark.parametrize(
        "user",
        [
            "x" * 255,
            "\U0001f600" * 255,
            "auth0|0123",
            "a b",
            "caf\u00e9",
            "cafe\u0301",
            ":",
            "../x",
            " ",
            "\u202e",
        ],
    )
    async def test_users_are_kept_byte_for_byte(
        self, verifier: TokenVerifier, mint: TokenMint, user: str
    ) -> None:
        """No user id is trimmed, cut or normalised."""
        payload = json.dumps(mint.claims(sub=user), ensure_ascii=False)
        assert (await verifier.verify(mint.raw(payload.encode()))).subject == Subject(user, "acme")
        payload = json.dumps(mint.claims(**{self.tenant_claim: user}), ensure_ascii=False)
        assert (await verifier.verify(mint.raw(payload.encode()))).subject == Subject("user-1", user)

    @pytest.mark.parametrize(
        "claims",
        [
            {"aud": [AUDIENCE]},
            {"aud": ["https://other.example", AUDIENCE]},
            {"nbf": 0},
            {"iat": ...},
            {"unknown": {"deep": [1, 2, 3]}},
            {"jti": "1"},
        ],
        ids=str,
    )
    async def test_what_the_standard_allows_is_taken(
        self, verifier: TokenVerifier, mint: TokenMint, claims: dict[str, Any]
    ) -> None:
        """An audience in a list, optional claims and unknown ones do no harm."""
        assert (await verifier.verify(mint.token(**claims))).subject.user == "user-1"

    async def test_times_may_be_fractions(self, verifier: TokenVerifier, mint: TokenMint) -> None:
        """A NumericDate may have a fraction (RFC 7519, section 2)."""
        expires = mint.now() + 100.5
        identity = await verifier.verify(mint.token(exp=expires, nbf=mint.now() - 0.5))
        assert identity.expires_at is not None
        assert identity.expires_at >= expires

    async def test_hostile_tokens_are_refused(self, verifier: TokenVerifier, mint: TokenMint) -> None:
        """Whatever is wrong with a token, it is refused as unauthenticated, soon, each time, and is not repeated."""
        faults = []
        for case in HOSTILE_TOKENS.values():
            token = case.make(mint)
            for _ in range(2):
                with anyio.fail_after(PATIENCE):
                    fault = await _fault(verifier, token)
                if fault is not None:
                    faults.append(f"{case.name} {fault}; it is for: {case.purpose}")
        assert not faults, "\n".join(faults)

    async def test_a_refusal_spoils_no_good_token(self, verifier: TokenVerifier, mint: TokenMint) -> None:
        """After any number of hostile tokens, a good one is taken and a bad copy of it is not."""
        good = mint.token()
        assert (await verifier.verify(good)).subject.user == "user-1"
        for case in HOSTILE_TOKENS.values():
            with suppress(Exception):  # as other tests say
                await verifier.verify(case.make(mint))
        assert (await verifier.verify(good)).subject.user == "user-1"
        with pytest.raises(UnauthenticatedError):
            await verifier.verify(good[:-2])


async def _fault(verifier: TokenVerifier, token: str) -> str | None:
    """Return what a verifier does wrong about a hostile token, if anything."""
    try:
        await verifier.verify(token)
    except UnauthenticatedError as error:
        if error.reason != "invalid_token":
            return f"is refused as {error.reason}"
        return "is repeated" if token and token in str(error) else None
    except Exception as error:  # noqa: BLE001  # which is what the test is about
        return f"makes it raise {error!r}"
    return "is taken"
