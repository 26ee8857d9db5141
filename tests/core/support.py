"""What the tests of the core share: namespaces to store, and the parts of one process put together."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from prefsync.adapters.memory import MemoryCache, MemoryNotifier, MemoryRepository
from prefsync.caching import CachedDocuments
from prefsync.document import Subject
from prefsync.feed import ChangeFeed
from prefsync.hub import Hub
from prefsync.merge import Mutation, Patch
from prefsync.relay import Relay
from prefsync.resilience import Guard
from prefsync.schema import OpenPreferences, Preferences, Schema
from prefsync.service import PreferenceService
from prefsync.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefsync.clock import Clock
    from prefsync.document import Snapshot
    from prefsync.ports import ChangeNotifier, PreferenceCache, PreferenceRepository
    from prefsync.schema import PreferencesModel
    from prefsync.strictjson import Limits

PATIENCE = 20.0
"""Seconds after which something that should have come by itself counts as missing."""


class Layout(BaseModel):
    """A value with members of its own."""

    model_config = ConfigDict(extra="forbid", strict=True)

    columns: int = 2
    order: list[str] = []


class Appearance(Preferences, namespace="appearance"):
    """A typed namespace."""

    theme: Literal["system", "light", "dark"] = "system"
    size: Annotated[int, Field(ge=8, le=40)] = 14
    tags: list[str] = []  # pydantic copies the default of a field
    layout: Layout = Layout()
    extras: dict[str, JsonValue] = {}  # likewise


class Editor(Preferences, namespace="editor"):
    """Another typed namespace."""

    tab: int = 4
    font: str | None = None


class Plugins(OpenPreferences, namespace="plugins"):
    """An open namespace."""


MODELS: tuple[PreferencesModel, ...] = (Appearance, Editor, Plugins)


class Process:
    """One process's parts over given adapters; those that share them are several processes."""

    def __init__(
        self,
        repository: PreferenceRepository | None = None,
        cache: PreferenceCache | None = None,
        notifier: ChangeNotifier | None = None,
        *,
        models: Iterable[PreferencesModel] = MODELS,
        clock: Clock | None = None,
        limits: Limits | None = None,
        shared: bool = False,
    ) -> None:
        self.repository = repository or MemoryRepository()
        self.cache = cache or MemoryCache()
        self.notifier = notifier or MemoryNotifier()
        self.clock = clock or FakeClock()
        self.schema = Schema(models)
        guard = Guard("database", PATIENCE)
        self.documents = CachedDocuments(self.repository, self.cache, guard)
        self.service = PreferenceService(
            self.schema,
            self.repository,
            self.documents,
            self.notifier,
            guard,
            limits=limits,
            clock=self.clock,
        )
        self.hub = Hub(self.notifier)
        self.feed = ChangeFeed(self.service, self.repository, self.hub, guard, self.clock)
        self.relay = Relay(
            self.repository, self.cache, self.documents, self.notifier, guard, self.clock, shared=shared
        )

    async def patch(self, subject: Subject, namespace: str, **fields: JsonValue) -> Snapshot:
        """Write some fields of one namespace."""
        return await self.service.write(subject, patch(namespace, **fields))


def patch(namespace: str, **fields: JsonValue) -> Mutation:
    """Return the write of a merge patch over one namespace."""
    return Mutation({namespace: Patch(fields)})


def new_subject() -> Subject:
    """Return a subject that nobody else has."""
    return Subject(f"user-{secrets.token_hex(8)}")
