"""What the suite needs of a mount: somebody who runs the app, and a client of it."""

from __future__ import annotations

import gzip
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from prefsync.ports import PreferenceRepository

__all__ = ["Answer", "Headers", "MountClient", "MountHost"]

_PROBLEM: Final = "application/problem+json"


class Headers:
    """Header lines in order, found by their name in any case.

    Args:
        lines: Name and value of each line.
    """

    __slots__ = ("_lines",)

    def __init__(self, lines: Iterable[tuple[str, str]]) -> None:
        self._lines = [(name.lower(), value) for name, value in lines]

    def __getitem__(self, name: str) -> str:
        """Return the one value of a header; several lines are joined by commas (RFC 9110, section 5.3).

        Raises:
            KeyError: There is no such line.
        """
        values = self.all(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def __contains__(self, name: str) -> bool:
        return bool(self.all(name))

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._lines)

    def __repr__(self) -> str:
        return f"Headers({self._lines!r})"

    def all(self, name: str) -> list[str]:
        """Return the value of each line of a name."""
        return [value for found, value in self._lines if found == name.lower()]

    def get(self, name: str) -> str | None:
        """Return what indexing does, or ``None``."""
        return ", ".join(self.all(name)) if name in self else None

    def members(self, name: str) -> set[str]:
        """Return the members of a header that is a list of words, in lower case."""
        return {member.strip().lower() for member in (self.get(name) or "").split(",")} - {""}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        status: The status code.
        headers: The header lines.
        body: As on the wire, before any content coding is undone.
    """

    status: int
    headers: Headers
    body: bytes

    @property
    def coding(self) -> str | None:
        """The content coding."""
        return self.headers.get("Content-Encoding")

    @property
    def content(self) -> bytes:
        """The body, its content coding undone."""
        match self.coding:
            case None | "identity":
                return self.body
            case "gzip":
                return gzip.decompress(self.body)
            case "br":
                return _unpacked("brotli", self.body)
            case "zstd":
                try:
                    return _unpacked("compression.zstd", self.body)  # in the standard library from 3.14
                except ImportError:
                    return _unpacked("backports.zstd", self.body)
            case other:
                message = f"nobody asked for the content coding {other!r}"
                raise AssertionError(message)

    @property
    def etag(self) -> str:
        """The entity tag."""
        return self.headers["ETag"]

    @property
    def revision(self) -> int:
        """The subject's revision."""
        return int(self.headers["Prefsync-Revision"])

    def json(self) -> Any:
        """Return the body as JSON (RFC 8259): UTF-8, and no ``NaN``."""
        return json.loads(self.content.decode("utf-8"), parse_constant=_no_constant)

    def ok(self) -> Any:
        """Return the JSON of an answer that must be a success.

        Raises:
            AssertionError: It is none.
        """
        assert self.status == 200, f"{self.status}: {self.content[:2_000]!r}"
        assert self.headers["Content-Type"].split(";")[0].strip() == "application/json"
        return self.json()

    def problem(self, status: int, name: str) -> dict[str, Any]:
        """Return the problem details (RFC 9457) of an answer that must be this error.

        Raises:
            AssertionError: It is another answer, or not in the form of the protocol.
        """
        assert self.status == status, f"{self.status}: {self.content[:2_000]!r}"
        assert self.headers["Content-Type"].split(";")[0].strip() == _PROBLEM
        assert self.coding is None, "an error is never compressed"
        members: dict[str, Any] = self.json()
        assert members["type"] == f"urn:prefsync:problem:{name}"
        assert members["status"] == status
        assert isinstance(members["title"], str)
        assert members["title"]
        assert isinstance(members["detail"], str)
        assert members["detail"]
        assert members.keys() <= {"type", "title", "status", "detail", "errors"}
        return members

    def pointers(self, name: str = "invalid-preferences") -> list[str]:
        """Return the sorted pointers of an answer that must be a refusal of the preferences in the body."""
        errors = self.problem(422, name)["errors"]
        assert errors
        for error in errors:
            assert error.keys() == {"pointer", "code", "detail"}
            assert all(isinstance(member, str) for member in error.values())
            assert error["code"]
            assert error["detail"]
        return sorted({error["pointer"] for error in errors})


def _unpacked(module: str, body: bytes) -> bytes:
    """Undo a content coding by a module that whoever applied it has."""
    plain: bytes = import_module(module).decompress(body)
    return plain


def _no_constant(token: str) -> Any:
    message = f"{token} is no JSON"
    raise AssertionError(message)


class MountClient(ABC):
    """A client of the app under test.

    One class of this kind is all that a framework needs in order to run :class:`~prefsync.testing.mount.MountContract`.
    """

    @abstractmethod
    async def request(
        self,
        method: str,
        path: str = "",
        *,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        body: bytes | Iterable[bytes] | None = None,
        query: str = "",
    ) -> Answer:
        """Send a request and return the answer, following no redirect and undoing no content coding.

        Args:
            method: The method.
            path: Below the mount's prefix, percent-encoded as it is to be sent; empty for the prefix itself.
            headers: Header lines, sent as they are. Nothing that changes the answer is added: no ``Accept-Encoding``,
                no ``Content-Type``.
            body: Bytes are sent with their ``Content-Length``, an iterable in pieces without one
                (``Transfer-Encoding: chunked``).
            query: What follows the question mark, percent-encoded as it is to be sent.
        """

    @abstractmethod
    def elsewhere(self) -> MountClient:
        """Return a client of the same app at a network address that no other client has."""


class MountHost(ABC):
    """Who runs the app under test.

    Attributes:
        is_linked: Whether the apps it runs share a cache and a notifier, as those of one deployment should.
    """

    is_linked: bool = True

    @abstractmethod
    def open(self, settings: Mapping[str, str]) -> AbstractAsyncContextManager[MountClient]:
        """Run an app that declares the namespaces of the example apps, until the context is left.

        All apps that one host runs share one database, as processes of one deployment do.

        Args:
            settings: ``PREFSYNC_...`` settings, all but those that say where things are stored.
        """

    @abstractmethod
    def repository(self) -> PreferenceRepository:
        """Return a repository, not opened yet, on the database of the apps."""
