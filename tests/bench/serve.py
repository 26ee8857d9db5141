"""Runs one app under uvicorn, on its core.

python -m tests.bench.serve examples fastapi_app:app --port 8000 --cores 0
"""

from __future__ import annotations

import argparse

import uvicorn

from tests.bench.cores import pin


def main() -> None:
    """Pin this process and serve."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.serve")
    parser.add_argument("folder", help="where to import the app from")
    parser.add_argument("app", help="module:attribute")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--cores", default="", help="numbers with commas between them; anywhere if empty")
    options = parser.parse_args()
    pin(frozenset(int(core) for core in options.cores.split(",") if core))
    uvicorn.run(
        options.app,
        app_dir=options.folder,
        host="127.0.0.1",
        port=options.port,
        workers=1,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
