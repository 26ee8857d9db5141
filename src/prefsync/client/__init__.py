"""A client of the wire protocol in Python (extra ``client``): for other services, scripts and tests.

``AsyncPreferencesClient`` is awaited, ``PreferencesClient`` blocks; beyond that they are the same. Neither knows anything
of the server but docs/protocol.md.

Example:
    ```python
    from prefsync.client import PreferencesClient

    with PreferencesClient("https://app.example.com/preferences", token) as prefs:
        prefs.patch("appearance", {"theme": "dark"})
        for event in prefs.watch():
            print(event)
    ```
"""

from importlib.util import find_spec

from prefsync.errors import MissingExtraError

if find_spec("httpx2") is None:
    raise MissingExtraError("the Python client (prefsync.client)", "client")

from prefsync.client.asynchronous import AsyncPreferencesClient, AsyncWatch
from prefsync.client.blocking import PreferencesClient, Watch
from prefsync.client.errors import (
    ClientError,
    ConflictError,
    RefusedError,
    UnexpectedAnswerError,
    UnreachableError,
)
from prefsync.client.values import Change, Reset, State, Timing, WriteOptions
from prefsync.errors import FieldError

__all__ = [
    "AsyncPreferencesClient",
    "AsyncWatch",
    "Change",
    "ClientError",
    "ConflictError",
    "FieldError",
    "PreferencesClient",
    "RefusedError",
    "Reset",
    "State",
    "Timing",
    "UnexpectedAnswerError",
    "UnreachableError",
    "Watch",
    "WriteOptions",
]
