"""What a host's own path operations depend on."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request

from prefsync.errors import ConfigurationError
from prefsync.handle import PreferencesHandle

__all__ = ["CurrentPreferences"]


async def current_preferences(request: Request) -> PreferencesHandle:
    """Return the typed handle of the user whose bearer token the request carries.

    Raises:
        HTTPException: 401, or 429 where too many bad tokens came from one address.
        ConfigurationError: It is not clear which mount is meant, or the host has its own authentication.
    """
    mounts: set[Any] = set(getattr(request.app.state, "prefsync", ()))
    if len(mounts) != 1:
        found = "no PrefSync runs" if not mounts else f"{len(mounts)} PrefSyncs run"
        mend = "include its router" if not mounts else "depend on one of them: Depends(prefsync.preferences)"
        raise ConfigurationError(f"{found} in this app: {mend}")
    (mount,) = mounts
    if mount.caller != mount.verified:
        raise ConfigurationError(
            "with your own authentication, depend on the mount itself: Depends(prefsync.preferences)"
        )
    identity = await mount.verified(request)
    handle: PreferencesHandle = mount.runtime.handle(identity.subject)
    return handle


CurrentPreferences = Annotated[PreferencesHandle, Depends(current_preferences)]
"""The typed handle of a request's user, for apps with one ``PrefSync`` that verifies tokens itself."""
