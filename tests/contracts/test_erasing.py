"""Erasing a subject, with real servers: nothing of it is left anywhere, and its sessions end on every process."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import secrets
import types
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import asyncpg
import psycopg
import pytest
import redis as blocking_redis

from prefsync import Runtime, Settings, Subject
from prefsync.document import Identity
from prefsync.http.messages import HttpRequest
from prefsync.service import IdempotentRequest
from prefsync.session import Farewell
from prefsync.testing.samples import PATIENCE
from tests.http.conftest import MODELS
from tests.servers import create_database, drop_database
from tests.unit.streams import Client, connected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from prefsync.document import Document

pytestmark = pytest.mark.once

_ELSEWHERE = (
    type,
    types.ModuleType,
    types.FunctionType,
    types.FrameType,
    types.CoroutineType,
    asyncio.AbstractEventLoop,
    asyncio.Task,
    asyncpg.Connection,  # whose buffer has the last answer until the next one comes
)


@pytest.fixture
def settings(postgres_url: str, redis_url: str, redis_prefix: str) -> Iterator[Settings]:
    """A database of the test's own, and its own keys in Redis."""
    name = f"prefsync_test_{secrets.token_hex(8)}"
    url = create_database(postgres_url, name)
    yield Settings(database_url=url, redis_url=redis_url, redis_prefix=redis_prefix.rstrip(":"), pool_size=2)
    drop_database(postgres_url, name)


@asynccontextmanager
async def processes(settings: Settings, count: int) -> AsyncIterator[list[Runtime]]:
    """Open what several processes would."""
    async with AsyncExitStack() as stack:
        runtimes = [Runtime(MODELS, settings=settings, authenticates=False) for _ in range(count)]
        for runtime in runtimes:
            await stack.enter_async_context(runtime)
            with anyio.fail_after(PATIENCE):
                while not runtime.hub.is_listening:
                    await anyio.sleep(0.01)
        yield runtimes


def all_that_is_stored(settings: Settings) -> str:
    """Return every row of every table, and every key with its value of every kind, as text."""
    found: list[Any] = []
    with psycopg.connect(settings.database_url) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (table,) in tables:
            found += connection.execute(f"SELECT t::text FROM {table} AS t").fetchall()  # noqa: S608  # the catalogue's
            found += connection.execute(f'SELECT * FROM "{table}"').fetchall()  # noqa: S608  # bytes too
    with blocking_redis.Redis.from_url(settings.redis_url or "") as client:
        for key in client.scan_iter(f"{settings.redis_prefix}*", count=1000):
            kind = client.type(key)
            found.append(
                (
                    key,
                    client.get(key)
                    if kind == b"string"
                    else client.hgetall(key)
                    if kind == b"hash"
                    else kind,
                )
            )
    return repr(found)


async def write(runtime: Runtime, subject: Subject, value: str) -> None:
    """Write under a key, as clients do."""
    from prefsync.http.bodies import mutation_from

    service = runtime.service
    mutation = mutation_from("PATCH", None, {"plugins": {"note": value}}, service.schema, service.limits)
    request = IdempotentRequest(f"key-{value}", secrets.token_bytes(32))
    await service.write(subject, mutation, request=request)


async def test_an_erase_leaves_nothing(settings: Settings) -> None:
    """Row, log, claimed keys and cache hold nothing of the user any more, in any process; others' are untouched."""
    anna, bert = Subject(f"anna-{secrets.token_hex(8)}"), Subject(f"bert-{secrets.token_hex(8)}")
    async with processes(settings, 2) as (here, there):
        secret, other = f"secret-{secrets.token_hex(8)}", f"other-{secrets.token_hex(8)}"
        await write(here, anna, secret)
        await write(there, anna, f"{secret}-again")
        await write(here, bert, other)
        for runtime in (here, there):
            assert (await runtime.service.read(anna)).values["plugins"]["note"] == f"{secret}-again"
        stored = all_that_is_stored(settings)
        assert secret in stored
        assert anna.user in stored
        kept = await there.service.export(anna)
        assert [change["assigned"]["plugins"]["note"] for change in kept["changes"]] == [
            secret,
            f"{secret}-again",
        ]
        assert [one["idempotency_key"] for one in kept["requests"]] == [
            f"key-{secret}",
            f"key-{secret}-again",
        ]
        json.dumps(kept)
        await here.service.erase(anna)
        stored = all_that_is_stored(settings)
        assert secret not in stored
        assert anna.user not in stored
        assert other in stored
        for runtime in (here, there):
            assert (await runtime.service.read(anna)).values["plugins"] == {}
            left = await runtime.service.export(anna)
            assert (left["values"], left["changes"], left["requests"]) == ({}, [], [])
            remembered = runtime.service.documents.recall(anna)
            assert remembered is None or not remembered.values
        assert (await there.service.read(bert)).values["plugins"] == {"note": other}


def texts_in(root: object) -> Iterator[str | bytes]:
    """Yield every text that can be reached from an object, but by the event loop, by code and in the driver."""
    seen, waiting = {id(root)}, [root]
    while waiting:
        for one in gc.get_referents(waiting.pop()):
            if isinstance(one, str | bytes):
                yield one
            elif id(one) not in seen and not isinstance(one, _ELSEWHERE):
                seen.add(id(one))
                waiting.append(one)


def is_known(secret: str, runtime: Runtime) -> bool:
    """Tell whether a process has a secret in its memory."""
    return any(
        (secret if isinstance(text, str) else secret.encode()) in text  # type: ignore[operator]
        for text in texts_in(runtime)
    )


@pytest.mark.parametrize("notifier", ["Redis", "PostgreSQL"])
@pytest.mark.parametrize("near_cache", [0, 2**20])
async def test_an_erase_leaves_nothing_in_memory(
    settings: Settings, near_cache: int, notifier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No process keeps documents or answers of the user, nor what somebody was still reading; its own cache neither."""
    anna, bert = Subject(f"anna-{secrets.token_hex(8)}"), Subject(f"bert-{secrets.token_hex(8)}")
    settings = dataclasses.replace(settings, near_cache=near_cache)
    if notifier == "PostgreSQL":
        settings = dataclasses.replace(settings, redis_url=None, notifier_url=settings.database_url)
    parts = (
        ("secret", secrets.token_hex(8)),
        ("other", secrets.token_hex(8)),
    )  # joined nowhere but in the processes
    async with processes(settings, 2) as (here, there):
        for subject, part in ((anna, parts[0]), (bert, parts[1])):
            await write(here, subject, "-".join(part))
        for runtime in (here, there):
            for subject in (anna, bert):
                await show(runtime, subject)
            assert is_known("-".join(parts[0]), runtime)
        async with overtaken(here, anna, monkeypatch), overtaken(there, anna, monkeypatch):
            await here.service.erase(anna)
            with anyio.fail_after(PATIENCE):
                while is_known("-".join(parts[0]), there):
                    await anyio.sleep(0.01)
            assert not is_known("-".join(parts[0]), here)
        for runtime in (here, there):
            assert not is_known("-".join(parts[0]), runtime)
            assert (await runtime.service.read(anna)).values["plugins"] == {}
            assert is_known("-".join(parts[1]), runtime)


async def show(runtime: Runtime, subject: Subject, **headers: bytes) -> None:
    """Read over HTTP, as whoever has a token does."""
    lines = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    request = HttpRequest("GET", "/plugins", b"", lines, "", no_body, anyio.sleep_forever)
    await runtime.api.reader.read(request, Identity(subject))


@asynccontextmanager
async def overtaken(
    runtime: Runtime, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    """Read from the database before the block, and get to know it after that."""
    load, loaded, release = runtime.repository.load, anyio.Event(), anyio.Event()

    async def load_slowly(one: Subject) -> Document:
        document = await load(one)
        loaded.set()
        await release.wait()
        return document

    async def miss(_: Subject) -> None:
        """Have nothing in the cache."""

    async with anyio.create_task_group() as tasks:
        with monkeypatch.context() as patch:
            patch.setattr(runtime.repository, "load", load_slowly)
            patch.setattr(runtime.cache, "get", miss)
            tasks.start_soon(lambda: show(runtime, subject, prefsync_min_revision=b"1"))
            with anyio.fail_after(PATIENCE):
                await loaded.wait()
        yield
        release.set()


async def no_body(_: int) -> bytes:
    """Read nothing."""
    return b""


async def test_sessions_of_an_erased_subject_end_everywhere(settings: Settings) -> None:
    """On the process that erases and on others; those of other users go on."""
    anna, bert = Subject("anna"), Subject("bert")
    clients = [Client(), Client()]
    spared = Client()
    async with processes(settings, 2) as runtimes:
        here, there = runtimes
        await write(here, anna, "before")
        async with AsyncExitStack() as stack:
            for runtime, client in zip(runtimes, clients, strict=True):
                await stack.enter_async_context(connected(runtime.sessions, anna, client))
            await stack.enter_async_context(connected(there.sessions, bert, spared))
            await here.service.erase(anna)
            with anyio.fail_after(PATIENCE):
                while not all(("bye", Farewell.EXPIRED) in client.heard for client in clients):
                    await anyio.sleep(0.01)
            await write(here, bert, "after")
            with anyio.fail_after(PATIENCE):
                while "change" not in spared.kinds():
                    await anyio.sleep(0.01)
            assert "bye" not in spared.kinds()
