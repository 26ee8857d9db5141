"""The FastAPI mount: ``app.include_router(prefsync.router, prefix="/preferences")``."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import Response
from starlette.routing import Match

from prefsync.document import Identity, Subject
from prefsync.errors import MalformedError, PrefsyncError
from prefsync.http import SOCKET_IO_PATHS, ClientGoneError, HttpResponse
from prefsync.http.handlers import DOCUMENT_METHODS
from prefsync.http.problems import answer, answer_status
from prefsync.shutdown import told_to_stop
from prefsync.wiring import Parts, Runtime
from prefsync_fastapi.openapi import documented_routes
from prefsync_fastapi.shortcut import learn, raise_failure
from prefsync_fastapi.translate import AsgiSocket, reader_of, request_from, send_response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from starlette.types import Message, Receive, Scope, Send

    from prefsync.clock import Clock
    from prefsync.handle import PreferencesHandle
    from prefsync.http.options import ApiOptions
    from prefsync.schema import PreferencesModel
    from prefsync.settings import Settings
    from prefsync.strictjson import Limits

__all__ = ["PrefSync"]


class _Below(Convertor[str]):
    """Matches nothing, or a slash and whatever follows it, line breaks too: all that is below a prefix."""

    # Starlette ends every path's pattern with $, which also matches before a line break at the end.
    regex = r"(?:/[\s\S]*)?(?!\n)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("prefsync_below", _Below())

_PATH: Final = "prefsync_path"

# Marks, in an ASGI scope, a request of the protocol's on its way through the host's dependencies.
_OWN: Final = "prefsync_protocol"

# Holds, in an ASGI scope, the WebSocket whose handshake is on its way through the host's dependencies.
_SOCKET: Final = "prefsync_socket"

# Whom such a request names where nobody overrides it: the protocol authenticates, and refuses in its own words.
_BY_PROTOCOL: Final = object()

# Nobody reads it, but middlewares take an app that answers nothing for a broken one.
_CLIENT_GONE: Final = 400

_BEARER: Final = HTTPBearer(
    scheme_name="preferences",
    bearerFormat="JWT",
    description="An OAuth 2.0 access token with the scopes `preferences:read` and `preferences:write`.",
    auto_error=False,
)


class PrefSync:
    """Preference sync for a FastAPI app.

    Args:
        models: The namespaces: subclasses of ``Preferences`` and ``OpenPreferences``.
        authenticate: A FastAPI dependency that returns who calls: a user's id, a ``Subject`` or an
        ``Identity``. Without
            it, bearer tokens are verified as the settings say.
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
                _ProtocolRoute(
                    self.runtime,
                    self._ticket_endpoint(),
                    takes=_has_ticket_or_speaks_socket_io if socketio else _has_ticket,
                )
            )
        self.router.routes.append(_ProtocolRoute(self.runtime, endpoint, direct=authenticate is None))
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
                with told_to_stop(self.runtime.drained):
                    yield
            finally:
                mounts.remove(self)

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
        if request.scope.get(_OWN):
            return _BY_PROTOCOL
        try:
            return await self.runtime.api.authenticate(request_from(request.scope, request.receive, ""))
        except PrefsyncError as error:
            raise _RefusedError(error) from error

    def _preferences_dependency(self) -> Callable[..., Any]:
        """Make the dependency that gives a request's user's typed handle."""

        async def preferences(caller: Any = Depends(self.caller)) -> PreferencesHandle:
            return self.runtime.handle(_identity(caller).subject)

        return preferences

    def _endpoint(self) -> Callable[..., Any]:
        """Make the endpoint that is run where dependencies of the host's stand before it."""

        async def answer_protocol(request: Request, caller: Any = Depends(self.caller)) -> Response:
            return await self._answer(request, None if caller is _BY_PROTOCOL else _identity(caller))

        return answer_protocol

    def _ticket_endpoint(self) -> Callable[..., Any]:
        async def answer_ticket(request: Request) -> Response:
            return await self._answer(request, None)

        return answer_ticket

    async def _answer(self, request: Request, identity: Identity | None) -> Response:
        _require_open(self.runtime)
        socket = request.scope.get(_SOCKET)
        if socket is not None:
            return _Upgraded(self.runtime, socket, identity)
        translated = request_from(request.scope, request.receive, request.path_params.get(_PATH, ""))
        translated.read = reader_of(request)
        return _starlette(await self.runtime.api.handle(translated, identity))


class _RefusedError(HTTPException):
    """A refusal of the protocol's, in a form that the host's own error handlers understand."""

    def __init__(self, error: PrefsyncError) -> None:
        self.response = answer(error)
        headers = {name.decode(): value.decode() for name, value in self.response.headers}
        kept = {name: value for name, value in headers.items() if name in {"www-authenticate", "retry-after"}}
        super().__init__(self.response.status, str(error), kept)


class _ProtocolRoute(APIRoute):
    """Takes every path and method below the prefix, so that errors too are told in the protocol's words.

    FastAPI's solving of dependencies costs more than all the rest of a cached read. Where there are none to
    solve, it is passed over.
    """

    def __init__(
        self,
        runtime: Runtime,
        endpoint: Callable[..., Any],
        *,
        direct: bool = False,
        takes: Callable[[str, Scope], bool] | None = None,
    ) -> None:
        super().__init__(
            f"{{{_PATH}:prefsync_below}}",
            endpoint,
            include_in_schema=False,
            response_class=Response,
            name="prefsync",
            operation_id="prefsync",
        )
        # None of them is refused here: the protocol answers 405 itself, and FastAPI knows no "all methods".
        self.methods = set()
        self._runtime = runtime
        self._direct = direct
        self._takes = takes
        self.goes_by_path = True  # as far as documents are concerned

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        # A handshake is matched as the GET that it is: routes of this kind know no other requests.
        match, found = super().matches({**scope, "type": "http"} if scope["type"] == "websocket" else scope)
        if match is not Match.NONE and self._takes is not None:
            path = found.get("path_params", {}).get(_PATH, "")
            if not self._takes(path, scope):
                return Match.NONE, {}
        return match, found

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise_failure(scope)
        if not (self._direct and _is_unguarded(scope, self)):
            scope[_OWN] = True
            await (self._shake_hands if scope["type"] == "websocket" else super().handle)(
                scope, receive, send
            )
            return
        _require_open(self._runtime)
        if scope["type"] == "websocket":
            path = scope["path_params"].get(_PATH, "")
            await self._runtime.api.connect(AsgiSocket(scope, receive, send, path))
            return
        if scope["method"] in DOCUMENT_METHODS and self._runtime.api.has_documents_at(
            scope["path_params"][_PATH]
        ):
            learn(scope, self)
        await send_response(await self.answer(scope, receive), scope, receive, send)

    def is_free(self) -> bool:
        """See ``Destination``."""
        return self._runtime.is_open

    async def answer(self, scope: Scope, receive: Receive) -> HttpResponse:
        """See ``Destination``."""
        try:
            return await self._runtime.api.handle(request_from(scope, receive, scope["path_params"][_PATH]))
        except ClientGoneError:
            return HttpResponse(_CLIENT_GONE)

    async def _shake_hands(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the host's dependencies see the handshake as the HTTP request that it is."""
        socket = AsgiSocket(scope, receive, send, scope["path_params"].get(_PATH, ""))
        refusal = HttpResponse(_CLIENT_GONE)

        async def no_body() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def refuse(message: Message) -> None:
            if message["type"] == "http.response.start":
                refusal.status, refusal.headers = message["status"], list(message.get("headers", []))
            else:
                refusal.body += message.get("body", b"")
                if not message.get("more_body", False):
                    await socket.refuse(refusal)

        scheme = {"ws": "http", "wss": "https"}.get(scope.get("scheme", "ws"), "http")
        request = {**scope, "type": "http", "method": "GET", "scheme": scheme, _SOCKET: socket}
        await super().handle(request, no_body, refuse)

    def get_route_handler(self) -> Callable[[Request], Any]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except _RefusedError as refusal:
                return _starlette(refusal.response)
            except StarletteHTTPException as refusal:
                return _starlette(answer_status(refusal.status_code, str(refusal.detail), refusal.headers))
            except RequestValidationError:
                return _starlette(
                    answer(MalformedError("the request lacks what the host's authentication needs"))
                )
            except ClientGoneError:
                return Response(status_code=_CLIENT_GONE)

        return handle


class _Upgraded(Response):
    """Goes on as a WebSocket."""

    def __init__(self, runtime: Runtime, socket: AsgiSocket, identity: Identity | None) -> None:
        super().__init__()
        self._runtime = runtime
        self._socket = socket
        self._identity = identity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive, send  # those of the request that stood for the handshake
        await self._runtime.api.connect(self._socket, self._identity)


class _Streaming(Response):
    """Sends itself."""

    def __init__(self, response: HttpResponse) -> None:
        super().__init__()
        self._response = response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send_response(self._response, scope, receive, send)


def _has_ticket(path: str, scope: Scope) -> bool:
    """Tell whether a request opens a stream by a ticket."""
    return path in {"/events", "/ws"} and any(
        name == b"ticket"
        for name, _, _ in (part.partition(b"=") for part in scope["query_string"].split(b"&"))
    )


def _has_ticket_or_speaks_socket_io(path: str, scope: Scope) -> bool:
    """Tell whether a request opens a stream by a ticket; Socket.IO brings it in a packet, not in the query."""
    return path in SOCKET_IO_PATHS or _has_ticket(path, scope)


def _require_open(runtime: Runtime) -> None:
    """Say what to do where no lifespan has run: in a mounted sub-application, or where the server was told so."""
    if not runtime.is_open:
        raise RuntimeError(
            "prefsync was not started, because no lifespan ran: do not mount the app as a sub-application of another,"
            " or enter it yourself in the outer app's lifespan: async with prefsync.lifespan(app)"
        )


def _is_unguarded(scope: Scope, route: APIRoute) -> bool:
    """Tell whether no dependency of the host's, and no override, stands before a route.

    FastAPI keeps what an include adds in a context that has no public name. Where it is not found as
    expected the answer is no, and the request goes the long way: a change there costs time, never a skipped
    check.
    """
    if getattr(scope.get("app"), "dependency_overrides", None):
        return False
    context = scope.get("fastapi", {}).get("effective_route_context")
    return (
        context is not None
        and getattr(context, "original_route", None) is route
        and getattr(context, "dependencies", None) == []
        and getattr(context, "max_body_size", 0) is None
    )


def _identity(caller: Any) -> Identity:
    """Return whom the host's authentication named.

    Raises:
        TypeError: It returned something else than an id, a ``Subject`` or an ``Identity``.
    """
    match caller:
        case Identity():
            return caller
        case Subject():
            return Identity(caller)
        case str():
            return Identity(Subject(caller))
        case _:
            raise TypeError(
                f"authenticate must return a user id (str), a Subject or an Identity, not {type(caller).__name__}"
            )


def _starlette(response: HttpResponse) -> Response:
    if response.stream is not None:
        return _Streaming(response)
    translated = Response(response.body, response.status)
    translated.raw_headers = response.headers
    return translated
