"""What the test kit promises hosts, on an app in each framework; by the plugin's fixtures, as a host has them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from example_models import Appearance

import prefsync.testing
from prefsync import ConfigurationError, Subject
from prefsync.adapters.memory import MemoryRepository
from prefsync.parts import Parts
from prefsync.testing import Stage, assert_synced, differences
from prefsync.testing.devices.events import EventReader
from prefsync_fastapi import PrefSync

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefsync.testing import Device, FakeClock, Network

# What must not come is not waited for long; what comes late in spite of it fails nothing.
SOON = 0.2


def test_another_device_is_told(prefsync_devices: tuple[Device, Device]) -> None:
    """A write by one device is shown by the other, with its author's name, and by itself at once."""
    phone, laptop = prefsync_devices
    assert laptop["appearance"]["theme"] == "system"
    revision = phone.patch("appearance", theme="dark")
    assert phone["appearance"]["theme"] == "dark"
    laptop.settled()
    assert laptop["appearance"]["theme"] == "dark"
    assert laptop.revision == revision
    assert [change["origin"] for change in laptop.changes] == ["phone"]
    assert laptop.resets == 1
    assert_synced(phone, laptop)


def test_every_kind_of_write_is_told(prefsync_devices: tuple[Device, Device]) -> None:
    """What is set, replaced, removed and reset on one device is so on the other."""
    phone, laptop = prefsync_devices
    phone.patch("plugins", {"spelling": {"language": "en"}, "max-width": 2})
    phone.put("editor", tab_size=2, rulers=[80])
    assert_synced(phone, laptop)
    assert laptop["plugins"] == {"spelling": {"language": "en"}, "max-width": 2}
    laptop.patch("plugins", spelling=None)
    laptop.delete("editor")
    assert_synced(phone, laptop)
    assert phone["plugins"] == {"max-width": 2}
    assert phone["editor"]["tab_size"] == 4


def test_the_hosts_own_views_take_part(prefsync_devices: tuple[Device, Device]) -> None:
    """A view that changes preferences is told to all devices of whoever called it, and to nobody else's."""
    phone, laptop = prefsync_devices
    assert phone.request("POST", "/lights-out").ok() == "dark"
    assert_synced(phone, laptop)
    assert laptop["appearance"]["theme"] == "dark"


def test_users_are_kept_apart(prefsync_stage: Stage, prefsync_devices: tuple[Device, Device]) -> None:
    """Another user's device shows nothing of this, and is not synced with it."""
    phone, laptop = prefsync_devices
    other = prefsync_stage.device("bob", "tablet")
    phone.patch("appearance", theme="dark")
    assert_synced(phone, laptop)
    assert other.settled()["appearance"]["theme"] == "system"
    with pytest.raises(AssertionError, match="they are of two users, 'alice' and 'bob'") as error:
        assert_synced(phone, other)
    assert "/appearance/theme: 'dark' on phone, 'system' on tablet" in str(error.value)


def test_what_differs_is_named(
    prefsync_devices: tuple[Device, Device], prefsync_network: Network, prefsync_stage: Stage
) -> None:
    """A device that was not told is named with each field that it lacks; reconciling makes good what was lost."""
    phone, laptop = prefsync_devices
    with prefsync_network.losing():
        phone.patch("appearance", theme="dark", font_size=20)
    with pytest.raises(AssertionError) as error:
        laptop.settled(within=SOON)
    assert str(error.value).splitlines()[1:] == [
        "  /appearance/font_size: 14 on laptop, 20 in the app",
        "  /appearance/theme: 'system' on laptop, 'dark' in the app",
    ]
    assert prefsync_stage.reconcile() == 1
    assert_synced(phone, laptop)


def test_repeated_and_reordered_announcements_change_nothing(
    prefsync_devices: tuple[Device, Device], prefsync_network: Network
) -> None:
    """Each change is shown once and in order, whatever the network does to its announcement."""
    phone, laptop = prefsync_devices
    with prefsync_network.repeating(3), prefsync_network.reordering(2):
        for size in (10, 11, 12, 13, 15):
            phone.patch("appearance", font_size=size)
    assert_synced(phone, laptop)
    revisions = [change["revision"] for change in laptop.changes]
    assert revisions == sorted(set(revisions))


def test_a_cut_network_is_made_good(
    prefsync_devices: tuple[Device, Device], prefsync_network: Network
) -> None:
    """Writes go on while the notifier is away, and all devices have them when it is back."""
    phone, laptop = prefsync_devices
    with prefsync_network.cut():
        phone.patch("appearance", theme="dark")
    assert_synced(phone, laptop)


def test_a_device_that_was_offline_resumes(prefsync_devices: tuple[Device, Device]) -> None:
    """It says that it is offline, and gets what it missed, without a reset, when it is back."""
    phone, laptop = prefsync_devices
    laptop.go_offline()
    assert not laptop.is_online
    phone.patch("appearance", theme="dark")
    with pytest.raises(AssertionError, match="laptop is offline, so it is not told of changes"):
        laptop.settled()
    assert_synced(phone, laptop.go_online())
    assert laptop.resets == 1
    assert len(laptop.changes) == 1


def test_time_is_the_tests(
    prefsync_devices: tuple[Device, Device],
    prefsync_clock: FakeClock,
    prefsync_token: Callable[..., str],
) -> None:
    """Tokens expire when the clock is moved, streams end then, and a new one goes on."""
    phone, laptop = prefsync_devices
    stolen = {"Authorization": f"Bearer {prefsync_token(life=60)}"}
    assert phone.request("GET", "/settings", headers=stolen).status == 200
    prefsync_clock.advance(4_000)
    assert phone.request("GET", "/settings", headers=stolen).status == 401
    laptop.wait_until(lambda device: not device.is_online)
    phone.patch("appearance", theme="dark")
    with pytest.raises(AssertionError, match=r"the stream of laptop ended \(token-expired\)"):
        laptop.settled()
    assert_synced(laptop.go_online())


def test_a_refusal_says_why(
    prefsync_devices: tuple[Device, Device], prefsync_token: Callable[..., str]
) -> None:
    """A write that the app refuses fails the test with the app's words; one that is to be refused is looked at."""
    phone, _ = prefsync_devices
    with pytest.raises(AssertionError, match=r"422: invalid-preferences.*\n  /appearance/font_size: "):
        phone.patch("appearance", font_size=1_000)
    reading = {"Authorization": f"Bearer {prefsync_token(scopes=['preferences:read'])}"}
    refused = phone.request("PATCH", "/settings/editor", json={"tab_size": 2}, headers=reading)
    assert (refused.status, refused.json()["type"]) == (403, "urn:prefsync:problem:insufficient-scope")


def test_limits_are_not_in_the_way(prefsync_stage: Stage) -> None:
    """A test may have many devices and send many requests, on a clock that stands still."""
    devices = prefsync_stage.devices(*(f"device {number}" for number in range(12)))
    for number in range(150):
        devices[0].patch("editor", tab_size=1 + number % 16)
    assert_synced(*devices)


def test_threads_may_share_a_device(prefsync_devices: tuple[Device, Device]) -> None:
    """Writers in threads lose none of one another's fields."""
    phone, laptop = prefsync_devices
    threads = [
        threading.Thread(target=device.patch, args=("plugins", {f"{device.name}-{number}": number}))
        for number in range(4)
        for device in (phone, laptop)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_synced(phone, laptop)
    assert len(laptop["plugins"]) == 8


async def test_in_an_async_test(prefsync_devices: tuple[Device, Device]) -> None:
    """Devices work where an event loop runs, too: the app's is another one."""
    phone, laptop = prefsync_devices
    phone.patch("appearance", theme="dark")
    assert_synced(phone, laptop)


def test_the_hosts_own_authentication(make_app: Callable[..., Any]) -> None:
    """Where the host says who calls, devices are known by its headers; without them they are refused, with the reason."""
    app = make_app(own_authentication=True)
    with Stage(app, headers=lambda user: {"Cookie": f"user={user}"}) as stage:
        phone, laptop = stage.devices("phone", "laptop")
        phone.patch("appearance", theme="dark")
        assert_synced(phone, laptop)
    with Stage(app) as stage, pytest.raises(AssertionError, match="the app answered 401") as caught:
        stage.device()
    assert "override the fixture prefsync_headers" in " ".join(caught.value.__notes__)


def test_an_app_is_left_as_it_was(make_app: Callable[..., Any]) -> None:
    """Each stage begins with nothing stored, and afterwards the app has its own parts again."""
    app = make_app()
    for _ in range(2):
        with Stage(app) as stage:
            runtime = stage.runtime
            before = runtime.repository
            assert isinstance(before, MemoryRepository)
            device = stage.device()
            assert device["appearance"]["theme"] == "system"
            device.patch("appearance", theme="dark")
        assert not runtime.is_open
        assert runtime.settings.redis_url == "redis://127.0.0.1:1"
        assert not isinstance(runtime.repository, MemoryRepository)


def test_parts_of_the_hosts_own(make_app: Callable[..., Any]) -> None:
    """A repository that is handed over is used; what is in it is shown, and the code of the host's can be run."""
    repository = MemoryRepository()
    app = make_app()
    with Stage(app, parts=Parts(repository=repository)) as stage:
        stage.device("alice").patch("appearance", theme="dark")
    with Stage(app, parts=Parts(repository=repository)) as stage:
        assert stage.device("alice")["appearance"]["theme"] == "dark"
        model = next(iter(stage.runtime.schema.namespaces.values())).model
        found = stage.run(lambda: stage.runtime.handle(Subject("alice")).get(model))
        assert found.theme == "dark"


def test_an_app_without_preferences_is_refused() -> None:
    """The message says what to pass."""
    with pytest.raises(ConfigurationError, match="pass the FastAPI or Flask app that has PrefSync"):
        Stage(object())


def test_a_prefix_that_is_not_there_is_refused(make_app: Callable[..., Any]) -> None:
    """The message says which there are."""
    with pytest.raises(
        ConfigurationError, match="no preferences are mounted at '/x'; there are some at /settings"
    ):
        Stage(make_app(), prefix="/x")


def test_headers_that_are_no_function_are_refused(make_app: Callable[..., Any]) -> None:
    """The message shows one."""
    headers: Any = {"Cookie": "user=alice"}
    with pytest.raises(ConfigurationError, match="is a function of a user: lambda user"):
        Stage(make_app(own_authentication=True), headers=headers)


def test_a_mount_in_the_place_of_the_app_is_refused() -> None:
    """The message says what to pass."""
    mount = PrefSync([Appearance], authenticate=lambda: "anna")
    with pytest.raises(ConfigurationError, match="pass the FastAPI or Flask app that has PrefSync"):
        Stage(mount)


def test_differences_are_told_by_pointer() -> None:
    """By JSON pointer, types included, and no more than one can read."""
    assert differences({"a": {"b": 1}}, {"a": {"b": 1}}, "here", "there") == ""
    assert differences({"a": {"b/c": 1}}, {"a": {"b/c": True}}, "here", "there").splitlines()[1:] == [
        "  /a/b~1c: 1 here, True there"
    ]
    assert differences({"a": {}}, {"a": {"b": 1}, "c": {}}, "here", "there").splitlines()[1:] == [
        "  /a/b: absent here, 1 there",
        "  /c: only there",
    ]
    many = {"a": {str(number): number for number in range(100)}}
    assert differences(many, {"a": {}}, "here", "there").endswith("and 80 more")


def test_names_of_the_kit() -> None:
    """Every public name is there, and nothing else is promised."""
    for name in prefsync.testing.__all__:
        assert getattr(prefsync.testing, name).__name__ == name
    assert set(prefsync.testing._HOMES) == set(prefsync.testing.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = prefsync.testing.Nothing


@pytest.mark.parametrize("size", [1, 2, 7, 1_000])
def test_events_are_read_however_they_are_cut(size: int) -> None:
    """Comments and times to reconnect are no events, and no byte boundary matters."""
    stream = (
        'retry: 1000\n\nid: 1\nevent: reset\ndata: {"a":"\u00e9"}\n\n:\n\nid: 2\nevent: change\ndata: {}\n\n'
    ).encode()
    reader = EventReader()
    found = [
        event for start in range(0, len(stream), size) for event in reader.feed(stream[start : start + size])
    ]
    assert found == [("reset", '{"a":"\u00e9"}'), ("change", "{}")]
