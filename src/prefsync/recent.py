"""What was used not long ago, within a bound."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["Recent"]

V = TypeVar("V")

# How many of those that were used are passed over for one that comes: where all were, nobody waits for all of them.
_CHANCES: Final = 100


class _Held(Generic[V]):
    __slots__ = ("size", "used", "value")

    def __init__(self, value: V, size: int) -> None:
        self.value = value
        self.size = size
        self.used = False


class Recent(Generic[V]):
    """What was used not long ago, within a bound in bytes.

    Whoever is used is only marked. Where room is needed, the oldest goes; one that was used meanwhile goes to the end of
    the line instead, once for any number of uses (Corbató, "A Paging Experiment with the Multics System", 1968). That
    keeps nearly what moving it at each use does, and use is a hundred times as frequent.

    Args:
        bound: Bytes, by the sizes that callers state.
    """

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._bytes = 0
        self._line: OrderedDict[Hashable, _Held[V]] = OrderedDict()

    def get(self, key: Hashable) -> V | None:
        """Return a value that was kept and not dropped since."""
        held = self._line.get(key)
        if held is None:
            return None
        held.used = True
        return held.value

    def put(self, key: Hashable, value: V, size: int) -> None:
        """Keep a value, unless it alone is beyond the bound, and drop what was not used for long."""
        self.drop(key)
        if size > self._bound:
            return
        chances = _CHANCES
        while self._bytes + size > self._bound:
            oldest, held = self._line.popitem(last=False)
            if held.used and chances:
                chances -= 1
                held.used = False
                self._line[oldest] = held
            else:
                self._bytes -= held.size
        self._line[key] = _Held(value, size)
        self._bytes += size

    def drop(self, key: Hashable) -> None:
        """Forget a value."""
        held = self._line.pop(key, None)
        if held is not None:
            self._bytes -= held.size

    def drop_where(self, unwanted: Callable[[V], bool]) -> None:
        """Forget the values of which something is true."""
        for key in [key for key, held in self._line.items() if unwanted(held.value)]:
            self.drop(key)

    def __len__(self) -> int:
        """Count the values."""
        return len(self._line)

    def __contains__(self, key: object) -> bool:
        """Tell whether a value is kept, which does not count as using it."""
        return key in self._line

    def clear(self) -> None:
        """Forget all values."""
        self._line.clear()
        self._bytes = 0
