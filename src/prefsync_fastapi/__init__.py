"""prefsync in FastAPI: one object, one router."""

from importlib.util import find_spec

from prefsync.errors import MissingExtraError

if find_spec("fastapi") is None:
    raise MissingExtraError("FastAPI (prefsync_fastapi)", "fastapi")

from prefsync_fastapi.dependencies import CurrentPreferences
from prefsync_fastapi.mount import PrefSync

__all__ = ["CurrentPreferences", "PrefSync"]
