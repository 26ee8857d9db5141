"""The preferences of whoever calls, in the host's own views."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from flask import current_app
from werkzeug.local import LocalProxy

from prefsync.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefsync.blocking import BlockingPreferencesHandle
    from prefsync_flask.mount import Mount

__all__ = ["EXTENSION", "current_preferences"]

EXTENSION = "prefsync"
"""Under which an app's mounts are found in ``app.extensions``, each by its name."""


def _current() -> BlockingPreferencesHandle:
    mounts: Mapping[str, Mount] = current_app.extensions.get(EXTENSION, {})
    if len(mounts) != 1:
        found = "no PrefSync is" if not mounts else f"{len(mounts)} PrefSyncs are"
        mend = "call its init_app" if not mounts else "ask one of them: prefsync.preferences()"
        raise ConfigurationError(f"{found} in this app: {mend}")
    (mount,) = mounts.values()
    return mount.handle()


current_preferences = cast("BlockingPreferencesHandle", LocalProxy(_current))
"""The typed handle of the request's user, for apps with one ``PrefSync``: ``current_preferences.get(Appearance)``.

Raises, where it is used: ``HTTPException``, 401 say, which Flask answers; ``ConfigurationError`` where it is not clear
which mount is meant.
"""
