"""Loops and branches on the emulated GPU, where the host drives them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.conformance import test_control as control
from tests.gpu.harness import needs_compiler, run
from weft.compiler.errors import IndexOutOfBoundsError
from weft.compiler.parse import parse
from weft.devices.reference import evaluate

pytestmark = needs_compiler
RNG = np.random.default_rng(0)


def f32(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


CASES: dict[str, list[list[Any]]] = {
    "SWAP": [[np.arange(5, dtype=np.float32), -np.ones(5, np.float32)]],
    "ROTATE": [[np.int32(1), np.int32(2), np.int32(3), np.int64(n)] for n in (0, 1, 7)],
    "DUPLICATES": [[np.array([1.0, -0.0, np.inf]), np.array([0.5, 2.0, 1.0])]],
    "NESTED": [[np.int32(i), np.array([1.0, 2.0, -1.0, 0.5]), np.int64(n)]
               for i, n in ((0, 1), (1, 6), (5, 0), (-1, 6))],
    "WRITES": [[np.arange(6.0), np.array(n)] for n in (0, 5)],
    "SYMBOLIC": [[f32(t, b, 3), f32(b, 3)] for t, b in ((4, 5), (0, 2), (3, 0), (2, 300))],
    "GATHER": [[np.arange(4, dtype=np.float32), np.int64(4)]],
}


@pytest.mark.parametrize("name", CASES)
def test_graphs(name: str) -> None:
    graph = parse(getattr(control, name))
    for arrays in CASES[name]:
        arrays = [np.asarray(a) for a in arrays]
        control.same(run(graph, arrays), evaluate(graph, arrays), 1e-6)


@pytest.mark.parametrize("dtype", ["bool", "bf16", "i64", "c64"])
def test_element_types(dtype: str) -> None:
    graph = parse(control.types_graph(dtype, "3"))
    like = graph.params[0].tensor.dtype.numpy
    x, y = (RNG.integers(0, 2, 3).astype(like) for _ in range(2))
    for i in (0, 1):
        arrays = [x, y, np.asarray(np.int32(i))]
        control.same(run(graph, arrays), evaluate(graph, arrays), 1e-6)


def test_an_index_out_of_bounds_ends_the_loop() -> None:
    """The host, which waits for the condition anyway, sees it there."""
    graph = parse(control.GATHER)
    with pytest.raises(IndexOutOfBoundsError) as caught:
        run(graph, [np.arange(4, dtype=np.float32), np.array(1 << 62)])
    assert "index 4 is out of bounds for axis 0 with size 4" in str(caught.value)
    assert str(caught.value.origin) == "model.py:7"
