from prefsync.testing.realtime.client import RealtimeClient, RealtimeHost
from prefsync.testing.realtime.delivery import DeliveryContract
from prefsync.testing.realtime.joining import JoiningContract

__all__ = ["RealtimeClient", "RealtimeContract", "RealtimeHost"]


class RealtimeContract(JoiningContract, DeliveryContract):
    """All that protocol.md, section 3, promises of WebSocket, server-sent events, long polls and tickets."""
