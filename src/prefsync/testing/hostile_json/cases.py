"""What a case of the catalogue is, and how most are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["BOTH", "HostileJson", "broken", "refused", "taken"]

BOTH: Final = ("PUT", "PATCH")


@dataclass(frozen=True, slots=True)
class HostileJson:
    """A request's body, and what a mount answers.

    Attributes:
        name: What it is.
        purpose: Whom it would fool, or which rule it tries.
        body: As it is sent, as ``application/json``.
        status: Of the answer. Where it is 200, the body comes back from every store: as exactly what it says in
            ``PUT``, and in ``PATCH`` upon nothing stored without its nulls.
        codes: Where the status is 422: the codes of the errors that are told.
        path: Below the prefix.
        methods: By which it is sent.
    """

    name: str
    purpose: str
    body: bytes
    status: int
    codes: frozenset[str] = frozenset()
    path: str = "/plugins"
    methods: tuple[str, ...] = BOTH


def broken(kind: str, purpose: str, bodies: Iterable[tuple[str, bytes]]) -> list[HostileJson]:
    """Return bodies that are no JSON, each with its name."""
    return [HostileJson(f"{kind}: {name}", purpose, body, 400) for name, body in bodies]


def refused(
    kind: str, purpose: str, code: str, values: Iterable[tuple[str, str]], form: str = '{"v":%s}'
) -> list[HostileJson]:
    """Return bodies that are JSON and may not be stored, all for one reason, each with its name.

    Args:
        kind: Begins their names.
        purpose: Theirs.
        code: Of the error that is told.
        values: Each with its name.
        form: Where in a body they stand.
    """
    return [
        HostileJson(f"{kind}: {name}", purpose, (form % text).encode(), 422, frozenset({code}))
        for name, text in values
    ]


def taken(
    kind: str, purpose: str, values: Iterable[tuple[str, str]], form: str = '{"v":%s}'
) -> list[HostileJson]:
    """Return bodies that are stored and come back, each with its name; see :func:`refused`."""
    return [HostileJson(f"{kind}: {name}", purpose, (form % text).encode(), 200) for name, text in values]
