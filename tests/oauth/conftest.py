"""An issuer for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.oauth.issuer import Issuer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """An issuer that publishes the key ``first``, for ES256."""
    with Issuer() as issuer:
        yield issuer
