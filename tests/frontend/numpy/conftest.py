"""The devices that the cases of this folder run on."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from same_as_numpy import Run, run_traced

import weft


def compiled(device: str, fn: Any, *args: Any) -> Any:
    """`fn(*args)` through `weft.jit` on a device."""
    return weft.jit(fn, device=device)(*args)


@pytest.fixture(params=["reference", pytest.param("cpu", marks=pytest.mark.slow)])
def run(request: pytest.FixtureRequest) -> Run:
    """Calls a function through weft: traced and walked by the reference, or compiled."""
    if request.param == "reference":
        return run_traced
    return functools.partial(compiled, request.param)
