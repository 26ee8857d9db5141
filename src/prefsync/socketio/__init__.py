"""The protocol over Socket.IO (protocol.md section 3), spoken by python-socketio (extra ``socketio``)."""

from importlib.util import find_spec

from prefsync.errors import MissingExtraError

if find_spec("socketio") is None:
    raise MissingExtraError("Socket.IO (prefsync.socketio)", "socketio")

from prefsync.socketio.transport import SocketIo

__all__ = ["SocketIo"]
