"""Derivatives where factors are zero, elements are equal, or places are met twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from weft.compiler.build import Builder
from weft.compiler.ir import Graph, Node
from weft.compiler.transforms import jvp, vjp
from weft.compiler.types import TensorType, dtype_of
from weft.devices.conformance.points import Array, run

ROWS = {"axes": (0,), "position": 0}


def graph(make: Callable[..., Node], *arrays: Array) -> Graph:
    b = Builder("f")
    params = [b.param(f"x{i}", TensorType(a.shape, dtype_of(a.dtype)))
              for i, a in enumerate(arrays)]
    return b.graph([make(b, *params)])


def gradients(make: Callable[..., Node], *arrays: Array, ct: Any = None) -> list[Array]:
    """The cotangents of the real operands, given that of the result (ones)."""
    g = graph(make, *arrays)
    made = vjp(g, [a.dtype.kind == "f" for a in arrays])
    ones = np.ones(g.results[0].shape) if ct is None else np.asarray(ct, float)  # type: ignore[arg-type]
    return run(made, [*arrays, ones])[1:]


def jacobian(make: Callable[..., Node], *arrays: Array) -> Array:
    """Derivatives of a result by the elements of the last operand, found one by one: what depends
    on each element of it linearly has no error but rounding."""
    g = graph(make, *arrays)
    *others, x = arrays
    rows = []
    for k in range(x.size):
        e = np.zeros(x.size)
        e[k] = 1
        plus, minus = (run(g, [*others, x + s * e.reshape(x.shape)])[0] for s in (1, -1))
        rows.append((plus - minus) / 2)
    return np.moveaxis(np.array(rows), 0, -1).reshape(*rows[0].shape, *x.shape)


def tangent_jacobian(make: Callable[..., Node], *arrays: Array) -> Array:
    """The same by jvp."""
    g = graph(make, *arrays)
    *others, x = arrays
    made = jvp(g, [False] * len(others) + [True])
    rows = [run(made, [*arrays, e.reshape(x.shape)])[1] for e in np.eye(x.size)]
    return np.moveaxis(np.array(rows), 0, -1).reshape(*rows[0].shape, *x.shape)


def second(make: Callable[..., Node], *arrays: Array) -> tuple[Array, Array]:
    """The Hessian of the sum by the last operand: jvp of vjp, and exact differences of vjp."""
    g = graph(make, *arrays)
    n = len(arrays)
    *others, x = arrays
    back = vjp(g, [False] * len(others) + [True])
    ones = np.ones(g.results[0].shape)  # type: ignore[arg-type]
    made = jvp(back, [False] * (n - 1) + [True, False])
    got, want = [], []
    for e in np.eye(x.size):
        e = e.reshape(x.shape)
        got.append(run(made, [*arrays, ones, e])[-1])
        plus, minus = (run(back, [*others, x + s * e, ones])[1] for s in (1, -1))
        want.append((plus - minus) / 2)
    return np.array(got), np.array(want)


FACTORS = [[2.0, 3.0, 5.0], [2.0, 0.0, 5.0], [0.0, 3.0, 0.0, 2.0], [0.0, 0.0, 0.0], [0.0], [4.0],
           [-0.0, 2.0, -3.0]]


def total(b: Builder, x: Node) -> Node:
    return b.reduce_prod(x, axes=(0,))


def running(b: Builder, x: Node) -> Node:
    return b.cumprod(x, axis=0)


def placed(b: Builder, x: Node, i: Node, u: Node) -> Node:
    return b.scatter(x, i, u, combine="mul", mode="drop", **ROWS)


@pytest.mark.parametrize("make", [total, running])
@pytest.mark.parametrize("factors", FACTORS, ids=str)
def test_products(make: Callable[..., Node], factors: list[float]) -> None:
    """Exact with any number of zeros; so is the second derivative."""
    x = np.array(factors)
    np.testing.assert_array_equal(tangent_jacobian(make, x), jacobian(make, x))
    np.testing.assert_array_equal(*second(make, x))


def test_products_over_several_axes() -> None:
    x = np.arange(24.0).reshape(2, 3, 4) % 5

    def make(b: Builder, x: Node) -> Node:
        return b.reduce_prod(x, axes=(0, 2))
    np.testing.assert_array_equal(tangent_jacobian(make, x), jacobian(make, x))


@pytest.mark.parametrize("factors", [[2.0, 3.0, 5.0, 7.0, 1.0, 4.0], [0.0, 3.0, 0.0, 7.0, 0.0, 4.0],
                                     [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]], ids=str)
@pytest.mark.parametrize("start", [[1.0, 2.0, 3.0], [0.0, 2.0, 0.0]], ids=str)
def test_products_in_places(factors: list[float], start: list[float]) -> None:
    """Several factors of one place, some of them zero, and some that are left out."""
    x, u = np.array(start), np.array(factors)
    i = np.array([1, -1, 1, 1, 2, 9])
    np.testing.assert_array_equal(tangent_jacobian(placed, x, i, u), jacobian(placed, x, i, u))
    np.testing.assert_array_equal(*second(placed, x, i, u))


def test_places_along_two_axes() -> None:
    """A place out of bounds along one axis is no place of another row."""
    x, u = np.arange(1.0, 7.0).reshape(2, 3), np.arange(2.0, 8.0)
    i, j = np.array([0, 1, 0, 0, 3, 1]), np.array([4, 1, 1, -2, -7, -2])

    def make(b: Builder, x: Node, i: Node, j: Node, u: Node) -> Node:
        return b.scatter(x, i, j, u, combine="mul", mode="drop", axes=(0, 1), position=0)
    np.testing.assert_array_equal(tangent_jacobian(make, x, i, j, u), jacobian(make, x, i, j, u))


def test_largest_of_equal_ones() -> None:
    """Equal shares, as in JAX."""
    x = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [5.0, 4.0, 0.0]])
    (got,) = gradients(lambda b, x: b.reduce_max(x, axes=(1,)), x)
    third = 1 / 3
    np.testing.assert_array_equal(got, [[0, 0.5, 0.5], [third, third, third], [1, 0, 0]])
    (got,) = gradients(lambda b, x: b.reduce_min(x, axes=(0, 1)), x)
    np.testing.assert_array_equal(got, np.eye(1, 9, 8).reshape(3, 3))


def test_running_largest_of_equal_ones() -> None:
    """Each running maximum shares out its derivative as the maximum of the elements so far."""
    x = np.array([1.0, 3.0, 3.0, 2.0, 3.0, 4.0])
    got = tangent_jacobian(lambda b, x: b.cummax(x, axis=0), x)
    third = 1 / 3
    want = [[1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0, .5, .5, 0, 0, 0], [0, .5, .5, 0, 0, 0],
            [0, third, third, 0, third, 0], [0, 0, 0, 0, 0, 1]]
    np.testing.assert_allclose(got, want, rtol=1e-15)


@pytest.mark.parametrize("combine", ["min", "max"])
def test_extremes_in_places(combine: str) -> None:
    x, u = np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 7.0, 3.0, -1.0])
    i = np.array([1, 1, 0, 2, 2])

    def make(b: Builder, x: Node, i: Node, u: Node) -> Node:
        return b.scatter(x, i, u, combine=combine, mode="raise", **ROWS)
    dx, du = gradients(make, x, i, u)
    third = 1 / 3
    if combine == "max":
        np.testing.assert_allclose(dx, [0, third, 0.5])
        np.testing.assert_allclose(du, [third, third, 1, 0.5, 0])
    else:
        np.testing.assert_allclose(dx, [1, third, 0])
        np.testing.assert_allclose(du, [third, third, 0, 0, 1])


def test_the_last_of_several_is_set() -> None:
    """Only the update that is there at the end has a derivative."""
    x, u = np.zeros(3), np.arange(5.0)
    i = np.array([1, -2, 0, 1, 0])

    def make(b: Builder, x: Node, i: Node, u: Node) -> Node:
        return b.scatter(x, i, u, combine="set", mode="raise", **ROWS)
    dx, du = gradients(make, x, i, u, ct=[10.0, 20.0, 30.0])
    assert dx.tolist() == [0, 0, 30] and du.tolist() == [0, 0, 0, 20, 10]


def test_sorted_tangents_keep_the_order_of_equal_elements() -> None:
    x = np.array([3.0, np.nan, 1.0, 3.0, np.nan, 1.0])
    g = graph(lambda b, x: b.sort(x, axis=0, stable=False), x)
    out, t = run(jvp(g, [True]), [x, np.arange(6.0)])
    np.testing.assert_array_equal(out, [1, 1, 3, 3, np.nan, np.nan])
    assert t.tolist() == [2, 5, 0, 3, 1, 4]


def test_a_gather_of_nothing_out_of_bounds() -> None:
    """What is left out reads as 0, and has no derivative."""
    x, i = np.array([1.0, 2.0]), np.array([0, 5, -1, -3])
    (dx,) = gradients(lambda b, x, i: b.gather(x, i, mode="drop", **ROWS), x, i, ct=[1, 2, 4, 8])
    assert dx.tolist() == [1, 4]
