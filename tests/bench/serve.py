"""Runs one app under uvicorn, or under gunicorn with threads, on its core.

python -m tests.bench.serve examples fastapi_app:app --port 8000 --cores 0
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from typing import TYPE_CHECKING

import uvicorn

from tests.bench.cores import pin

if TYPE_CHECKING:
    import socket


class _Server(uvicorn.Server):
    """A server set up as docs/production.md tells hosts to do."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and take what is there by then out of the garbage collector's sight."""
        await super().startup(sockets)
        gc.collect()
        gc.freeze()


def main() -> None:
    """Pin this process and serve."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.serve")
    parser.add_argument("folder", help="where to import the app from")
    parser.add_argument("app", help="module:attribute")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--cores", default="", help="numbers with commas between them; anywhere if empty")
    parser.add_argument("--threads", type=int, help="of gunicorn, for a WSGI app")
    options = parser.parse_args()
    pin(frozenset(int(core) for core in options.cores.split(",") if core))
    if options.threads:
        where = ["--chdir", options.folder, "--bind", f"127.0.0.1:{options.port}", "--no-control-socket"]
        how = ["--threads", str(options.threads), "--log-level", "warning"]
        os.execv(sys.executable, [sys.executable, "-m", "gunicorn", *where, *how, options.app])  # noqa: S606  # it is ours
    sys.path.insert(0, options.folder)
    config = uvicorn.Config(
        options.app,
        host="127.0.0.1",
        port=options.port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
    _Server(config).run()


if __name__ == "__main__":
    main()
