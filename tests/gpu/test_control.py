"""Loops and branches on the emulated GPU, where the host drives them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.gpu.harness import needs_compiler, run
from weft.compiler.errors import IndexOutOfBoundsError
from weft.compiler.ir import Graph
from weft.compiler.parse import parse
from weft.devices.conformance.compare import assert_scaled
from weft.devices.conformance.control import (
    GATHER,
    SYMBOLIC,
    control_cases,
    symbolic_arguments,
)
from weft.devices.reference import evaluate

pytestmark = needs_compiler
_TYPES = ("bool", "bf16", "i64", "c64")
# one shape of a few element types: the others differ in what other tests look at
CASES = [c for c in control_cases()
         if not c[0].startswith("types-") or c[0].split("-")[1:3] in [[t, "1"] for t in _TYPES]]
CASES += [(f"symbolic-{t}-{b}", parse(SYMBOLIC), symbolic_arguments(t, b), 1e-6)
          for t, b in ((4, 5), (0, 2), (3, 0), (2, 300))]


@pytest.mark.parametrize(("label", "graph", "arrays", "rtol"), CASES, ids=[c[0] for c in CASES])
def test_control(label: str, graph: Graph, arrays: list[Any], rtol: float) -> None:
    for got, want in zip(run(graph, arrays), evaluate(graph, arrays)):
        assert_scaled(label, got, want, rtol)


def test_an_index_out_of_bounds_ends_the_loop() -> None:
    """The host, which waits for the condition anyway, sees it there."""
    with pytest.raises(IndexOutOfBoundsError) as caught:
        run(parse(GATHER), [np.arange(4, dtype=np.float32), np.array(1 << 62)])
    assert "index 4 is out of bounds for axis 0 with size 4" in str(caught.value)
    assert str(caught.value.origin) == "model.py:7"
