"""The pytest plugin: two devices of a user against the host's own app, by naming a fixture.

pytest loads it wherever prefsync is installed (entry point ``pytest11``), so it imports nothing before a fixture of its
is asked for. Each fixture may be overridden in a ``conftest.py``, as any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    import pytest
except ImportError as error:
    from prefsync.errors import MissingExtraError

    raise MissingExtraError("the pytest plugin (prefsync_pytest)", "testing") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prefsync import Parts
    from prefsync.testing import Device, FakeClock, Network, Stage

__all__ = [
    "prefsync_app",
    "prefsync_clock",
    "prefsync_device",
    "prefsync_devices",
    "prefsync_headers",
    "prefsync_network",
    "prefsync_parts",
    "prefsync_prefix",
    "prefsync_stage",
    "prefsync_token",
]


@pytest.fixture
def prefsync_app(request: pytest.FixtureRequest) -> Any:
    """The app under test, FastAPI's or Flask's: the fixture ``app`` where there is one; else override this."""
    try:
        return request.getfixturevalue("app")
    except pytest.FixtureLookupError:
        pytest.fail(
            "prefsync's fixtures need your app. Define in conftest.py:\n\n"
            "    @pytest.fixture\n"
            "    def prefsync_app():\n"
            "        from myapp import app\n"
            "        return app\n",
            pytrace=False,
        )


@pytest.fixture
def prefsync_prefix() -> str | None:
    """Where the preferences are mounted; override it where the app has several mounts."""
    return None


@pytest.fixture
def prefsync_parts() -> Parts:
    """Adapters to use; those left out, here all, are in memory. Override it for a repository of your own, say."""
    from prefsync import Parts

    return Parts()


@pytest.fixture
def prefsync_headers() -> Callable[[str], Mapping[str, str]] | None:
    """By which headers a user's requests are known. Override it where your app has its own authentication."""
    return None


@pytest.fixture
def prefsync_clock() -> FakeClock:
    """The time by which revisions are made and tokens expire: it stands still until ``advance`` is called."""
    from prefsync.testing import FakeClock

    return FakeClock()


@pytest.fixture
def prefsync_stage(
    prefsync_app: Any,
    prefsync_prefix: str | None,
    prefsync_parts: Parts,
    prefsync_headers: Callable[[str], Mapping[str, str]] | None,
    prefsync_clock: FakeClock,
) -> Iterator[Stage]:
    """The app, running on these parts, and all that a test may do to it."""
    from prefsync.testing import Stage

    with Stage(
        prefsync_app,
        prefix=prefsync_prefix,
        parts=prefsync_parts,
        clock=prefsync_clock,
        headers=prefsync_headers,
    ) as stage:
        yield stage


@pytest.fixture
def prefsync_network(prefsync_stage: Stage) -> Network:
    """What carries changes, and may lose, repeat and reorder them, or be cut."""
    return prefsync_stage.network


@pytest.fixture
def prefsync_token(prefsync_stage: Stage) -> Callable[..., str]:
    """A function that makes a token which the app takes: see ``Stage.token``."""
    return prefsync_stage.token


@pytest.fixture
def prefsync_device(prefsync_stage: Stage) -> Callable[..., Device]:
    """A function that makes a device of a user: see ``Stage.device``."""
    return prefsync_stage.device


@pytest.fixture
def prefsync_devices(prefsync_stage: Stage) -> tuple[Device, Device]:
    """Two devices of one user, ``alice``: a phone and a laptop."""
    phone, laptop = prefsync_stage.devices("phone", "laptop")
    return phone, laptop
