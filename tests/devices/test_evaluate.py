"""The evaluator by reference meanings: arguments are checked, symbolic sizes solved."""

from __future__ import annotations

import numpy as np
import pytest

from weft.compiler.errors import DTypeError, ShapeError
from weft.compiler.text import parse
from weft.devices.reference import bind_sizes, evaluate

GRAPH = parse("""graph @f(%x: f32[2*B + 1], %y: f32[B, C]) -> (f32[2*B + 1], f32[C, B*C], f32[]) {
  %a = add %x, 1.0:f32 : f32[2*B + 1]
  %s = reduce_sum %y {axes=[0]} : f32[C]
  %b = broadcast_in_dim %s {shape=[C, B*C], dims=[0]} : f32[C, B*C]
  %t = reduce_sum %y {axes=[0, 1]} : f32[]
  return %a, %b, %t
}""")
X, Y = np.arange(5, dtype=np.float32), np.ones((2, 3), np.float32)


def test_sizes_are_solved_and_used() -> None:
    assert bind_sizes(GRAPH, [X, Y]) == {"B": 2, "C": 3}
    a, b, t = evaluate(GRAPH, [X, Y])
    np.testing.assert_array_equal(a, X + 1)
    np.testing.assert_array_equal(b, np.full((3, 6), 2, np.float32))
    assert t.shape == () and t.dtype == np.float32 and t == 6
    assert [r.shape for r in evaluate(GRAPH, [X[:1], Y[:0]])] == [(1,), (3, 0), ()]


def test_arguments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"%x of @f got shape \[4\]\n  expected: f32\[2\*B"):
        evaluate(GRAPH, [X[:4], Y])
    with pytest.raises(ShapeError, match=r"%y of @f got shape \[6\]\n  expected: f32\[B, C\]"):
        evaluate(GRAPH, [X, Y.ravel()])
    with pytest.raises(DTypeError, match=r"%y of @f got float64\n  expected: f32\[B, C\]"):
        evaluate(GRAPH, [X, Y.astype(np.float64)])
    with pytest.raises(ShapeError, match="@f takes 2 arguments, got 1"):
        evaluate(GRAPH, [X])
