"""An issuer's key set: fetched beside the requests, once for all, kept through outages, renewed when it rotates."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from prefsync.adapters.jwt import JwksKeys, JwtVerifier
from prefsync.adapters.jwt.jwks import read_key_set
from prefsync.errors import ConfigurationError, UnauthenticatedError, UnavailableError
from prefsync.testing import FakeClock, TokenMint, TokenVerifierContract, hmac_sha256
from prefsync.testing.samples import PATIENCE
from prefsync.testing.tokens import AUDIENCE, ISSUER, TENANT_CLAIM
from tests.oauth.issuer import KEYS, Issuer, private_jwk, private_key, public_jwk
from tests.oauth.troubles import TROUBLES, impatient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prefsync.adapters.oauth import VerifiedToken

ALGORITHMS = ["ES256", "RS256", "EdDSA"]


@asynccontextmanager
async def verifying(issuer: Issuer, **options: Any) -> AsyncIterator[JwtVerifier]:
    """Open a verifier that trusts an issuer's key set."""
    clock = options.pop("clock", None)
    keys = JwksKeys(issuer.url + KEYS, clock=clock, **options)
    async with JwtVerifier(keys, algorithms=ALGORITHMS, issuer=ISSUER, audience=AUDIENCE, clock=clock) as it:
        yield it


async def until_asked(issuer: Issuer, times: int) -> None:
    """Wait until the key set was asked for so many times."""
    with anyio.fail_after(PATIENCE):
        while issuer.asked[KEYS] < times:
            await anyio.sleep(0.005)


async def is_taken(verifier: JwtVerifier, token: str) -> bool:
    """Tell whether a token is good."""
    try:
        await verifier.verify(token)
    except UnauthenticatedError:
        return False
    return True


class TestKeySet(TokenVerifierContract):
    """The contract of verifiers, with a key set of three."""

    @pytest.fixture
    def mint(self, issuer: Issuer) -> TokenMint:
        """One of the keys."""
        issuer.publish(("RS256", "rsa"), ("ES256", "first"), ("EdDSA", "ed"))
        return issuer.mint()

    @pytest.fixture
    async def verifier(self, issuer: Issuer) -> AsyncIterator[JwtVerifier]:
        """A verifier that knows where they are."""
        keys = JwksKeys(issuer.url + KEYS)
        async with JwtVerifier(
            keys, algorithms=ALGORITHMS, issuer=ISSUER, audience=AUDIENCE, tenant_claim=TENANT_CLAIM
        ) as verifier:
            yield verifier


# --- One question for all -----------------------------------------------------------------------------------


async def test_all_wait_for_one_question(issuer: Issuer) -> None:
    """However many requests come before the keys are there, the issuer is asked once."""
    issuer.held.clear()
    async with verifying(issuer) as verifier:
        tokens = [issuer.mint().token(jti=str(number)) for number in range(100)]
        waiting = [asyncio.create_task(verifier.verify(token)) for token in tokens]
        await until_asked(issuer, 1)
        issuer.held.set()
        identities = await asyncio.gather(*waiting)
    assert {identity.subject.user for identity in identities} == {"user-1"}
    assert issuer.asked[KEYS] == 1


async def test_who_stops_waiting_stops_nobody_else(issuer: Issuer) -> None:
    """A request that is cancelled, the first one too, leaves the question to the others."""
    issuer.held.clear()
    async with verifying(issuer) as verifier:
        waiting = [
            asyncio.create_task(verifier.verify(issuer.mint().token(jti=str(number)))) for number in range(10)
        ]
        await until_asked(issuer, 1)
        for task in waiting[::2]:
            task.cancel()
        issuer.held.set()
        for task in waiting[1::2]:
            assert (await task).subject.user == "user-1"
        for task in waiting[::2]:
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_nobody_else_waits_for_the_issuer(issuer: Issuer) -> None:
    """While the issuer is asked about an unknown key, tokens by known ones are verified."""
    clock = FakeClock()
    async with verifying(issuer, clock=clock) as verifier:
        mint = TokenMint("ES256", issuer.mint().sign, now=lambda: clock.now() / 1000)
        await verifier.verify(mint.token(header={"kid": "first"}))
        issuer.held.clear()
        clock.advance(60)
        unknown = asyncio.create_task(verifier.verify(mint.token(header={"kid": "new"})))
        await until_asked(issuer, 2)
        for number in range(50):
            await verifier.verify(mint.token(header={"kid": "first"}, jti=str(number)))
        assert not unknown.done()
        issuer.held.set()
        with pytest.raises(UnauthenticatedError):
            await unknown


async def test_closing_waits_for_no_issuer(issuer: Issuer) -> None:
    """A process that ends while the issuer hangs is not held up, and who still waits is told so."""
    issuer.held.clear()
    with anyio.fail_after(PATIENCE):
        async with verifying(issuer) as verifier:
            waiting = asyncio.create_task(verifier.verify(issuer.mint().token()))
            await until_asked(issuer, 1)
        with pytest.raises(UnavailableError):
            await waiting


async def test_it_can_be_opened_again(issuer: Issuer) -> None:
    """After it was closed, as every part; what changed meanwhile is noticed."""
    keys = JwksKeys(issuer.url + KEYS, renewal=0.01)
    verifier = JwtVerifier(keys, algorithms=ALGORITHMS)
    async with verifier:
        assert await is_taken(verifier, issuer.mint().token())
    asked = issuer.asked[KEYS]
    await anyio.sleep(0.05)  # in which it would be asked again
    assert issuer.asked[KEYS] == asked
    issuer.publish(("ES256", "second"))
    async with verifier:
        await until_asked(issuer, asked + 2)
        assert await is_taken(verifier, issuer.mint(name="second").token())
        assert not await is_taken(verifier, issuer.mint().token())


# --- Rotation -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_rotation_is_noticed_by_its_first_token(issuer: Issuer, algorithm: str) -> None:
    """A token by a key that is not known yet has the key set fetched, and is good at once."""
    clock = FakeClock()
    async with verifying(issuer, clock=clock) as verifier:
        await verifier.verify(_at(clock, issuer.mint()).token())
        issuer.publish(("ES256", "first"), (algorithm, "second"))
        clock.advance(30)
        mint = _at(clock, issuer.mint(algorithm, "second"))
        assert (await verifier.verify(mint.token())).subject.user == "user-1"
        assert issuer.asked[KEYS] == 2
        await verifier.verify(_at(clock, issuer.mint()).token(jti="old ones too"))


async def test_a_rotation_is_noticed_without_key_ids(issuer: Issuer) -> None:
    """Where the issuer names no keys, each that fits is tried, and then the newest."""
    issuer.answers[KEYS] = {"keys": [public_jwk("ES256", name, kid=...) for name in ("first", "second")]}
    clock = FakeClock()
    async with verifying(issuer, clock=clock) as verifier:
        for name in ("first", "second"):
            await verifier.verify(_at(clock, issuer.mint(name=name, kid=...)).token())
        issuer.answers[KEYS] = {"keys": [public_jwk("ES256", "third", kid=...)]}
        clock.advance(30)
        await verifier.verify(_at(clock, issuer.mint(name="third", kid=...)).token())
        with pytest.raises(UnauthenticatedError):
            await verifier.verify(_at(clock, issuer.mint(kid=...)).token(jti="2"))
    assert issuer.asked[KEYS] == 2


async def test_unknown_keys_ask_the_issuer_once_an_interval(issuer: Issuer) -> None:
    """A flood of made-up key ids is no flood of requests to the issuer."""
    clock = FakeClock()
    async with verifying(issuer, clock=clock) as verifier:
        await verifier.verify(_at(clock, issuer.mint()).token())
        for interval in range(3):
            clock.advance(30)
            tokens = [
                _at(clock, issuer.mint(kid=f"{interval}-{number}")).token(exp=clock.now() // 1000 + 99)
                for number in range(200)
            ]
            results = await asyncio.gather(*map(verifier.verify, tokens), return_exceptions=True)
            assert {type(result) for result in results} == {UnauthenticatedError}
            assert issuer.asked[KEYS] == 2 + interval


async def test_a_bad_signature_by_a_known_key_asks_nobody(issuer: Issuer) -> None:
    """The key that a token names is there, and has not signed it: there is nothing to find out."""
    clock = FakeClock()
    async with verifying(issuer, clock=clock) as verifier:
        await verifier.verify(_at(clock, issuer.mint()).token())
        clock.advance(60)
        forged = _at(clock, issuer.mint(name="second", kid="first"))
        with pytest.raises(UnauthenticatedError):
            await verifier.verify(forged.token())
    assert issuer.asked[KEYS] == 1


async def test_keys_are_renewed_while_nobody_asks(issuer: Issuer) -> None:
    """They are fetched in the background, so that no request waits for them."""
    async with verifying(issuer, renewal=0.01):
        await until_asked(issuer, 4)


async def test_a_key_that_is_withdrawn_is_good_no_longer(issuer: Issuer) -> None:
    """Nor are the tokens that were verified with it, remembered though they are; others are as good as before."""
    issuer.publish(("ES256", "first"), ("ES256", "stolen"))
    async with verifying(issuer, renewal=0.01) as verifier:
        good, stolen = issuer.mint().token(), issuer.mint(name="stolen").token()
        await verifier.verify(stolen)
        await verifier.verify(good)
        issuer.publish(("ES256", "first"))
        await until_asked(issuer, issuer.asked[KEYS] + 2)
        with anyio.fail_after(PATIENCE):
            while await is_taken(verifier, stolen):
                await anyio.sleep(0.005)
        assert await is_taken(verifier, good)


async def test_a_key_that_is_withdrawn_while_a_token_is_verified(issuer: Issuer) -> None:
    """Then the token may still pass this once, and is not remembered as one that the newer keys have verified."""
    issuer.publish(("ES256", "first"), ("ES256", "stolen"))
    asked: list[str | None] = []
    go_on = anyio.Event()

    async def is_revoked(token: VerifiedToken) -> bool:
        asked.append(token.token_id)
        await go_on.wait()
        return False

    keys = JwksKeys(issuer.url + KEYS, renewal=0.01)
    async with JwtVerifier(keys, algorithms=ALGORITHMS, is_revoked=is_revoked) as verifier:
        stolen = issuer.mint(name="stolen").token(jti="stolen")
        waiting = asyncio.create_task(verifier.verify(stolen))
        with anyio.fail_after(PATIENCE):
            while not asked:
                await anyio.sleep(0.005)
            issuer.publish(("ES256", "first"))
            while keys.generation == 0:
                await anyio.sleep(0.005)
            go_on.set()
            await waiting
        assert not await is_taken(verifier, stolen)
        asked.clear()
        good = issuer.mint().token(jti="good")
        for _ in range(3):
            assert await is_taken(verifier, good)
    assert asked == ["good"], "what the newer keys have verified is remembered"


# --- Outage -------------------------------------------------------------------------------------------------


async def test_known_keys_go_on_through_an_outage_for_a_day(issuer: Issuer) -> None:
    """And no longer: then it is not known any more whether they still are the issuer's."""
    clock = FakeClock()
    async with verifying(issuer, clock=clock) as verifier:
        await verifier.verify(_at(clock, issuer.mint()).token())
        issuer.stop()
        clock.advance(24 * 3_600 - 1)
        await verifier.verify(_at(clock, issuer.mint()).token())
        clock.advance(2)
        with pytest.raises(UnavailableError) as caught:
            await verifier.verify(_at(clock, issuer.mint()).token())
    assert caught.value.part == "issuer"


async def test_an_unknown_key_during_an_outage_is_no_verdict(issuer: Issuer) -> None:
    """It may be a new one: neither a yes nor a no, each time that it comes."""
    clock = FakeClock()
    async with verifying(issuer, clock=clock) as verifier:
        await verifier.verify(_at(clock, issuer.mint()).token())
        issuer.stop()
        clock.advance(30)
        for _ in range(3):
            with pytest.raises(UnavailableError):
                await verifier.verify(_at(clock, issuer.mint(kid="second")).token())
        await verifier.verify(_at(clock, issuer.mint()).token(jti="2"))


async def test_an_issuer_that_is_away_at_the_start(issuer: Issuer) -> None:
    """It does not hold up the start; until it is there, nobody gets in, and nobody is told that his token is bad."""
    issuer.stop()
    token = issuer.mint().token()
    async with verifying(issuer) as verifier:
        for _ in range(3):
            with pytest.raises(UnavailableError):
                await verifier.verify(token)
        issuer.start()
        with anyio.fail_after(PATIENCE):
            while True:
                try:
                    assert (await verifier.verify(token)).subject.user == "user-1"
                    break
                except UnavailableError:
                    await anyio.sleep(0.02)


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_an_answer_that_is_none(issuer: Issuer, trouble: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever an issuer answers instead of its keys is its being away: soon, and never a yes, a 401 or a 500."""
    issuer.answers[KEYS] = TROUBLES[trouble]
    async with verifying(issuer, http=impatient(trouble)) as verifier:
        with anyio.fail_after(PATIENCE), pytest.raises(UnavailableError) as caught:
            await verifier.verify(issuer.mint().token())
    assert caught.value.part == "issuer"
    assert issuer.url not in str(caught.value)
    assert issuer.asked.keys() <= {KEYS}
    assert ("set the URL it leads to" in caplog.text) == ("redirect" in trouble)


@pytest.mark.parametrize("trouble", ["status 500", "redirect to itself", "no JSON", "hung up"])
async def test_known_keys_outlive_such_an_answer(issuer: Issuer, trouble: str) -> None:
    """What was known before is not thrown away for it."""
    async with verifying(issuer, renewal=0.01) as verifier:
        await verifier.verify(issuer.mint().token())
        issuer.answers[KEYS] = TROUBLES[trouble]
        await until_asked(issuer, issuer.asked[KEYS] + 2)
        await verifier.verify(issuer.mint().token(jti="2"))


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"keys": None},
        {"keys": {}},
        {"keys": "first"},
        {"jwks": []},
        {"keys": [public_jwk("ES256", "first")] * 101},
    ],
    ids=["no keys", "null", "object", "string", "another name", "too many"],
)
def test_what_is_no_key_set(document: dict[str, Any]) -> None:
    """A document without a list of keys of a reasonable length is the issuer's error."""
    with pytest.raises(UnavailableError):
        read_key_set(document)


# --- Which keys ---------------------------------------------------------------------------------------------

_SECRET = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"

UNUSABLE: dict[str, Any] = {
    "for encryption": public_jwk("ES256", "k", use="enc"),
    "for signing only": public_jwk("ES256", "k", key_ops=["sign"]),
    "operations that are no list": public_jwk("ES256", "k", key_ops="verify"),
    "for an algorithm that is not settled": public_jwk("RS256", "k", alg="RS512"),
    "for another key's algorithm": public_jwk("ES256", "k", alg="RS256"),
    "for encryption by its algorithm": public_jwk("RS256", "k", alg="RSA-OAEP"),
    "algorithm none": public_jwk("ES256", "k", alg="none"),
    "algorithm HS256": public_jwk("RS256", "k", alg="HS256"),
    "of another curve": public_jwk("ES384", "k", alg=...),
    "of an unknown curve": public_jwk("ES256", "k", crv="P-257"),
    "of a curve that is no text": public_jwk("ES256", "k", crv=["P-256"]),
    "of an unknown type": public_jwk("ES256", "k", kty="XX"),
    "of a type that is no text": public_jwk("ES256", "k", kty=["EC"]),
    "without a type": public_jwk("ES256", "k", kty=...),
    "a secret": {"kty": "oct", "kid": "k", "k": _SECRET, "use": "sig", "alg": "HS256"},
    "a private key": private_jwk("ES256", "k"),
    "a point that is not on the curve": public_jwk("ES256", "k", x="A" * 43, y="A" * 43),
    "a coordinate too short": public_jwk("ES256", "k", x="AAAA"),
    "a coordinate that is a number": public_jwk("ES256", "k", x=1),
    "no coordinate": public_jwk("ES256", "k", y=...),
    "a modulus of nothing": public_jwk("RS256", "k", n=""),
    "an even exponent": public_jwk("RS256", "k", e="Ag"),
    "a kid that is a number": public_jwk("ES256", "k", kid=1),
    "a lone surrogate": public_jwk("ES256", "k", x5t="\ud800"),
    "no object": "first",
    "null": None,
}


@pytest.mark.parametrize("which", UNUSABLE)
async def test_keys_that_are_left_out(issuer: Issuer, which: str) -> None:
    """A key that is not for verifying our algorithms verifies nothing, and spoils no key beside it."""
    issuer.answers[KEYS] = {"keys": [UNUSABLE[which], public_jwk("ES256", "first")]}
    async with verifying(issuer) as verifier:
        await verifier.verify(issuer.mint().token())
        tokens = [issuer.mint(algorithm, "k").token() for algorithm in ALGORITHMS]
        tokens.append(TokenMint("HS256", hmac_sha256(_SECRET)).token(header={"kid": "k"}))
        for token in tokens:
            with pytest.raises(UnauthenticatedError):
                await verifier.verify(token)


async def test_weak_rsa_keys_are_left_out(issuer: Issuer) -> None:
    """RFC 7518, section 3.3, asks for 2,048 bits."""
    import jwt

    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505  # which is the point
    signer = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256)
    entry = {**signer.to_jwk(weak.public_key(), as_dict=True), "kid": "k"}
    assert len(read_key_set({"keys": [public_jwk("RS256", "k"), entry]})) == 1
    issuer.answers[KEYS] = {"keys": [entry]}
    async with verifying(issuer) as verifier:
        mint = TokenMint("RS256", lambda text: signer.sign(text, weak))
        with pytest.raises(UnauthenticatedError):
            await verifier.verify(mint.token(header={"kid": "k"}))


async def test_keys_that_do_not_say_what_they_are_for(issuer: Issuer) -> None:
    """``use``, ``key_ops``, ``alg`` and ``kid`` may be missing (RFC 7517, section 4): the type and the curve decide."""
    issuer.answers[KEYS] = {
        "keys": [public_jwk(name, name, use=..., alg=..., kid=...) for name in ALGORITHMS]
    }
    async with verifying(issuer) as verifier:
        for name in ALGORITHMS:
            await verifier.verify(issuer.mint(name, name).token())
        mixed = TokenMint("ES256", lambda text: private_key("EdDSA", "EdDSA").sign(text))
        with pytest.raises(UnauthenticatedError):
            await verifier.verify(mixed.token())


async def test_an_issuer_without_keys_has_withdrawn_all(issuer: Issuer) -> None:
    """An empty set is an answer: no token is good."""
    issuer.answers[KEYS] = {"keys": []}
    async with verifying(issuer) as verifier:
        with pytest.raises(UnauthenticatedError):
            await verifier.verify(issuer.mint().token())


@pytest.mark.parametrize("member", ["jku", "x5u"])
async def test_a_token_cannot_say_where_its_key_is(issuer: Issuer, member: str) -> None:
    """What its header points to is never fetched."""
    with Issuer() as evil:
        async with verifying(issuer) as verifier:
            token = evil.mint(name="evil").token(header={member: evil.url + KEYS, "kid": "evil"})
            with pytest.raises(UnauthenticatedError):
                await verifier.verify(token)
        assert not evil.asked


@pytest.mark.parametrize("algorithms", [["HS256"], ["HS256", "HS512"]])
def test_a_key_set_holds_no_secrets(algorithms: list[str]) -> None:
    """HS256, the setting's default too, is refused with a key set, with what to write instead."""
    with pytest.raises(ConfigurationError, match="name what the issuer signs with, RS256 say"):
        JwtVerifier(JwksKeys("https://issuer.example/keys"), algorithms=algorithms)


@pytest.mark.parametrize("url", ["http://issuer.example/keys", "file:///keys", "", "https://a@b/"])
def test_a_key_set_at_a_url_that_cannot_be_trusted(url: str) -> None:
    """It is refused when it is named."""
    with pytest.raises(ConfigurationError, match="the key set's URL cannot be used"):
        JwksKeys(url)


def _at(clock: FakeClock, mint: TokenMint) -> TokenMint:
    """Return a mint on a test's clock."""
    object.__setattr__(mint, "now", lambda: clock.now() / 1000)
    return mint
