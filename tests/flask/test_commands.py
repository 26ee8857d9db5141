"""``flask prefsync ...``, and the description of the protocol that it prints."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from fastapi import FastAPI
from flask import Flask

from prefsync import Parts, Settings
from prefsync.adapters.memory import MemoryRepository
from prefsync.http.links import add_links
from prefsync.testing.mount.callers import KEY
from prefsync_flask import PrefSync
from tests.http.conftest import MODELS
from tests.http.hosts import memory_mount

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click.testing import Result
    from flask.testing import FlaskCliRunner


@pytest.fixture
def runner() -> Iterator[FlaskCliRunner]:
    """The commands of a host in memory."""
    app = Flask("host")
    mount = PrefSync(app, MODELS, settings=Settings(jwt_key=KEY), parts=Parts(repository=MemoryRepository()))
    yield app.test_cli_runner()
    mount.gateway(app).close()


def done(runner: FlaskCliRunner, *words: str, code: int = 0) -> Result:
    """Run a command, which ends with a code and without a traceback."""
    result: Result = runner.invoke(args=["prefsync", *words])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def test_setting_showing_and_resetting(runner: FlaskCliRunner) -> None:
    """Fields are set as JSON or as words, shown with the defaults, and taken back one by one or all."""
    wrote = json.loads(done(runner, "set", "anna", "appearance", "theme=dark", "font_size=16").output)
    assert (wrote["values"]["appearance"]["theme"], wrote["values"]["appearance"]["font_size"]) == (
        "dark",
        16,
    )
    shown = json.loads(done(runner, "show", "anna").output)
    assert shown["revision"] == wrote["revision"]
    assert shown["values"]["editor"]["tab_size"] == 4
    back = json.loads(done(runner, "reset", "anna", "appearance", "theme").output)["values"]["appearance"]
    assert (back["theme"], back["font_size"]) == ("system", 16)
    done(runner, "reset", "anna", "appearance")
    assert json.loads(done(runner, "show", "anna").output)["values"]["appearance"]["font_size"] == 14


def test_tenants_are_apart(runner: FlaskCliRunner) -> None:
    """A user of one tenant is another than the user of that name elsewhere."""
    done(runner, "set", "anna", "--tenant", "acme", "appearance", "theme=dark")
    assert json.loads(done(runner, "show", "anna").output)["revision"] == 0
    assert json.loads(done(runner, "show", "anna", "--tenant", "acme").output)["revision"] > 0


def test_erasing_asks_first(runner: FlaskCliRunner) -> None:
    """Nothing is erased without a yes."""
    done(runner, "set", "anna", "appearance", "theme=dark")
    done(runner, "erase", "anna", code=1)
    assert json.loads(done(runner, "show", "anna").output)["values"]["appearance"]["theme"] == "dark"
    done(runner, "erase", "anna", "--yes")
    assert json.loads(done(runner, "show", "anna").output)["values"]["appearance"]["theme"] == "system"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("set", "anna", "appearance", "theme=loud"), 2, "/appearance/theme: "),
        (("set", "anna", "appearance", "theme"), 2, "FIELD=VALUE"),
        (("set", "anna", "nowhere", "a=1"), 2, "/nowhere: "),
        (("reset", "anna", "appearance", "colour"), 2, "/appearance/colour: "),
    ],
    ids=["value", "form", "namespace", "field"],
)
def test_what_cannot_be_is_said_in_words(
    runner: FlaskCliRunner, words: tuple[str, ...], code: int, said: str
) -> None:
    """A command that cannot do what it was told ends with a code and a line that points at the fault."""
    assert said in done(runner, *words, code=code).output


def test_checking(runner: FlaskCliRunner) -> None:
    """``check`` looks at what is set up, and says how it is."""
    said = done(runner, "check").output
    assert "preferences are kept in MemoryRepository" in said
    assert "namespaces appearance, editor, notifications, plugins" in said


def test_the_description_is_fastapis(runner: FlaskCliRunner) -> None:
    """The paths, the components and the scheme of tokens are those of FastAPI's document, operation by operation."""
    app = FastAPI()
    app.include_router(memory_mount().router, prefix="/preferences")
    theirs = app.openapi()
    add_links(theirs, "/preferences")  # which FastAPI cannot know when it makes an operation
    ours = json.loads(done(runner, "openapi").output)
    assert ours["openapi"] == theirs["openapi"]
    assert ours["paths"] == theirs["paths"]
    assert ours["components"]["securitySchemes"] == theirs["components"]["securitySchemes"]
    schema = json.loads(done(runner, "schema").output)
    assert set(schema["properties"]) == {"appearance", "editor", "notifications", "plugins"}
