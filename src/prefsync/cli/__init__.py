"""The command line: ``prefsync``, and the same under ``flask prefsync``. Nothing but the standard library is needed."""

from prefsync.cli.main import main

__all__ = ["main"]
