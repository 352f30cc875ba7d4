"""One warm pool for all tests of the room."""

from collections.abc import Iterator

import pytest

from viscera.config import DecodeSettings
from viscera.volume import DecodePool


@pytest.fixture(scope="session")
def pool() -> Iterator[DecodePool]:
    with DecodePool(DecodeSettings(processes=2, memory_mb=1024, timeout_s=20)) as pool:
        yield pool
