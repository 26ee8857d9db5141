"""What a watch tells, whatever a server does: its rules, driven without a network."""

from __future__ import annotations

import json
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from prefsync.client.core import ClientCore
from prefsync.client.following import Following
from prefsync.client.messages import Answer, AskToken, Failure, Open, Read, Send, Tell, Wait
from prefsync.client.values import Change

if TYPE_CHECKING:
    from prefsync.client.messages import Request, Step
    from prefsync.client.values import Reset

HEAD = {"content-type": "application/json"}
TIME = 600.0


class Server:
    """A server with a log, which fails, repeats, reorders, folds and forgets by chance.

    Attributes:
        now: The time, which passes as the watch waits.
        told: What the watch told.
        requests: How many came.
    """

    def __init__(self, random: Random) -> None:
        self.random = random
        self.now = 0.0
        self.log = [0]
        self.queue: list[bytes] = []
        self.told: list[Change | Reset] = []
        self.requests = 0
        self.was_calm = False

    def write(self) -> None:
        """Make a revision; now and then a backup is restored, which has fewer."""
        if self.random.random() < 0.1 and len(self.log) > 3:
            del self.log[-2:]
            self.log.append(self.log[-1] + 1_000 + self.random.randrange(100))
        else:
            self.log.append(self.log[-1] + self.random.randrange(1, 50))

    def change(self, start: int, end: int) -> dict[str, Any]:
        """Return the change between two places of the log, folded if they are apart."""
        fields = {"n": self.log[end]}
        at = "2026-11-23T03:05:46.007Z"
        head = {"revision": self.log[end], "previous": self.log[start], "at": at, "origin": None}
        return {**head, "changed": {"plugins": fields}, "removed": {}}

    def reset(self) -> dict[str, Any]:
        """Return a reset to the newest."""
        return {"revision": self.log[-1], "schema": "tag", "values": {"plugins": {"n": self.log[-1]}}}

    def missed(
        self, since: int | None, schema: str | None
    ) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
        """Return what somebody gets who was at a revision."""
        if since not in self.log or schema not in {None, "tag"}:
            return self.reset(), []
        start = self.log.index(since)
        return None, [self.change(at, at + 1) for at in range(start, len(self.log) - 1)]

    def events(self, since: int | None) -> bytes:
        """Return a stream's events, with faults that a client has to notice."""
        fresh, changes = self.missed(since, None)
        events = [("reset", fresh)] if fresh is not None else [("change", change) for change in changes]
        if not self.is_calm and self.random.random() < 0.3 and events:
            fault = self.random.randrange(3)
            place = self.random.randrange(len(events))
            if fault == 0:
                del events[place]
            elif fault == 1:
                events.insert(place, events[self.random.randrange(len(events))])
            else:
                self.random.shuffle(events)
        return b"".join(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode() for name, data in events)

    @property
    def is_calm(self) -> bool:
        """Whether it has stopped failing."""
        return self.now > TIME / 2

    def fails(self) -> Answer | Failure | None:
        """Return how a request fails, if it does."""
        self.requests += 1
        chance = self.random.random()
        if self.is_calm or chance < 0.8:
            return None
        if chance < 0.9:
            return Failure("cut", None, is_silence=chance < 0.85)
        return Answer(int(self.random.choice([429, 502, 503])), {"retry-after": "1"})

    def opened(self, request: Request) -> Answer | Failure:
        """Begin a stream."""
        since = request.headers.get("Last-Event-ID")
        self.queue = [self.events(int(since) if since is not None else None)]
        return self.fails() or Answer(200, {}, is_open=True)

    def polled(self, request: Request) -> Answer | Failure:
        """Answer a long poll."""
        query = dict(pair.split("=") for pair in request.query.split("&"))
        fresh, changes = self.missed(int(query["since"]), query.get("schema"))
        revision = changes[-1]["revision"] if changes else int(query["since"])
        page = {"revision": revision, "schema": "tag", "reset": fresh is not None, "has_more": False}
        self.now += 0.0 if changes or fresh else float(query["wait"])
        body = json.dumps({**page, "changes": changes, **(fresh or {})}).encode()
        return self.fails() or Answer(200, HEAD, body)

    def read(self) -> bytes | Failure:
        """Go on with the stream."""
        if self.queue:
            return self.queue.pop()
        self.now += 1
        if self.is_calm:
            was_calm, self.was_calm = self.was_calm, True
            return b":\n\n" if was_calm else b""  # the last stream that missed something ends
        return self.random.choice([b"", b":\n\n", Failure("silent", None, is_silence=True)])

    def do(self, step: Step) -> Any:
        """Do a step of the watch."""
        self.now += 0.01
        if not self.is_calm and self.random.random() < 0.3:
            self.write()
        match step:
            case AskToken():
                return "a.b.c"
            case Wait(seconds):
                self.now += seconds
            case Tell(event):
                self.told.append(event)
            case Open(request):
                return self.opened(request)
            case Send(request):
                return self.polled(request)
            case Read():
                return self.read()
        return None


def follow(server: Server, since: int | None) -> None:
    """Watch a server until the time is up."""
    core = ClientCore("http://test", now=lambda: server.now, random=server.random)
    steps = Following(core, since, None, TIME).steps()
    result = None
    with suppress(StopIteration):
        while True:
            result = server.do(steps.send(result))


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.sampled_from([None, 0, 17]))
def test_told_revisions_rise_and_connect(seed: int, since: int | None) -> None:
    """Each change goes on from the one told before it; only resets may go back; and nothing is told twice."""
    server = Server(Random(seed))
    follow(server, since)
    position, values = since, {}
    for event in server.told:
        if isinstance(event, Change):
            assert event.previous == position
            assert position is not None
            assert event.revision > position
        else:
            assert event.revision != position or position == since
        position, values = event.revision, event.apply(values)
        assert values == {"plugins": {"n": position}} or position == 0
    assert position == server.log[-1]  # in the end, when the server no longer fails
    assert server.requests < 4 * TIME  # no storm, whatever fails
