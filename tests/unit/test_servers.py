"""The tests' own servers keep their promises: what they break is broken, and comes back."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
import pytest
import redis
from anyio.to_thread import run_sync

from tests.servers import HOST, ServerProcess, TcpProxy

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers import PrivatePostgres, PrivateRedis

pytestmark = pytest.mark.once

LIMIT = 0.3
"""Seconds without an answer that count as silence; a server that lives answers in a millisecond."""

ECHO_APP = """
import http.server, sys
print("listening", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.BaseHTTPRequestHandler).serve_forever()
"""


def test_a_paused_redis_is_silent_and_then_goes_on(private_redis: Callable[[], PrivateRedis]) -> None:
    """Commands are not answered while it is paused; afterwards those on the same connection are."""
    server = private_redis()
    with redis.Redis.from_url(server.url, single_connection_client=True) as client:
        client.set("key", "value")
        server.pause()
        client.connection.send_command("GET", "key")
        assert not client.connection.can_read(timeout=LIMIT)
        server.resume()
        assert client.connection.read_response() == b"value"


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_redis_comes_back_with_its_port_and_data(private_redis: Callable[[], PrivateRedis], end: str) -> None:
    """Down it refuses connections; after a restart the URL and the data are what they were."""
    server = private_redis()
    with redis.Redis.from_url(server.url, retry=None) as client:
        client.set("key", "value")
        getattr(server, end)()
        with pytest.raises(redis.ConnectionError):
            client.get("key")
        server.restart()
        assert client.get("key") == b"value"


async def test_postgres_comes_back_with_its_port_and_data(
    private_postgres: Callable[[], PrivatePostgres],
) -> None:
    """A killed PostgreSQL ends open connections; after a restart the URL and the data are what they were."""
    server = await run_sync(private_postgres)
    connection = await asyncpg.connect(server.url)
    await connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    await run_sync(server.kill)
    with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)):
        await connection.fetchval("SELECT one FROM kept")
    await run_sync(server.restart)
    connection = await asyncpg.connect(server.url)
    assert await connection.fetchval("SELECT one FROM kept") == 1
    await connection.close()


async def test_a_paused_postgres_is_silent_and_then_goes_on(
    private_postgres: Callable[[], PrivatePostgres],
) -> None:
    """An open connection gets no answer while it is paused, since its backend is paused too, and then goes on."""
    server = await run_sync(private_postgres)
    connection = await asyncpg.connect(server.url)
    server.pause()
    answer = asyncio.create_task(connection.fetchval("SELECT 1"))
    done, _ = await asyncio.wait([answer], timeout=LIMIT)
    assert not done
    server.resume()
    assert await asyncio.wait_for(answer, 10) == 1
    await connection.close()


async def test_a_database_of_the_runs_own_is_there(postgres_url: str) -> None:
    """The session's database is reachable by its URL, and UTF-8."""
    connection = await asyncpg.connect(postgres_url)
    assert await connection.fetchval("SELECT current_database()") == urlsplit(postgres_url).path[1:]
    assert await connection.fetchval("SHOW server_encoding") == "UTF8"
    await connection.close()


def test_redis_is_shared_by_prefixes(redis_url: str, redis_prefix: str) -> None:
    """The shared Redis answers, and the test's prefix holds nothing yet."""
    with redis.Redis.from_url(redis_url) as client:
        assert not list(client.scan_iter(f"{redis_prefix}*", count=1000))
        client.set(f"{redis_prefix}key", "value")


async def test_the_proxy_cuts_and_heals() -> None:
    """A cut closes open connections and refuses new ones; healed, the same port works again."""
    async with await asyncio.start_server(_echo, HOST, 0) as echo, _proxy_to(echo) as proxy:
        reader, writer = await asyncio.open_connection(HOST, proxy.port)
        assert await _say(reader, writer, b"before") == b"before"
        await proxy.cut()
        assert await reader.read() == b""
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, proxy.port)
        await proxy.heal()
        reader, writer = await asyncio.open_connection(HOST, proxy.port)
        assert await _say(reader, writer, b"after") == b"after"
        writer.close()


async def test_the_proxy_holds_what_falls_into_a_black_hole() -> None:
    """Nothing passes, on old connections and new ones, until the proxy is healed."""
    async with await asyncio.start_server(_echo, HOST, 0) as echo, _proxy_to(echo) as proxy:
        ends = [await asyncio.open_connection(HOST, proxy.port)]
        await proxy.blackhole()
        ends.append(await asyncio.open_connection(HOST, proxy.port))
        answers = [asyncio.create_task(_say(reader, writer, b"lost?")) for reader, writer in ends]
        done, _ = await asyncio.wait(answers, timeout=LIMIT)
        assert not done
        await proxy.heal()
        assert await asyncio.wait_for(asyncio.gather(*answers), 10) == [b"lost?", b"lost?"]
        for _, writer in ends:
            writer.close()


async def test_the_proxy_delays() -> None:
    """An answer takes the delay of both directions."""
    async with await asyncio.start_server(_echo, HOST, 0) as echo, _proxy_to(echo) as proxy:
        await proxy.delay(0.1)
        reader, writer = await asyncio.open_connection(HOST, proxy.port)
        before = asyncio.get_running_loop().time()
        await _say(reader, writer, b"slow")
        assert asyncio.get_running_loop().time() - before >= 0.2
        writer.close()


def test_a_server_process_runs_until_it_is_ended() -> None:
    """It is up inside the block, whatever status it answers with; its output is kept."""
    with ServerProcess([sys.executable, "-c", ECHO_APP, "{port}"]) as server:
        assert "listening" in server.output
        assert server.terminate() == -15


def test_a_server_process_that_fails_shows_why() -> None:
    """The error at the start carries what the process printed."""
    with (
        pytest.raises(RuntimeError, match="no such luck"),
        ServerProcess([sys.executable, "-c", "exit('no such luck')"]),
    ):
        pass


def _proxy_to(server: asyncio.Server) -> TcpProxy:
    return TcpProxy(HOST, server.sockets[0].getsockname()[1])


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
    writer.close()


async def _say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, word: bytes) -> bytes:
    writer.write(word + b"\n")
    return (await reader.readline()).strip()
