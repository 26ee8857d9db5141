"""The wire protocol's push transports as tests: what section 3 of the protocol promises, on the wire of a real server.

It stands beside ``prefsync.testing.mount`` and runs the same app, under a real server in a process of its own: a
mount's test class overrides ``host`` with a :class:`RealtimeHost`. The frames are those of ``websockets``, which
the extra ``testing`` brings. As with ``MountContract``, ``anyio_backend`` must be ``asyncio`` and have a scope of
``class`` or wider.
"""

from prefsync.testing.realtime.catalogue import CatalogueContract
from prefsync.testing.realtime.client import RealtimeClient, RealtimeHost
from prefsync.testing.realtime.delivery import DeliveryContract
from prefsync.testing.realtime.frames import FramesContract
from prefsync.testing.realtime.handshakes import HandshakesContract
from prefsync.testing.realtime.hostile import HostileContract
from prefsync.testing.realtime.https import HttpsContract
from prefsync.testing.realtime.joining import JoiningContract
from prefsync.testing.realtime.limits import LimitsContract
from prefsync.testing.realtime.renewal import RenewalContract
from prefsync.testing.realtime.streams import StreamsContract
from prefsync.testing.realtime.tickets import TicketsContract
from prefsync.testing.realtime.waits import WaitsContract
from prefsync.testing.realtime.writes import WritesContract

__all__ = ["RealtimeClient", "RealtimeContract", "RealtimeHost"]


class RealtimeContract(
    WaitsContract,  # the first base's tests come last
    JoiningContract,
    DeliveryContract,
    HandshakesContract,
    TicketsContract,
    FramesContract,
    CatalogueContract,
    WritesContract,
    RenewalContract,
    StreamsContract,
    LimitsContract,
    HostileContract,
    HttpsContract,
):
    """All that protocol.md, section 3, promises of WebSocket, server-sent events, long polls and tickets."""
