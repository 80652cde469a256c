"""One row against a matrix whose rows lie along k: the schedule with dot products side by side."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cpu.test_gemm import (
    BODIES,
    RUNNABLE,
    check_product,
    operands,
    pairs,
    product,
    program_of,
    run,
    sample,
    target,
    wide,
)
from weft.compiler.kernel.ir import Kernel
from weft.compiler.kernel.program import build_program
from weft.compiler.types import DTYPES
from weft.devices.cpu import gemm

# columns and turns: rows left over, turns left over, fewer rows than are taken at once
SHAPES = [(64, 128), (37, 100), (8, 67), (3, 200), (1000, 71), (17, 64), (2, 4100)]


@pytest.mark.parametrize("level", RUNNABLE)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["f32", "f64", "c64", "i32", "bool", "f16"])
def test_shapes_and_dtypes(level: str, shape: tuple[int, int], dtype: str) -> None:
    n, k = shape
    d, graph = DTYPES[dtype], product(dtype, 1, n, k, "nt")
    (step,) = program_of(graph, target(level)).steps
    assert isinstance(step.kernel, Kernel)
    plan = gemm.plan(step.kernel, target(level))
    assert plan is not None and plan.beside
    a, b, x, y = operands(np.random.default_rng(n), d, 1, n, k, "nt")
    check_product(run(graph, target(level), x, y)[0], a, b, d)


@pytest.mark.parametrize("level", RUNNABLE)
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("k", [48, 61])
def test_general_bodies(level: str, body: str, k: int) -> None:
    """What the lanes past the last turn read must not count, whatever the body makes of it."""
    build, meaning = BODIES[body]
    rng, n = np.random.default_rng(11), 45
    xs, ys = sample(rng, DTYPES["f32"], (1, k)), sample(rng, DTYPES["f32"], (n, k))
    (got,) = run(pairs("f32", 1, n, k, build), target(level), xs, ys)
    want = meaning(wide(xs)[:, None], wide(ys)[None]).sum(-1)
    np.testing.assert_allclose(got, want, rtol=0, atol=20 * k * float(np.finfo(np.float32).eps))


def test_threads_take_whole_groups_of_rows() -> None:
    """Units of several threads begin at multiples of the rows taken at once."""
    machine, d = target(RUNNABLE[0], 3), DTYPES["f32"]
    graph = product("f32", 1, 1003, 500, "nt")
    (step,) = program_of(graph, machine).steps
    assert isinstance(step.kernel, Kernel)
    plan = gemm.plan(step.kernel, machine)
    assert plan is not None and plan.parallel and plan.unit_columns % plan.rows == 0
    a, b, x, y = operands(np.random.default_rng(5), d, 1, 1003, 500, "nt")
    check_product(run(graph, machine, x, y)[0], a, b, d)


def test_few_turns_are_left_to_the_general_loops() -> None:
    machine = target(RUNNABLE[0])
    (step,) = build_program(product("f32", 1, 1000, 3, "nt"), machine).steps
    assert isinstance(step.kernel, Kernel) and gemm.plan(step.kernel, machine) is None
