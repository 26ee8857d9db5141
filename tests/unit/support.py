"""What the unit tests share: the example apps' namespaces (design.md section 10), and a service with all its parts."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from prefsync import Limits, OpenPreferences, Preferences, Schema, Subject
from prefsync.adapters.memory import MemoryCache, MemoryNotifier, MemoryRepository
from prefsync.caching import CachedDocuments
from prefsync.feed import ChangeFeed
from prefsync.handle import PreferencesHandle
from prefsync.hub import Hub
from prefsync.merge import Mutation, Patch, Replace, Reset
from prefsync.resilience import Guard
from prefsync.service import PreferenceService
from prefsync.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from prefsync.document import Snapshot
    from prefsync.merge import Edit
    from prefsync.ports import ChangeNotifier, PreferenceCache, PreferenceRepository
    from prefsync.schema import PreferencesModel

LIMIT = 20.0
"""Seconds after which something that should have happened by itself counts as missing."""


class Appearance(Preferences, namespace="appearance"):
    """How the app looks."""

    theme: Literal["system", "light", "dark"] = "system"
    accent: Annotated[str, Field(pattern=r"^#[0-9A-Fa-f]{6}\z")] = "#3366ff"
    font_size: Annotated[int, Field(ge=8, le=72)] = 14
    density: Literal["comfortable", "compact"] = "comfortable"


class Editor(Preferences, namespace="editor"):
    """How text is edited."""

    tab_size: Annotated[int, Field(ge=1, le=16)] = 4
    word_wrap: bool = False
    rulers: Annotated[list[int], Field(max_length=8)] = []


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
    "appearance": {"theme": "system", "accent": "#3366ff", "font_size": 14, "density": "comfortable"},
    "editor": {"tab_size": 4, "word_wrap": False, "rulers": []},
    "notifications": {"email": True, "push": False, "digest": "weekly", "muted_channels": []},
    "plugins": {},
}

ANNA = Subject("anna", "acme")
BERT = Subject("bert", "acme")


@dataclass
class Kit:
    """A service and everything around it, on one clock."""

    clock: FakeClock
    repository: PreferenceRepository
    cache: PreferenceCache
    notifier: ChangeNotifier
    guard: Guard
    documents: CachedDocuments
    service: PreferenceService
    hub: Hub
    feed: ChangeFeed

    def handle(self, subject: Subject = ANNA) -> PreferencesHandle:
        """Return a subject's handle."""
        return PreferencesHandle(self.service, subject)

    def another(self, models: Iterable[PreferencesModel] = MODELS, limits: Limits | None = None) -> Kit:
        """Return another process on the same parts, of another version maybe."""
        return make_kit(
            models,
            clock=self.clock,
            repository=self.repository,
            cache=self.cache,
            notifier=self.notifier,
            limits=limits,
        )

    async def read(self, subject: Subject = ANNA, at_least: int = 0) -> Snapshot:
        """Read all namespaces."""
        return await self.service.read(subject, at_least=at_least)

    async def patch(self, namespace: str, values: Any, subject: Subject = ANNA, **how: Any) -> Snapshot:
        """Merge over one namespace."""
        return await self.service.write(subject, Mutation({namespace: Patch(values)}), **how)

    async def put(self, namespace: str, values: Any, subject: Subject = ANNA, **how: Any) -> Snapshot:
        """Replace one namespace."""
        return await self.service.write(subject, Mutation({namespace: Replace(values)}), **how)

    async def reset(self, *namespaces: str, subject: Subject = ANNA, **how: Any) -> Snapshot:
        """Take namespaces back to their defaults."""
        edits: Mapping[str, Edit] = {name: Reset() for name in namespaces}
        return await self.service.write(subject, Mutation(edits), **how)


def make_kit(
    models: Iterable[PreferencesModel] = MODELS,
    *,
    clock: FakeClock | None = None,
    repository: PreferenceRepository | None = None,
    cache: PreferenceCache | None = None,
    notifier: ChangeNotifier | None = None,
    limits: Limits | None = None,
) -> Kit:
    """Put a service together; parts that are not given are in memory."""
    clock = clock or FakeClock()
    repository = repository or MemoryRepository()
    cache = cache or MemoryCache(clock=clock)
    notifier = notifier or MemoryNotifier()
    guard = Guard("database", 5.0)
    documents = CachedDocuments(repository, cache, guard)
    service = PreferenceService(
        Schema(models), repository, documents, notifier, guard, limits=limits, clock=clock
    )
    hub = Hub(notifier)
    feed = ChangeFeed(service, repository, hub, guard, SteadyClock(clock))
    return Kit(clock, repository, cache, notifier, guard, documents, service, hub, feed)


class SteadyClock(FakeClock):
    """The fake wall clock with the machine's steady one: waits are real, revisions are not."""

    def __init__(self, wall: FakeClock) -> None:
        super().__init__()
        self._wall = wall

    def now(self) -> int:
        """Return the fake time."""
        return self._wall.now()

    def monotonic(self) -> float:
        """Return the machine's time."""
        import time

        return time.monotonic()


@asynccontextmanager
async def opened(*parts: Any) -> AsyncIterator[None]:
    """Open parts for the length of a block."""
    async with AsyncExitStack() as stack:
        for part in parts:
            await stack.enter_async_context(part)
        yield
