"""A thousand users, some busier than others, and the requests that they send."""

from __future__ import annotations

import json
import random
import secrets
import time
from dataclasses import dataclass
from itertools import count, cycle
from typing import TYPE_CHECKING, Any, Final

import jwt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["Crowd", "User"]

USERS: Final = 1_000
DOCUMENT_BYTES: Final = 600

# Primes, so that the cycles of users and of kinds of request do not fall into step.
_DRAWN_USERS: Final = 65_537
_DRAWN_KINDS: Final = 10_007

_NOTE_BYTES: Final = 8_192
"""Documents that are larger have several notes: one string may have 16 KiB."""

_ACCENT: Final = b"#000000"
"""What every write replaces by a colour that was not there before."""


@dataclass(frozen=True, slots=True)
class User:
    """One user.

    Attributes:
        name: As in the token.
        token: Good for a day.
        document: Of :data:`DOCUMENT_BYTES`, as a ``PUT`` sends it.
    """

    name: str
    token: str
    document: bytes


class Crowd:
    """The users, drawn by Zipf's law: the second half as often as the first, the third a third as often, and so on.

    Args:
        seed: The same seed draws the same users in the same order.
        names: The users'; ``USERS`` of them where left out.
        size: Of a document, in bytes.
        key: What the tokens are signed with; a new one where left out.

    Attributes:
        key: What the tokens are signed with.
        users: All of them, the busiest first.
        skew: The exponent of the law; 0 draws all alike.
    """

    def __init__(
        self,
        seed: int = 20_261_123,
        *,
        names: Sequence[str] | None = None,
        size: int = DOCUMENT_BYTES,
        key: str | None = None,
    ) -> None:
        self.key: str = key or secrets.token_urlsafe(48)
        self.skew = 1.0
        self._chance = random.Random(seed)
        self._changes = count(1)
        expires = int(time.time()) + 86_400
        names = [f"user-{number:04d}" for number in range(USERS)] if names is None else names
        self.users = [_user(name, self.key, expires, size) for name in names]

    def token(self, name: str) -> str:
        """Return a token of a user who is none of the crowd."""
        return _user(name, self.key, int(time.time()) + 86_400, DOCUMENT_BYTES).token

    def reads(
        self, path: str | Callable[[User], str], etags: Mapping[str, str] | None = None
    ) -> Iterator[bytes]:
        """Yield ``GET`` requests without end.

        Args:
            path: What to get; or what a user gets.
            etags: By user's name; makes the requests conditional.
        """
        requests = [
            self.read(path if isinstance(path, str) else path(user), user, (etags or {}).get(user.name))
            for user in self.users
        ]
        return map(requests.__getitem__, self._drawn())

    def read(self, path: str, user: User, etag: str | None = None) -> bytes:
        """Return one ``GET`` request."""
        condition = f"If-None-Match: {etag}\r\n" if etag is not None else ""
        return _head("GET", path, user, condition) + b"\r\n"

    def stores(self, path: Callable[[User], str]) -> list[bytes]:
        """Return a ``PUT`` of each user's document."""
        return [b"%b%b%b" % _parts("PUT", path(user), user, user.document) for user in self.users]

    def replaces(self, path: Callable[[User], str]) -> Iterator[bytes]:
        """Yield ``PUT`` requests without end: whole documents, each with something new in it."""
        return self._writes("PUT", path, lambda user: user.document)

    def patches(self, path: Callable[[User], str]) -> Iterator[bytes]:
        """Yield ``PATCH`` requests without end: one field, with a new value each time."""
        return self._writes("PATCH", path, lambda _: b'{"appearance":{"accent":"%b"}}' % _ACCENT)

    def mixed(self, often: Iterator[bytes], seldom: Iterator[bytes], share: float) -> Iterator[bytes]:
        """Yield of two kinds of requests, ``share`` of them of the second."""
        kinds = self._chance.choices([often, seldom], [1 - share, share], k=_DRAWN_KINDS)
        return map(next, cycle(kinds))

    def _drawn(self) -> Iterator[int]:
        numbers = range(len(self.users))
        weights = [(rank + 1) ** -self.skew for rank in numbers]
        return cycle(self._chance.choices(numbers, weights, k=_DRAWN_USERS))

    def _writes(
        self, method: str, path: Callable[[User], str], body: Callable[[User], bytes]
    ) -> Iterator[bytes]:
        parts = [_parts(method, path(user), user, body(user)) for user in self.users]
        changes = self._changes
        for number in self._drawn():
            before, _, after = parts[number]
            yield b"%b#%06x%b" % (before, next(changes) & 0xFFFFFF, after)


def _user(name: str, key: str, expires: int, size: int) -> User:
    claims = {"sub": name, "exp": expires, "scope": "preferences:read preferences:write"}
    return User(name, jwt.encode(claims, key, "HS256"), _document(name, size))


def _document(owner: str, size: int) -> bytes:
    document: dict[str, Any] = {
        "appearance": {"theme": "dark", "accent": _ACCENT.decode(), "font_size": 15, "density": "compact"},
        "editor": {"tab_size": 2, "word_wrap": True, "rulers": [80, 100, 120]},
        "notifications": {
            "email": True,
            "push": True,
            "digest": "daily",
            "muted_channels": [f"channel-{number:02d}" for number in range(8)],
        },
        "plugins": {
            "owner": owner,
            "columns": [{"id": f"c{n}", "width": 120 + n} for n in range(4)],
            "note": "",
        },
    }
    text = "as it was left; " * size
    if size > _NOTE_BYTES:
        count = size // _NOTE_BYTES
        document["plugins"]["notes"] = [text[: _NOTE_BYTES - 300]] * (count - 1)
    missing = size - len(_encode(document))
    document["plugins"]["note"] = text[:missing]
    encoded = _encode(document)
    assert len(encoded) == size, len(encoded)
    return encoded


def _encode(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _head(method: str, path: str, user: User, more: str = "") -> bytes:
    return (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\nAccept-Encoding: gzip\r\n"
        f"Authorization: Bearer {user.token}\r\n{more}"
    ).encode()


def _parts(method: str, path: str, user: User, body: bytes) -> tuple[bytes, bytes, bytes]:
    """Return a request in three parts, the accent in the middle."""
    more = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    before, accent, after = body.partition(_ACCENT)
    return _head(method, path, user, more) + b"\r\n" + before, accent, after
