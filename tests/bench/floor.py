"""The floors: the least that a server of this kind has to do, as fast as one would write it.

Started with ``BENCH_ANSWERS``, a JSON file of :class:`Answer` by path, and ``BENCH_DATABASE_URL``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

UPSERT: Final = "/upsert/"
"""Followed by the user."""

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS bench_upsert (
    tenant text COLLATE "C" NOT NULL,
    "user" text COLLATE "C" NOT NULL,
    document jsonb NOT NULL,
    revision bigint NOT NULL,
    PRIMARY KEY (tenant, "user")
)
"""
_STATEMENT: Final = """
INSERT INTO bench_upsert AS held (tenant, "user", document, revision) VALUES ('', $1, $2, 1)
ON CONFLICT (tenant, "user") DO UPDATE SET document = excluded.document, revision = held.revision + 1
RETURNING revision
"""
_CONNECTIONS: Final = 10


class Answer(TypedDict):
    """An answer to give again and again.

    Attributes:
        status: The status code.
        headers: Names and values, less those that uvicorn adds itself.
        body: As text.
    """

    status: int
    headers: list[tuple[str, str]]
    body: str


class Floor:
    """An ASGI app: constant answers by path, and a bare upsert."""

    def __init__(self) -> None:
        answers: dict[str, Answer] = json.loads(Path(os.environ["BENCH_ANSWERS"]).read_text())
        self._answers = {path: _messages(answer) for path, answer in answers.items()}
        self._pool: Any = None

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer, as an ASGI app does."""
        if scope["type"] == "http":
            path = scope["path"]
            messages = self._answers.get(path)
            if messages is None:
                messages = await self._upsert(path[len(UPSERT) :], receive)
            await send(messages[0])
            await send(messages[1])
        elif scope["type"] == "lifespan":
            await receive()
            await self._open()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await self._pool.close()
            await send({"type": "lifespan.shutdown.complete"})

    async def _open(self) -> None:
        self._pool = await asyncpg.create_pool(
            os.environ["BENCH_DATABASE_URL"], min_size=_CONNECTIONS, max_size=_CONNECTIONS, reset=_no_reset
        )
        await self._pool.execute(_TABLE)

    async def _upsert(
        self, user: str, receive: Callable[[], Awaitable[dict[str, Any]]]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        message = await receive()
        body = message["body"]
        while message["more_body"]:
            message = await receive()
            body += message["body"]
        async with self._pool.acquire() as connection:
            await connection.fetchval(_STATEMENT, user, body.decode())
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        start = {"type": "http.response.start", "status": 200, "headers": headers}
        return start, {"type": "http.response.body", "body": body}


def _messages(answer: Answer) -> tuple[dict[str, Any], dict[str, Any]]:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer["headers"]]
    start = {"type": "http.response.start", "status": answer["status"], "headers": headers}
    return start, {"type": "http.response.body", "body": answer["body"].encode()}


async def _no_reset(_connection: object) -> None:
    """Spare the round trip that resets a connection on its way back to the pool."""


def __getattr__(name: str) -> Floor:
    """Make the app when the server asks for it; importing this module for its names needs no environment."""
    if name == "app":
        return Floor()
    raise AttributeError(name)
