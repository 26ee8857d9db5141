"""Where values differ, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["differences"]

# Differences that are told; who has more of them has another problem than the rest of them.
_MOST: Final = 20

_MISSING: Final = object()


def differences(one: Mapping[str, Any], other: Mapping[str, Any], here: str, there: str) -> str:
    """Return where values differ, a line for each field by its JSON pointer; an empty text where they do not.

    Args:
        one: By namespace and field.
        other: The same.
        here: What to call the first.
        there: What to call the second.
    """
    lines = list(_lines(one, other, here, there))
    told = [":", *lines[:_MOST]] if lines else []
    if len(lines) > _MOST:
        told.append(f"and {len(lines) - _MOST} more")
    return "\n  ".join(told)


def _lines(one: Mapping[str, Any], other: Mapping[str, Any], here: str, there: str) -> Iterator[str]:
    for namespace in sorted({*one, *other}):
        if namespace not in one or namespace not in other:
            yield f"/{namespace}: only {there if namespace not in one else here}"
            continue
        mine, theirs = one[namespace], other[namespace]
        for field in sorted({*mine, *theirs}):
            a, b = mine.get(field, _MISSING), theirs.get(field, _MISSING)
            if a != b or type(a) is not type(b):
                yield f"/{namespace}/{_escaped(field)}: {_shown(a)} {here}, {_shown(b)} {there}"


def _shown(value: Any) -> str:
    return "absent" if value is _MISSING else repr(value)


def _escaped(field: str) -> str:
    return field.replace("~", "~0").replace("/", "~1")
