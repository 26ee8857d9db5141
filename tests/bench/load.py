"""The load generator: keep-alive connections that send their next request when the answer to the last one has come.

A closed loop: it measures how much a server can do, and how long each request then takes. It does little for each
request, so that one core of it can saturate one core of a bare ASGI server.
"""

from __future__ import annotations

import asyncio
import gc
import re
from dataclasses import dataclass
from itertools import repeat
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["LoadError", "Sample", "exchange", "run"]

_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHECK_EVERY: Final = 997
"""Of this many answers one is looked at in full; a prime, so that no rhythm of the requests hides anything."""

_PATIENCE: Final = 60.0
"""Seconds that the last answers may take before the run is given up."""


class LoadError(Exception):
    """The server closed a connection, or did not answer in time."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run saw, its warm-up excluded.

    Attributes:
        latencies: Seconds, one for each answer, sorted.
        seconds: How long it took.
        errors: Answers that were not as they should be, the warm-up included.
        first_error: What was wrong with the first of them.
        spent: By how much each of the probe's counters rose.
    """

    latencies: list[float]
    seconds: float
    errors: int
    first_error: str
    spent: dict[str, float]


class _Load:
    """What the connections of one run share."""

    def __init__(
        self,
        requests: Iterator[bytes],
        status: bytes,
        check: Callable[[bytes, bytes], None],
        check_every: int,
    ) -> None:
        self.requests = requests
        self.status = status
        self.check = check
        self.check_every = check_every
        self.latencies: list[float] = []
        self.stopped = False
        self.errors = 0
        self.first_error = ""

    def wrong(self, what: str) -> None:
        self.errors += 1
        self.first_error = self.first_error or what

    async def connect(self, host: str, port: int, connections: int) -> list[_Connection]:
        loop = asyncio.get_running_loop()
        opened = [
            loop.create_connection(lambda: _Connection(self), host, port) for _ in repeat(None, connections)
        ]
        return [connection for _, connection in await asyncio.gather(*opened)]

    async def finish(self, connections: list[_Connection]) -> None:
        """Wait until every connection has had its last answer.

        Raises:
            LoadError: One was lost, or is still waiting.
        """
        try:
            async with asyncio.timeout(_PATIENCE):
                await asyncio.gather(*(connection.finished for connection in connections))
        except TimeoutError as error:
            message = f"no answer within {_PATIENCE:.0f} s"
            raise LoadError(message) from error


class _Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._next = load.requests.__next__
        self._record = load.latencies.append
        self._status = load.status
        self._unchecked = load.check_every
        self._rest = b""
        self._request = b""
        self._sent = 0.0
        self._transport: Any = None
        self._write: Any = None
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._write = self._transport.write
        self._go_on(perf_counter())

    def data_received(self, data: bytes) -> None:
        now = perf_counter()
        if self._rest:
            data = self._rest + data
        head = data.find(b"\r\n\r\n")
        if head < 0 or len(data) < (end := head + 4 + _body_length(data, head)):
            self._rest = data
            return
        if self._rest:
            self._rest = b""
        self._record(now - self._sent)
        if data[9:12] != self._status or len(data) > end:
            self._load.wrong(f"{self._request[:80]!r}... was answered {data!r}")
        self._unchecked -= 1
        if not self._unchecked:
            self._check(data)
        self._go_on(now)

    def _go_on(self, now: float) -> None:
        if self._load.stopped:
            self._finish()
            return
        try:
            self._request = request = self._next()
        except StopIteration:
            self._finish()
            return
        self._sent = now
        self._write(request)

    def _check(self, data: bytes) -> None:
        self._unchecked = self._load.check_every
        try:
            self._load.check(self._request, data)
        except (AssertionError, LookupError, ValueError) as error:
            self._load.wrong(f"{self._request!r} was answered {data!r}: {error!r}")

    def _finish(self) -> None:
        if not self.finished.done():
            self.finished.set_result(None)
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.finished.done():
            message = f"the connection was lost ({exc}) after {self._request[:80]!r}..."
            self.finished.set_exception(LoadError(message))


def _body_length(data: bytes, head: int) -> int:
    # What our servers send, first; the pattern takes three times as long.
    at = data.find(b"\r\ncontent-length: ", 0, head)
    if at >= 0:
        at += 18
        return int(data[at : data.find(b"\r", at)])
    found = _LENGTH.search(data, 0, head)
    if found is not None:
        return int(found[1])
    if data[9:12] in {b"204", b"304"}:
        return 0
    message = f"an answer without Content-Length cannot be read here: {data[:head]!r}"
    raise ValueError(message)


async def run(
    host: str,
    port: int,
    requests: Iterator[bytes],
    *,
    status: bytes,
    check: Callable[[bytes, bytes], None],
    connections: int,
    warm_up: float,
    seconds: float,
    probe: Callable[[], dict[str, float]],
) -> Sample:
    """Load a server for some time.

    Args:
        host: Where it is.
        port: Where it is.
        requests: Complete requests, without end.
        status: The three digits that every answer must have.
        check: Called with a request and its answer, now and then; raises where the answer is not the right one.
        connections: How many requests are under way at any time.
        warm_up: Seconds of the same before the measurement.
        seconds: How long to measure.
        probe: Asked at both ends of the measurement for counters.

    Raises:
        LoadError: A connection was lost, or an answer did not come.
    """
    load = _Load(requests, status, check, _CHECK_EVERY)
    gc.collect()
    gc.disable()  # the latencies are many, and in no cycle
    try:
        opened = await load.connect(host, port, connections)
        await asyncio.sleep(warm_up)
        before = probe()
        load.latencies.clear()
        began = perf_counter()
        await asyncio.sleep(seconds)
        took = perf_counter() - began
        latencies = load.latencies.copy()
        after = probe()
        load.stopped = True
        await load.finish(opened)
    finally:
        gc.enable()
    spent = {name: after[name] - before.get(name, 0) for name in after}
    return Sample(sorted(latencies), took, load.errors, load.first_error, spent)


async def exchange(host: str, port: int, requests: Iterable[bytes], *, status: bytes) -> dict[bytes, bytes]:
    """Send each of these requests once, and return the answers by request.

    Raises:
        LoadError: An answer had another status, or none came.
    """
    answers: dict[bytes, bytes] = {}
    load = _Load(iter(requests), status, answers.__setitem__, 1)
    await load.finish(await load.connect(host, port, 16))
    if load.errors:
        raise LoadError(load.first_error)
    return answers
