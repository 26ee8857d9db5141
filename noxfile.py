"""The project's chores, each in an environment of its own: ``pip install "nox[uv]"``, then ``nox -l``."""

from __future__ import annotations

import os
import shutil
import ssl
from typing import TYPE_CHECKING

import nox

if TYPE_CHECKING:
    from pathlib import Path

PYTHONS = ["3.11", "3.12", "3.13"]
PYPROJECT = nox.project.load_toml("pyproject.toml")
EXTRAS = list(PYPROJECT["project"]["optional-dependencies"])
CI = bool(os.environ.get("CI"))

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "typecheck", "tests"]
# Here, a Python that is missing is skipped at once: fetching one takes a while where it works, and as long to fail
# where it does not (`nox --download-python auto` fetches it). In CI a missing one is an error, so fetching is tried.
nox.options.download_python = "auto" if CI else "never"
nox.options.error_on_missing_interpreters = CI

# pip trusts whom the machine trusts, a company's proxy for one; uv has a list of its own unless told otherwise.
if any(ssl.get_default_verify_paths()[:2]):
    os.environ.setdefault("UV_SYSTEM_CERTS", "1")


def group(name: str) -> tuple[str, ...]:
    """Return the requirements of a dependency group (PEP 735)."""
    return nox.project.dependency_groups(PYPROJECT, name)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the test suite; arguments after ``--`` go to pytest.

    The oldest Python runs everything. The others leave out what is marked ``once``, which is for tests that have no
    more to say on a second Python: a further host, server or engine under a suite that runs anyway, outages, servers
    in processes of their own, the documentation. Mark a test so when what it adds lies outside of this process.
    """
    session.install("-e", ".[all]", *group("test"))
    once = [] if session.python == PYTHONS[0] else ["-m", "not once"]
    session.run("pytest", *once, *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the test suite and report which branches it misses."""
    session.install("-e", ".[all]", *group("test"))
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "report")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format, the direction of imports, and the declared dependencies."""
    session.install("-e", ".[all]", *group("lint"))  # deptry reads what each distribution provides
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports")
    session.run("deptry", "src")


@nox.session
def typecheck(session: nox.Session) -> None:
    """Check types: our own strictly, and what users see with a second type checker."""
    session.install("-e", ".[all]", *group("test"), *group("typing"))
    session.run("mypy")
    session.run("pyright")


@nox.session
def docs(session: nox.Session) -> None:
    """Check that links in the documentation lead somewhere, and that its Python is Python."""
    session.run("python", "docs/check.py")


@nox.session
def demo(session: nox.Session) -> None:
    """Run the example app; needs no server beside it."""
    session.install("-e", ".[fastapi,sqlite,jwt,socketio,compression]", "uvicorn[standard]")
    session.run("python", "examples/demo.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure; arguments after ``--`` go to the benchmark."""
    session.install("-e", ".[all]", *group("bench"))
    session.run("python", "-m", "tests.bench", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build the source distribution, and the wheel from that."""
    folder = dist(session)
    shutil.rmtree(folder, ignore_errors=True)
    if session.venv_backend == "uv":
        session.run("uv", "build", "--quiet", "--out-dir", str(folder), external=True)
    else:
        session.install("build")
        session.run("python", "-m", "build", "--outdir", str(folder))


@nox.session(requires=["build"])
@nox.parametrize("extra", ["none", *EXTRAS])
def wheel(session: nox.Session, extra: str) -> None:
    """Install the built wheel, with one extra at a time, and check what can be imported, and that the app runs."""
    (built,) = dist(session).glob("*.whl")
    name = "prefsync-kit" if extra == "none" else f"prefsync-kit[{extra}]"
    session.install(f"{name} @ {built.as_uri()}", *(["uvicorn"] if extra == "all" else []))
    session.run("python", "-I", "tests/wheel_check.py", extra)


def dist(session: nox.Session) -> Path:
    """Return where the distributions under test are built: not ``dist``, which is the maintainer's."""
    return session.cache_dir.resolve() / "dist"
