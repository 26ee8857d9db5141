"""Telling clients where to get a token (RFC 9728)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from prefsync.urls import well_known

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ProtectedResource"]

# RFC 9728, section 3.
_NAME: Final = "oauth-protected-resource"


@dataclass(frozen=True, slots=True)
class ProtectedResource:
    """A mount, as clients of OAuth 2.0 know it.

    Attributes:
        url: Where clients reach it, and what it is called.
        issuers: Who gives out tokens for it.
        scopes: What tokens for it can allow.
    """

    url: str
    issuers: Sequence[str]
    scopes: Sequence[str]

    @property
    def metadata_url(self) -> str:
        """Where clients look for the metadata: at the root of the host, whatever the mount's prefix."""
        return well_known(self.url, _NAME)

    @property
    def metadata_path(self) -> str:
        """The path of that."""
        return urlsplit(self.metadata_url).path

    def metadata(self) -> dict[str, Any]:
        """Return the metadata, an object to be answered as JSON (RFC 9728, section 2)."""
        members: dict[str, Any] = {
            "resource": self.url,
            "scopes_supported": list(self.scopes),
            "bearer_methods_supported": ["header"],
        }
        if self.issuers:  # what would be empty is left out (RFC 9728, section 3.2)
            members["authorization_servers"] = list(self.issuers)
        return members
