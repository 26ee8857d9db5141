"""The demo's page for Prometheus."""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.http.conftest import NO_TLS
from tests.servers import ServerProcess

pytestmark = pytest.mark.once

ROOT: Final = Path(__file__).parents[2]
DEMO: Final = [sys.executable, str(ROOT / "examples" / "demo.py")]
DASHBOARD: Final[dict[str, Any]] = json.loads((ROOT / "docs" / "dashboard.json").read_text(encoding="utf-8"))

# As Prometheus sets them itself, and Grafana.
OF_PROMETHEUS: Final = {"job"}
OF_GRAFANA: Final = {"__rate_interval", "__range"}

SELECTOR: Final = re.compile(r"\b(?P<name>prefsync_\w+)\{(?P<matchers>[^}]*)\}")
MATCHER: Final = re.compile(r"(?P<label>\w+)(?P<how>=~|!~|!=|=)\"(?P<value>(?:[^\"\\]|\\.)*)\"")
GROUPING: Final = re.compile(r"\bby \((?P<labels>[^)]*)\)")


def test_the_demo_shows_prometheus_what_happens(tmp_path: Path) -> None:
    """What is written and refused is on the page, which says where it is when the demo starts."""
    database = str(tmp_path / "demo.sqlite3")
    with (
        ServerProcess([*DEMO, "--port", "{port}", "--database", database]) as server,
        httpx2.Client(base_url=server.url, verify=NO_TLS, trust_env=False) as client,
    ):
        assert f"its metrics for Prometheus at {server.url}/metrics." in server.output
        token = client.post("/demo/token", json={"user": "alice"}).json()["token"]
        header = {"Authorization": f"Bearer {token}"}
        assert client.patch("/preferences/plugins", json={"a": 1}, headers=header).status_code == 200
        assert client.get("/preferences").status_code == 401
        page = client.get("/metrics")
        assert page.headers["Content-Type"].startswith("text/plain")
        found = {
            re.sub(r"otel_scope_\w+=\"[^\"]*\",?", "", name): float(count)
            for name, count in re.findall(r"^(prefsync_\S+) (\S+)$", page.text, re.MULTILINE)
        }
    assert found["prefsync_changes_total{}"] == 1
    assert found['prefsync_refusals_total{prefsync_refusal_reason="unauthenticated"}'] == 1
    assert found['prefsync_session_active{prefsync_transport="websocket"}'] == 0


def test_the_dashboard_asks_for_what_the_demo_shows(tmp_path: Path) -> None:
    """Each query names metrics, labels and values that are on the page once a change was delivered."""
    database = str(tmp_path / "demo.sqlite3")
    with (
        ServerProcess([*DEMO, "--port", "{port}", "--database", database]) as server,
        httpx2.Client(base_url=server.url, verify=NO_TLS, trust_env=False, timeout=30) as client,
    ):
        token = client.post("/demo/token", json={"user": "alice"}).json()["token"]
        header = {"Authorization": f"Bearer {token}"}
        with client.stream("GET", "/preferences/events", headers=header) as stream:
            lines = stream.iter_lines()
            assert "event: reset" in lines
            assert client.patch("/preferences/plugins", json={"a": 1}, headers=header).status_code == 200
            assert "event: change" in lines
            page = client.get("/metrics").text
    shown: dict[str, list[dict[str, str]]] = defaultdict(list)
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            shown[sample.name].append(sample.labels)
    faults = [
        f"{panel['title']}: {fault}"
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
        for fault in faults_of(target["expr"], target["legendFormat"], shown)
    ]
    assert faults == []


def faults_of(query: str, legend: str, shown: dict[str, list[dict[str, str]]]) -> list[str]:
    """Return what a query, or the legend of its answer, names that is not there."""
    variables = OF_GRAFANA | {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    faults = [f"${name} is no variable" for name in re.findall(r"\$(\w+)", query) if name not in variables]
    grouped = {label for found in GROUPING.finditer(query) for label in re.split(r",\s*", found["labels"])}
    faults += [f"{label} is lost" for label in re.findall(r"\{\{(\w+)\}\}", legend) if label not in grouped]
    selectors = list(SELECTOR.finditer(query))
    rest = GROUPING.sub("", SELECTOR.sub("", query))
    faults += [f"{name} is of every job" for name in re.findall(r"prefsync_\w+", rest)]
    for selector in selectors:
        name, series = selector["name"], shown.get(selector["name"], [])
        if not series:
            faults.append(f"{name} is not on the page")
        matchers = list(MATCHER.finditer(selector["matchers"]))
        if "job" not in {matcher["label"] for matcher in matchers}:
            faults.append(f"{name} is of every job")
        for label in {*grouped, *(matcher["label"] for matcher in matchers)} - OF_PROMETHEUS:
            if not any(label in labels for labels in series):
                faults.append(f"{name} has no label {label}")
        faults += [
            f"no {name} has {matcher[0]}"
            for matcher in matchers
            if matcher["label"] not in OF_PROMETHEUS and not hits(matcher, series)
        ]
    return faults


def hits(matcher: re.Match[str], series: list[dict[str, str]]) -> bool:
    """Tell whether a series has what a matcher looks for, or leaves out."""
    value = json.loads(f'"{matcher["value"]}"')  # PromQL and JSON escape alike what is used here
    pattern = value if matcher["how"].endswith("~") else re.escape(value)
    return any(re.fullmatch(pattern, labels.get(matcher["label"], "")) for labels in series)


@pytest.mark.parametrize(
    ("query", "legend", "fault"),
    [
        (
            'rate(prefsync_change_total{job=~"$job"}[$__rate_interval])',
            "",
            "prefsync_change_total is not on the page",
        ),
        ('prefsync_lag{job=~"$job", le="2.0"}', "", 'no prefsync_lag has le="2.0"'),
        ('prefsync_lag{job=~"$job", transport!="events"}', "", "prefsync_lag has no label transport"),
        ('sum by (way) (prefsync_lag{job=~"$job"})', "{{way}}", "prefsync_lag has no label way"),
        ('sum(prefsync_lag{job=~"$job"})', "{{le}}", "le is lost"),
        ('prefsync_lag{job=~"$jobs"}', "", "$jobs is no variable"),
        ("sum(prefsync_lag)", "", "prefsync_lag is of every job"),
        ('prefsync_lag{le="1.0"}', "", "prefsync_lag is of every job"),
    ],
)
def test_what_the_dashboard_must_not_ask_for_is_found(query: str, legend: str, fault: str) -> None:
    """A name that is misspelt, a label that is not there, a variable that nobody sets."""
    shown = {"prefsync_lag": [{"le": "1.0"}, {"le": "+Inf"}]}
    assert fault in faults_of(query, legend, shown)
    assert faults_of('sum by (le) (prefsync_lag{job=~"$job", le=~"1(\\\\.0)?"})', "{{le}}", shown) == []
