"""What a process can tell of the server that started it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from typing import Any, Final

__all__ = ["gunicorn_worker", "is_one_of_several"]

# Which a gunicorn worker handles itself: of its classes, uvicorn's takes SIGTERM over and leaves the other (which Windows
# does not have, nor gunicorn).
_HANDLED: Final = ("SIGTERM", "SIGUSR1")


def is_one_of_several() -> bool:
    """Guess whether a server started more processes like this one; servers do not tell.

    uvicorn, granian and hypercorn start workers by multiprocessing, gunicorn's know how they were configured, and some
    platforms say it in the environment.
    """
    if multiprocessing.parent_process() is not None:
        return True
    worker = gunicorn_worker()
    if worker is not None:
        return int(worker.cfg.workers) > 1
    workers = os.environ.get("WEB_CONCURRENCY", "1")
    return workers.isdigit() and int(workers) > 1


def gunicorn_worker() -> Any:
    """Return the gunicorn worker that this process is, found by the signal handlers that it has; or ``None``.

    The only way that needs no word of the host's: a handler of our own can be set by the main thread alone, in
    which nothing of the host's may ever run. Not found is its worker class ``asgi``, whose event loop has the handlers.
    """
    for name in _HANDLED:
        number = getattr(signal, name, None)
        worker = None if number is None else getattr(signal.getsignal(number), "__self__", None)
        if hasattr(worker, "alive") and hasattr(worker, "cfg"):
            return worker
    return None
