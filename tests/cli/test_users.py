"""Users' preferences from the command line."""

from __future__ import annotations

import io
import json
import threading
import time
from typing import TYPE_CHECKING

import anyio
import jwt
import pytest

from prefsync import Parts, Runtime, Settings, Subject
from prefsync.adapters.memory import MemoryRepository
from prefsync.blocking import BlockingRuntime
from prefsync.cli import tail
from prefsync.schema import OpenPreferences
from tests.cli.conftest import SECRET

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Shell

pytestmark = pytest.mark.once

LIMIT = 60


@pytest.mark.parametrize("app", ["MODELS", "create_app", "fastapi", "fastapi_app"])
def test_setting_showing_and_resetting(shell: Shell, app: str) -> None:
    """On a list of models, a Flask app and a FastAPI mount: fields are set as JSON or words, shown, and taken back."""
    wrote = shell.json("set", "anna", "appearance", "theme=dark", "font_size=16", app=app)
    assert wrote["values"] == {"appearance": {"theme": "dark", "font_size": 16}}
    shown = shell.json("show", "anna", app=app)
    assert shown == {"revision": wrote["revision"], "values": {**wrote["values"], "plugins": {}}}
    back = shell.json("reset", "anna", "appearance", "theme", app=app)
    assert back["values"]["appearance"] == {"theme": "system", "font_size": 16}
    assert shell.json("reset", "anna", "appearance")["values"]["appearance"]["font_size"] == 14
    assert shell.json("show", "anna", "--tenant", "acme")["revision"] == 0


def test_erasing_asks_first(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is erased without a yes; with it nothing is left, of several users too."""
    for user in ("anna", "bob", "carol"):
        shell.run("set", user, "appearance", "theme=dark")
    for answer in ("", "no\n"):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        assert "nothing was erased" in shell.run("erase", "anna", code=1)[1]
    assert shell.json("show", "anna")["values"]["appearance"]["theme"] == "dark"
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    shell.run("erase", "anna")
    monkeypatch.setattr("sys.stdin", io.StringIO("bob\ncarol\n\n"))
    assert shell.json("--json", "erase", "--file", "-", "--yes") == {"erased": 2, "absent": []}
    for user in ("anna", "bob", "carol"):
        left = shell.json("export", user)
        assert (left["revision"], left["values"], left["changes"], left["requests"]) == (0, {}, [], [])
        assert left["created_at"] is None


def test_erasing_says_that_nothing_was_there(shell: Shell) -> None:
    """Of whom nothing is kept, or only in a tenant that was not named, is told, and is no failure: nothing is left."""
    for user, tenant in (("anna", ("--tenant", "acme")), ("bob", ())):
        shell.run("set", user, "appearance", "theme=dark", *tenant)
    assert shell.run("erase", "bob", "--yes")[0] == "erased\n"
    for user in ("anna", "bob"):
        said = shell.run("erase", user, "--yes")[0]
        assert said == f"nothing was kept of {user} outside of tenants; for a tenant's: --tenant\n"
    assert shell.json("show", "anna", "--tenant", "acme")["values"]["appearance"]["theme"] == "dark"
    said = shell.run("erase", "anna", "bob", "carol", "--yes", "--tenant", "acme")[0]
    assert said == "erased 1\nnothing was kept of 2 of the users (--json lists them) in the tenant acme\n"
    found = shell.json("--json", "erase", "anna", "bob", "--yes")
    assert found == {"erased": 0, "absent": ["anna", "bob"]}


def test_files_of_users(shell: Shell, tmp_path: Path) -> None:
    """A mark at the beginning is no part of an id, nothing but a line's end divides two, and all else is refused."""
    for user in ("anna", "x\u2028bob", "bob"):
        shell.run("set", user, "appearance", "theme=dark")
    (tmp_path / "users").write_bytes("\ufeffanna\r\nx\u2028bob\r\n".encode())
    assert shell.json("--json", "erase", "--file", "users", "--yes") == {"erased": 2, "absent": []}
    left = [shell.json("show", user)["revision"] > 0 for user in ("anna", "x\u2028bob", "bob")]
    assert left == [False, False, True]
    (tmp_path / "users").write_bytes("bob\n".encode("utf-16"))
    assert "not UTF-8" in shell.run("erase", "--file", "users", "--yes", code=2)[1]
    assert "/appearance/theme" in shell.run("set", "bob", "appearance", f"theme={'[' * 100_000}", code=2)[1]


def test_exporting(shell: Shell, tmp_path: Path) -> None:
    """All that is kept, as JSON: the stored values, each change and what it replaced; to a file, and of several users."""
    shell.run("set", "anna", "appearance", "theme=dark")
    shell.run("set", "anna", "appearance", "theme=light")
    kept = shell.json("export", "anna")
    assert kept["values"] == {"appearance": {"theme": "light"}}
    assert [change["replaced"] for change in kept["changes"]] == [{}, {"appearance": {"theme": "dark"}}]
    assert kept["created_at"] <= kept["updated_at"]
    (tmp_path / "users").write_text("anna\nbob\n")
    shell.run("export", "--file", "users", "--output", "kept.json")
    both = json.loads((tmp_path / "kept.json").read_text())
    assert both[0] == kept
    assert both[1]["revision"] == 0


@pytest.mark.parametrize("of_one", [True, False])
def test_following_changes(shell: Shell, of_one: bool) -> None:  # noqa: FBT001  # the example
    """``tail`` prints changes as another process makes them, each once, with the names of fields and without values."""

    class Plugins(OpenPreferences, namespace="plugins"):
        """Of the other process."""

    written: list[int] = []
    stop = threading.Event()

    def write() -> None:
        other = BlockingRuntime([Plugins])
        while not stop.wait(0.2):
            for user in ("anna", "bob"):
                other.handle(Subject(user)).update(Plugins, secret=len(written))
            written.append(1)
        other.close()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        words = ("anna",) if of_one else ()
        out, _ = shell.run("--json", "tail", *words, "--count", "6", "--seconds", str(LIMIT))
    finally:
        stop.set()
        thread.join(LIMIT)
    told = [json.loads(line) for line in out.splitlines()]
    assert len({(one["user"], one["revision"]) for one in told}) == 6
    assert {one["user"] for one in told} == ({"anna"} if of_one else {"anna", "bob"})
    assert all(one["fields"] == ["plugins.secret"] and "assigned" not in one for one in told)


async def test_tail_misses_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many change something at once: the log is read page by page."""

    class Plugins(OpenPreferences, namespace="plugins"):
        """Of the test's own."""

    monkeypatch.setattr(tail, "_PAGE", 2)
    subjects = [Subject(f"user {number}") for number in range(9)]
    parts = Parts(repository=MemoryRepository())
    async with Runtime([Plugins], settings=Settings(), parts=parts, authenticates=False) as runtime:
        for subject in subjects:
            await runtime.handle(subject).update(Plugins, name=1)
            await anyio.sleep(0.002)  # a page never ends within a ms
        found = await tail._newest_since(runtime.repository, 0)
    assert found.keys() == set(subjects)


async def test_tail_tells_nothing_twice() -> None:
    """What is written while a round looks at the changes is told by the next one alone."""

    class Plugins(OpenPreferences, namespace="plugins"):
        """Of the test's own."""

    anna = Subject("anna")
    parts = Parts(repository=MemoryRepository())
    async with Runtime([Plugins], settings=Settings(), parts=parts, authenticates=False) as runtime:
        revisions = []
        for n in range(2):
            await runtime.handle(anna).update(Plugins, n=n)
            revisions += await runtime.repository.revisions([anna])
        first, second = revisions
        for since, newest in ((0, first), (first, second)):
            told = [change.revision async for change in tail._of(runtime.repository, anna, since, newest)]
            assert told == [newest]


def test_tail_ends(shell: Shell) -> None:
    """Where nothing happens it ends when it was told to."""
    began = time.monotonic()
    assert shell.run("tail", "--seconds", "0.3")[0] == ""
    assert time.monotonic() - began < LIMIT


def test_a_token_is_taken(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token for development says what the app's settings want of one."""
    made = shell.run("token", "anna")[0].strip()
    claims = jwt.decode(made, SECRET, algorithms=["HS256"])
    assert (claims["sub"], claims["scope"]) == ("anna", "preferences:read preferences:write")
    monkeypatch.setenv("PREFSYNC_JWT_ISSUER", "https://issuer.example")
    monkeypatch.setenv("PREFSYNC_JWT_AUDIENCE", "prefs")
    monkeypatch.setenv("PREFSYNC_JWT_TENANT_CLAIM", "org")
    assert "--tenant" in shell.run("token", "anna", code=2)[1]
    words = ("token", "anna", "--tenant", "acme", "--minutes", "5", "--scope", "preferences:read")
    made = shell.json("--json", *words, app=None)["token"]
    claims = jwt.decode(made, SECRET, algorithms=["HS256"], audience="prefs", issuer="https://issuer.example")
    assert (claims["org"], claims["scope"], claims["exp"] - claims["iat"]) == (
        "acme",
        "preferences:read",
        300,
    )


def test_schemas(shell: Shell, tmp_path: Path) -> None:
    """JSON Schema and TypeScript, printed, written, and compared with what was written before."""
    assert set(shell.json("schema")["properties"]) == {"appearance", "plugins"}
    assert '"system" | "light" | "dark"' in shell.run("schema", "--typescript")[0]
    for kind in ("--json-schema", "--typescript"):
        shell.run("schema", kind, "--output", "out")
        assert "up to date" in shell.run("schema", kind, "--check", "out")[0]
        (tmp_path / "out").write_text("something else")
        assert f"schema {kind} --output out" in shell.run("schema", kind, "--check", "out", code=1)[0]
