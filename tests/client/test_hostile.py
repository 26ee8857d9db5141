"""What both clients do when the server is slow, busy, away or no prefsync server at all."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
import pytest

from prefsync.client import RefusedError, Timing, UnexpectedAnswerError, UnreachableError
from prefsync.errors import ConfigurationError
from tests.client.scripted import Asked, Scripted, document, problem, respond
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.client.conftest import Prefs

pytestmark = [pytest.mark.anyio, pytest.mark.once]

JSON = {"Content-Type": "application/json"}

RUBBISH = {
    "a page": (respond(200, b"<html>Sign in</html>"), "text/html"),
    "an error page": (respond(500, b"<html>Oops</html>"), "status 500"),
    "a refusal by a firewall": (respond(403, b"<html>No</html>"), "status 403"),
    "a redirect": (respond(302, b"", {"Location": "/login?back=secret"}), "a redirect to '/login'"),
    "nothing": (respond(204, b""), "status 204"),
    "no JSON": (respond(200, b"{", JSON), "broken JSON"),
    "no UTF-8": (respond(200, b'{"a":"\xff"}', JSON), "broken JSON"),
    "JSON of another kind": (respond(200, b"[]", JSON), "no object"),
    "JSON of another service": (respond(200, {"status": "ok"}), "no document"),
    "a revision that is none": (respond(200, {"revision": True, "schema": "a", "values": {}}), "'revision'"),
    "values that are none": (respond(200, {"revision": 1, "schema": "a", "values": {"a": 1}}), "namespace"),
    "no tag": (respond(200, {"revision": 1, "schema": "a", "values": {}}), "ETag"),
    "a problem of another form": (respond(422, {"type": "a", "title": "b", "errors": [1]}), "status 422"),
    "a problem of another type": (respond(400, {"type": 1}), "status 400"),
    "deep JSON": (respond(200, b"[" * 100_000, JSON), "broken JSON"),
}


@pytest.mark.parametrize("case", RUBBISH)
async def test_rubbish(case: str, connect: Callable[..., Prefs]) -> None:
    """What is no answer of the protocol is an error at once, which names what came and does not repeat secrets."""
    raw, words = RUBBISH[case]

    async def answer(asked: Asked) -> None:
        await asked.send(raw)

    async with Scripted(answer) as server:
        prefs = connect(server.url)
        with pytest.raises(UnexpectedAnswerError) as caught:
            await prefs.get()
        assert words in str(caught.value)
        assert "secret" not in str(caught.value)
        with pytest.raises(UnexpectedAnswerError):
            await prefs.patch("plugins", {})
        assert len(server.asked) == 2


async def test_retry_after(connect: Callable[..., Prefs]) -> None:
    """A busy server is asked again when it said, and a write carries one idempotency key all along."""

    async def answer(asked: Asked) -> None:
        if asked.number == 0:
            await asked.send(problem(429, "rate-limited", {"Retry-After": "1"}))
        elif asked.number == 1:
            until = {"Date": "Mon, 23 Nov 2020 10:00:00 GMT", "Retry-After": "Mon, 23 Nov 2020 10:00:01 GMT"}
            await asked.send(problem(503, "unavailable", until))
        else:
            await asked.send(document())

    async with Scripted(answer) as server:
        started = time.monotonic()
        await connect(server.url).patch_all({"plugins": {"n": 7}})
        assert time.monotonic() - started >= 2
        assert len(server.asked) == 3
        assert len({asked.headers["idempotency-key"] for asked in server.asked}) == 1
        assert len({asked.body for asked in server.asked}) == 1


async def test_patience_has_an_end(connect: Callable[..., Prefs]) -> None:
    """Where the wait would go beyond the time limit, the refusal is raised at once, with the wait."""

    async def answer(asked: Asked) -> None:
        await asked.send(problem(503, "unavailable", {"Retry-After": "60"}))

    async with Scripted(answer) as server:
        with pytest.raises(RefusedError) as caught:
            await connect(server.url).get()
        assert (caught.value.status, caught.value.retry_after) == (503, 60)
        assert len(server.asked) == 1


async def test_gateways_are_tried_again(connect: Callable[..., Prefs]) -> None:
    """While a proxy cannot reach the server, and says so in HTML, the request is repeated."""

    async def answer(asked: Asked) -> None:
        await asked.send(respond([502, 504, 200][asked.number], b"") if asked.number < 2 else document())

    async with Scripted(answer) as server:
        assert await connect(server.url).get() == {"plugins": {"n": 7}}


async def test_broken_connections_are_tried_again(connect: Callable[..., Prefs]) -> None:
    """Answers that break off, before or in their bodies, do not make a second write."""

    async def answer(asked: Asked) -> None:
        await asked.send([b"", b"HTTP/1.1 200 OK\r\nContent-", document()[:-9], document()][asked.number])

    async with Scripted(answer) as server:
        state = await connect(server.url).set_all({"plugins": {"n": 7}})
        assert state.revision == 7
        assert len({asked.headers["idempotency-key"] for asked in server.asked}) == 1


async def drip(asked: Asked, data: bytes) -> None:
    """Send byte after byte, for longer than anybody waits."""
    for byte in data * 100:
        await asked.send(bytes([byte]))
        await anyio.sleep(0.05)


async def silent(asked: Asked) -> None:
    """Answer nothing."""
    await asked.hang()


async def slow_head(asked: Asked) -> None:
    """Send headers without end."""
    await asked.send(b"HTTP/1.1 200 OK\r\n")
    await drip(asked, b"X-A: b\r\n")


async def slow_body(asked: Asked) -> None:
    """Send a body without end."""
    await asked.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    await drip(asked, b"        ")


@pytest.mark.parametrize("answer", [silent, slow_head, slow_body])
async def test_time_limits_hold(answer: Callable[[Asked], object], connect: Callable[..., Prefs]) -> None:
    """However slowly a server answers, a call ends by its time limit, and says which write it leaves in doubt."""
    async with Scripted(answer) as server:  # type: ignore[arg-type]
        prefs = connect(server.url)
        started = time.monotonic()
        with pytest.raises(UnreachableError) as caught:
            await prefs.patch("plugins", {}, time_limit=0.4)
        assert time.monotonic() - started < 3
        assert caught.value.idempotency_key == server.asked[0].headers["idempotency-key"]


async def test_nobody_there(connect: Callable[..., Prefs]) -> None:
    """Where nobody listens, it is tried for as long as the limit lasts, and the error says why it failed."""
    started = time.monotonic()
    with pytest.raises(UnreachableError, match="Connect") as caught:
        await connect(f"http://127.0.0.1:{free_port()}/preferences").get(time_limit=0.6)
    assert time.monotonic() - started < 3
    assert caught.value.__cause__ is not None


async def test_a_hung_attempt_is_given_up(connect: Callable[..., Prefs]) -> None:
    """One attempt that hangs does not use up the whole time limit."""

    async def answer(asked: Asked) -> None:
        await (asked.hang() if asked.number == 0 else asked.send(document()))

    async with Scripted(answer) as server:
        prefs = connect(server.url, timing=Timing(attempt=0.3))
        assert await prefs.get() == {"plugins": {"n": 7}}


async def test_tokens_are_renewed_once(connect: Callable[..., Prefs]) -> None:
    """A rejected token is asked for again, the new one is kept, and a second rejection is the caller's to see."""
    given: list[str] = []

    def token() -> str:
        given.append(f"token-{len(given)}")
        return given[-1]

    async def answer(asked: Asked) -> None:
        is_good = asked.headers["authorization"] == "Bearer token-1" and asked.number < 4
        await asked.send(document() if is_good else problem(401, "unauthenticated"))

    async with Scripted(answer) as server:
        prefs = connect(server.url, token)
        await prefs.get()
        await prefs.get()
        await prefs.get()
        assert given == ["token-0", "token-1"]
        with pytest.raises(RefusedError) as caught:
            await prefs.get()
        assert caught.value.status == 401
        assert given == ["token-0", "token-1", "token-2"]


async def test_tokens_are_kept_to_themselves(
    connect: Callable[..., Prefs], caplog: pytest.LogCaptureFixture
) -> None:
    """A token is in the header, and in no URL, message, log line or repr."""
    caplog.set_level("DEBUG")

    async def answer(asked: Asked) -> None:
        await asked.send([problem(503, "unavailable"), problem(401, "unauthenticated")][min(asked.number, 1)])

    async with Scripted(answer) as server:
        prefs = connect(server.url, "hush-hush")
        with pytest.raises(RefusedError) as caught:
            await prefs.get()
        assert all(asked.headers["authorization"] == "Bearer hush-hush" for asked in server.asked)
        shown = [repr(prefs.client), str(caught.value), repr(caught.value), caplog.text]
        shown += [asked.path + repr(asked.query) for asked in server.asked]
        assert "hush" not in "".join(shown)


@pytest.mark.parametrize("bad", ["", "two words", "line\r\nbreak", "ä", 7, "x" * 9_000])
async def test_tokens_that_cannot_be(bad: object, connect: Callable[..., Prefs]) -> None:
    """A token that would not fit into its header is refused, unseen, wherever it comes from."""
    for token in (bad, lambda: bad):
        with pytest.raises(ConfigurationError, match="a token is") as caught:
            await connect("http://127.0.0.1:9/preferences", token).get()
        assert not bad or len(str(bad)) < 3 or str(bad) not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "app.example.com",
        "ftp://app.example.com",
        "https://",
        "https://a:99999/p",
        "https://[::1/p",
        "https://a/p q",
        "https://a/p\n",
        "https://user:pw@app.example.com/p",
        "https://a/p?token=x",
        "https://a/p#x",
    ],
)
async def test_urls_that_cannot_be(url: str, connect: Callable[..., Prefs]) -> None:
    """A URL with credentials, a query or nothing to connect to is refused at once."""
    with pytest.raises(ConfigurationError):
        connect(url)


async def test_errors_of_the_callable_are_the_callers(connect: Callable[..., Prefs]) -> None:
    """What the callable raises reaches the caller as it is."""

    def token() -> str:
        raise KeyError("vault")

    with pytest.raises(KeyError, match="vault"):
        await connect("http://127.0.0.1:9/preferences", token).get()


async def test_reads_are_no_older_than_what_was_seen(connect: Callable[..., Prefs]) -> None:
    """Reads name the newest revision seen; a server that has lost it is taken as it is, once it has said so."""

    async def answer(asked: Asked) -> None:
        if asked.headers.get("prefsync-min-revision", "0") == "9":
            await asked.send(problem(412, "precondition-failed"))
        else:
            await asked.send(document(9 if asked.number == 0 else 5))

    async with Scripted(answer) as server:
        prefs = connect(server.url)
        await prefs.set_all({"plugins": {"n": 9}})
        assert (await prefs.read()).revision == 5
        await prefs.read()
        floors = [asked.headers.get("prefsync-min-revision") for asked in server.asked]
        assert floors == [None, "9", None, "5"]


async def test_closed(connect: Callable[..., Prefs]) -> None:
    """A closed client says so; closing it again does nothing."""
    prefs = connect("http://127.0.0.1:9/preferences")
    await prefs.close()
    await prefs.close()
    with pytest.raises(RuntimeError, match="closed"):
        await prefs.get()
