"""The route by which FastAPI hands over all that is below a mount's prefix, WebSockets too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi import HTTPException
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import Response
from starlette.routing import Match

from prefsync.errors import ConfigurationError, MalformedError, PrefsyncError
from prefsync.http import CLIENT_PATH, SOCKET_IO_PATHS, ClientGoneError, HttpResponse
from prefsync.http.problems import answer, answer_status
from prefsync_fastapi.shortcut import learn, raise_failure
from prefsync_fastapi.translate import (
    AsgiSocket,
    headers_of,
    is_encrypted,
    reader_of,
    request_from,
    send_response,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fastapi import Request
    from starlette.types import Message, Receive, Scope, Send

    from prefsync.document import Identity
    from prefsync.wiring import Runtime

__all__ = [
    "OWN",
    "ProtocolRoute",
    "RefusedError",
    "answer_request",
    "has_ticket",
    "has_ticket_or_speaks_socket_io",
]


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
OWN: Final = "prefsync_protocol"

# Holds, in an ASGI scope, the WebSocket whose handshake is on its way through the host's dependencies.
_SOCKET: Final = "prefsync_socket"

# Nobody reads it, but middlewares take an app that answers nothing for a broken one.
_CLIENT_GONE: Final = 400


class RefusedError(HTTPException):
    """A refusal of the protocol's, in a form that the host's own error handlers understand."""

    def __init__(self, error: PrefsyncError, response: HttpResponse) -> None:
        self.response = response
        headers = {name.decode(): value.decode() for name, value in self.response.headers}
        kept = {name: value for name, value in headers.items() if name in {"www-authenticate", "retry-after"}}
        super().__init__(self.response.status, str(error), kept)


class ProtocolRoute(APIRoute):
    """Takes every path and method below the prefix, so that errors too are told in the protocol's words.

    FastAPI's solving of dependencies costs more than all the rest of a cached read. Where there are none to
    solve, it is passed over.

    Args:
        runtime: What is behind the mount.
        endpoint: Run after the host's dependencies.
        direct: Whether nothing but those may stand before it.
        takes: Tells whether a request is for this route, by the path below the prefix and the scope.
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
        self.prefsync_runtime = runtime  # by which the test kit finds a mount in an app
        self.goes_by_path = True  # as far as documents are concerned

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See ``BaseRoute``."""
        # A handshake is matched as the GET that it is: routes of this kind know no other requests.
        match, found = super().matches({**scope, "type": "http"} if scope["type"] == "websocket" else scope)
        if match is not Match.NONE and self._takes is not None:
            path = found.get("path_params", {}).get(_PATH, "")
            if not self._takes(path, scope):
                return Match.NONE, {}
        return match, found

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; by the shortest way where nothing of the host's stands before the route."""
        await raise_failure(scope, send)
        if not (self._direct and _is_unguarded(scope, self)):
            refusal = self._refusal(scope, receive)
            if refusal is not None:
                await _refuse(refusal, scope, receive, send)
                return
            scope[OWN] = True
            await (self._shake_hands if scope["type"] == "websocket" else super().handle)(
                scope, receive, send
            )
            return
        _require_open(self._runtime)
        if scope["type"] == "websocket":
            if self._runtime.api.has_sockets_at(scope["path_params"].get(_PATH, "")):
                learn(scope, self)
            await self.connect(scope, receive, send)
            return
        if self._runtime.api.goes_by_path(scope["method"], scope["path_params"][_PATH]):
            learn(scope, self)
        await send_response(await self.answer(scope, receive), scope, receive, send)

    def _refusal(self, scope: Scope, receive: Receive) -> HttpResponse | None:
        """Return the answer to a request that no dependency of the host's is to see."""
        api = self._runtime.api
        return None if api.https_only is None else api.refusal(request_from(scope, receive, ""))

    def is_free(self) -> bool:
        """See ``Destination``."""
        return self._runtime.is_open

    def answer_at_once(self, scope: Scope) -> HttpResponse | None:
        """See ``Destination``."""
        reader = self._runtime.api.reader
        if not reader.answers_at_once:
            return None
        return reader.answer_at_once(
            scope["method"],
            scope["path_params"][_PATH],
            scope["query_string"],
            headers_of(scope),
            is_encrypted=is_encrypted(scope),
        )

    async def answer(self, scope: Scope, receive: Receive) -> HttpResponse:
        """See ``Destination``."""
        try:
            return await self._runtime.api.handle(request_from(scope, receive, scope["path_params"][_PATH]))
        except ClientGoneError:
            return HttpResponse(_CLIENT_GONE)

    def connect(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """See ``Destination``."""
        return self._runtime.api.connect(
            AsgiSocket(scope, receive, send, scope["path_params"].get(_PATH, ""))
        )

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
        """Have refusals by the host's dependencies told in the protocol's words."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except RefusedError as refusal:
                response = refusal.response
            except ConfigurationError:
                raise  # which no client can do anything about
            except PrefsyncError as error:  # by the host's authentication
                response = self._runtime.api.admission.refuse(error)
            except StarletteHTTPException as refusal:
                response = answer_status(refusal.status_code, str(refusal.detail), refusal.headers)
            except RequestValidationError as error:
                response = answer(MalformedError(f"the host's authentication needs {_lacking(error)}"))
            except ClientGoneError:
                return Response(status_code=_CLIENT_GONE)
            response.headers += self._runtime.api.told(is_encrypted=request.scope["scheme"] == "https")
            return _starlette(response)

        return handle


def _lacking(error: RequestValidationError) -> str:
    """Name what a request lacks, by place and name, ``header x-api-key (Field required)``: never what it has."""
    wanted = [f"{' '.join(map(str, entry['loc']))} ({entry['msg']})" for entry in error.errors()]
    return ", ".join(wanted)


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


async def answer_request(runtime: Runtime, request: Request, identity: Identity | None) -> Response:
    """Answer a request that came through the host's dependencies.

    Args:
        runtime: What is behind the mount.
        request: The request; or a WebSocket's handshake in the form of one.
        identity: Who calls; ``None`` where the protocol authenticates.
    """
    _require_open(runtime)
    socket = request.scope.get(_SOCKET)
    if socket is not None:
        return _Upgraded(runtime, socket, identity)
    translated = request_from(request.scope, request.receive, request.path_params.get(_PATH, ""))
    translated.read = reader_of(request)
    return _starlette(await runtime.api.handle(translated, identity))


def has_ticket(path: str, scope: Scope) -> bool:
    """Tell whether a request opens a stream by a ticket, or asks for the browser client, which is for everybody."""
    if path == CLIENT_PATH:
        return True
    return path in {"/events", "/ws"} and any(
        name == b"ticket"
        for name, _, _ in (part.partition(b"=") for part in scope["query_string"].split(b"&"))
    )


def has_ticket_or_speaks_socket_io(path: str, scope: Scope) -> bool:
    """Tell whether a request opens a stream by a ticket; Socket.IO brings it in a packet, not in the query."""
    return path in SOCKET_IO_PATHS or has_ticket(path, scope)


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


async def _refuse(response: HttpResponse, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await AsgiSocket(scope, receive, send, "").refuse(response)
    else:
        await send_response(response, scope, receive, send)


def _starlette(response: HttpResponse) -> Response:
    if response.stream is not None:
        return _Streaming(response)
    translated = Response(response.body, response.status)
    translated.raw_headers = response.headers
    return translated
