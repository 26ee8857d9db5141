"""A server that is asked to end ends in order: requests are finished, streams are told, and it is gone soon."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest
from anyio.to_thread import run_sync
from websockets.exceptions import ConnectionClosedError

from prefsync.testing.mount import KEY
from tests.faults.crowd import LIMIT, Crowd, headers_of, http_client, open_web_socket, try_to_open
from tests.servers import HOST, ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent.parent

SESSIONS = 200
"""Of each kind."""

HELD = 5
"""Requests of each kind that are under way when the server is asked to end."""

GONE_WITHIN = 10.0
"""Seconds."""


@dataclass(frozen=True)
class Server:
    """A way to run the app.

    Attributes:
        command: Of the server, less the Python that runs it.
        after_term: Its exit code after SIGTERM without any streams.
        refusal: How it answers a WebSocket's handshake that is refused with 503.
        waits: Whether each of its processes has a request that outlasts the writes over WebSockets: granian and
            gunicorn's workers for WSGI wait for requests alone, and this test's may all be at one process.
        is_at_once: Whether all of its processes refuse new streams as soon as one does: gunicorn's with gevent go on
            accepting, and each looks for the signal four times a second.
    """

    command: str
    after_term: int = 0
    refusal: str = "503"
    waits: bool = True
    is_at_once: bool = True


UVICORN = "-m uvicorn --app-dir tests/faults app:app --port {port} --no-access-log"
GRANIAN = "-m granian --interface asgi --working-dir tests/faults app:app --port {port} --no-access-log"
# Half of the threads may be held by streams and long polls.
FLASK = "-m gunicorn --chdir tests/faults --bind 127.0.0.1:{port} wsgi_app:app"
GUNICORN = "-m gunicorn --chdir tests/faults app:app --bind 127.0.0.1:{port}"

SERVERS = {
    "uvicorn": Server(UVICORN, -signal.SIGTERM),
    "uvicorn, 2 workers": Server(f"{UVICORN} --workers 2"),
    # Takes the signal from the event loop, and sends from threads of its own, which end soon afterwards.
    "granian": Server(GRANIAN),
    "granian, 2 workers": Server(f"{GRANIAN} --workers 2", waits=False),
    "granian, on asyncio": Server(f"{GRANIAN} --loop asyncio"),
    "gunicorn, uvicorn's worker": Server(
        f"{GUNICORN} --workers 2 --worker-class uvicorn_worker.UvicornWorker"
    ),
    # Knows no extension "websocket.http.response", without which an app cannot say more than "no".
    "gunicorn, Flask on threads": Server(f"{FLASK} --threads 900"),
    "gunicorn, Flask on threads, 2 workers": Server(f"{FLASK} --threads 900 --workers 2", waits=False),
    "gunicorn, Flask on gevent": Server(f"{FLASK} -k gevent"),
    "gunicorn, Flask on gevent, 2 workers": Server(
        f"{FLASK} -k gevent --workers 2", waits=False, is_at_once=False
    ),
    "gunicorn, its own worker": Server(f"{GUNICORN} --workers 2 --worker-class asgi", refusal="403"),
}


@pytest.mark.once
@pytest.mark.parametrize("name", SERVERS)
async def test_sigterm_ends_everything_in_order(
    name: str,
    postgres_url: str,
    redis_url: str,
    redis_prefix: str,
    tmp_path: Path,
    report: Callable[[str], None],
) -> None:
    """All requests under way succeed, all streams are told, no new one is let in, and the server is gone in 10 s."""
    server = SERVERS[name]
    environment = {
        "PREFSYNC_DATABASE_URL": postgres_url,
        "PREFSYNC_REDIS_URL": redis_url,
        "PREFSYNC_REDIS_PREFIX": redis_prefix,
        "PREFSYNC_RATE_LIMIT": "100000/minute",
        "PREFSYNC_JWT_KEY": KEY,
        "FAULTS_HOLD": str(tmp_path),
        "HOME": str(tmp_path),  # where gunicorn leaves a socket
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    process = ServerProcess([sys.executable, *server.command.split()], environment, path="/open")
    ends: Counter[tuple[str, str]] = Counter()
    async with AsyncExitStack() as stack:
        await run_sync(process.__enter__)
        stack.push_async_callback(run_sync, process.__exit__)
        crowd = await stack.enter_async_context(Crowd(process.url, SESSIONS, ends))
        await all_open(process.url, 3 * SESSIONS)
        held = [
            *(asyncio.create_task(put(process.url, f"held-{name}-{number}")) for number in range(HELD)),
            *(asyncio.create_task(patch(process.url, f"held-ws-{name}-{number}")) for number in range(HELD)),
        ]
        upload = await Upload.begin(process.port, f"upload-{name}")
        stack.callback(upload.close)
        async with asyncio.timeout(LIMIT):
            while len(list(tmp_path.glob("waits-*"))) < 2 * HELD:
                await asyncio.sleep(0.01)

        started = time.monotonic()
        os.kill(process.pid, signal.SIGTERM)
        async with asyncio.timeout(LIMIT):
            await crowd.told.wait()
        told = time.monotonic() - started
        refused = await try_to_open(process.url, "late")
        (tmp_path / "go").touch()
        results = Counter(await asyncio.gather(*held))
        results[await upload.finish()] += 1
        code = await run_sync(process._process.wait, LIMIT)
        took = time.monotonic() - started
        await crowd.all_ended()
        report(
            f"{name:26} told {told:.2f} s, gone {took:.2f} s; streams and polls told {ends.total()},"
            f" requests answered {results.total()}; late ones: SSE {refused['sse']}, WebSocket {refused['ws']}"
        )
        output = process.output[-1500:]
    assert ends == dict.fromkeys(Crowd.GOOD.items(), SESSIONS), output
    assert results["200"] == HELD + 1
    assert results["ack, then 1001"] == HELD or not server.waits, (results, output)
    assert refused["sse"] in {"503", "no connection"} or not server.is_at_once
    assert refused["ws"] in {server.refusal, "no connection"} or not server.is_at_once
    assert took < GONE_WITHIN
    assert code == server.after_term


async def all_open(base: str, number: int) -> None:
    """Return when the server's processes together have so many streams and long polls open."""
    found: dict[int, int] = {}
    async with asyncio.timeout(LIMIT), http_client(base) as client:
        while sum(found.values()) < number:
            answer = (await client.get(f"{base}/open")).json()
            found[answer["pid"]] = answer["open"]
            await asyncio.sleep(0.05)  # in which they are let in
    assert sum(found.values()) == number


async def put(base: str, user: str) -> str:
    """Write, and return what became of it."""
    async with http_client(base) as client:
        try:
            body = b'{"appearance": {"theme": "dark"}}'
            return str((await client.put("", headers=headers_of(user), content=body)).status_code)
        except httpx2.TransportError as error:
            return repr(error)


async def patch(base: str, user: str) -> str:
    """Write over a WebSocket, and return what became of it, and how the socket ended."""
    async with open_web_socket(base, headers_of(user)) as socket:
        await socket.send('{"type":"hello"}')
        await socket.recv()
        await socket.send('{"type":"patch","id":"1","patch":{"appearance":{"theme":"dark"}}}')
        answers: list[str] = []
        with contextlib.suppress(ConnectionClosedError):
            async for frame in socket:
                told = json.loads(frame)
                if told["type"] in {"ack", "nack"}:  # what came before a cut counts
                    answers.append(told["type"] if told["type"] == "ack" else f"nack {told['problem']}")
    return f"{' '.join(answers) or 'nothing'}, then {socket.close_code}"


class Upload:
    """A request whose body comes in two parts."""

    BODY = b'{"appearance": {"theme": "dark"}}'

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.close = writer.close

    @classmethod
    async def begin(cls, port: int, user: str) -> Upload:
        """Send half of it."""
        upload = cls(*await asyncio.open_connection(HOST, port))
        headers = {"host": HOST, "content-length": len(cls.BODY), **headers_of(user)}
        head = "PUT /preferences HTTP/1.1\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in headers.items()
        )
        upload._writer.write(head.encode() + b"\r\n" + cls.BODY[:10])
        await upload._writer.drain()
        return upload

    async def finish(self) -> str:
        """Send the rest, and return the answer's status."""
        self._writer.write(self.BODY[10:])
        line = await self._reader.readline()
        return line.split()[1].decode() if line else "cut"
