"""protocol.md, section 3: ``patch``, ``ping`` and what the server answers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from prefsync.testing.mount.callers import READ, WRITE
from prefsync.testing.mount.suite import label
from prefsync.testing.realtime.members import greeted
from prefsync.testing.realtime.suite import RealtimeSuite

if TYPE_CHECKING:
    from prefsync.testing.realtime.members import Member
    from prefsync.testing.realtime.wire import WebSocket

__all__ = ["WritesContract"]


async def _replied(socket: WebSocket) -> dict[str, Any]:
    """Return the next ack or nack, whatever changes come before it."""
    while (told := await socket.hear())["type"] == "change":
        pass
    assert told["type"] in {"ack", "nack"}
    return told


async def _write(socket: WebSocket, key: str, patch: Any, **more: Any) -> dict[str, Any]:
    await socket.say(type="patch", id=key, patch=patch, **more)
    reply = await _replied(socket)
    assert reply["id"] == key
    return reply


def _is_nack(reply: dict[str, Any], status: int, name: str) -> dict[str, Any]:
    """Return the problem of a reply, which must be this refusal."""
    assert reply.keys() == {"type", "id", "problem"}
    assert reply["type"] == "nack"
    problem: dict[str, Any] = reply["problem"]
    assert (problem["status"], problem["type"]) == (status, f"urn:prefsync:problem:{name}")
    assert isinstance(problem["title"], str)
    assert isinstance(problem["detail"], str)
    return problem


class WritesContract(RealtimeSuite):
    """Writes over a WebSocket are those of ``PATCH /``."""

    async def test_a_write(self, me: Member, there: Member) -> None:
        """It is acknowledged with its revision, and told to every session with the client's name, the writer's too."""
        async with me.socket(client="tab-1") as mine, there.socket(client="tab-2") as other:
            await greeted(mine)
            await greeted(other)
            await mine.say(type="patch", id="k1", patch={"appearance": {"theme": "dark"}})
            told = [await mine.hear(), await mine.hear()]
            (ack,) = [one for one in told if one["type"] == "ack"]
            (change,) = [one for one in told if one["type"] == "change"]
            assert ack == {"type": "ack", "id": "k1", "revision": change["revision"]}
            assert (change["origin"], change["changed"]) == ("tab-1", {"appearance": {"theme": "dark"}})
            assert await other.hear() == change
        state = await there.state()
        assert (state["revision"], state["values"]["appearance"]["theme"]) == (ack["revision"], "dark")

    async def test_a_write_that_changes_nothing(self, me: Member) -> None:
        """It is acknowledged with the revision that there is, and no change is told."""
        async with me.socket() as socket:
            await greeted(socket)
            assert await _write(socket, "k1", {}) == {"type": "ack", "id": "k1", "revision": 0}
            revision = (await _write(socket, "k2", {"plugins": {"a": 1}}))["revision"]
            assert (await _write(socket, "k3", {"plugins": {"a": 1}}))["revision"] == revision
            assert (await _write(socket, "k4", {"plugins": {"b": None}}))["revision"] == revision

    async def test_the_same_id_again(self, me: Member, there: Member) -> None:
        """It gives the first ack, even after later writes and on another process, and writes nothing."""
        async with me.socket() as here, there.socket() as far:
            await greeted(here)
            await greeted(far)
            first = await _write(here, "k1", {"plugins": {"a": 1, "b": {"c": [1]}}})
            newest = (await me.patch("/plugins", {"a": 2})).revision
            assert newest > first["revision"]
            # The same JSON values, spelt otherwise.
            assert await _write(here, "k1", {"plugins": {"b": {"c": [1.0]}, "a": 1}}) == first
            assert await _write(far, "k1", {"plugins": {"a": 1, "b": {"c": [1]}}}) == first
            # A condition belongs to the first write, and that was made.
            assert await _write(far, "k1", {"plugins": {"a": 1, "b": {"c": [1]}}}, if_revision=0) == first
        assert (await me.get()).revision == newest

    async def test_the_same_key_over_http(self, me: Member, there: Member) -> None:
        """One key space per subject over all transports: ``PATCH /`` gives the first answer, and the other way round."""
        patch = {"plugins": {"a": 1}}
        async with me.socket() as socket:
            await greeted(socket)
            ack = await _write(socket, "k1", patch)
            answer = await there.patch("", patch, headers={"Idempotency-Key": "k1"})
            answer.ok()
            assert answer.revision == ack["revision"]
            wrote = await there.patch("", {"plugins": {"b": 1}}, headers={"Idempotency-Key": "k2"})
            assert (await _write(socket, "k2", {"plugins": {"b": 1}}))["revision"] == wrote.revision
            other = await there.patch("/plugins", {"a": 1}, headers={"Idempotency-Key": "k1"})
            other.problem(422, "idempotency-mismatch")
            await there.put("", {}, headers={"Idempotency-Key": "k3"})
            _is_nack(await _write(socket, "k3", {}), 422, "idempotency-mismatch")

    async def test_an_id_of_another_write(self, me: Member, somebody: Member) -> None:
        """The same id with another patch is a nack, and another subject's ids are its own."""
        async with me.socket() as socket, somebody.socket() as theirs:
            await greeted(socket)
            await greeted(theirs)
            await _write(socket, "k1", {"plugins": {"a": 1}})
            _is_nack(await _write(socket, "k1", {"plugins": {"a": 2}}), 422, "idempotency-mismatch")
            assert (await _write(theirs, "k1", {"plugins": {"a": 2}}))["type"] == "ack"
        assert (await me.state())["values"]["plugins"] == {"a": 1}

    async def test_of_concurrent_writes_with_one_id_one_writes(self, me: Member, there: Member) -> None:
        """However the same write races on several sessions and processes, all get the same ack."""
        async with me.socket() as a, me.socket() as b, there.socket() as c:
            for socket in (a, b, c):
                await greeted(socket)
            acks = await asyncio.gather(*(_write(socket, "k", {"plugins": {"a": 1}}) for socket in (a, b, c)))
        assert acks[0] == acks[1] == acks[2]
        assert len((await me.changes(0))["changes"]) == 1

    async def test_if_revision(self, me: Member, there: Member) -> None:
        """Where the subject's revision differs nothing is written: ``precondition-failed``; the id stays free."""
        async with me.socket() as socket:
            await greeted(socket)
            first = (await _write(socket, "k1", {"plugins": {"a": 1}}, if_revision=0))["revision"]
            _is_nack(
                await _write(socket, "k2", {"plugins": {"a": 2}}, if_revision=0), 412, "precondition-failed"
            )
            newer = (await there.patch("/editor", {"tab_size": 2})).revision
            _is_nack(
                await _write(socket, "k2", {"plugins": {"a": 2}}, if_revision=first),
                412,
                "precondition-failed",
            )
            assert (await _write(socket, "k2", {"plugins": {"a": 2}}, if_revision=newer))["type"] == "ack"

    async def test_of_racing_conditions_one_holds(self, me: Member, there: Member) -> None:
        """Of writes upon the same revision, one succeeds."""
        async with me.socket() as a, there.socket() as b:
            replies = []
            for socket in (a, b):
                await greeted(socket)
            replies = await asyncio.gather(
                *(
                    _write(socket, key, {"plugins": {key: 1}}, if_revision=0)
                    for socket, key in ((a, "k1"), (b, "k2"))
                )
            )
        assert sorted(reply["type"] for reply in replies) == ["ack", "nack"]

    @pytest.mark.parametrize(
        ("patch", "pointers"),
        [
            ({"nowhere": {}}, ["/nowhere"]),
            ({"appearance": {"theme": "blue"}}, ["/appearance/theme"]),
            (
                {"appearance": {"font_size": "14"}, "editor": {"tab_size": 0}},
                ["/appearance/font_size", "/editor/tab_size"],
            ),
            ({"appearance": {"nothing": 1}}, ["/appearance/nothing"]),
            ({"appearance": []}, ["/appearance"]),
            ({"plugins": {"__proto__": 1}}, ["/plugins/__proto__"]),
            ({"plugins": {"a": 2**53}}, ["/plugins/a"]),
            ({"plugins": {"a": "\0"}}, ["/plugins/a"]),
            ({"plugins": {"a": "x" * 16_385}}, ["/plugins/a"]),
        ],
        ids=label,
    )
    async def test_invalid_preferences(self, me: Member, patch: Any, pointers: list[str]) -> None:
        """A nack names every place that is wrong; nothing was written, the id stays free and the session stays."""
        async with me.socket() as socket:
            await greeted(socket)
            problem = _is_nack(await _write(socket, "k", patch), 422, "invalid-preferences")
            assert sorted({error["pointer"] for error in problem["errors"]}) == pointers
            assert "retry_after" not in problem
            assert await _write(socket, "k", {}) == {"type": "ack", "id": "k", "revision": 0}

    async def test_lone_surrogates(self, me: Member) -> None:
        """JSON can spell them, nobody can store them: a nack, as over HTTP."""
        async with me.socket() as socket:
            await greeted(socket)
            await socket.send(r'{"type":"patch","id":"k","patch":{"plugins":{"a":"\ud800"}}}')
            _is_nack(await _replied(socket), 422, "invalid-preferences")

    async def test_no_write_scope(self, me: Member) -> None:
        """A nack; the session stays, and hears of what others write."""
        async with me.holding(scope=READ).socket() as socket:
            await greeted(socket)
            _is_nack(await _write(socket, "k", {"plugins": {"a": 1}}), 403, "insufficient-scope")
            revision = (await me.holding(scope=WRITE).patch("/plugins", {"a": 2})).revision
            assert (await socket.hear())["revision"] == revision

    async def test_ping(self, me: Member, there: Member) -> None:
        """``pong`` carries the newest revision that this session has been sent."""
        async with me.socket() as socket:
            newest = (await greeted(socket))["revision"]
            for writer in (me, there, None):
                await socket.say(type="ping")
                assert await socket.hear() == {"type": "pong", "revision": newest}
                if writer is not None:
                    newest = (await writer.patch("/plugins", {"a": newest})).revision
                    assert (await socket.hear())["revision"] == newest

    async def test_replies_come_in_order(self, me: Member) -> None:
        """Frames are done one after the other, as they came."""
        async with me.socket() as socket:
            await greeted(socket)
            for n in range(20):
                await socket.say(type="patch", id=f"k{n}", patch={"plugins": {"n": n}})
            acks = [await _replied(socket) for _ in range(20)]
        assert [ack["id"] for ack in acks] == [f"k{n}" for n in range(20)]
        revisions = [ack["revision"] for ack in acks]
        assert revisions == sorted(set(revisions))
        assert (await me.state())["values"]["plugins"] == {"n": 19}
