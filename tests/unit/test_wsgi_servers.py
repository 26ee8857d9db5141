"""What WSGI servers tell of themselves is believed where they brought the request."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from prefsync.wsgi.servers import threads_of

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="gunicorn does not run there")


class Worker:
    """What uvicorn's worker for gunicorn leaves to be found: one thread by its configuration, which it does not use."""

    def __init__(self) -> None:
        self.alive = True
        self.cfg = SimpleNamespace(threads=1, workers=1)

    def handle_usr1(self, *_: Any) -> None:
        """Open the log files again."""


@pytest.fixture
def worker() -> Iterator[Worker]:
    """The process is one."""
    worker = Worker()
    before = signal.signal(signal.SIGUSR1, worker.handle_usr1)
    yield worker
    signal.signal(signal.SIGUSR1, before)


def test_a_worker_tells_of_its_own_requests_alone(worker: Worker) -> None:
    """A request that an ASGI server hands on has the threads of an adapter, of which nothing is known."""
    worker.cfg.threads = 4
    assert threads_of({"wsgi.multithread": True, "gunicorn.socket": object()}) == 4
    worker.cfg.threads = 1
    assert threads_of({"wsgi.multithread": True}) > 1
