"""What OpenTelemetry is told by an app that is used, and what it is never told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from example_models import Plugins
from opentelemetry import trace

from prefsync import Runtime, Settings, Subject
from prefsync.adapters.memory import MemoryCache, MemoryNotifier, MemoryRepository
from prefsync.adapters.opentelemetry import COUNTERS, LAG, LAG_BUCKETS, REASONS, VALUES, OtelTelemetry
from prefsync.http.problems import STATUS
from prefsync.parts import Parts
from prefsync.testing import FailingCache, FailingNotifier, assert_synced

if TYPE_CHECKING:
    from prefsync.testing import Device, Stage
    from tests.telemetry.conftest import Told

CANARY = "c4n4ry"


def test_a_day_in_the_life(stage: Stage, told: Told) -> None:
    """Sessions, starts, changes, reads, deliveries and refusals are counted as they happened."""
    phone, laptop = stage.devices("phone", "laptop")
    phone.read()  # for the first time
    phone.patch("appearance", theme="dark")
    assert_synced(phone, laptop)
    laptop.go_offline()
    phone.patch("appearance", theme="light")
    laptop.go_online().settled()
    refused = phone.request("PATCH", "/preferences/appearance", json={"theme": "pink"})
    assert refused.status == 422
    told.deliveries(3)
    series = told.series()
    assert series["prefsync.session.active", "events"] == 2
    assert series["prefsync.session.starts", "events", "first"] == 2
    assert series["prefsync.session.starts", "events", "resumed"] == 1
    assert series["prefsync.changes",] == 2
    assert series["prefsync.refusals", "invalid-preferences"] == 1
    # The first change was delivered to both, the second to the phone: the laptop came for it.
    assert series[LAG, "events"] == 3
    assert series["prefsync.cache.reads", "hit"] > series["prefsync.cache.reads", "miss"] > 0
    for device in (phone, laptop):
        device.go_offline()
    assert told.series()["prefsync.session.active", "events"] == 0


def test_lag_is_measured_in_seconds(stage: Stage, told: Told) -> None:
    """From the change to its delivery, by the clock, in the buckets of the promise."""
    phone, laptop = stage.devices("phone", "laptop")
    with stage.network.losing():
        phone.patch("appearance", theme="dark")
    told.clock.advance(7)
    stage.reconcile()
    assert_synced(phone, laptop)
    metric = told.deliveries(2)
    (point,) = metric.data.data_points
    assert metric.unit == "s"
    assert tuple(point.explicit_bounds) == LAG_BUCKETS
    assert (point.count, point.min, point.max) == (2, 7.0, 7.0)


def test_a_session_that_has_to_begin_anew(stage: Stage, told: Told) -> None:
    """Coming back with what is not in the log any more is a reset, coming with nothing is not."""
    phone = stage.device()
    phone.patch("appearance", theme="dark")
    phone.settled().go_offline()
    stage.run(lambda: stage.runtime.service.erase(Subject("alice")))
    phone.go_online().wait_until(lambda device: device.resets == 2)
    assert told.series()["prefsync.session.starts", "events", "reset"] == 1


async def test_lost_races(told: Told) -> None:
    """A write that another process was faster than is counted, and made anew."""
    repository = MemoryRepository()
    parts = Parts(
        repository=repository, cache=MemoryCache(), notifier=MemoryNotifier(), telemetry=told.telemetry
    )
    elsewhere = Parts(repository=repository, cache=MemoryCache(), notifier=MemoryNotifier())
    async with (
        Runtime([Plugins], parts=parts, authenticates=False) as here,
        Runtime([Plugins], parts=elsewhere, authenticates=False) as there,
    ):
        for turn, runtime in enumerate([here, there, here]):
            await runtime.handle(Subject("alice")).update(Plugins, **{f"turn{turn}": turn})
        assert len(await here.handle(Subject("alice")).get(Plugins)) == 3
    assert told.series()["prefsync.write.conflicts",] == 1
    assert told.series()["prefsync.changes",] == 2


async def test_what_the_relay_makes_good(told: Told) -> None:
    """What a writer could not announce, or could not put into the shared cache, is counted when the relay does it."""
    from tests.unit.support import ANNA, Appearance, Process

    cache, notifier = FailingCache(MemoryCache()), FailingNotifier(MemoryNotifier())
    process = Process(cache=cache, notifier=notifier, shared=True, telemetry=told.telemetry)
    handle = process.handle(ANNA)
    cache.is_down = notifier.is_down = True
    await handle.update(Appearance, theme="dark")
    cache.is_down = notifier.is_down = False
    await process.relay.tell_own()
    assert told.series()["prefsync.relay.repeats",] == 1
    cache.loses = True
    await handle.update(Appearance, theme="light")
    cache.loses = False
    process.clock.advance(2)
    assert await process.relay.look() == 1
    assert told.series()["prefsync.relay.repeats",] == 2
    assert told.series()["prefsync.cache.repairs",] == 1


def test_trace_context_travels_with_the_change(stage: Stage, told: Told) -> None:
    """The delivery, in whichever process, is a child of the write, which is a child of what the host has under way."""
    phone, laptop = stage.devices("phone", "laptop")
    told.spans_kept.clear()
    phone.patch("appearance", theme="dark")
    assert_synced(phone, laptop)
    (write,) = [span for span in told.spans if span.name == "prefsync.write"]
    delivers = [span for span in told.spans if span.name == "prefsync.deliver" and span.parent is not None]
    assert [span.parent.span_id for span in delivers if span.parent] == [write.context.span_id]
    assert {span.context.trace_id for span in delivers} == {write.context.trace_id}
    assert delivers[0].kind is trace.SpanKind.CONSUMER


async def test_a_write_is_a_child_of_the_hosts_span(told: Told) -> None:
    """What the host has begun goes on in the write."""
    parts = Parts(
        repository=MemoryRepository(),
        cache=MemoryCache(),
        notifier=MemoryNotifier(),
        telemetry=told.telemetry,
    )
    async with Runtime([Plugins], parts=parts, authenticates=False) as runtime:
        with told.tracers.get_tracer("host").start_as_current_span("request") as request:
            await runtime.handle(Subject("alice")).update(Plugins, theme="dark")
    (write,) = [span for span in told.spans if span.name == "prefsync.write"]
    assert write.parent is not None
    assert write.parent.span_id == request.get_span_context().span_id


@pytest.mark.parametrize(
    "trace",
    [None, "", "junk", "00-" + "g" * 32 + "-" + "1" * 16 + "-01", "00-" + "0" * 32 + "-" + "0" * 16 + "-00"],
)
def test_a_trace_that_is_none_begins_one(told: Told, trace: str | None) -> None:
    """What another process sends cannot break a delivery."""
    with told.telemetry.delivery(trace):
        assert told.telemetry.trace() is not None
    (span,) = told.spans
    assert span.parent is None


def test_nothing_is_told_of_anybody(stage: Stage, told: Told) -> None:
    """No id, value, field, name, key, token or error text is anywhere in what was told."""
    device = stage.device(CANARY + "-user", CANARY + "-device")
    other = stage.device(CANARY + "-user", CANARY + "-other")
    for method, path, body in [
        ("PATCH", "/preferences/plugins", {CANARY: {CANARY: CANARY}}),
        ("PATCH", "/preferences/appearance", {"theme": CANARY}),
        ("PATCH", "/preferences/appearance", {CANARY: 1}),
        ("PUT", "/preferences/" + CANARY, {}),
        ("GET", "/preferences/changes?since=" + CANARY, ...),
        ("PATCH", "/preferences/plugins", {CANARY: None}),
    ]:
        device.request(method, path, json=body, headers={"Idempotency-Key": f"{CANARY}-{path}"})
    device.request("GET", "/preferences", headers={"Authorization": f"Bearer {CANARY}"})
    assert_synced(device, other)
    stage.run(lambda: _fail(stage))
    written = json.dumps([json.loads(span.to_json()) for span in told.spans])
    data = told.reader.get_metrics_data()
    assert data is not None
    written += data.to_json()
    assert "prefsync.write" in written
    assert "invalid-preferences" in written
    assert CANARY not in written
    allowed = {name: set(values) for name, values in VALUES.items()}
    for span in told.spans:
        assert set(span.attributes or {}) <= {"error.type"}
        assert not span.events
        assert span.status.description is None
    for metric in told.metrics().values():
        for point in metric.data.data_points:
            assert all(value in allowed[name] for name, value in point.attributes.items())


async def _fail(stage: Stage) -> None:
    """Make a write fail by an error that nobody thought of, with a value in its words."""

    def fail(*_: Any) -> None:
        raise ZeroDivisionError(CANARY)

    with pytest.raises(ZeroDivisionError):
        await stage.runtime.service.write(Subject(CANARY), None, condition=fail)  # type: ignore[arg-type]


def test_cardinality_is_bounded(stage: Stage, told: Told) -> None:
    """However many users, paths and names there are, there are no more series than the tables allow."""
    devices: list[Device] = []
    for number in range(20):
        device = stage.device(f"user-{number}")
        devices.append(device)
        device.patch("plugins", {f"field-{number}": number})
        device.request("GET", f"/preferences/nothing-{number}")
        device.request(f"ODD{number}", "/preferences")
    for number in range(1_000):
        told.telemetry.refused(f"reason-{number}")
        told.telemetry.opened(f"transport-{number}")  # type: ignore[arg-type]
        told.telemetry.delivered(f"transport-{number}", 0, 1)  # type: ignore[arg-type]
    bound = sum(_product(len(VALUES[name]) for name in attributes) for _, _, attributes in COUNTERS.values())
    bound += len(VALUES["prefsync.transport"])
    assert len(told.series()) <= bound < 60
    assert told.series()["prefsync.refusals", "other"] == 1_000


def _product(numbers: Any) -> int:
    product = 1
    for number in numbers:
        product *= number
    return product


async def test_reads_from_the_near_cache(told: Told) -> None:
    """What the process has by itself is counted as such, once for each read."""
    parts = Parts(
        repository=MemoryRepository(),
        cache=MemoryCache(),
        notifier=MemoryNotifier(),
        telemetry=told.telemetry,
    )
    settings = Settings(near_cache="1MiB")  # type: ignore[arg-type]  # as it is written in a configuration
    async with Runtime([Plugins], parts=parts, settings=settings, authenticates=False) as runtime:
        handle = runtime.handle(Subject("alice"))
        await handle.update(Plugins, theme="dark")
        with anyio.fail_after(30):
            while told.series()["prefsync.cache.reads", "near"] == 0:
                await handle.get(Plugins)
                await anyio.sleep(0.01)
        before = told.series()
        await handle.get(Plugins)
    after = told.series()
    counted = [
        after["prefsync.cache.reads", kind] - before["prefsync.cache.reads", kind]
        for kind in ("near", "hit", "miss")
    ]
    assert counted == [1, 0, 0]


def test_a_crowd_is_not_recorded_one_by_one(told: Told) -> None:
    """Of a change to many sessions the first are recorded, and whichever are late."""
    now = told.clock.now()
    for sessions in range(1, 101):
        told.telemetry.delivered("websocket", now, sessions)
    assert told.series()[LAG, "websocket"] == 16
    told.telemetry.delivered("websocket", now - 1_000, 101)
    assert told.series()[LAG, "websocket"] == 17


def test_reasons_are_the_problems_of_the_protocol() -> None:
    """Each refusal can be told by its name."""
    assert set(REASONS) == set(STATUS)


def test_several_of_one_process_tell_the_same(told: Told) -> None:
    """Two mounts, or one made anew after a fork, add to the same counts."""
    second = OtelTelemetry(meter_provider=told.meters, tracer_provider=told.tracers)
    told.telemetry.lost_race()
    second.lost_race()
    assert told.series()["prefsync.write.conflicts",] == 2
