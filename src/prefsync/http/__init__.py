"""The wire protocol (protocol.md), free of any framework: mounts translate to it and from it, and do no more."""

from prefsync.http.handlers import CLIENT_PATH, SOCKET_IO_PATHS, PreferencesApi
from prefsync.http.messages import ClientGoneError, HttpRequest, HttpResponse, Sink, Socket

__all__ = [
    "CLIENT_PATH",
    "SOCKET_IO_PATHS",
    "ClientGoneError",
    "HttpRequest",
    "HttpResponse",
    "PreferencesApi",
    "Sink",
    "Socket",
]
