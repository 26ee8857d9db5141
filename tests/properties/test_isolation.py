"""Whatever ids hosts give their users and tenants: nobody is told, counted or let in as somebody else."""

from __future__ import annotations

import re
import unicodedata
from contextlib import AsyncExitStack
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsync.adapters.announcements import key_of, pack, unpack
from prefsync.adapters.jwt import JwtVerifier
from prefsync.adapters.limits import LimitsRateLimiter
from prefsync.adapters.memory import MemoryRateLimiter, MemoryTickets
from prefsync.adapters.oauth import IssuersVerifier
from prefsync.adapters.redis import RedisTickets
from prefsync.adapters.sqlalchemy import SqlAlchemyRepository, SqlAlchemyTickets
from prefsync.document import Identity, Snapshot, Subject
from prefsync.errors import RateLimitedError, UnauthenticatedError
from prefsync.feed import ChangeFeed
from prefsync.http.admission import Admission
from prefsync.http.quotas import Quotas
from prefsync.http.rendering import render_snapshot
from prefsync.merge import Mutation, Replace
from prefsync.ports import Announcement, Rate
from prefsync.resilience import Guard
from prefsync.service import IdempotentRequest
from prefsync.sessions import Sessions
from prefsync.testing import FakeClock, TokenMint, hmac_sha256
from tests.contracts.support import patient_link
from tests.properties.backends import profile
from tests.unit.streams import Client, connected, in_step
from tests.unit.support import Process

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prefsync.ports import RateLimiter, TicketStore
    from tests.properties.backends import Backend

pytestmark = pytest.mark.once

SECRET: Final = "a-secret-of-more-than-32-bytes-for-tests"
LONGEST: Final = 255

# What separates, stands for anything, begins something, or looks like something else, to some part on the way.
pieces = st.sampled_from(
    [
        *(
            ":",
            "/",
            "|",
            ",",
            ";",
            " ",
            "-",
            "_",
            ".",
            "..",
            "#",
            "?",
            "*",
            "%",
            "&",
            "=",
            "+",
            "@",
            "$1",
            "~",
        ),
        *(
            "{",
            "}",
            "{a}",
            "[",
            "]",
            "[a-z]",
            "(",
            ")",
            "<",
            ">",
            "'",
            '"',
            "`",
            "\\",
            "\\n",
            "%00",
            "%0a",
            "--",
        ),
        *(
            "user",
            "user:",
            "address:",
            "user-writes:",
            "t",
            "a",
            "b",
            "A",
            "0",
            "00",
            "1e1",
            "null",
            "None",
            "",
        ),
        *("\u2028", "\u2029", "\u00a0", "\u200b", "\u202e", "\ufeff", "\ufffd", "\uffff"),
        *(
            "\u00e9",
            "e\u0301",
            "\u00c5",
            "A\u030a",
            "\u212b",
            "\ufb01",
            "fi",
            "\u00df",
            "ss",
            "\u0130",
            "i\u0307",
        ),
        *("\u0430", "\u03b1", "\uff41", "\U0001d41a", "\U0001f469\u200d\U0001f680", "\U0010ffff", "x" * 120),
    ]
)
ids = st.lists(
    pieces | st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=3), min_size=1, max_size=6
)
texts = ids.map("".join).map(lambda text: text[:LONGEST] or "x")


@st.composite
def crowds(draw: st.DrawFn) -> list[Subject]:
    """Different subjects that a careless way to build a key takes for one another."""
    text, other = draw(texts), draw(texts)
    found = {Subject(text), Subject(other), Subject(text, other), Subject(other, text), Subject(text, text)}
    for cut in draw(st.lists(st.integers(1, LONGEST), max_size=5)):
        if text[:cut] and text[cut:]:
            found |= {Subject(text[cut:], text[:cut]), Subject(text[:cut], text[cut:])}
        tenant, separator, user = text.partition(text[min(cut, len(text) - 1)])
        if tenant and user:  # ("a", "b:c") beside ("a:b", "c")
            found |= {
                Subject(user, tenant),
                Subject(user, tenant + separator),
                Subject(separator + user, tenant),
            }
    looks = [unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")]
    looks += [text.lower(), text.upper(), text.strip(), f"{text} ", f" {text}", f"{text}\u200b", text * 255]
    found |= {Subject(look[:LONGEST], draw(st.sampled_from([None, other]))) for look in looks if look}
    return sorted(found, key=lambda subject: (subject.user, subject.tenant or ""))


@st.composite
def strangers(draw: st.DrawFn) -> list[Subject]:
    """Some of a crowd: as many as can be asked of a server for each of many examples."""
    crowd = draw(crowds())
    return draw(st.lists(st.sampled_from(crowd), min_size=2, max_size=6, unique=True))


# --- Keys, entity tags, announcements ---------------------------------------------------------------------------------


@profile(200)
@given(crowds())
def test_keys(crowd: list[Subject]) -> None:
    """What names a subject in caches, channels and limits is of one form, and no other subject's."""
    keys = {subject.key for subject in crowd}
    assert len(keys) == len(crowd)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{20}", key) for key in keys)


@pytest.mark.parametrize(
    "text", ["a\nb", "a\r", "\x00", "a\x00b", "\x1f", "\x7f", "\x85", "\ud800", "", "x" * 256]
)
def test_ids_that_are_none(text: str) -> None:
    """Line breaks, NUL and other controls, half a character, nothing and too much are refused in user and tenant."""
    for user, tenant in ((text, None), ("a", text)):
        with pytest.raises(ValueError, match="the (user|tenant)"):
            Subject(user, tenant)


@profile(200)
@given(crowds())
def test_entity_tags(crowd: list[Subject]) -> None:
    """The same state of two subjects has two tags, and so have two namespaces of one."""
    values: dict[str, dict[str, Any]] = {"a": {}, "b": {}}
    tags = {
        render_snapshot(Snapshot(subject, 7, "k3f9", values, {"a": 7, "b": 7}), namespace).etag
        for subject in crowd
        for namespace in (None, "a", "b")
    }
    assert len(tags) == 3 * len(crowd)


@profile(200)
@given(crowds())
def test_announcements(crowd: list[Subject]) -> None:
    """A message tells whose it is, to whoever reads no more than its beginning, too."""
    for subject in crowd:
        message = pack(Announcement(subject, None, 7))
        assert key_of(message) == subject.key
        read = unpack(message)
        assert read is not None
        assert read.subject == subject


# --- Documents, changes, idempotency keys, streams -----------------------------------------------------------------------

EXAMPLES: Final = {"memory": 25, "sqlite": 15, "postgres": 15}
_turns = count()


def check_documents(backend: Backend, crowd: Sequence[Subject]) -> None:
    """Have each write under one idempotency key at one process, and read at another."""
    writer, reader = (
        Process(backend.repository, backend.caches[0]),
        Process(backend.repository, backend.caches[1]),
    )
    feed = ChangeFeed(reader.service, backend.repository, Guard("database", 20.0))
    key, turn = f"the-same-{next(_turns)}", next(_turns)

    async def check() -> None:
        for number, subject in enumerate(crowd):
            mark = {"mark": f"{turn}-{number}"}
            before = (await reader.service.read(subject)).revision
            request = IdempotentRequest(key, b"the same".ljust(32))
            wrote = await writer.service.write(subject, Mutation({"plugins": Replace(mark)}), request=request)
            assert wrote.values["plugins"] == mark, "another's answer"
            page = await feed.page(subject, before)
            assert [change.change.revision for change in page.changes] == [wrote.revision]
        for number, subject in enumerate(crowd):
            mark = {"mark": f"{turn}-{number}"}
            for process in (reader, writer):
                found = await process.service.read(subject)
                assert (found.subject, found.values["plugins"]) == (subject, mark)
            again = IdempotentRequest(key, b"the same".ljust(32))
            told = await reader.service.write(subject, Mutation({"plugins": Replace(mark)}), request=again)
            assert told.values["plugins"] == mark

    backend.run(check())


@pytest.mark.parametrize("backend", EXAMPLES, indirect=True)
def test_documents_changes_and_idempotency_keys(backend: Backend, request: pytest.FixtureRequest) -> None:
    """Each has its own, whichever process and store it comes from."""
    examples = EXAMPLES[request.node.callspec.params["backend"]]
    profile(examples)(given(strangers())(lambda crowd: check_documents(backend, crowd)))()


@pytest.mark.parametrize("backend", ["memory", "postgres"], indirect=True)
def test_streams(backend: Backend) -> None:
    """A change is told to all sessions of its subject, and to nobody else's: over Redis, too."""

    async def check(crowd: list[Subject]) -> None:
        process = Process(backend.repository, backend.caches[0], backend.notifier)
        async with process.listening(), AsyncExitStack() as stack:
            sessions = Sessions(process.hub, process.clock)
            clients = [Client() for _ in crowd]
            for subject, client in zip(crowd, clients, strict=True):
                await stack.enter_async_context(connected(sessions, subject, client))
            for subject, client in zip(crowd, clients, strict=True):
                await in_step(process, subject, client)
            told = [len(client.heard) for client in clients]
            for number, (subject, client) in enumerate(zip(crowd, clients, strict=True)):
                await process.put("plugins", {"turn": next(_turns)}, subject)
                await in_step(process, subject, client)
                told[number] += 1
                assert [len(one.heard) for one in clients] == told

    profile(20)(given(strangers())(lambda crowd: backend.run(check(crowd))))()


# --- Tickets and limits -----------------------------------------------------------------------------------------------


@pytest.fixture
def stores(backend: Backend, request: pytest.FixtureRequest) -> Iterator[tuple[TicketStore, RateLimiter]]:
    """Where tickets are kept and requests counted beside a backend."""
    rate = Rate(4, 3_600)
    kind = request.node.callspec.params["backend"]
    if kind == "memory":
        yield MemoryTickets(FakeClock()), MemoryRateLimiter(rate, FakeClock())
        return
    repository = backend.repository
    assert isinstance(repository, SqlAlchemyRepository)
    if kind == "sqlite":
        yield SqlAlchemyTickets(repository), MemoryRateLimiter(rate)
        return
    link = patient_link(request.getfixturevalue("redis_url"), request.getfixturevalue("redis_prefix"))
    tickets, limiter = RedisTickets(link), LimitsRateLimiter(rate, link)
    for part in (tickets, limiter):
        backend.run(part.__aenter__())
    yield tickets, limiter
    for part in (limiter, tickets):
        backend.run(part.__aexit__(None, None, None))


@pytest.mark.parametrize("backend", ["memory", "sqlite", "postgres"], indirect=True)
def test_tickets(backend: Backend, stores: tuple[TicketStore, RateLimiter]) -> None:
    """A ticket speaks for whom it was issued to, and once."""
    store, limiter = stores
    admission = Admission(None, Quotas.of(limiter, {}), store, FakeClock())

    async def check(crowd: list[Subject]) -> None:
        who = [
            Identity(subject, frozenset({subject.key, subject.user}), 2e9 + n)
            for n, subject in enumerate(crowd)
        ]
        tickets = [await admission.issue_ticket(identity) for identity in who]
        for identity, ticket in reversed([*zip(who, tickets, strict=True)]):
            assert await admission.redeem(ticket, "address", []) == identity
            with pytest.raises((UnauthenticatedError, RateLimitedError)):
                await admission.redeem(ticket, "address", [])

    profile(25)(given(strangers())(lambda crowd: backend.run(check(crowd))))()


@pytest.mark.parametrize("backend", ["memory", "postgres"], indirect=True)
def test_limits(backend: Backend, stores: tuple[TicketStore, RateLimiter]) -> None:
    """What one uses up is nobody else's, whatever it is used up for; nor is it an address's that is spelled alike."""
    _, limiter = stores
    used: dict[tuple[str, str], int] = {}
    quotas = Quotas.of(limiter, {"writes": limiter, "streams": limiter})

    async def check(crowd: list[Subject]) -> None:
        for number, subject in enumerate(crowd):
            for name in ("reads", "writes", "streams", "failures")[number % 2 :: 2]:
                whom = subject.user if name == "failures" else subject.key
                before = used.get((name, whom), 0)
                if before == limiter.rate.limit:
                    with pytest.raises(RateLimitedError):
                        await getattr(quotas, name).count(whom, [])
                    continue
                headers: list[tuple[bytes, bytes]] = []
                await getattr(quotas, name).count(whom, headers)
                used[name, whom] = before + 1
                left = limiter.rate.limit - used[name, whom]
                assert b";r=%d;" % left in dict(headers)[b"ratelimit"]

    profile(40)(given(strangers())(lambda crowd: backend.run(check(crowd))))()


# --- Tokens -----------------------------------------------------------------------------------------------------------

CLOCK: Final = FakeClock()


def minted(issuer: str, subject: Subject) -> str:
    """Return a token by an issuer for one of its own."""
    mint = TokenMint("HS256", hmac_sha256(f"{SECRET} {issuer}"), now=lambda: CLOCK.now() / 1000)
    claims = {"iss": f"https://{issuer}.example", "sub": subject.user, "org": subject.tenant or ...}
    return mint.token(**claims, aud=...)


def verifier_of(issuer: str, *, has_tenants: bool) -> JwtVerifier:
    """Return what verifies an issuer's tokens."""
    claim = "org" if has_tenants else None
    return JwtVerifier(
        f"{SECRET} {issuer}", issuer=f"https://{issuer}.example", tenant_claim=claim, clock=CLOCK
    )


def subject_of(verifier: JwtVerifier | IssuersVerifier, token: str) -> Subject | None:
    """Return whom a token speaks for; ``None`` where it is refused. Nothing has to be waited for."""
    try:
        verifier.verify(token).send(None)
    except StopIteration as done:
        identity: Identity = done.value
        return identity.subject
    except UnauthenticatedError:
        return None
    raise AssertionError("it waits for something")


@profile(25)
@given(crowds())
def test_remembered_and_revoked_tokens(crowd: list[Subject]) -> None:
    """A token that was remembered speaks for its own subject; revoking one subject's refuses nobody else's."""
    verifier = verifier_of("one", has_tenants=True)
    crowd = [subject for subject in crowd if subject.tenant is not None]
    tokens = [minted("one", subject) for subject in crowd]
    for _ in range(2):
        assert [subject_of(verifier, token) for token in tokens] == crowd
    verifier.revoke(subject=crowd[0])
    verifier.revoke(token=tokens[-1])
    refused = {crowd[0], crowd[-1]}
    assert [subject_of(verifier, token) for token in tokens] == [
        None if subject in refused else subject for subject in crowd
    ]


@profile(25)
@given(crowds(), st.sampled_from(["two", "t", "a-b"]))
def test_issuers(crowd: list[Subject], name: str) -> None:
    """The same ``sub`` by two issuers is two subjects, with tenants and without, however tenants are called."""
    crowd += [Subject("x", f"{name}:y"), Subject("x", "y"), Subject("x", name), Subject("x", f"{name}:")]
    for has_tenants in (True, False):
        some = {
            Subject(s.user, s.tenant if has_tenants else None) for s in crowd if s.tenant or not has_tenants
        }
        several = IssuersVerifier(
            {
                "": verifier_of("one", has_tenants=has_tenants),
                name: verifier_of("two", has_tenants=has_tenants),
                "third": verifier_of("three", has_tenants=has_tenants),
            }
        )
        seen: dict[Subject, tuple[str, Subject]] = {}
        for issuer in ("one", "two", "three"):
            for theirs in some:
                ours = subject_of(several, minted(issuer, theirs))
                assert ours is None or seen.setdefault(ours, (issuer, theirs)) == (issuer, theirs)
                assert ours is not None or theirs.tenant is not None, "refused without a reason"
