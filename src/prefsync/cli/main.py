"""Reads the command line, runs what it asks for, and says how that ended."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prefsync.cli import checking, database, models, subjects, tail, tokens
from prefsync.cli.ends import Exit, RefusedError, exit_of, lines_of
from prefsync.cli.printing import Printer
from prefsync.cli.target import AppTarget
from prefsync.errors import PrefsyncError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prefsync.cli.target import Target

__all__ = ["COMMANDS", "main", "run"]

COMMANDS: Final = {
    "check": "look at settings, connections, tables, clocks and encryption, and say what to change",
    "db": "the tables: status, upgrade",
    "show": "print a user's preferences, defaults included",
    "set": "set fields of a namespace: theme=dark, font_size=16",
    "reset": "take fields of a namespace, or all of it, back to their defaults",
    "erase": "erase everything that is kept of users",
    "export": "print everything that is kept of users",
    "tail": "print changes as they are made",
    "schema": "print what the app declares, as JSON Schema or TypeScript",
    "token": "print a token for development",
}
"""The commands, each with what it does."""

_EPILOG: Final = (
    "exit codes: 0 done; 1 not done, or a check found something; 2 wrong words, values or settings; 3 the database or"
    " another part is out of reach; 4 the tables have to be upgraded first"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``prefsync``.

    Args:
        arguments: Instead of the process's own.

    Returns:
        The exit code.
    """
    parser = _parser("prefsync", _common())
    parser.add_argument("--app", metavar="MODULE:ATTRIBUTE", help="the app (else the variable PREFSYNC_APP)")
    try:
        given = parser.parse_args(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    return _end(given, lambda: AppTarget(given.app))


def run(target: Target, arguments: Sequence[str], program: str) -> int:
    """Run a command about a target that is known, for a framework's own command line.

    Args:
        target: What it is about.
        arguments: The command and its words.
        program: What users call it.

    Returns:
        The exit code.
    """
    try:
        given = _parser(program, _common()).parse_args(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    return _end(given, lambda: target)


def _end(given: argparse.Namespace, target: Callable[[], Target]) -> int:
    printer = Printer(as_json=given.json)
    try:
        return int(given.run(target(), given, printer))
    except RefusedError as error:
        printer.error("refused", [str(error)])
        return error.code
    except PrefsyncError as error:
        printer.error(error.code, lines_of(error))
        return exit_of(error)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print JSON, for programs"
    )
    return common


def _parser(program: str, common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program, description="Look after preferences.", epilog=_EPILOG)
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, work: Callable[..., Exit]) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=COMMANDS[name], description=work.__doc__, parents=[common])
        made.set_defaults(run=work)
        return made

    command("check", checking.check)
    _add_database(commands, common)
    _add_user(command("show", subjects.show))
    setting = command("set", subjects.set_fields)
    _add_user(setting)
    setting.add_argument("namespace")
    setting.add_argument(
        "assignments", metavar="FIELD=VALUE", nargs="+", help="null resets; no JSON is a string"
    )
    resetting = command("reset", subjects.reset)
    _add_user(resetting)
    resetting.add_argument("namespace")
    resetting.add_argument("fields", metavar="FIELD", nargs="*", help="all where none is named")
    erasing = command("erase", subjects.erase)
    _add_users(erasing)
    erasing.add_argument("--yes", action="store_true", help="ask no questions")
    exporting = command("export", subjects.export)
    _add_users(exporting)
    exporting.add_argument("--output", type=Path, metavar="FILE")
    _add_tail(command("tail", tail.tail))
    _add_schema(command("schema", models.schema))
    minting = command("token", tokens.token)
    _add_user(minting)
    minting.add_argument("--scope", help="what it is good for; reading and writing where left out")
    minting.add_argument("--minutes", type=_at_least_one, default=60)
    return parser


def _add_database(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    group = commands.add_parser("db", help=COMMANDS["db"], description="The tables.")
    inner = group.add_subparsers(metavar="COMMAND", required=True)
    status = inner.add_parser("status", help="which version the tables have", parents=[common])
    status.set_defaults(run=database.status)
    upgrade = inner.add_parser("upgrade", help="bring them to the version that is needed", parents=[common])
    upgrade.add_argument("--to", metavar="REVISION", help="the version to stop at")
    upgrade.add_argument("--sql", action="store_true", help="print the SQL, and change nothing")
    upgrade.set_defaults(run=database.upgrade)


def _add_user(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("user")
    parser.add_argument("--tenant", help="the user's tenant, in an app that has several")


def _add_users(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("users", metavar="USER", nargs="*")
    parser.add_argument("--file", type=Path, metavar="FILE", help="a user in each line; - is standard input")
    parser.add_argument("--tenant", help="the users' tenant, in an app that has several")


def _add_tail(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("user", nargs="?", help="everybody where left out")
    parser.add_argument("--tenant")
    parser.add_argument("--values", action="store_true", help="show the values too")
    parser.add_argument("--count", type=_at_least_one, metavar="N", help="end after so many changes")
    parser.add_argument("--seconds", type=float, metavar="S", help="end after so many seconds")


def _add_schema(parser: argparse.ArgumentParser) -> None:
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--json-schema", action="store_true", help="(the default)")
    kind.add_argument("--typescript", action="store_true")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--output", type=Path, metavar="FILE")
    where.add_argument("--check", type=Path, metavar="FILE", help="exit with 1 where the file is out of date")


def _at_least_one(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("write a whole number above 0")
    return int(text)
