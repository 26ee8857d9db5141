"""Devices of users of a host's own app, in one process and without a socket: what a host tests its app with."""

from prefsync.testing.devices.assertions import assert_synced
from prefsync.testing.devices.device import Device
from prefsync.testing.devices.differing import differences
from prefsync.testing.devices.messages import Reply
from prefsync.testing.devices.network import Network
from prefsync.testing.devices.stage import Stage

__all__ = ["Device", "Network", "Reply", "Stage", "assert_synced", "differences"]
