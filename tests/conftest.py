"""Options and settings that all tests share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))          # `from strategies import …`

settings.register_profile("weft", deadline=None, suppress_health_check=[
    HealthCheck.too_slow, HealthCheck.data_too_large], print_blob=True)
settings.load_profile("weft")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`pytest --bless` re-writes golden texts with what the code gives now."""
    parser.addoption("--bless", action="store_true", help="re-write golden files")


@pytest.fixture
def bless(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be re-written."""
    return bool(request.config.getoption("--bless"))
