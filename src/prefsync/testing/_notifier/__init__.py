"""The parts of the notifiers' contract; ``prefsync.testing.notifier`` puts them together."""
