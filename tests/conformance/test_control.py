"""Control flow on every device and in the kernel interpreter, against the reference meaning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.conformance.devices import DEVICES, Subject
from weft.compiler.errors import IndexOutOfBoundsError
from weft.compiler.ir import Graph
from weft.compiler.kernel.interp import run_program
from weft.compiler.kernel.program import build_program
from weft.compiler.kernel.split import split_reductions
from weft.compiler.passes import run_pipeline
from weft.compiler.target import Target
from weft.compiler.text import parse
from weft.compiler.verify import verify
from weft.devices.conformance.compare import assert_scaled
from weft.devices.conformance.control import (
    GATHER,
    SYMBOLIC,
    SYMBOLIC_SIZES,
    control_cases,
    symbolic_arguments,
)
from weft.devices.reference import evaluate

CASES = list(control_cases())
CASES += [(f"symbolic-{t}-{b}", parse(SYMBOLIC), symbolic_arguments(t, b), 1e-6)
          for t, b in SYMBOLIC_SIZES]


def same(got: list[Any], want: list[Any], rtol: float) -> None:
    assert len(got) == len(want)
    for a, b in zip(got, want):
        assert_scaled("", a, b, rtol)


@pytest.mark.parametrize(("label", "graph", "arrays", "rtol"), CASES, ids=[c[0] for c in CASES])
def test_control(label: str, graph: Graph, arrays: list[Any], rtol: float) -> None:
    """The interpreter and the devices, before and after the passes, give what the reference gives.
    """
    verify(graph)
    assert parse(graph.text()) == graph
    want = evaluate(graph, arrays)
    optimized, _ = run_pipeline(graph, Target())
    for g in (graph, optimized):
        program = build_program(g, Target())
        for p in (program, split_reductions(program, Target())):
            same(run_program(p, arrays), want, rtol)
        for device in DEVICES:
            same(device.run(g, arrays), want, rtol)


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_index_out_of_bounds_ends_the_loop(device: Subject) -> None:
    """The error names the first bad index and the user's line; the loop does not go on for ever."""
    graph, x = parse(GATHER), np.arange(4, dtype=np.float32)
    with pytest.raises(IndexOutOfBoundsError) as caught:
        device.run(graph, [x, np.array(1 << 62)])
    assert "index 4 is out of bounds for axis 0 with size 4" in str(caught.value)
    assert str(caught.value.origin) == "model.py:7"
