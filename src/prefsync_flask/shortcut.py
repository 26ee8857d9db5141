"""A way past Flask's own dispatch, for documents whose requests have been through it once.

Flask makes contexts, looks for the route and asks for hooks in each request, which costs more than a cached read. What
it found stays true: an app takes no more routes and hooks once it has had a request.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import flask
from flask import Flask

from prefsync.http import HttpResponse
from prefsync_flask.translate import reader_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prefsync.wsgi import Environ, WsgiGateway

__all__ = ["Shortcut", "learn", "raise_failure"]

# Under these names things travel in an environment: which shortcut a request passed by, and what went wrong on one.
_PASSED_BY: Final = "prefsync.shortcut"
_FAILURE: Final = "prefsync.failure"

# Set where somebody wants to look at the contexts afterwards: a test client, a debugger.
_PRESERVED: Final = "werkzeug.debug.preserve_context"

_MOST_WAYS: Final = 10_000

# What an app calls in each request; one that does it in its own way is not passed by.
_DISPATCH: Final = (
    *(
        "wsgi_app",
        "create_url_adapter",
        "request_context",
        "full_dispatch_request",
        "preprocess_request",
        "dispatch_request",
    ),
    *(
        "finalize_request",
        "make_response",
        "process_response",
        "do_teardown_request",
        "do_teardown_appcontext",
    ),
)
_HOOKS: Final = (
    *("before_request_funcs", "after_request_funcs", "teardown_request_funcs", "url_value_preprocessors"),
    "teardown_appcontext_funcs",
)
_SIGNALS: Final = tuple(
    getattr(flask, name)
    for name in (
        *("request_started", "request_finished", "request_tearing_down", "got_request_exception"),
        *("appcontext_pushed", "appcontext_popped", "appcontext_tearing_down"),
    )
)
_REASONS: Final = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


class Shortcut:
    """Stands before an app, behind whatever layers the host puts around it later.

    Args:
        app: The app.
        gateway: Answers for the documents of its mount, which verifies tokens itself.
    """

    def __init__(self, app: Flask, gateway: WsgiGateway) -> None:
        self._app = app
        self._inner = app.wsgi_app
        self._gateway = gateway
        self._ways: dict[tuple[str, str, str], str] = {}
        self._is_plain: bool | None = None

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer as WSGI apps do, one way or the other."""
        path = self._ways.get(_key(environ))
        if (
            path is None
            or _PRESERVED in environ
            or self._has_session(environ)
            or any(signal.receivers for signal in _SIGNALS)
        ):
            environ[_PASSED_BY] = self
            return self._inner(environ, start_response)
        try:
            response = self._gateway.answer(environ, path, self._read(environ))
        except Exception as error:  # noqa: BLE001  # raised again where the host's handlers see it
            environ[_FAILURE] = error
            return self._inner(environ, start_response)
        if not isinstance(response, HttpResponse):
            raise TypeError("a document is no stream")
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers]
        start_response(_REASONS[response.status], headers)
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else response.body]

    def _has_session(self, environ: Environ) -> bool:
        """Tell whether a request brings a session of Flask's, which may have to be refreshed."""
        return f"{self._app.config['SESSION_COOKIE_NAME']}=" in environ.get("HTTP_COOKIE", "")

    def _read(self, environ: Environ) -> Callable[[int], bytes]:
        def read(limit: int) -> bytes:
            return reader_of(self._app.request_class(environ))(limit)

        return read

    def leads_to(self, gateway: WsgiGateway) -> bool:
        """Tell whether it is of that mount: requests to another mount of the app pass by it too."""
        return self._gateway is gateway

    def learn(self, environ: Environ, path: str) -> None:
        """Remember where a request was routed to, if its path and method alone decided it."""
        if self._is_plain is None:
            self._is_plain = self._is_app_plain()
        if self._is_plain and len(self._ways) < _MOST_WAYS:
            self._ways[_key(environ)] = path

    def _is_app_plain(self) -> bool:
        """Tell whether nothing of the host's has a part in a request of the protocol's."""
        app = self._app
        if getattr(self._inner, "__func__", None) is not Flask.wsgi_app:
            return False
        if (
            app.url_map.host_matching
            or app.subdomain_matching
            or app.config["SERVER_NAME"]
            or app.config.get("TRUSTED_HOSTS")
        ):
            return False
        if type(app.session_interface) is not flask.sessions.SecureCookieSessionInterface:
            return False
        is_own = all(
            name == "wsgi_app" or getattr(getattr(app, name), "__func__", None) is getattr(Flask, name)
            for name in _DISPATCH
        )
        return is_own and not any(_any_of(getattr(app, name)) for name in _HOOKS)


def _any_of(hooks: Any) -> bool:
    """Tell whether there are hooks: in a list, or in lists by blueprint."""
    return any(hooks.values()) if isinstance(hooks, dict) else bool(hooks)


def _key(environ: Environ) -> tuple[str, str, str]:
    return environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("SCRIPT_NAME", "")


def learn(environ: Environ, path: str, gateway: WsgiGateway) -> None:
    """Let a request that came the long way be the last of its kind that does.

    Args:
        environ: The request, for a document.
        path: Below the mount's prefix.
        gateway: Whose it is.
    """
    shortcut: Shortcut | None = environ.get(_PASSED_BY)
    if shortcut is not None and shortcut.leads_to(gateway):
        shortcut.learn(environ, path)


def raise_failure(environ: Environ) -> None:
    """Raise what was raised on the shortcut, for the host's error handlers."""
    failure: Exception | None = environ.pop(_FAILURE, None)
    if failure is not None:
        raise failure
