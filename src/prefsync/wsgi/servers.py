"""What WSGI servers tell of themselves beyond PEP 3333: their sockets, their threads, and that they are to end."""

from __future__ import annotations

import os
import select
import socket
import ssl
import sys
from typing import Any, Final, TypeAlias

from prefsync.workers import gunicorn_worker

__all__ = [
    "Environ",
    "drop_client",
    "has_client_left",
    "is_told_to_stop",
    "keep_pipe",
    "socket_of",
    "stop_reading",
    "threads_of",
]

Environ: TypeAlias = dict[str, Any]
"""A WSGI environment (PEP 3333, "environ Variables")."""

# Threads that a server is taken to have which does not tell.
_UNKNOWN_THREADS: Final = 8

# Werkzeug's own server begins one for each connection.
_WERKZEUG_THREADS: Final = 400


def socket_of(environ: Environ) -> socket.socket | None:
    """Return the socket of a request's connection, under servers that hand it over: gunicorn and Werkzeug's own."""
    found: socket.socket | None = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    return found


def has_client_left(environ: Environ) -> bool:
    """Tell whether a request's client has gone away, as far as can be seen without reading."""
    ask = environ.get("waitress.client_disconnected")
    if ask is not None:
        return bool(ask())
    connection = socket_of(environ)
    if connection is None or not hasattr(select, "POLLRDHUP"):
        return False  # found out by the next write
    # Not gevent's own, which knows no POLLRDHUP; who does not wait blocks no greenlet.
    poll = sys.modules["gevent.monkey"].get_original("select", "poll")() if _is_gevent() else select.poll()
    try:
        poll.register(connection, select.POLLRDHUP)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return True


def drop_client(environ: Environ) -> None:
    """Drop a request's connection with all that the client has not taken, under servers that hand it over.

    A thread that waits for the client to take something then fails at once.
    """
    connection = socket_of(environ)
    if connection is not None:
        try:
            if isinstance(connection, ssl.SSLSocket):
                # Not its own, which takes TLS away from under a thread that reads or writes.
                super(ssl.SSLSocket, connection).shutdown(socket.SHUT_RDWR)
            else:
                connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it is gone already


def stop_reading(environ: Environ) -> None:
    """End what comes over a request's connection, under servers that hand it over; an answer can still be sent.

    A thread that waits for more then finds the end of the stream. Done to a duplicate of the socket: TLS's own forgets
    its keys when it is told, and gevent's may be told by its own thread alone.
    """
    connection = socket_of(environ)
    if connection is None:
        return
    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
            duplicate.shutdown(socket.SHUT_RD)
    except OSError:
        return  # it is gone already


def threads_of(environ: Environ) -> int:
    """Return how many requests the server answers at once in this process, as far as it tells."""
    # Not where another server is behind gunicorn's worker (uvicorn's), and brought the request here through an adapter.
    worker = gunicorn_worker() if "gunicorn.socket" in environ else None
    if worker is not None and _is_gevent():
        return int(worker.cfg.worker_connections)
    if not environ.get("wsgi.multithread", True):
        return 1
    if worker is not None:
        return int(worker.cfg.threads)
    if "werkzeug.socket" in environ:
        return _WERKZEUG_THREADS
    channel = getattr(environ.get("waitress.client_disconnected"), "__self__", None)
    threads = getattr(getattr(getattr(channel, "server", None), "adj", None), "threads", _UNKNOWN_THREADS)
    return int(threads)


def is_told_to_stop() -> bool:
    """Tell whether the server was told to end this process and waits for requests to end: gunicorn's workers do."""
    worker = gunicorn_worker()
    return worker is not None and not worker.alive


def keep_pipe() -> None:
    """Have gunicorn's worker with threads not close the pipe that its threads wake it by.

    Each writes a byte there when it is done, by the number of the file, which may be after the worker has closed it (27.0,
    ``PollableMethodQueue.defer``). By then the number can be a connection's that a write under way has just opened, and the
    byte ends it. The system closes the pipe a moment later, with the process.
    """
    queue = getattr(gunicorn_worker(), "method_queue", None)
    if queue is not None:
        queue.close = lambda: None


def _is_gevent() -> bool:
    """Tell whether threads are gevent's greenlets."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))
