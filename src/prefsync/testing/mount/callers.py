"""Users with tokens, and the JSON they send."""

from __future__ import annotations

import hmac
import json
import secrets
import time
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Any, Final

from prefsync.document import Subject

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prefsync.testing.mount.client import Answer, MountClient

__all__ = ["BOTH", "DEFAULTS", "KEY", "READ", "WRITE", "Caller", "mint", "newcomer"]

KEY: Final = "the-contract-suite-signs-its-tokens-with-this-secret"

READ: Final = "preferences:read"
WRITE: Final = "preferences:write"
BOTH: Final = f"{READ} {WRITE}"

# design.md, section 10.
DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "appearance": {"theme": "system", "accent": "#3366ff", "font_size": 14, "density": "comfortable"},
    "editor": {"tab_size": 4, "word_wrap": False, "rulers": []},
    "notifications": {"email": True, "push": False, "digest": "weekly", "muted_channels": []},
    "plugins": {},
}

_ABSENT: Final[Any] = object()


def mint(claims: Mapping[str, Any], *, key: str = KEY, header: Mapping[str, Any] | None = None) -> str:
    """Sign claims as a JSON Web Token with HS256 (RFC 7515, appendix A.1)."""
    parts = [
        _base64(json.dumps(part).encode()) for part in (header or {"alg": "HS256", "typ": "JWT"}, claims)
    ]
    signature = hmac.digest(key.encode(), ".".join(parts).encode(), "sha256")
    return ".".join([*parts, _base64(signature)])


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


class Caller:
    """A user of the mount, or several sessions of one.

    Args:
        client: Where requests go.
        claims: Of the user's token; a claim that is ``None`` is left out.

    Attributes:
        client: Where requests go.
        user: The user's id.
        token: The bearer token.
    """

    def __init__(self, client: MountClient, **claims: Any) -> None:
        self._claims = {
            "sub": f"user-{secrets.token_hex(8)}",
            "exp": int(time.time()) + 3_600,
            "scope": BOTH,
            **claims,
        }
        self.client = client
        self.user: str = self._claims["sub"]
        self.token = mint({name: value for name, value in self._claims.items() if value is not None})

    @property
    def subject(self) -> Subject:
        """Whose preferences they are."""
        return Subject(self.user)

    def holding(self, **claims: Any) -> Caller:
        """Return the same user with another token."""
        return Caller(self.client, **{**self._claims, **claims})

    def through(self, client: MountClient) -> Caller:
        """Return the same user as a client of another process."""
        return Caller(client, **self._claims)

    async def send(
        self,
        method: str,
        path: str = "",
        value: Any = _ABSENT,
        *,
        raw: bytes | Iterable[bytes] | None = None,
        media: str | None = "application/json",
        headers: Mapping[str, str] | None = None,
        query: str = "",
    ) -> Answer:
        """Send a request in the user's name.

        Args:
            method: The method.
            path: Below the prefix.
            value: The body, to be written as JSON.
            raw: The body as it is to be sent.
            media: The body's ``Content-Type``; ``None`` for none.
            headers: More headers.
            query: What follows the question mark.
        """
        body = json.dumps(value, ensure_ascii=False).encode() if value is not _ABSENT else raw
        lines = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        if body is not None and media is not None:
            lines["Content-Type"] = media
        return await self.client.request(method, path, headers=lines, body=body, query=query)

    async def get(self, path: str = "", **more: Any) -> Answer:
        """Send a ``GET``."""
        return await self.send("GET", path, **more)

    async def put(self, path: str = "", value: Any = _ABSENT, **more: Any) -> Answer:
        """Send a ``PUT``."""
        return await self.send("PUT", path, value, **more)

    async def patch(self, path: str = "", value: Any = _ABSENT, **more: Any) -> Answer:
        """Send a ``PATCH``."""
        return await self.send("PATCH", path, value, **more)

    async def delete(self, path: str = "", **more: Any) -> Answer:
        """Send a ``DELETE``."""
        return await self.send("DELETE", path, **more)

    async def write(self, method: str, path: str = "", value: Any = None, **more: Any) -> Answer:
        """Send a value by ``PUT`` or ``PATCH``; by any other method the request goes without it."""
        return await self.send(method, path, value if method in {"PUT", "PATCH"} else _ABSENT, **more)

    async def values(self) -> dict[str, Any]:
        """Return all effective values."""
        state = (await self.get()).ok()
        values: dict[str, Any] = state["values"]
        return values

    async def changes(self, since: int = 0, **parameters: Any) -> dict[str, Any]:
        """Return a page of the change feed."""
        query = "&".join(f"{name}={value}" for name, value in {"since": since, **parameters}.items())
        page: dict[str, Any] = (await self.get("/changes", query=query)).ok()
        return page


def newcomer(client: MountClient, **claims: Any) -> Caller:
    """Return a user whom nobody has seen before."""
    return Caller(client, **claims)
