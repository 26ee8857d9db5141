"""What nobody else may see: no value, token, id, query or path in errors, and none of a user's in a log, at DEBUG too.

No field is marked as sensitive: all of them are treated so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import secrets
import sqlite3
import traceback
from typing import TYPE_CHECKING

import asyncpg
import pytest

from prefsync import Parts, Subject
from prefsync.adapters.memory import MemoryCache, MemoryNotifier, MemoryRepository
from prefsync.adapters.sqlalchemy import SqlAlchemyRepository
from prefsync.document import Document
from prefsync.errors import UnavailableError
from prefsync.testing import FailingCache, FailingNotifier, FailingRepository
from prefsync.testing.hostile_json import HOSTILE_JSON
from prefsync.testing.mount import KEY, newcomer
from prefsync.testing.samples import step
from tests.http.hosts import app_with, memory_mount, running
from tests.http.test_flask_contract import WerkzeugHost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from prefsync.testing.mount import Answer, Caller, MountClient
    from tests.http.conftest import InProcessHost

pytestmark = pytest.mark.anyio

INTERNALS = ("Traceback", "SELECT ", "INSERT ", "UPDATE ", "sqlite", "site-packages", ".py", "object at 0x")
"""What tells of the inside of a server."""

NEVER_LOGGED = ("SELECT ", "INSERT ", "UPDATE ", "[parameters:")


class Canary:
    """What may appear nowhere but in its owner's answers.

    Attributes:
        value: Stored, sent and refused, as a value and within names.
        user: The owner's id.
    """

    def __init__(self) -> None:
        self.value = f"canary-value-{secrets.token_hex(8)}"
        self.user = f"canary-user-{secrets.token_hex(8)}"


@pytest.fixture
def canary() -> Canary:
    """Mark what is secret."""
    return Canary()


class Records(logging.Handler):
    """Keeps all that is logged by prefsync, tracebacks included."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(message)s %(args)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.lines.append(self.format(record))


@pytest.fixture
def records() -> Iterator[Records]:
    """Listen to prefsync's loggers at DEBUG."""
    handler, logger = Records(), logging.getLogger("prefsync")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture(params=["fastapi", "flask"])
async def client(
    request: pytest.FixtureRequest, sqlite_host: InProcessHost, tmp_path: Path
) -> AsyncIterator[MountClient]:
    """Run each mount."""
    flask = WerkzeugHost({"PREFSYNC_DATABASE_URL": f"sqlite:///{tmp_path}/canary.sqlite3"})
    host = sqlite_host if request.param == "fastapi" else flask
    settings = {"PREFSYNC_JWT_KEY": KEY, "PREFSYNC_RATE_LIMIT": "1000000/minute"}
    async with host.open(settings) as client:
        yield client


def text_of(answer: Answer) -> str:
    """Return all that an answer says."""
    return answer.content.decode() + repr(answer.headers)


async def sent(me: Caller, canary: Canary) -> list[Answer]:
    """Return the answers to requests of every kind that fail, with the canary wherever a client can put it."""
    word = canary.value
    bad = {"Authorization": f"Bearer {me.token[:-6]}{word}"}
    return [
        await me.put("/appearance", {"theme": word, "accent": word, "font_size": word}),
        await me.patch("", {"editor": {"rulers": [word]}, "notifications": {"digest": {word: word}}}),
        await me.put("/plugins", {"a": word, "__proto__": word}),
        await me.put("/plugins", {"a": word, "b": word * 1_000}),
        await me.put("/plugins", raw=f'{{"a":"{word}"'.encode()),
        await me.put("/plugins", raw=f'{{"a":"{word}","a":"{word}"}}'.encode()),
        await me.put("/plugins", {"a": word}, media=f"text/{word}"),
        await me.put("/plugins", {"a": word}, headers={"Content-Encoding": word}),
        await me.put("/plugins", {"a": word}, headers={"If-Match": word}),
        await me.put("/plugins", {"a": word}, headers={"If-Match": f'"{word}"'}),
        await me.put("/plugins", {"a": word}, headers={"Idempotency-Key": f"{word} {word}"}),
        await me.put("/plugins", {"a": word}, headers={"Prefsync-Client": f"{word} {word}"}),
        await me.get("", headers={"Prefsync-Min-Revision": word}),
        await me.get("/changes", query=f"since={word}"),
        await me.get("", query=f"access_token={word}"),
        await me.get("/ws", query=f"ticket={word}"),
        await me.client.request("GET", "/events", query=f"ticket={word}"),
        await me.client.request("GET", "", headers=bad),
        await me.client.request("GET", "", headers={"Authorization": word}),
    ]


async def test_nothing_that_is_sent_comes_back_in_an_error(
    client: MountClient, canary: Canary, records: Records
) -> None:
    """Neither what was refused nor who sent it, nor anything of the inside; and the log has none of it."""
    me = newcomer(client, sub=canary.user)
    (await me.put("/plugins", {"stored": canary.value})).ok()
    for answer in await sent(me, canary):
        assert answer.status >= 400
        text = text_of(answer)
        for secret in (canary.value, canary.user, me.token, me.token.rsplit(".", 1)[1], *INTERNALS):
            assert secret not in text, text
    somebody = newcomer(client)
    for path in ("", "/plugins", "/changes", "/schema"):
        text = text_of(await somebody.get(path, query="since=0" if path == "/changes" else ""))
        assert canary.value not in text
        assert canary.user not in text
    assert_silent(records, canary, me)


async def test_the_catalogue_leaves_nothing_in_the_log(
    client: MountClient, canary: Canary, records: Records
) -> None:
    """Whatever hostile JSON is sent, no record holds a value, an id, a token or a query."""
    me = newcomer(client, sub=canary.user)
    (await me.put("/plugins", {"stored": canary.value})).ok()
    for case in (case for cases in HOSTILE_JSON.values() for case in cases):
        if case.status != 200:
            text = text_of(await me.send(case.methods[0], case.path, raw=case.body))
            for secret in (canary.value, canary.user, me.token, *INTERNALS):
                assert secret not in text, case.name
    assert_silent(records, canary, me)


def assert_silent(records: Records, canary: Canary, me: Caller) -> None:
    """Check that no record holds what none may."""
    log = "\n".join(records.lines)
    for secret in (canary.value, canary.user, me.token, *NEVER_LOGGED):
        assert secret not in log, log[:3_000]


async def test_faults_leave_nothing_in_the_log(canary: Canary, records: Records) -> None:
    """Whichever part is away, breaks an entry or comes back: what is logged is which part it was."""
    repository = FailingRepository(MemoryRepository())
    cache, notifier = FailingCache(MemoryCache()), FailingNotifier(MemoryNotifier())
    mount = memory_mount(parts=Parts(repository=repository, cache=cache, notifier=notifier))
    async with running(app_with(mount)) as anybody:
        me = newcomer(anybody.client, sub=canary.user)
        (await me.put("/plugins", {"stored": canary.value})).ok()
        for part in (cache, notifier, repository):
            part.is_down = True
            answers = [await me.patch("/plugins", {"n": canary.value}), await me.get("/plugins")]
            part.is_down = False
            for answer in answers:
                if answer.status != 200:
                    answer.problem(503, "unavailable")
                    assert canary.value not in text_of(answer)
        cache.corrupt = lambda entry: dataclasses.replace(entry, payload=canary.value.encode())
        await me.get("/plugins")
        assert records.lines, "there was something to tell"
        assert_silent(records, canary, me)


async def test_an_error_of_sqlite_holds_no_values(tmp_path: Path, canary: Canary, records: Records) -> None:
    """A host logs it with its traceback, and SQLAlchemy prints a statement's parameters unless told otherwise."""
    file = tmp_path / "broken.sqlite3"
    async with SqlAlchemyRepository(f"sqlite:///{file}") as repository:
        with contextlib.closing(sqlite3.connect(file)) as connection:
            connection.execute("DROP TABLE user_preferences")
        with pytest.raises(UnavailableError) as caught:
            await repository.write(
                Subject(canary.user), step(Document(), {"plugins": {"secret": canary.value}})
            )
    told = "".join(traceback.format_exception(caught.value)) + "".join(records.lines)
    assert "no such table" in told
    assert canary.value not in told
    assert canary.user not in told


@pytest.mark.once
@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg"])
async def test_what_postgres_refuses_is_logged_without_the_row(
    postgres_url: str, canary: Canary, records: Records, driver: str
) -> None:
    """Here its message is the document, which is no number; the log has the kind of error alone."""
    name, subject = f"canary_{secrets.token_hex(4)}", Subject(canary.user)
    url = postgres_url.replace("postgresql:", f"{driver}:", 1)
    async with SqlAlchemyRepository(url) as repository:
        connection = await asyncpg.connect(postgres_url)
        try:
            rule = f"CHECK (user_id <> '{canary.user}' OR document::text::integer > 0)"
            await connection.execute(f"ALTER TABLE user_preferences ADD CONSTRAINT {name} {rule}")
            stored = await repository.load(subject)  # which may be above an erase in another test
            with pytest.raises(UnavailableError):
                await repository.write(subject, step(stored, {"plugins": {"secret": canary.value}}))
        finally:
            await connection.execute(f"ALTER TABLE user_preferences DROP CONSTRAINT IF EXISTS {name}")
            await connection.close()
    (line,) = [line for line in records.lines if "the database refused" in line]
    assert "22P02" in line
    assert canary.value not in "".join(records.lines)
    assert canary.user not in "".join(records.lines)
