"""The client for programs that wait."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, TypeVar, Unpack, overload
from weakref import WeakSet, finalize

from prefsync.client.core import ClientCore, checked_token
from prefsync.client.errors import ClientError, UnreachableError
from prefsync.client.following import Following
from prefsync.client.messages import AskToken, Cut, Failure, Open, Read, Send, Tell, Wait
from prefsync.client.network import Line, Network
from prefsync.client.targets import watch_position
from prefsync.client.threads import NetworkThread
from prefsync.client.values import Timing
from prefsync.errors import ConfigurationError
from prefsync.models import OpenPreferences, Preferences

if TYPE_CHECKING:
    from concurrent.futures import Future

    import httpx2

    from prefsync.client.messages import Step, Steps
    from prefsync.client.values import Change, Reset, State, Values, WriteOptions

__all__ = ["PreferencesClient", "Token", "Watch"]

P = TypeVar("P", bound=Preferences | OpenPreferences)
T = TypeVar("T")

# Seconds: an end of a connection that is given up takes less.
_GRACE: Final = 5.0

Token: TypeAlias = str | Callable[[], str]


class PreferencesClient:
    """Reads, writes and follows one subject's preferences over HTTP; calls block, from as many threads as you like.

    Connections live on one thread of the client's own, started by the first call. A forked process makes its own.

    Args:
        url: Where the app has its mount, ``https://app.example.com/preferences``.
        token: A bearer token, or a function that gives one: asked before the first request and again, once for each
            call, when the server rejects what it gave.
        name: A name for this client, which comes back as ``origin`` of its changes.
        time_limit: Seconds that a call may take in all, repetitions included.
        timing: How long to wait for what.
        transport: How connections are made, for proxies, certificates or an app in this process; closed with the client.

    Raises:
        ConfigurationError: The URL, the name or the token cannot be one.
    """

    def __init__(
        self,
        url: str,
        token: Token,
        *,
        name: str | None = None,
        time_limit: float = 30.0,
        timing: Timing | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._core = ClientCore(url, name, time_limit, timing or Timing())
        self._token = _TokenSource(token)
        connect = partial(Network, self._core.url, self._core.timing.connect, transport)
        self._thread = NetworkThread(connect, self._token.renew_lock, self._core.seen.renew_lock)
        self._watches: WeakSet[Watch] = WeakSet()
        self._finalizer = finalize(self, self._thread.close)

    def __repr__(self) -> str:
        """Return the URL; never the token."""
        return f"{type(self).__name__}({self._core.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all watches and connections, whatever thread waits for them; calling it again does nothing."""
        for watch in list(self._watches):
            watch.close()
        self._finalizer()

    @overload
    def get(self, namespace: None = None, *, time_limit: float | None = None) -> Values: ...
    @overload
    def get(self, namespace: str, *, time_limit: float | None = None) -> dict[str, Any]: ...
    @overload
    def get(self, namespace: type[P], *, time_limit: float | None = None) -> P: ...
    def get(self, namespace: Any = None, *, time_limit: float | None = None) -> Any:
        """Return effective values, no older than the newest that this client has seen.

        Args:
            namespace: A name, for a dict; a model, for an instance of it; nothing, for all namespaces.
            time_limit: Seconds; by default the client's.

        Raises:
            RefusedError: The server said no.
            UnreachableError: There was no answer in time.
            UnexpectedAnswerError: Something else than a prefsync server answered.
        """
        return self._run(self._core.read(namespace, time_limit)).values

    @overload
    def read(self, namespace: None = None, *, time_limit: float | None = None) -> State[Values]: ...
    @overload
    def read(self, namespace: str, *, time_limit: float | None = None) -> State[dict[str, Any]]: ...
    @overload
    def read(self, namespace: type[P], *, time_limit: float | None = None) -> State[P]: ...
    def read(self, namespace: Any = None, *, time_limit: float | None = None) -> State[Any]:
        """Do as :meth:`get`, and return the values with their revision and entity tag."""
        return self._run(self._core.read(namespace, time_limit))

    def schema(self, *, time_limit: float | None = None) -> dict[str, Any]:
        """Return the JSON Schema of all namespaces."""
        return self._run(self._core.schema(time_limit))

    @overload
    def set(
        self, namespace: str, values: Mapping[str, Any], **options: Unpack[WriteOptions]
    ) -> State[dict[str, Any]]: ...
    @overload
    def set(
        self, namespace: type[P], values: P | Mapping[str, Any], **options: Unpack[WriteOptions]
    ) -> State[P]: ...
    def set(self, namespace: Any, values: Any, **options: Unpack[WriteOptions]) -> State[Any]:
        """Replace a namespace; fields left out go back to their defaults.

        Args:
            namespace: A name or a model.
            values: JSON values by field, or an instance of the model, of which the fields that were set are sent.
            **options: ``if_match``, ``idempotency_key`` and ``time_limit``, see :class:`WriteOptions`.

        Returns:
            What this write left, not a later state.

        Raises:
            ConflictError: The state is not that of ``if_match``; nothing was written.
            RefusedError: The server said no; nothing was written.
            UnreachableError: There was no answer in time; whether it was written is not known.
            UnexpectedAnswerError: Something else than a prefsync server answered.
        """
        return self._run(self._core.write("PUT", namespace, values, **options))

    @overload
    def patch(
        self, namespace: str, patch: Mapping[str, Any], **options: Unpack[WriteOptions]
    ) -> State[dict[str, Any]]: ...
    @overload
    def patch(
        self, namespace: type[P], patch: P | Mapping[str, Any], **options: Unpack[WriteOptions]
    ) -> State[P]: ...
    def patch(self, namespace: Any, patch: Any, **options: Unpack[WriteOptions]) -> State[Any]:
        """Merge a patch (RFC 7396) into a namespace; ``None`` takes a field back to its default.

        Arguments and errors are those of :meth:`set`.
        """
        return self._run(self._core.write("PATCH", namespace, patch, **options))

    @overload
    def reset(self, namespace: None = None, **options: Unpack[WriteOptions]) -> State[Values]: ...
    @overload
    def reset(self, namespace: str, **options: Unpack[WriteOptions]) -> State[dict[str, Any]]: ...
    @overload
    def reset(self, namespace: type[P], **options: Unpack[WriteOptions]) -> State[P]: ...
    def reset(self, namespace: Any = None, **options: Unpack[WriteOptions]) -> State[Any]:
        """Take a namespace, or without one everything, back to its defaults; errors as in :meth:`set`."""
        return self._run(self._core.write("DELETE", namespace, **options))

    def set_all(
        self, values: Mapping[str, Mapping[str, Any]], **options: Unpack[WriteOptions]
    ) -> State[Values]:
        """Replace everything; what is left out goes back to its default. Errors as in :meth:`set`."""
        return self._run(self._core.write("PUT", None, values, **options))

    def patch_all(
        self, patch: Mapping[str, Mapping[str, Any] | None], **options: Unpack[WriteOptions]
    ) -> State[Values]:
        """Merge a patch over namespaces; ``None`` takes one back to its defaults. Errors as in :meth:`set`."""
        return self._run(self._core.write("PATCH", None, patch, **options))

    def watch(
        self, since: int | None = None, *, schema: str | None = None, time_limit: float | None = None
    ) -> Watch:
        """Follow all changes of the subject, this client's own among them.

        Lost connections are made again, and the watch goes on from where it was; nothing is told twice. Use it as a
        context (``with prefs.watch() as events``), so that it ends when you leave it.

        Args:
            since: A revision whose state you have, to be told what came after it; without, a ``Reset`` comes first.
            schema: The schema tag of that state, if you have it: other defaults are a ``Reset`` too.
            time_limit: Seconds after which the watch ends; by default it goes on until it is closed.
        """
        until = float("inf") if time_limit is None else self._core.until(time_limit)
        following = Following(self._core, watch_position(since), schema, until)
        watch = Watch(self, following.steps(), self._thread, self._token)
        self._watches.add(watch)
        return watch

    def _run(self, steps: Steps[T]) -> T:
        result: Any = None
        pause = threading.Event()
        try:
            while True:
                match steps.send(result):
                    case AskToken() as step:
                        result = self._token.ask(step)
                    case Send() as step:
                        result = _result_of(self._thread.submit(partial(Network.send, step=step)), step.limit)
                    case Wait(seconds):
                        pause.wait(seconds)
                        result = None
        except StopIteration as done:
            value: T = done.value
            return value
        except CancelledError:
            raise RuntimeError("this client was closed") from None
        finally:
            steps.close()


class Watch:
    """The events of one watch, ``Change`` and ``Reset``: an iterator, and a context.

    One thread iterates; any may close.
    """

    def __init__(
        self, client: PreferencesClient, steps: Steps[None], thread: NetworkThread, token: _TokenSource
    ) -> None:
        self._client = client  # which would end its connections where nobody else holds it
        self._steps = steps
        self._thread = thread
        self._token = token
        self._line: Line | None = None
        self._result: Any = None
        self._turn = threading.Lock()
        self._closing = threading.Event()
        self._waited_for: Future[Any] | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Change | Reset:
        """Return the next event, waiting for it."""
        with self._turn:
            try:
                while not self._closing.is_set():
                    step = self._steps.send(self._result)
                    self._result = None
                    if isinstance(step, Tell):
                        return step.event
                    self._result = Failure("interrupted")  # by a signal, say, and called again
                    self._result = self._do(step)
            except (StopIteration, CancelledError):
                self.close()
                raise StopIteration from None
            except ClientError:
                self.close()
                raise
            raise StopIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the watch and its connection at once, from any thread; the iterating one is told that there is no more."""
        self._closing.set()
        if (waited_for := self._waited_for) is not None:
            waited_for.cancel()
        if self._line is not None:
            with suppress(RuntimeError):  # the client is closed, and its connections with it
                self._thread.submit(self._cut)

    def _do(self, step: Step) -> Any:
        match step:
            case AskToken():
                return self._token.ask(step)
            case Wait(seconds):
                return self._closing.wait(seconds)
            case Send() | Open() | Read() | Cut():
                try:
                    self._waited_for = self._thread.submit(partial(self._on_line, step=step))
                except RuntimeError:
                    if self._closing.is_set():  # together with the client
                        raise CancelledError from None
                    raise
                if self._closing.is_set():  # just now, and closing did not see it
                    self._waited_for.cancel()
                return _result_of(self._waited_for, 0.0 if isinstance(step, Cut) else step.limit)

    async def _on_line(self, network: Network, step: Send | Open | Read | Cut) -> Any:
        if self._line is None or self._line.network is not network:
            self._line = Line(network)
        return await self._line.do(step)

    async def _cut(self, network: Network) -> None:
        if self._line is not None and self._line.network is network:
            await self._line.cut()


class _TokenSource:
    """Gives the token, and asks for another one once for all threads that find that it was rejected."""

    def __init__(self, token: Token) -> None:
        self._ask: Callable[[], str] | None = None
        self._token: str | None = None
        if inspect.iscoroutinefunction(token):
            raise ConfigurationError("a coroutine function gives tokens to AsyncPreferencesClient only")
        if callable(token):
            self._ask = token
        else:
            self._token = checked_token(token)
        self._lock = threading.Lock()

    def ask(self, step: AskToken) -> str:
        if not self._lock.acquire(timeout=min(step.limit, threading.TIMEOUT_MAX)):
            raise UnreachableError("nobody gave a token within the time limit")
        try:
            if self._ask is not None and (self._token is None or self._token == step.rejected):
                self._token = checked_token(_called(self._ask))
            return self._token or ""
        finally:
            self._lock.release()

    def renew_lock(self) -> None:
        """Have a lock that nobody holds: after a fork, whoever held it is gone."""
        self._lock = threading.Lock()


def _called(ask: Callable[[], str]) -> str:
    try:
        return ask()
    except StopIteration as error:  # which would end the steps of the call
        raise RuntimeError("the token function has no more tokens") from error


def _result_of(future: Future[T], limit: float) -> T | Failure:
    """Wait for a step, which has a limit of its own; and not much longer, should a transport hold its loop up."""
    try:
        return future.result(min(limit + _GRACE, threading.TIMEOUT_MAX))
    except TimeoutError:
        future.cancel()
        return Failure("the transport does not keep to its time limit", is_silence=True)
    except BaseException:
        future.cancel()  # whoever is interrupted by a signal does not wait for it any more
        raise
