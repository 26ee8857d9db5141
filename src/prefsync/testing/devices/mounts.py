"""What a host's app has mounted: found in the app, so that a test needs nothing but the app."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from prefsync.errors import ConfigurationError
from prefsync.testing.devices.asgi import AsgiApplication
from prefsync.testing.devices.wsgi import WsgiApplication

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefsync.testing.devices.messages import Application
    from prefsync.wiring import Runtime

__all__ = ["Mounted", "mounted_in"]


@dataclass(frozen=True, slots=True)
class Mounted:
    """A mount in an app.

    Attributes:
        runtime: What is behind it.
        prefix: Where the app has it.
        authenticates: Whether it verifies bearer tokens itself.
        application: Makes what runs the app.
        close: Closes what a request before the test has opened.
    """

    runtime: Runtime
    prefix: str
    authenticates: bool
    application: Callable[[], Application]
    close: Callable[[], None]


def mounted_in(app: Any, prefix: str | None = None) -> Mounted:
    """Return the mount of a FastAPI or Flask app.

    Args:
        app: The app.
        prefix: Which mount is meant, where there are several.

    Raises:
        ConfigurationError: There is none, or it is not clear which one is meant.
    """
    found = _in_flask(app) if hasattr(app, "wsgi_app") else _in_fastapi(app)
    chosen = [mount for mount in found if prefix is None or mount.prefix == prefix]
    if len(chosen) == 1:
        return chosen[0]
    prefixes = ", ".join(sorted(mount.prefix or "/" for mount in found))
    if not found:
        raise ConfigurationError(
            f"no preferences are mounted in {app!r}: pass the FastAPI or Flask app that has PrefSync's router or blueprint"
        )
    if prefix is None:
        raise ConfigurationError(f"preferences are mounted at {prefixes}: say which are meant, by prefix=")
    raise ConfigurationError(f"no preferences are mounted at {prefix!r}; there are some at {prefixes}")


def _in_flask(app: Any) -> list[Mounted]:
    mounts = app.extensions.get("prefsync", {}).values()
    return [
        Mounted(
            mount.gateway.runtime,
            mount.url_prefix,
            mount.has_tokens,
            partial(WsgiApplication, app, mount.gateway.call, mount.gateway.close),
            mount.gateway.close,
        )
        for mount in mounts
    ]


def _in_fastapi(app: Any) -> list[Mounted]:
    if not hasattr(app, "router") or not hasattr(app, "routes"):  # a PrefSync has the one and not the other
        return []
    from fastapi.routing import iter_route_contexts

    found: dict[str, Mounted] = {}
    for context in iter_route_contexts(app.routes):
        runtime = getattr(context.original_route, "prefsync_runtime", None)
        if runtime is not None:
            prefix = (context.path or "").partition("{")[0]
            found[prefix] = Mounted(
                runtime, prefix, runtime.verifier is not None, partial(AsgiApplication, app), _nothing
            )
    return list(found.values())


def _nothing() -> None:
    """Close nothing: what an ASGI app has open, its lifespan closes."""
