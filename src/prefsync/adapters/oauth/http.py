"""Asking an issuer over HTTP, in worker threads: the event loop never waits, and nothing lasts for ever."""

from __future__ import annotations

import os
import ssl
from base64 import b64encode
from contextlib import closing, suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse
from socket import SHUT_RDWR, socket
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote_plus, unquote, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import anyio
import anyio.to_thread

from prefsync.errors import PrefsyncError, UnavailableError
from prefsync.strictjson import parse
from prefsync.urls import check_secure, is_loopback, shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

__all__ = ["IssuerError", "IssuerHttp"]

# Seconds that one exchange may take, name resolution and TLS included.
_TIME_LIMIT: Final = 5.0

# Key sets and metadata of the large providers are below 32 KiB.
_MOST_BYTES: Final = 512 * 1024

# Threads that wait for one issuer: a slow one must not take all that the host's own work needs.
_MOST_THREADS: Final = 16

_RETRY_AFTER: Final = 5

_USER_AGENT: Final = "prefsync"


class IssuerError(UnavailableError):
    """The issuer gave no answer that can be used.

    Attributes:
        reason: What went wrong, for the log: clients are told no more than that the issuer is out of reach.
        status: The HTTP status, where there was one.
    """

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__("issuer", _RETRY_AFTER)
        self.reason = reason
        self.status = status


class IssuerHttp:
    """Exchanges JSON with an issuer. Redirects are not followed: what is trusted is the URL that the host has settled.

    Args:
        time_limit: Seconds that one exchange may take.
        most_bytes: The largest answer that is read.
    """

    def __init__(self, *, time_limit: float = _TIME_LIMIT, most_bytes: int = _MOST_BYTES) -> None:
        self._time_limit = time_limit
        self._most_bytes = most_bytes
        self._limiter: anyio.CapacityLimiter | None = None
        self._process = 0
        self._tls: list[ssl.SSLContext] = []

    async def get(self, url: str) -> dict[str, Any]:
        """Return the JSON object at a URL.

        Raises:
            IssuerError: There is none within the limits.
        """
        return await self._exchange(url, None, {})

    async def post(self, url: str, form: Mapping[str, str], *, user: str, password: str) -> dict[str, Any]:
        """Return the JSON object that a form is answered with.

        Args:
            url: Where it is sent.
            form: What is sent.
            user: Authenticates the sender (RFC 6749, section 2.3.1).
            password: Likewise.

        Raises:
            IssuerError: There is none within the limits.
        """
        pair = f"{quote_plus(user)}:{quote_plus(password)}"
        headers = {
            "Authorization": "Basic " + b64encode(pair.encode()).decode(),
            "Content-Type": "application/x-www-form-urlencoded",
        }
        return await self._exchange(url, urlencode(form).encode(), headers)

    async def _exchange(self, url: str, body: bytes | None, headers: Mapping[str, str]) -> dict[str, Any]:
        if self._limiter is None or self._process != os.getpid():
            # A forked process has none of the threads that its parent's limiter counts.
            self._limiter, self._process = anyio.CapacityLimiter(_MOST_THREADS), os.getpid()
        try:
            parts = check_secure(url)
        except ValueError as error:
            raise IssuerError(f"{shown(url)} is no place to ask: {error}") from None
        exchange = _Exchange(parts, body, headers, self._most_bytes, self._time_limit, self._tls)
        try:
            with anyio.fail_after(self._time_limit):
                return await anyio.to_thread.run_sync(
                    lambda: _object(parts.netloc, *exchange.run()),
                    abandon_on_cancel=True,
                    limiter=self._limiter,
                )
        except TimeoutError:
            raise IssuerError(f"{parts.netloc} did not answer within {self._time_limit:g} s") from None
        except (OSError, HTTPException, ValueError) as error:
            raise IssuerError(f"{parts.netloc} cannot be asked: {error!r}") from error
        finally:
            exchange.abort()


class _Exchange:
    """One request and its answer, in a thread of its own; given up from another."""

    def __init__(
        self,
        parts: SplitResult,
        body: bytes | None,
        headers: Mapping[str, str],
        most_bytes: int,
        time_limit: float,
        tls: list[ssl.SSLContext],
    ) -> None:
        self._parts = parts
        self._body = body
        self._headers = headers
        self._most_bytes = most_bytes
        self._time_limit = time_limit
        self._tls = tls
        self._connection: HTTPConnection | None = None
        self._socket: socket | None = None
        self._is_over = False

    def run(self) -> tuple[int, bytes]:
        """Return the status and body of the answer.

        Raises:
            OSError: There is no connection, or it broke.
            HTTPException: The other side does not speak HTTP.
            ValueError: The answer is none that can be read.
        """
        self._connection = connection = self._connect()
        try:
            connection.connect()
            if self._is_over:
                raise TimeoutError  # while the name was looked up, where nothing can be given up
            if self._parts.scheme == "https":
                # In two steps, so that a handshake without an end can be given up too.
                connection.sock = self._context().wrap_socket(
                    connection.sock, server_hostname=self._parts.hostname, do_handshake_on_connect=False
                )
                self._socket = connection.sock
                connection.sock.do_handshake()
            self._socket = connection.sock  # which the connection forgets as soon as there is a response
            self._send(connection)
            with closing(connection.getresponse()) as response:
                return response.status, self._read(response)
        finally:
            connection.close()

    def _send(self, connection: HTTPConnection) -> None:
        path = self._parts.path or "/"
        connection.request(
            "GET" if self._body is None else "POST",
            f"{path}?{self._parts.query}" if self._parts.query else path,
            self._body,
            {
                "Host": self._parts.netloc,
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": _USER_AGENT,
                "Connection": "close",
                **self._headers,
            },
        )

    def _read(self, response: HTTPResponse) -> bytes:
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise ValueError("the answer is compressed, which was not asked for")
        answer = response.read(self._most_bytes + 1)
        if len(answer) > self._most_bytes:
            raise ValueError(f"the answer is longer than {self._most_bytes} bytes")
        if response.length:
            raise ValueError("the answer breaks off")
        return answer

    def abort(self) -> None:
        """Let a thread that still reads come to its end; does nothing where it has."""
        self._is_over = True
        at_work = self._socket or (self._connection and self._connection.sock)
        if at_work:
            with suppress(OSError):
                # The plain socket's: an SSLSocket's own would change what the thread is reading from.
                socket.shutdown(at_work, SHUT_RDWR)

    def _context(self) -> ssl.SSLContext:
        if not self._tls:
            self._tls.append(
                ssl.create_default_context()
            )  # takes tens of ms, so here and not on the event loop
        return self._tls[0]

    def _connect(self) -> HTTPConnection:
        host = self._parts.hostname or ""
        port = self._parts.port or (443 if self._parts.scheme == "https" else 80)
        is_direct = self._parts.scheme == "http" or is_loopback(host) or proxy_bypass(host)
        proxy = None if is_direct else getproxies().get("https")
        if not proxy:
            return HTTPConnection(host, port, timeout=self._time_limit)
        way = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        connection = HTTPConnection(way.hostname or "", way.port or 80, timeout=self._time_limit)
        headers = {}
        if way.username is not None:
            pair = f"{unquote(way.username)}:{unquote(way.password or '')}"
            headers["Proxy-Authorization"] = "Basic " + b64encode(pair.encode()).decode()
        connection.set_tunnel(host, port, headers)
        return connection


def _object(host: str, status: int, answer: bytes) -> dict[str, Any]:
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        raise IssuerError(
            f"{host} redirects ({status}), which is not followed: set the URL it leads to", status
        )
    if status != HTTPStatus.OK:
        raise IssuerError(f"{host} answered {status}", status)
    try:
        value = parse(answer)
    except PrefsyncError as error:
        raise IssuerError(f"{host} answered something else than JSON: {error}", status) from None
    if not isinstance(value, dict):
        raise IssuerError(f"{host} answered JSON that is no object", status)
    return value
