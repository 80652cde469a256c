"""Columns written side by side: whole vectors of every type, and what is left over."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cpu import test_gemm
from tests.cpu.test_gemm import RUNNABLE, run, sample, target
from weft.compiler.build import Builder
from weft.compiler.ir import Graph
from weft.compiler.kernel import pieces
from weft.compiler.kernel.columns import split_columns
from weft.compiler.kernel.ir import Program
from weft.compiler.kernel.program import build_program
from weft.compiler.target import Target
from weft.compiler.types import DTYPES, TensorType


@pytest.fixture(autouse=True)
def with_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs in which short last axes are written out, however small they are."""
    def build(graph: Graph, machine: Target) -> Program:
        program = build_program(graph, machine)
        assert split_columns(program) is not program
        return split_columns(program)
    monkeypatch.setattr(test_gemm, "build_program", build)
    monkeypatch.setattr(pieces, "LEAST_ELEMENTS", 64)


@pytest.mark.parametrize("level", RUNNABLE)
@pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("dtype", ["f32", "f64", "c64", "c128", "u8", "i16", "bool", "f16", "bf16"])
def test_stacks(level: str, count: int, dtype: str) -> None:
    b, d, n = Builder("f"), DTYPES[dtype], 203
    xs = [sample(np.random.default_rng(i), d, (n, 1)) for i in range(count)]
    parts = [b.param(f"x{i}", TensorType((n, 1), d)) for i in range(count)]
    graph = b.graph([b.add("concatenate", *parts, axis=1)])
    (got,) = run(graph, target(level), *xs, planned=False)
    np.testing.assert_array_equal(got, np.concatenate(xs, 1))


@pytest.mark.parametrize("level", RUNNABLE)
def test_reads_of_one_array_and_of_one_row(level: str) -> None:
    b, d, n = Builder("f"), DTYPES["f32"], 1001
    x, y = b.param("x", TensorType((n, 3), d)), b.param("y", TensorType((3,), d))
    graph = b.graph([b.sub(x, b.broadcast(y, (n, 3), (1,)))])
    rng = np.random.default_rng(4)
    xs, ys = sample(rng, d, (n, 3)), sample(rng, d, (3,))
    (got,) = run(graph, target(level), xs, ys, planned=False)
    np.testing.assert_array_equal(got, xs - ys)
