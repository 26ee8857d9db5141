"""Tokens that only their issuer can read (RFC 7662)."""

from __future__ import annotations

import asyncio
import time
from base64 import b64decode
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from prefsync.adapters.oauth import IntrospectionVerifier
from prefsync.adapters.oauth.http import IssuerHttp
from prefsync.clock import SystemClock
from prefsync.document import Subject
from prefsync.errors import ConfigurationError, UnauthenticatedError, UnavailableError
from prefsync.settings import Settings
from prefsync.testing import FakeClock
from prefsync.testing.samples import PATIENCE
from prefsync.verifiers import build_verifier
from tests.oauth.issuer import INTROSPECTION
from tests.oauth.troubles import TROUBLES, impatient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.oauth.issuer import Issuer

TOKEN = "2YotnFZFEjr1zCsicMWpAA"


def verdict(now: float | None = None, **changes: Any) -> dict[str, Any]:
    """Return what an issuer says of a good token, with some of it changed; what is set to ``...`` is left out."""
    now = time.time() if now is None else now
    good = {
        "active": True,
        "sub": "user-1",
        "iss": "https://issuer.example",
        "aud": "https://preferences.example",
        "scope": "preferences:read",
        "exp": int(now) + 300,
        "org": "acme",
        "token_type": "Bearer",
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not ...}


@asynccontextmanager
async def verifying(issuer: Issuer, **options: Any) -> AsyncIterator[IntrospectionVerifier]:
    """Open a verifier that asks an issuer."""
    async with IntrospectionVerifier(
        issuer.url + INTROSPECTION,
        client_id="prefsync",
        client_secret="s3cr3t",
        issuer="https://issuer.example",
        audience="https://preferences.example",
        tenant_claim="org",
        **options,
    ) as verifier:
        yield verifier


async def test_the_issuer_says_for_whom_a_token_speaks(issuer: Issuer) -> None:
    """User, tenant, scopes and expiry are as it says."""
    issuer.answers[INTROSPECTION] = good = verdict()
    async with verifying(issuer) as verifier:
        identity = await verifier.verify(TOKEN)
    assert identity.subject == Subject("user-1", "acme")
    assert identity.scopes == {"preferences:read"}
    assert identity.expires_at == good["exp"] + 30
    assert issuer.forms == [{"token": [TOKEN], "token_type_hint": ["access_token"]}]


async def test_who_asks_says_who_he_is(issuer: Issuer) -> None:
    """By HTTP Basic, both parts form-encoded first (RFC 6749, section 2.3.1), by settings as by hand."""
    issuer.answers[INTROSPECTION] = verdict()
    settings = Settings.from_environment(
        {
            "PREFSYNC_INTROSPECTION_URL": issuer.url + INTROSPECTION,
            "PREFSYNC_INTROSPECTION_CLIENT_ID": "pref:sync",
            "PREFSYNC_INTROSPECTION_CLIENT_SECRET": "s c%r=t\u00e9",
        }
    )
    verifier = build_verifier(settings, SystemClock())
    async with verifier:
        assert (await verifier.verify(TOKEN)).subject == Subject("user-1")
    scheme, _, pair = (issuer.authorizations[0] or "").partition(" ")
    assert scheme == "Basic"
    assert b64decode(pair) == b"pref%3Async:s+c%25r%3Dt%C3%A9"


# --- Verdicts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"active": False},
        {"active": False, "sub": "user-1"},
        {"sub": ...},
        {"sub": ""},
        {"sub": 7},
        {"sub": "a\nb"},
        {"exp": ...},
        {"exp": None},
        {"exp": "9999999999"},
        {"exp": 0},
        {"exp": True},
        {"exp": 10**400},
        {"nbf": 99_999_999_999},
        {"iat": 99_999_999_999},
        {"iat": "now"},
        {"iss": ...},
        {"iss": "https://other.example"},
        {"aud": ...},
        {"aud": "https://other.example"},
        {"aud": ["https://other.example"]},
        {"org": ...},
        {"org": 1},
        {"token_type": "DPoP"},
        {"token_type": "refresh_token"},
        {"token_type": None},
        {"token_type": ["Bearer"]},
        {"token_use": "refresh_token"},
        {"token_use": {}},
    ],
    ids=str,
)
async def test_tokens_that_are_refused(issuer: Issuer, changes: dict[str, Any]) -> None:
    """What is not active, or not for us, or names nobody, is unauthenticated, each time; the same rules as for JWTs."""
    issuer.answers[INTROSPECTION] = verdict(**changes)
    async with verifying(issuer) as verifier:
        for _ in range(3):
            with pytest.raises(UnauthenticatedError) as caught:
                await verifier.verify(TOKEN)
            assert caught.value.reason == "invalid_token"
    assert issuer.asked[INTROSPECTION] == 1


@pytest.mark.parametrize("active", [..., None, "true", 1, "false", [], {"a": 1}], ids=str)
async def test_an_answer_without_a_verdict(issuer: Issuer, active: Any) -> None:
    """Is neither a yes nor a no."""
    issuer.answers[INTROSPECTION] = verdict(active=active)
    async with verifying(issuer) as verifier:
        with pytest.raises(UnavailableError):
            await verifier.verify(TOKEN)


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_an_answer_that_is_none(issuer: Issuer, trouble: str) -> None:
    """Whatever goes wrong on the way is the issuer's being away: soon, never a yes, and no 401 either."""
    issuer.answers[INTROSPECTION] = TROUBLES[trouble]
    async with verifying(issuer, http=impatient(trouble)) as verifier:
        with anyio.fail_after(PATIENCE), pytest.raises(UnavailableError) as caught:
            await verifier.verify(TOKEN)
    assert caught.value.part == "issuer"
    assert issuer.url not in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert issuer.asked.keys() <= {INTROSPECTION}, "a form with a token must follow no redirect"
    assert issuer.asked[INTROSPECTION] <= 1


async def test_credentials_that_are_refused_are_told_in_the_log(
    issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """That the issuer does not know us is our fault and not the token's; the log names the settings, and no secret."""
    issuer.answers[INTROSPECTION] = lambda to: to.reply(401, b"{}")
    async with verifying(issuer) as verifier:
        with pytest.raises(UnavailableError):
            await verifier.verify(TOKEN)
    assert "check PREFSYNC_INTROSPECTION_CLIENT_ID" in caplog.text
    assert "s3cr3t" not in caplog.text
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    "token",
    ["", " ", "a b", "a\nb", "a\x00", "\u00e9", "\ud800", "a=b", "x" * 8_193, '"a"', "a,b", "a&token=b"],
)
async def test_what_is_no_token_is_not_asked_about(issuer: Issuer, token: str) -> None:
    """RFC 6750, section 2.1, says what a token is made of."""
    issuer.answers[INTROSPECTION] = verdict()
    async with verifying(issuer) as verifier:
        with pytest.raises(UnauthenticatedError):
            await verifier.verify(token)
    assert not issuer.asked


# --- How long a verdict holds -------------------------------------------------------------------------------


async def test_a_verdict_is_remembered_for_a_short_time(issuer: Issuer) -> None:
    """For 30 s the issuer is not asked again; then what it says now holds."""
    clock = FakeClock()
    issuer.answers[INTROSPECTION] = verdict(clock.now() / 1000)
    async with verifying(issuer, clock=clock) as verifier:
        for _ in range(3):
            await verifier.verify(TOKEN)
            clock.advance(9.9)
        assert issuer.asked[INTROSPECTION] == 1
        clock.advance(0.4)
        issuer.answers[INTROSPECTION] = {"active": False}
        with pytest.raises(UnauthenticatedError):
            await verifier.verify(TOKEN)
        assert issuer.asked[INTROSPECTION] == 2


async def test_a_verdict_ends_with_its_token(issuer: Issuer) -> None:
    """One that expires sooner is asked about sooner, and refused whatever the issuer says."""
    clock = FakeClock()
    issuer.answers[INTROSPECTION] = verdict(clock.now() / 1000, exp=clock.now() // 1000 + 5)
    async with verifying(issuer, clock=clock, leeway=0) as verifier:
        await verifier.verify(TOKEN)
        clock.advance(5)
        with pytest.raises(UnauthenticatedError):
            await verifier.verify(TOKEN)


async def test_a_clock_that_is_set_back_prolongs_no_verdict(issuer: Issuer) -> None:
    """The time for which it holds is not the wall clock's."""
    clock = FakeClock()
    issuer.answers[INTROSPECTION] = verdict(clock.now() / 1000)
    async with verifying(issuer, clock=clock) as verifier:
        await verifier.verify(TOKEN)
        clock.set(clock.now() - 1_000_000)
        clock.advance(31)
        await verifier.verify(TOKEN)
    assert issuer.asked[INTROSPECTION] == 2


async def test_a_verdict_does_not_outlive_an_outage(issuer: Issuer) -> None:
    """Where the issuer cannot be asked, what it said a while ago is no yes."""
    clock = FakeClock()
    issuer.answers[INTROSPECTION] = verdict(clock.now() / 1000)
    async with verifying(issuer, clock=clock) as verifier:
        await verifier.verify(TOKEN)
        issuer.stop()
        clock.advance(29)
        await verifier.verify(TOKEN)
        clock.advance(2)
        with pytest.raises(UnavailableError):
            await verifier.verify(TOKEN)


async def test_a_refusal_is_remembered_too(issuer: Issuer) -> None:
    """As long as a verdict: who repeats a bad token does not make us repeat the question."""
    clock = FakeClock()
    issuer.answers[INTROSPECTION] = {"active": False}
    async with verifying(issuer, clock=clock) as verifier:
        for times in (1, 2):
            for _ in range(20):
                with pytest.raises(UnauthenticatedError):
                    await verifier.verify(TOKEN)
            assert issuer.asked[INTROSPECTION] == times
            clock.advance(31)


async def test_refusals_push_out_no_good_token(issuer: Issuer) -> None:
    """However many bad ones come."""
    issuer.answers[INTROSPECTION] = verdict()
    async with verifying(issuer) as verifier:
        await verifier.verify(TOKEN)
        issuer.answers[INTROSPECTION] = {"active": False}
        results = await asyncio.gather(
            *(verifier.verify(f"bad-{number}") for number in range(200)), return_exceptions=True
        )
        assert {type(result) for result in results} == {UnauthenticatedError}
        await verifier.verify(TOKEN)


async def test_requests_with_one_token_ask_once(issuer: Issuer) -> None:
    """However many come at a time; those with others do not wait for it."""
    issuer.answers[INTROSPECTION] = verdict()
    issuer.held.clear()
    async with verifying(issuer) as verifier:
        waiting = [asyncio.create_task(verifier.verify(TOKEN)) for _ in range(50)]
        waiting += [asyncio.create_task(verifier.verify(TOKEN + "2"))]
        with anyio.fail_after(PATIENCE):
            while issuer.asked[INTROSPECTION] < 2:
                await anyio.sleep(0.005)
        waiting.pop(0).cancel()
        issuer.held.set()
        assert {identity.subject.user for identity in await asyncio.gather(*waiting)} == {"user-1"}
    assert issuer.asked[INTROSPECTION] == 2


async def test_an_issuer_that_is_away_costs_one_wait(issuer: Issuer) -> None:
    """After three time-outs in a row, one request at a time tries, and the others are answered at once."""
    issuer.held.clear()
    async with verifying(issuer, http=IssuerHttp(time_limit=0.1)) as verifier:
        for number in range(3):
            with pytest.raises(UnavailableError):
                await verifier.verify(f"token-{number}")
        results = await asyncio.gather(
            *(verifier.verify(f"later-{number}") for number in range(50)), return_exceptions=True
        )
        assert {type(result) for result in results} == {UnavailableError}
        assert issuer.asked[INTROSPECTION] <= 4
        issuer.held.set()
        issuer.answers[INTROSPECTION] = verdict()
        with anyio.fail_after(PATIENCE):
            while True:
                try:
                    await verifier.verify(TOKEN)
                    break
                except UnavailableError:
                    await anyio.sleep(0.02)


async def test_what_the_host_revokes_is_not_asked_about(issuer: Issuer) -> None:
    """A token that is revoked here is refused at once, though the issuer still says yes."""
    issuer.answers[INTROSPECTION] = verdict()
    async with verifying(issuer) as verifier:
        await verifier.verify(TOKEN)
        verifier.revoke(token=TOKEN)
        with pytest.raises(UnauthenticatedError):
            await verifier.verify(TOKEN)
        await verifier.verify(TOKEN + "2")
        verifier.revoke(subject=Subject("user-1", "acme"))
        with pytest.raises(UnauthenticatedError):
            await verifier.verify(TOKEN + "2")


def test_tokens_are_not_sent_in_the_clear() -> None:
    """An endpoint without TLS is refused when it is named."""
    with pytest.raises(ConfigurationError, match="PREFSYNC_INTROSPECTION_URL"):
        IntrospectionVerifier("http://issuer.example/introspect", client_id="a", client_secret="b")
