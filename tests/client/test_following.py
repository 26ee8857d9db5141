"""How both clients' watches get over what happens to streams."""

from __future__ import annotations

import contextlib
import itertools
import time
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest

from prefsync.client import (
    AsyncPreferencesClient,
    Change,
    PreferencesClient,
    RefusedError,
    Reset,
    Timing,
    UnexpectedAnswerError,
)
from tests.client.conftest import PATIENCE, Prefs, settings, token_for
from tests.client.scripted import (
    SCHEMA,
    Asked,
    Scripted,
    change,
    event,
    page,
    problem,
    reset,
    reset_page,
    respond,
    stream_head,
)
from tests.http.conftest import EXAMPLES, uvicorn_process
from tests.servers import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.client.conftest import Events

pytestmark = [pytest.mark.anyio, pytest.mark.once]

QUICK = Timing(first_byte=0.5, silence=0.5, poll=5, probe=1.0, most_rest=0.2)


async def revisions(events: Events, count: int) -> list[int]:
    """Return the revisions of the next events."""
    found = [await events.next() for _ in range(count)]
    return [each.revision for each in found if each is not None]


async def test_resumes_after_a_restart(tmp_path: Path, user: str) -> None:
    """Watches survive their server's restart, miss nothing that was written meanwhile and tell nothing twice."""
    async with contextlib.AsyncExitStack() as stack:
        server = stack.enter_context(uvicorn_process(settings(tmp_path)))
        url = f"{server.url}/preferences"
        clients = [
            Prefs(kind(url, token_for(user), timing=QUICK))
            for kind in (AsyncPreferencesClient, PreferencesClient)
        ]
        for client in clients:
            stack.push_async_callback(client.close)
        watches = [await stack.enter_async_context(client.watching()) for client in clients]
        for events in watches:
            assert isinstance(await events.next(), Reset)
        before = (await clients[0].patch("plugins", {"n": 0})).revision
        for events in watches:
            assert await revisions(events, 1) == [before]
        await anyio.to_thread.run_sync(server.kill)
        again = ServerProcess(
            server._command, server._env, path="/preferences", port=server.port, cwd=EXAMPLES
        )
        stack.enter_context(again)
        wrote = [(await clients[1].patch("plugins", {"n": number})).revision for number in range(1, 4)]
        for events in watches:
            told = await revisions(events, 1)
            while told[-1] < wrote[-1]:
                told += await revisions(events, 1)
            assert told == sorted(set(told))
            assert set(told) <= set(wrote)


async def test_goes_on_when_the_token_expires(
    server: ServerProcess, user: str, connect: Callable[..., Prefs]
) -> None:
    """Where the server ends the stream because its token has expired, the watch gets another and goes on."""
    given: list[str] = []

    def token() -> str:
        given.append(token_for(user, life=1))
        return given[-1]

    url = f"{server.url}/preferences"
    prefs, other = connect(url, token), connect(url, token_for(user))
    async with prefs.watching() as events:
        await events.next()
        with anyio.fail_after(PATIENCE):
            while len(given) < 2:
                wrote = (await other.patch("plugins", {"n": time.time()})).revision
                assert await revisions(events, 1) == [wrote]
        assert len(given) == 2


async def test_a_bad_token_ends_a_watch(prefs: Prefs, connect: Callable[..., Prefs]) -> None:
    """A watch whose token is rejected, and whose next one is too, says so and ends."""
    count = itertools.count()
    stranger = connect(prefs.client._core.url, lambda: f"not.a.token{next(count)}")
    async with stranger.watching() as events:
        with pytest.raises(RefusedError) as caught:
            await events.next()
        assert caught.value.status == 401
        assert await events.next() is None
    assert next(count) == 2


async def test_a_silent_stream_is_cut_and_resumed(connect: Callable[..., Prefs]) -> None:
    """A stream without a byte for too long is left, and the next one goes on after its last event, by its schema."""

    async def answer(asked: Asked) -> None:
        await asked.send(stream_head())
        if asked.number == 0:
            await asked.send(b"retry: 10\n\n" + event("reset", reset(5)) + event("change", change(6, 5)))
        else:
            await asked.send(event("change", change(7, 6)))
        await asked.hang()

    async with Scripted(answer) as server:
        async with connect(server.url, timing=QUICK).watching() as events:
            assert await revisions(events, 3) == [5, 6, 7]
        first, second = server.asked
        assert first.query == {}
        assert "last-event-id" not in first.headers
        assert (second.path, second.query) == ("/events", {"schema": SCHEMA})
        assert second.headers["last-event-id"] == "6"


async def test_farewells(connect: Callable[..., Prefs]) -> None:
    """After a farewell the watch joins again where it was: with another token where that had expired."""
    count = itertools.count()

    async def answer(asked: Asked) -> None:
        await asked.send(stream_head() + b"retry: 10\n\n")
        if asked.number == 0:
            await asked.send(event("reset", reset(5)) + event("bye", {"reason": "token-expired"}))
        elif asked.number < 3:
            number = 5 + asked.number
            await asked.send(
                event("change", change(number, number - 1)) + event("bye", {"reason": "going-away"})
            )
        else:
            await asked.send(event("change", change(8, 7)))
            await asked.hang()

    async with Scripted(answer) as server:
        prefs = connect(server.url, lambda: f"token-{next(count)}", timing=QUICK)
        async with prefs.watching() as events:
            assert await revisions(events, 4) == [5, 6, 7, 8]
        tokens = [asked.headers["authorization"] for asked in server.asked]
        assert tokens == ["Bearer token-0", *["Bearer token-1"] * 3]
        assert [asked.headers.get("last-event-id") for asked in server.asked] == [None, "5", "6", "7"]


async def test_closing_ends_the_connection_at_once(connect: Callable[..., Prefs]) -> None:
    """Closing a watch hangs up, also while somebody waits for its next event, who is told that there are no more."""

    async def answer(asked: Asked) -> None:
        await asked.send(stream_head() + event("reset", reset(5)))
        await asked.hang()

    async with Scripted(answer) as server:
        async with connect(server.url).watching() as events:
            await events.next()
            ended: list[object] = []

            async def wait() -> None:
                ended.append(await events.next())

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await anyio.sleep(0.1)
                started = time.monotonic()
                await events.close()
                with anyio.fail_after(PATIENCE):
                    await server.hung_up.wait()
            assert ended == [None]
            assert time.monotonic() - started < 5


async def held_back(asked: Asked) -> None:
    """Let nothing through."""
    await asked.hang()


async def head_only(asked: Asked) -> None:
    """Let the head through, and hold the events back."""
    await asked.send(stream_head())
    await asked.hang()


async def no_stream(asked: Asked) -> None:
    """Answer with a page."""
    await asked.send(respond(200, b"<html>no</html>"))


async def forbidden(asked: Asked) -> None:
    """Refuse in a proxy's own way."""
    await asked.send(respond(501, b""))


async def too_many(asked: Asked) -> None:
    """Refuse as a server at its cap does."""
    await asked.send(problem(503, "unavailable", {"Retry-After": "1"}))


async def cut_off(asked: Asked) -> None:
    """Hang up before the first event."""
    await asked.send(stream_head())


@pytest.mark.parametrize("blocked", [held_back, head_only, no_stream, forbidden, too_many, cut_off])
async def test_falls_back_to_long_polls(
    blocked: Callable[[Asked], Any], connect: Callable[..., Prefs]
) -> None:
    """Where a proxy holds streams back or refuses them, long polls bring the changes, until streams work again."""
    polls = itertools.count()

    async def answer(asked: Asked) -> None:
        if asked.path == "/events":
            if next(polls) < 3:  # taken here too, so that a poll comes before the stream works
                await blocked(asked)
            else:
                await asked.send(stream_head() + event("change", change(8, 7)))
                await asked.hang()
            return
        assert asked.path == "/changes"
        number = next(polls)
        if asked.query["schema"] != SCHEMA:
            await asked.send(reset_page(5))
        elif asked.query["since"] == "5":
            await asked.send(page(7, change(6, 5), change(7, 6)))
        else:
            assert asked.query["since"] == "7", number
            await anyio.sleep(0.2)
            await asked.send(page(7))

    async with Scripted(answer) as server:
        async with connect(server.url, timing=QUICK).watching() as events:
            assert await revisions(events, 4) == [5, 6, 7, 8]
        streams = [asked for asked in server.asked if asked.path == "/events"]
        assert "last-event-id" not in streams[0].headers
        assert streams[-1].headers["last-event-id"] == "7"


async def test_a_break_joins_again(connect: Callable[..., Prefs]) -> None:
    """A change whose ``previous`` is not the last one told is not told; what was missed is fetched, or reset."""

    async def answer(asked: Asked) -> None:
        await asked.send(stream_head())
        match asked.number:
            case 0:
                await asked.send(event("reset", reset(5)) + event("change", change(9, 7)))
            case 1:
                await asked.send(event("change", change(7, 5)) + event("change", change(7, 5)))
                await asked.send(event("change", change(9, 8)))
            case 2:
                await asked.send(event("change", change(9, 8)))
            case _:
                await asked.send(event("reset", reset(9)) + event("reset", reset(9)))
                await asked.send(event("change", change(6, 5)) + event("change", change(10, 9)))
        await asked.hang()

    async with Scripted(answer) as server:
        async with connect(server.url, timing=QUICK).watching() as events:
            assert await revisions(events, 4) == [5, 7, 9, 10]
        assert [asked.headers.get("last-event-id") for asked in server.asked] == [None, "5", "7", None]


async def test_only_a_reset_goes_back(connect: Callable[..., Prefs]) -> None:
    """A reset to a lower revision, as after a restored backup, is told, and the watch goes on from there."""

    async def answer(asked: Asked) -> None:
        await asked.send(stream_head() + event("reset", reset(9)) + event("reset", reset(4)))
        await asked.send(event("change", change(5, 4)) + event("new-thing", {"a": 1}))
        await asked.hang()

    async with Scripted(answer) as server, connect(server.url).watching() as events:
        assert await revisions(events, 3) == [9, 4, 5]


async def test_waits_as_told(connect: Callable[..., Prefs]) -> None:
    """A watch heeds ``Retry-After`` and gateways' refusals, and then goes on."""
    times: list[float] = []

    async def answer(asked: Asked) -> None:
        times.append(time.monotonic())
        if asked.number == 0:
            await asked.send(problem(429, "rate-limited", {"Retry-After": "1"}))
        elif asked.number == 1:
            await asked.send(respond(502, b"<html>"))
        else:
            await asked.send(stream_head() + event("reset", reset(5)))
            await asked.hang()

    async with Scripted(answer) as server, connect(server.url, timing=QUICK).watching() as events:
        assert await revisions(events, 1) == [5]
        assert times[1] - times[0] >= 1


@pytest.mark.parametrize(
    "raw",
    [
        event("reset", {"revision": 5}),
        event("change", {**change(5, 4), "at": "yesterday"}),
        event("change", {**change(5, 4), "removed": {"plugins": "a"}}),
        event("change", {**change(5, 4), "origin": 1}),
        b"event: reset\ndata: []\n\n",
        b"event: change\ndata: {\n\n",
        b"event: bye\ndata: {}\n\n",
    ],
)
async def test_rubbish_events(raw: bytes, connect: Callable[..., Prefs]) -> None:
    """An event that is not what its name says ends the watch with an error that names it."""

    async def answer(asked: Asked) -> None:
        await asked.send(stream_head() + raw)
        await asked.hang()

    async with Scripted(answer) as server, connect(server.url).watching() as events:
        with pytest.raises(UnexpectedAnswerError, match="event '(reset|change|bye)'"):
            await events.next()
        assert await events.next() is None


async def test_rubbish_in_place_of_both(connect: Callable[..., Prefs]) -> None:
    """Where neither stream nor poll is answered by a prefsync server, the watch says what came."""

    async def answer(asked: Asked) -> None:
        await asked.send(respond(200, b"<html>Sign in</html>"))

    async with Scripted(answer) as server, connect(server.url).watching() as events:
        with pytest.raises(UnexpectedAnswerError, match="text/html"):
            await events.next()


async def test_a_poll_that_does_not_wait_is_no_storm(connect: Callable[..., Prefs]) -> None:
    """Where something answers long polls at once, they are made at a pause all the same."""

    async def answer(asked: Asked) -> None:
        await asked.send(respond(404, b"") if asked.path == "/events" else page(5))

    async with Scripted(answer) as server:
        async with connect(server.url).watching(5, schema=SCHEMA, time_limit=2) as events:
            assert await events.next() is None
        assert len(server.asked) < 20


async def test_a_change_is_applied() -> None:
    """``apply`` leaves its argument as it was, and shares nothing with the event."""
    told = Change(2, 1, None, None, {"a": {"l": [1]}}, {"b": ("x", "y")})  # type: ignore[arg-type]
    before = {"a": {"k": 1}, "b": {"x": 1}}
    after = told.apply(before)
    assert (before, after) == ({"a": {"k": 1}, "b": {"x": 1}}, {"a": {"k": 1, "l": [1]}, "b": {}})
    after["a"]["l"].append(2)
    assert told.changed == {"a": {"l": [1]}}
