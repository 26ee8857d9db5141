"""The browser client: what is served is what its sources build to, it is small, its types hold, and it works in Node."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest

from prefsync import Schema
from prefsync.testing.mount.callers import KEY
from prefsync.typescript import typescript
from tests.unit.typescript_models import HOSTILE, MODELS
from tests.web.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import ServerProcess

pytestmark = pytest.mark.once

BUILT = ROOT / "src" / "prefsync" / "web" / "client.js"
TESTS = sorted(f"test/{file.name}" for file in (ROOT / "web" / "test").glob("*.test.js"))

LARGEST = 6 * 1024

# Seconds that the tests may take on a loaded machine.
LIMIT = 120


def run(*command: str, cwd: Path, **env: str) -> None:
    """Run something of Node's, and show what it printed where it fails."""
    done = subprocess.run(
        command,
        cwd=cwd,
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env={**os.environ, **env},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_is_small(record_property: pytest.RecordProperty, capsys: pytest.CaptureFixture[str]) -> None:
    """At most 6 KiB travel, whatever is built into it."""
    size = len(gzip.compress(BUILT.read_bytes(), 9, mtime=0))
    record_property("client.js gzipped", size)
    with capsys.disabled():
        sys.stdout.write(f"\nclient.js: {BUILT.stat().st_size} bytes, {size} gzipped (of {LARGEST})\n")
    assert size <= LARGEST


def test_it_says_what_it_is() -> None:
    """Its first line names it, its version and its licence."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert BUILT.read_text().splitlines()[0] == f"/*! prefsync {version}, MIT licence */"


def test_it_is_what_the_sources_build_to(web_folder: Path) -> None:
    """Nobody changes the sources and forgets what is served: ``nox -s client`` builds it."""
    run("node", "build.mjs", "built.js", cwd=web_folder)
    assert (web_folder / "built.js").read_bytes() == BUILT.read_bytes()


def test_its_types_hold(web_folder: Path) -> None:
    """The sources are typed strictly, and the declarations say what users of TypeScript rely on."""
    run("node", "node_modules/typescript/bin/tsc", "-p", ".", cwd=web_folder)


def test_types_of_a_hosts_models_hold(web_folder: Path) -> None:
    """What is made of models compiles, whatever they are called; the defaults fit, and wrong values are refused."""
    folder = web_folder / "generated"
    folder.mkdir()
    (folder / "everything.ts").write_text(typescript(MODELS), encoding="utf-8")
    (folder / "hostile.ts").write_text(typescript(HOSTILE), encoding="utf-8")
    for name, models in {"everything": MODELS, "hostile": HOSTILE}.items():
        lines = [
            f'import type {{ UserPreferences }} from "./{name}";',
            f"export const defaults: UserPreferences = {json.dumps(Schema(models).effective({}))};",
        ]
        (folder / f"{name}_defaults.ts").write_text("\n".join(lines), encoding="utf-8")
    config = {"extends": "../tsconfig.json", "include": ["../generated.test.ts", "*.ts"]}
    (folder / "tsconfig.json").write_text(json.dumps(config))
    run("node", "node_modules/typescript/bin/tsc", "-p", "generated", cwd=web_folder)


def test_its_sources_are_short() -> None:
    """Each of its modules can be read in one go."""
    for source in (BUILT.parent / "client").glob("*.js"):
        lines = source.read_text().splitlines()
        assert len(lines) <= 400, source.name
        assert not [line for line in lines if len(line) > 128], source.name


def test_its_declarations_name_every_export() -> None:
    """What is exported is declared."""
    exported = re.findall(r"as (\w+)", BUILT.read_text().rpartition("export{")[2])
    declared = re.findall(
        r"^export (?:class|function) (\w+)", (BUILT.parent / "client.d.ts").read_text(), re.MULTILINE
    )
    assert sorted(exported) == sorted(declared)


def test_its_page_tells_everything() -> None:
    """Every option, member, event and error code that is declared has its place in docs/client.md."""
    page = (ROOT / "docs" / "client.md").read_text()
    declared = (BUILT.parent / "client.d.ts").read_text()
    rows = set(re.findall(r"`(\w[\w-]*)", "".join(re.findall(r"^\| (`[^|]+) \|", page, re.MULTILINE))))
    named: set[str] = set()
    for interface in ("ConnectOptions", "Preferences<", "Events<"):
        body = declared.split(f"export interface {interface}", 1)[1].split("\n}", 1)[0]
        named |= set(re.findall(r"^  (?:readonly )?(\w+)\??[:(<]", body, re.MULTILINE))
    codes = declared.split("the client's own:", 1)[1].split("*/", 1)[0]
    named |= set(re.findall(r"`([\w-]+)`", codes))
    assert len(named) > 25
    assert not named - rows, named - rows


def test_it_works(web_folder: Path, server: ServerProcess) -> None:
    """Against the real server, through a proxy that breaks things; see the files, which run beside one another."""
    env = {"PREFSYNC_TEST_URL": f"{server.url}/preferences", "PREFSYNC_TEST_KEY": KEY}
    run("node", "--test", "--test-reporter=spec", "--test-timeout=60000", *TESTS, cwd=web_folder, **env)
