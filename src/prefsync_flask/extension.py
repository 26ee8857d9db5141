"""The Flask extension: ``PrefSync(app, [Appearance])``."""

from __future__ import annotations

import os
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final

from flask import current_app

from prefsync.errors import ConfigurationError
from prefsync.schema import listed
from prefsync.settings import Settings
from prefsync.wsgi import WsgiGateway
from prefsync_flask.blueprint import blueprint_of
from prefsync_flask.current import EXTENSION
from prefsync_flask.mount import Mount
from prefsync_flask.shortcut import Shortcut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from flask import Flask
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session, scoped_session

    from prefsync.blocking import BlockingPreferencesHandle, BlockingTransactionPreferences
    from prefsync.clock import Clock
    from prefsync.http.options import ApiOptions
    from prefsync.parts import Parts
    from prefsync.schema import PreferencesModel
    from prefsync.strictjson import Limits

__all__ = ["PrefSync"]

_CONFIG: Final = "PREFSYNC_"


class PrefSync:
    """Preference sync for Flask apps. Keeps nothing of an app: one extension may serve several.

    Nothing is opened before an app's first request, so that servers may fork before it or after it.

    Args:
        app: The app; or leave it out, and call :meth:`init_app`.
        models: The namespaces: subclasses of ``Preferences`` and ``OpenPreferences``.
        authenticate: Returns who calls, in the context of a request: a user's id, a ``Subject``, an ``Identity``, or
            ``None`` for nobody. Without it, bearer tokens are verified as the settings say.
        url_prefix: Where the app has it.
        settings: From ``app.config`` and the environment (``PREFSYNC_...`` in both; the first wins) where left out.
        parts: Adapters built by hand, or a function that builds them for an app.
        limits: How large documents may be.
        options: What a host can settle about the protocol.
        socketio: Whether Socket.IO is served too, at ``{prefix}/socket.io/``; needs the extra ``socketio``.
        name: The blueprint's name; two mounts of one app need two.
        clock: For tests.

    Raises:
        ConfigurationError: Something cannot work as it was set up.

    Example:
        ```python
        app = Flask(__name__)
        prefsync = PrefSync(app, [Appearance])
        ```
    """

    def __init__(
        self,
        app: Flask | None = None,
        models: Iterable[PreferencesModel] = (),
        *,
        authenticate: Callable[[], Any] | None = None,
        url_prefix: str = "/preferences",
        settings: Settings | None = None,
        parts: Parts | Callable[[Flask], Parts] | None = None,
        limits: Limits | None = None,
        options: ApiOptions | None = None,
        socketio: bool = False,
        name: str = "prefsync",
        clock: Clock | None = None,
    ) -> None:
        given: Any = app  # whatever the type says, this is where a host's mistake shows
        if isinstance(given, list | tuple):
            raise ConfigurationError(
                "the app comes first: PrefSync(app, [...]), or PrefSync(models=[...]) without one"
            )
        caller: Any = authenticate  # likewise
        if caller is not None and (not callable(caller) or iscoroutinefunction(caller)):
            kind = "an async one" if callable(caller) else type(caller).__name__
            raise ConfigurationError(
                f"authenticate takes a plain function, which Flask calls, and not {kind}"
            )
        self.name = name
        self._models = listed(models)
        self._authenticate = authenticate
        self._url_prefix = url_prefix
        self._settings = settings
        self._parts = parts
        self._limits = limits
        self._options = options
        self._socketio = socketio
        self._clock = clock
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Mount it in an app; opens nothing.

        Args:
            app: The app. What its ``config`` says of ``PREFSYNC_...`` is read now.

        Raises:
            ConfigurationError: Something cannot work as it was set up; or the app has one of this name already.
        """
        mounts: dict[str, Mount] = app.extensions.setdefault(EXTENSION, {})
        if self.name in mounts:
            raise ConfigurationError(
                f"this app has a PrefSync named {self.name!r} already; give this one another name: PrefSync(name=...)"
            )
        parts = self._parts(app) if callable(self._parts) else self._parts
        gateway = WsgiGateway(
            self._models,
            settings=self._settings or _settings_of(app),
            parts=parts,
            limits=self._limits,
            options=self._options,
            authenticates=self._authenticate is None,
            socketio=self._socketio,
            clock=self._clock,
        )
        mounts[self.name] = mount = Mount(gateway, self.name, self._url_prefix, self._authenticate)
        app.register_blueprint(blueprint_of(mount))
        if mount.has_tokens:
            app.wsgi_app = Shortcut(app, gateway)  # type: ignore[method-assign]  # as Flask's documentation says

    def preferences(self) -> BlockingPreferencesHandle:
        """Return the typed handle of the user whom the request that is on speaks for.

        Raises:
            HTTPException: 401; 429 where too many bad tokens came from one address; 503.
        """
        return self.mount().handle()

    def within(
        self, transaction: Session | Connection | scoped_session[Any]
    ) -> AbstractContextManager[BlockingTransactionPreferences]:
        """Read and write preferences inside a transaction of the app's: with its rows, or not at all.

        ``with prefsync.within(db.session) as preferences: preferences.of(user.id).update(Appearance, theme="dark")``.

        Args:
            transaction: A session or connection of SQLAlchemy's, in the database that preferences are kept in.

        Raises:
            ConfigurationError: It is none, or in another database; or an event loop runs in this thread.
            UnavailableError: The database is out of reach.
        """
        return self.gateway().within(transaction)

    def gateway(self, app: Flask | None = None) -> WsgiGateway:
        """Return what is behind the mount of an app: handles of any subject, health, closing.

        Args:
            app: The current one where left out.
        """
        return self.mount(app).gateway

    def openapi(self, app: Flask | None = None) -> dict[str, Any]:
        """Return the protocol's operations as an OpenAPI 3.1 document, to be served or merged into the app's own.

        Args:
            app: The current one where left out.
        """
        return self.mount(app).openapi((app or current_app).name)

    def mount(self, app: Flask | None = None) -> Mount:
        """Return the mount of an app."""
        mounts: dict[str, Mount] = (app or current_app).extensions.get(EXTENSION, {})
        try:
            return mounts[self.name]
        except KeyError:
            raise ConfigurationError(
                f"no PrefSync named {self.name!r} is in this app: call its init_app"
            ) from None


def _settings_of(app: Flask) -> Settings:
    environment = {name: value for name, value in os.environ.items() if name.startswith(_CONFIG)}
    configured = {name: value for name, value in app.config.items() if name.startswith(_CONFIG)}
    return Settings.from_environment({**environment, **configured})
