"""The FastAPI mount: ``app.include_router(prefsync.router, prefix="/preferences")``."""

from __future__ import annotations

from contextlib import asynccontextmanager
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final, overload

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer

from prefsync.blocking import within
from prefsync.document import Identity
from prefsync.errors import ConfigurationError, PrefsyncError
from prefsync.http.openapi import BEARER
from prefsync.shutdown import told_to_stop
from prefsync.wiring import Runtime
from prefsync_fastapi.openapi import documented_routes
from prefsync_fastapi.routes import (
    OWN,
    ProtocolRoute,
    RefusedError,
    answer_request,
    has_ticket,
    has_ticket_or_speaks_socket_io,
)
from prefsync_fastapi.translate import request_from

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
    from sqlalchemy.orm import Session, scoped_session

    from prefsync.blocking import BlockingTransactionPreferences
    from prefsync.clock import Clock
    from prefsync.handle import PreferencesHandle
    from prefsync.http.options import ApiOptions
    from prefsync.parts import Parts
    from prefsync.schema import PreferencesModel
    from prefsync.settings import Settings
    from prefsync.strictjson import Limits
    from prefsync.transactions import TransactionPreferences

__all__ = ["PrefSync"]

# Whom a request of the protocol's names where nobody overrides it: the protocol authenticates, and refuses in its own words.
_BY_PROTOCOL: Final = object()

_BEARER: Final = HTTPBearer(
    scheme_name="preferences",
    bearerFormat=BEARER["bearerFormat"],
    description=BEARER["description"],
    auto_error=False,
)


# It changes with the host's settings, and says nothing about anybody.
_METADATA_LIFE: Final = "public, max-age=3600"


class PrefSync:
    """Preference sync for a FastAPI app.

    Args:
        models: The namespaces: subclasses of ``Preferences`` and ``OpenPreferences``.
        authenticate: A FastAPI dependency that returns who calls: a user's id, a ``Subject`` or an ``Identity``.
            Without it, bearer tokens are verified as the settings say.
        settings: From the environment (``PREFSYNC_...``) where left out.
        parts: Adapters built by hand.
        limits: How large documents may be.
        options: What a host can settle about the protocol.
        socketio: Whether Socket.IO is served too, at ``{prefix}/socket.io/``; needs the extra ``socketio``.
        clock: For tests.

    Attributes:
        router: To be included under a prefix; starts and stops everything with the app.
        runtime: What is behind it, framework-free.

    Raises:
        ConfigurationError: Something cannot work as it was set up.

    Example:
        ```python
        prefsync = PrefSync([Appearance])
        app = FastAPI()
        app.include_router(prefsync.router, prefix="/preferences")
        ```
    """

    def __init__(
        self,
        models: Iterable[PreferencesModel],
        *,
        authenticate: Callable[..., Any] | None = None,
        settings: Settings | None = None,
        parts: Parts | None = None,
        limits: Limits | None = None,
        options: ApiOptions | None = None,
        socketio: bool = False,
        clock: Clock | None = None,
    ) -> None:
        if authenticate is not None and not callable(authenticate):
            raise ConfigurationError(
                f"authenticate takes the dependency itself, a function, and not {type(authenticate).__name__}:"
                " authenticate=current_user, without Depends()"
            )
        self.runtime = Runtime(
            models,
            settings=settings,
            parts=parts,
            limits=limits,
            options=options,
            authenticates=authenticate is None,
            socketio=socketio,
            clock=clock,
        )
        # Attributes, so that a host's tests can name them in app.dependency_overrides.
        self.caller: Callable[..., Any] = authenticate or self.verified
        self.preferences: Callable[..., Any] = self._preferences_dependency()
        self.router = APIRouter(lifespan=self.lifespan)
        endpoint = self._endpoint()
        if authenticate is not None:
            # A ticket says who calls: whoever has one has no token that the host's own authentication could find.
            self.router.routes.append(
                ProtocolRoute(
                    self.runtime,
                    self._ticket_endpoint(),
                    takes=has_ticket_or_speaks_socket_io if socketio else has_ticket,
                )
            )
        self.router.routes.append(ProtocolRoute(self.runtime, endpoint, direct=authenticate is None))
        security = Depends(_BEARER if authenticate is None else authenticate)
        self.router.routes.extend(documented_routes(self.runtime.schema, [security]))

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """Open everything for as long as the app runs; may be used more than once at a time.

        The router brings it along. A host that composes its own lifespan, or mounts the router where no
        lifespan runs (in a sub-application), enters it there: ``async with prefsync.lifespan(app): ...``.
        """
        mounts: list[PrefSync] = getattr(app.state, "prefsync", [])
        app.state.prefsync = mounts
        async with self.runtime:
            mounts.append(self)  # once for each time it is entered
            try:
                with told_to_stop(self.runtime.drain, self.runtime.drained):
                    yield
            finally:
                mounts.remove(self)

    @property
    def metadata_router(self) -> APIRouter:
        """Tells clients where to get a token (RFC 9728): to be included at the root of the host, without a prefix.

        Raises:
            ConfigurationError: ``PREFSYNC_RESOURCE_URL`` is not set.
        """
        resource = self.runtime.resource
        if resource is None:
            raise ConfigurationError(
                "set PREFSYNC_RESOURCE_URL to the URL that clients reach the mount at: its metadata begins with it"
            )

        async def answer_metadata() -> Response:
            return JSONResponse(resource.metadata(), headers={"Cache-Control": _METADATA_LIFE})

        router = APIRouter()
        router.add_api_route(
            resource.metadata_path, answer_metadata, methods=["GET"], include_in_schema=False
        )
        return router

    @overload
    def within(
        self, transaction: AsyncSession | AsyncConnection | async_scoped_session[Any]
    ) -> AbstractAsyncContextManager[TransactionPreferences]: ...

    @overload
    def within(
        self, transaction: Session | Connection | scoped_session[Any]
    ) -> AbstractContextManager[BlockingTransactionPreferences]: ...

    def within(self, transaction: Any) -> Any:
        """Read and write preferences inside a transaction of the app's: with its rows, or not at all.

        ``async with prefsync.within(session) as preferences: await preferences.of(user.id).update(Appearance, ...)``.
        With a session that blocks, in a path operation without ``async``, the same without ``async`` and ``await``.

        Args:
            transaction: A session or connection of SQLAlchemy's, in the database that preferences are kept in.

        Raises:
            ConfigurationError: It is none, or in another database.
        """
        if iscoroutinefunction(getattr(transaction, "commit", None)):
            return self.runtime.within(transaction)
        return within(self.runtime, transaction)

    def drain(self) -> None:
        """Say farewell to all streams and answer all long polls; new streams are refused from now on.

        Done by itself when the process is asked to end by a signal. A host whose server runs in another thread than the
        main one, where no signals can be heard, calls it before it stops the server.
        """
        self.runtime.drain()

    async def verified(self, request: Request) -> Any:
        """Return who calls, by the bearer token: the dependency where the host hands over none of its own.

        Raises:
            HTTPException: 401, or 429 where too many bad tokens came from one address.
        """
        if request.scope.get(OWN):
            return _BY_PROTOCOL
        try:
            return await self.runtime.api.authenticate(request_from(request.scope, request.receive, ""))
        except PrefsyncError as error:
            raise RefusedError(error, self.runtime.api.admission.refuse(error)) from error

    def _preferences_dependency(self) -> Callable[..., Any]:
        """Make the dependency that gives a request's user's typed handle."""

        async def preferences(caller: Any = Depends(self.caller)) -> PreferencesHandle:
            return self.runtime.handle(Identity.of(caller).subject)

        return preferences

    def _endpoint(self) -> Callable[..., Any]:
        """Make the endpoint that is run where dependencies of the host's stand before it."""

        async def answer_protocol(request: Request, caller: Any = Depends(self.caller)) -> Response:
            return await answer_request(
                self.runtime, request, None if caller is _BY_PROTOCOL else Identity.of(caller)
            )

        return answer_protocol

    def _ticket_endpoint(self) -> Callable[..., Any]:
        async def answer_ticket(request: Request) -> Response:
            return await answer_request(self.runtime, request, None)

        return answer_ticket
