"""The protocol under WSGI (PEP 3333), free of any framework: for mounts whose servers have a thread for each request."""

from prefsync.wsgi.exchange import HandedOver
from prefsync.wsgi.gateway import WsgiGateway
from prefsync.wsgi.requests import IS_READ, is_upgrade
from prefsync.wsgi.servers import Environ
from prefsync.wsgi.streams import Answer, Stream

__all__ = ["IS_READ", "Answer", "Environ", "HandedOver", "Stream", "WsgiGateway", "is_upgrade"]
