"""What a command is about: the app's models, settings and parts, found by ``--app`` or handed over by Flask."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from abc import ABC, abstractmethod
from inspect import isclass, isfunction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from prefsync.cli.ends import RefusedError
from prefsync.parts import build_repository
from prefsync.settings import APP_VARIABLE, Settings
from prefsync.wiring import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from prefsync.ports import PreferenceRepository

__all__ = ["AppTarget", "Target"]

T = TypeVar("T")

_HINT: Final = "name a PrefSync, a FastAPI or Flask app that has one, a Runtime, or a list of models: --app module:attribute"


class Target(ABC):
    """What a command is about."""

    @property
    @abstractmethod
    def runtime(self) -> Runtime:
        """What is behind the app's mount.

        Raises:
            RefusedError: No app was named, or there is nothing of ours where it was said to be.
        """

    @property
    def has_app(self) -> bool:
        """Whether an app was named: what is about the database alone needs none."""
        return True

    @property
    def settings(self) -> Settings:
        """The app's, or those of the environment."""
        return self.runtime.settings

    @property
    def repository(self) -> PreferenceRepository:
        """Where preferences are kept."""
        return self.runtime.repository

    @abstractmethod
    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run something on an event loop, without opening the runtime."""

    @abstractmethod
    def use(self, work: Callable[[Runtime], Coroutine[Any, Any, T]]) -> T:
        """Run something with the open runtime."""


class AppTarget(Target):
    """An app named by ``--app`` or ``PREFSYNC_APP``, if any is.

    Args:
        name: ``module:attribute``.
    """

    def __init__(self, name: str | None) -> None:
        self._name = name or os.environ.get(APP_VARIABLE)
        self._runtime: Runtime | None = None

    @property
    def has_app(self) -> bool:
        """See ``Target``."""
        return self._name is not None

    @property
    def runtime(self) -> Runtime:
        """See ``Target``."""
        if self._runtime is None:
            if self._name is None:
                raise RefusedError(f"which app? {_HINT}, or set {APP_VARIABLE}")
            self._runtime = _runtime_of(_named(self._name), self._name)
        return self._runtime

    @property
    def settings(self) -> Settings:
        """See ``Target``."""
        return self.runtime.settings if self.has_app else Settings.from_environment()

    @property
    def repository(self) -> PreferenceRepository:
        """See ``Target``."""
        return self.runtime.repository if self.has_app else build_repository(self.settings)

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """See ``Target``."""
        return asyncio.run(work())

    def use(self, work: Callable[[Runtime], Coroutine[Any, Any, T]]) -> T:
        """See ``Target``."""
        runtime = self.runtime

        async def opened() -> T:
            async with runtime:
                return await work(runtime)

        return asyncio.run(opened())


def _named(name: str) -> Any:
    """Import what ``module:attribute`` names, from the working directory too."""
    module_name, colon, attribute = name.partition(":")
    if not module_name or not colon or not attribute:
        raise RefusedError(f"{name!r} names no app; {_HINT}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise RefusedError(f"{module_name} cannot be imported: {error}") from error
        raise RefusedError(
            f"there is no module {module_name}: run this where it can be imported, or set PYTHONPATH"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise RefusedError(f"{module_name} has no {attribute}; {_HINT}")
        found = getattr(found, part)
    return found() if isfunction(found) else found


def _runtime_of(found: Any, name: str) -> Runtime:
    """Return the runtime of whatever hosts have."""
    mounts = getattr(found, "extensions", {}).get("prefsync") if hasattr(found, "extensions") else None
    if mounts:  # a Flask app
        return _runtime_of(next(iter(mounts.values())).gateway, name)
    mounted = _in_fastapi(found)
    if len(mounted) > 1:
        raise RefusedError(
            f"{name} has several PrefSyncs: name the one that is meant: --app module:attribute"
        )
    if mounted:
        return mounted[0]
    if isinstance(found, Runtime):
        return found
    runtime = getattr(found, "runtime", None)  # a PrefSync, or a BlockingRuntime
    if isinstance(runtime, Runtime):
        return runtime
    if isinstance(found, (list, tuple)) and found and all(map(isclass, found)):
        return Runtime(found, authenticates=False)
    raise RefusedError(f"{name} is no app of prefsync's, but a {type(found).__name__}; {_HINT}")


def _in_fastapi(app: Any) -> list[Runtime]:
    """Return what is behind the mounts of a FastAPI app, whose framework it has imported."""
    walk = getattr(sys.modules.get("fastapi.routing"), "iter_route_contexts", None)
    if walk is None or not hasattr(app, "routes"):
        return []
    found = (getattr(context.original_route, "prefsync_runtime", None) for context in walk(app.routes))
    return list({id(runtime): runtime for runtime in found if runtime is not None}.values())
