"""How a command ends: its exit code, and an error in one line that names the mend."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from prefsync.errors import (
    ConfigurationError,
    IncompatibleTablesError,
    InvalidPreferencesError,
    UnavailableError,
    UnusableDatabaseError,
)

if TYPE_CHECKING:
    from prefsync.errors import PrefsyncError

__all__ = ["Exit", "RefusedError", "exit_of", "lines_of"]


class Exit(IntEnum):
    """The exit codes."""

    OK = 0
    FAILED = 1
    """What was asked for is not so, or was not done: a check that found something, a question answered by no."""
    USAGE = 2
    """What was asked for cannot be: words, values or settings that are wrong."""
    UNAVAILABLE = 3
    """The database, or another part, is out of reach; trying again may help."""
    TABLES = 4
    """The tables have to be upgraded first, or are too new."""
    INTERRUPTED = 130


class RefusedError(Exception):
    """A command cannot go on.

    Args:
        message: What was wrong, and what would be right, in one line.
        code: To exit with.
    """

    def __init__(self, message: str, code: Exit = Exit.USAGE) -> None:
        super().__init__(message)
        self.code = code


def exit_of(error: PrefsyncError) -> Exit:
    """Return the code that an error ends a command with."""
    match error:
        case IncompatibleTablesError():
            return Exit.TABLES
        case UnusableDatabaseError() | UnavailableError():
            return Exit.UNAVAILABLE
        case InvalidPreferencesError() | ConfigurationError():
            return Exit.USAGE
        case _:
            return Exit.FAILED


def lines_of(error: PrefsyncError) -> list[str]:
    """Return what to print of an error."""
    if isinstance(error, InvalidPreferencesError):
        return [f"{field.pointer or '/'}: {field.detail}" for field in error.errors]
    cause: BaseException | None = error
    while cause is not None:  # what a client must not be told, who runs a command may know
        if isinstance(cause, UnusableDatabaseError):
            return [str(cause)]
        cause = cause.__cause__
    if isinstance(error, UnavailableError) and error.part == "database":
        return [f"{error}: check PREFSYNC_DATABASE_URL and that the server runs (prefsync check says more)"]
    return [str(error)]
