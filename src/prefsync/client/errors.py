"""What a client raises: the server refused, could not be reached, or was no prefsync server."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from prefsync.errors import PrefsyncError

if TYPE_CHECKING:
    from prefsync.errors import FieldError

__all__ = ["ClientError", "ConflictError", "RefusedError", "UnexpectedAnswerError", "UnreachableError"]


class ClientError(PrefsyncError):
    """Root of what the clients raise."""

    code: ClassVar[str] = "client"


class RefusedError(ClientError):
    """The server answered with a problem (RFC 9457); a write that raises this has changed nothing.

    Attributes:
        status: The HTTP status.
        type: The problem's type, ``urn:prefsync:problem:invalid-preferences`` say.
        title: The problem's kind in words.
        detail: This problem in words.
        errors: What is wrong with the input, with JSON pointers from the document's root; mostly empty.
        retry_after: Seconds after which trying again makes sense, where the server said so.
    """

    code = "refused"

    def __init__(
        self,
        status: int,
        type: str,  # noqa: A002  # as RFC 9457 calls it
        title: str,
        detail: str,
        errors: tuple[FieldError, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{status} {type.rpartition(':')[2]}: {detail or title}")
        self.status = status
        self.type = type
        self.title = title
        self.detail = detail
        self.errors = errors
        self.retry_after = retry_after


class ConflictError(RefusedError):
    """The state is not the one that the write named by ``if_match``: somebody else was faster. Read, and try again."""

    code = "conflict"


class UnreachableError(ClientError):
    """The server gave no answer within the time limit; whether a write was made is not known.

    The write can be called again with the same ``idempotency_key``, and is made once.

    Attributes:
        idempotency_key: That of the write; ``None`` for a read.
    """

    code = "unreachable"

    def __init__(self, message: str, idempotency_key: str | None = None) -> None:
        super().__init__(message)
        self.idempotency_key = idempotency_key


class UnexpectedAnswerError(ClientError):
    """What answered does not speak the protocol: a proxy, a log-in page, another service, another version.

    Attributes:
        status: The HTTP status.
        content_type: What the answer calls itself.
    """

    code = "unexpected-answer"

    def __init__(self, message: str, status: int, content_type: str) -> None:
        super().__init__(message)
        self.status = status
        self.content_type = content_type
