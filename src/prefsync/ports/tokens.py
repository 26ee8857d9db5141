"""What the core asks of whoever knows tokens and tickets."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Protocol

from prefsync.ports.part import Part

if TYPE_CHECKING:
    from collections.abc import Collection

    from prefsync.document import Identity, Subject

__all__ = ["RememberingVerifier", "RevokingVerifier", "TicketStore", "TokenVerifier"]


class TicketStore(Part, Protocol):
    """Secrets that are good once, on whichever process they come back."""

    @abstractmethod
    async def put(self, name: str, content: bytes, life: int) -> None:
        """Keep something under a name that nobody has used, for so many seconds."""

    @abstractmethod
    async def take(self, name: str) -> bytes | None:
        """Return what is kept, and keep it no longer; of concurrent callers one gets it."""


class TokenVerifier(Part, Protocol):
    """Turns a bearer token into who calls."""

    @abstractmethod
    async def verify(self, token: str) -> Identity:
        """Return whom a token speaks for.

        Raises:
            UnauthenticatedError: Whatever is wrong with the token; verification never raises anything else for it.
            UnavailableError: The issuer has to be asked and cannot be.
        """


class RememberingVerifier(TokenVerifier, Protocol):
    """A verifier that remembers tokens. It has to be a subclass of this one for ``recall`` to be called.

    It is not called where ``verify`` was overridden after it: what that looks at besides counts for each request.
    """

    @abstractmethod
    def recall(self, token: str) -> Identity | None:
        """Return whom a token speaks for that was verified and is still good; ``None``: it has to be verified."""


class RevokingVerifier(TokenVerifier, Protocol):
    """A verifier that can be told that a token is good no longer."""

    @abstractmethod
    def revoke(
        self,
        *,
        token: str | None = None,
        token_id: str | None = None,
        subject: Subject | None = None,
        until: float | None = None,
    ) -> Collection[str]:
        """Refuse tokens from now on, in this process, and return what single ones are revoked by.

        What was opened by an identity that has any of it (``Identity.revoked_by``) is ended then.

        Args:
            token: A token, whether it was seen before or not.
            token_id: The ``jti`` of one.
            subject: Whose tokens: all that were issued until now, and those that do not say when (``iat``).
            until: When the last of them expires, in seconds since 1970; a day from now where left out.
        """
