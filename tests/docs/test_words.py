"""What the documentation says of the code is so: names, defaults, commands, links."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import prefsync
import prefsync_fastapi
from prefsync import ApiOptions, Limits, Rate, Settings
from prefsync.http.problems import STATUS
from tests.docs.pages import PAGES, ROOT, blocks, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.once

COMMANDS = ['pip install "nox[uv]" && nox -s demo', 'pip install "nox[uv]" && nox -s tests']

# Where no text of ours is: caches, environments, what was built.
_NOT_OURS = {"node_modules", "build", "dist", "__pycache__", "venv"}


def our_files() -> Iterator[Path]:
    """Yield the files that a reader of the repository sees."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [one for one in folders if one not in _NOT_OURS and (one == ".ci" or one[0] != ".")]
        yield from (ROOT / folder / name for name in names)


def row_of(page: str, name: str) -> list[str]:
    """Return the cells of the one row of a table that begins with a name."""
    (row,) = [line for line in text_of(page).splitlines() if line.startswith(f"| `{name}` |")]
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_the_two_commands_are_offered() -> None:
    """README's commands stand alone in a block each, and are what CI runs and nox knows."""
    shell = [block.code.strip() for block in blocks("README.md", "sh")]
    assert [line for line in shell if "nox" in line] == COMMANDS
    ci = (ROOT / ".ci" / "run").read_text()
    install, session = COMMANDS[1].split(" && ")
    assert f"step {session}\n" in ci
    assert install.replace("install ", "install --quiet ") in ci
    noxfile = (ROOT / "noxfile.py").read_text()
    for name in ("demo", "tests"):
        assert re.search(rf"@nox\.session[^\n]*\ndef {name}\(", noxfile)


def test_nobody_is_sent_to_another_project() -> None:
    """The name without -kit is another project's on PyPI: no text installs it."""
    wrong = re.compile(r"\b(?:pip\d?|pipx|uv|poetry) (?:install|add) [^\n`|&;]*(?<![\w-])prefsync(?![\w-])")
    for file in our_files():
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found = wrong.search(text)
        assert found is None, f"{file.relative_to(ROOT)}: {found and found.group()}"


@pytest.mark.parametrize("page", PAGES)
def test_shell_blocks_are_shell(page: str) -> None:
    """Every shell block parses, and every extra that it installs exists."""
    extras = set(re.findall(r"^([a-z]+) = \[", _table("project.optional-dependencies"), re.MULTILINE))
    for block in blocks(page, "sh"):
        checked = subprocess.run(
            ["bash", "-n"], input=block.code, capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, f"{page}:{block.line}: {checked.stderr}"
        for names in re.findall(r"prefsync-kit\[([a-z,]+)\]", block.code):
            assert set(names.split(",")) <= extras, f"{page}:{block.line}"


def test_one_version_is_told() -> None:
    """The distribution and the package are of one version; tests/web has the browser client's."""
    assert re.findall(r'^version = "(.*)"$', _table("project"), re.MULTILINE) == [prefsync.__version__]


def test_the_recipe_of_a_release_names_sessions() -> None:
    """What it asks to run can be run."""
    noxfile = (ROOT / "noxfile.py").read_text()
    named = {
        name
        for line in re.findall(r"nox -s ([a-z ]+)", text_of("docs/releasing.md"))
        for name in line.split()
    }
    assert {"build", "sbom", "newest", "lowest", "audit", "client"} <= named
    assert named == {name for name in named if re.search(rf"@nox\.session[^\n]*\ndef {name}\(", noxfile)}


def test_every_example_is_in_the_index() -> None:
    """The examples' page names each file that is run or copied; the others are parts of those."""
    parts = {"demo_support", "demo_telemetry", "demo_tls"}
    files = {file.stem for file in (ROOT / "examples").glob("*.py")} - parts
    assert files == set(re.findall(r"\]\((\w+)\.py\)", text_of("examples/README.md")))


def test_readme_lists_every_extra() -> None:
    """The install table has a row for each extra, and no other."""
    extras = set(re.findall(r"^([a-z]+) = \[", _table("project.optional-dependencies"), re.MULTILINE))
    section = text_of("README.md").split("## Install")[1].split("##")[0]
    assert set(re.findall(r"^\| `([a-z]+)` \|", section, re.MULTILINE)) == extras


@pytest.mark.parametrize("page", PAGES)
def test_json_blocks_are_json(page: str) -> None:
    """Every JSON block is one JSON value."""
    for block in blocks(page, "json"):
        json.loads(block.code)


def test_links_lead_somewhere() -> None:
    """Every relative link and heading resolves, as docs/check.py has it."""
    checked = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "check.py")], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_free_of_the_machine(page: str) -> None:
    """No page shows a path of the machine that it was written on."""
    assert not re.search(r"/(?:work|tmp|root|home)/", text_of(page))


@pytest.mark.parametrize("name", sorted({*prefsync.__all__, *prefsync_fastapi.__all__}))
def test_every_public_name_is_documented(name: str) -> None:
    """A reader finds every name that can be imported from the two packages."""
    assert any(re.search(rf"(?<!\w){name}(?!\w)", text_of(page)) for page in PAGES)


@pytest.mark.parametrize("field", dataclasses.fields(Settings), ids=lambda field: field.name)
def test_every_setting_is_documented(field: dataclasses.Field[object]) -> None:
    """Each setting has a row with its default."""
    row = row_of("docs/settings.md", f"PREFSYNC_{field.name.upper()}")
    default = field.default
    match default:
        case None | ():
            shown = "none"
        case Rate(limit, 60):
            shown = f"`{limit}/minute`"
        case tuple():
            shown = f"`{','.join(default)}`"
        case _:
            shown = f"`{default}`"
    assert row[1] == shown


@pytest.mark.parametrize("options", [Limits, ApiOptions])
def test_every_option_is_documented(options: type[Limits | ApiOptions]) -> None:
    """Each limit and option has a row with its default."""
    for field in dataclasses.fields(options):
        assert row_of("docs/settings.md", field.name)[1] == f"`{field.default}`"


def test_every_problem_is_documented() -> None:
    """The protocol page has a row for each problem, with its status, and no other."""
    rows = re.findall(r"^\| (\d{3}) \| ([a-z-]+) \|", text_of("docs/protocol.md"), re.MULTILINE)
    assert {(name, int(status)) for status, name in rows} == {
        (name, status) for name, (status, _) in STATUS.items()
    }


def test_every_error_is_documented() -> None:
    """The settings page has a row for each error, with its code and status."""
    for name in prefsync.__all__:
        error = getattr(prefsync, name)
        if isinstance(error, type) and issubclass(error, prefsync.PrefsyncError) and error.code != "error":
            _, code, status, _ = row_of("docs/settings.md", name)
            assert code == f"`{error.code}`"
            assert status == (str(STATUS[error.code][0]) if error.code in STATUS else "")


def test_every_error_has_a_mend() -> None:
    """The page about errors has a row for each problem with its status, and one for each exception, and no other."""
    from prefsync import errors

    text = text_of("docs/reference/errors.md")
    problems = re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", text, re.MULTILINE)
    assert {(name, int(status)) for name, status in problems} == {
        (name, status) for name, (status, _) in STATUS.items()
    }
    raised = re.findall(r"^\| `(\w+Error)` \|", text, re.MULTILINE)
    assert set(raised) == set(errors.__all__) - {"FieldError", "PrefsyncError"}


def _table(name: str) -> str:
    """Return the text of a table of pyproject.toml."""
    return (ROOT / "pyproject.toml").read_text().split(f"[{name}]\n")[1].split("\n[")[0]
