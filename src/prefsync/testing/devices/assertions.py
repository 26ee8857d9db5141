"""What a test says of devices."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from prefsync.testing.devices.differing import differences
from prefsync.testing.devices.messages import PATIENCE

if TYPE_CHECKING:
    from prefsync.testing.devices.device import Device

__all__ = ["assert_synced"]


def assert_synced(*devices: Device, within: float = PATIENCE) -> None:
    """Wait until all devices show what the app has, and so the same.

    Args:
        *devices: Of one user.
        within: Seconds after which a device counts as not told; a bound and no pause.

    Raises:
        AssertionError: One was not told, or they are not one user's; the message names each field that differs.
    """
    __tracebackhide__ = True  # pytest then shows the test's line
    for device in devices:
        device.settled(within=within)
    for one, other in pairwise(devices):
        found = differences(one.values, other.values, f"on {one.name}", f"on {other.name}")
        if found:
            raise AssertionError(f"{one.name} and {other.name} differ{_owners(one, other)}{found}")


def _owners(one: Device, other: Device) -> str:
    return "" if one.user == other.user else f" (they are of two users, {one.user!r} and {other.user!r})"
