"""Which part of the document a call is about, and what is sent to it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import to_json

from prefsync.errors import ConfigurationError
from prefsync.models import OpenPreferences, Preferences

if TYPE_CHECKING:
    from prefsync.models import PreferencesModel

__all__ = ["Target", "body_of", "watch_position"]

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")

# Paths of the protocol, which no namespace is called by (protocol.md section 2).
_PATHS: Final = frozenset(
    {
        *("schema", "changes", "events", "ws", "ticket", "sync"),
        *("history", "export", "erase", "explain", "client"),
    }
)


@dataclass(frozen=True, slots=True)
class Target:
    """The whole document, or a namespace of it.

    Attributes:
        path: Below the mount's URL.
        model: What reads are returned as.
    """

    path: str
    model: PreferencesModel | None = None

    @classmethod
    def of(cls, namespace: str | PreferencesModel | None) -> Target:
        """Return what a caller means.

        Raises:
            ValueError: No namespace can be called that.
            ConfigurationError: The model names no namespace.
        """
        given: Any = namespace  # whatever the type says, this is where a mistake shows
        if given is None:
            return cls("")
        name, model = given, None
        if isinstance(given, type) and issubclass(given, Preferences | OpenPreferences):
            name, model = given.namespace_name, given
            if name is None:
                raise ConfigurationError(f"{given.__name__} names no namespace")
        if not isinstance(name, str):
            raise TypeError(f"a namespace is a name or a model, not {type(given).__name__}")
        if not _NAME.fullmatch(name) or name in _PATHS:
            raise ValueError(f"no namespace can be called {name!r}")
        return cls(f"/{name}", model)

    def typed(self, values: dict[str, Any]) -> Any:
        """Return a namespace's values as the caller asked for them.

        Fields that the model does not know are left out: in a deploy, the server may have a newer one.

        Raises:
            ValueError: The model does not take them.
        """
        model = self.model
        if model is None:
            return values
        if issubclass(model, Preferences) and model.model_config.get("extra") == "forbid":
            known = {info.alias or name for name, info in model.model_fields.items()}
            values = {name: value for name, value in values.items() if name in known}
        return model.model_validate_json(to_json(values), strict=True)


def body_of(values: Any) -> bytes:
    """Write what is sent: a mapping of JSON values, or a model, of which the fields that were set are sent.

    Raises:
        TypeError: There is something that JSON does not have.
        ValueError: There is a NaN or an infinity.
    """
    if isinstance(values, Preferences | OpenPreferences):
        values = values.model_dump(mode="json", by_alias=True, exclude_unset=isinstance(values, Preferences))
    if not isinstance(values, Mapping):
        raise TypeError(f"values are a mapping or a model, not {type(values).__name__}")
    return json.dumps(dict(values), allow_nan=False, separators=(",", ":")).encode()


def watch_position(since: Any) -> int | None:
    """Return where a watch begins.

    Raises:
        ValueError: That is no revision.
    """
    if since is not None and (isinstance(since, bool) or not isinstance(since, int) or since < 0):
        raise ValueError("since is a revision: an integer from 0")
    return since
