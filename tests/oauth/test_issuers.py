"""Several issuers: what is the same user to one of them is nobody to the others."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from prefsync.adapters.jwt import JwtVerifier
from prefsync.adapters.oauth import IssuersVerifier
from prefsync.document import Subject
from prefsync.errors import ConfigurationError, UnauthenticatedError
from prefsync.testing import FakeClock, TokenMint, TokenVerifierContract, hmac_sha256
from prefsync.testing.tokens import AUDIENCE, ISSUER, TENANT_CLAIM, segment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

SECRETS = {
    name: f"the-secret-of-the-issuer-called-{name or 'first'}" for name in ("", "partners", "a", "a-b")
}


def url(name: str) -> str:
    """Return an issuer's identifier."""
    return f"https://{name or 'first'}.example"


def settled(name: str, **options: Any) -> JwtVerifier:
    """Return what trusts one issuer."""
    return JwtVerifier(SECRETS[name], issuer=url(name), **{"tenant_claim": "org", **options})


def token(name: str, **claims: Any) -> str:
    """Return a token of an issuer's."""
    return TokenMint("HS256", hmac_sha256(SECRETS[name])).token(**{"iss": url(name), **claims})


class TestTwoIssuers(TokenVerifierContract):
    """The contract of verifiers, with another issuer beside ours."""

    @pytest.fixture
    def mint(self) -> TokenMint:
        """The issuer."""
        return TokenMint("HS256", hmac_sha256(SECRETS["a"]))

    @pytest.fixture
    async def verifier(self) -> AsyncIterator[IssuersVerifier]:
        """What trusts it and another one."""
        ours = JwtVerifier(SECRETS["a"], issuer=ISSUER, audience=AUDIENCE, tenant_claim=TENANT_CLAIM)
        async with IssuersVerifier({"": ours, "partners": settled("partners")}) as verifier:
            yield verifier


async def test_one_user_of_two_issuers_is_two() -> None:
    """Whatever users and tenants they choose, no two issuers name one subject."""
    verifier = IssuersVerifier({name: settled(name) for name in SECRETS})
    without = IssuersVerifier({name: settled(name, tenant_claim=None) for name in SECRETS})
    tenants = ["acme", "partners", "a", "a-b", "a:b", "partners:acme", ":", "a:", ":a", "b", "-b:x"]
    subjects = []
    for name, tenant in itertools.product(SECRETS, tenants):
        try:
            subjects.append((await verifier.verify(token(name, org=tenant))).subject)
        except UnauthenticatedError:
            assert not name, "only the issuer without a name may be refused tenants"
            assert tenant.partition(":")[0] in SECRETS
    subjects += [(await without.verify(token(name))).subject for name in SECRETS]
    assert len(set(subjects)) == len(subjects)
    assert len({subject.key for subject in subjects}) == len(subjects)


@pytest.mark.parametrize(
    ("name", "claims", "subject"),
    [
        ("", {"org": "acme"}, Subject("user-1", "acme")),
        ("", {"org": "acme:eu"}, Subject("user-1", "acme:eu")),
        ("partners", {"org": "acme"}, Subject("user-1", "partners:acme")),
        ("partners", {"org": ":"}, Subject("user-1", "partners::")),
    ],
)
async def test_what_users_are_called(name: str, claims: Mapping[str, Any], subject: Subject) -> None:
    """The issuer's name is part of the tenant; that of the issuer a host had first is not."""
    verifier = IssuersVerifier({each: settled(each) for each in SECRETS})
    for _ in range(2):
        identity = await verifier.verify(token(name, **claims))
        assert identity.subject == subject
    assert identity.may("preferences:read")


async def test_what_users_are_called_without_tenants() -> None:
    """Then the name is the tenant."""
    verifier = IssuersVerifier({name: settled(name, tenant_claim=None) for name in SECRETS})
    assert (await verifier.verify(token("partners"))).subject == Subject("user-1", "partners")
    assert (await verifier.verify(token(""))).subject == Subject("user-1")


@pytest.mark.parametrize("claimed", SECRETS)
@pytest.mark.parametrize("signed", SECRETS)
async def test_no_issuer_speaks_for_another(claimed: str, signed: str) -> None:
    """A token is verified by the keys of the issuer that it names, and by no others."""
    verifier = IssuersVerifier({name: settled(name) for name in SECRETS})
    forged = token(signed, iss=url(claimed))
    if claimed == signed:
        await verifier.verify(forged)
    else:
        with pytest.raises(UnauthenticatedError):
            await verifier.verify(forged)


@pytest.mark.parametrize("issuer", [..., None, 1, [url("a")], "https://other.example", ""])
async def test_issuers_that_nobody_trusts(issuer: Any) -> None:
    """Are refused before anything is verified."""
    verifier = IssuersVerifier({"a": settled("a")})
    with pytest.raises(UnauthenticatedError):
        await verifier.verify(token("a", iss=issuer))


async def test_a_tenant_that_is_too_long_with_the_name() -> None:
    """Is no subject, and no failure."""
    verifier = IssuersVerifier({"partners": settled("partners")})
    await verifier.verify(token("partners", org="x" * (255 - len("partners:"))))
    with pytest.raises(UnauthenticatedError):
        await verifier.verify(token("partners", org="x" * 255))


async def test_an_expired_token_is_not_recalled() -> None:
    """Each verifier's own verdict holds, remembered or not."""
    clock = FakeClock()
    mint = TokenMint("HS256", hmac_sha256(SECRETS["a"]), now=lambda: clock.now() / 1000)
    verifier = IssuersVerifier({"a": settled("a", clock=clock, leeway=0)})
    text = mint.token(iss=url("a"), exp=int(mint.now()) + 10)
    await verifier.verify(text)
    clock.advance(11)
    with pytest.raises(UnauthenticatedError):
        await verifier.verify(text)


async def test_revocation_by_the_name_here() -> None:
    """A subject is revoked as it is called here, with its issuer and nobody else's user of that name."""
    verifier = IssuersVerifier({name: settled(name) for name in SECRETS})
    tokens = {(name, org): token(name, org=org, jti="1") for name in SECRETS for org in ("acme", "other")}
    for text in tokens.values():
        await verifier.verify(text)
    verifier.revoke(subject=Subject("user-1", "partners:acme"))
    verifier.revoke(subject=Subject("user-1", "other"))
    gone = {("partners", "acme"), ("", "other")}
    for which, text in tokens.items():
        if which in gone:
            with pytest.raises(UnauthenticatedError):
                await verifier.verify(text)
        else:
            await verifier.verify(text)
    verifier.revoke(token=tokens["a", "acme"])
    with pytest.raises(UnauthenticatedError):
        await verifier.verify(tokens["a", "acme"])
    await verifier.verify(tokens["a", "other"])


async def test_what_is_no_token() -> None:
    """Nothing that is not even a token gets any further."""
    verifier = IssuersVerifier({"a": settled("a")})
    for text in (
        "",
        ".",
        "..",
        "a.b.c",
        f"a.{segment(b'[]')}.c",
        "\ud800.a.b",
        "x" * 10_000,
        f"a.{segment(b'{')}.c",
    ):
        with pytest.raises(UnauthenticatedError):
            await verifier.verify(text)


@pytest.mark.parametrize("name", ["A", "a:b", "a b", "-a", "x" * 33, "\u00e9", "a\n"])
def test_names_that_cannot_be_used(name: str) -> None:
    """They are refused when they are given."""
    with pytest.raises(ConfigurationError, match="cannot be named"):
        IssuersVerifier({name: settled("a")})


def test_verifiers_that_could_mix_users() -> None:
    """Each must be settled to an issuer, and to its own."""
    for verifiers in (
        {},
        {"a": JwtVerifier(SECRETS["a"])},
        {"a": settled("a"), "b": JwtVerifier(SECRETS["partners"], issuer=url("a"))},
    ):
        with pytest.raises(ConfigurationError, match="issuer of its own"):
            IssuersVerifier(verifiers)
