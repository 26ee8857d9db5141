"""What a case of the catalogue is, and how most are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from prefsync.testing.tokens import Signer, TokenMint

__all__ = ["HostileToken", "Make", "resigned", "with_header", "with_parts"]

Make: TypeAlias = Callable[[TokenMint], str]


@dataclass(frozen=True, slots=True)
class HostileToken:
    """A token that must be refused.

    Attributes:
        name: What is wrong with it.
        purpose: Whom it would fool, or which rule it breaks.
        make: Makes it when it is needed, from what the issuer can do.
    """

    name: str
    purpose: str
    make: Make


def with_header(**changes: Any) -> Make:
    """Return a maker of well-signed tokens with another header."""
    return lambda mint: mint.token(header=changes)


def with_parts(change: Callable[[list[str]], list[str]]) -> Make:
    """Return a maker of tokens whose three parts were changed after signing."""
    return lambda mint: ".".join(change(mint.token().split(".")))


def resigned(algorithm: str, sign: Signer, **header: Any) -> Make:
    """Return a maker of tokens with good claims that somebody else has signed."""
    return lambda mint: mint.token(header={"alg": algorithm, **header}, sign=sign)
