"""A host's app on in-memory parts, and the devices of its users."""

from __future__ import annotations

import secrets
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self

import anyio

from prefsync.adapters.memory import (
    MemoryCache,
    MemoryNotifier,
    MemoryRateLimiter,
    MemoryRepository,
    MemoryTickets,
)
from prefsync.errors import ConfigurationError
from prefsync.parts import Parts
from prefsync.ports import Rate
from prefsync.testing.clock import FakeClock
from prefsync.testing.devices.device import Device
from prefsync.testing.devices.messages import PATIENCE
from prefsync.testing.devices.mounts import mounted_in
from prefsync.testing.devices.network import Network
from prefsync.testing.tokens import TokenMint, hmac_sha256

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
    from types import TracebackType

    from prefsync.wiring import Runtime

__all__ = ["Stage"]

# A clock that stands still forgets no request: limits that are not tested must not be in the way.
_RATE: Final = Rate(1_000_000, 60)

# Each device has a stream, which under WSGI holds a thread: here one of its own.
_STREAMS: Final = 1_000

_LIFE: Final = 3_600

_SIGN_IN: Final = (
    "This app has an authentication of its own, so a device has to sign in: override the fixture prefsync_headers"
    " (or pass headers=) with a function from a user to the headers that requests of that user carry."
)


class Stage:
    """Runs a host's own app, as it is, on in-memory parts and a clock that stands still, until the context is left.

    The app is not changed for it and needs no factory: its preferences use other parts meanwhile, and what they had
    before afterwards. No server, no socket and no port is needed; for a FastAPI app the lifespan is run.

    Args:
        app: The FastAPI or Flask app.
        prefix: Which preferences are meant, where the app has several mounts.
        parts: Adapters to use; those left out are in memory. A repository on the host's own engine, say.
        clock: The time.
        headers: By which requests of a user are known, where the host has its own authentication; bearer tokens
            where left out.
        base_url: What the app is called.

    Attributes:
        clock: The time, which a test moves.
        network: What carries changes, and may lose them.
        runtime: What is behind the mount.

    Raises:
        ConfigurationError: No preferences are mounted in the app, or it is not clear which are meant.

    Example:
        ```python
        with Stage(app) as stage:
            phone, laptop = stage.devices("phone", "laptop")
            phone.patch("appearance", theme="dark")
            assert_synced(phone, laptop)
        ```
    """

    def __init__(
        self,
        app: Any,
        *,
        prefix: str | None = None,
        parts: Parts | None = None,
        clock: FakeClock | None = None,
        headers: Callable[[str], Mapping[str, str]] | None = None,
        base_url: str = "https://testserver",
    ) -> None:
        self.clock = clock or FakeClock()
        if headers is not None and not callable(headers):
            raise ConfigurationError(
                "headers (the fixture prefsync_headers) is a function of a user:"
                ' lambda user: {"Cookie": ...}, not the headers themselves'
            )
        self._mounted = mounted_in(app, prefix)
        self._app = self._mounted.application()
        self._parts = parts or Parts()
        self._headers = headers
        self._base_url = base_url
        self._secret = secrets.token_urlsafe(48)
        self._devices: list[Device] = []
        self._stack = ExitStack()
        self.runtime: Runtime = self._mounted.runtime
        self.network = Network(
            MemoryNotifier() if self._parts.notifier is None else self._parts.notifier, self.run, self._stands
        )

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._mounted.close()
            stack.enter_context(_remade(self.runtime, self._changes()))
            stack.enter_context(self._app)
            self.run(self._stands)
            stack.callback(self._part)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def device(
        self, user: str = "alice", name: str | None = None, *, tenant: str | None = None, online: bool = True
    ) -> Device:
        """Return a new device of a user.

        Args:
            user: Whose; the ``sub`` of its tokens.
            name: What it is called, in messages and to the app.
            tenant: The user's, where the settings name a claim for it.
            online: Whether it is told of changes from the start.

        Raises:
            AssertionError: The app refuses it; the message says why.
        """
        device = Device(
            self._app,
            base_url=self._base_url,
            prefix=self._mounted.prefix,
            name=name or f"device-{len(self._devices) + 1}",
            user=user,
            headers=lambda: self._headers_of(user, tenant),
        )
        self._devices.append(device)
        if not online:
            return device
        try:
            return device.go_online()
        except AssertionError as error:
            if self._headers is None and not self._mounted.authenticates:
                error.add_note(_SIGN_IN)
            raise

    def devices(self, *names: str, user: str = "alice", tenant: str | None = None) -> tuple[Device, ...]:
        """Return devices of one user, online, by their names."""
        return tuple(self.device(user, name, tenant=tenant) for name in names)

    def token(
        self,
        user: str = "alice",
        *,
        tenant: str | None = None,
        scopes: Iterable[str] | None = None,
        life: float = _LIFE,
        **claims: Any,
    ) -> str:
        """Return a token that the app takes, by the stage's clock.

        Args:
            user: ``sub``.
            tenant: The value of the tenant's claim, where the settings name one.
            scopes: Instead of those for reading and writing.
            life: Seconds.
            **claims: More of them, or others; ``...`` leaves one out.
        """
        settings, options = self.runtime.settings, self.runtime.api.options
        mint = TokenMint("HS256", hmac_sha256(self._secret), now=lambda: self.clock.now() / 1000)
        held = (options.read_scope, options.write_scope) if scopes is None else tuple(scopes)
        known: dict[str, Any] = {"org": ..., "iss": ..., "aud": ...}
        if settings.jwt_tenant_claim is not None:
            known[settings.jwt_tenant_claim] = tenant or ...
        wanted = {"iss": settings.jwt_issuer, "aud": settings.jwt_audience}
        known.update({name: value for name, value in wanted.items() if value is not None})
        now = self.clock.now() / 1000
        return mint.token(**{**known, "sub": user, "exp": int(now + life), "scope": " ".join(held), **claims})

    def reconcile(self) -> int:
        """Make good now what the network has lost: what the app does by itself every 30 s. Returns for how many users."""
        behind: int = self.run(self.runtime.hub.reconcile)
        return behind

    def run(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Run a coroutine where the app's preferences live: ``stage.run(stage.runtime.handle(subject).values)``."""
        return self._app.run(work)

    def _headers_of(self, user: str, tenant: str | None) -> Mapping[str, str]:
        if self._headers is not None:
            return self._headers(user)
        return {"Authorization": f"Bearer {self.token(user, tenant=tenant)}"}

    def _changes(self) -> dict[str, Any]:
        """Return with what the preferences are made anew."""
        given, settings, clock = self._parts, self.runtime.settings, self.clock
        verifier = given.verifier
        if verifier is None and self._mounted.authenticates:
            from prefsync.adapters.jwt import JwtVerifier  # the extra of whoever verifies tokens

            verifier = JwtVerifier(
                self._secret,
                algorithms=("HS256",),
                issuer=settings.jwt_issuer,
                audience=settings.jwt_audience,
                tenant_claim=settings.jwt_tenant_claim,
                clock=clock,
            )
        parts = Parts(
            repository=MemoryRepository() if given.repository is None else given.repository,
            cache=MemoryCache(settings.cache_ttl, clock=clock) if given.cache is None else given.cache,
            notifier=self.network,
            limiter=MemoryRateLimiter(_RATE, clock) if given.limiter is None else given.limiter,
            verifier=verifier,
            tickets=MemoryTickets(clock) if given.tickets is None else given.tickets,
            telemetry=given.telemetry,
            operation_limiters=given.operation_limiters,
        )
        local = replace(
            settings,
            redis_url=None,
            notifier_url=None,
            near_cache=0,  # on a clock that stands still it would believe itself for ever
            max_waiting=_STREAMS,
            rate_limit_reads=None,
            rate_limit_writes=None,
            rate_limit_streams=None,
        )
        return {"settings": local, "parts": parts, "clock": clock}

    async def _stands(self) -> None:
        """Return when announcements arrive, and nothing from before is to be made good any more."""
        with anyio.fail_after(PATIENCE):
            while not self.runtime.hub.has_caught_up:
                await anyio.sleep(0.001)

    def _part(self) -> None:
        """Let all devices go."""
        for device in self._devices:
            device.go_offline()


@contextmanager
def _remade(runtime: Runtime, changes: Mapping[str, Any]) -> Iterator[None]:
    """Let a runtime, which mounts hold on to, be another one for a while.

    Raises:
        RuntimeError: It is open: the app runs already.
    """
    if runtime.is_open:
        raise RuntimeError("the app runs already: let the stage start it, and close what else has")
    before = dict(vars(runtime))
    after = vars(runtime.remade(**changes))
    vars(runtime).update(after)
    try:
        yield
    finally:
        vars(runtime).clear()
        vars(runtime).update(before)
