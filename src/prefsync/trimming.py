"""Forgets old changes and claimed keys, a little at a time, for as long as the process runs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import anyio

from prefsync.errors import UnavailableError

if TYPE_CHECKING:
    from prefsync.clock import Clock
    from prefsync.ports import PreferenceRepository
    from prefsync.resilience import Guard

__all__ = ["Trimmer"]

logger = logging.getLogger("prefsync")

# Seconds between two rounds, between two batches of one, so that writes get through, and after one that failed.
_EVERY: Final = 600.0
_PAUSE: Final = 0.1
_FAILED_PAUSE: Final = 10.0

# Seconds after which the log is walked from its beginning again: what was a subject's newest change, and had to stay,
# may not be any more. Of a million subjects that nobody changes that is a thousand batches with nothing to remove.
_ANEW_EVERY: Final = 24 * 3_600.0

# What is left: claimed keys for a day (protocol.md, "Retries"), changes for as long as a client that comes back from a
# holiday may want to catch up.
_REQUESTS_KEPT_MS: Final = 24 * 3_600 * 1_000
_CHANGES_KEPT_MS: Final = 30 * 24 * 3_600 * 1_000

# Changes looked at in one call, and in one after another has failed: what is not in the database's memory may take
# longer than a call may.
_BATCH: Final = 1_000
_SMALL_BATCH: Final = 100


class Trimmer:
    """Trims a repository.

    Args:
        repository: Whose log and claimed keys.
        guard: Bounds the calls to it.
        clock: For the age of what it keeps.
    """

    def __init__(self, repository: PreferenceRepository, guard: Guard, clock: Clock) -> None:
        self._repository = repository
        self._guard = guard
        self._clock = clock

    async def run(self) -> None:
        """Trim until cancelled."""
        cursor, began, batch = "", self._clock.monotonic(), _BATCH
        while True:
            if self._clock.monotonic() - began >= _ANEW_EVERY:
                cursor, began = "", self._clock.monotonic()
            now = self._clock.now()
            try:
                trimmed = await self._guard(
                    self._repository.trim(
                        changes_before=now - _CHANGES_KEPT_MS,
                        requests_before=now - _REQUESTS_KEPT_MS,
                        limit=batch,
                        cursor=cursor,
                    )
                )
            except UnavailableError:
                logger.debug("old changes could not be trimmed; tried again later")
                batch, pause = _SMALL_BATCH, _FAILED_PAUSE
            else:
                cursor = trimmed.cursor
                if trimmed.has_more:
                    pause = _PAUSE
                else:
                    batch, pause = _BATCH, _EVERY
            await anyio.sleep(pause)
