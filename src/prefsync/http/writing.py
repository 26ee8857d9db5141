"""Writes that come over a socket, the same as those over HTTP."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from prefsync.errors import (
    InsufficientScopeError,
    PreconditionFailedError,
    PreconditionRequiredError,
    PrefsyncError,
)
from prefsync.http.bodies import mutation_from
from prefsync.http.problems import problem_with_delay
from prefsync.service import IdempotentRequest
from prefsync.strictjson import digestible

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefsync.document import Identity, Snapshot
    from prefsync.http.admission import Admission
    from prefsync.http.frames import Patch
    from prefsync.http.options import ApiOptions
    from prefsync.schema import Schema
    from prefsync.service import PreferenceService
    from prefsync.strictjson import Limits

__all__ = ["Writer", "digest"]


def digest(method: str, namespace: str | None, body: Any) -> bytes:
    """Return what tells a request under an idempotency key from any other."""
    basis = f"{method}\n{namespace or ''}\n".encode()
    return blake2b(basis + (b"" if body is None else digestible(body)), digest_size=32).digest()


class Writer:
    """Does what ``patch`` messages ask for.

    Args:
        service: Who writes.
        admission: Who counts.
        options: What the host has settled.
    """

    def __init__(self, service: PreferenceService, admission: Admission, options: ApiOptions) -> None:
        self._service = service
        self._admission = admission
        self._options = options

    @property
    def schema(self) -> Schema:
        """What the host declared."""
        return self._service.schema

    @property
    def limits(self) -> Limits:
        """How large writes may be."""
        return self._service.limits

    async def answer(self, identity: Identity, frame: Patch, origin: str | None) -> dict[str, Any]:
        """Write what a frame asks for, and return the ack or nack.

        Args:
            identity: Who writes.
            frame: What is asked for.
            origin: The name the client gives itself.
        """
        try:
            snapshot = await self.patch(
                identity,
                frame.patch,
                key=frame.id,
                origin=origin,
                condition=_condition(frame.if_revision),
            )
        except PrefsyncError as error:
            self._admission.telemetry.refused(error.code)
            return {"type": "nack", "id": frame.id, "problem": problem_with_delay(error)}
        return {"type": "ack", "id": frame.id, "revision": snapshot.revision}

    async def patch(
        self,
        identity: Identity,
        patch: dict[str, Any],
        *,
        key: str,
        origin: str | None,
        condition: Callable[[Snapshot], None] | None,
    ) -> Snapshot:
        """Do as ``PATCH /`` does.

        Args:
            identity: Who writes.
            patch: A merge patch over namespaces.
            key: The idempotency key.
            origin: The name the client gives itself.
            condition: Raises where the state is not what the client wants it to be.

        Raises:
            PrefsyncError: As for ``PATCH /``.
        """
        await self._admission.quotas.writes.count(identity.subject.key, [])
        if not identity.may(self._options.write_scope):
            raise InsufficientScopeError(self._options.write_scope)
        if condition is None and self._options.require_if_match:
            raise PreconditionRequiredError(
                "writes need if_revision here: the revision that the change was made upon"
            )
        mutation = mutation_from("PATCH", None, patch, self.schema, self.limits)
        request = IdempotentRequest(key, digest("PATCH", None, patch))
        return await self._service.write(
            identity.subject, mutation, condition=condition, request=request, origin=origin
        )


def _condition(revision: int | None) -> Callable[[Snapshot], None] | None:
    if revision is None:
        return None

    def check(snapshot: Snapshot) -> None:
        if snapshot.revision != revision:
            raise PreconditionFailedError(f"the subject's revision is {snapshot.revision}, not {revision}")

    return check
