"""Tokens that are good no longer: what was verified is forgotten, and what comes again is refused."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from prefsync.adapters.jwt import JwksKeys, JwtVerifier
from prefsync.document import Subject
from prefsync.errors import UnauthenticatedError, UnavailableError
from prefsync.testing import FakeClock, TokenMint, hmac_sha256
from prefsync.testing.samples import PATIENCE
from tests.oauth.issuer import KEYS, private_key

if TYPE_CHECKING:
    from prefsync.adapters.oauth import VerifiedToken
    from tests.oauth.issuer import Issuer

SECRET = "a-secret-of-more-than-32-bytes-for-tests"
DAY = 24 * 3_600


@pytest.fixture
def clock() -> FakeClock:
    """A clock that the test moves."""
    return FakeClock()


@pytest.fixture
def mint(clock: FakeClock) -> TokenMint:
    """An issuer on that clock."""
    return TokenMint("HS256", hmac_sha256(SECRET), now=lambda: clock.now() / 1000)


@pytest.fixture
def verifier(clock: FakeClock) -> JwtVerifier:
    """What trusts it."""
    return JwtVerifier(SECRET, clock=clock)


def minted(mint: TokenMint, **claims: Any) -> str:
    """Return a token that lives for days."""
    return mint.token(**{"aud": ..., "exp": int(mint.now()) + 9 * DAY, **claims})


async def is_taken(verifier: JwtVerifier, token: str) -> bool:
    """Tell whether a token is good; it is asked twice, because one that is good is remembered."""
    answers = set()
    for _ in range(2):
        try:
            await verifier.verify(token)
            answers.add(True)
        except UnauthenticatedError:
            answers.add(False)
    (answer,) = answers
    return answer


@pytest.mark.parametrize("seen", [True, False])
async def test_one_token(verifier: JwtVerifier, mint: TokenMint, *, seen: bool) -> None:
    """It is refused whether it was seen before or not; others of its user's are good."""
    token, other = minted(mint), minted(mint, jti="2")
    if seen:
        assert await is_taken(verifier, token)
    verifier.revoke(token=token)
    assert not await is_taken(verifier, token)
    assert await is_taken(verifier, other)


async def test_one_token_by_its_id(verifier: JwtVerifier, mint: TokenMint) -> None:
    """Every token with that ``jti``, and none without."""
    first, again = minted(mint, jti="1"), minted(mint, jti="1", scope="x")
    others = [minted(mint, jti="2"), minted(mint), minted(mint, jti=1)]
    for token in (first, *others):
        assert await is_taken(verifier, token)
    verifier.revoke(token_id="1")
    assert not await is_taken(verifier, first)
    assert not await is_taken(verifier, again)
    for token in others:
        assert await is_taken(verifier, token)


async def test_another_signature_is_no_way_round(issuer: Issuer) -> None:
    """Whoever has an ECDSA signature can write a second one that is as good: it is the same token."""
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
    from jwt.utils import base64url_decode, base64url_encode, der_to_raw_signature, raw_to_der_signature

    order = (
        0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256 (FIPS 186-4, D.1.2.3)
    )
    curve = private_key("ES256", "first").curve
    token = issuer.mint().token()
    body, _, signature = token.rpartition(".")
    r, s = decode_dss_signature(raw_to_der_signature(base64url_decode(signature), curve))
    other = der_to_raw_signature(encode_dss_signature(r, order - s), curve)
    twin = f"{body}.{base64url_encode(other).decode()}"
    assert twin != token
    async with JwtVerifier(JwksKeys(issuer.url + KEYS), algorithms=["ES256"]) as verifier:
        assert await is_taken(verifier, twin)
        verifier.revoke(token=token)
        assert not await is_taken(verifier, token)
        assert not await is_taken(verifier, twin)


async def test_all_tokens_of_a_subject(verifier: JwtVerifier, mint: TokenMint, clock: FakeClock) -> None:
    """Those that were issued until now, and those that do not say when; what it is given later is good."""
    old, undated = minted(mint), minted(mint, iat=...)
    somebody_else = minted(mint, sub="user-2")
    assert await is_taken(verifier, old)
    verifier.revoke(subject=Subject("user-1"))
    clock.advance(1)
    assert not await is_taken(verifier, old)
    assert not await is_taken(verifier, undated)
    assert not await is_taken(verifier, minted(mint, jti="2", iat=int(mint.now()) - 1))
    assert await is_taken(verifier, minted(mint, jti="3"))
    assert await is_taken(verifier, somebody_else)
    verifier.revoke(subject=Subject("user-1"))
    assert not await is_taken(verifier, minted(mint, jti="3"))


async def test_the_same_user_of_another_tenant(clock: FakeClock, mint: TokenMint) -> None:
    """Is another subject."""
    verifier = JwtVerifier(SECRET, tenant_claim="org", clock=clock)
    verifier.revoke(subject=Subject("user-1", "other"))
    verifier.revoke(subject=Subject("user-1"))
    assert await is_taken(verifier, minted(mint))
    verifier.revoke(subject=Subject("user-1", "acme"))
    assert not await is_taken(verifier, minted(mint))


async def test_a_revocation_lasts_as_long_as_it_is_told(
    verifier: JwtVerifier, mint: TokenMint, clock: FakeClock
) -> None:
    """For a day, or until the moment that was named; a shorter one takes nothing from a longer one."""
    for_a_day, for_longer = minted(mint, jti="1"), minted(mint, jti="2")
    verifier.revoke(token_id="1")
    verifier.revoke(token_id="2", until=mint.now() + 3 * DAY)
    verifier.revoke(token_id="2", until=mint.now() + 60)
    clock.advance(DAY - 1)
    assert not await is_taken(verifier, for_a_day)
    clock.advance(2)
    assert await is_taken(verifier, for_a_day)
    assert not await is_taken(verifier, for_longer)
    clock.advance(2 * DAY)
    assert await is_taken(verifier, for_longer)


async def test_old_revocations_are_forgotten(
    verifier: JwtVerifier, mint: TokenMint, clock: FakeClock
) -> None:
    """A host that logs users out all day long does not grow for it; none that still holds is lost."""
    kept = minted(mint, jti="kept")
    verifier.revoke(token_id="kept", until=mint.now() + 8 * DAY)
    for day in range(4):
        for number in range(3_000):
            verifier.revoke(token_id=f"{day}-{number}", until=mint.now() + 60)
        clock.advance(DAY)
    assert len(verifier._memory._revoked) <= 4_000
    assert not await is_taken(verifier, kept)


# --- A list of the host's own -------------------------------------------------------------------------------


async def test_the_host_is_asked(clock: FakeClock, mint: TokenMint) -> None:
    """About each new token, with what is known of it, and again every 10 s: for a list that processes share."""
    asked: list[VerifiedToken] = []
    revoked: set[str | None] = set()

    async def is_revoked(token: VerifiedToken) -> bool:
        asked.append(token)
        return token.token_id in revoked

    verifier = JwtVerifier(SECRET, is_revoked=is_revoked, clock=clock)
    token = minted(mint, jti="1")
    for _ in range(5):
        await verifier.verify(token)
    (known,) = asked
    assert (known.token_id, known.identity.subject) == ("1", Subject("user-1"))
    assert known.issued_at == int(mint.now())
    revoked.add("1")
    clock.advance(9.9)
    assert await verifier.verify(token) == known.identity
    clock.advance(0.2)
    assert not await is_taken(verifier, token)
    with pytest.raises(UnauthenticatedError):
        await verifier.verify(minted(mint, jti="1", exp=1))
    assert len(asked) == 3, "nobody is asked about a token that is no good anyway"


async def test_a_host_that_cannot_say(clock: FakeClock, mint: TokenMint) -> None:
    """Is neither a yes nor a no, and no failure of the server's."""

    async def is_revoked(token: VerifiedToken) -> bool:
        raise ConnectionError(token.token_id)

    verifier = JwtVerifier(SECRET, is_revoked=is_revoked, clock=clock)
    with pytest.raises(UnavailableError):
        await verifier.verify(minted(mint))


async def test_what_is_revoked_while_it_is_verified(clock: FakeClock, mint: TokenMint) -> None:
    """Is refused: between the verdict and its being remembered nothing slips through."""
    begun, go_on = anyio.Event(), anyio.Event()

    async def is_revoked(token: VerifiedToken) -> bool:
        del token
        begun.set()
        await go_on.wait()
        return False

    verifier = JwtVerifier(SECRET, is_revoked=is_revoked, clock=clock)
    waiting = asyncio.create_task(verifier.verify(minted(mint, jti="1")))
    with anyio.fail_after(PATIENCE):
        await begun.wait()
        verifier.revoke(token_id="1")
        go_on.set()
        with pytest.raises(UnauthenticatedError):
            await waiting


async def test_no_token_is_kept(verifier: JwtVerifier, mint: TokenMint) -> None:
    """What is remembered of tokens, good or revoked, are digests: memory that leaks gives nobody's away."""
    import gc

    token = minted(mint)
    await verifier.verify(token)
    verifier.revoke(token=minted(mint, jti="2"))
    seen: set[int] = set()
    todo: list[Any] = [verifier._memory]
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, type):
            continue
        seen.add(id(thing))
        if isinstance(thing, str | bytes):
            assert token.rpartition(".")[2] not in repr(thing)
        todo += gc.get_referents(thing)
        if len(seen) > 100_000:
            break
