"""Both example apps under gunicorn with several workers each, and the PostgreSQL and the Redis that they share."""

from __future__ import annotations

import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from prefsync.testing.mount import KEY
from tests.servers import PrivatePostgres, PrivateRedis, ServerProcess

if TYPE_CHECKING:
    import random
    from contextlib import ExitStack

ROOT = Path(__file__).parent.parent.parent

GUNICORN = "-m gunicorn --bind 127.0.0.1:{port} --preload --no-control-socket --log-level warning --chdir tests/faults"

MOUNTS = {
    "FastAPI": f"{GUNICORN} --worker-class uvicorn_worker.UvicornWorker app:app",
    "Flask": f"{GUNICORN} --threads 100 wsgi_app:app",
}
"""Preloaded, so that the place of a worker that was killed is taken at once."""

# Seconds after which a worker that was killed has another in its place.
REPLACED_WITHIN = 60.0


class Fleet:
    """Servers of both mounts.

    Args:
        stack: Ends them.
        workers: How many each has.
        **environment: More settings of theirs.

    Attributes:
        postgres: Their database.
        redis: Their cache and notifier.
        servers: The servers by mount.
    """

    def __init__(self, stack: ExitStack, workers: int = 2, **environment: str) -> None:
        self.postgres = stack.enter_context(PrivatePostgres())
        self.redis = stack.enter_context(PrivateRedis())
        self._environment = {
            "PREFSYNC_DATABASE_URL": self.postgres.url,
            "PREFSYNC_REDIS_URL": self.redis.url,
            "PREFSYNC_RATE_LIMIT": "10000000/minute",
            "PREFSYNC_JWT_KEY": KEY,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]),
            **environment,
        }
        self._workers = workers
        with ThreadPoolExecutor() as threads:  # most of a start is imports: one on each core
            started = threads.map(lambda mount: self.start(mount, workers, stack), MOUNTS)
            self.servers = dict(zip(MOUNTS, started, strict=True))

    @property
    def urls(self) -> list[str]:
        """Where the servers answer."""
        return [server.url for server in self.servers.values()]

    def start(self, mount: str, workers: int, stack: ExitStack, **environment: str) -> ServerProcess:
        """Start one more server; the stack ends it."""
        command = [sys.executable, *MOUNTS[mount].split(), "--workers", str(workers)]
        settings = {**self._environment, **environment}
        return stack.enter_context(ServerProcess(command, settings, path="/open"))

    def workers(self) -> list[psutil.Process]:
        """Return the workers of the servers, the oldest first."""
        found = [one for server in self.servers.values() for one in psutil.Process(server.pid).children()]
        return sorted(found, key=lambda one: one.create_time())

    def kill_worker(self, chance: random.Random) -> None:
        """Kill one where it stands: any of those that have been there for longest, while younger ones begin."""
        present = self._all_workers()
        os.kill(chance.choice(present[: len(present) // 2]).pid, signal.SIGKILL)

    def _all_workers(self) -> list[psutil.Process]:
        deadline = time.monotonic() + REPLACED_WITHIN
        while len(found := self.workers()) < self._workers * len(self.servers):
            if time.monotonic() > deadline:
                raise TimeoutError(f"a worker was not replaced within {REPLACED_WITHIN} s")
            time.sleep(0.01)
        return found
