"""Flask's own server, as developers run it: it reloads what changes, and ends at Ctrl+C."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import httpx2
import psutil
import pytest

from tests.flask.conftest import LIMIT, bearer, client_of, eventually, hang_on, settings_of, status_of
from tests.http.conftest import ROOT
from tests.servers import ServerProcess

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.once

APP = """
from flask import Flask
from prefsync import Preferences
from prefsync_flask import PrefSync

class Appearance(Preferences, namespace="appearance"):
    theme: str = "system"

app = Flask(__name__)
PrefSync(app, [Appearance])

@app.get("/plain")
def plain() -> str:
    return "VERSION"
"""

# A job in the background of a shell hears of no SIGINT, and neither does what it starts.
AS_AT_A_TERMINAL = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, "-m", "flask", *sys.argv[1:]])
"""


def test_a_changed_file_restarts_it_and_ctrl_c_ends_it(tmp_path: Path, small: dict[str, str]) -> None:
    """With a stream open, a change of the app is served within seconds, nothing is lost, and nobody is left behind."""
    file = tmp_path / "reloaded.py"
    file.write_text(APP.replace("VERSION", "one"))
    command = [
        sys.executable,
        "-c",
        AS_AT_A_TERMINAL,
        "--app",
        "reloaded",
        "run",
        "--debug",
        "--port",
        "{port}",
    ]
    settings = {**settings_of(small), "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(tmp_path)])}
    with ServerProcess(command, settings, path="/plain", cwd=tmp_path) as server, client_of(server) as client:
        client.patch("/preferences", json={"appearance": {"theme": "dark"}}).raise_for_status()
        stream = hang_on(server, "/preferences/events")
        assert status_of(stream) == 200
        file.write_text(APP.replace("VERSION", "two"))

        def said() -> str:
            try:
                return httpx2.get(f"{server.url}/plain", trust_env=False, timeout=LIMIT).text
            except httpx2.TransportError:
                return ""  # it is just starting

        eventually(lambda: said() == "two")
        read = httpx2.get(f"{server.url}/preferences", headers=bearer("anna"), trust_env=False, timeout=LIMIT)
        assert read.json()["values"] == {"appearance": {"theme": "dark"}}
        stream.close()
        processes = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
        os.killpg(server.pid, signal.SIGINT)  # as a terminal does
        _, alive = psutil.wait_procs(processes, timeout=LIMIT)
        assert not alive
        assert "Traceback" not in server.output
