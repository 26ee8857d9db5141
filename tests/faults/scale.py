"""How much is done: a part in each run of the tests, all of it in ``nox -s faults``."""

from __future__ import annotations

import os
from typing import Final

__all__ = ["IS_FULL"]

IS_FULL: Final = "PREFSYNC_TEST_FULL" in os.environ
