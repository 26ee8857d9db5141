"""What ``import prefsync`` takes where only its base dependencies are installed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import prefsync
from tests.bench.fanout import Row

__all__ = ["import_time"]

_TIMES: Final = 9
_LIMIT_MS: Final = 150

_TIMED: Final = """
import sys, time
sys.path.append(sys.argv[1])
begin = time.perf_counter()
import prefsync
print((time.perf_counter() - begin) * 1e3)
"""


def import_time() -> Row:
    """Measure it, in processes that see nothing but the standard library and those packages."""
    with tempfile.TemporaryDirectory(prefix="prefsync-bench-") as folder:
        root = Path(prefsync.__file__).parent
        (Path(folder) / root.name).symlink_to(root)
        for name in _needed(distribution("prefsync-kit")):
            _link(distribution(name), Path(folder))
        taken = [_timed(folder) for _ in range(1 + _TIMES)][1:]  # the first finds nothing compiled
    return Row("`import prefsync`, base dependencies only", "ms", taken, limit=_LIMIT_MS, is_absolute=True)


def _timed(folder: str) -> float:
    command = [sys.executable, "-I", "-S", "-c", _TIMED, folder]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _needed(wanted: Distribution) -> set[str]:
    """Return the names of what a distribution needs without any extra."""
    found: set[str] = set()
    for line in wanted.requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            name = canonicalize_name(requirement.name)
            found |= {name, *_needed(distribution(name))}
    return found


def _link(installed: Distribution, folder: Path) -> None:
    """Put what a distribution has installed into a folder."""
    for name in {file.parts[0] for file in installed.files or ()} - {"..", "__pycache__"}:
        (folder / name).symlink_to(Path(str(installed.locate_file(name))).resolve())
