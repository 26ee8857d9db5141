"""A connection that its server encrypts: what it holds of TLS cannot be moved, so that a thread has to carry bytes."""

from __future__ import annotations

import selectors
import ssl
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

__all__ = ["pump"]

_PIECE: Final = 64 * 1024

# Seconds after which both are tried again, whatever the system says: TLS may want to write in order to read.
_LOOK: Final = 1.0

_WAITING: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def pump(encrypted: ssl.SSLSocket, plain: socket.socket) -> None:
    """Carry bytes between two sockets until one of them ends; closes the plain one.

    In one thread, because OpenSSL lets no two use a connection at once; no more than a piece waits on either way.
    """
    encrypted.settimeout(0)
    plain.settimeout(0)
    inward = outward = b""
    is_over = False
    try:
        with selectors.DefaultSelector() as selector:
            while not is_over or outward:
                before = inward, outward, is_over
                if not inward and not is_over:
                    inward, is_over = _received(encrypted.recv)
                if inward:
                    inward = inward[_sent(plain.send, inward) :]
                if not outward and not is_over:
                    outward, is_over = _received(plain.recv)
                if outward:
                    outward = outward[_sent(encrypted.send, outward) :]
                if before == (inward, outward, is_over):
                    _wait(selector, encrypted, plain, inward, outward)
    except (OSError, ValueError):
        return  # one of them is gone; who was closed by another thread is no file to wait for
    finally:
        plain.close()


def _received(receive: Callable[[int], bytes]) -> tuple[bytes, bool]:
    """Return what has come, and whether that was the end."""
    try:
        data = receive(_PIECE)
    except _WAITING:
        return b"", False
    return data, not data


def _sent(send: Callable[[bytes], int], data: bytes) -> int:
    try:
        return send(data)
    except _WAITING:
        return 0


def _wait(
    selector: selectors.BaseSelector,
    encrypted: ssl.SSLSocket,
    plain: socket.socket,
    inward: bytes,
    outward: bytes,
) -> None:
    """Wait until something can be done."""
    for connection, takes, gives in ((encrypted, outward, inward), (plain, inward, outward)):
        wanted = (0 if gives else selectors.EVENT_READ) | (selectors.EVENT_WRITE if takes else 0)
        if wanted:
            selector.register(connection, wanted)
    selector.select(_LOOK)
    for key in list(selector.get_map().values()):
        selector.unregister(key.fileobj)
