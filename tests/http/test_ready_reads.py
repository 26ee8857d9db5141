"""Reads that are answered at once, of a near cache, are what all other reads are."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import anyio
import pytest
from limits.aio.storage import MemoryStorage

from prefsync import Identity, Parts, Preferences, Rate, Runtime, Settings, Subject
from prefsync.adapters.jwt import JwtVerifier
from prefsync.adapters.limits import LimitsRateLimiter
from prefsync.errors import UnauthenticatedError
from prefsync.http.messages import HttpRequest, HttpResponse
from prefsync.ports import Permit
from prefsync.testing.mount import KEY
from prefsync.testing.mount.callers import BOTH, mint
from prefsync.testing.samples import PATIENCE, fresh_subject

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

LIMIT = 1_000_000


class Appearance(Preferences, namespace="appearance"):
    """A namespace."""

    theme: str = "system"


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    """A process with a near cache and with permits at hand."""
    limiter = LimitsRateLimiter(Rate(LIMIT, 60), MemoryStorage(wrap_exceptions=True))
    settings = Settings(database_url="sqlite:///:memory:", near_cache=2**20, jwt_key=KEY)
    async with Runtime([Appearance], settings=settings, parts=Parts(limiter=limiter)) as opened:
        yield opened


@pytest.fixture
def subject() -> Subject:
    """Somebody."""
    return fresh_subject()


def token_of(subject: Subject, **claims: Any) -> str:
    """Return a token."""
    return mint({"sub": subject.user, "exp": int(time.time()) + 600, "scope": BOTH, **claims}, key=KEY)


def request(
    token: str, method: str = "GET", path: str = "", query: bytes = b"", **headers: str
) -> HttpRequest:
    """Return a request without a body."""

    async def read(_: int) -> bytes:
        await anyio.lowlevel.checkpoint()
        return b""

    given = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    authorization = {b"authorization": b"Bearer " + token.encode()}
    return HttpRequest(
        method, path, query, {**authorization, **given}, "192.0.2.1", read, anyio.sleep_forever
    )


def ready(runtime: Runtime, asked: HttpRequest) -> HttpResponse | None:
    """Return what is answered without asking anybody, if anything is."""
    return runtime.api.reader.ready(asked)


async def warm(runtime: Runtime, asked: HttpRequest) -> None:
    """Ask until it is answered at once."""
    with anyio.fail_after(PATIENCE):
        while ready(runtime, asked) is None:
            await runtime.api.handle(asked)


def shown(response: HttpResponse) -> object:
    """Return an answer less what counts down."""
    return response.status, response.body, [pair for pair in response.headers if pair[0] != b"ratelimit"]


@pytest.mark.parametrize("path", ["", "/", "/appearance"])
async def test_it_is_the_same_answer(runtime: Runtime, subject: Subject, path: str) -> None:
    """Status, headers and body are those of the long way; and one more request is counted."""
    asked = request(token_of(subject), path=path, accept_encoding="gzip")
    await runtime.handle(subject).update(Appearance, theme="dark")
    await warm(runtime, asked)
    at_once = ready(runtime, asked)
    assert at_once is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime.api.reader, "ready", lambda _: None)
        by_the_long_way = await runtime.api.handle(asked)
    assert shown(at_once) == shown(by_the_long_way)
    left = [
        int(dict(one.headers)[b"ratelimit"].split(b"r=")[1].split(b";")[0])
        for one in (at_once, by_the_long_way)
    ]
    assert left[0] - left[1] == 1


async def test_a_state_that_the_client_has(runtime: Runtime, subject: Subject) -> None:
    """``If-None-Match`` is answered with 304 at once."""
    await warm(runtime, request(token_of(subject)))
    etag = dict((await runtime.api.handle(request(token_of(subject)))).headers)[b"etag"].decode()
    answer = ready(runtime, request(token_of(subject), if_none_match=etag))
    assert answer is not None
    assert (answer.status, answer.body) == (304, b"")


async def test_nothing_is_asked(runtime: Runtime, subject: Subject) -> None:
    """Neither cache nor database nor the shared count is asked, as long as there is a permit."""
    asked = request(token_of(subject))
    await warm(runtime, asked)

    def asks(*_: object) -> Any:
        raise AssertionError

    with pytest.MonkeyPatch.context() as patch:
        for part, name in (
            (runtime.cache, "get"),
            (runtime.repository, "load"),
            (runtime.limiter, "acquire"),
        ):
            patch.setattr(part, name, asks)
        for _ in range(10):
            assert (await runtime.api.handle(asked)).status == 200


@pytest.mark.parametrize(
    ("what", "status"),
    [
        ({"method": "HEAD"}, 200),
        ({"method": "DELETE"}, 200),
        ({"path": "/nothing"}, 404),
        ({"path": "/schema"}, 200),
        ({"query": b"access_token=x"}, 400),
        ({"if_none_match": "what is no tag"}, 400),
        ({"if_none_match": '"another"'}, 200),
        ({"if_none_match": "*"}, 304),
        ({"if_match": '"another"'}, 412),
        ({"prefsync_min_revision": "0"}, 200),
        ({"prefsync_min_revision": "no number"}, 400),
        ({"authorization": "bearer nonsense"}, 401),
        ({"authorization": "Basic YTpi"}, 401),
    ],
)
async def test_all_else_goes_the_long_way(
    runtime: Runtime, subject: Subject, what: dict[str, Any], status: int
) -> None:
    """What is more than a plain read is decided where it always was."""
    await warm(runtime, request(token_of(subject)))
    asked = request(token_of(subject), **what)
    assert ready(runtime, asked) is None
    assert (await runtime.api.handle(asked)).status == status


async def test_who_may_not_read(runtime: Runtime, subject: Subject) -> None:
    """A token without the scope is refused, however near its subject is."""
    await warm(runtime, request(token_of(subject)))
    writes = request(token_of(subject, scope=BOTH.split()[1]))
    for _ in range(3):
        assert ready(runtime, writes) is None
        assert (await runtime.api.handle(writes)).status == 403


async def test_a_token_that_was_revoked(runtime: Runtime, subject: Subject) -> None:
    """Revocation holds from the next request on."""
    asked = request(token_of(subject))
    await warm(runtime, asked)
    runtime.revoke(subject=subject)
    assert ready(runtime, asked) is None
    assert (await runtime.api.handle(asked)).status == 401


async def test_a_token_that_runs_out(
    runtime: Runtime, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A remembered token is good no longer than any other."""
    asked = request(token_of(subject))
    await warm(runtime, asked)
    now = runtime._clock.now()
    monkeypatch.setattr(runtime._clock, "now", lambda: now + 3_600_000)
    assert ready(runtime, asked) is None
    assert (await runtime.api.handle(asked)).status == 401


async def test_where_https_is_required(subject: Subject) -> None:
    """What came encrypted is answered at once and told to stay so, each time once; what did not is refused."""
    settings = Settings(
        database_url="sqlite:///:memory:", near_cache=2**20, jwt_key=KEY, require_https=True, hsts_max_age=60
    )
    async with Runtime([Appearance], settings=settings) as runtime:
        asked = request(token_of(subject))
        asked.is_encrypted = True
        await warm(runtime, asked)
        for _ in range(3):
            answer = ready(runtime, asked)
            assert answer is not None
            assert [name for name, _ in answer.headers].count(b"strict-transport-security") == 1
            assert [name for name, _ in answer.headers].count(b"ratelimit") == 1
        asked.is_encrypted = False
        assert ready(runtime, asked) is None
        assert (await runtime.api.handle(asked)).status == 403


async def test_two_subjects(runtime: Runtime) -> None:
    """Each gets his own, whoever was asked for before."""
    people = [fresh_subject() for _ in range(5)]
    for number, person in enumerate(people):
        await runtime.handle(person).update(Appearance, theme=f"of {number}")
        await warm(runtime, request(token_of(person)))
    for _ in range(3):
        for number, person in enumerate(people):
            answer = ready(runtime, request(token_of(person)))
            assert answer is not None
            assert f"of {number}".encode() in answer.body


class _Banning(JwtVerifier):
    """A host's own: looks at more than the token, and calls users otherwise."""

    banned: ClassVar[set[str]] = set()

    async def verify(self, token: str) -> Identity:
        identity = await super().verify(token)
        if identity.subject.user in self.banned:
            raise UnauthenticatedError("banned")
        return replace(identity, subject=Subject(f"own {identity.subject.user}"))


class _Wrapping:
    """The same by a wrapper that lets everything else through."""

    def __init__(self) -> None:
        self._inner = _Banning(KEY)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._inner.__aexit__(None, None, None)

    async def verify(self, token: str) -> Identity:
        return await self._inner.verify(token)


class _Odd(LimitsRateLimiter):
    """Counts in its own way, whatever it has inherited."""

    async def acquire(self, key: str, cost: int = 1) -> Permit:
        del key, cost
        return Permit(allowed=False, remaining=0, reset_after=1)


@pytest.mark.parametrize("kind", [lambda: _Banning(KEY), _Wrapping])
async def test_what_a_host_verifies_itself(subject: Subject, kind: Callable[[], Any]) -> None:
    """A verifier of the host's own is asked each time, although what it is made of remembers tokens."""
    parts = Parts(
        limiter=LimitsRateLimiter(Rate(LIMIT, 60), MemoryStorage(wrap_exceptions=True)), verifier=kind()
    )
    settings = Settings(database_url="sqlite:///:memory:", near_cache=2**20)
    asked = request(token_of(subject))
    async with Runtime([Appearance], settings=settings, parts=parts) as opened:
        await opened.handle(subject).update(Appearance, theme="somebody else's")
        await opened.handle(Subject(f"own {subject.user}")).update(Appearance, theme="own")
        await opened.service.read(subject)  # near, with permits at hand: all that a short way needs
        await opened.limiter.acquire(f"user:{subject.key}")
        for _ in range(3):
            answer = await opened.api.handle(asked)
            assert (answer.status, b'"own"' in answer.body) == (200, True)
        assert ready(opened, asked) is None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_Banning, "banned", {subject.user})
            assert (await opened.api.handle(asked)).status == 401


async def test_what_a_host_counts_itself(subject: Subject) -> None:
    """A limiter of the host's own is asked each time."""
    parts = Parts(limiter=_Odd(Rate(LIMIT, 60), MemoryStorage(wrap_exceptions=True)))
    settings = Settings(database_url="sqlite:///:memory:", near_cache=2**20, jwt_key=KEY)
    async with Runtime([Appearance], settings=settings, parts=parts) as opened:
        await LimitsRateLimiter.acquire(opened.limiter, f"user:{subject.key}")  # type: ignore[arg-type]
        await opened.service.read(subject)
        for _ in range(2):
            assert (await opened.api.handle(request(token_of(subject)))).status == 429
