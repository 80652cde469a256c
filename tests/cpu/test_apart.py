"""Elements a few apart: read by whole vectors, whatever the step, the type and the machine."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cpu.test_gemm import RUNNABLE, run, sample, target
from weft.compiler.build import Builder
from weft.compiler.types import DTYPES, TensorType


@pytest.mark.parametrize("level", RUNNABLE)
@pytest.mark.parametrize("step", [2, 3, 4, 5, 8, 9, -2, -3, -7])
@pytest.mark.parametrize("dtype", ["f32", "f64", "c64", "c128", "i8", "u16", "bool", "f16", "bf16"])
def test_steps(level: str, step: int, dtype: str) -> None:
    """All of an array is used, so that a vector read past it would be past its end."""
    d = DTYPES[dtype]
    for n in (1, 33, 260):
        b = Builder("f")
        size = (n - 1) * abs(step) + 1
        x = b.param("x", TensorType((size,), d))
        y = b.slice(b.reverse(x, axes=(0,)) if step < 0 else x, start=(0,), limit=(size,),
                    stride=(abs(step),))
        graph = b.graph([y])
        xs = sample(np.random.default_rng(n), d, (size,))
        (got,) = run(graph, target(level), xs, planned=False)
        np.testing.assert_array_equal(got, xs[::step])


@pytest.mark.parametrize("level", RUNNABLE)
@pytest.mark.parametrize("dtype", ["f32", "c64", "i64"])
def test_columns(level: str, dtype: str) -> None:
    """Three neighbours each: a sum over a short last axis, and differences of columns."""
    b, d = Builder("f"), DTYPES[dtype]
    x = b.param("x", TensorType((1003, 3), d))
    columns = [b.slice(x, start=(0, k), limit=(1003, k + 1), stride=(1, 1)) for k in range(3)]
    graph = b.graph([b.reduce_sum(x, axes=(1,)), b.sub(columns[2], columns[0])])
    xs = sample(np.random.default_rng(3), d, (1003, 3))
    total, difference = run(graph, target(level), xs, planned=False)
    np.testing.assert_allclose(total, xs.sum(1), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(difference, xs[:, 2:] - xs[:, :1])
