"""Tokens, made by hand: no library would make the hostile ones."""

from __future__ import annotations

import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

__all__ = ["AUDIENCE", "ISSUER", "TENANT_CLAIM", "Signer", "TokenMint", "hmac_sha256", "segment"]

Signer: TypeAlias = Callable[[bytes], bytes]

ISSUER: Final = "https://issuer.example"
AUDIENCE: Final = "https://preferences.example"
TENANT_CLAIM: Final = "org"


def hmac_sha256(secret: str | bytes) -> Signer:
    """Return a signer for ``HS256`` (RFC 7518, section 3.2)."""
    key = secret.encode() if isinstance(secret, str) else secret
    return lambda message: hmac.digest(key, message, "sha256")


def segment(data: bytes) -> str:
    """Encode a part of a token (RFC 7515, section 2)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True)
class TokenMint:
    """Makes tokens that an issuer signs, well-formed or not.

    Args:
        algorithm: As the header names it.
        sign: The issuer's signature of a message.
        public_key: The verifier's key as text where it is public, for those who mistake it for a secret.
        now: Seconds since 1970, by the verifier's clock.
    """

    algorithm: str
    sign: Signer
    public_key: str | None = None
    now: Callable[[], float] = field(default=time.time)

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return good claims with some of them changed; those set to ``...`` are left out."""
        now = int(self.now())
        good = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "user-1",
            TENANT_CLAIM: "acme",
            "scope": "preferences:read preferences:write",
            "iat": now,
            "exp": now + 600,
        }
        return {name: value for name, value in {**good, **changes}.items() if value is not ...}

    def header(self, **changes: Any) -> dict[str, Any]:
        """Return a good header with some members changed."""
        return {"alg": self.algorithm, "typ": "JWT", **changes}

    def token(
        self, *, header: Mapping[str, Any] | None = None, sign: Signer | None = None, **changes: Any
    ) -> str:
        """Return a token with good claims, some of them changed, well signed or by another signature."""
        return self.raw(json.dumps(self.claims(**changes)).encode(), header=header, sign=sign)

    def raw(
        self,
        payload: bytes,
        *,
        header: Mapping[str, Any] | bytes | None = None,
        sign: Signer | None = None,
    ) -> str:
        """Return a token of any bytes.

        Args:
            payload: What to say, JSON or not.
            header: Changes to the good header, or the header's bytes.
            sign: Another signature than the issuer's.
        """
        head = header if isinstance(header, bytes) else json.dumps(self.header(**(header or {}))).encode()
        message = f"{segment(head)}.{segment(payload)}"
        return f"{message}.{segment((sign or self.sign)(message.encode()))}"

    def saying(self, old: str, new: str) -> str:
        """Return a well-signed token of good claims in whose text something was replaced, JSON or not."""
        text = json.dumps(self.claims(sub="SUB", exp="EXP"), separators=(",", ":"))
        text = text.replace('"EXP"', "EXP")
        assert old in text, f"{old} is not in {text}"
        text = text.replace(old, new)
        text = text.replace("EXP", str(int(self.now()) + 600)).replace("SUB", "user-1")
        return self.raw(text.encode("utf-8", "surrogatepass"))
