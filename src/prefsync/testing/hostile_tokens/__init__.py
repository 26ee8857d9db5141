"""Tokens that no verifier may take: the catalogue, each with what is wrong with it and what it is for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prefsync.testing.hostile_tokens.claims import CLAIMS
from prefsync.testing.hostile_tokens.headers import HEADERS
from prefsync.testing.hostile_tokens.payloads import PAYLOADS
from prefsync.testing.hostile_tokens.signatures import SIGNATURES
from prefsync.testing.hostile_tokens.texts import TEXTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefsync.testing.hostile_tokens.cases import HostileToken

__all__ = ["HOSTILE_TOKENS"]

HOSTILE_TOKENS: Final[Mapping[str, HostileToken]] = {
    case.name: case for cases in (CLAIMS, PAYLOADS, HEADERS, SIGNATURES, TEXTS) for case in cases
}
"""By what is wrong with them."""
