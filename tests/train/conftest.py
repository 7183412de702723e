"""Files are read in this process here: what confines the reading has tests of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mtspark.core.files import FileLimits, Policy, set_policy


@pytest.fixture(autouse=True)
def trusted_files() -> Iterator[None]:
    """A process for each of thousands of files takes long."""
    set_policy(Policy(FileLimits(), trust=True))
    yield
    set_policy(None)
