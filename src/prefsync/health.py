"""How one process stands: which parts answer, how fast, and since when."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import anyio

from prefsync.document import Subject
from prefsync.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from prefsync.clock import Clock
    from prefsync.hub import Hub
    from prefsync.ports import PreferenceCache, PreferenceRepository
    from prefsync.relay import Relay
    from prefsync.resilience import Guard

__all__ = ["Health", "PartHealth", "Pulse"]

logger = logging.getLogger("prefsync")

# Seconds between two looks at whether the parts answer; reads from the cache do not find out about the database.
_PAUSE: Final = 1.0

# Seconds without a look through the change log, which is looked through each second, from which the relay counts as ill.
_RELAY_LATE: Final = 10.0

# Nobody's: what the cache is asked for.
_NOBODY: Final = Subject("prefsync: is the cache there?", "prefsync: 4b6f2a0e9d1c")


@dataclass(frozen=True, slots=True)
class PartHealth:
    """How one part stands, as far as this process knows.

    Attributes:
        is_well: Whether it answered when it was last asked, within about a second.
        since: Since when it has been so, in ms since 1970.
        latency: Seconds that it last took to answer; ``None`` where it has not, and of a part that is not asked.
    """

    is_well: bool
    since: int
    latency: float | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """How one process stands, as far as it knows.

    Attributes:
        database: Whether the database answered when it was last asked, within about a second.
        notifier: Whether changes by other processes are heard of at once; where not, within about 2 s.
        sessions: Open streams.
        draining: Whether new streams are refused, because the process is to end.
        parts: ``database``, ``cache``, ``notifier``, and ``relay``, which makes good what a process that died did not tell.
    """

    database: bool
    notifier: bool
    sessions: int
    draining: bool
    parts: Mapping[str, PartHealth] = field(default_factory=dict)


class _Watch:
    """What is known of one part."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._is_well: bool | None = None
        self._since = 0
        self.latency: float | None = None

    def see(self, *, is_well: bool) -> PartHealth:
        """Take note of how it is."""
        if is_well is not self._is_well:
            self._is_well, self._since = is_well, self._clock.now()
        return PartHealth(is_well, self._since, self.latency if is_well else None)


class Pulse:
    """Finds out that a part is away, or back, while nobody asks it for anything.

    Args:
        guard: Knows of the database, and bounds what it is asked.
        repository: The database.
        cache: The cache.
        hub: Knows of the notifier.
        relay: The relay.
        clock: For times.
    """

    def __init__(
        self,
        guard: Guard,
        repository: PreferenceRepository,
        cache: PreferenceCache,
        hub: Hub,
        relay: Relay,
        clock: Clock,
    ) -> None:
        self._guard = guard
        self._repository = repository
        self._cache = cache
        self._hub = hub
        self._relay = relay
        self._clock = clock
        self._has_cache = False
        self._raising: dict[str, type[Exception]] = {}
        self._watches = {name: _Watch(clock) for name in ("database", "cache", "notifier", "relay")}

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self._time("database", self._guard(self._repository.ping()))
            self._has_cache = await self._time("cache", self._cache.get(_NOBODY))
            self.parts()
            await anyio.sleep(_PAUSE)

    @property
    def has_database(self) -> bool:
        """Whether the database answered when it was last asked, by whomever."""
        return "database" not in self._raising and not self._guard.breaker.is_failing

    def parts(self) -> dict[str, PartHealth]:
        """Return what is known; asks nobody."""
        self._watches["notifier"].latency = self._hub.delay
        looked = self._relay.looked_at
        found = {
            "database": self.has_database,
            "cache": self._has_cache,
            "notifier": self._hub.is_listening,
            "relay": looked is not None and self._clock.monotonic() - looked < _RELAY_LATE,
        }
        return {name: self._watches[name].see(is_well=is_well) for name, is_well in found.items()}

    async def _time(self, name: str, question: Awaitable[object]) -> bool:
        began = self._clock.monotonic()
        try:
            await question
        except UnavailableError:
            self._raising.pop(name, None)
            return False
        except Exception as error:
            # What one part raises must hide neither that nor how the others are.
            if self._raising.get(name) is not type(error):
                self._raising[name] = type(error)
                logger.exception("whether the %s answers cannot be found out; it counts as ill", name)
            return False
        self._raising.pop(name, None)
        self._watches[name].latency = self._clock.monotonic() - began
        return True
