"""Users with open sessions, and what those sessions are told."""

from __future__ import annotations

import copy
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from prefsync.testing.mount.callers import Caller
from prefsync.testing.realtime.wire import WebSocket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prefsync.testing.mount.client import MountClient
    from prefsync.testing.realtime.client import RealtimeClient
    from prefsync.testing.realtime.wire import EventStream

__all__ = ["Feed", "Member", "Transport", "greeted"]

Transport: TypeAlias = Literal["websocket", "events"]


class Feed:
    """A session's resets and changes, whichever transport they come over, and the state that they make.

    Args:
        source: What they come over.
        state: The answer to ``GET /`` that the client has already, if any.

    Attributes:
        source: What they come over.
        revision: Of the state; ``None`` before there is one.
        values: The state.
        changes: All that were told so far.
    """

    def __init__(self, source: WebSocket | EventStream, state: dict[str, Any] | None) -> None:
        self.source = source
        self.revision: int | None = None if state is None else state["revision"]
        self.values: dict[str, Any] = {} if state is None else copy.deepcopy(state["values"])
        self.changes: list[dict[str, Any]] = []
        self._waiting: list[tuple[str, dict[str, Any]]] = []

    async def next(self) -> tuple[str, dict[str, Any]]:
        """Return what comes next, a reset or a change, and take it for the state.

        It must follow upon what was told before it: revisions only go up, and nothing is left out.
        """
        kind, told = await self._next()
        if kind == "reset":
            assert told.keys() == {"revision", "schema", "values"}
            self.values = copy.deepcopy(told["values"])
        else:
            assert kind == "change"
            assert told.keys() == {"revision", "previous", "at", "origin", "changed", "removed"}
            assert told["previous"] == self.revision, "a break in the chain"
            assert told["revision"] > told["previous"]
            self._apply(told)
            self.changes.append(told)
        self.revision = told["revision"]
        return kind, told

    async def change(self) -> dict[str, Any]:
        """Return what comes next, which must be a change."""
        kind, told = await self.next()
        assert kind == "change"
        return told

    async def reset(self) -> dict[str, Any]:
        """Return what comes next, which must be a reset."""
        kind, told = await self.next()
        assert kind == "reset"
        return told

    async def until(self, revision: int) -> dict[str, Any]:
        """Return the state when it has come to a revision, which must be told and not be passed."""
        while self.revision != revision:
            await self.next()
            assert self.revision is not None
            assert self.revision <= revision
        return self.values

    async def _next(self) -> tuple[str, dict[str, Any]]:
        if self._waiting:
            return self._waiting.pop(0)
        if isinstance(self.source, WebSocket):
            told = await self.source.hear()
            return told.pop("type"), told
        event = await self.source.hear()
        assert event is not None, "the stream has ended"
        kind, name, told = event
        assert name == str(told["revision"])
        return kind, told

    async def greeting(self) -> None:
        """Take the first frame of a WebSocket."""
        told = await greeted(cast("WebSocket", self.source))
        kind = told.pop("type")
        if kind == "welcome":
            assert told.keys() == {"revision", "schema", "changes"}
            self._waiting = [("change", change) for change in told["changes"]]
            last = told["changes"][-1]["revision"] if told["changes"] else self.revision
            assert last is None or told["revision"] == last
        else:
            self._waiting = [(kind, told)]

    def _apply(self, change: dict[str, Any]) -> None:
        for name, fields in change["changed"].items():
            self.values.setdefault(name, {}).update(fields)
        for name, fields in change["removed"].items():
            for field in fields:
                self.values.get(name, {}).pop(field, None)


class Member(Caller):
    """A user of the mount who opens sessions.

    Args:
        client: Where requests and sessions go.
        claims: Of the user's token.
    """

    client: RealtimeClient

    def __init__(self, client: RealtimeClient, **claims: Any) -> None:
        super().__init__(client, **claims)

    def holding(self, **claims: Any) -> Member:
        """See ``Caller``."""
        return Member(self.client, **{**self._claims, **claims})

    def through(self, client: MountClient) -> Member:
        """See ``Caller``."""
        return Member(cast("RealtimeClient", client), **self._claims)

    @property
    def bearer(self) -> dict[str, str]:
        """The header that authenticates."""
        return {"Authorization": f"Bearer {self.token}"}

    async def ticket(self) -> str:
        """Return a new ticket."""
        ticket: str = (await self.send("POST", "/ticket")).ok()["ticket"]
        return ticket

    async def state(self) -> dict[str, Any]:
        """Return the answer to ``GET /``."""
        state: dict[str, Any] = (await self.get()).ok()
        return state

    @asynccontextmanager
    async def socket(self, **hello: Any) -> AsyncIterator[WebSocket]:
        """Open a WebSocket and send a hello, authenticated by the header."""
        async with self.client.websocket(headers=self.bearer) as socket:
            await socket.say(type="hello", **hello)
            yield socket

    @asynccontextmanager
    async def follow(
        self,
        transport: Transport,
        state: dict[str, Any] | None = None,
        *,
        since: int | None = None,
        schema: str | None = None,
        receive_buffer: int | None = None,
    ) -> AsyncIterator[Feed]:
        """Open a session.

        Args:
            transport: Over what.
            state: The answer to ``GET /`` that the client has already; its revision is ``since``.
            since: Another ``since`` than that.
            schema: The schema tag to send.
            receive_buffer: Bytes that the system keeps while the client does not read.
        """
        if since is None and state is not None:
            since = state["revision"]
        asked = {name: value for name, value in (("since", since), ("schema", schema)) if value is not None}
        if transport == "websocket":
            async with self.client.websocket(headers=self.bearer, receive_buffer=receive_buffer) as socket:
                await socket.say(type="hello", **asked)
                feed = Feed(socket, state)
                await feed.greeting()
                yield feed
        else:
            query = "&".join(f"{name}={value}" for name, value in asked.items())
            async with self.client.events(
                headers=self.bearer, query=query, receive_buffer=receive_buffer
            ) as stream:
                yield Feed(stream, state)


async def greeted(socket: WebSocket) -> dict[str, Any]:
    """Return the first frame of a WebSocket, which must be a welcome or a reset."""
    first = await socket.hear()
    assert first["type"] in {"welcome", "reset"}, first
    return first
