"""The protocol over Socket.IO: who comes in, what clients ask for, and when they are sent away."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from prefsync.errors import (
    MalformedError,
    PrefsyncError,
    RateLimitedError,
    UnauthenticatedError,
    UnavailableError,
    UndeclaredNamespaceError,
)
from prefsync.http.bodies import read_body
from prefsync.http.frames import Close, FrameError, Hello, Patch, Token, interpret, read_hello
from prefsync.http.messages import ClientGoneError
from prefsync.http.origins import check_origin
from prefsync.http.parameters import query_of, refuse_token_in
from prefsync.http.problems import ForbiddenMethodError, TooLargeError, problem_with_delay
from prefsync.session import Farewell
from prefsync.socketio.carriers import CLIENT, Carried, plain, request_environ, socket_environ
from prefsync.socketio.clients import Client
from prefsync.socketio.packets import NAMESPACE, SEPARATOR, Kind, read_packet
from prefsync.socketio.server import MOST_PACKETS, RefusedError, Server, packet
from prefsync.strictjson import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from contextlib import AbstractContextManager
    from typing import Self

    from prefsync.document import Identity
    from prefsync.http.messages import HttpRequest, HttpResponse, Socket
    from prefsync.http.sockets import WebSockets

__all__ = ["SocketIo"]

_EVENTS: Final = frozenset({"patch", "token"})

_PROBE: Final = "2probe"

# What a WebSocket's close code says is said by the reason of a bye here.
_REASONS: Final = {Close.TOO_MANY: "too-many"}


class SocketIo:
    """Serves ``/socket.io/``. A context manager: its background tasks end with it.

    Args:
        sockets: What serves WebSockets: the same rules hold here.
    """

    def __init__(self, sockets: WebSockets) -> None:
        self._sockets = sockets
        self._body_limit = sockets.writer.limits.body
        self._clients: dict[str, Client] = {}
        self._joined: dict[str, Client] = {}
        self._server = self._new_server()

    def _new_server(self) -> Server:
        handlers: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {
            "connect": self._connect,
            "disconnect": self._leave,
            "patch": self._patch,
            "token": self._renew,
        }
        return Server(self._body_limit, self, handlers)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.aclose()
        self._clients.clear()
        self._joined.clear()
        self._server = self._new_server()

    def drain(self) -> None:
        """Close the connections that have not joined; the others are told as sessions."""
        for client in list(self._clients.values()):
            if client.session is None:
                client.shut()

    # --- What carries packets ----------------------------------------------------------------------------------------

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer a request of HTTP long-polling, whoever sends it: connects authenticate.

        Raises:
            ClientGoneError: The client went away.
        """
        try:
            client = self._admit(request)
            if request.method == "GET":
                return await self._poll(request, client)
            if request.method == "POST":
                return await self._post(request, client)
            raise ForbiddenMethodError(("GET", "POST"))
        except PrefsyncError as error:
            return self._sockets.admission.refuse(error)

    async def connect(self, socket: Socket, told: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """See ``PushTransport``."""
        try:
            client = self._admit(socket.request)
        except PrefsyncError as error:
            response = self._sockets.admission.refuse(error)
            response.headers += told
            await socket.refuse(response)
            return
        environ = socket_environ(socket.request, client, Carried(client, socket, self._passes, told))
        carrier = asyncio.create_task(self._server.handle_request(environ), name="prefsync-socketio")
        client.carrier, client.socket = carrier, socket
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def end(_carrier: asyncio.Task[None]) -> None:
            if not over.done():
                over.set_result(None)

        carrier.add_done_callback(end)
        try:
            await over  # asyncio.wait, or an event, would hold as much as a session until then
        finally:
            carrier.cancel()
            self._server.give_up_upgrade(client.engine_id)

    def _admit(self, request: HttpRequest) -> Client:
        """Return whose request it is, or a new client where it begins an Engine.IO session.

        Raises:
            PrefsyncError: It is refused.
        """
        refuse_token_in(request)
        check_origin(request, self._sockets.allowed_origins)
        query = query_of(request)
        if "j" in query:
            raise MalformedError("JSONP is not spoken here")
        if "sid" in query:
            client = self._clients.get(query["sid"])
            if client is None:  # one that is sent away may fetch its farewell
                raise MalformedError("this Engine.IO session is over, or another process has it")
            return client
        self._sockets.sessions.check(besides=len(self._clients) - len(self._joined))
        writer = self._sockets.writer
        return Client(self._server, self._sockets.sessions, request.client, writer.schema.tag)

    async def _poll(self, request: HttpRequest, client: Client) -> HttpResponse:
        """Hand over what waits for a client. One that goes away meanwhile is over: it could have missed something."""
        polling = asyncio.ensure_future(self._request(request, client))
        leaving = asyncio.ensure_future(request.gone())
        try:
            await asyncio.wait({polling, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not polling.done():
                raise ClientGoneError
            return polling.result()
        finally:
            for task in (polling, leaving):
                task.cancel()

    async def _post(self, request: HttpRequest, client: Client) -> HttpResponse:
        async with client.lock:
            raw = await read_body(request, self._body_limit)
            if len(raw) > self._body_limit:
                raise TooLargeError(f"a payload may have at most {self._body_limit} bytes")
            try:
                packets = raw.decode().split(SEPARATOR)
            except UnicodeDecodeError:
                packets = [""]  # which no packet is
            # All are counted before the first is dealt with, so that slow work hides no flood.
            passed = [text for text in packets if self._passes(client, text, is_posted=True)]
            for start in range(0, len(passed), MOST_PACKETS):
                await client.has_room()
                if client.is_over:
                    break
                part = passed[start : start + MOST_PACKETS]
                await self._request(request, client, SEPARATOR.join(part).encode())
        return plain(b"OK")

    async def _request(self, request: HttpRequest, client: Client, body: bytes = b"") -> HttpResponse:
        """Let python-socketio answer a request."""
        sent: list[dict[str, Any]] = []

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self._server.handle_request(request_environ(request, client, body, send))
        status = sent[0]["status"]
        if status != HTTPStatus.OK:
            raise MalformedError("this is no request of Engine.IO 4, or its session is over")
        return plain(sent[1]["body"])

    def _passes(self, client: Client, message: str | bytes, *, is_posted: bool = False) -> bool:
        """Tell whether a message is for python-socketio; a broken one ends the connection."""
        if client.is_over:
            return False
        try:
            client.pace.count(self._sockets.clock.monotonic())
            return self._check(client, _text(message, self._body_limit, is_posted=is_posted))
        except FrameError as error:
            client.dismiss(_REASONS.get(error.code, "bad-frame"))
            return False

    def _check(self, client: Client, text: str) -> bool:
        """Tell whether a packet is for python-socketio.

        Raises:
            FrameError: It ends the connection.
        """
        message = read_packet(text)
        if message is None:
            return True
        if message.kind is Kind.CONNECT and message.namespace != NAMESPACE:
            refused = UndeclaredNamespaceError(f"the namespace here is {NAMESPACE}")
            self._server.put(client.engine_id, packet(_refusal(message.namespace, refused)))
            return False
        if message.namespace != NAMESPACE:
            raise FrameError(Close.BAD_FRAME, "another namespace than the protocol's")
        if message.kind is Kind.CONNECT:
            if client.has_asked:
                raise FrameError(Close.BAD_FRAME, "a second connect")
            client.has_asked = True
        elif not client.has_asked:
            raise FrameError(Close.BAD_FRAME, "the first packet must be a connect")
        # python-socketio would take the names of its own events for them.
        if message.kind is Kind.EVENT and message.data[0] not in _EVENTS:
            raise FrameError(Close.BAD_FRAME, "the event must be patch or token")
        return True

    # --- What the server tells ---------------------------------------------------------------------------------------

    def opened(self, engine_id: str, environ: dict[str, Any]) -> None:
        """See ``Events``."""
        client: Client = environ[CLIENT]
        client.engine_id = engine_id
        self._clients[engine_id] = client
        client.expect_join()

    def closed(self, engine_id: str) -> None:
        """See ``Events``."""
        client = self._clients.pop(engine_id, None)
        if client is not None:
            client.closed()

    def answered(self, engine_id: str) -> None:
        """See ``Events``."""
        client = self._clients.get(engine_id)
        if client is not None:
            client.has_asked = client.session is not None
            client.begin()

    def answering(self, engine_id: str) -> AbstractContextManager[None]:
        """See ``Events``."""
        client = self._clients.get(engine_id)
        return nullcontext() if client is None or client.session is None else client.session.answering()

    # --- What clients ask for ----------------------------------------------------------------------------------------

    async def _connect(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        """Let a client in.

        Raises:
            RefusedError: It is refused, and told by a problem.
        """
        client: Client = environ[CLIENT]
        try:
            await self._join(client, auth or {})
            self._joined[sid] = client
        except PrefsyncError as error:
            client.leave()
            self._sockets.admission.telemetry.refused(error.code)
            raise RefusedError(str(error), problem_with_delay(error)) from None

    async def _join(self, client: Client, auth: dict[str, Any]) -> None:
        hello = _hello(auth)
        identity = await self._identify(client, hello, auth.get("ticket"))
        await self._sockets.check(identity, [])
        client.name, client.identity = hello.client, identity
        session = self._sockets.sessions.open(
            identity.subject, client, identity.expires_at, identity.revoked_by
        )
        await client.join(session, hello.since, hello.schema)
        if client.is_over:
            client.leave()
            raise UnavailableError("process", message="the connection is over")

    async def _identify(self, client: Client, hello: Hello, ticket: Any) -> Identity:
        admission = self._sockets.admission
        if ticket is None:
            if hello.token is None:
                raise UnauthenticatedError("auth must bring a token or a ticket", "missing")
            return await admission.verify(hello.token, client.address, [])
        if hello.token is not None or not isinstance(ticket, str):
            raise MalformedError("auth must bring a token or a ticket: one of them, as a string")
        return await admission.redeem(ticket, client.address, [])

    async def _leave(self, sid: str, _reason: str) -> None:
        client = self._joined.pop(sid, None)
        if client is not None:
            client.leave()
            if not client.is_over:
                client.expect_join()

    async def _patch(self, sid: str, *arguments: Any) -> Any:
        """Write, and return the ack or nack."""
        client = self._joined.get(sid)
        frame = None if client is None else _frame(client, "patch", arguments)
        if client is None or client.identity is None or not isinstance(frame, Patch):
            return self._server.not_handled
        if client.session is None or client.session.is_ending:
            return self._server.not_handled  # nobody would hear of the answer
        return await self._sockets.writer.answer(client.identity, frame, client.name)

    async def _renew(self, sid: str, *arguments: Any) -> Any:
        """Take a fresh token, and return the ok."""
        client = self._joined.get(sid)
        frame = None if client is None else _frame(client, "token", arguments)
        if client is None or client.identity is None or not isinstance(frame, Token):
            return self._server.not_handled
        try:
            identity = await self._sockets.admission.verify(frame.token, client.address, [])
        except RateLimitedError:
            client.dismiss("too-many")
        except UnavailableError:
            client.dismiss(Farewell.DRAINING.value)  # another process may be better off
        except UnauthenticatedError:
            client.dismiss("unauthenticated")
        else:
            is_same = identity.subject == client.identity.subject
            if is_same and identity.may(self._sockets.options.read_scope):
                client.identity = identity
                if client.session is not None:
                    self._sockets.sessions.expire(client.session, identity.expires_at, identity.revoked_by)
                return {"type": "ok"}
            client.dismiss("unauthenticated")
        return self._server.not_handled


def _refusal(namespace: str, error: PrefsyncError) -> str:
    data = encode({"message": str(error), "data": problem_with_delay(error)}).decode()
    return "4" + ("" if namespace == "/" else f"{namespace},") + data


def _hello(auth: dict[str, Any]) -> Hello:
    try:
        return read_hello(auth)
    except FrameError as error:
        raise MalformedError(f"auth: {error}") from None


def _text(message: str | bytes, limit: int, *, is_posted: bool) -> str:
    """Return a message that can be a packet.

    Raises:
        FrameError: It cannot.
    """
    if isinstance(message, bytes) or len(message.encode("utf-8", "surrogatepass")) > limit:
        raise FrameError(Close.BAD_FRAME, f"a packet must be text of at most {limit} bytes")
    if is_posted and message == _PROBE:
        raise FrameError(Close.BAD_FRAME, "a probe comes by a WebSocket")
    return message


def _frame(client: Client, name: str, arguments: tuple[Any, ...]) -> Any:
    """Read an event's argument; ``None`` where it is broken, which ends the connection."""
    members = arguments[0] if len(arguments) == 1 else None
    try:
        return interpret({**members, "type": name} if isinstance(members, dict) else None)
    except FrameError:
        client.dismiss("bad-frame")
        return None
