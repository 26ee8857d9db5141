"""The typed handle for code that blocks."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from prefsync.schema import OpenPreferences, Preferences

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from prefsync.document import Subject
    from prefsync.handle import PreferencesHandle

__all__ = ["BlockingPreferencesHandle"]

P = TypeVar("P", bound=Preferences | OpenPreferences)
T = TypeVar("T")


class _Handles(Protocol):
    """What has everybody's handles: a runtime, or a transaction of the host's."""

    def handle(self, subject: Subject) -> PreferencesHandle: ...


class _Caller(Protocol):
    """Handles, and the way to where their coroutines run."""

    @property
    def runtime(self) -> _Handles: ...

    def call(self, work: Coroutine[Any, Any, T]) -> T: ...


class BlockingPreferencesHandle:
    """One subject's preferences, read and written as the host's own models: ``PreferencesHandle``, without ``await``.

    Every call ends within seconds. It raises ``ConfigurationError`` in a thread with a running event loop.

    Args:
        runtime: What is behind it.
        subject: Whose they are.
    """

    def __init__(self, runtime: _Caller, subject: Subject) -> None:
        self._runtime = runtime
        self.subject = subject

    def get(self, model: type[P]) -> P:
        """Return a namespace's effective values.

        Raises:
            UndeclaredNamespaceError: The model was not declared.
            UnavailableError: Neither cache nor database can answer.
        """
        return self._runtime.call(self._handle.get(model))

    @contextmanager
    def edit(self, model: type[P]) -> Iterator[P]:
        """Change a namespace in place: ``with prefs.edit(Appearance) as mine: mine.theme = "dark"``.

        When the block ends, the fields that were assigned or changed are written and no others, so that edits of
        different fields never undo one another. When it raises, nothing is written.

        Raises:
            InvalidPreferencesError: The values break the model's rules; nothing was written.
            UnavailableError: The database is out of reach.
        """
        edit = self._handle.edit(model)
        values = self._runtime.call(edit.__aenter__())
        try:
            yield values
        except BaseException:
            self._runtime.call(edit.__aexit__(*sys.exc_info()))
            raise
        self._runtime.call(edit.__aexit__(None, None, None))

    def update(self, model: type[P], **fields: Any) -> P:
        """Set some fields of a namespace and return it as it is then.

        Args:
            model: The namespace's model.
            **fields: New values by field.

        Raises:
            InvalidPreferencesError: A field is not declared, or a value breaks the model's rules; nothing was written.
            UnavailableError: The database is out of reach.
        """
        return self._runtime.call(self._handle.update(model, **fields))

    def reset(self, model: type[P], *fields: str) -> P:
        """Take fields, or without any the whole namespace, back to their defaults.

        Raises:
            InvalidPreferencesError: A field is not declared.
            UnavailableError: The database is out of reach.
        """
        return self._runtime.call(self._handle.reset(model, *fields))

    @property
    def _handle(self) -> PreferencesHandle:
        return self._runtime.runtime.handle(self.subject)
