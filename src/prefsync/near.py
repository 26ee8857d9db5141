"""The near cache: documents in this process, in front of the shared cache (design: "Cache").

Others' writes reach it as announcements. So it is believed only while those are known to arrive, and it keeps nothing
that may have been read before an announcement that it did not hear.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from prefsync.document import footprint
from prefsync.recent import Recent

if TYPE_CHECKING:
    from prefsync.clock import Clock
    from prefsync.document import Document

__all__ = ["NearCache", "Place"]

# Seconds for which announcements are taken to arrive after they last were known to: they are known to about each
# second, and no document may be older than 2 s (protocol.md section 4, promise 4).
_BELIEVED_FOR: Final = 1.8

# What a place takes in memory beside its document.
_PLACE_BYTES: Final = 400


class Place:
    """Where one subject's document is kept, or will be. Whoever reads takes it before he begins to.

    Attributes:
        document: The document; ``None`` where none is known, or only one that is known to be old.
        newest: The lowest version that will do.
        until: When the document is too old whatever was heard of it, by the clock's monotonic time.
    """

    __slots__ = ("document", "newest", "until")

    def __init__(self) -> None:
        self.document: Document | None = None
        self.newest = 0
        self.until = 0.0


class NearCache:
    """Documents by their subjects' keys.

    Args:
        bound: Bytes, about.
        life: Seconds that a document is kept at most.
        clock: For that, and to know how long announcements are taken to arrive.
    """

    def __init__(self, bound: int, life: float, clock: Clock) -> None:
        self._places: Recent[Place] = Recent(bound)
        self._life = life
        self._clock = clock
        self._believed_until = -math.inf

    def __contains__(self, key: object) -> bool:
        """Tell whether changes of a subject have to be heard of."""
        return key in self._places

    def get(self, key: str) -> Document | None:
        """Return a document that is not older than 2 s, and than what was announced; ``None`` where none is kept."""
        now = self._clock.monotonic()
        if now >= self._believed_until:
            return None
        place = self._places.get(key)
        return place.document if place is not None and place.until > now else None

    def place(self, key: str) -> Place:
        """Return where to :meth:`keep` a document that is read after this call."""
        place = self._places.get(key)
        if place is None:
            place = Place()
            self._places.put(key, place, _PLACE_BYTES)
        return place

    def keep(self, key: str, place: Place, document: Document) -> None:
        """Keep a document, unless something newer was heard of since its place was taken, or cannot have been."""
        if document.version < place.newest or self._places.get(key) is not place:
            return
        place.newest = document.version
        place.document = document
        place.until = self._clock.monotonic() + self._life
        self._places.put(key, place, _PLACE_BYTES + footprint(len(document.values_json)))

    # --- What the hub hears ------------------------------------------------------------------------------------------

    def hear(self, key: str, version: int) -> None:
        """Forget a document that is older than what was announced."""
        place = self._places.get(key)
        if place is not None and version > place.newest:
            place.newest = version
            place.document = None

    def believe(self, at: float) -> None:
        """Take note that all announcements from before a moment have been heard."""
        self._believed_until = max(self._believed_until, at + _BELIEVED_FOR)

    def forget(self) -> None:
        """Forget everything: announcements were missed."""
        self._places.clear()

    def doubt(self) -> None:
        """Forget everything, and keep silent until announcements are known to arrive again."""
        self._believed_until = -math.inf
        self._places.clear()
