"""The network, by httpx2: the one place of the client that does I/O."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

import anyio
import httpx2

from prefsync.client.messages import Answer, Cut, Failure, Open, Read, Send

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from prefsync.client.messages import Request

__all__ = ["Line", "Network"]

_EVENTS: Final = "text/event-stream"

# Far beyond a page of a hundred changes of the largest documents; a body without an end is no answer.
_MOST: Final = 64 * 1024 * 1024

# How long the end of a connection may take that is given up anyway.
_CLOSING: Final = 2.0


class Network:
    """Connections to one mount.

    Args:
        url: Of the mount.
        connect: Seconds that a connection may take.
        transport: How connections are made; closed with this.

    Attributes:
        lines: The streams of watches, which end with this.
    """

    def __init__(self, url: str, connect: float, transport: httpx2.AsyncBaseTransport | None) -> None:
        self.lines: WeakSet[Line] = WeakSet()
        self._url = url
        # What is not a connection has its limit from each step, which holds for the whole of it.
        self._http = httpx2.AsyncClient(
            transport=transport,
            follow_redirects=False,
            timeout=httpx2.Timeout(None, connect=connect),
            limits=httpx2.Limits(max_keepalive_connections=10, keepalive_expiry=30.0),
        )

    async def send(self, step: Send) -> Answer | Failure:
        """Send a request and read the whole answer."""
        answer, response = await self._exchange(step, leaves_open=False)
        assert response is None  # noqa: S101  # as asked
        return answer

    async def open(self, step: Open) -> tuple[Answer | Failure, httpx2.Response | None]:
        """Send a request; an answer that is an event stream is left open, and returned as well."""
        return await self._exchange(step, leaves_open=True)

    async def aclose(self) -> None:
        """End all streams and connections."""
        for line in list(self.lines):
            await line.cut()
        await self._http.aclose()

    async def _exchange(
        self, step: Send | Open, *, leaves_open: bool
    ) -> tuple[Answer | Failure, httpx2.Response | None]:
        try:
            with anyio.move_on_after(step.limit):
                response = await self._http.send(self._request(step.request), stream=True)
                head = _head(response)
                if head.is_open and leaves_open:
                    return head, response
                try:
                    return await _whole(response), None
                finally:
                    await response.aclose()
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            return _failure(error), None
        return Failure(f"no whole answer in {step.limit:.3g} s", is_silence=True), None

    def _request(self, request: Request) -> httpx2.Request:
        url = f"{self._url}{request.path}" + (f"?{request.query}" if request.query else "")
        return self._http.build_request(
            request.method, url, headers=dict(request.headers), content=request.body
        )


class Line:
    """The event stream of one watch, or none.

    Args:
        network: Where it comes from.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        network.lines.add(self)
        self._lock = anyio.Lock()  # a stream can be cut only when its reader, cancelled, has let go of it
        self._response: httpx2.Response | None = None
        self._chunks: AsyncGenerator[bytes, None] | None = None

    async def do(self, step: Send | Open | Read | Cut) -> Answer | Failure | bytes | None:
        """Do a step of a watch."""
        async with self._lock:
            match step:
                case Send():
                    return await self.network.send(step)
                case Open():
                    await self._cut()
                    answer, self._response = await self.network.open(step)
                    if self._response is not None:
                        self._chunks = self._response.aiter_bytes()
                    return answer
                case Read():
                    return await self._read(step)
                case Cut():
                    await self._cut()
                    return None

    async def cut(self) -> None:
        """End the stream, if there is one."""
        async with self._lock:
            await self._cut()

    async def _cut(self) -> None:
        chunks, response = self._chunks, self._response
        self._chunks = self._response = None
        with anyio.move_on_after(_CLOSING, shield=True), suppress(httpx2.HTTPError, OSError):
            if chunks is not None:
                await chunks.aclose()
            if response is not None:
                await response.aclose()

    async def _read(self, step: Read) -> bytes | Failure:
        if self._chunks is None:
            return b""
        try:
            with anyio.move_on_after(step.limit):
                async for chunk in self._chunks:
                    if chunk:
                        return chunk
                return b""
        except httpx2.HTTPError as error:
            return _failure(error)
        return Failure(f"nothing came for {step.limit:.3g} s", is_silence=True)


def _head(response: httpx2.Response) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return Answer(response.status_code, headers, is_open=response.is_success and kind == _EVENTS)


async def _whole(response: httpx2.Response) -> Answer | Failure:
    pieces = []
    size = 0
    async for piece in response.aiter_bytes():
        size += len(piece)
        if size > _MOST:
            return Failure(f"an answer of more than {_MOST} bytes")
        pieces.append(piece)
    head = _head(response)
    return Answer(head.status, head.headers, b"".join(pieces))


def _failure(error: Exception) -> Failure:
    words = str(error)
    return Failure(f"{type(error).__name__}: {words}" if words else type(error).__name__, error)
