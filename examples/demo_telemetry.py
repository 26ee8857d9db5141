"""What prefsync tells OpenTelemetry, on a page for Prometheus: for the demo, and to be copied.

Needs ``opentelemetry-sdk`` and ``opentelemetry-exporter-prometheus``; without them there is no page, and nothing is told.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from demo_support import Reply

_is_on = False


def start() -> bool:
    """Have metrics kept in this process from now on, and return whether they can be."""
    global _is_on  # noqa: PLW0603  # as the SDK's own provider, which is the process's
    if find_spec("opentelemetry.exporter") is None or find_spec("opentelemetry.exporter.prometheus") is None:
        return False
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from opentelemetry.metrics import set_meter_provider
    from opentelemetry.sdk.metrics import MeterProvider

    set_meter_provider(MeterProvider([PrometheusMetricReader()]))
    _is_on = True
    return True


def page() -> Reply:
    """Return the metrics as Prometheus reads them; only this process's, so give each worker a port of its own."""
    if not _is_on:
        return b"Metrics are kept by demo.py alone.\n", 404, {"Content-Type": "text/plain; charset=utf-8"}
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    return generate_latest(), 200, {"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"}
