"""``flask prefsync ...``: the commands of ``prefsync``, about the app that Flask has loaded."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import click
from flask import current_app

from prefsync.blocking import loop_thread
from prefsync.cli.main import COMMANDS, run
from prefsync.cli.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from flask import Blueprint

    from prefsync.wiring import Runtime
    from prefsync_flask.mount import Mount

__all__ = ["add_commands"]

T = TypeVar("T")

# Everything after the command's name is for it to read.
_AS_IT_IS: dict[str, Any] = {"ignore_unknown_options": True, "allow_extra_args": True}


class _MountTarget(Target):
    """The mount of a Flask app.

    Args:
        mount: Of the app that Flask has loaded.
    """

    def __init__(self, mount: Mount) -> None:
        self._gateway = mount.gateway

    @property
    def runtime(self) -> Runtime:
        """See ``Target``."""
        return self._gateway.runtime

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """See ``Target``."""
        return loop_thread().call(work(), limit=None)

    def use(self, work: Callable[[Runtime], Coroutine[Any, Any, T]]) -> T:
        """See ``Target``."""
        self._gateway.open()
        return loop_thread().call(work(self._gateway.runtime), limit=None)


def add_commands(blueprint: Blueprint, mount: Mount) -> None:
    """Give a blueprint the commands of its mount."""
    group = blueprint.cli
    group.help = "Look at preferences, and change them."
    target = _MountTarget(mount)
    for name, about in COMMANDS.items():
        group.command(name, help=about, context_settings=_AS_IT_IS, add_help_option=False)(
            _handing_over(name, target)
        )

    @group.command()
    def openapi() -> None:
        """Print the protocol's operations as an OpenAPI document."""
        click.echo(json.dumps(mount.openapi(current_app.name), indent=2, ensure_ascii=False))


def _handing_over(name: str, target: Target) -> Callable[..., None]:
    @click.argument("words", nargs=-1, type=click.UNPROCESSED)
    def command(words: tuple[str, ...]) -> None:
        sys.exit(run(target, [name, *words], "flask prefsync"))

    return command
