"""The project's chores, each in an environment of its own: ``pip install "nox[uv]"``, then ``nox -l``."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import ssl
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import nox
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterable

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

# The tests start many processes. Where Python may not write bytecode, each compiles all that it imports, which takes
# twice as long as the rest of its start: uv, unlike pip, has compiled nothing when it installed that.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# pip trusts whom the machine trusts, a company's proxy for one; uv has a list of its own unless told otherwise.
if any(ssl.get_default_verify_paths()[:2]):
    os.environ.setdefault("UV_SYSTEM_CERTS", "1")


def group(name: str) -> tuple[str, ...]:
    """Return the requirements of a dependency group (PEP 735)."""
    return nox.project.dependency_groups(PYPROJECT, name)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the test suite, in several processes; arguments after ``--`` go to pytest, which then is one.

    The oldest Python runs everything. The others leave out what is marked ``once``, which is for tests that have no
    more to say on a second Python: a further host, server or engine under a suite that runs anyway, outages, servers
    in processes of their own, browsers, the documentation. Mark a test so when what it adds lies outside of this
    process.
    """
    is_oldest = session.python == PYTHONS[0]
    session.install("-e", ".[all]", *group("test"), *(group("browser") if is_oldest else ()))
    once = () if is_oldest else ("-m", "not once")
    # By class and module, because servers and databases are made for each; in order, which has the slow ones first.
    # Tests of what runs once mostly wait: twice as many processes as the machine of CI has cores keep those busy.
    together = (f"--numprocesses={4 if is_oldest else 2}", "--dist=loadscope", "--no-loadscope-reorder")
    session.run("pytest", *once, *(session.posargs or together))


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """Test with every dependency at its declared lower bound: the core, tokens, and both mounts on SQLite.

    The other sessions take the newest of everything. Not a part of ``.ci/run``, because it takes a minute or two.
    """
    constraints = Path(session.create_tmp()) / "lowest.txt"
    constraints.write_text("\n".join(sorted(map(floor, dependencies()))))
    session.install("-e", ".[all,testing]", *group("test"), "--constraint", str(constraints))
    session.run(
        *("pytest", "--numprocesses=2", "--dist=loadscope", "tests/unit", "tests/oauth"),
        *(f"tests/http/test_{mount}_contract.py::TestInMemory" for mount in ("fastapi", "flask")),
        "tests/contracts/test_repository.py::TestSqliteFile",
        *session.posargs,
    )


@nox.session(python=PYTHONS[-1])
def newest(session: nox.Session) -> None:
    """Test with the newest release of every dependency, those before a release included, and beyond our upper bounds.

    A failure is no fault of ours yet: it is the notice that one comes. Not a part of ``.ci/run``, because its outcome
    changes without any change here. Needs uv. Arguments after ``--`` go to pytest instead of the usual ones.
    """
    if session.venv_backend != "uv":
        session.error("pip cannot leave upper bounds aside: `pip install uv`")
    overrides = Path(session.create_tmp()) / "newest.txt"
    overrides.write_text("\n".join(sorted(map(without_ceiling, dependencies()))))
    session.install(
        *("-e", ".[all]", *group("test"), "--upgrade", "--prerelease=allow", "--override", str(overrides))
    )
    session.run("uv", "pip", "freeze", "--exclude-editable", external=True)  # with what it worked, or did not
    usual = ("--numprocesses=2", "--dist=loadscope", "--no-loadscope-reorder", "--ignore=tests/browser")
    session.run("pytest", *(session.posargs or usual))


@nox.session
def audit(session: nox.Session) -> None:
    """Ask whether a vulnerability is known of anything that a host would install today; leave nothing out.

    Fails where the service that knows them does not answer, too: an audit that did not happen is none. Not a part of
    ``.ci/run``, because its outcome changes without any change here: run it daily, and before each release.
    """
    session.install("pip-audit", *map(str, dependencies()))
    report = Path(session.create_tmp()) / "audit.json"
    report.unlink(missing_ok=True)
    session.run(
        *("python", "-m", "pip_audit", "--local", "--progress-spinner=off", "--format=json"),
        *("--output", str(report), *session.posargs),
        success_codes=[0, 1],  # 1 of vulnerabilities and of its own troubles alike: the report tells
    )
    if not report.exists():
        session.error("the vulnerability service could not be reached: NOTHING was audited")
    packages = json.loads(report.read_text())["dependencies"]
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    if unknown:
        session.error(
            f"the vulnerability service knows nothing of {len(unknown)} of {len(packages)} packages, so that they were"
            f" NOT audited (behind a mirror, it may be out of reach): {', '.join(sorted(unknown))}"
        )
    found = [
        f"{package['name']} {package['version']}: {vulnerability['id']}"
        for package in packages
        for vulnerability in package["vulns"]
    ]
    if found:
        session.error("known vulnerabilities: " + "; ".join(found))
    session.log("nothing is known against any of %d packages", len(packages))


def dependencies(extras: Iterable[str] = EXTRAS) -> set[Requirement]:
    """Return what the core and some extras need, all of them where left out."""
    project = PYPROJECT["project"]
    optional = project["optional-dependencies"]
    lines = [*project["dependencies"], *itertools.chain.from_iterable(optional[extra] for extra in extras)]
    return {found for found in map(Requirement, lines) if found.name != project["name"]}


def floor(requirement: Requirement) -> str:
    """Return a constraint to the lower bound of a dependency.

    Raises:
        ValueError: It has none: then nobody knows with what it works.
    """
    lower = [bound.version for bound in requirement.specifier if bound.operator == ">="]
    if len(lower) != 1:
        raise ValueError(f"{requirement} has no lower bound")
    return f"{requirement.name}=={lower[0]}" + (f"; {requirement.marker}" if requirement.marker else "")


def without_ceiling(requirement: Requirement) -> str:
    """Return a requirement with its lower bound alone."""
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    lower = [str(bound) for bound in requirement.specifier if bound.operator == ">="]
    marker = f"; {requirement.marker}" if requirement.marker else ""
    return f"{requirement.name}{extras}{','.join(lower)}{marker}"


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the test suite and report which branches it misses."""
    session.install("-e", ".[all]", *group("test"), *group("browser"))
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
    """Check the documentation, and build its site into ``build/site``: broken links and undescribed names fail it."""
    session.run("python", "docs/check.py")
    session.install("-e", ".", *group("docs"))
    session.run("python", "docs/build.py")


@nox.session
def demo(session: nox.Session) -> None:
    """Run the example app with its demo page, ``-- --flask`` the one in Flask; needs no server beside it."""
    session.install("-e", ".[fastapi,flask,sqlite,jwt,socketio,telemetry,compression]", *group("demo"))
    session.run("python", "examples/demo.py", *session.posargs)


@nox.session
def client(session: nox.Session) -> None:
    """Build the browser client, ``src/prefsync/web/client.js``, from the modules beside it; needs Node.js."""
    with session.chdir("web"):
        session.run("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", external=True)
        session.run("node", "build.mjs", external=True)
        session.run("node", "node_modules/typescript/bin/tsc", "-p", ".", external=True)


def browser(session: nox.Session) -> None:
    """Test in a browser, the system's Chromium; arguments after ``--`` go to pytest."""
    session.install("-e", ".[all]", *group("test"), *group("browser"))
    session.run("pytest", "tests/browser", *session.posargs)


@nox.session
def screenshots(session: nox.Session) -> None:
    """Take the pictures in ``docs/images`` anew, by the system's Chromium."""
    session.install("-e", ".[all]", *group("test"), *group("browser"))
    session.run("python", "-m", "tests.browser.screenshots")


@nox.session
def dashboard(session: nox.Session) -> None:
    """Take the picture of the dashboard anew, of six minutes, ``-- 10`` of ten; needs ``prometheus`` on the path."""
    session.install("-e", ".[all]", *group("test"), *group("bench"))
    session.run("python", "-m", "tests.telemetry.picture", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure; arguments after ``--`` go to the benchmark."""
    session.install(
        "-e", ".[fastapi,flask,sqlite,postgres,redis,limits,jwt,socketio,compression]", *group("bench")
    )
    session.run("python", "-m", "tests.bench", *session.posargs)


@nox.session
def growth(session: nox.Session) -> None:
    """Measure as the work grows, up to a million subjects; arguments after ``--`` go to the benchmark."""
    session.install("-e", ".[all]", *group("bench"))
    session.run("python", "-m", "tests.bench.growth", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz the parser and the sanitizer with Atheris; ``-- 600`` for ten minutes instead of one."""
    session.install("-e", ".[all]", *group("test"), *group("fuzz"))
    session.run("python", "-m", "tests.fuzz", *session.posargs)


@nox.session
def hammer(session: nox.Session) -> None:
    """Send both mounts 100,000 requests, one in ten cancelled, and print the counts; ``-- 5000`` for another number."""
    session.install("-e", ".[all]", *group("test"))
    session.run("python", "-m", "tests.hammer", *session.posargs)


@nox.session
def kill(session: nox.Session) -> None:
    """Kill a worker 200 times and crash PostgreSQL 50 times while clients write, and judge; ``-- 20 5`` for others."""
    session.install("-e", ".[all]", *group("test"))
    session.run("python", "-m", "tests.faults.kill", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Force the cache's race 10,000 times, and have 1,000 clients go away: the numbers that the tests do a part of."""
    session.install("-e", ".[all]", *group("test"))
    session.env["PREFSYNC_TEST_FULL"] = "1"
    files = ("tests/faults/test_cache_truth.py", "tests/faults/test_gone_clients.py")
    session.run("pytest", *files, *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Let clients work and parts fail for ten minutes, judge, and look for what grows; ``-- 30`` for half an hour."""
    session.install("-e", ".[all]", *group("test"))
    session.run("python", "-m", "tests.faults.soak", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build the source distribution, and the wheel from that; then both anew from it, which must give the same bytes."""
    folder = dist(session)
    shutil.rmtree(folder, ignore_errors=True)
    build_from(session, Path(), folder)
    (source,) = folder.glob("*.tar.gz")

    # As somebody else has it: in another folder, with times and rights of its own.
    elsewhere = Path(session.create_tmp()).resolve() / "elsewhere"
    shutil.rmtree(elsewhere, ignore_errors=True)
    with tarfile.open(source) as archive:
        archive.extractall(elsewhere, filter="data")
    (unpacked,) = elsewhere.iterdir()
    for path in unpacked.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)
        os.utime(path)
    build_from(session, unpacked, elsewhere / "dist")

    first, second = digests(folder), digests(elsewhere / "dist")
    if first != second:
        session.error(f"two builds differ: {first} and {second}")
    for name, digest in first.items():
        session.log("%s  %s", digest, name)


def build_from(session: nox.Session, project: Path, folder: Path) -> None:
    """Build the distributions of a project into a folder."""
    if session.venv_backend == "uv":
        session.run("uv", "build", "--quiet", "--out-dir", str(folder), str(project), external=True)
    else:
        session.install("build")
        session.run("python", "-m", "build", "--outdir", str(folder), str(project))


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 digests of distributions, by file name."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("prefsync_kit-*"))
    }


@nox.session(requires=["build"])
def sbom(session: nox.Session) -> None:
    """List what an installation with all extras consists of, in CycloneDX's JSON, beside the distributions.

    Of the newest releases, on this Python: what a host gets that installs today. Not a part of ``.ci/run``: it is for a
    release, and depends on what others have released since.
    """
    (built,) = dist(session).glob("*.whl")
    version = PYPROJECT["project"]["version"]
    report = built.parent / f"prefsync_kit-{version}.cdx.json"
    hosts = Path(session.create_tmp()).resolve() / "host"
    shutil.rmtree(hosts, ignore_errors=True)
    session.install("cyclonedx-bom>=7", "virtualenv")
    session.run("virtualenv", "--quiet", "--no-seed", str(hosts))
    python = str(hosts / ("Scripts" if os.name == "nt" else "bin") / "python")
    wanted = f"prefsync-kit[all] @ {built.as_uri()}"
    if session.venv_backend == "uv":
        session.run("uv", "pip", "install", "--quiet", "--python", python, wanted, external=True)
    else:
        session.run("python", "-m", "pip", "--python", python, "install", "--quiet", wanted)
    session.run(
        *("cyclonedx-py", "environment", "--pyproject", "pyproject.toml", "--mc-type", "library"),
        *("--output-reproducible", "--output-format", "JSON"),
        *("--output-file", str(report), python),
    )
    found = json.loads(report.read_text())
    components = {canonicalize_name(component["name"]) for component in found["components"]}
    (everything,) = map(Requirement, PYPROJECT["project"]["optional-dependencies"]["all"])
    needed = dependencies(everything.extras)
    missing = {
        canonicalize_name(one.name) for one in needed if one.marker is None or one.marker.evaluate()
    } - components
    if found["metadata"]["component"]["version"] != version or missing:
        session.error(f"{report} is not whole: {', '.join(sorted(missing))} missing")
    session.log("%d components: %s", len(components), report)


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
