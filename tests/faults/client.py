"""Clients that note all that they do and are answered, and repeat nothing."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import math
import random
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import httpx2

from tests.faults.crowd import headers_of, http_client
from tests.faults.history import Read, Write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.faults.history import Values

# Seconds between two requests of one client: it is faults that are tried here, and not the machine.
PACE = 0.01

# Seconds before the next request where one was cut.
AFTER_A_CUT = 0.02

BOUND = 12.0
"""Seconds after which a request counts as hanging. A server waits for its database for 5 s at the most, and reads and
writes of one user wait for each other; the rest is for a machine that is busy with other tests."""


class Client:
    """One of a user's clients, which reads and writes through one server after the other.

    Args:
        bases: The servers' URLs.
        user: Whose.
        number: Of the client, among all of this user's: what it writes is its own.
        pace: Seconds between two of its requests.
        first: Where the numbers of what it writes begin.

    Attributes:
        writes: All that it tried.
        reads: All that was answered; of a write, the state that it left.
        answers: How often which status came, of reads and of writes.
        marked: How many reads said that they may be old.
        slowest: Seconds that the slowest answer took.
        wrong: What no server may answer, and hanging.
    """

    def __init__(
        self, bases: Sequence[str], user: str, number: int, pace: float = PACE, first: int = 0
    ) -> None:
        self.writes: list[Write] = []
        self.reads: list[Read] = []
        self.answers: Counter[tuple[str, int]] = Counter()
        self.marked = 0
        self.slowest = 0.0
        self.wrong: list[str] = []
        self._bases = bases
        self._headers = headers_of(user)
        self._number = number
        self._pace = pace
        self._chance = random.Random(f"{user}/{number}/{first}")
        self._counter = itertools.count(first)
        self._tag = ""
        self._revision = 0
        self._stopping = False

    @property
    def acknowledged(self) -> int:
        """How many of its writes were."""
        return sum(write.revision is not None for write in self.writes)

    @property
    def troubled(self) -> int:
        """How often it was not answered as usual."""
        return self.marked + sum(times for (_, status), times in self.answers.items() if status in {0, 503})

    def stop(self) -> None:
        """Begin no more requests."""
        self._stopping = True

    async def run(self) -> None:
        """Read and write until stopped."""
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(http_client(base)) for base in self._bases]
            servers = itertools.cycle(clients)
            while not self._stopping:
                await self._step(next(servers))
                await asyncio.sleep(self._pace)

    async def _step(self, server: httpx2.AsyncClient) -> None:
        drawn = self._chance.random()
        if drawn < 0.3:
            demands = self._revision > 0 and drawn < 0.1
            await self._read(server, self._revision if demands else 0)
        elif drawn < 0.4:
            await self._replace(server)
        else:
            await self._write(server, is_conditional=drawn > 0.8 and bool(self._tag))

    async def _read(self, server: httpx2.AsyncClient, at_least: int) -> None:
        begin = time.monotonic()
        answer = await self._ask(
            server, "GET", **({"prefsync-min-revision": str(at_least)} if at_least else {})
        )
        if answer is not None and answer.status_code == 200:
            self._note_state(answer, begin, at_least)

    async def _write(self, server: httpx2.AsyncClient, *, is_conditional: bool) -> None:
        values = self._values()
        upon = self._revision if is_conditional else None
        demand = {"if-match": self._tag} if is_conditional else {}
        begin = time.monotonic()
        answer = await self._ask(server, "PATCH", json.dumps(values), **demand)
        end = time.monotonic()
        status = 0 if answer is None else answer.status_code
        if answer is not None and status == 200:
            self.writes.append(Write(begin, end, values, self._note_state(answer, begin), upon))
        elif status == 412:
            self.writes.append(Write(begin, end, values, None, upon, is_refused=True))
            self._tag = ""
        else:
            self.writes.append(Write(begin, end if status else math.inf, values, None, upon))

    async def _replace(self, server: httpx2.AsyncClient) -> None:
        """Put a namespace that holds nothing else."""
        fields = {"muted_channels": [f"{self._number}-{next(self._counter)}"]}
        begin = time.monotonic()
        answer = await self._ask(server, "PUT", json.dumps(fields))
        end = math.inf if answer is None else time.monotonic()
        done = answer is not None and answer.status_code == 200
        revision = int(answer.headers["prefsync-revision"]) if answer is not None and done else None
        self.writes.append(Write(begin, end, {"notifications": fields}, revision))

    def _values(self) -> Values:
        """Return what was never written before, in several places that must change together."""
        count = next(self._counter)
        value = f"{self._number}-{count}"
        fields = {f"first{self._number}": value, f"second{self._number}": value}
        if count % 3:
            return {"plugins": fields}
        return {"plugins": fields, "appearance": {"accent": f"#{self._number:02x}{count % 65_536:04x}"}}

    async def _ask(
        self, server: httpx2.AsyncClient, method: str, body: str | None = None, **more: str
    ) -> httpx2.Response | None:
        """Return the answer, or ``None`` where none came."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(BOUND):
                path = "/notifications" if method == "PUT" else ""
                answer = await server.request(method, path, headers={**self._headers, **more}, content=body)
        except TimeoutError:
            self.wrong.append(f"{method}: no answer within {BOUND} s")
            return None
        except httpx2.TransportError:
            self.answers[method, 0] += 1
            await asyncio.sleep(AFTER_A_CUT)
            return None
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.answers[method, answer.status_code] += 1
        expected = {200, 412, 503} if "if-match" in more else {200, 503}
        if answer.status_code not in expected:
            self.wrong.append(f"{method}: {answer.status_code} {answer.text[:300]}")
        if answer.status_code == 503 and "retry-after" not in answer.headers:
            self.wrong.append(f"{method}: 503 without Retry-After")
        return answer

    def _note_state(self, answer: httpx2.Response, begin: float, at_least: int = 0) -> int:
        """Note the state in an answer, and return its revision."""
        state: Any = answer.json()
        is_marked = answer.headers.get("prefsync-stale") == "true"
        self.marked += is_marked
        self.reads.append(
            Read(begin, time.monotonic(), state["revision"], state["values"], at_least, is_marked)
        )
        if state["revision"] >= self._revision:
            self._revision, self._tag = state["revision"], answer.headers["etag"]
        return int(state["revision"])
