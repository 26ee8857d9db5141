from prefsync.testing.realtime.client import RealtimeClient, RealtimeHost
from prefsync.testing.realtime.delivery import DeliveryContract
from prefsync.testing.realtime.frames import FramesContract
from prefsync.testing.realtime.handshakes import HandshakesContract
from prefsync.testing.realtime.joining import JoiningContract
from prefsync.testing.realtime.tickets import TicketsContract

__all__ = ["RealtimeClient", "RealtimeContract", "RealtimeHost"]


class RealtimeContract(JoiningContract, DeliveryContract, HandshakesContract, TicketsContract, FramesContract):
    """All that protocol.md, section 3, promises of WebSocket, server-sent events, long polls and tickets."""
