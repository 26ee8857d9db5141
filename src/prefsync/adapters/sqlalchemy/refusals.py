"""What a database says when it refuses, and what of that a log may hold."""

from __future__ import annotations

from typing import Final

from prefsync.errors import ReadOnlyError

__all__ = ["read_only", "refusal", "state_of"]

# PostgreSQL, appendix A: data exceptions, and violations of integrity.
_ABOUT_ROWS: Final = ("22", "23")

_READ_ONLY: Final = "the database takes no writes at the moment: it is read-only"
_FULL: Final = "the database takes no writes at the moment: its disk is full"

# PostgreSQL, appendix A: read_only_sql_transaction (a standby, or default_transaction_read_only) and disk_full.
_STATES: Final = {"25006": _READ_ONLY, "53100": _FULL}

# https://www.sqlite.org/rescode.html: SQLITE_READONLY and SQLITE_FULL. Extended codes have them in their last byte.
_SQLITE: Final = {8: _READ_ONLY, 13: _FULL}

# MySQL's and MariaDB's: OPTION_PREVENTS_STATEMENT (read_only), CANT_EXECUTE_IN_READ_ONLY_TRANSACTION, READ_ONLY_MODE;
# DISK_FULL, RECORD_FILE_FULL.
_NUMBERS: Final = {1290: _READ_ONLY, 1792: _READ_ONLY, 1836: _READ_ONLY, 1021: _FULL, 1114: _FULL}


def state_of(error: BaseException | None) -> str:
    """Return the SQLSTATE of a driver's error, if it has one."""
    # psycopg and asyncpg call it by one name, psycopg2 by another.
    return str(getattr(error, "sqlstate", getattr(error, "pgcode", None)) or "")


def read_only(error: BaseException | None) -> ReadOnlyError | None:
    """Return the error to raise where a database answers, and stores nothing; ``None`` where that is not the matter."""
    sqlite = getattr(error, "sqlite_errorcode", None)
    number = error.args[0] if error is not None and error.args else None
    said = _STATES.get(state_of(error))
    if said is None and isinstance(sqlite, int):
        said = _SQLITE.get(sqlite & 0xFF)
    if said is None and isinstance(number, int):
        said = _NUMBERS.get(number)
    return None if said is None else ReadOnlyError(said)


def refusal(error: BaseException | None) -> str:
    """Say for a log what a database refused, and nothing of the row that it was about.

    PostgreSQL's messages show rows from their second line on, and those about data and constraints in the first one too.
    """
    kind = type(error).__name__
    state = state_of(error)
    if state.startswith(_ABOUT_ROWS):
        return f"{kind} ({state})"
    return f"{kind}: {str(error).partition(chr(10))[0]}"
