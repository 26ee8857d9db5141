"""The client for programs that await."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar, Unpack, overload
from weakref import WeakSet

import anyio
import anyio.to_thread

from prefsync.client.core import ClientCore, checked_token
from prefsync.client.errors import ClientError, UnreachableError
from prefsync.client.following import Following
from prefsync.client.messages import AskToken, Cut, Failure, Open, Read, Send, Tell, Wait
from prefsync.client.network import Line, Network
from prefsync.client.targets import watch_position
from prefsync.client.values import Timing
from prefsync.models import OpenPreferences, Preferences

if TYPE_CHECKING:
    import httpx2

    from prefsync.client.messages import Step, Steps
    from prefsync.client.values import Change, Reset, State, Values, WriteOptions

__all__ = ["AsyncPreferencesClient", "AsyncToken", "AsyncWatch"]

P = TypeVar("P", bound=Preferences | OpenPreferences)
T = TypeVar("T")

AsyncToken: TypeAlias = str | Callable[[], str] | Callable[[], Awaitable[str]]


class AsyncPreferencesClient:
    """Reads, writes and follows one subject's preferences over HTTP, awaited, on asyncio.

    Nothing is opened before the first call. Calls may run concurrently.

    Args:
        url: Where the app has its mount, ``https://app.example.com/preferences``.
        token: A bearer token, or what gives one: a function or a coroutine function, asked before the first request and
            again, once for each call, when the server rejects what it gave. A function runs in a worker thread.
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
        token: AsyncToken,
        *,
        name: str | None = None,
        time_limit: float = 30.0,
        timing: Timing | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._core = ClientCore(url, name, time_limit, timing or Timing())
        self._token = _AsyncTokenSource(token)
        self._transport = transport
        self._opened: Network | None = None
        self._watches: WeakSet[AsyncWatch] = WeakSet()
        self._is_closed = False

    def __repr__(self) -> str:
        """Return the URL; never the token."""
        return f"{type(self).__name__}({self._core.url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End all watches and connections; calling it again does nothing."""
        self._is_closed = True
        for watch in list(self._watches):
            await watch.aclose()
        if self._opened is not None:
            await self._opened.aclose()

    @overload
    async def get(self, namespace: None = None, *, time_limit: float | None = None) -> Values: ...
    @overload
    async def get(self, namespace: str, *, time_limit: float | None = None) -> dict[str, Any]: ...
    @overload
    async def get(self, namespace: type[P], *, time_limit: float | None = None) -> P: ...
    async def get(self, namespace: Any = None, *, time_limit: float | None = None) -> Any:
        """Return effective values, no older than the newest that this client has seen.

        Args:
            namespace: A name, for a dict; a model, for an instance of it; nothing, for all namespaces.
            time_limit: Seconds; by default the client's.

        Raises:
            RefusedError: The server said no.
            UnreachableError: There was no answer in time.
            UnexpectedAnswerError: Something else than a prefsync server answered.
        """
        return (await self._run(self._core.read(namespace, time_limit))).values

    @overload
    async def read(self, namespace: None = None, *, time_limit: float | None = None) -> State[Values]: ...
    @overload
    async def read(self, namespace: str, *, time_limit: float | None = None) -> State[dict[str, Any]]: ...
    @overload
    async def read(self, namespace: type[P], *, time_limit: float | None = None) -> State[P]: ...
    async def read(self, namespace: Any = None, *, time_limit: float | None = None) -> State[Any]:
        """Do as :meth:`get`, and return the values with their revision and entity tag."""
        return await self._run(self._core.read(namespace, time_limit))

    async def schema(self, *, time_limit: float | None = None) -> dict[str, Any]:
        """Return the JSON Schema of all namespaces."""
        return await self._run(self._core.schema(time_limit))

    @overload
    async def set(
        self, namespace: str, values: Mapping[str, Any], **options: Unpack[WriteOptions]
    ) -> State[dict[str, Any]]: ...
    @overload
    async def set(
        self, namespace: type[P], values: P | Mapping[str, Any], **options: Unpack[WriteOptions]
    ) -> State[P]: ...
    async def set(self, namespace: Any, values: Any, **options: Unpack[WriteOptions]) -> State[Any]:
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
        return await self._run(self._core.write("PUT", namespace, values, **options))

    @overload
    async def patch(
        self, namespace: str, patch: Mapping[str, Any], **options: Unpack[WriteOptions]
    ) -> State[dict[str, Any]]: ...
    @overload
    async def patch(
        self, namespace: type[P], patch: P | Mapping[str, Any], **options: Unpack[WriteOptions]
    ) -> State[P]: ...
    async def patch(self, namespace: Any, patch: Any, **options: Unpack[WriteOptions]) -> State[Any]:
        """Merge a patch (RFC 7396) into a namespace; ``None`` takes a field back to its default.

        Arguments and errors are those of :meth:`set`.
        """
        return await self._run(self._core.write("PATCH", namespace, patch, **options))

    @overload
    async def reset(self, namespace: None = None, **options: Unpack[WriteOptions]) -> State[Values]: ...
    @overload
    async def reset(self, namespace: str, **options: Unpack[WriteOptions]) -> State[dict[str, Any]]: ...
    @overload
    async def reset(self, namespace: type[P], **options: Unpack[WriteOptions]) -> State[P]: ...
    async def reset(self, namespace: Any = None, **options: Unpack[WriteOptions]) -> State[Any]:
        """Take a namespace, or without one everything, back to its defaults; errors as in :meth:`set`."""
        return await self._run(self._core.write("DELETE", namespace, **options))

    async def set_all(
        self, values: Mapping[str, Mapping[str, Any]], **options: Unpack[WriteOptions]
    ) -> State[Values]:
        """Replace everything; what is left out goes back to its default. Errors as in :meth:`set`."""
        return await self._run(self._core.write("PUT", None, values, **options))

    async def patch_all(
        self, patch: Mapping[str, Mapping[str, Any] | None], **options: Unpack[WriteOptions]
    ) -> State[Values]:
        """Merge a patch over namespaces; ``None`` takes one back to its defaults. Errors as in :meth:`set`."""
        return await self._run(self._core.write("PATCH", None, patch, **options))

    def watch(
        self, since: int | None = None, *, schema: str | None = None, time_limit: float | None = None
    ) -> AsyncWatch:
        """Follow all changes of the subject, this client's own among them.

        Lost connections are made again, and the watch goes on from where it was; nothing is told twice. Use it as a
        context (``async with prefs.watch() as events``), so that it ends when you leave it.

        Args:
            since: A revision whose state you have, to be told what came after it; without, a ``Reset`` comes first.
            schema: The schema tag of that state, if you have it: other defaults are a ``Reset`` too.
            time_limit: Seconds after which the watch ends; by default it goes on until it is closed.
        """
        until = float("inf") if time_limit is None else self._core.until(time_limit)
        following = Following(self._core, watch_position(since), schema, until)
        watch = AsyncWatch(following.steps(), self._network(), self._token)
        self._watches.add(watch)
        return watch

    def _network(self) -> Network:
        if self._is_closed:
            raise RuntimeError("this client is closed")
        if self._opened is None:
            self._opened = Network(self._core.url, self._core.timing.connect, self._transport)
        return self._opened

    async def _run(self, steps: Steps[T]) -> T:
        network = self._network()
        result: Any = None
        try:
            while True:
                match steps.send(result):
                    case AskToken() as step:
                        result = await self._token.ask(step)
                    case Send() as step:
                        result = await network.send(step)
                    case Wait(seconds):
                        await anyio.sleep(seconds)
                        result = None
        except StopIteration as done:
            value: T = done.value
            return value
        finally:
            steps.close()


class AsyncWatch:
    """The events of one watch, ``Change`` and ``Reset``: an asynchronous iterator for one task, and a context.

    An iteration that is cancelled, by a time limit say, loses nothing: the next one joins again.
    """

    def __init__(self, steps: Steps[None], network: Network, token: _AsyncTokenSource) -> None:
        self._steps = steps
        self._line = Line(network)
        self._token = token
        self._result: Any = None
        self._scope: anyio.CancelScope | None = None
        self._is_closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change | Reset:
        """Return the next event, waiting for it."""
        if self._is_closed:
            raise StopAsyncIteration
        if self._scope is not None:
            raise RuntimeError("a watch is for one task at a time")
        try:
            with anyio.CancelScope() as self._scope:
                return await self._next()
        finally:
            self._scope = None
        raise StopAsyncIteration  # closed meanwhile

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the watch and its connection at once; whoever waits for an event is told that there are no more."""
        self._is_closed = True
        if self._scope is not None:
            self._scope.cancel()
        else:
            self._steps.close()
        await self._line.cut()

    async def _next(self) -> Change | Reset:
        try:
            while True:
                step = self._steps.send(self._result)
                self._result = None
                if isinstance(step, Tell):
                    return step.event
                self._result = Failure("interrupted")  # where this is cancelled, and called again
                self._result = await self._do(step)
        except StopIteration:
            await self._end()
            raise StopAsyncIteration from None
        except ClientError:
            await self._end()
            raise

    async def _end(self) -> None:
        self._is_closed = True
        await self._line.cut()

    async def _do(self, step: Step) -> Any:
        match step:
            case AskToken():
                return await self._token.ask(step)
            case Wait(seconds):
                await anyio.sleep(seconds)
                return None
            case Send() | Open() | Read() | Cut():
                return await self._line.do(step)


class _AsyncTokenSource:
    """Gives the token, and asks for another one once for all who find that it was rejected."""

    def __init__(self, token: AsyncToken) -> None:
        self._ask: Callable[[], str] | Callable[[], Awaitable[str]] | None = None
        self._token: str | None = None
        if callable(token):
            self._ask = token
        else:
            self._token = checked_token(token)
        self._lock: anyio.Lock | None = None

    async def ask(self, step: AskToken) -> str:
        if self._lock is None:
            self._lock = anyio.Lock()  # belongs to the loop that it is made on
        async with self._lock:
            if self._ask is not None and (self._token is None or self._token == step.rejected):
                with anyio.move_on_after(step.limit) as scope:
                    self._token = checked_token(await _called(self._ask))
                if scope.cancelled_caught:
                    raise UnreachableError("nobody gave a token within the time limit")
            return self._token or ""


async def _called(ask: Callable[[], Any]) -> Any:
    if inspect.iscoroutinefunction(ask) or inspect.iscoroutinefunction(getattr(ask, "__call__", None)):  # noqa: B004
        return await ask()
    token = await anyio.to_thread.run_sync(ask, abandon_on_cancel=True)
    return await token if inspect.isawaitable(token) else token
