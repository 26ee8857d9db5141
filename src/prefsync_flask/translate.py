"""Between Flask and the protocol's messages."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from flask import Response
from werkzeug.datastructures import Headers
from werkzeug.exceptions import ClientDisconnected, HTTPException, RequestEntityTooLarge

from prefsync.http import ClientGoneError
from prefsync.http.problems import TooLargeError
from prefsync.wsgi import HandedOver, Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flask import Request

    from prefsync.errors import PrefsyncError
    from prefsync.http import HttpResponse
    from prefsync.wsgi import Answer, Environ

__all__ = ["RefusedError", "reader_of", "response_from"]


class RefusedError(HTTPException):
    """A refusal of the protocol's, in a form that the host's own error handlers understand."""

    def __init__(self, error: PrefsyncError, refusal: HttpResponse) -> None:
        self.code = refusal.status
        super().__init__(str(error), response_from(refusal))


class _Response(Response):
    """An answer that goes out as it is: Werkzeug adds no header of its own, and takes none away."""

    default_mimetype = None

    def get_wsgi_headers(self, environ: Environ) -> Headers:
        """See ``werkzeug.wrappers.Response``."""
        del environ
        return self.headers


class _HandedOver(_Response):
    """Stands for an answer where the connection was taken over."""

    def __init__(self, answer: HandedOver) -> None:
        super().__init__()
        self._stay = answer.stay

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Leave the request unanswered, as servers know it from clients that go away."""
        del environ, start_response
        if self._stay is not None:
            self._stay()
        raise ConnectionResetError(errno.ECONNRESET, "the connection is a WebSocket now")


class _Lasting(_Response):
    """An answer that lasts; ended also where the host sends another one instead, because a hook of its own raised say.

    Args:
        stream: What is sent.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._is_sent = False
        super().__init__(stream, stream.response.status, _headers(stream.response), direct_passthrough=True)

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """See ``werkzeug.wrappers.Response``."""
        sent = super().__call__(environ, start_response)
        self._is_sent = True
        return sent

    def __del__(self) -> None:
        if not self._is_sent:
            self._stream.close()


def response_from(answer: Answer) -> Response:
    """Translate an answer."""
    if isinstance(answer, HandedOver):
        return _HandedOver(answer)
    if isinstance(answer, Stream):
        return _Lasting(answer)
    # A list: of bytes alone it would take the length, HEAD or not.
    return _Response([answer.body], answer.status, _headers(answer))


def _headers(response: HttpResponse) -> Headers:
    return Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers])


def reader_of(request: Request) -> Callable[[int], bytes]:
    """Return what reads the body of a request that the host may have read already."""

    def read(limit: int) -> bytes:
        request.max_content_length = limit + 1
        try:
            return request.get_data()
        except RequestEntityTooLarge:
            raise TooLargeError(f"a body may have at most {limit} bytes") from None
        except (ClientDisconnected, OSError):
            raise ClientGoneError from None

    return read
