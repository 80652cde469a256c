"""The device that the cases of this folder run on."""

from __future__ import annotations

import pytest
from same_as_numpy import Run, run_traced


@pytest.fixture(params=["reference"])
def run(request: pytest.FixtureRequest) -> Run:
    """Calls a function through weft: one parameter for every device."""
    return run_traced
