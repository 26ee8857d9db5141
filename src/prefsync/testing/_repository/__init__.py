"""The repository's contract, in parts by subject matter; ``prefsync.testing.repository`` puts them together."""
