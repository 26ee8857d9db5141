"""A host that is set up wrongly does not start, and is told in one line what to change."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from pydantic import Field

from prefsync import ConfigurationError, OpenPreferences, Preferences, Settings
from prefsync.schema import RESERVED_NAMES
from prefsync.testing.mount import KEY
from prefsync_fastapi import PrefSync
from tests.http.conftest import EXAMPLES, MODELS, ROOT
from tests.http.hosts import app_with, memory_mount, running
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = pytest.mark.anyio

GOOD = {"PREFSYNC_JWT_KEY": KEY, "PREFSYNC_DATABASE_URL": "sqlite:///:memory:"}


def refusal(settings: Mapping[str, str]) -> str:
    """Return what a host is told that makes a mount with these settings."""
    with pytest.raises(ConfigurationError) as caught:
        PrefSync(MODELS, settings=Settings.from_environment(settings))
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("PREFSYNC_JWT_KYE", "PREFSYNC_JWT_KEY"),
        ("PREFSYNC_RATE_LIMITS", "PREFSYNC_RATE_LIMIT"),
        ("PREFSYNC_DATABSE_URL", "PREFSYNC_DATABASE_URL"),
        ("PREFSYNC_jwt_key", "PREFSYNC_JWT_KEY"),
        ("PREFSYNC_SOMETHING_ELSE_ENTIRELY", "PREFSYNC_DATABASE_URL"),
    ],
)
def test_a_setting_that_there_is_not(name: str, suggestion: str) -> None:
    """It is named, with the one that was meant, or with all."""
    message = refusal({**GOOD, name: "x"})
    assert name in message
    assert suggestion in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PREFSYNC_DATABASE_URL", "nonsense"),
        ("PREFSYNC_DATABASE_URL", "oracle://scott:tiger-secret@db/x"),
        ("PREFSYNC_DATABASE_URL", "redis://localhost"),
        ("PREFSYNC_REDIS_URL", "nonsense"),
        ("PREFSYNC_REDIS_URL", "http://user:tiger-secret@localhost"),
        ("PREFSYNC_REDIS_URL", "redis://localhost:port"),
        ("PREFSYNC_CACHE_TTL", "0"),
        ("PREFSYNC_CACHE_TTL", "-5"),
        ("PREFSYNC_CACHE_TTL", "long"),
        ("PREFSYNC_CACHE_TTL", "nan"),
        ("PREFSYNC_RATE_LIMIT", "often"),
        ("PREFSYNC_RATE_LIMIT", "0/minute"),
        ("PREFSYNC_RATE_LIMIT", "100"),
        ("PREFSYNC_RATE_LIMIT", "-1/minute"),
        ("PREFSYNC_JWT_KEY", ""),
        ("PREFSYNC_JWT_KEY", "tiger-secret"),
        ("PREFSYNC_JWT_KEY", "a" * 64),
        ("PREFSYNC_JWT_", "-----BEGIN PUBLIC KEY-----\nnonsense\n-----END PUBLIC KEY-----"),
        ("PREFSYNC_JWT_ALGORITHMS", "none"),
        ("PREFSYNC_JWT_ALGORITHMS", "HS257"),
        ("PREFSYNC_JWT_ALGORITHMS", "HS256,RS256"),
        ("PREFSYNC_JWT_LEEWAY", "61"),
        ("PREFSYNC_JWT_LEEWAY", "-1"),
        ("PREFSYNC_JWT_LEEWAY", "1.5"),
        ("PREFSYNC_POOL_SIZE", "0"),
        ("PREFSYNC_POOL_SIZE", "many"),
        ("PREFSYNC_NEAR_CACHE", "much"),
    ],
)
def test_a_setting_that_cannot_be_used(name: str, value: str) -> None:
    """The line names the variable to change, and repeats no secret."""
    message = refusal({**GOOD, name.replace("JWT_", "JWT_KEY") if name.endswith("_") else name: value})
    assert name in message
    assert "tiger-secret" not in message


def test_a_public_key_without_its_algorithm() -> None:
    """Algorithms are required with anything but a shared secret (RFC 8725, section 3.1)."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

    private = generate_private_key(SECP256R1())
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    settings = {**GOOD, "PREFSYNC_JWT_KEY": public.decode()}
    assert "algorithm" in refusal(settings).lower()
    PrefSync(MODELS, settings=Settings.from_environment({**settings, "PREFSYNC_JWT_ALGORITHMS": "ES256"}))


@pytest.mark.parametrize("rate", ["100/minute", "100 per minute", "5/10second", "1/hour", "1000 / 2 minutes"])
def test_ways_to_write_a_rate(rate: str) -> None:
    """As the ``limits`` library writes them."""
    PrefSync(MODELS, settings=Settings.from_environment({**GOOD, "PREFSYNC_RATE_LIMIT": rate}))


# --- Models -------------------------------------------------------------------------------------------------


def of(name: str | None, **fields: Any) -> Any:
    """Return a namespace with fields given as (type, default)."""
    body = {
        "__annotations__": {field: kind for field, (kind, *_) in fields.items()},
        **{field: default[0] for field, (_, *default) in fields.items() if default},
        "__module__": __name__,
    }
    return type(Preferences)("Model", (Preferences,), body, namespace=name)


@pytest.mark.parametrize(
    ("models", "hint"),
    [
        pytest.param([], "at least one", id="none"),
        pytest.param([of(None)], "namespace=", id="unnamed"),
        pytest.param([of("Upper")], "Upper", id="upper"),
        pytest.param([of("a-b")], "a-b", id="hyphen"),
        pytest.param([of("1a")], "1a", id="digit-first"),
        pytest.param([of("a" * 65)], "a" * 65, id="too-long"),
        pytest.param([of("caf\u00e9")], "caf\u00e9", id="no-ascii"),
        pytest.param([of("a\n")], "a", id="line-break"),
        pytest.param([of("twice"), of("twice")], "twice", id="duplicate"),
        pytest.param([dict], "Preferences", id="no-model"),
        pytest.param([of("a", size=(int,))], "size", id="no-default"),
        pytest.param([of("a", size=(int, "x"))], "size", id="default-of-another-type"),
        pytest.param([of("a", size=(Annotated[int, Field(ge=5)], 3))], "size", id="default-out-of-bounds"),
        pytest.param([of("a", theme=(Literal["light"], "dark"))], "theme", id="default-not-among-literals"),
        pytest.param([of("a", size=(int, 2**60))], "size", id="default-too-large"),
        pytest.param([of("a", text=(str, "x" * 20_000))], "text", id="default-too-long"),
    ],
)
def test_namespaces_that_cannot_be_declared(models: list[Any], hint: str) -> None:
    """The line names the model, the namespace or the field."""
    with pytest.raises(ConfigurationError) as caught:
        memory_mount(models)
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_names_that_are_paths_of_the_protocol(name: str) -> None:
    """No namespace can be named like one."""
    with pytest.raises(ConfigurationError, match=name):
        memory_mount([of(name)])


def test_every_reserved_name_is_reserved() -> None:
    """Those that protocol.md, section 2, lists."""
    listed = "schema changes events ws ticket sync history export erase explain client"
    assert set(listed.split()) <= RESERVED_NAMES


@pytest.mark.parametrize("name", ["a", "a" * 64, "a1_", "schemas", "socket", "x_schema", "preferences"])
async def test_names_that_are_free(name: str) -> None:
    """All others are namespaces as any other."""
    model = type(OpenPreferences)("Model", (OpenPreferences,), {"__module__": __name__}, namespace=name)
    async with running(app_with(memory_mount([model]))) as me:
        assert (await me.put(f"/{name}", {"a": 1})).ok() == {"a": 1}


# --- What a user sees ---------------------------------------------------------------------------------------


# An app for which the drivers of PostgreSQL are not installed.
DRIVERLESS = """
from importlib.machinery import PathFinder

find_spec = PathFinder.find_spec

def without_drivers(name, path=None, target=None):
    return None if name in {"asyncpg", "psycopg"} else find_spec(name, path, target)

PathFinder.find_spec = without_drivers

from fastapi_app import app
"""


def start(
    settings: Mapping[str, str], folder: Path = EXAMPLES, app: str = "fastapi_app:app"
) -> subprocess.Popen[str]:
    """Start uvicorn with no settings but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFSYNC_")}
    search = os.pathsep.join([str(ROOT / "src"), str(EXAMPLES)])
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(folder), app, "--port", str(free_port())]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**kept, "PYTHONPATH": search, **settings},
    )


@pytest.mark.once
def test_what_a_user_sees(tmp_path: Path) -> None:
    """The process ends with a failure, and its output says in one line what to change; no password is in it."""
    (tmp_path / "driverless.py").write_text(DRIVERLESS)
    unreachable = {**GOOD, "PREFSYNC_DATABASE_URL": "postgresql://user:tiger-secret@127.0.0.1:1/nope"}
    cases = [
        (start({**GOOD, "PREFSYNC_JWT_KYE": "x"}), "did you mean PREFSYNC_JWT_KEY?"),
        (start(unreachable), "check PREFSYNC_DATABASE_URL"),
        (start(unreachable, tmp_path, "driverless:app"), 'pip install "prefsync-kit[postgres]"'),
    ]
    for process, line in cases:
        output, _ = process.communicate(timeout=60)
        assert process.returncode not in {0, None}, output
        assert [text for text in output.splitlines() if "Error: " in text and line in text], output
        assert "tiger-secret" not in output
