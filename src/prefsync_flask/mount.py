"""A mount of one app: what a request of the protocol's passes, and whom a request of the host's speaks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Response, request

from prefsync.document import Identity
from prefsync.errors import ConfigurationError, PrefsyncError, UnauthenticatedError
from prefsync.http import CLIENT_PATH, SOCKET_IO_PATHS
from prefsync.wsgi import IS_READ
from prefsync_flask.openapi import openapi_document
from prefsync_flask.shortcut import learn, raise_failure
from prefsync_flask.translate import RefusedError, reader_of, response_from

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefsync.blocking import BlockingPreferencesHandle
    from prefsync.wsgi import WsgiGateway

__all__ = ["Mount"]


class Mount:
    """Preferences of one app, under one prefix.

    Args:
        gateway: What is behind it.
        name: The blueprint's.
        url_prefix: Where the app has it.
        authenticate: Says who calls; ``None``: bearer tokens are verified.
    """

    def __init__(
        self, gateway: WsgiGateway, name: str, url_prefix: str, authenticate: Callable[[], Any] | None
    ) -> None:
        self.gateway = gateway
        self.name = name
        self.url_prefix = url_prefix
        self._authenticate = authenticate
        self._key = f"prefsync.identity.{name}"

    @property
    def has_tokens(self) -> bool:
        """Whether bearer tokens say who calls, and not the host."""
        return self._authenticate is None

    def answer(self, path: str) -> Response:
        """Answer the request that is on.

        Args:
            path: Below the prefix.
        """
        environ = request.environ
        raise_failure(environ)
        if "stream" in vars(request._get_current_object()):  # type: ignore[attr-defined]  # noqa: SLF001  # Werkzeug's proxy
            environ[IS_READ] = True  # or has begun to be, by the host
        if self.gateway.runtime.api.has_documents_at(environ["REQUEST_METHOD"], path):
            learn(environ, path, self.gateway)
        identity = None
        if self._authenticate is not None and not _needs_nobody(path):
            refusal = self.gateway.refusal(environ)
            if refusal is not None:
                return response_from(refusal)
            try:
                identity = _identity(self._authenticate())
            except PrefsyncError as error:
                return response_from(self.gateway.refuse(environ, error))
        return response_from(self.gateway.answer(environ, path, reader_of(request), identity))

    def handle(self) -> BlockingPreferencesHandle:
        """Return the typed handle of whoever the request that is on speaks for.

        Raises:
            HTTPException: 401; 429 where too many bad tokens came from one address; 503.
        """
        identity: Identity | None = request.environ.get(self._key)
        if identity is None:
            try:
                identity = self._identify()
            except ConfigurationError:
                raise  # no refusal, but for whoever wrote this
            except PrefsyncError as error:
                raise RefusedError(error, self.gateway.runtime.api.admission.refuse(error)) from error
            request.environ[self._key] = identity
        return self.gateway.handle(identity.subject)

    def openapi(self, title: str) -> dict[str, Any]:
        """Return the protocol's operations as an OpenAPI 3.1 document.

        Args:
            title: The app's.
        """
        schema = self.gateway.runtime.schema
        return openapi_document(schema, self.url_prefix, title, has_tokens=self.has_tokens)

    def _identify(self) -> Identity:
        if self._authenticate is not None:
            return _identity(self._authenticate())
        return self.gateway.identify(request.environ)


def _needs_nobody(path: str) -> bool:
    """Tell whether a request says by itself who calls, by a ticket or in a packet, or is for everybody."""
    if path == CLIENT_PATH or path in SOCKET_IO_PATHS:
        return True
    return path in {"/events", "/ws"} and "ticket" in request.args


def _identity(caller: Any) -> Identity:
    """Return whom the host's authentication named.

    Raises:
        UnauthenticatedError: Nobody.
        TypeError: It returned something that names nobody.
    """
    if caller is None:
        raise UnauthenticatedError("nobody is signed in", "missing")
    return Identity.of(caller)
