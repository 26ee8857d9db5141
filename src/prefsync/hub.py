"""One subscription a process, handed out to whoever waits for a subject's next change."""

from __future__ import annotations

import logging
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import anyio

from prefsync.ports import Gap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefsync.document import Subject
    from prefsync.ports import ChangeNotifier

__all__ = ["Hub", "Waiter"]

logger = logging.getLogger("prefsync")

# A notifier that fails at once on every attempt must not spin; one that comes back must not be waited for
# long.
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0


class Waiter:
    """Wakes when something happened to a subject since it was made or last waited for."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def wake(self) -> None:
        """End the wait, or the next one where none is on."""
        self._event.set()

    async def wait(self, seconds: float) -> bool:
        """Return whether it was woken within a time."""
        with anyio.move_on_after(seconds):
            await self._event.wait()
        woken = self._event.is_set()
        if woken:
            self._event = anyio.Event()
        return woken


class Hub:
    """Hands announcements to the local waiters of their subjects; costs nothing for all other subjects.

    Args:
        notifier: Where announcements come from.
    """

    def __init__(self, notifier: ChangeNotifier) -> None:
        self._notifier = notifier
        self._waiters: defaultdict[str, set[Waiter]] = defaultdict(set)

    @contextmanager
    def waiter(self, subject: Subject) -> Iterator[Waiter]:
        """Wait for a subject: what is announced from now on wakes the waiter."""
        waiter = Waiter()
        waiters = self._waiters[subject.key]
        waiters.add(waiter)
        try:
            yield waiter
        finally:
            waiters.discard(waiter)
            if not waiters and self._waiters.get(subject.key) is waiters:
                del self._waiters[subject.key]

    async def run(self) -> None:
        """Listen until cancelled.

        Whatever goes wrong is logged and begun again: the listener never dies silently.
        """
        pause = _FIRST_PAUSE
        while True:
            try:
                async with self._notifier.subscribe(self._waiters.__contains__) as announcements:
                    self._wake_all()  # something may have been announced before the subscription stood
                    pause = _FIRST_PAUSE
                    async for announcement in announcements:
                        if isinstance(announcement, Gap):
                            self._wake_all()
                        else:
                            for waiter in self._waiters.get(announcement.subject.key, ()):
                                waiter.wake()
            except Exception:
                logger.exception("the listener for changes failed; it starts again in %.1f s", pause)
            else:
                logger.error("the notifier ended its subscription; it is made again in %.1f s", pause)
            await anyio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _wake_all(self) -> None:
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.wake()
