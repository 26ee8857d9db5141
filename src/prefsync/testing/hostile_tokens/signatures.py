"""Signatures that are missing, changed, or of something else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prefsync.testing.hostile_tokens.cases import HostileToken, with_parts

if TYPE_CHECKING:
    from prefsync.testing.tokens import TokenMint

__all__ = ["SIGNATURES"]

_FORGED: Final = "nobody but the issuer can sign"
_SPELLED: Final = (
    "one token has one spelling (RFC 4648, section 3.5): what is revoked or counted by it stays so"
)

_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def _another_payload(mint: TokenMint) -> str:
    head, _, signature = mint.token().split(".")
    return f"{head}.{mint.token(sub='somebody-else').split('.')[1]}.{signature}"


def _another_header(mint: TokenMint) -> str:
    _, body, signature = mint.token().split(".")
    return f"{mint.token(header={'x': 1}).split('.')[0]}.{body}.{signature}"


def _flipped(parts: list[str]) -> list[str]:
    return [parts[0], parts[1], ("A" if parts[2][0] != "A" else "B") + parts[2][1:]]


def _with_stray_bits(parts: list[str]) -> list[str]:
    """Change bits at the end of the signature that no byte of it holds."""
    assert len(parts[2]) % 4, "a signature of a multiple of three bytes has no such bits"
    return [*parts[:2], parts[2][:-1] + _ALPHABET[_ALPHABET.index(parts[2][-1]) ^ 1]]


SIGNATURES: Final = [
    HostileToken(f"signature: {name}", purpose, make)
    for name, purpose, make in [
        ("missing", _FORGED, with_parts(lambda p: [p[0], p[1], ""])),
        ("one byte", _FORGED, with_parts(lambda p: [p[0], p[1], "AA"])),
        ("zeros", _FORGED, with_parts(lambda p: [p[0], p[1], "A" * len(p[2])])),
        ("cut", _FORGED, with_parts(lambda p: [p[0], p[1], p[2][:-2]])),
        ("half", _FORGED, with_parts(lambda p: [p[0], p[1], p[2][: len(p[2]) // 2]])),
        ("changed", _FORGED, with_parts(_flipped)),
        ("backwards", _FORGED, with_parts(lambda p: [p[0], p[1], p[2][::-1]])),
        ("longer", _FORGED, with_parts(lambda p: [p[0], p[1], p[2] + "AAAA"])),
        ("twice", _FORGED, with_parts(lambda p: [p[0], p[1], p[2] * 2])),
        ("of another payload", _FORGED, _another_payload),
        ("of another header", _FORGED, _another_header),
        ("of the parts in another order", _FORGED, with_parts(lambda p: [p[1], p[0], p[2]])),
        ("with stray bits", _SPELLED, with_parts(_with_stray_bits)),
        ("padded", _SPELLED, lambda mint: mint.token() + "="),
        ("with a stray character", _SPELLED, with_parts(lambda p: [p[0], p[1], p[2][:4] + "!" + p[2][4:]])),
        ("in the other base64", _SPELLED, with_parts(lambda p: [p[0], p[1], "+" + p[2][1:-1] + "/"])),
        ("with a line break", _SPELLED, lambda mint: mint.token() + "\n"),
    ]
]
