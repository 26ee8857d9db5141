"""prefsync in Flask: one extension, one blueprint."""

from importlib.util import find_spec

from prefsync.errors import MissingExtraError

if find_spec("flask") is None:
    raise MissingExtraError("Flask (prefsync_flask)", "flask")

from prefsync_flask.current import current_preferences
from prefsync_flask.extension import PrefSync

__all__ = ["PrefSync", "current_preferences"]
