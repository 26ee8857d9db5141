"""Conditional requests (RFC 9110, section 13)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from prefsync.errors import MalformedError, PreconditionFailedError

if TYPE_CHECKING:
    from prefsync.http.messages import HttpRequest, HttpResponse
    from prefsync.http.rendering import Rendered

__all__ = ["Conditions", "conditionally"]

_TAG: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_LIST: Final = re.compile(rf"[ \t,]*(?:{_TAG.pattern})(?:[ \t]*,[ \t,]*(?:{_TAG.pattern}))*[ \t,]*")


class Conditions:
    """What a request makes its condition.

    Args:
        headers: Of the request.

    Raises:
        MalformedError: A header is no list of entity tags.
    """

    __slots__ = ("if_match", "if_none_match")

    def __init__(self, headers: dict[bytes, bytes]) -> None:
        self.if_match = _tags(headers, b"if-match")
        self.if_none_match = _tags(headers, b"if-none-match")

    def __bool__(self) -> bool:
        """Tell whether there is any condition."""
        return self.if_match is not None or self.if_none_match is not None

    def check(self, tag: str) -> None:
        """Raise unless a state with this entity tag may be written over.

        Raises:
            PreconditionFailedError: ``If-Match`` does not name it (strongly), or ``If-None-Match`` does (weakly).
        """
        self.check_match(tag)
        if self.names(tag):
            raise PreconditionFailedError("the state is one that If-None-Match excludes")

    def check_match(self, tag: str) -> None:
        """Raise ``PreconditionFailedError`` unless ``If-Match`` is absent or names this entity tag, strongly."""
        if self.if_match is not None and "*" not in self.if_match and tag not in self.if_match:
            raise PreconditionFailedError(
                "the state has changed since the one that If-Match names; read it again"
            )

    def names(self, tag: str) -> bool:
        """Tell whether ``If-None-Match`` names an entity tag, by weak comparison."""
        tags = self.if_none_match
        return tags is not None and ("*" in tags or tag in tags or f"W/{tag}" in tags)


def conditionally(rendered: Rendered, request: HttpRequest) -> HttpResponse:
    """Answer with a representation, or that the client's copy of it is still good."""
    conditions = Conditions(request.headers)
    if rendered.etag is not None and conditions:
        conditions.check_match(rendered.etag)
        if conditions.names(rendered.etag):
            return rendered.not_modified()
    return rendered.answer(request)


def _tags(headers: dict[bytes, bytes], name: bytes) -> frozenset[str] | None:
    given = headers.get(name)
    if given is None:
        return None
    value = given.decode("latin-1").strip()
    if value == "*":
        return frozenset("*")
    if not _LIST.fullmatch(value):
        raise MalformedError(
            f'{name.decode().title()} must be * or a list of entity tags in double quotes, "abc"'
        )
    return frozenset(_TAG.findall(value))
