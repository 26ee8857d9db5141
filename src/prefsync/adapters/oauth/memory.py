"""Tokens that were verified, and tokens that were revoked."""

from __future__ import annotations

import math
from base64 import urlsafe_b64encode
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from prefsync.errors import UnauthenticatedError
from prefsync.recent import Recent

if TYPE_CHECKING:
    from collections.abc import Hashable

    from prefsync.adapters.oauth.claims import VerifiedToken
    from prefsync.clock import Clock
    from prefsync.document import Identity, Subject

__all__ = ["TokenMemory"]

# About this many verified tokens are remembered; those that were not used for long go first.
_REMEMBERED: Final = 20_000

# Seconds for which a revocation holds unless the host says until when: longer than access tokens live, as a rule.
_USUAL_LIFE: Final = 24 * 3_600.0

# Revocations are looked through for those that have run out when there are this many, and twice as many as last time.
_FEW: Final = 1_000


@dataclass(frozen=True, slots=True)
class _Verdict:
    token: VerifiedToken
    name: bytes
    generation: int
    expires_at: float  # in ms
    good_until: float


class TokenMemory:
    """What one process knows of tokens, by their digests: whoever reads its memory finds none that he could use.

    Args:
        clock: The time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._verdicts: Recent[_Verdict] = Recent(_REMEMBERED)
        self._revoked: dict[Hashable, tuple[float, float]] = {}
        self._look_through_at = _FEW

    def recall(self, digest: bytes, generation: int = 0) -> Identity | None:
        """Return for whom a token speaks that was verified and may still be used.

        Args:
            digest: Of the whole token.
            generation: Of the keys; what was verified with others is not recalled.
        """
        held = self._verdicts.get(digest)
        if held is None:
            return None
        if (
            held.generation == generation
            and held.expires_at > self._clock.now()
            and held.good_until > self._clock.monotonic()
        ):
            return held.token.identity
        self._verdicts.drop(digest)
        return None

    def keep(
        self,
        digest: bytes,
        token: VerifiedToken,
        *,
        name: bytes,
        generation: int = 0,
        seconds: float | None = None,
    ) -> Identity:
        """Remember a token that was just verified, and return for whom it speaks.

        Args:
            digest: Of the whole token.
            token: What is known of it.
            name: What it is revoked by: the digest of the part that nobody but the issuer can have written.
            generation: Of the keys.
            seconds: For which the verdict holds; ``None``: until the token expires.

        Raises:
            UnauthenticatedError: It was revoked.
        """
        if any(self._is_revoked(what, token) for what in _names(token, name)):
            raise UnauthenticatedError("the token was revoked")
        token = replace(token, identity=replace(token.identity, revoked_by=_marks(name, token.token_id)))
        expires_at = token.identity.expires_at
        until = math.inf if seconds is None else self._clock.monotonic() + seconds
        if expires_at is not None:
            self._verdicts.put(digest, _Verdict(token, name, generation, expires_at * 1000, until), 1)
        return token.identity

    def revoke(
        self,
        *,
        name: bytes | None = None,
        token_id: str | None = None,
        subject: Subject | None = None,
        until: float | None = None,
    ) -> tuple[str, ...]:
        """Refuse tokens from now on, and return what single ones are revoked by; see ``RevokingVerifier``.

        Args:
            name: As a token was kept by.
            token_id: Its ``jti``.
            subject: Whose tokens, those that were issued until now.
            until: When the last of them expires, in seconds since 1970; a day from now where left out.
        """
        now = self._clock.now() / 1000
        self._forget_old(now)
        until = now + _USUAL_LIFE if until is None else until
        for what in (name, token_id, subject):
            if what is not None:
                _, held_until = self._revoked.get(what, (now, until))
                self._revoked[what] = (now, max(until, held_until))
        self._verdicts.drop_where(
            lambda held: any(self._is_revoked(what, held.token) for what in _names(held.token, held.name))
        )
        return _marks(name, token_id)

    def _is_revoked(self, what: Hashable, token: VerifiedToken) -> bool:
        revoked = self._revoked.get(what)
        if revoked is None or revoked[1] <= self._clock.now() / 1000:
            return False
        # What a subject is given after that is good again; a token that does not say when it was issued is not.
        return what != token.identity.subject or token.issued_at is None or token.issued_at <= revoked[0]

    def _forget_old(self, now: float) -> None:
        if len(self._revoked) >= self._look_through_at:
            self._revoked = {what: times for what, times in self._revoked.items() if times[1] > now}
            self._look_through_at = max(_FEW, 2 * len(self._revoked))


def _names(token: VerifiedToken, name: bytes) -> tuple[Hashable, ...]:
    return name, token.token_id, token.identity.subject


def _marks(name: bytes | None, token_id: str | None) -> tuple[str, ...]:
    """Return what a token is known by to those who hold what was opened with it: no digest is ever an id's."""
    marks = () if name is None else (f"token:{urlsafe_b64encode(name).decode()}",)
    return marks if token_id is None else (*marks, f"id:{token_id}")
