"""Windows and convolutions: their transposes are adjoint, batching is a loop, and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from weft.compiler.build import Builder
from weft.compiler.errors import WeftError
from weft.compiler.ir import Node
from weft.compiler.ops import OPS
from weft.compiler.types import TensorType, dtype_of
from weft.devices.reference.device import ReferenceDevice

NAMES = ("window", "unwindow", "fold", "copy", "conv", "reduce_window")
CASES = [(name, i) for name in NAMES for i in range(len(OPS[name].samples()))]
IDS = [f"{name}-{i}" for name, i in CASES]


def node_of(b: Builder, name: str, arrays: Any, attrs: Any) -> Node:
    params = [b.param(f"x{i}", TensorType(a.shape, dtype_of(a.dtype)))
              for i, a in enumerate(arrays)]
    return b.add(name, *params, **attrs)


def run(b: Builder, results: list[Node], arrays: list[np.ndarray]) -> list[np.ndarray]:
    device = ReferenceDevice()
    graph = b.graph(results)
    return device.lower(graph, device.target()).compile().run(arrays)


def like(rng: np.random.Generator, node: Node) -> np.ndarray:
    return rng.integers(-3, 4, node.shape).astype(node.dtype.numpy)


def case_of(name: str, i: int) -> Any:
    arrays, attrs = OPS[name].samples()[i]
    return [np.asarray(a) for a in arrays], attrs


@pytest.mark.parametrize(("name", "i"), CASES, ids=IDS)
def test_transposes_are_adjoint(name: str, i: int) -> None:
    """<ct, f(t)> = <transpose(ct), t> for every operand, on whole numbers: exactly."""
    arrays, attrs = case_of(name, i)
    if attrs.get("kind", "sum") != "sum":
        pytest.skip("a maximum is not linear")
    if arrays[0].dtype.kind == "i":
        pytest.skip("integers have no cotangents")
    rng = np.random.default_rng(i)
    for k in range(len(arrays)):
        b = Builder("adjoint")
        node = node_of(b, name, arrays, attrs)
        ct = b.param("ct", node.tensor)
        values = [like(rng, p) for p in b.params]
        back = node.op.transpose(b, node, ct, {k})
        assert [j for j, x in enumerate(back) if x is not None] == [k]
        out, mine = run(b, [node, back[k]], values)
        assert (mine.shape, mine.dtype) == (arrays[k].shape, arrays[k].dtype)
        assert (values[-1].astype(complex) * out).sum() == (mine.astype(complex) * values[k]).sum()


@pytest.mark.parametrize(("name", "i"), CASES, ids=IDS)
def test_batching_is_a_loop(name: str, i: int) -> None:
    arrays, attrs = case_of(name, i)
    rng = np.random.default_rng(i)
    for mask in range(1, 1 << len(arrays)):
        batched = [bool(mask >> k & 1) for k in range(len(arrays))]
        b = Builder("plain")
        node = node_of(b, name, arrays, attrs)
        wide = [np.stack([like(rng, p) for _ in range(3)]) if m else like(rng, p)
                for m, p in zip(batched, b.params)]
        want = [run(b, [node], [x[n] if m else x for x, m in zip(wide, batched)])[0]
                for n in range(3)]
        b2 = Builder("batched")
        inputs = [b2.param(f"y{k}", TensorType(x.shape, dtype_of(x.dtype)))
                  for k, x in enumerate(wide)]
        (got,) = run(b2, [node.op.batch(b2, node, inputs, batched)], wide)
        np.testing.assert_array_equal(got, np.stack(want))


def test_maximum_takes_the_first() -> None:
    """Of equal elements the first has the derivative; a NaN counts as the largest."""
    b = Builder("pool")
    x = b.param("x", TensorType((6,), dtype_of("f64")))
    t = b.param("t", TensorType((6,), dtype_of("f64")))
    attrs: dict[str, Any] = {"kind": "max", "axes": (0,), "size": (3,), "stride": (3,),
                             "padding": ((0, 0),), "dilation": (1,)}
    node = b.reduce_window(x, **attrs)
    (out,) = run(b, [node.op.jvp(b, node, [t])],
                 [np.array([1.0, 2.0, 2.0, np.nan, 5.0, np.nan]), np.arange(1.0, 7.0)])
    np.testing.assert_array_equal(out, [2.0, 4.0])


def conv(x: str, w: str, **more: Any) -> str:
    """What a convolution of these shapes says."""
    b = Builder("conv")

    def param(name: str, text: str) -> Node:
        kind, _, shape = text.partition(" ")
        return b.param(name, TensorType(tuple(map(int, shape.split())), dtype_of(kind)))
    n = len(x.split()) - 3
    attrs = {"strides": (1,) * n, "padding": ((0, 0),) * n, "lhs_dilation": (1,) * n,
             "rhs_dilation": (1,) * n, "dim_labels": "b01f_01io->b01f", "groups": 1,
             "batch_groups": 1}
    with pytest.raises(WeftError) as error:
        b.conv(param("x", x), param("w", w), **{**attrs, **more})
    return str(error.value)


X, W = "f32 2 8 8 3", "f32 3 3 3 4"


@pytest.mark.parametrize(("x", "w", "more", "message"), [
    (X, "f64 3 3 3 4", {}, "conv got f32 and f64\n  expected: one element type"),
    (X, "f32 3 3 4", {}, "conv got f32[2, 8, 8, 3] and f32[3, 3, 4] with dim_labels="
     "'b01f_01io->b01f'\n  expected: arrays of 4 dimensions"),
    (X, "f32 3 3 5 4", {}, "conv of f32[2, 8, 8, 3] with weights f32[3, 3, 5, 4]: 3 input "
     "channel(s), the weights take 5 in each of 1 group(s)\n  expected: 5 input channel(s)"),
    (X, "f32 3 3 1 4", {"groups": 3}, "conv of f32[2, 8, 8, 3] with weights f32[3, 3, 1, 4]: "
     "output channels of 4 for 3 groups\n  expected: a multiple of 3"),
    (X, W, {"strides": (0, 1)}, "conv got strides=[0, 1]\n  expected: 2 positive number(s)"),
    (X, W, {"padding": ((0, 0),)}, "conv got padding=[(0, 0)]\n  expected: a pair (low, high) for "
     "each spatial axis"),
    (X, W, {"dim_labels": "b01f"}, "conv got dim_labels='b01f'\n  expected: labels such as "
     '"b01f_01io->b01f"'),
    (X, "f32 9 3 3 4", {}, "conv of f32[2, 8, 8, 3] with weights f32[9, 3, 3, 4]: along spatial "
     "axis 0 the kernel reaches over 9 element(s), the padded input has 8\n  expected: a kernel of "
     "at most 8\n  repair:   use a smaller kernel, less dilation or more padding"),
    (X, W, {"rhs_dilation": (1, 5)}, "conv of f32[2, 8, 8, 3] with weights f32[3, 3, 3, 4]: along "
     "spatial axis 1 the kernel reaches over 11 element(s), the padded input has 8\n  expected: a "
     "kernel of at most 8\n  repair:   use a smaller kernel, less dilation or more padding"),
])
def test_errors(x: str, w: str, more: dict[str, Any], message: str) -> None:
    assert conv(x, w, **more) == message
