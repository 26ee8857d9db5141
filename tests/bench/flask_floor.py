"""The floor under Flask: a view that returns a constant body, the one of the answers that are to be repeated.

Started with ``BENCH_ANSWERS``; see ``tests.bench.floor``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from flask import Flask

CONSTANT = "/constant"

app = Flask(__name__)
BODY = json.loads(Path(os.environ["BENCH_ANSWERS"]).read_text())[CONSTANT]["body"]


@app.get(CONSTANT)
def constant() -> str:
    """Answer the least that a view can."""
    return BODY
