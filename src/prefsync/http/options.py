"""What a host can settle about the protocol."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["ApiOptions"]


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """What a host can settle about the protocol.

    Attributes:
        read_scope: The scope that reading needs.
        write_scope: The scope that writing needs.
        require_if_match: Whether a write without ``If-Match`` (over a socket: ``if_revision``) is refused.
        allowed_origins: Origins besides its own whose pages may open a WebSocket, ``https://app.example``.
        sessions_per_subject: The most open streams of one subject in one process.
        sessions: The most open streams of one process.
    """

    read_scope: str = "preferences:read"
    write_scope: str = "preferences:write"
    require_if_match: bool = False
    allowed_origins: frozenset[str] = field(default_factory=frozenset)
    sessions_per_subject: int = 64
    sessions: int = 10_000
