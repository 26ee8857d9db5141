"""Take the picture of the dashboard anew: ``python -m tests.telemetry.picture``, with ``prometheus`` on the path.

Both example apps on one PostgreSQL and one Redis, users with several devices each, and for half a minute no Redis. A
Prometheus of its own reads what the apps tell; each panel of ``docs/dashboard.json`` is drawn from its own queries. It
fails where a panel has nothing to show.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import random
import re
import shutil
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx2
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from prefsync.testing.mount import KEY
from prefsync.testing.mount.callers import BOTH, mint
from tests.faults.crowd import NO_TLS, headers_of, open_web_socket
from tests.servers import (
    HOST,
    PrivatePostgres,
    PrivateRedis,
    PrivateServer,
    ServerProcess,
    ServerUnavailableError,
)
from tests.telemetry.panels import Series, draw

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

ROOT: Final = Path(__file__).parents[2]
PICTURE: Final = ROOT / "docs" / "images" / "dashboard.png"

SCRAPE: Final = 5
"""Seconds between two looks of Prometheus, and between two points of the picture."""

WARM: Final = 30
"""Seconds before the picture begins."""

OUTAGE: Final = 30
"""Seconds that Redis is away, from the middle of the picture on."""

USERS: Final = [f"user-{number}" for number in range(12)]
DEVICES: Final = 3

# What demo.py does, with a database and a Redis that two processes share.
SERVE: Final = """
import socket, sys
import demo, demo_telemetry
demo_telemetry.start()
getattr(demo, sys.argv[1])(socket.create_server(("127.0.0.1", int(sys.argv[2]))), None)
"""

TROUBLE: Final = (OSError, EOFError, httpx2.TransportError, WebSocketException, TimeoutError)
"""What a client meets with when it, or its server, goes away."""


class PrivatePrometheus(PrivateServer):
    """A Prometheus that reads the metrics of some apps.

    Args:
        ports: Of the apps, on this machine.
    """

    _stop_signal = signal.SIGTERM

    def __init__(self, ports: Sequence[int]) -> None:
        super().__init__()
        found = shutil.which("prometheus")
        if found is None:
            raise ServerUnavailableError("no Prometheus: put prometheus on PATH, or apt-get install it")
        self._binary = found
        self._ports = ports

    @property
    def url(self) -> str:
        """Where it is asked."""
        return f"http://{HOST}:{self.port}"

    def _prepare(self) -> None:
        apps = [{"targets": [f"{HOST}:{port}" for port in self._ports]}]
        config = {
            "global": {"scrape_interval": f"{SCRAPE}s", "scrape_timeout": f"{SCRAPE}s"},
            "scrape_configs": [{"job_name": "prefsync", "static_configs": apps}],
        }
        (self._home / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML

    def _command(self) -> list[str]:
        options = {
            "config.file": self._home / "prometheus.yml",
            "storage.tsdb.path": self._home / "data",
            "web.listen-address": f"{HOST}:{self.port}",
        }
        return [self._binary, *(f"--{name}={value}" for name, value in options.items())]

    def _answers(self) -> bool:
        with contextlib.suppress(httpx2.TransportError):
            return httpx2.get(f"{self.url}/-/ready", verify=NO_TLS, trust_env=False).status_code == 200
        return False

    def ask(self, target: Mapping[str, Any], start: float, end: float) -> list[Series]:
        """Answer one target of a panel, its variables replaced as Grafana does it."""
        variables = {
            "$__rate_interval": f"{4 * SCRAPE}s",
            "$__range": f"{round(end - start)}s",
            "$job": ".*",
        }
        query = re.sub(r"\$\w+", lambda name: variables[name[0]], target["expr"])
        way, when = "query_range", {"start": start, "end": end, "step": SCRAPE}
        if target.get("instant"):
            way, when = "query", {"time": end}
        answer = httpx2.get(
            f"{self.url}/api/v1/{way}", params={"query": query, **when}, verify=NO_TLS, trust_env=False
        )
        found = answer.raise_for_status().json()["data"]["result"]
        return [Series(one["metric"], _numbers(one.get("values") or [one["value"]])) for one in found]


def _numbers(values: Sequence[tuple[float, str]]) -> list[tuple[float, float]]:
    return [(at, float(value)) for at, value in values if not math.isnan(float(value))]


class Crowd:
    """Users whose devices follow, read and write through both apps, and some who are refused.

    Args:
        bases: The URLs of the apps.
    """

    def __init__(self, bases: Sequence[str]) -> None:
        self._bases = bases
        self._chance = random.Random(9)
        self._client = httpx2.AsyncClient(
            verify=NO_TLS, trust_env=False, timeout=30, limits=httpx2.Limits(max_connections=None)
        )

    async def run(self, seconds: float) -> None:
        """Go on for a time."""
        users = [*USERS, "shared"]
        tasks = [
            asyncio.create_task(work)
            for user in users
            for work in (
                *(self._device(user, seconds / 3) for _ in range(DEVICES)),
                self._reader(user),
                self._writer(user, 3.0),
            )
        ]
        # They write to the same user at once, through both apps: now and then one loses a race.
        tasks += [asyncio.create_task(self._writer("shared", 1.0)) for _ in range(2)]
        tasks += [asyncio.create_task(self._refused()), asyncio.create_task(self._loop(seconds * 0.75))]
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.aclose()
        for task in done:
            task.result()

    async def _device(self, user: str, arrival: float) -> None:
        """Follow for a while, be away for a moment, and come back to where it was."""
        await asyncio.sleep(self._chance.uniform(0, arrival))
        revision = None
        while True:
            follow = self._chance.choice((self._events, self._web_socket, self._socket_io))
            since: dict[str, Any] = {} if revision is None else {"since": revision}
            if since and self._chance.random() < 0.1:
                since["schema"] = "of-an-older-version"  # as after a deploy that changed defaults
            stream = follow(self._chance.choice(self._bases), user, since)
            with contextlib.suppress(*TROUBLE):
                async with asyncio.timeout(self._chance.uniform(20, 80)), contextlib.aclosing(stream):
                    async for message in stream:
                        for found in re.findall(r'"revision":\s*(\d+)', message):
                            revision = int(found)
            await asyncio.sleep(self._chance.uniform(0.5, 5))

    async def _events(self, base: str, user: str, since: dict[str, Any]) -> AsyncGenerator[str]:
        url = f"{base}/preferences/events"
        async with self._client.stream("GET", url, params=since, headers=headers_of(user)) as answer:
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                yield line

    async def _web_socket(self, base: str, user: str, since: dict[str, Any]) -> AsyncGenerator[str]:
        async with open_web_socket(base, headers_of(user)) as socket:
            await socket.send(json.dumps({"type": "hello", **since}))
            async for message in socket:
                yield str(message)

    async def _socket_io(self, base: str, user: str, since: dict[str, Any]) -> AsyncGenerator[str]:
        url = f"{base.replace('http', 'ws', 1)}/preferences/socket.io/?EIO=4&transport=websocket"
        token = headers_of(user)["authorization"].removeprefix("Bearer ")
        async with connect(url, proxy=None) as socket:
            await socket.recv()  # Engine.IO's own greeting
            await socket.send(f"40/preferences,{json.dumps({'token': token, **since})}")
            async for message in socket:
                if message == "2":
                    await socket.send("3")  # it is still there
                yield str(message)

    async def _send(self, method: str, user: str, body: object = None, **headers: str) -> None:
        url = f"{self._chance.choice(self._bases)}/preferences/appearance"
        content = None if body is None else json.dumps(body)
        with contextlib.suppress(*TROUBLE):
            await self._client.request(method, url, content=content, headers={**headers_of(user), **headers})

    async def _reader(self, user: str) -> None:
        while True:
            await asyncio.sleep(self._chance.expovariate(1))
            await self._send("GET", user)

    async def _writer(self, user: str, pause: float) -> None:
        while True:
            await asyncio.sleep(self._chance.expovariate(1 / pause))
            await self._send("PATCH", user, {"font_size": self._chance.randint(8, 72)})

    async def _refused(self) -> None:
        """Be a device whose token is too old, a front end that is, and one that edits an old state."""
        expired = mint({"sub": USERS[0], "exp": 1_000_000_000, "scope": BOTH}, key=KEY)
        while True:
            await asyncio.sleep(self._chance.expovariate(1))
            drawn = self._chance.random()
            if drawn < 0.4:
                await self._send("GET", USERS[0], authorization=f"Bearer {expired}")
            elif drawn < 0.7:
                await self._send("PATCH", USERS[1], {"theme": "sepia"})
            else:
                await self._send("PATCH", USERS[2], {"theme": "dark"}, **{"if-match": '"old"'})

    async def _loop(self, after: float) -> None:
        """Be a front end that asks again and again, from some time on."""
        await asyncio.sleep(after)
        while True:
            await asyncio.sleep(self._chance.expovariate(3))
            await self._send("GET", "loop")


async def outage(redis: PrivateRedis, after: float) -> None:
    """Take Redis away for a while."""
    await asyncio.sleep(after)
    await asyncio.to_thread(redis.stop)
    await asyncio.sleep(OUTAGE)
    await asyncio.to_thread(redis.start)


def main() -> int:
    """Take the picture; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("minutes", nargs="?", type=float, default=6)
    shown = parser.parse_args().minutes * 60
    with ExitStack() as stack:
        postgres, redis = stack.enter_context(PrivatePostgres()), stack.enter_context(PrivateRedis())
        environment = {
            "PREFSYNC_DATABASE_URL": postgres.url,
            "PREFSYNC_REDIS_URL": redis.url,
            "PREFSYNC_TELEMETRY": "true",
            "PREFSYNC_JWT_KEY": KEY,
            "PREFSYNC_RATE_LIMIT": "1200/minute",
            "PREFSYNC_RATE_LIMIT_READS": "90/minute",
        }
        apps = [
            stack.enter_context(
                ServerProcess(
                    [sys.executable, "-c", SERVE, way, "{port}"],
                    environment,
                    path="/metrics",
                    cwd=ROOT / "examples",
                )
            )
            for way in ("serve_fastapi", "serve_flask")
        ]
        prometheus = stack.enter_context(PrivatePrometheus([app.port for app in apps]))

        async def happen() -> None:
            away = asyncio.create_task(outage(redis, WARM + shown / 2))
            await Crowd([app.url for app in apps]).run(WARM + shown)
            await away

        asyncio.run(happen())
        end = time.time() // SCRAPE * SCRAPE
        start = end - shown
        dashboard = json.loads((ROOT / "docs" / "dashboard.json").read_text(encoding="utf-8"))
        empty = draw(
            dashboard, lambda target: prometheus.ask(target, start, end), (start, end, SCRAPE), PICTURE
        )
        for app in apps:
            sys.stdout.write(app.output)
    size = PICTURE.stat().st_size / 1000
    sys.stdout.write(f"{PICTURE.relative_to(ROOT)}: {size:.0f} kB\n")
    for name in empty:
        sys.stdout.write(f"nothing to show: {name}\n")
    return bool(empty)


if __name__ == "__main__":
    sys.exit(main())
