"""Work for a client that may not wait for its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import anyio

from prefsync.errors import PrefsyncError
from prefsync.http.messages import ClientGoneError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from prefsync.http.messages import HttpRequest

__all__ = ["unless_gone"]

T = TypeVar("T")


async def unless_gone(request: HttpRequest, work: Awaitable[T]) -> T:
    """Return what something that takes long returns, but stop it when nobody waits for it any more.

    Raises:
        ClientGoneError: The client went away.
    """
    results: list[T] = []
    refusals: list[PrefsyncError] = []

    async def run() -> None:
        try:
            results.append(await work)
        except PrefsyncError as error:
            refusals.append(error)  # carried out by hand: a task group would wrap it in an exception group
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await request.gone()
        tasks.cancel_scope.cancel()
    if refusals:
        raise refusals[0]
    if not results:
        raise ClientGoneError
    return results[0]
