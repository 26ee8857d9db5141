"""Clients that go away in the middle of a request, over real sockets: nothing half done, mixed up or left open."""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import secrets
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import asyncpg
import psutil
import pytest
from anyio.to_thread import run_sync

from prefsync.testing.mount import KEY
from prefsync.testing.realtime.wire import Connection, connect, request
from tests.faults.asking import log_of
from tests.faults.crowd import LIMIT, headers_of
from tests.faults.history import Read, Reset, Write, faults_of_history, judge
from tests.faults.kill import LAG
from tests.faults.scale import IS_FULL
from tests.faults.test_drain import FLASK, ROOT, UVICORN
from tests.servers import HOST, ServerProcess, create_database, drop_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefsync.testing.mount import Answer

pytestmark = pytest.mark.once

SERVERS = {"FastAPI": UVICORN, "Flask": f"{FLASK} --threads 60"}

REQUESTS = 5_000 if IS_FULL else 1_000
"""To each mount."""

GONE = 0.1
"""How many of their clients go away."""

USERS = 20
AT_ONCE = 16
POOL = 2


@pytest.fixture
def database(postgres_url: str) -> Iterator[str]:
    """A database of the test's own, to count the connections with it."""
    name = f"prefsync_test_{secrets.token_hex(8)}"
    yield create_database(postgres_url, name)
    drop_database(postgres_url, name)


class Crowd:
    """Users that read and write on connections that they keep, or cut in the middle of a request.

    Args:
        port: The server's.

    Attributes:
        answers: The answers, by status.
        gone: How often a client went away, by the point where.
        mixed: Answers that hold what is somebody else's, or nobody's.
        writes: What was tried, by user; a body that was not sent to its end counts as refused.
        reads: What was answered.
    """

    def __init__(self, port: int) -> None:
        self.answers: Counter[int] = Counter()
        self.gone: Counter[str] = Counter()
        self.mixed: list[str] = []
        self.users = [f"gone-{number}" for number in range(USERS)]
        self.writes: dict[str, list[Write]] = {user: [] for user in self.users}
        self.reads: dict[str, list[Read]] = {user: [] for user in self.users}
        self._port = port
        self._chance = random.Random(port)
        self._headers = {user: list(headers_of(user).items()) for user in self.users}
        self._sent = 0

    async def run(self) -> None:
        """Send all requests."""
        await asyncio.gather(*(self._work() for _ in range(AT_ONCE)))

    async def begin(self) -> dict[str, Reset]:
        """Write what each user has from the beginning, and return these states."""
        connection, states = await self._connect(), {}
        for user in self.users:
            await connection.send(self._put(user, 0))
            answer = await connection.answer()
            states[user] = Reset(_revision(answer), {"plugins": answer.json()})
        connection.close()
        return states

    async def end(self) -> dict[str, Reset]:
        """Return the states of all users."""
        connection, states = await self._connect(), {}
        for user in self.users:
            await connection.send(self._get(user))
            answer = await connection.answer()
            states[user] = Reset(_revision(answer), {"plugins": answer.json()})
        connection.close()
        return states

    async def _work(self) -> None:
        connection = await self._connect()
        while self._sent < REQUESTS:
            self._sent += 1
            number, user = self._sent, self._chance.choice(self.users)
            leaves = self._chance.random() < GONE
            writes = self._chance.random() < 0.6
            if leaves:
                await self._leave(connection, user, number if writes else 0)
                connection = await self._connect()
            else:
                await self._exchange(connection, user, number if writes else 0)
        connection.close()

    async def _connect(self) -> Connection:
        return await connect((HOST, self._port))

    def _get(self, user: str) -> bytes:
        return request("GET", "/preferences/plugins", HOST, self._headers[user])

    def _put(self, user: str, number: int) -> bytes:
        body = json.dumps({"owner": user, "first": number, "filling": "x" * 200, "second": number}).encode()
        length = ("content-length", str(len(body)))
        return request("PUT", "/preferences/plugins", HOST, [*self._headers[user], length]) + body

    async def _exchange(self, connection: Connection, user: str, number: int) -> None:
        """Write a number, or read where it is 0."""
        begin = time.monotonic()
        async with asyncio.timeout(LIMIT):
            await connection.send(self._put(user, number) if number else self._get(user))
            answer = await connection.answer()
        end = time.monotonic()
        self.answers[answer.status] += 1
        shown: dict[str, Any] = answer.json()
        if answer.status != 200 or shown.get("owner") != user:
            self.mixed.append(f"{user} was answered {answer.status} {shown}")
            return
        if number:
            self.writes[user].append(Write(begin, end, written(number), _revision(answer)))
        self.reads[user].append(Read(begin, end, _revision(answer), {"plugins": shown}))

    async def _leave(self, connection: Connection, user: str, number: int) -> None:
        """Go away at some point of a request."""
        begin = time.monotonic()
        point = self._chance.choice(["in the head", "in the body", "before the answer", "in the answer"])
        if point == "in the body":
            number = number or -self._sent  # a request that reads has none
        message = self._put(user, number) if number else self._get(user)
        if point == "in the body":
            await connection.send(message[: -self._chance.randrange(1, 100)])
            await asyncio.sleep(self._chance.random() * 0.005)
        elif point == "in the head":
            await connection.send(message[: self._chance.randrange(1, message.index(b"\r\n\r\n"))])
        else:
            await connection.send(message)
            if point == "in the answer":
                async with asyncio.timeout(LIMIT):
                    await connection.reader.readexactly(self._chance.randrange(1, 40))
            else:
                await asyncio.sleep(self._chance.random() ** 3 * 0.02)
        if number:
            is_half = point in {"in the head", "in the body"}
            self.writes[user].append(Write(begin, math.inf, written(number), is_refused=is_half))
        self.gone[point] += 1
        if self._chance.random() < 0.5:
            connection.reset()
        else:
            connection.close()


def written(number: int) -> dict[str, dict[str, int]]:
    """Return what a write changes: both or neither."""
    return {"plugins": {"first": number, "second": number}}


def _revision(answer: Answer) -> int:
    assert answer.status == 200, answer.body
    return int(answer.headers["Prefsync-Revision"])


@pytest.mark.parametrize("mount", SERVERS)
async def test_clients_go_away(
    mount: str, database: str, redis_url: str, redis_prefix: str, report: Callable[[str], None]
) -> None:
    """Of 5,000 requests one in ten is left: all others are right, no write is half there, no connection stays."""
    environment = {
        "PREFSYNC_DATABASE_URL": database,
        "PREFSYNC_REDIS_URL": redis_url,
        "PREFSYNC_REDIS_PREFIX": redis_prefix,
        "PREFSYNC_RATE_LIMIT": "10000000/minute",
        "PREFSYNC_JWT_KEY": KEY,
        "PREFSYNC_POOL_SIZE": str(POOL),
        "PREFSYNC_CACHE_TTL": "0.01",  # most reads reach the database
        "FAULTS_DATABASE_LIMIT": "15",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    server = ServerProcess([sys.executable, *SERVERS[mount].split()], environment, path="/open")
    await run_sync(server.__enter__)
    try:
        crowd = Crowd(server.port)
        starts = await crowd.begin()
        began = time.monotonic()
        await crowd.run()
        took = time.monotonic() - began
        left = await connections_left(server, database)
        finals = await crowd.end()
        faults: list[str] = []
        for user, start in starts.items():
            log = await log_of(server.url, user, start.revision)
            found = faults_of_history(
                crowd.writes[user], crowd.reads[user], start, log, finals[user], lag=LAG
            )
            faults += [f"{user}: {fault}" for fault in found]
        report(
            f"{mount}: {crowd.answers.total()} answers {dict(crowd.answers)}, {crowd.gone.total()} clients gone"
            f" {dict(crowd.gone)}, mixed {len(crowd.mixed)}, half or lost {len(faults)}, connections left {left},"
            f" in {took:.1f} s"
        )
        assert crowd.mixed == []
        judge(faults)
        assert set(crowd.answers) == {200}
        assert crowd.gone.total() > REQUESTS * GONE / 2
        assert "Traceback" not in server.output
    finally:
        await run_sync(server.__exit__)


async def connections_left(server: ServerProcess, database: str) -> int:
    """Wait until all clients' connections are gone and those with the database are idle; return how many those are."""
    connection = await asyncpg.connect(database)
    deadline = time.monotonic() + LIMIT
    query = "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'prefsync'"
    try:
        while True:
            states = [row["state"] for row in await connection.fetch(query)]
            clients = connected_to(server)
            if not clients and set(states) <= {"idle"} and len(states) <= POOL:
                return len(states)
            assert time.monotonic() < deadline, f"left: {clients}, {states}"
            await asyncio.sleep(0.05)
    finally:
        await connection.close()


def connected_to(server: ServerProcess) -> list[str]:
    """Return the connections of clients with a server, as it sees them."""
    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    found = {one for process in family for one in process.net_connections() if one.laddr.port == server.port}
    return [f"{one.raddr} {one.status}" for one in found if one.raddr]
