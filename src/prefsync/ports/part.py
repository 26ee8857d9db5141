"""What every adapter is."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Part", "short_way"]


class Part(Protocol):
    """What every adapter is: something that is opened and closed once, and can be opened again after that."""

    @abstractmethod
    async def __aenter__(self) -> Self:
        """Open what the adapter needs. Raises ``ConfigurationError`` where it never can."""

    @abstractmethod
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close what the adapter opened."""


def short_way(part: object, port: object, name: str, *, past: str) -> Any:
    """Return a method of an optional port, by which a part answers at once what is else answered by another method.

    Args:
        part: The part.
        port: The optional port; a part offers it by being a subclass of it.
        name: The method.
        past: The method that it stands for.

    Returns:
        The method; ``None`` where the part has none, or a subclass or instance of the host's has replaced the other
        method and not this one: what it looks at besides, whether a user is banned say, must not be passed by.
    """
    kinds = type(part).__mro__
    if port not in kinds or past in getattr(part, "__dict__", ()):
        return None
    own = next(kind for kind in kinds if name in vars(kind) or past in vars(kind))
    return getattr(part, name) if name in vars(own) else None
