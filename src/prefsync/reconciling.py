"""Making good what the notifier lost: after each reconnect, and every now and then for all that are followed here.

Who follows a subject is told of what was missed by the channel; this finds out which channels are behind.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import anyio

from prefsync.chance import between
from prefsync.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prefsync.catchup import Question
    from prefsync.channel import Channel
    from prefsync.clock import Clock
    from prefsync.ports import PreferenceRepository
    from prefsync.resilience import Guard

__all__ = ["Reconciler"]

logger = logging.getLogger("prefsync")

# Seconds between two rounds in which the database is asked for the revisions of all that are followed here: while the
# notifier works (protocol.md section 4, promise 2, says 30), while it does not, and after a round that failed.
_PAUSE: Final = 28.0
_PAUSE_DEAF: Final = 2.0
_PAUSE_FAILED: Final = 1.0

# Seconds between two rounds, whatever calls for the next one: what fails again and again must not spin.
_APART: Final = 0.1

# Subjects in one query.
_BATCH: Final = 5_000

# Questions under way at once while a round makes good what it found.
_AT_ONCE: Final = 16


class Reconciler:
    """Knows whether announcements can have been lost, and finds out what was missed.

    Args:
        repository: Where the revisions are.
        guard: Bounds the calls to it.
        clock: For the time between two rounds.
        channels: Of all subjects that are followed here.
        ask: Brings a channel up to date by a question that leaves now.
        wake: Wakes whoever follows a channel.

    Attributes:
        is_listening: Whether announcements arrive, as far as the notifier knows.
        has_caught_up: Whether a round has made good all that was lost until the link last came.
        losses: How often the link came or went.
    """

    def __init__(
        self,
        repository: PreferenceRepository,
        guard: Guard,
        clock: Clock,
        channels: Mapping[str, Channel],
        *,
        ask: Callable[[Channel], Question],
        wake: Callable[[Channel], None],
    ) -> None:
        self.is_listening = False
        self.has_caught_up = False
        self.losses = 0
        self._repository = repository
        self._guard = guard
        self._clock = clock
        self._channels = channels
        self._ask = ask
        self._wake = wake
        self._has_failed = False
        self._reconciled_at = 0.0
        self._due = anyio.Event()

    @property
    def is_sure(self) -> bool:
        """Whether what was written would have been heard of, or was asked for just now."""
        if self.is_listening:
            return self.has_caught_up
        return self.has_caught_up and self._clock.monotonic() - self._reconciled_at < 2 * _PAUSE_DEAF

    def found(self) -> None:
        """Take note that announcements arrive from now on."""
        self.is_listening, self.has_caught_up = True, False
        self.losses += 1
        self._due.set()

    def lost(self) -> None:
        """Take note that announcements do not arrive."""
        self.is_listening = False
        self.losses += 1
        self._due.set()

    def failed(self) -> None:
        """Have a round made soon: it wakes whoever could not be told of something."""
        self._has_failed = True
        self._due.set()

    async def run(self) -> None:
        """Make round after round, until cancelled."""
        while True:
            try:
                self._due, self._has_failed = anyio.Event(), False
                await self.reconcile()
            except UnavailableError as error:
                logger.debug("sessions could not be reconciled: %s", error)
                self._has_failed = True
            except Exception:
                logger.exception("reconciling failed; it is tried again in %.1f s", _PAUSE_FAILED)
                self._has_failed = True
            await anyio.sleep(_APART)
            if not self._has_failed:
                pause = _PAUSE if self.is_listening else _PAUSE_DEAF
                # Spread, so that the processes of a deployment do not ask all at once.
                with anyio.move_on_after(pause * between(0.9, 1)):
                    await self._due.wait()
            if self._has_failed:
                await anyio.sleep(_PAUSE_FAILED)

    async def reconcile(self) -> int:
        """Ask for the revisions of all that are followed here, and return how many channels were not up to date.

        Raises:
            UnavailableError: The database is out of reach.
        """
        began, losses = self._clock.monotonic(), self.losses
        channels = [channel for channel in self._channels.values() if channel.is_known]
        behind: list[Channel] = []
        for start in range(0, len(channels), _BATCH):
            batch = channels[start : start + _BATCH]
            expected = [channel.revision for channel in batch]
            found = await self._guard(self._repository.revisions([channel.subject for channel in batch]))
            for channel, before, revision in zip(batch, expected, found, strict=True):
                if revision not in {before, channel.revision}:
                    channel.doubt()
                if channel.is_behind:
                    behind.append(channel)
                else:
                    self._wake(channel)  # who could not be told of something while the database was away
        # All that is behind is known to be, and no other channel's state is in doubt.
        self._reconciled_at = began
        self.has_caught_up = losses == self.losses
        error: UnavailableError | None = None
        for start in range(0, len(behind), _AT_ONCE):
            questions = [
                self._ask(channel) for channel in behind[start : start + _AT_ONCE] if channel.listeners
            ]
            for question in questions:
                await question.answered.wait()
                error = error or question.error
        if error is not None:  # only now: one subject that cannot be read holds up no other
            raise UnavailableError(error.part) from error
        return len(behind)
