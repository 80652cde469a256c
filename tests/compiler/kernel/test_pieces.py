"""Kernels with cases, cut into pieces, compute what they did before."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_graphs import TARGET

from tests.strategies import assert_same, graphs, inputs
from weft.compiler.build import Builder
from weft.compiler.ir import Graph
from weft.compiler.kernel import pieces
from weft.compiler.kernel.interp import run_program
from weft.compiler.kernel.ir import Kernel
from weft.compiler.kernel.program import build_program
from weft.compiler.types import TensorType, dtype_of
from weft.devices.reference import evaluate

F64 = dtype_of("f64")
MOVES = ("concatenate", "pad", "slice", "reverse", "elementwise", "select", "broadcast", "reshape")


def rolled(n: int) -> Graph:
    """np.roll(x, 7)"""
    b = Builder("rolled")
    x = b.param("x", TensorType((n,), F64))
    tail = b.add("slice", x, start=(n - 7,), limit=(n,), stride=(1,))
    head = b.add("slice", x, start=(0,), limit=(n - 7,), stride=(1,))
    return b.graph([b.add("concatenate", tail, head, axis=0)])


def test_roll_is_two_copies() -> None:
    program = pieces.split_pieces(build_program(rolled(1 << 16), TARGET))
    assert len(program.steps) == 2
    assert all(isinstance(s.kernel, Kernel) and "select" not in s.kernel.text()
               and " if " not in s.kernel.text() for s in program.steps)
    x = np.arange(1.0 * (1 << 16))
    assert_same(run_program(program, [x]), [np.roll(x, 7)])


def test_small_kernels_stay_whole() -> None:
    assert len(pieces.split_pieces(build_program(rolled(100), TARGET)).steps) == 1


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(graphs(transcendental=False, steps=MOVES, max_nodes=12), st.integers(0, 9))
def test_random_graphs(graph: Graph, seed: int) -> None:
    arrays = inputs(graph, seed)
    with patch.object(pieces, "LEAST_ELEMENTS", 1):
        program = pieces.split_pieces(build_program(graph, TARGET))
    assert_same(run_program(program, arrays), evaluate(graph, arrays), program.text())
