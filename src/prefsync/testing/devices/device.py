"""A device of a user: it writes as a client does, and is told of changes over a stream of events."""

from __future__ import annotations

import json
import re
import threading
import time
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote

from prefsync.testing.devices.differing import differences
from prefsync.testing.devices.events import EventReader
from prefsync.testing.devices.messages import PATIENCE, Reply, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prefsync.testing.devices.events import Event
    from prefsync.testing.devices.messages import Application, Subscription

__all__ = ["Device"]

# Seconds after which a device that waits asks the app again what there is: somebody else may have written meanwhile.
_ASK_AGAIN: Final = 0.5

_OK: Final = 200

_FORBIDDEN: Final = re.compile(r"[^A-Za-z0-9._-]")


class Device:
    """One device of a user. Made by :meth:`Stage.device`; safe to use from several threads.

    What it shows (:attr:`values`) is what a client would show: what it was told, and its own writes once they are
    acknowledged.

    Attributes:
        name: What it is called.
        client: What it calls itself to the app (``Prefsync-Client``): the name, with hyphens for what may not be in it.
        user: Whose it is.
        changes: What it was told, oldest first, as protocol.md section 2 shows changes.
        resets: How often everything it has was replaced.
    """

    def __init__(
        self,
        app: Application,
        *,
        base_url: str,
        prefix: str,
        name: str,
        user: str,
        headers: Callable[[], Mapping[str, str]],
    ) -> None:
        self.name = name
        self.client = _FORBIDDEN.sub("-", name)[:64]
        self.user = user
        self.changes: list[dict[str, Any]] = []
        self.resets = 0
        self._app = app
        self._base_url = base_url.rstrip("/")
        self._prefix = prefix
        self._headers = headers
        self._news = threading.Condition()
        self._revision: int | None = None
        self._schema: str | None = None
        self._values: dict[str, dict[str, Any]] = {}
        self._own: dict[str, tuple[int, dict[str, Any]]] = {}
        self._stream: _Stream | None = None
        self._subscription: Subscription | None = None

    def __repr__(self) -> str:
        return f"<Device {self.name!r} of {self.user!r} at revision {self._revision}>"

    # --- What it shows -----------------------------------------------------------------------------------------------

    @property
    def revision(self) -> int | None:
        """The newest revision that it was told of; ``None`` before it was ever online."""
        return self._revision

    @property
    def values(self) -> dict[str, dict[str, Any]]:
        """What it shows, by namespace and field: a copy."""
        with self._news:
            shown = {**self._values, **{name: values for name, (_, values) in self._own.items()}}
            return deepcopy(shown)

    def __getitem__(self, namespace: str) -> dict[str, Any]:
        """Return what it shows of a namespace.

        Raises:
            KeyError: There is no such namespace, or it was never online.
        """
        return self.values[namespace]

    # --- What it does ------------------------------------------------------------------------------------------------

    def patch(self, namespace: str, values: Mapping[str, Any] | None = None, /, **fields: Any) -> int:
        """Set some fields of a namespace (``None`` takes one back to its default), and return the revision.

        Raises:
            AssertionError: The app refused; the message says why. See :meth:`request` for a refusal that is meant.
        """
        return self._write("PATCH", namespace, {**(values or {}), **fields})

    def put(self, namespace: str, values: Mapping[str, Any] | None = None, /, **fields: Any) -> int:
        """Replace a namespace, and return the revision.

        Raises:
            AssertionError: The app refused; the message says why.
        """
        return self._write("PUT", namespace, {**(values or {}), **fields})

    def delete(self, namespace: str) -> int:
        """Take a namespace back to its defaults, and return the revision.

        Raises:
            AssertionError: The app refused; the message says why.
        """
        return self._write("DELETE", namespace, None)

    def read(self) -> tuple[int, dict[str, dict[str, Any]]]:
        """Ask the app for the subject's newest revision and all values; what the device shows stays as it is.

        Raises:
            AssertionError: The app refused; the message says why.
        """
        document = self.request("GET", self._prefix).ok()
        return document["revision"], document["values"]

    def request(
        self, method: str, path: str, *, json: Any = ..., headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send any request to the app, as this device's user: to a view of the host's own say.

        Args:
            method: The method.
            path: Of the app, with its query: ``/dashboard``.
            json: The body.
            headers: More of them.
        """
        body = b"" if json is ... else _encoded(json)
        sent = {"Prefsync-Client": self.client, **self._headers(), **(headers or {})}
        if body:
            sent.setdefault("Content-Type", "application/json")
        return self._app.request(Request(method, self._base_url + path, sent, body))

    def _write(self, method: str, namespace: str, values: Any) -> int:
        path = f"{self._prefix}/{quote(namespace)}"
        reply = self.request(method, path, **({} if values is None else {"json": values}))
        written = reply.ok()
        revision = int(reply.headers["prefsync-revision"])
        with self._news:
            if self._revision is None or self._revision < revision:
                self._own[namespace] = (revision, written)
        return revision

    # --- Being told --------------------------------------------------------------------------------------------------

    @property
    def is_online(self) -> bool:
        """Whether its stream is open."""
        with self._news:
            return self._stream is not None and self._stream.is_open

    def go_online(self) -> Self:
        """Open the stream, going on from what the device has, and return when it stands.

        Raises:
            AssertionError: The app refused; the message says why.
        """
        if self.is_online:
            return self
        self.go_offline()
        query = ""
        if self._revision is not None:
            query = f"?since={self._revision}&schema={quote(self._schema or '')}"
        request = Request(
            "GET",
            f"{self._base_url}{self._prefix}/events{query}",
            {"Accept": "text/event-stream", "Prefsync-Client": self.client, **self._headers()},
        )
        self._stream = stream = _Stream(self)
        self._subscription = self._app.listen(request, stream)
        self._wait(lambda: stream.has_begun, "the stream did not begin")
        if stream.error is not None:
            raise stream.error
        if stream.head is None or stream.head.status != _OK:
            self.go_offline()
            reply = self.request("GET", f"{self._prefix}/events{query}")  # the same again, for its body
            reply.ok()
            raise AssertionError(f"the stream of {self.name} ended at once")
        if self._revision is None:
            self._wait(lambda: self._revision is not None, "the stream did not begin with the state")
        return self

    def go_offline(self) -> None:
        """Close the stream; what the device shows stays as it is."""
        subscription, self._subscription, self._stream = self._subscription, None, None
        if subscription is not None:
            subscription.close()

    def settled(self, *, within: float = PATIENCE) -> Self:
        """Return when the device shows what the app has: all writes that were acknowledged before the call.

        Args:
            within: Seconds after which it counts as not told. A bound and no pause: it returns as soon as it is so.

        Raises:
            AssertionError: It was not told in time, or is not online; the message names what differs.
        """
        __tracebackhide__ = True  # pytest then shows the test's line
        until = time.monotonic() + within
        while True:
            revision, values = self.read()
            now = time.monotonic()
            has_it = self._waited(partial(self._is_at, revision), min(_ASK_AGAIN, until - now))
            if has_it and self.values == values:
                return self
            lacking = differences(self.values, values, f"on {self.name}", "in the app")
            if not self.is_online:
                raise AssertionError(f"{self._story()}, so it is not told of changes{lacking}")
            if has_it:
                again, _ = self.read()
                if again == revision:
                    raise AssertionError(
                        f"{self.name} has revision {revision} and shows something else{lacking}"
                    )
            elif now >= until:
                raise AssertionError(
                    f"{self.name} was not told of revision {revision} within {within:g} s:"
                    f" it is at {self._revision}{lacking}"
                )

    def wait_until(self, condition: Callable[[Device], object], *, within: float = PATIENCE) -> Self:
        """Return when a condition of the device's is true; it is asked each time that the device is told something.

        Args:
            condition: ``lambda device: device["appearance"]["theme"] == "dark"``.
            within: Seconds; a bound and no pause.

        Raises:
            AssertionError: It did not become true in time.
        """
        self._wait(
            lambda: condition(self), f"what was waited for did not come: it shows {self.values}", within
        )
        return self

    def _wait(self, condition: Callable[[], object], complaint: str, within: float = PATIENCE) -> None:
        if not self._waited(condition, within):
            raise AssertionError(f"{self.name}: {complaint}, within {within:g} s ({self._story()})")

    def _waited(self, condition: Callable[[], object], within: float) -> bool:
        with self._news:
            return bool(self._news.wait_for(condition, max(0.0, within)))

    def _is_at(self, revision: int) -> bool:
        return self._revision == revision

    def _story(self) -> str:
        """Say in words how its stream stands."""
        stream = self._stream
        if stream is None:
            return f"{self.name} is offline"
        if stream.is_open:
            return f"{self.name} is online"
        reason = (
            f"by an error in the app: {stream.error!r}"
            if stream.error
            else stream.farewell or "without a word"
        )
        return f"the stream of {self.name} ended ({reason})"

    def _take(self, event: Event) -> None:
        """Do what a client does with an event; called with the lock held."""
        message: dict[str, Any] = json.loads(event.data)
        if event.name == "reset":
            self._values, self._schema = message["values"], message["schema"]
            self._own.clear()
            self.resets += 1
        else:
            if message["previous"] != self._revision:
                raise AssertionError(
                    f"{self.name} is at {self._revision} and was told of a change from {message['previous']}"
                )
            for namespace, fields in message["changed"].items():
                self._values.setdefault(namespace, {}).update(fields)
            for namespace, names in message["removed"].items():
                for name in names:
                    self._values[namespace].pop(name, None)
            self.changes.append(message)
        self._revision = message["revision"]
        self._own = {name: own for name, own in self._own.items() if own[0] > message["revision"]}


class _Stream:
    """Takes what comes over a device's stream, in a thread of the app's."""

    def __init__(self, device: Device) -> None:
        self.head: Reply | None = None
        self.farewell: str | None = None
        self.error: BaseException | None = None
        self.has_begun = False
        self.is_open = False
        self._device = device
        self._events = EventReader()

    def started(self, reply: Reply) -> None:
        with self._device._news:  # noqa: SLF001  # a part of the device
            self.head, self.has_begun = reply, True
            self.is_open = reply.status == _OK
            self._device._news.notify_all()  # noqa: SLF001

    def received(self, chunk: bytes) -> None:
        if not self.is_open:
            return
        with self._device._news:  # noqa: SLF001
            for event in self._events.feed(chunk):
                if event.name == "bye":
                    self.farewell = json.loads(event.data)["reason"]
                elif self._device._stream is self:  # noqa: SLF001  # else it has gone offline since
                    self._device._take(event)  # noqa: SLF001
            self._device._news.notify_all()  # noqa: SLF001

    def ended(self, error: BaseException | None) -> None:
        with self._device._news:  # noqa: SLF001
            self.is_open, self.has_begun, self.error = False, True, error
            self._device._news.notify_all()  # noqa: SLF001


def _encoded(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False).encode()
