"""What the clients return."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

__all__ = ["Change", "Reset", "State", "Timing", "Values", "WriteOptions"]

V = TypeVar("V", covariant=True)  # noqa: PLC0105  # as short as the others

Values = dict[str, dict[str, Any]]
"""Effective values by namespace and field."""


@dataclass(frozen=True, slots=True)
class State(Generic[V]):
    """A document, or one namespace of it, at one revision.

    Attributes:
        values: Effective values: a dict, or an instance of the model that was asked for.
        revision: The subject's.
        etag: What ``if_match`` takes.
        schema: The schema tag; ``None`` for one namespace, where the protocol does not tell it.
        is_stale: The server's database is out of reach, and this came from its cache.
    """

    values: V
    revision: int
    etag: str
    schema: str | None = None
    is_stale: bool = False


class WriteOptions(TypedDict, total=False):
    """What every write takes beside its values.

    Attributes:
        if_match: A state, or its ``etag``: write only where it is still so, else raise ``ConflictError``.
        idempotency_key: To make a write once that is called again by hand; each call has one of its own otherwise.
        time_limit: Seconds that the call may take in all.
    """

    if_match: str | State[Any] | None
    idempotency_key: str | None
    time_limit: float | None


@dataclass(frozen=True, slots=True)
class Change:
    """One accepted write, or several folded into one.

    Attributes:
        revision: Of the state that it leaves.
        previous: Of the state that it was made upon.
        at: When; of a folded one, its newest part.
        origin: The name that its client gives itself; of a folded one, its newest part.
        changed: Whole fields with their new effective values, by namespace.
        removed: Keys that are gone, by namespace; open namespaces only.
    """

    revision: int
    previous: int
    at: datetime
    origin: str | None
    changed: Mapping[str, Mapping[str, Any]]
    removed: Mapping[str, tuple[str, ...]]

    def apply(self, values: Mapping[str, Mapping[str, Any]]) -> Values:
        """Return the values that this change leaves of others, which stay as they are."""
        after = {namespace: dict(fields) for namespace, fields in values.items()}
        for namespace, fields in self.changed.items():
            after.setdefault(namespace, {}).update(deepcopy(dict(fields)))
        for namespace, names in self.removed.items():
            for name in names:
                after.get(namespace, {}).pop(name, None)
        return after


@dataclass(frozen=True, slots=True)
class Reset:
    """A fresh start: what the client had is to be replaced.

    Attributes:
        revision: Of the values; the only revision that may be lower than the one before it.
        schema: The schema tag, for ``watch(since=..., schema=...)`` later.
        values: All effective values.
    """

    revision: int
    schema: str
    values: Mapping[str, Mapping[str, Any]]

    def apply(self, values: Mapping[str, Mapping[str, Any]]) -> Values:
        """Return these values, whatever there was."""
        del values
        return deepcopy({namespace: dict(fields) for namespace, fields in self.values.items()})


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a client waits for what, in seconds. The defaults follow from the protocol's own times.

    Attributes:
        connect: For a connection.
        attempt: For one whole answer, before the request is sent again.
        backoff: The longest pause after the first failure; it doubles with each further one, and the pause itself is
            drawn evenly from all shorter ones, so that clients cut together do not come back together.
        most_backoff: The longest pause of a call.
        most_rest: The longest pause of a watch.
        first_byte: For the first byte of an event stream. The server sends something every 15 s: what holds it back
            for longer will not let events through in time.
        silence: Without a byte, until a stream that worked is taken for dead.
        poll: What a long poll asks the server to wait.
        probe: Until an event stream is tried again, where long polls stand in for it; doubles with each failure.
        most_probe: The longest time between such tries.
        lived: What a stream must have lasted to count as one that worked.
    """

    connect: float = 5.0
    attempt: float = 10.0
    backoff: float = 0.25
    most_backoff: float = 5.0
    most_rest: float = 30.0
    first_byte: float = 20.0
    silence: float = 45.0
    poll: float = 25.0
    probe: float = 60.0
    most_probe: float = 1_800.0
    lived: float = 5.0
