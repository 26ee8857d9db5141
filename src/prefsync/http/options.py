"""What a host can settle about the protocol."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ApiOptions"]


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """What a host can settle about the protocol.

    Attributes:
        read_scope: The scope that reading needs.
        write_scope: The scope that writing needs.
        require_if_match: Whether a write without ``If-Match`` (over a socket: ``if_revision``) is refused.
    """

    read_scope: str = "preferences:read"
    write_scope: str = "preferences:write"
    require_if_match: bool = False
