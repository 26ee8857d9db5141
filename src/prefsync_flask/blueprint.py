"""The blueprint by which Flask hands over all that is below a mount's prefix, WebSockets too."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from flask import Blueprint
from werkzeug.routing import BaseConverter, Rule

from prefsync.errors import ConfigurationError
from prefsync_flask.commands import add_commands

if TYPE_CHECKING:
    from flask.blueprints import BlueprintSetupState

    from prefsync_flask.mount import Mount

__all__ = ["blueprint_of"]

_BELOW: Final = "prefsync_below"


class _Below(BaseConverter):
    """Matches nothing, or a slash and whatever follows it, line breaks too: all that is below a prefix."""

    regex = r"(?:/[\s\S]*)?"
    part_isolating = False


def blueprint_of(mount: Mount) -> Blueprint:
    """Return the blueprint of a mount.

    Raises:
        ConfigurationError: The prefix cannot be one.
    """
    url_prefix = mount.url_prefix
    if not url_prefix.startswith("/") or url_prefix.endswith("/"):
        raise ConfigurationError(f"url_prefix={url_prefix!r} cannot be used; write it as /preferences")
    blueprint = Blueprint(mount.name, __name__, url_prefix=url_prefix, cli_group=mount.name)
    add_commands(blueprint, mount)
    blueprint.record(partial(_add_rules, mount))
    return blueprint


def _add_rules(mount: Mount, state: BlueprintSetupState) -> None:
    """Take every path and method below the prefix, so that errors too are told in the protocol's words."""
    endpoint = f"{state.name}.protocol"
    state.app.url_map.converters[_BELOW] = _Below
    for is_websocket in (False, True):
        rule = Rule(
            f"{state.url_prefix}<{_BELOW}:path>",
            endpoint=endpoint,
            merge_slashes=False,
            strict_slashes=False,
            websocket=is_websocket,
        )
        rule.provide_automatic_options = False  # type: ignore[attr-defined]  # Flask asks: OPTIONS is the protocol's
        state.app.url_map.add(rule)
    state.app.view_functions[endpoint] = mount.answer
