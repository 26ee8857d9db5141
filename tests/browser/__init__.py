"""Tests in a browser: a package, for whose end alone its fixtures can wait."""
