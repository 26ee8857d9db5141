"""Three processes, one PostgreSQL, one Redis: whatever fails, every session ends where the database is."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis
from anyio.to_thread import run_sync

from prefsync.testing.mount import KEY
from tests.conftest import refuse
from tests.faults.asking import log_of, seed, state, until
from tests.faults.follower import KINDS, Follower
from tests.faults.history import count_folded, faults_of_history, faults_of_session, judge
from tests.faults.writer import WAYS, Writer
from tests.servers import PrivatePostgres, PrivateRedis, ServerProcess, ServerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parent.parent.parent

USERS = 3
SERVERS = 3

WRITES = 60
"""Acknowledged before a fault begins, and once more after all sessions have caught up with it."""

CONVERGED_WITHIN = 5.0
"""Seconds after a fault's end; a process without its notifier asks the database every 2 s, with it every 28 s."""

PATIENCE = 20.0
"""Seconds for what has to happen before anything can be tested."""

COMMAND = "-m uvicorn --app-dir examples fastapi_app:app --port {port} --no-access-log --log-level warning"


class Cluster:
    """Processes of the example app with what they share.

    Attributes:
        postgres: Their database.
        redis: Their cache and notifier.
        servers: The processes.
    """

    def __init__(self, stack: ExitStack) -> None:
        self.postgres = stack.enter_context(PrivatePostgres())
        self.redis = stack.enter_context(PrivateRedis())
        self._stack = stack
        self._environment = {
            "PREFSYNC_DATABASE_URL": self.postgres.url,
            "PREFSYNC_REDIS_URL": self.redis.url,
            "PREFSYNC_RATE_LIMIT": "100000/minute",
            "PREFSYNC_JWT_KEY": KEY,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }
        self.servers = [self._start() for _ in range(SERVERS)]

    @property
    def urls(self) -> list[str]:
        """Where the processes answer."""
        return [server.url for server in self.servers]

    def _start(self, port: int | None = None) -> ServerProcess:
        command = [sys.executable, *COMMAND.split()]
        return self._stack.enter_context(ServerProcess(command, self._environment, port=port))

    # --- Faults; each returns at its end, when all is up again -------------------------------------------------------

    async def nothing(self) -> None:
        """Fail nowhere."""

    async def redis_restarted(self) -> None:
        """Stop Redis in order and start it."""
        await run_sync(self.redis.restart)

    async def redis_away(self) -> None:
        """Stop Redis, and leave it stopped: the notifier does not come back."""
        await run_sync(self.redis.stop)

    async def redis_paused(self) -> None:
        """Freeze Redis for a while."""
        self.redis.pause()
        try:
            await asyncio.sleep(2.5)
        finally:
            self.redis.resume()

    async def subscribers_killed(self) -> None:
        """Cut all processes off Redis's pub/sub."""
        with redis.Redis.from_url(self.redis.url) as client:
            killed = client.client_kill_filter(_type="pubsub")
        assert killed >= SERVERS

    async def server_killed(self) -> None:
        """Kill a process where it stands, and start it again."""
        killed = self.servers[1]
        os.kill(killed.pid, signal.SIGKILL)
        await run_sync(killed.kill)
        self.servers[1] = await run_sync(self._start, killed.port)

    async def postgres_restarted(self) -> None:
        """Stop PostgreSQL in order, which breaks all connections, and start it."""
        await run_sync(self.postgres.restart)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three processes."""
    with ExitStack() as stack:
        try:
            cluster = Cluster(stack)
        except ServerUnavailableError as error:
            refuse(str(error))
        yield cluster


FAULTS = {
    "none": Cluster.nothing,
    "Redis restarted": Cluster.redis_restarted,
    "Redis paused": Cluster.redis_paused,
    "pub/sub clients killed": Cluster.subscribers_killed,
    "a server killed": Cluster.server_killed,
    "PostgreSQL restarted": Cluster.postgres_restarted,
    "Redis away": Cluster.redis_away,
}


@pytest.mark.once
@pytest.mark.parametrize("fault", FAULTS)
async def test_sessions_converge(fault: str, cluster: Cluster, report: Callable[[str], None]) -> None:
    """No acknowledged write is lost, and each session is told all of them in order, soon after the fault's end."""
    users = [f"{fault}-{number}" for number in range(USERS)]
    starts = {user: await seed(cluster.urls[0], user) for user in users}
    followers = {
        user: [Follower(url, user, kind) for url in cluster.urls for kind in KINDS] for user in users
    }
    writers = {user: [Writer(cluster.urls, user, way) for way in WAYS] for user in users}
    everybody = [follower for mine in followers.values() for follower in mine]
    all_writers = [writer for mine in writers.values() for writer in mine]

    def acked() -> int:
        return sum(len(writer.writes) for writer in all_writers)

    async def more_writes() -> None:
        wanted = acked() + WRITES
        await until(lambda: acked() >= wanted, PATIENCE)

    async with asyncio.TaskGroup() as tasks:
        following = [tasks.create_task(follower.run()) for follower in everybody]
        await until(lambda: all(follower.connections for follower in everybody), PATIENCE)
        writing = [tasks.create_task(writer.run()) for writer in all_writers]
        await more_writes()
        try:
            began = time.monotonic()
            await FAULTS[fault](cluster)
            if fault == "Redis away":
                await more_writes()  # the outage counts only for what is written in it
            ended = time.monotonic()
            newest = {user: newest_of(writers[user]) for user in users}
            await until(
                lambda: all(one.position >= newest[user] for user in users for one in followers[user]),
                CONVERGED_WITHIN,
                lambda: behind(followers, newest),
            )
            converged = time.monotonic() - ended
            await more_writes()
        finally:
            if fault == "Redis away":
                await run_sync(cluster.redis.start)
            for writer in all_writers:
                writer.stop()
        await asyncio.wait_for(asyncio.gather(*writing), PATIENCE)
        newest = {user: newest_of(writers[user]) for user in users}
        final = {user: await state(cluster.urls[-1], user, newest[user]) for user in users}
        stopped = time.monotonic()
        await until(
            lambda: all(one.position >= newest[user] for user in users for one in followers[user]),
            CONVERGED_WITHIN,
            lambda: behind(followers, newest),
        )
        caught_up = time.monotonic() - stopped
        for task in following:
            task.cancel()

    logs = {user: await log_of(cluster.urls[0], user, starts[user].revision) for user in users}
    faults = [
        f"{follower.name}: {found}"
        for user in users
        for follower in followers[user]
        for found in faults_of_session(follower.events, final[user])
    ]
    for user in users:
        writes = [write for writer in writers[user] for write in writer.writes]
        found = faults_of_history(writes, [], starts[user], logs[user], final[user])
        faults += [f"{user}: {fault}" for fault in found]
    missing = sum("missing" in found for found in faults)
    report(
        f"{fault:22} acked {acked():4}  indeterminate {sum(one.indeterminate for one in all_writers):3}"
        f"  refused {sum(one.refused for one in all_writers):3}  missing {missing}"
        f"  events {sum(len(one.events) for one in everybody):5}"
        f"  folded {sum(count_folded(one.events, logs[user]) for user in users for one in followers[user]):4}"
        f"  resets {sum(one.resets for one in everybody)}"
        f"  rejoined {sum(one.connections - 1 for one in everybody):2}"
        f"  fault {ended - began:.2f} s  converged {converged:.2f} s  at the end {caught_up:.2f} s"
    )
    judge(faults)


def newest_of(writers: list[Writer]) -> int:
    """Return the newest revision that any of a user's writers was acknowledged."""
    return max(write.revision or 0 for writer in writers for write in writer.writes)


def behind(followers: dict[str, list[Follower]], newest: dict[str, int]) -> str:
    """Name the sessions that are not where they should be."""
    return ", ".join(
        f"{one.name} is {newest[user] - one.position} ms behind"
        for user, mine in followers.items()
        for one in mine
        if one.position < newest[user]
    )
