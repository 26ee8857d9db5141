"""Takes a part away from an adapter, and gives it back: what the outage contracts need to be told."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

__all__ = ["Outage"]


class Outage(Protocol):
    """How a test cuts an adapter off what it stands on: a proxy between them, say, or a server that is stopped."""

    @abstractmethod
    async def begin(self) -> None:
        """Take the part out of reach."""

    @abstractmethod
    async def end(self) -> None:
        """Bring it back, with all that it had."""
