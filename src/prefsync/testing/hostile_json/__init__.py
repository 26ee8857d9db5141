"""JSON texts and strings that went wrong somewhere: the catalogue, each with what it is for and what is answered.

The app under test declares the namespaces of the example apps, with the protocol's default limits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prefsync.testing.hostile_json.cases import HostileJson
from prefsync.testing.hostile_json.encodings import ENCODINGS
from prefsync.testing.hostile_json.names import NAMES
from prefsync.testing.hostile_json.numbers import NUMBERS
from prefsync.testing.hostile_json.shapes import SHAPES
from prefsync.testing.hostile_json.syntax import SYNTAX
from prefsync.testing.hostile_json.texts import TEXTS

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["HOSTILE_JSON", "HostileJson"]

HOSTILE_JSON: Final[Mapping[str, tuple[HostileJson, ...]]] = {
    "syntax": tuple(SYNTAX),
    "encodings": tuple(ENCODINGS),
    "numbers": tuple(NUMBERS),
    "names": tuple(NAMES),
    "texts": tuple(TEXTS),
    "shapes": tuple(SHAPES),
}
"""By the part of JSON that they try."""
