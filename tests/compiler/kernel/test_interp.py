"""Programs, run by the kernel interpreter, compute what their graphs mean."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_graphs import B, Make, N, build, check, data, kernels

from weft.compiler.errors import IndexOutOfBoundsError
from weft.compiler.kernel.interp import run_program
from weft.compiler.kernel.program import build_program
from weft.compiler.target import Target

F32 = 4e-6      # sums of a few dozen float32 elements, added in another order


# name -> (graph, kernels it must have, tolerance)
FUSED = {
    "softmax": (lambda b: b.softmax(b.x("x", 5, 33)), 1, F32),
    "layernorm": (lambda b: b.layernorm(b.x("x", 5, 33), b.x("s", 33), b.x("t", 33)), 1, F32),
    "logsumexp": (lambda b: b.logsumexp(b.x("x", 5, 33)), 1, F32),
    "variance": (lambda b: b.variance(b.x("x", 5, 33)), 1, F32),
    "dense_gelu": (lambda b: b.gelu(b.dense(b.x("x", 4, 8), b.x("w", 8, 6), b.x("b", 6))), 1, F32),
    "mean_and_variance": (
        lambda b: (lambda x: (b.mean(x), b.variance(x)))(b.x("x", 5, 33)), 1, F32),
    "gelu_bias": (
        lambda b: b.gelu(b.plus(b.x("x", 5, 33), b.broadcast(b.x("b", 33), (5, 33)))), 1, 0),
}


def mlp(b: Make):
    x = b.x("x", 4, 8)
    for k, (m, n) in enumerate([(8, 7), (7, 6), (6, 3)]):
        x = b.maximum(b.dense(x, b.x(f"w{k}", m, n), b.x(f"b{k}", n)), b.num(x, 0))
    return x


FUSED["mlp"] = (mlp, 3, F32)


def pairwise(b: Make):
    x, y = b.x("x", 6, 3), b.x("y", 5, 3)
    d = b.sub(b.broadcast(x, (6, 5, 3), (0, 2)), b.broadcast(y, (6, 5, 3), (1, 2)))
    return b.sqrt(b.reduce_sum(b.mul(d, d), axes=(2,)))


FUSED["pairwise"] = (pairwise, 1, F32)


@pytest.mark.parametrize("name", FUSED)
def test_known_cases_are_one_kernel(name):
    make, count, rtol = FUSED[name]
    program = check(build(make), rtol=rtol)
    assert kernels(program) == count, program.text()
