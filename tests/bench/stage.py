"""The servers of a run: found or started, filled, and left as they were."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import redis

from tests.bench.cores import pin
from tests.bench.floor import Answer
from tests.bench.meters import RedisMeter
from tests.servers import (
    PrivatePostgres,
    PrivateRedis,
    ServerProcess,
    ServerUnavailableError,
    create_database,
    drop_database,
    local_postgres,
    local_redis,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from collections.abc import Set as AbstractSet

    from tests.bench.cores import Cores

__all__ = [
    "CONSTANT",
    "UNCHANGED",
    "Stage",
    "Stores",
    "found_stores",
    "prefsync_settings",
    "server_of",
    "started",
]

ROOT: Final = Path(__file__).parents[2]

CONSTANT: Final = "/constant"
UNCHANGED: Final = "/unchanged"

_RATE_LIMIT: Final = "1000000/minute"
"""Limits are on, shared and exact, and refuse nobody."""

_NEAR_CACHE: Final = "64MiB"

_THREADS: Final = 4
"""Of gunicorn: more of them take the interpreter from one another."""

_OF_UVICORN: Final = {"server", "date"}


class _Redis(PrivateRedis):
    """A Redis as one sets it up for a cache: it keeps nothing on disk."""

    def _command(self) -> list[str]:
        return [*super()._command(), "--appendonly", "no"]


@dataclass(frozen=True, slots=True)
class Stores:
    """What the servers under measurement keep their data in.

    Attributes:
        postgres: URL of a database that is dropped afterwards.
        redis: URL of an empty database.
        meter: Counts what Redis does.
        notes: What readers of the figures should know.
    """

    postgres: str
    redis: str
    meter: RedisMeter
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Stage:
    """The servers under measurement.

    Attributes:
        servers: By name: ``prefsync``, the same with a near cache, ``near``, ``floor``, the server written by hand,
            ``handwritten``, the floors of fan-out, ``broadcast`` and ``rooms``, and under Flask ``flask`` and
            ``flask_floor``.
    """

    servers: dict[str, ServerProcess]


@contextmanager
def found_stores(cores: Cores) -> Iterator[Stores]:
    """Find or start PostgreSQL and Redis; what was made on them is removed at the end.

    Raises:
        ServerUnavailableError: There is none, and no way to start one.
    """
    notes: list[str] = []
    with ExitStack() as stack:
        server = os.environ.get("PREFSYNC_TEST_POSTGRES_URL") or local_postgres()
        if server is None:
            server = stack.enter_context(PrivatePostgres()).url
            notes.append("a private PostgreSQL without fsync")
        name = f"prefsync_bench_{secrets.token_hex(8)}"
        postgres = create_database(server, name)
        stack.callback(drop_database, server, name)
        try:
            pin(cores.rest)
            url = stack.enter_context(_Redis()).url
        except ServerUnavailableError:
            url = stack.enter_context(_shared_redis())
            notes.append("a shared Redis: its counters have what others do, too")
        finally:
            pin(cores.load)
        meter = RedisMeter(url)
        stack.callback(meter.close)
        yield Stores(postgres, url, meter, notes)


@contextmanager
def started(
    cores: Cores,
    postgres: str,
    redis_url: str,
    key: str,
    sample: Callable[[int], dict[str, bytes]],
    only: AbstractSet[str] = frozenset(),
) -> Iterator[Stage]:
    """Start the servers under measurement.

    Args:
        cores: Where.
        postgres: URL of the database.
        redis_url: URL of Redis.
        key: What tokens are signed with.
        sample: Called with the port of a server; fills it, and returns real answers by the path under which the floor
            is to repeat those of the example app.
        only: Which servers; all if empty. The floors of requests need ``prefsync``.
    """
    of_prefsync = prefsync_settings(postgres, redis_url, key)
    by_hand = {"BENCH_DATABASE_URL": postgres, "BENCH_REDIS_URL": redis_url, "BENCH_JWT_KEY": key}
    threads = ("--threads", str(_THREADS))
    servers: dict[str, ServerProcess] = {}
    with ExitStack() as stack:
        answers = (
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="prefsync-bench-"))) / "answers.json"
        )
        of_floors = {"BENCH_DATABASE_URL": postgres, "BENCH_ANSWERS": str(answers)}

        def start(
            name: str, folder: str, app: str, settings: dict[str, str], *more: str, path: str = "/"
        ) -> None:
            if not only or name in only:
                servers[name] = stack.enter_context(server_of(cores, folder, app, settings, *more, path=path))

        start("prefsync", "examples", "fastapi_app:app", of_prefsync)
        nearby = {**of_prefsync, "PREFSYNC_NEAR_CACHE": _NEAR_CACHE}
        start("near", "examples", "fastapi_app:app", nearby)
        if not only or only & {"floor", "flask_floor"}:
            real = {path: _answer(answer) for path, answer in sample(servers["prefsync"].port).items()}
            answers.write_text(json.dumps(real))
        start("floor", ".", "tests.bench.floor:app", of_floors, path=CONSTANT)
        start("handwritten", ".", "tests.bench.handwritten:app", by_hand)
        if "handwritten" in servers:
            sample(servers["handwritten"].port)
        start("broadcast", ".", "tests.bench.broadcast:app", {})
        start("rooms", ".", "tests.bench.rooms:app", {})
        start("flask", "examples", "flask_app:app", of_prefsync, *threads)
        start("flask_floor", ".", "tests.bench.flask_floor:app", of_floors, *threads, path=CONSTANT)
        yield Stage(servers)


def prefsync_settings(postgres: str, redis_url: str, key: str) -> dict[str, str]:
    """Return the environment of the example apps."""
    return {
        "PREFSYNC_DATABASE_URL": postgres,
        "PREFSYNC_REDIS_URL": redis_url,
        "PREFSYNC_JWT_KEY": key,
        "PREFSYNC_RATE_LIMIT": _RATE_LIMIT,
        "PREFSYNC_MAX_SESSIONS_PER_SUBJECT": "100000",
    }


def server_of(
    cores: Cores, folder: str, app: str, settings: dict[str, str], *options: str, path: str = "/"
) -> ServerProcess:
    """Return an app's process, which is to run on the servers' core."""
    where = ",".join(map(str, sorted(cores.server)))
    serve = [sys.executable, "-m", "tests.bench.serve", folder, app, *options]
    command = [*serve, "--port", "{port}", "--cores", where]
    return ServerProcess(command, settings, path=path, cwd=ROOT)


def _answer(answer: bytes) -> Answer:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    kept = [(name, value) for name, value in headers if name.lower() not in _OF_UVICORN]
    return Answer(status=int(first.split(" ")[1]), headers=kept, body=body.decode())


@contextmanager
def _shared_redis() -> Iterator[str]:
    """Find an empty database of a Redis that others use, too, and empty it again.

    Raises:
        ServerUnavailableError: There is none.
    """
    url = os.environ.get("PREFSYNC_TEST_REDIS_URL") or local_redis()
    if url is None:
        message = "no Redis: put redis-server on PATH, or set PREFSYNC_TEST_REDIS_URL"
        raise ServerUnavailableError(message)
    with contextlib.closing(redis.Redis.from_url(url)) as client:
        told: Any = client.info("keyspace")
    base = url.rpartition("/")[0] if url.count("/") > 2 else url
    free = next((number for number in range(15, 0, -1) if f"db{number}" not in told), None)
    if free is None:
        message = f"no free database on {url}"
        raise ServerUnavailableError(message)
    yield f"{base}/{free}"
    with contextlib.closing(redis.Redis.from_url(f"{base}/{free}")) as client:
        for key in client.scan_iter("prefsync*", count=1000):
            client.unlink(key)
