"""Telemetry by the OpenTelemetry API: spans and metrics for whatever SDK the host has set up, and for none at all.

Names follow OpenTelemetry's semantic conventions ("Naming", "Metrics"): ``prefsync.`` before all, units in UCUM. Every
attribute has one of a few values that are known beforehand; what is not known is told as ``other``.
"""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from itertools import product
from typing import TYPE_CHECKING, Any, Final, get_args
from weakref import WeakKeyDictionary

from prefsync.clock import Clock, SystemClock
from prefsync.errors import MissingExtraError, PrefsyncError
from prefsync.telemetry import CacheResult, Operation, Start, Telemetry, Transport

try:
    from opentelemetry import metrics as otel_metrics
    from opentelemetry import trace as otel_trace
    from opentelemetry.metrics import Observation
    from opentelemetry.trace import SpanKind, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise MissingExtraError("telemetry (prefsync.adapters.opentelemetry)", "telemetry") from error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["LAG_BUCKETS", "REASONS", "OtelTelemetry"]

_SCOPE: Final = "prefsync"
_DISTRIBUTION: Final = "prefsync-kit"

REASONS: Final = (
    "malformed-request",
    "unauthenticated",
    "insufficient-scope",
    "https-required",
    "origin-refused",
    "not-found",
    "method-not-allowed",
    "precondition-failed",
    "too-large",
    "unsupported-media-type",
    "invalid-preferences",
    "idempotency-mismatch",
    "precondition-required",
    "rate-limited",
    "unavailable",
)
"""For what is refused: the problems of protocol.md section 2, by name."""

OTHER: Final = "other"
"""What stands for anything else."""

_TRANSPORT: Final = "prefsync.transport"
_TRANSPORTS: Final = (*get_args(Transport), OTHER)

VALUES: Final = {
    _TRANSPORT: _TRANSPORTS,
    "prefsync.session.start": get_args(Start),
    "prefsync.cache.result": get_args(CacheResult),
    "prefsync.refusal.reason": (*REASONS, OTHER),
}
"""Every attribute of a metric, and every value that it can have."""

COUNTERS: Final[dict[str, tuple[str, str, tuple[str, ...]]]] = {
    "prefsync.cache.reads": (
        "{read}",
        "Times a document was asked for.",
        ("prefsync.cache.result",),
    ),
    "prefsync.cache.repairs": ("{document}", "Cached documents that the relay has put right.", ()),
    "prefsync.changes": ("{change}", "Changes committed.", ()),
    "prefsync.write.conflicts": ("{conflict}", "Times a write lost a race and was made anew.", ()),
    "prefsync.relay.repeats": ("{change}", "Changes that the relay announced in their writer's place.", ()),
    "prefsync.refusals": (
        "{refusal}",
        "Requests, frames and connections refused.",
        ("prefsync.refusal.reason",),
    ),
    "prefsync.session.starts": (
        "{start}",
        "How sessions began: first, resumed or reset.",
        (_TRANSPORT, "prefsync.session.start"),
    ),
    "prefsync.session.active": ("{session}", "Sessions that are open.", (_TRANSPORT,)),
}
"""What is counted: unit, description and attributes by name; the last one goes down, too."""

ACTIVE: Final = "prefsync.session.active"

LAG: Final = "prefsync.delivery.lag"
"""The one histogram, in seconds, with the transport as its attribute."""

LAG_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds: within one a change is promised to arrive, within thirty where a message was lost."""

# Recording takes an SDK some 7 µs, as much as the rest of a delivery: of one change to many sessions as many are
# recorded, and beyond them those that took this many seconds, which is longer than was promised.
_MOST_RECORDED: Final = 16
_LATE: Final = 1.0

# W3C Trace Context, section 3.2: what is anything else does not travel.
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

_PROPAGATOR: Final = TraceContextTextMapPropagator()


class OtelTelemetry(Telemetry):
    """Tells OpenTelemetry. Without an SDK in the host's process, nothing is kept.

    Args:
        tracer_provider: Where spans go; the global one where left out.
        meter_provider: Where measurements go; the global one where left out.
        clock: For the lag of deliveries.
    """

    is_on = True

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._tracer = otel_trace.get_tracer(_SCOPE, version(_DISTRIBUTION), tracer_provider)
        provider = meter_provider or otel_metrics.get_meter_provider()
        with _lock:
            # Several runtimes of a process tell the same instruments: a second one of a name would count for nothing.
            if provider not in _instruments:
                _instruments[provider] = _Instruments(provider.get_meter(_SCOPE, version(_DISTRIBUTION)))
            self._instruments = _instruments[provider]
        self._add = self._instruments.add

    def cache_read(self, result: CacheResult) -> None:
        self._add("prefsync.cache.reads", result)

    def written(self, changes: int) -> None:
        self._add("prefsync.changes", by=changes)

    def lost_race(self) -> None:
        self._add("prefsync.write.conflicts")

    def refused(self, reason: str) -> None:
        self._add("prefsync.refusals", reason)

    def repeated(self) -> None:
        self._add("prefsync.relay.repeats")

    def repaired(self) -> None:
        self._add("prefsync.cache.repairs")

    def opened(self, transport: Transport) -> None:
        self._add(ACTIVE, transport)

    def closed(self, transport: Transport) -> None:
        self._add(ACTIVE, transport, by=-1)

    def began(self, transport: Transport, start: Start) -> None:
        self._add("prefsync.session.starts", transport, start)

    def delivered(self, transport: Transport, at: int, sessions: int) -> None:
        # Clocks of two processes differ: a change cannot arrive before it was made.
        lag = max(0.0, (self._clock.now() - at) / 1000)
        if sessions <= _MOST_RECORDED or lag >= _LATE:
            known = transport if transport in _TRANSPORTS else OTHER
            self._instruments.lag.record(lag, {_TRANSPORT: known})

    @contextmanager
    def span(self, operation: Operation) -> Iterator[None]:
        # What an error says may hold a value: its kind is told, and never its words.
        with self._tracer.start_as_current_span(
            f"prefsync.{operation}", record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except Exception as error:
                kind = error.code if isinstance(error, PrefsyncError) else type(error).__qualname__
                span.set_attribute("error.type", kind)  # semantic conventions, "Recording errors"
                span.set_status(StatusCode.ERROR)
                raise

    def trace(self) -> str | None:
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier)
        return carrier.get("traceparent")

    @contextmanager
    def delivery(self, trace: str | None) -> Iterator[None]:
        is_known = trace is not None and _TRACEPARENT.fullmatch(trace)
        with self._tracer.start_as_current_span(
            "prefsync.deliver",
            context=_PROPAGATOR.extract({"traceparent": trace}) if trace and is_known else None,
            kind=SpanKind.CONSUMER,
            record_exception=False,
            set_status_on_exception=False,
        ):
            yield


class _Instruments:
    """What one meter is told.

    Counts are kept here and read when somebody collects: an SDK's own counter takes 6.5 µs, seven times as long, and a
    cached read no more than 10.

    Args:
        meter: Where they are shown.
    """

    def __init__(self, meter: Meter) -> None:
        self._lock = threading.Lock()
        # All that is known beforehand begins at 0: whoever looks at rates then sees the first event, too.
        self._counts = {
            name: dict.fromkeys(product(*(_known(attribute) for attribute in attributes)), 0)
            for name, (_, _, attributes) in COUNTERS.items()
        }
        for name, (unit, description, _) in COUNTERS.items():
            create: Any = meter.create_observable_counter
            if name == ACTIVE:
                create = meter.create_observable_up_down_counter
            create(name, [partial(self._observe, name)], unit, description)
        self.lag = meter.create_histogram(
            LAG,
            "s",
            "From a change to its delivery to a session.",
            explicit_bucket_boundaries_advisory=LAG_BUCKETS,
        )

    def add(self, name: str, *values: str, by: int = 1) -> None:
        """Count.

        Args:
            name: What.
            *values: Of its attributes, in order; one that is not known counts as ``other``.
            by: How many.
        """
        counts = self._counts[name]
        if values not in counts:
            values = tuple(
                value if value in VALUES[attribute] else OTHER
                for attribute, value in zip(COUNTERS[name][2], values, strict=True)
            )
        with self._lock:  # the server's threads count refusals, too
            counts[values] = counts.get(values, 0) + by

    def _observe(self, name: str, _options: CallbackOptions) -> Iterable[Observation]:
        with self._lock:
            counts = dict(self._counts[name])
        attributes = COUNTERS[name][2]
        return [
            Observation(count, dict(zip(attributes, values, strict=True))) for values, count in counts.items()
        ]


def _known(attribute: str) -> list[str]:
    return [value for value in VALUES[attribute] if value != OTHER]


_lock: Final = threading.Lock()
_instruments: Final[WeakKeyDictionary[MeterProvider, _Instruments]] = WeakKeyDictionary()
