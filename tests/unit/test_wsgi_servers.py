"""What WSGI servers tell of themselves is believed where they brought the request."""

from __future__ import annotations

import contextlib
import os
import signal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from gunicorn.workers.gthread import PollableMethodQueue

from prefsync.wsgi.servers import keep_pipe, threads_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="gunicorn does not run there")


class Worker:
    """What uvicorn's worker for gunicorn leaves to be found: one thread by its configuration, which it does not use."""

    def __init__(self) -> None:
        self.alive = True
        self.method_queue: Any = None
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


def test_a_thread_that_is_late_writes_to_no_file_of_others(worker: Worker, tmp_path: Path) -> None:
    """It tells gunicorn's worker that it is done after that has closed its pipe, whose number is another's by then."""
    queue = PollableMethodQueue()
    queue.init()
    worker.method_queue = queue
    keep_pipe()
    queue.close()
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context((tmp_path / str(number)).open("wb")) for number in range(2)]
        queue.defer(int)
        assert queue._write_fd not in {file.fileno() for file in files}
    assert not any((tmp_path / str(number)).read_bytes() for number in range(2))
    os.close(queue._read_fd)
    os.close(queue._write_fd)
