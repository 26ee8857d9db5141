"""Preferences for code that blocks: scripts, task workers, frameworks without ``async``."""

from prefsync.blocking.handle import BlockingPreferencesHandle
from prefsync.blocking.loop import LoopThread, LoopUser, loop_thread
from prefsync.blocking.runtime import BlockingRuntime
from prefsync.blocking.transactions import BlockingTransactionPreferences, within

__all__ = [
    "BlockingPreferencesHandle",
    "BlockingRuntime",
    "BlockingTransactionPreferences",
    "LoopThread",
    "LoopUser",
    "loop_thread",
    "within",
]
