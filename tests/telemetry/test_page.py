"""The page about telemetry, the dashboard and the demo's page for Prometheus say what the code does."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, generate_latest

from prefsync.adapters.opentelemetry import ACTIVE, COUNTERS, LAG, VALUES, OtelTelemetry

pytestmark = pytest.mark.once

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8")

# How the page calls what each method of a logger does.
LEVELS: Final = {"exception": "error, with a traceback"}


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the tables below a heading, without their heads."""
    section = re.split(r"\n## ", PAGE.split(f"\n## {heading}\n")[1])[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in lines]


def words(cell: str) -> list[str]:
    """Return what stands between backticks."""
    return re.findall(r"`([^`]+)`", cell)


def test_every_metric_has_its_row() -> None:
    """Name, kind, unit and attributes are those of the code."""
    said = {}
    for name, kind, attributes, *_ in [row for row in rows("Metrics") if len(row) > 2]:
        said[words(name)[0]] = (kind.split(",")[0], words(kind)[0], tuple(words(attributes)))
    done = {
        name: ("up-down counter" if name == ACTIVE else "counter", unit, attributes)
        for name, (unit, _, attributes) in COUNTERS.items()
    }
    assert said == {**done, LAG: ("histogram", "s", ("prefsync.transport",))}


def test_every_attribute_has_its_row() -> None:
    """With every value that it can have."""
    said = {words(row[0])[0]: tuple(words(row[1])) for row in rows("Metrics") if len(row) == 2}
    assert said == VALUES


def test_every_span_has_its_row() -> None:
    """And no other has."""
    source = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "src" / "prefsync").glob("*.py"))
    spans = {f"prefsync.{operation}" for operation in re.findall(r"telemetry\.span\(\"(\w+)\"\)", source)}
    assert {words(row[0])[0] for row in rows("Traces")} == {*spans, "prefsync.deliver"}


def logged() -> set[tuple[str, str]]:
    """Return every line that the code logs, with its level as the page calls it."""
    found = set()
    for file in (ROOT / "src").rglob("*.py"):
        if "testing" in file.parts:
            continue
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call):
                continue
            match call.func:
                case ast.Attribute(ast.Name("logger"), level):
                    pass
                case ast.Name("log"):
                    level = "warning, then debug"
                case _:
                    continue
            if level in {"addFilter", "setLevel"}:
                continue
            line = call.args[0]
            assert isinstance(line, ast.Constant), f"{file}:{call.lineno}: a line that cannot be looked up"
            has_trace = any(keyword.arg == "exc_info" for keyword in call.keywords)
            found.add((str(line.value), LEVELS["exception"] if has_trace else LEVELS.get(level, level)))
    return found


def test_every_log_line_has_its_row() -> None:
    """With its level; what asks for nothing below a warning needs no advice."""
    said = {(words(row[0])[0], row[1]) for row in rows("Log lines")}
    assert said == logged()
    assert all(row[2] or row[1] == "debug" for row in rows("Log lines"))


def exported() -> set[str]:
    """Return the names under which Prometheus knows the metrics."""
    reader = PrometheusMetricReader()
    provider = MeterProvider([reader])
    OtelTelemetry(meter_provider=provider).delivered("events", 0, 1)
    registry = CollectorRegistry()
    registry.register(reader._collector)
    text = generate_latest(registry).decode()
    provider.shutdown()
    return set(re.findall(r"^(prefsync_\w+)", text, re.MULTILINE))


def test_the_dashboard_asks_for_what_there_is() -> None:
    """Each query names metrics and labels as Prometheus has them, and no metric is left out."""
    dashboard = json.loads((ROOT / "docs" / "dashboard.json").read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    labels = {attribute.replace(".", "_") for attribute in VALUES}
    asked = {name for query in queries for name in re.findall(r"prefsync_\w+", query)} - labels
    there = exported()
    assert asked <= there
    assert {_family(name) for name in asked} == {_family(name) for name in there}
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)


def _family(name: str) -> str:
    return re.sub(r"_(bucket|count|sum|total|created)$", "", name)


def test_the_pages_code_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mount on the page can be made, and tells the providers that it was handed."""
    monkeypatch.setenv("PREFSYNC_JWT_KEY", "Zr4u7x!A%D*G-KaPdSgVkYp3s6v9y$B&E)H@McQf")
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(code, "telemetry.md", "exec"), names)  # noqa: S102  # which is what the page is for
    assert names["prefsync"].runtime.telemetry is names["telemetry"]
    assert names["prefsync"].runtime.hub.telemetry.is_on


_OFF = """
import sys
from prefsync import Preferences, Runtime, Settings

class Appearance(Preferences, namespace="appearance"):
    theme: str = "system"

settings = Settings(telemetry={on})
runtime = Runtime([Appearance], settings=settings, authenticates=False)
print(runtime.telemetry.is_on, "opentelemetry" in sys.modules)
"""


@pytest.mark.parametrize("on", [False, True])
def test_off_means_that_nothing_is_imported(on: bool) -> None:  # noqa: FBT001  # the case
    """OpenTelemetry is imported where it is asked for, and not elsewhere, though it is installed."""
    ran = subprocess.run(
        [sys.executable, "-c", _OFF.format(on=on)], capture_output=True, text=True, check=True, timeout=120
    )
    assert ran.stdout.split() == [str(on), str(on)]
