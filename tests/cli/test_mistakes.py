"""Every mistake ends in one line that names the mend, and in a code that says what kind of mistake it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, inspect

from prefsync.cli.ends import Exit
from prefsync.cli.main import COMMANDS
from tests.docs.pages import text_of
from tests.migrations.conftest import make_first_tables
from tests.servers import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Shell

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("set", "anna", "appearance", "theme=loud"), 2, "/appearance/theme: "),
        (("set", "anna", "appearance", "theme"), 2, "FIELD=VALUE"),
        (("set", "anna", "nowhere", "a=1"), 2, "/nowhere: "),
        (("reset", "anna", "appearance", "colour"), 2, "/appearance/colour: "),
        (("show", "an\tna"), 2, "control character"),
        (("erase",), 2, "name a user"),
        (("export", "--file", "no-such-file"), 2, "no-such-file cannot be read"),
        (("export", "anna", "--output", "no/such/folder"), 2, "cannot be written"),
        (("schema", "--check", "no-such-file"), 2, "no-such-file cannot be read"),
        (("db", "upgrade", "--to", "9_9999"), 2, "there are 1_0001, 1_0002"),
        (("token", "anna", "--tenant", "acme"), 2, "PREFSYNC_JWT_TENANT_CLAIM"),
        (("tail", "--count", "0"), 2, "above 0"),
        (("shw",), 2, "invalid choice"),
    ],
)
def test_wrong_words(shell: Shell, words: tuple[str, ...], code: int, said: str) -> None:
    """What cannot be is said in words, on standard error."""
    out, err = shell.run(*words, code=code)
    assert said in err
    assert out == ""


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("no_such_module:app", "there is no module no_such_module"),
        ("{app}:missing", "has no missing"),
        ("{app}", "names no app"),
        ("{app}:nothing", "a int"),
        ("{app}:fastapi_app_with_none", "a FastAPI; name a PrefSync"),
        ("{app}:fastapi_app_with_two", "has several PrefSyncs: name the one that is meant"),
    ],
)
def test_wrong_apps(shell: Shell, monkeypatch: pytest.MonkeyPatch, app: str, said: str) -> None:
    """An app that is not there says what was looked for, and how to name one."""
    assert "PREFSYNC_APP" in shell.run("show", "anna", code=2, app=None)[1]
    monkeypatch.setenv("PREFSYNC_APP", app.format(app=shell.app))
    _, err = shell.run("show", "anna", code=2, app=None)
    assert said in err
    assert len(err.splitlines()) == 1


def test_an_app_by_its_variable(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """``PREFSYNC_APP`` names the app, and is no setting that the app would refuse."""
    monkeypatch.setenv("PREFSYNC_APP", f"{shell.app}:fastapi")
    assert shell.json("show", "anna", app=None)["revision"] == 0


@pytest.mark.parametrize(
    "url", ["postgresql://me:hunter2@{where}/nowhere", "postgresql://me@{where}/nowhere?password=hunter2"]
)
def test_a_database_that_is_away(shell: Shell, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Exit 3 and the server's name, for every command; the password stays out of it, wherever it stands."""
    where = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("PREFSYNC_DATABASE_URL", url.format(where=where))
    for words in (("show", "anna"), ("db", "status"), ("db", "upgrade")):
        _, err = shell.run(*words, code=3)
        assert where in err
        assert "PREFSYNC_DATABASE_URL" in err
        assert "hunter2" not in err
    out, _ = shell.run("check", code=3)
    assert "fault:   database" in out
    assert "hunter2" not in out


def test_wrong_settings(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that is misspelt is told with the one that was meant."""
    monkeypatch.setenv("PREFSYNC_REDISURL", "redis://localhost")
    assert "did you mean PREFSYNC_REDIS_URL" in shell.run("check", code=2)[1]
    told = json.loads(shell.run("--json", "check", code=2)[1])
    assert told["error"] == "configuration"


def test_old_tables(shell: Shell, tmp_path: Path) -> None:
    """Exit 4 where the tables are too old, until ``db upgrade`` was run, which says what it did."""
    engine = create_engine(f"sqlite:///{tmp_path}/prefsync.sqlite3")
    make_first_tables(engine)
    assert "prefsync db upgrade" in shell.run("show", "anna", code=4)[1]
    assert "fault:   tables: at 1_0001" in shell.run("check", code=4)[0]
    assert shell.json("--json", "db", "status", code=4, app=None) == {
        "revision": "1_0001",
        "needed": "1_0002",
        "standing": "older",
        "noted": False,
        "fault": None,
        "differences": [],
    }
    assert "CREATE TABLE preference_tickets" in shell.run("db", "upgrade", "--sql")[0]
    assert "preference_tickets" not in inspect(engine).get_table_names()
    said = shell.run("db", "upgrade", app=None)[0]
    assert "they were 1_0001" in said
    assert "1_0002  One-time tickets" in said
    assert shell.json("--json", "db", "upgrade")["done"] == []
    assert shell.json("show", "anna")["values"]["appearance"]["theme"] == "dark"
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP INDEX ix_preference_changes_at")
    assert "ix_preference_changes_at" in shell.run("db", "status", code=1)[0]
    assert "changed by hand" in shell.run("check", code=1)[0]
    engine.dispose()


def test_checking(shell: Shell, monkeypatch: pytest.MonkeyPatch, redis_url: str, postgres_url: str) -> None:
    """``check`` asks every part, and says what to change; as JSON for programs."""
    said = shell.run("check")[0]
    assert "ok:      database: sqlite answers" in said
    assert "namespaces appearance, plugins" in said
    monkeypatch.setenv("PREFSYNC_REDIS_URL", redis_url)
    monkeypatch.setenv("PREFSYNC_NOTIFIER_URL", postgres_url)
    monkeypatch.setenv("PREFSYNC_DATABASE_URL", postgres_url)
    found = shell.json("--json", "check", app="fastapi")
    assert found["ok"] is True
    about = {one["about"]: one["level"] for one in found["findings"]}
    assert about["clock of the database"] == about["clock of the Redis server"] == about["notifier"] == "ok"
    monkeypatch.setenv("PREFSYNC_REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
    monkeypatch.setenv("PREFSYNC_NOTIFIER_URL", f"postgresql://me@127.0.0.1:{free_port()}/x")
    monkeypatch.setenv("PREFSYNC_JWT_KEY", "")
    found = shell.json("--json", "check", app=None, code=3)
    faults = {one["about"]: one["mend"] for one in found["findings"] if one["level"] == "fault"}
    assert set(faults) == {"Redis", "notifier", "tokens"}
    assert all(faults.values())


@pytest.mark.parametrize(
    ("name", "more"),
    [
        (
            "JWKS_URL",
            {"JWT_ISSUER": "https://issuer.example", "JWT_AUDIENCE": "me", "JWT_ALGORITHMS": "RS256"},
        ),
        ("INTROSPECTION_URL", {"INTROSPECTION_CLIENT_ID": "me", "INTROSPECTION_CLIENT_SECRET": "hunter2"}),
    ],
)
def test_checking_an_issuer(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, name: str, more: dict[str, str]
) -> None:
    """``check`` says whom tokens are verified by, and nothing of the key that the address carries."""
    monkeypatch.delenv("PREFSYNC_JWT_KEY")
    for setting, value in {name: "https://issuer.example/here?code=hunter2", **more}.items():
        monkeypatch.setenv(f"PREFSYNC_{setting}", value)
    for words in (("check",), ("--json", "check")):
        out, err = shell.run(*words, app=None)
        assert "https://issuer.example/here?code=***" in out
        assert "hunter2" not in out + err


def test_checking_several_workers(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several workers without Redis are told of."""
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    assert "set PREFSYNC_REDIS_URL" in shell.run("check")[0].split("workers", 1)[1]


def test_nothing_in_memory_has_tables(shell: Shell) -> None:
    """Tables are asked for where there are none to be had."""
    assert "MemoryRepository" in shell.run("db", "status", code=2, app="in_memory")[1]
    assert "MemoryRepository" in shell.run("check", app="in_memory")[0]


def test_the_installed_command(shell: Shell, tmp_path: Path) -> None:
    """``prefsync`` and ``python -m prefsync`` are the same, in a process of its own; help names every command."""
    script = os.path.join(os.path.dirname(sys.executable), "prefsync")  # noqa: PTH118, PTH120  # not resolved
    assert os.path.exists(script)  # noqa: PTH110
    ended = subprocess.run(
        [sys.executable, "-m", "prefsync", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0
    assert all(command in ended.stdout for command in COMMANDS)
    assert all(f"prefsync {command}" in text_of("docs/cli.md") for command in COMMANDS)
    assert all(f"| {int(code)} |" in text_of("docs/cli.md") for code in Exit)
    assert shell.app
