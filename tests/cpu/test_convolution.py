"""Contractions over windows: sums over several axes, read in place, on every instruction set."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.cpu.test_gemm import RUNNABLE, run, target
from weft.compiler.build import Builder
from weft.compiler.ir import Graph
from weft.compiler.kernel.ir import Kernel
from weft.compiler.kernel.program import build_program
from weft.compiler.ops.convolution import labels_of
from weft.compiler.passes import Decompose
from weft.compiler.types import DTYPES, Size, TensorType
from weft.devices.cpu import gemm
from weft.devices.cpu.device import CpuDevice
from weft.devices.cpu.gemm_form import recognise

FORWARD, WEIGHTS = "b01f_01io->b01f", "f01b_i01o->01bf"


def graph_of(x: tuple[int, ...], w: tuple[int, ...], labels: str = FORWARD, dtype: str = "f32",
             strides: Any = (1, 1), dilation: Any = (1, 1), relu: bool = False) -> Graph:
    b, d = Builder("conv"), DTYPES[dtype]
    out = b.conv(b.param("x", TensorType(x, d)), b.param("w", TensorType(w, d)), strides=strides,
                 padding=((0, 0),) * 2, lhs_dilation=(1, 1), rhs_dilation=dilation,
                 dim_labels=labels, groups=1, batch_groups=1)
    if relu:
        out = b.maximum(out, b.scalar(0, d))
    return Decompose(CpuDevice().supported()).run(b.graph([out]), target("avx2"))


def whole(rng: np.random.Generator, graph: Graph) -> list[np.ndarray]:
    """Small whole numbers: sums in any order are exact."""
    return [rng.integers(-3, 4, p.shape).astype(p.dtype.numpy) for p in graph.params]


def expected(x: np.ndarray, w: np.ndarray, labels: str, strides: Any, dilation: Any) -> np.ndarray:
    """Straight from the definition: one tap of the kernel after another."""
    names = labels_of(labels)
    x = x.transpose([names.lhs.index(c) for c in "b01f"])
    w = w.transpose([names.rhs.index(c) for c in "01io"])
    size = [(n - (k - 1) * d - 1) // s + 1
            for n, k, s, d in zip(x.shape[1:3], w.shape[:2], strides, dilation)]
    out: Any = 0
    for i, j in np.ndindex(*w.shape[:2]):
        taken = x[(slice(None), *(slice(k * d, k * d + (n - 1) * s + 1, s)
                                  for k, d, n, s in zip((i, j), dilation, size, strides)))]
        out = out + taken @ w[i, j]
    return out.transpose(["b01f".index(c) for c in names.out])


SHAPES: list[tuple[tuple[int, ...], tuple[int, ...], str, Any, Any]] = [
    ((2, 7, 9, 3), (3, 3, 3, 8), FORWARD, (1, 1), (1, 1)),
    ((1, 9, 21, 5), (3, 2, 5, 33), FORWARD, (2, 1), (1, 2)),
    ((3, 8, 40, 4), (2, 5, 4, 64), FORWARD, (1, 2), (1, 1)),
    ((2, 6, 10, 200), (3, 3, 200, 17), FORWARD, (1, 1), (1, 1)),         # 1800 turns: sums kept
    ((1, 5, 8, 1100), (2, 2, 1100, 9), FORWARD, (1, 1), (2, 1)),         # 2200 of them inside
    ((1, 4, 9, 600), (3, 3, 600, 16), FORWARD, (1, 1), (1, 1)),          # 5400: in blocks
    ((7, 21, 23, 6), (7, 19, 21, 20), WEIGHTS, (1, 1), (1, 1)),          # a weight's gradient
    ((40, 13, 12, 3), (40, 11, 10, 32), WEIGHTS, (1, 1), (1, 1)),
    ((9, 41, 40, 8), (9, 20, 20, 24), WEIGHTS, (1, 1), (2, 2)),
]


@pytest.mark.parametrize("level", RUNNABLE)
@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("case", SHAPES, ids=lambda c: "-".join(map(str, c[0])))
def test_shapes(level: str, threads: int, case: Any) -> None:
    """Whole numbers, exactly; the kernel is a contraction, and no window is stored."""
    x, w, labels, strides, dilation = case
    graph = graph_of(x, w, labels, strides=strides, dilation=dilation)
    operands = whole(np.random.default_rng(1), graph)
    machine = target(level, threads)
    (got,) = run(graph, machine, *operands)
    np.testing.assert_array_equal(got, expected(*operands, labels, strides, dilation))


@pytest.mark.parametrize("level", RUNNABLE)
@pytest.mark.parametrize("dtype", ["f64", "c64", "c128", "i32", "i8", "u16", "f32"])
@pytest.mark.parametrize("n", [5, 48])
def test_element_types(level: str, dtype: str, n: int) -> None:
    graph = graph_of((2, 6, 9, 3), (3, 3, 3, n), dtype=dtype, relu=not dtype.startswith("c"))
    operands = whole(np.random.default_rng(2), graph)
    (got,) = run(graph, target(level), *operands)
    want = expected(*operands, FORWARD, (1, 1), (1, 1))
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want if dtype.startswith("c") else np.maximum(want, 0))


@pytest.mark.parametrize("level", RUNNABLE)
def test_long_sums_are_accurate(level: str) -> None:
    """Sums of 0.1: one run of float32 additions is off by much more."""
    graph = graph_of((64, 22, 22, 2), (64, 20, 20, 8), WEIGHTS)
    x, w = (np.full(p.shape, 0.1, np.float32) for p in graph.params)
    (got,) = run(graph, target(level), x, w)
    term = np.float32(0.1) * np.float32(0.1)
    exact = float(np.float32(0.1)) ** 2 * 64 * 400
    one_run = np.add.accumulate(np.full(64 * 400, term, np.float32))[-1]
    assert np.abs(got - exact).max() * 20 < np.abs(one_run - exact)


def test_what_is_recognised() -> None:
    """Rows are neighbours in a line of the image; lines share the weights."""
    graph = graph_of((4, 10, 34, 32), (3, 3, 32, 64))
    (step,) = build_program(graph, target("avx2")).steps
    assert isinstance(step.kernel, Kernel)
    form = recognise(step.kernel)
    assert form is not None
    assert (form.rows, form.columns, form.turns) == (32, 64, 288)
    assert [a.extent for a in form.nest] == [3, 96]
    assert [a.extent for a in form.lines] == [4, 8]
    plan = gemm.plan(step.kernel, replace(target("avx2"), threads=2))
    assert plan is not None
    assert plan.pack_left is None and plan.turns == 288 and plan.parallel


def test_symbolic_batch() -> None:
    """One compilation for every batch size."""
    b, d = Builder("conv"), DTYPES["f32"]
    x = b.param("x", TensorType((Size.symbol("B"), 6, 12, 3), d))
    w = b.param("w", TensorType((3, 3, 3, 8), d))
    out = b.conv(x, w, strides=(1, 1), padding=((0, 0),) * 2, lhs_dilation=(1, 1),
                 rhs_dilation=(1, 1), dim_labels=FORWARD, groups=1, batch_groups=1)
    graph = Decompose(CpuDevice().supported()).run(b.graph([out]), target("avx2"))
    rng = np.random.default_rng(3)
    for n in (1, 5):
        operands = [rng.integers(-3, 4, s).astype(np.float32)
                    for s in ((n, 6, 12, 3), (3, 3, 3, 8))]
        (got,) = run(graph, target("avx2", 2), *operands, B=n)
        np.testing.assert_array_equal(got, expected(*operands, FORWARD, (1, 1), (1, 1)))


@pytest.mark.parametrize("level", RUNNABLE)
@pytest.mark.parametrize("shape", [(20, 24), (7, 130), (64, 5)])
def test_long_products_of_columns(level: str, shape: tuple[int, int]) -> None:
    """The gradient of a 1x1 convolution by its weights: 6000 turns, in blocks."""
    (m, n), k, d = shape, 6000, DTYPES["f32"]
    b = Builder("gradient")
    x, y = b.param("x", TensorType((k, m), d)), b.param("y", TensorType((k, n), d))
    graph = b.graph([b.dot_general(x, y, contract=((0,), (0,)), batch=((), ()))])
    operands = whole(np.random.default_rng(4), graph)
    (got,) = run(graph, target(level, 3), *operands)
    np.testing.assert_array_equal(got, operands[0].T @ operands[1])
