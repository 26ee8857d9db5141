"""An SDK that keeps what it is told in memory, and apps that tell it."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from example_models import Appearance, Editor, Notifications, Plugins
from fastapi import FastAPI
from flask import Flask
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import prefsync_fastapi
import prefsync_flask
from prefsync import Settings
from prefsync.adapters.opentelemetry import LAG, OtelTelemetry
from prefsync.parts import Parts
from prefsync.testing import FakeClock, Stage
from prefsync.testing.samples import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

MODELS = [Appearance, Editor, Notifications, Plugins]


@dataclass
class Told:
    """What OpenTelemetry was told.

    Attributes:
        clock: The time of the apps that tell it.
    """

    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.spans_kept = InMemorySpanExporter()
        self.meters = MeterProvider([self.reader])
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans_kept))
        self.telemetry = OtelTelemetry(
            tracer_provider=self.tracers, meter_provider=self.meters, clock=self.clock
        )

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """The spans that have ended, oldest first."""
        return self.spans_kept.get_finished_spans()

    def deliveries(self, number: int) -> Any:
        """Return the metric of their lag once so many are counted: a device hears before its server has counted."""
        until = time.monotonic() + PATIENCE
        while (lag := self.metrics().get(LAG)) is None or sum(
            point.count for point in lag.data.data_points
        ) < number:
            assert time.monotonic() < until, lag
            time.sleep(0.01)
        return lag

    def metrics(self) -> dict[str, Any]:
        """Return the metrics by name."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def series(self) -> dict[tuple[str, ...], float]:
        """Return what was counted, by the metric's name and the values of its attributes; of histograms, how often."""
        return {
            (name, *(str(point.attributes[key]) for key in sorted(point.attributes, reverse=True))): getattr(
                point, "value", getattr(point, "count", 0)
            )
            for name, metric in self.metrics().items()
            for point in metric.data.data_points
        }


@pytest.fixture
def told() -> Iterator[Told]:
    """A telemetry, and what it was told."""
    told = Told()
    yield told
    told.meters.shutdown()
    told.tracers.shutdown()


def make_app(framework: str) -> Any:
    """Make an app in a framework."""
    settings = Settings(database_url="sqlite:///unused.sqlite3", jwt_key=secrets.token_urlsafe(48))
    if framework == "flask":
        app = Flask(__name__)
        prefsync_flask.PrefSync(app, MODELS, settings=settings)
        return app
    app = FastAPI()
    app.include_router(prefsync_fastapi.PrefSync(MODELS, settings=settings).router, prefix="/preferences")
    return app


@pytest.fixture(params=["fastapi", "flask"])
def stage(request: pytest.FixtureRequest, told: Told) -> Iterator[Stage]:
    """A running app that tells it."""
    with Stage(make_app(request.param), parts=Parts(telemetry=told.telemetry), clock=told.clock) as stage:
        yield stage
