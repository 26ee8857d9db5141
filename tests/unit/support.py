"""What the unit tests share: namespaces to store, and the parts of one process put together."""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import anyio
import anyio.lowlevel
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from prefsync import OpenPreferences, Preferences, Schema, Subject
from prefsync.adapters.memory import MemoryCache, MemoryNotifier, MemoryRepository
from prefsync.caching import CachedDocuments
from prefsync.feed import ChangeFeed
from prefsync.handle import PreferencesHandle
from prefsync.hub import Hub
from prefsync.merge import Mutation, Patch, Replace, Reset
from prefsync.polling import LongPolls
from prefsync.relay import Relay
from prefsync.resilience import Guard
from prefsync.service import PreferenceService
from prefsync.telemetry import OFF
from prefsync.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from prefsync import Limits
    from prefsync.document import Snapshot
    from prefsync.ports import ChangeNotifier, PreferenceCache, PreferenceRepository
    from prefsync.schema import PreferencesModel
    from prefsync.telemetry import Telemetry

PATIENCE = 20.0
"""Seconds after which something that should have come by itself counts as missing."""


class Layout(BaseModel):
    """A value with members of its own."""

    model_config = ConfigDict(extra="forbid", strict=True)

    columns: int = 2
    order: list[str] = []


class Appearance(Preferences, namespace="appearance"):
    """How the app looks."""

    theme: Literal["system", "light", "dark"] = "system"
    accent: Annotated[str, Field(pattern=r"^#[0-9A-Fa-f]{6}\z")] = "#3366ff"
    font_size: Annotated[int, Field(ge=8, le=72)] = 14
    density: Literal["comfortable", "compact"] = "comfortable"
    tags: list[str] = []
    layout: Layout = Layout()
    extras: dict[str, JsonValue] = {}


class Editor(Preferences, namespace="editor"):
    """How text is edited."""

    tab_size: Annotated[int, Field(ge=1, le=16)] = 4
    word_wrap: bool = False
    rulers: Annotated[list[int], Field(max_length=8)] = []
    font: str | None = None


class Notifications(Preferences, namespace="notifications"):
    """What the app may interrupt for."""

    email: bool = True
    push: bool = False
    digest: Literal["off", "daily", "weekly"] = "weekly"
    muted_channels: Annotated[list[str], Field(max_length=100)] = []


class Plugins(OpenPreferences, namespace="plugins"):
    """What plugins keep."""


MODELS: tuple[PreferencesModel, ...] = (Appearance, Editor, Notifications, Plugins)

DEFAULTS: dict[str, dict[str, Any]] = {
    "appearance": {
        "theme": "system",
        "accent": "#3366ff",
        "font_size": 14,
        "density": "comfortable",
        "tags": [],
        "layout": {"columns": 2, "order": []},
        "extras": {},
    },
    "editor": {"tab_size": 4, "word_wrap": False, "rulers": [], "font": None},
    "notifications": {"email": True, "push": False, "digest": "weekly", "muted_channels": []},
    "plugins": {},
}

ANNA = Subject("anna", "acme")
BERT = Subject("bert", "acme")


class Process:
    """One process's parts over given adapters, in memory where none is given; those that share them are several."""

    def __init__(
        self,
        repository: PreferenceRepository | None = None,
        cache: PreferenceCache | None = None,
        notifier: ChangeNotifier | None = None,
        *,
        models: Iterable[PreferencesModel] = MODELS,
        clock: FakeClock | None = None,
        limits: Limits | None = None,
        shared: bool = False,
        telemetry: Telemetry = OFF,
    ) -> None:
        self.clock = clock or FakeClock()
        self.repository = repository or MemoryRepository()
        self.cache = cache or MemoryCache(clock=self.clock)
        self.notifier = notifier or MemoryNotifier()
        self.schema = Schema(models)
        guard = Guard("database", PATIENCE)
        self.documents = CachedDocuments(self.repository, self.cache, guard, telemetry=telemetry)
        self.service = PreferenceService(
            self.schema,
            self.repository,
            self.documents,
            self.notifier,
            guard,
            limits=limits,
            clock=self.clock,
            telemetry=telemetry,
        )
        self.feed = ChangeFeed(self.service, self.repository, guard)
        self.hub = Hub(
            self.notifier, self.repository, self.feed, self.service, guard, self.clock, telemetry=telemetry
        )
        self.polls = LongPolls(self.hub, self.feed, self.clock)
        self.relay = Relay(
            self.repository,
            self.cache,
            self.documents,
            self.notifier,
            guard,
            self.clock,
            shared=shared,
            untold=self.service.announcer.untold,
            telemetry=telemetry,
        )

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Run the hub for the length of a block; afterwards nobody may follow anything any more."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.hub.run)
            with anyio.fail_after(PATIENCE):
                while not self.hub.is_listening:
                    await anyio.lowlevel.checkpoint()
            yield
            tasks.cancel_scope.cancel()
        assert self.hub._channels == {}

    async def followed(self, subject: Subject, count: int = 1) -> None:
        """Return when so many follow a subject."""
        with anyio.fail_after(PATIENCE):
            while (channel := self.hub._channels.get(subject.key)) is None or len(channel.listeners) < count:
                await anyio.lowlevel.checkpoint()

    def another(self, models: Iterable[PreferencesModel] = MODELS) -> Process:
        """Return another process on the same parts, of another version maybe."""
        return Process(self.repository, self.cache, self.notifier, models=models, clock=self.clock)

    def handle(self, subject: Subject = ANNA) -> PreferencesHandle:
        """Return a subject's handle."""
        return PreferencesHandle(self.service, subject)

    async def read(self, subject: Subject = ANNA, at_least: int = 0) -> Snapshot:
        """Read all namespaces."""
        return await self.service.read(subject, at_least=at_least)

    async def patch(self, subject: Subject, namespace: str, **fields: JsonValue) -> Snapshot:
        """Merge some fields over one namespace."""
        return await self.service.write(subject, patch(namespace, **fields))

    async def merge(self, namespace: str, values: Any, subject: Subject = ANNA, **how: Any) -> Snapshot:
        """Merge values over one namespace, whatever their names."""
        return await self.service.write(subject, Mutation({namespace: Patch(values)}), **how)

    async def put(self, namespace: str, values: Any, subject: Subject = ANNA) -> Snapshot:
        """Replace one namespace."""
        return await self.service.write(subject, Mutation({namespace: Replace(values)}))

    async def reset(self, *namespaces: str, subject: Subject = ANNA) -> Snapshot:
        """Take namespaces back to their defaults."""
        return await self.service.write(subject, Mutation(dict.fromkeys(namespaces, Reset())))


def patch(namespace: str, **fields: JsonValue) -> Mutation:
    """Return the write of a merge patch over one namespace."""
    return Mutation({namespace: Patch(fields)})


def new_subject() -> Subject:
    """Return a subject that nobody else has."""
    return Subject(f"user-{secrets.token_hex(8)}")
