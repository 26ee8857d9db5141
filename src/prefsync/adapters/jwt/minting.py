"""Tokens for development, signed with a shared secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jwt

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["sign"]


def sign(claims: Mapping[str, Any], secret: str, *, algorithm: str = "HS256", kind: str = "JWT") -> str:
    """Return claims as a signed token.

    Args:
        claims: What it says.
        secret: What verifies it too.
        algorithm: HS256, HS384 or HS512.
        kind: The header's ``typ``.
    """
    return jwt.encode(dict(claims), secret, algorithm=algorithm, headers={"typ": kind})
