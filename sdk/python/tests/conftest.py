"""The engines that tests ask for by name."""

import pytest

from troupe import Engine


@pytest.fixture(scope="module")
def engine():
    with Engine("echo:") as opened:
        yield opened


@pytest.fixture
def slow():
    with Engine("echo:?step_ms=5") as opened:
        yield opened
