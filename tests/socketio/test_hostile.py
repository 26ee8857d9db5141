"""Clients of Socket.IO that do not behave: slow, broken, or too many. Spoken by hand, packet by packet."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import httpx2
import pytest
import websockets

from prefsync.testing.samples import HOSTILE_SUBJECTS
from tests.http.conftest import uvicorn_process
from tests.socketio.conftest import LIMIT, token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.servers import ServerProcess
    from tests.socketio.conftest import Node

Serve: TypeAlias = "Callable[[Mapping[str, str]], ServerProcess]"

pytestmark = [pytest.mark.once, pytest.mark.anyio]

OPEN = "/preferences/socket.io/?EIO=4&transport="
SEPARATOR = "\x1e"
JOINED = "40/preferences,"
EVENT = "42/preferences,"

BROKEN = {
    "empty": "",
    "engine": "9",
    "nothing": "4",
    "open": "0{}",
    "nested": "4" + "[" * 50_000,
    "deep": '42/preferences,["patch",' + "[" * 50_000 + "]" * 50_000 + "]",
    "twice": '42/preferences,["patch",{"id":"x","id":"y","patch":{}}]',
    "nan": '42/preferences,["patch",{"id":"x","patch":{"plugins":{"a":NaN}}}]',
    "name": '42/preferences,[{"patch":1}]',
    "attachments": '4599999-/preferences,["patch",{"_placeholder":true,"num":0}]',
    "attachment": "bAAAA",
    "acknowledgement": "43/preferences,1[]",
    "huge": "42/preferences," + "1" * 200 + '["patch",{}]',
    "error": "44/preferences,{}",
    "again": "40/preferences,{}",
    "elsewhere": '42["patch",{}]',
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, storage: dict[str, str]) -> Iterator[ServerProcess]:
    """A process with small caps; afterwards it has said nothing of errors."""
    file = tmp_path_factory.mktemp("hostile") / "prefsync.sqlite3"
    settings = {
        "PREFSYNC_DATABASE_URL": f"sqlite:///{file}",
        "PREFSYNC_JWT_KEY": storage["PREFSYNC_JWT_KEY"],
        "PREFSYNC_MAX_SESSIONS": "5",
        "PREFSYNC_MAX_SESSIONS_PER_SUBJECT": "2",
        "PREFSYNC_RATE_LIMIT": "10000/minute",
    }
    with uvicorn_process(settings) as process:
        yield process
        assert "Traceback" not in process.output


class Poller:
    """A client that polls when it is told to."""

    def __init__(self, http: httpx2.AsyncClient, server: ServerProcess, user: str) -> None:
        self._http = http
        self._url = f"{server.url}{OPEN}polling"
        self._user = user

    async def open(self) -> httpx2.Response:
        """Begin an Engine.IO session."""
        answer = await self._http.get(self._url)
        if answer.status_code == 200:
            self._url += "&sid=" + json.loads(answer.text[1:])["sid"]
        return answer

    async def join(self, auth: dict[str, str] | None = None) -> list[str]:
        """Connect, and return what is told up to the whole state."""
        await self.open()
        await self.post(JOINED + json.dumps(auth or {"token": token(self._user)}))
        told: list[str] = []
        while not any(packet.startswith(f'{EVENT}["reset"') for packet in told):
            told += await self.poll()
        return told

    async def post(self, payload: str) -> httpx2.Response:
        """Send packets."""
        return await self._http.post(self._url, content=payload.encode())

    async def poll(self) -> list[str]:
        """Return the packets that wait; a session that is over has one that closes."""
        answer = await self._http.get(self._url)
        return answer.text.split(SEPARATOR) if answer.status_code == 200 else ["1"]

    async def close(self) -> None:
        """End the Engine.IO session."""
        await self.post("1")


@pytest.fixture
async def http() -> Any:
    """A client over HTTP."""
    async with httpx2.AsyncClient(trust_env=False, timeout=3 * LIMIT) as client:
        yield client


@pytest.fixture
def user() -> str:
    """A user of whom nothing is stored."""
    return f"user-{secrets.token_hex(8)}"


async def write(http: httpx2.AsyncClient, server: ServerProcess, user: str, value: int) -> int:
    """Write over HTTP, and return the revision."""
    answer = await http.patch(
        f"{server.url}/preferences/plugins",
        headers={"Authorization": f"Bearer {token(user)}"},
        json={"n": value},
    )
    assert answer.status_code == 200
    return int(answer.headers["prefsync-revision"])


def changes(packets: list[str]) -> list[dict[str, Any]]:
    """Return the changes among packets."""
    return [
        json.loads(packet.removeprefix(EVENT))[1]
        for packet in packets
        if packet.startswith(f'{EVENT}["change"')
    ]


async def test_a_client_that_does_not_poll_is_told_of_many_changes_as_few(
    http: httpx2.AsyncClient, server: ServerProcess, user: str
) -> None:
    """However much was written since it polled, a few folded changes lead without a gap to the newest state."""
    poller = Poller(http, server, user)
    told = await poller.join()
    revision = json.loads(told[-1].removeprefix(EVENT))[1]["revision"]
    for value in range(30):
        newest = await write(http, server, user, value)
    found: list[dict[str, Any]] = []
    while not found or found[-1]["revision"] != newest:
        found += changes(await poller.poll())
    assert len(found) <= 3, "changes were queued for a client that did not poll"
    for change in found:
        assert change["previous"] == revision
        revision = change["revision"]
    assert found[-1]["changed"] == {"plugins": {"n": 29}}
    await poller.close()


async def test_an_upgrade_amid_changes_loses_and_reorders_none(
    node: Node, http: httpx2.AsyncClient, server: ServerProcess, user: str
) -> None:
    """While a client goes from polling to WebSocket, the chain of its changes has no break."""
    connection = node.connection("polling+websocket")
    connection.connect(server, token=token(user))
    revision, upgraded, newest = 0, False, -1
    for value in range(200):
        newest = await write(http, server, user, value)
    while revision < newest or not upgraded:
        told = await anyio.to_thread.run_sync(connection.hear)
        upgraded |= told.event == "upgrade"
        if told.event == "change":
            assert told.data["previous"] == revision
        if told.event in {"reset", "change"}:
            revision = told.data["revision"]
    connection.disconnect()


@pytest.mark.parametrize("packet", BROKEN.values(), ids=BROKEN.keys())
async def test_a_broken_packet_over_websocket_ends_the_connection(
    http: httpx2.AsyncClient, server: ServerProcess, user: str, packet: str
) -> None:
    """It gets a bye for the reason bad-frame and is closed; others are served."""
    url = server.url.replace("http", "ws") + f"{OPEN}websocket"
    async with websockets.connect(url, compression=None) as socket:
        await socket.send(JOINED + json.dumps({"token": token(user)}))
        while not str(await socket.recv()).startswith(f'{EVENT}["reset"'):
            pass
        await socket.send(packet)
        async with asyncio.timeout(LIMIT):
            told = [str(message) async for message in socket]
    assert told[:2] == [f'{EVENT}["bye",{{"reason":"bad-frame"}}]', "41/preferences,"]
    assert await write(http, server, user, 1)


@pytest.mark.parametrize("packet", BROKEN.values(), ids=BROKEN.keys())
async def test_a_broken_packet_in_a_payload_ends_the_connection(
    http: httpx2.AsyncClient, server: ServerProcess, user: str, packet: str
) -> None:
    """The next poll gets the bye, and the one after it finds no session; others are served."""
    poller = Poller(http, server, user)
    await poller.join()
    assert (await poller.post(packet)).status_code == 200
    told: list[str] = []
    while "1" not in told:
        told += await poller.poll()
    assert told[:2] == [f'{EVENT}["bye",{{"reason":"bad-frame"}}]', "41/preferences,"]
    assert await write(http, server, user, 1)


async def test_binary_messages_end_the_connection(server: ServerProcess, user: str) -> None:
    """Nothing of what the client sends is binary, so nothing is gathered."""
    url = server.url.replace("http", "ws") + f"{OPEN}websocket"
    async with websockets.connect(url, compression=None) as socket:
        await socket.send(JOINED + json.dumps({"token": token(user)}))
        while not str(await socket.recv()).startswith(f'{EVENT}["reset"'):
            pass
        await socket.send(b"attachment")
        async with asyncio.timeout(LIMIT):
            told = [str(message) async for message in socket]
    assert told[0] == f'{EVENT}["bye",{{"reason":"bad-frame"}}]'


async def test_a_payload_that_is_too_large_is_refused(
    http: httpx2.AsyncClient, server: ServerProcess, user: str
) -> None:
    """Reading stops at the limit for bodies: 413, as for any other body."""
    poller = Poller(http, server, user)
    await poller.open()
    answer = await poller.post("4" + "x" * 300_000)
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:prefsync:problem:too-large")
    await poller.close()


async def test_forty_packets_in_one_payload_are_all_answered(
    http: httpx2.AsyncClient, server: ServerProcess, user: str
) -> None:
    """More packets than python-engineio takes at once are taken nevertheless, in order."""
    poller = Poller(http, server, user)
    await poller.join()
    patch = {"id": "one", "patch": {"plugins": {"n": 1}}}
    payload = SEPARATOR.join(f'42/preferences,{number}["patch",{json.dumps(patch)}]' for number in range(40))
    answered: list[str] = []
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(poller.post(payload))
        while len(answered) < 40:
            answered += [packet for packet in await poller.poll() if packet.startswith("43/preferences,")]
    numbers = [int(packet.removeprefix("43/preferences,").partition("[")[0]) for packet in answered]
    assert numbers == list(range(40))
    await poller.close()


async def test_a_user_has_no_more_connections_than_one_may(
    http: httpx2.AsyncClient, server: ServerProcess, user: str
) -> None:
    """The third of two gets ``connect_error`` with a 503 problem; when one has gone there is room."""
    pollers = [Poller(http, server, user) for _ in range(4)]
    for poller in pollers[:2]:
        await poller.join()
    await pollers[2].open()
    await pollers[2].post(JOINED + json.dumps({"token": token(user)}))
    (refusal,) = await pollers[2].poll()
    assert refusal.startswith("44/preferences,")
    problem = json.loads(refusal.removeprefix("44/preferences,"))["data"]
    assert (problem["status"], problem["type"]) == (503, "urn:prefsync:problem:unavailable")
    assert problem["retry_after"] >= 1
    await pollers[0].close()
    await pollers[3].join()
    for poller in pollers[1:]:
        await poller.close()


async def test_hostile_ids(http: httpx2.AsyncClient, servers: tuple[ServerProcess, ServerProcess]) -> None:
    """Whatever users are called, each client is told of its own user's changes, by a token and by a ticket."""
    users = [subject.user for subject in HOSTILE_SUBJECTS if subject.tenant is None]
    headers = [{"Authorization": f"Bearer {token(user)}"} for user in users]
    pollers = [Poller(http, servers[0], user) for user in users]
    since: list[int] = []
    for number, poller in enumerate(pollers):
        auth = None
        if number % 2:
            answer = await http.post(f"{servers[1].url}/preferences/ticket", headers=headers[number])
            auth = {"ticket": answer.json()["ticket"]}
        told = await poller.join(auth)
        since.append(json.loads(told[-1].removeprefix(EVENT))[1]["revision"])
    for number, mine in enumerate(headers):
        patch = {"plugins": {"mark": f"{number} {secrets.token_hex(4)}"}}
        url = f"{servers[1].url}/preferences"
        assert (await http.patch(url, headers=mine, json=patch)).status_code == 200
    for number, poller in enumerate(pollers):
        found: list[dict[str, Any]] = []
        while not found:
            found = changes(await poller.poll())
        (change,) = found
        assert change["previous"] == since[number]
        assert change["changed"]["plugins"]["mark"].startswith(f"{number} "), ascii(users[number])
        await poller.close()


async def test_writes_and_connects_with_rates_of_their_own(
    http: httpx2.AsyncClient, serve: Serve, storage: dict[str, str], tmp_path: Path, user: str
) -> None:
    """Connects count with streams, patches with writes over HTTP; beyond either limit each is told when to come again."""
    rates = {"PREFSYNC_RATE_LIMIT_WRITES": "2/minute", "PREFSYNC_RATE_LIMIT_STREAMS": "1/minute"}
    database = {"PREFSYNC_DATABASE_URL": f"sqlite:///{tmp_path}/prefsync.sqlite3"}
    with serve({**database, "PREFSYNC_JWT_KEY": storage["PREFSYNC_JWT_KEY"], **rates}) as limited:
        poller, late = Poller(http, limited, user), Poller(http, limited, user)
        await poller.join()
        await write(http, limited, user, 1)
        replies: list[Any] = []
        for n in range(2):
            await poller.post(f'42/preferences,{n}["patch",{{"id":"k{n}","patch":{{}}}}]')
            while len(replies) == n:
                replies += [json.loads(p[16:])[0] for p in await poller.poll() if p.startswith("43")]
        assert [reply["type"] for reply in replies] == ["ack", "nack"]
        assert replies[1]["problem"]["type"] == "urn:prefsync:problem:rate-limited"
        assert 0 < replies[1]["problem"]["retry_after"] <= 60
        await late.open()
        await late.post(JOINED + json.dumps({"token": token(user)}))
        (refusal,) = [packet for packet in await late.poll() if packet.startswith("44")]
        problem = json.loads(refusal.removeprefix("44/preferences,"))["data"]
        assert problem["status"] == 429
        assert 0 < problem["retry_after"] <= 60
        for one in (poller, late):
            await one.close()


async def test_connections_that_never_join_count_too(
    http: httpx2.AsyncClient, server: ServerProcess, user: str
) -> None:
    """Beyond what the process takes, a handshake gets a 503 problem and ``Retry-After``."""
    pollers = [Poller(http, server, user) for _ in range(6)]
    answers = [await poller.open() for poller in pollers]
    assert [answer.status_code for answer in answers] == [200] * 5 + [503]
    assert answers[-1].json()["type"] == "urn:prefsync:problem:unavailable"
    assert "retry-after" in answers[-1].headers
    for poller in pollers[:5]:
        await poller.close()
    await pollers[5].join()
    await pollers[5].close()
