"""Preferences inside the host's own transaction, in code that blocks: scripts, Flask, FastAPI's threads."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

import anyio.to_thread
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from flask import Flask
from sqlalchemy import text
from sqlalchemy.orm import Session, scoped_session, sessionmaker

import prefsync_fastapi
import prefsync_flask
from prefsync import ConfigurationError, Settings, Subject
from prefsync.blocking import BlockingRuntime
from tests.transactions.host import INSERT, Appearance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from prefsync import Runtime
    from tests.transactions.conftest import Home


@pytest.fixture
def preferences(home: Home) -> Iterator[BlockingRuntime]:
    """Prefsync on the same database, with connections of its own."""
    with BlockingRuntime([Appearance], settings=Settings(database_url=home.url)) as runtime:
        yield runtime


def has_row(engine: Engine, user: str) -> bool:
    """Tell whether the host has the user."""
    with engine.connect() as connection:
        return (
            connection.execute(text("SELECT 1 FROM users WHERE id = :id"), {"id": user}).first() is not None
        )


def test_a_session_is_committed_or_not(
    preferences: BlockingRuntime, blocking_engine: Engine, user: str
) -> None:
    """Preferences are there with the host's rows when the commit returns, and gone with them after a rollback."""
    mine = preferences.handle(Subject(user))
    assert mine.get(Appearance).theme == "system"
    for ends_well in (False, True):
        with Session(blocking_engine) as session:
            with preferences.within(session) as inside:
                session.execute(INSERT, {"id": user})
                inside.of(user).update(Appearance, theme="dark")
                with inside.of(Subject(user)).edit(Appearance) as editing:
                    editing.size = 4
                assert inside.of(user).get(Appearance) == Appearance(theme="dark", size=4)
                assert mine.get(Appearance).theme == "system"
            if ends_well:
                session.commit()
        assert mine.get(Appearance).theme == ("dark" if ends_well else "system")
        assert has_row(blocking_engine, user) == ends_well


def test_a_connection_with_savepoints(
    preferences: BlockingRuntime, blocking_engine: Engine, user: str
) -> None:
    """Of a transaction with savepoints that is read afterwards which is committed."""
    with blocking_engine.begin() as connection, preferences.within(connection) as inside:
        connection.execute(INSERT, {"id": user})
        inside.of(user).update(Appearance, theme="dark")
        savepoint = connection.begin_nested()
        inside.of(user).update(Appearance, size=9)
        savepoint.rollback()
        inside.of(user).reset(Appearance, "size")
    assert preferences.handle(Subject(user)).get(Appearance) == Appearance(theme="dark", size=0)


def test_flask_hosts_hand_over_their_scoped_session(home: Home, blocking_engine: Engine, user: str) -> None:
    """A view writes user and preferences in one transaction, by the session that Flask hosts have."""
    database = scoped_session(sessionmaker(blocking_engine))
    app = Flask("host")
    app.config["PREFSYNC_DATABASE_URL"] = home.url
    app.config["PREFSYNC_JWT_KEY"] = secrets.token_urlsafe(40)
    prefsync = prefsync_flask.PrefSync(app, [Appearance])

    @app.post("/sign-up/<user>")
    def sign_up(user: str) -> dict[str, str]:
        with prefsync.within(database) as inside:
            database.execute(INSERT, {"id": user})
            inside.of(user).update(Appearance, theme="dark")
        database.commit()
        return {"theme": prefsync.gateway().handle(Subject(user)).get(Appearance).theme}

    with app.test_client() as client:
        assert client.post(f"/sign-up/{user}").json == {"theme": "dark"}
    with app.app_context():
        gateway = prefsync.gateway()
    gateway.close()
    database.remove()
    assert has_row(blocking_engine, user)


def test_fastapi_threads_hand_over_their_session(home: Home, blocking_engine: Engine, user: str) -> None:
    """A path operation without ``async`` writes user and preferences in one transaction."""
    prefsync = prefsync_fastapi.PrefSync(
        [Appearance], settings=Settings(database_url=home.url, jwt_key=secrets.token_urlsafe(40))
    )
    app = FastAPI()
    app.include_router(prefsync.router, prefix="/preferences")

    @app.post("/sign-up/{user}")
    def sign_up(user: str) -> None:
        with Session(blocking_engine) as session:
            with prefsync.within(session) as inside:
                session.execute(INSERT, {"id": user})
                inside.of(user).update(Appearance, theme="dark")
            session.commit()

    @app.get("/theme/{user}")
    async def theme(user: str) -> str:
        return (await prefsync.runtime.handle(Subject(user)).get(Appearance)).theme

    with TestClient(app) as client:
        assert client.get(f"/theme/{user}").json() == "system"
        assert client.post(f"/sign-up/{user}").status_code == 200
        assert client.get(f"/theme/{user}").json() == "dark"
    assert has_row(blocking_engine, user)


def test_a_session_without_an_engine_is_refused(preferences: BlockingRuntime, user: str) -> None:
    """What to hand over is said, and the database is not blamed for it."""
    with Session() as session, preferences.within(session) as inside:
        with pytest.raises(ConfigurationError, match=r"Session\(engine\)"):
            inside.of(user).update(Appearance, theme="dark")


async def test_a_blocking_session_on_the_loop_itself_stops_nobody(
    runtime: Runtime, blocking_engine: Engine, user: str
) -> None:
    """Where a host blocks the event loop with its session, the commit waits for nothing that needs the loop."""
    fastapi_mount = prefsync_fastapi.PrefSync.__new__(prefsync_fastapi.PrefSync)
    fastapi_mount.runtime = runtime
    began = asyncio.get_running_loop().time()
    with Session(blocking_engine) as session:
        with fastapi_mount.within(session) as inside:
            inside.of(user).update(Appearance, theme="dark")
        session.commit()
    assert asyncio.get_running_loop().time() - began < 30
    with anyio.fail_after(60):
        while (await runtime.handle(Subject(user)).get(Appearance)).theme != "dark":
            await anyio.sleep(0.005)


async def test_the_blocking_runtime_refuses_loops(home: Home, blocking_engine: Engine) -> None:
    """In a thread with an event loop it says which one to use instead."""
    preferences = BlockingRuntime([Appearance], settings=Settings(database_url=home.url))
    with Session(blocking_engine) as session:
        with pytest.raises(ConfigurationError, match="event loop"):
            with preferences.within(session):
                raise AssertionError
    await anyio.to_thread.run_sync(preferences.close)
