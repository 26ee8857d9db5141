"""Writers that repeat a write whose result they do not know until they know it."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from typing import TYPE_CHECKING, Any

from tests.faults.crowd import headers_of, http_client, open_web_socket
from tests.faults.follower import LOST, RETRY, ServerAwayError, expect_success
from tests.faults.history import Write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from websockets.asyncio.client import ClientConnection

WAYS = ("PATCH", "PUT", "ws")

# Seconds between two writes of one writer: it is faults that are tried here, and not the machine.
PACE = 0.03

# Among which the values go around: a document shall not grow with the test.
FIELDS = 50

# Seconds after which an answer counts as lost.
LIMIT = 10.0


class Writer:
    """Writes of one user, one after the other, each of a value of its own and each through the next server.

    Args:
        bases: The servers' URLs.
        user: Who writes.
        way: How, of ``WAYS``.
        first: Where the numbers of what it writes begin.

    Attributes:
        writes: The writes, all acknowledged in the end.
        indeterminate: How often a write was on its way and no answer came.
        refused: How often a server said that it cannot write now.
    """

    def __init__(self, bases: Sequence[str], user: str, way: str, first: int = 0) -> None:
        self.writes: list[Write] = []
        self.indeterminate = 0
        self.refused = 0
        self._bases = itertools.cycle(bases)
        self._user = user
        self._way = way
        self._send = self._over_socket if way == "ws" else self._over_http
        self._socket: ClientConnection | None = None
        self._first = first
        self._stopping = False

    @property
    def acknowledged(self) -> int:
        """How many writes it has made."""
        return len(self.writes)

    def stop(self) -> None:
        """Begin no more writes."""
        self._stopping = True

    async def run(self) -> None:
        """Write until stopped; the last write is acknowledged, too."""
        try:
            for number in itertools.count(self._first):
                if self._stopping:
                    break
                await self._write(number)
                await asyncio.sleep(PACE)
        finally:
            await self._close()

    async def _write(self, number: int) -> None:
        """Write one value until that is acknowledged."""
        if self._way == "PUT":
            namespace, field, value = "appearance", "accent", f"#{number % 2**24:06x}"
        else:
            namespace, field, value = "plugins", f"{self._way}{number % FIELDS}", number
        values = {namespace: {field: value}}
        body = values[namespace] if self._way == "PUT" else values
        begin = time.monotonic()
        while True:
            try:
                revision = await self._send(next(self._bases), f"{self._way}-{number}", body)
            except LOST as error:
                if isinstance(error, ServerAwayError):
                    self.refused += 1
                else:
                    self.indeterminate += 1
                await asyncio.sleep(RETRY)
            else:
                self.writes.append(Write(begin, time.monotonic(), values, revision))
                return

    async def _over_http(self, base: str, key: str, body: Any) -> int:
        path = "/appearance" if self._way == "PUT" else ""
        headers = {**headers_of(self._user), "idempotency-key": key}
        async with asyncio.timeout(LIMIT), http_client(base) as client:
            response = await client.request(self._way, path, headers=headers, content=json.dumps(body))
        expect_success(response.status_code, response.content)
        return int(response.headers["prefsync-revision"])

    async def _over_socket(self, base: str, key: str, body: Any) -> int:
        """Write over the open socket; over one at another server where it is lost."""
        try:
            async with asyncio.timeout(LIMIT):
                if self._socket is None:
                    self._socket = await open_web_socket(base, headers_of(self._user))
                    await self._socket.send('{"type": "hello"}')
                await self._socket.send(json.dumps({"type": "patch", "id": key, "patch": body}))
                while True:
                    answer = json.loads(await self._socket.recv())
                    if answer["type"] in {"ack", "nack"} and answer["id"] == key:
                        break
        except LOST:
            await self._close()
            raise
        if answer["type"] == "nack":
            expect_success(answer["problem"]["status"], json.dumps(answer).encode())
        return int(answer["revision"])

    async def _close(self) -> None:
        if self._socket is not None:
            await self._socket.close()
            self._socket = None
