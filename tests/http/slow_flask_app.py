"""The Flask example app with little patience for bodies, for ``gunicorn``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from flask_app import app

from prefsync.http import bodies
from prefsync.wsgi import requests

__all__ = ["app"]

bodies.READ_LIMIT = requests.DISCARD_LIMIT = 0.5
