"""The contract of :class:`prefsync.ports.ChangeNotifier`."""

from prefsync.testing._notifier.contract import NotifierContract, UnreliableNotifierContract
from prefsync.testing._notifier.outage import NotifierOutageContract

__all__ = ["NotifierContract", "NotifierOutageContract", "UnreliableNotifierContract"]
