"""The verifier of JSON Web Tokens keeps the contract, with a key of every kind."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from prefsync.adapters.jwt import JwtVerifier
from prefsync.errors import ConfigurationError, UnauthenticatedError
from prefsync.testing import FakeClock, TokenMint, TokenVerifierContract, hmac_sha256

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SECRET = "a-secret-of-more-than-32-bytes-for-tests"


@cache
def private_key(algorithm: str) -> Any:
    """Make a key once a run."""
    match algorithm[:2]:
        case "RS" | "PS":
            return rsa.generate_private_key(65537, 2048)
        case "ES":
            return ec.generate_private_key(ec.SECP256R1())
        case _:
            return ed25519.Ed25519PrivateKey.generate()


def public_pem(algorithm: str) -> str:
    """Return the public key as a host configures it."""
    public: Any = private_key(algorithm).public_key()
    pem: bytes = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


def mint_for(algorithm: str) -> TokenMint:
    """Return a mint that signs with an algorithm."""
    if algorithm == "HS256":
        return TokenMint("HS256", hmac_sha256(SECRET))
    signer: Any = jwt.algorithms.get_default_algorithms()[algorithm]
    key = private_key(algorithm)
    return TokenMint(algorithm, lambda message: signer.sign(message, key), public_pem(algorithm))


class ForAlgorithm(TokenVerifierContract):
    """One algorithm."""

    algorithm = "HS256"

    @pytest.fixture
    def mint(self) -> TokenMint:
        """The issuer."""
        return mint_for(self.algorithm)

    @pytest.fixture
    async def verifier(self) -> AsyncIterator[JwtVerifier]:
        """A verifier that knows the issuer's key."""
        key = SECRET if self.algorithm == "HS256" else public_pem(self.algorithm)
        async with JwtVerifier(
            key,
            algorithms=[self.algorithm],
            issuer=self.issuer,
            audience=self.audience,
            tenant_claim=self.tenant_claim,
        ) as verifier:
            yield verifier


class TestHs256(ForAlgorithm):
    """A shared secret."""


class TestRs256(ForAlgorithm):
    """An RSA key."""

    algorithm = "RS256"


class TestPs256(ForAlgorithm):
    """An RSA key, signed the newer way."""

    algorithm = "PS256"


class TestEs256(ForAlgorithm):
    """A key on the curve P-256."""

    algorithm = "ES256"


class TestEdDsa(ForAlgorithm):
    """A key on the curve Ed25519."""

    algorithm = "EdDSA"


@pytest.fixture
def clock() -> FakeClock:
    """A clock that the test moves."""
    return FakeClock()


@pytest.fixture
def mint(clock: FakeClock) -> TokenMint:
    """An issuer on that clock."""
    return TokenMint("HS256", hmac_sha256(SECRET), now=lambda: clock.now() / 1000)


@pytest.mark.parametrize("leeway", [0, 30, 60])
async def test_a_token_ends_with_its_leeway(clock: FakeClock, mint: TokenMint, leeway: int) -> None:
    """A token is good until its expiry plus the leeway and not a moment longer, though it is remembered."""
    verifier = JwtVerifier(SECRET, leeway=leeway, clock=clock)
    token = mint.token(aud=..., exp=int(mint.now()) + 10)
    unseen = mint.token(aud=..., exp=int(mint.now()) + 10, jti="2")
    identity = await verifier.verify(token)
    assert identity.expires_at == mint.now() + 10 + leeway
    clock.advance(10 + leeway - 0.001)
    assert await verifier.verify(token) == identity
    clock.advance(0.002)
    for one in (token, token, unseen):
        with pytest.raises(UnauthenticatedError):
            await verifier.verify(one)


@pytest.mark.parametrize("claim", ["nbf", "iat"])
async def test_a_token_begins_with_its_leeway(clock: FakeClock, mint: TokenMint, claim: str) -> None:
    """A token from a clock that is ahead is good within the leeway; before that it is refused, but not for ever."""
    verifier = JwtVerifier(SECRET, leeway=30, clock=clock)
    late: dict[str, Any] = {claim: int(mint.now()) + 40}
    token = mint.token(aud=..., **late)
    with pytest.raises(UnauthenticatedError):
        await verifier.verify(token)
    clock.advance(10)
    assert (await verifier.verify(token)).subject.user == "user-1"


async def test_what_is_not_asked_for_is_not_needed(mint: TokenMint, clock: FakeClock) -> None:
    """Without issuer, audience and tenant claim, a token needs none of them, and its tenant is nobody's."""
    verifier = JwtVerifier(SECRET, clock=clock)
    identity = await verifier.verify(mint.token(iss=..., aud=..., org=...))
    assert identity.subject.tenant is None
    assert (await verifier.verify(mint.token(aud="anybody", org="acme"))).subject.tenant is None


async def test_several_algorithms_of_one_kind_can_be_taken() -> None:
    """Where RS256 and PS256 are both configured, both are taken, and no other."""
    verifier = JwtVerifier(public_pem("RS256"), algorithms=["RS256", "PS256"])
    rsa_key = private_key("RS256")
    for name in ("RS256", "PS256", "RS512"):
        signer: Any = jwt.algorithms.get_default_algorithms()[name]
        mint = TokenMint(name, lambda message, signer=signer: signer.sign(message, rsa_key))  # type: ignore[misc]
        if name == "RS512":
            with pytest.raises(UnauthenticatedError):
                await verifier.verify(mint.token(aud=...))
        else:
            assert (await verifier.verify(mint.token(aud=...))).subject.user == "user-1"


@pytest.mark.parametrize(
    ("key", "algorithms", "says"),
    [
        ("short", ["HS256"], "bytes"),
        ("x" * 31, ["HS256"], "31 bytes"),
        (SECRET, ["HS512"], "64"),
        ("a" * 64, ["HS256"], "guess"),
        ("", ["HS256"], "bytes"),
        (SECRET, ["none"], "none"),
        (SECRET, ["None"], "None"),
        (SECRET, ["HS257"], "HS257"),
        (SECRET, [], "one kind"),
        (SECRET, ["HS256", "RS256"], "one kind"),
        (SECRET, ["RS256"], "PEM"),
        ("PEM", ["HS256"], "PEM"),
        ("PEM", ["ES256", "HS256"], "one kind"),
        ("-----BEGIN PUBLIC KEY-----\nnonsense\n-----END PUBLIC KEY-----", ["RS256"], "cannot be read"),
        ("PEM", ["ES256"], "cannot be read"),
        ("PRIVATE", ["RS256"], "private"),
    ],
)
def test_keys_that_cannot_work_are_refused_at_start(key: str, algorithms: list[str], says: str) -> None:
    """A key that does not fit its algorithms, or that anybody can guess, is an error that says what to change."""
    if key == "PEM":
        key = public_pem("RS256")
    elif key == "PRIVATE":
        key = private_key("RS256").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with pytest.raises(ConfigurationError, match=says):
        JwtVerifier(key, algorithms=algorithms)


@pytest.mark.parametrize("leeway", [-1, 61, 10_000])
def test_a_leeway_is_at_most_a_minute(leeway: int) -> None:
    """Another leeway is refused at start."""
    with pytest.raises(ConfigurationError, match="leeway"):
        JwtVerifier(SECRET, leeway=leeway)
