"""Derivatives and batching of branches and loops, against finite differences and Python loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import weft

XS = np.linspace(-1.0, 1.0, 15).reshape(5, 3)
W = np.linspace(0.1, 0.9, 9).reshape(3, 3)


def rnn(w: Any) -> Any:
    h, ys = weft.scan(lambda h, x: (np.tanh(h @ w + x), h.sum()), np.zeros(3), XS)
    return (h * h).sum() + (ys ** 2).sum()


def reversed_scan(w: Any) -> Any:
    h, ys = weft.scan(lambda h, x: (np.sin(h + x @ w), np.cos(h) * x), w[0], XS, reverse=True)
    return h.sum() + (ys * XS).sum()


def fori(w: Any) -> Any:
    return weft.fori_loop(0, 4, lambda i, v: (v[1] * w, v[0] + i * w), (w, w * 2))[0].sum()


def newton(w: Any) -> Any:
    return weft.while_loop(lambda s: np.abs(s * s - w).max() > 1e-13,
                           lambda s: 0.5 * (s + w / s), np.ones((3, 3))).sum()


def counted(w: Any) -> Any:
    def turn(s: Any) -> Any:
        return s[0] + 1, np.sin(s[1]) * 1.1 + 0.1 * w, s[2] + s[1].sum()
    i, v, t = weft.while_loop(lambda s: s[0] < 40, turn, (0, w, 0.0))
    return v.sum() + t * i


def branches(w: Any) -> Any:
    return weft.switch(1, [lambda v: v, lambda v: np.exp(v) * w, np.sin], w * w).sum()


def branch_in_loop(w: Any) -> Any:
    def turn(c: Any, x: Any) -> Any:
        return weft.cond(x.sum() > 0, lambda c: np.sin(c) * x.sum(), lambda c: c * w[0], c), None
    return weft.scan(turn, w[1], XS)[0].sum()


def loop_in_loop(w: Any) -> Any:
    def turn(i: Any, c: Any) -> Any:
        return weft.while_loop(lambda s: s.sum() < 4.0, lambda s: s * (1 + w[0]), c * 0.5)
    return weft.fori_loop(0, 3, turn, w[1]).sum()


def mapped(w: Any) -> Any:
    return (weft.map(lambda r: np.cumsum(r * r), w) ** 2).sum()


def prefixes(w: Any) -> Any:
    return weft.associative_scan(lambda a, b: a * b, w, axis=1).sum()


def shared(w: Any) -> Any:
    """A constant that is used thrice: in products of both orientations, and otherwise."""
    def turn(h: Any, x: Any) -> Any:
        h = np.tanh(h @ w + 0.5 * h @ w.T + w[0] * x)
        return h, h[0, 1] * w[1]
    h, ys = weft.scan(turn, np.full((1, 3), 0.2), XS)
    return (h * h).sum() + (ys ** 2).sum()


FUNCTIONS = [rnn, shared, reversed_scan, fori, newton, counted, branches, branch_in_loop,
             loop_in_loop, mapped, prefixes]
every = pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)


def differences(f: Callable[[Any], Any], x: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """Central differences: errors about step**2 and 1e-16 / step."""
    parts = []
    for i in np.ndindex(x.shape):
        d = np.zeros_like(x)
        d[i] = step
        parts.append((f(x + d) - f(x - d)) / (2 * step))
    return np.moveaxis(np.array(parts).reshape(*x.shape, *np.shape(parts[0])), (0, 1), (-2, -1))


def close(a: Any, b: Any) -> None:
    scale = 1 + float(np.abs(b).max())
    np.testing.assert_allclose(a, b, rtol=0, atol=2e-8 * scale)


@every
def test_gradient(f: Callable[[Any], Any]) -> None:
    close(weft.grad(f)(W), differences(weft.jit(f), W))


@every
def test_forward_mode(f: Callable[[Any], Any]) -> None:
    t = np.cos(np.arange(9.0)).reshape(3, 3)
    value, tangent = weft.jvp(f, (W,), (t,))
    assert value == pytest.approx(float(weft.jit(f)(W)), rel=1e-14)
    assert tangent == pytest.approx(float((weft.grad(f)(W) * t).sum()), rel=1e-11)


@every
def test_second_order(f: Callable[[Any], Any]) -> None:
    """Forward over reverse, and reverse over reverse."""
    want = differences(weft.grad(f), W)
    close(weft.hessian(f)(W), want)
    close(weft.grad(lambda w: (weft.grad(f)(w) * np.cos(W)).sum())(W),
          (want * np.cos(W)).sum(axis=(-2, -1)))


@every
def test_batched(f: Callable[[Any], Any]) -> None:
    many = np.stack([W, W * 0.9, W * 1.05 + 0.01])
    np.testing.assert_allclose(weft.vmap(f)(many), [weft.jit(f)(w) for w in many], rtol=1e-12)
    np.testing.assert_allclose(weft.vmap(weft.grad(f))(many), [weft.grad(f)(w) for w in many],
                               rtol=1e-10, atol=1e-12)
    total = weft.grad(lambda m: weft.vmap(f)(m).sum())(many)
    np.testing.assert_allclose(total, [weft.grad(f)(w) for w in many], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("n", [0, 1, 2, 15, 16, 17, 255, 256, 257, 600])
def test_loops_of_any_length(n: int) -> None:
    """Around the numbers of turns at which snapshots are thinned out."""
    def f(x: Any, n: Any) -> Any:
        return weft.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, np.sin(s[1]) * 1.01),
                               (0, x))[1]
    v, d = 0.7, 1.0
    for _ in range(n):
        v, d = np.sin(v) * 1.01, d * np.cos(v) * 1.01
    assert weft.grad(f)(0.7, n) == pytest.approx(d, rel=1e-12)


def test_few_snapshots() -> None:
    """Large carries leave room for few snapshots: turns between them are run again."""
    from weft.compiler.transforms import loops
    x = np.linspace(0.1, 1.0, 4)
    kept, loops.MOST_BYTES = loops.MOST_BYTES, 1
    try:
        def f(x: Any, n: Any) -> Any:
            return weft.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, np.sin(s[1])),
                                   (0, x))[1].sum()
        for n in (3, 100, 700):
            v, d = x, np.ones(4)
            for _ in range(n):
                v, d = np.sin(v), d * np.cos(v)
            np.testing.assert_allclose(weft.grad(f)(x, n), d, rtol=1e-11)
    finally:
        loops.MOST_BYTES = kept


def test_residuals_are_few() -> None:
    """What is the same in every turn, and elements of the arrays, are not stacked."""
    graph = weft.grad(rnn).trace(W).optimize().graph
    forward = next(n for n in graph.nodes if n.opname == "scan")
    stacks = [t for t in forward.type.elements if t.shape[:1] == (5,)]
    assert sorted(t.shape for t in stacks) == [(5,), (5, 3), (5, 3)]


def test_cheap_residuals_are_computed_again() -> None:
    """Of a cell of an LSTM, five hyperbolic tangents and both carries are enough."""
    def cell(carry: Any, x: Any) -> Any:
        h, c = carry
        i, f, g, o = np.split(x + h @ w, 4)
        c = (np.tanh(f) + 1) * c + (np.tanh(i) + 1) * np.tanh(g)
        return ((np.tanh(o) + 1) * np.tanh(c), c), None
    w, xs, zero = np.full((8, 32), 0.1), np.full((5, 32), 0.1), np.zeros(8)
    graph = weft.grad(lambda xs: weft.scan(cell, (zero, zero), xs)[0][0].sum()).trace(xs)
    forward = next(n for n in graph.optimize().graph.nodes if n.opname == "scan")
    stacks = [t.shape for t in forward.type.elements if t.shape[:1] == (5,)]
    assert stacks == [(5, 8)] * 6      # h is not needed: w is no argument


def test_products_are_summed_after_the_loop() -> None:
    graph = weft.grad(shared).trace(W).optimize().graph
    back = [n for n in graph.nodes if n.opname == "scan"][1]
    assert sum(n.opname == "dot_general" for n in graph.nodes) == 2
    assert (3, 3) in [t.shape for t in back.type.elements]      # what is no product


def test_batched_branches_choose() -> None:
    def f(p: Any, x: Any) -> Any:
        return weft.cond(p, lambda x: x * 2, lambda x: x - 1, x)
    p, x = np.array([True, False, True]), np.arange(3.0)
    np.testing.assert_array_equal(weft.vmap(f)(p, x), [0.0, 0.0, 4.0])
    np.testing.assert_array_equal(weft.vmap(f, in_axes=(None, 0))(True, x), x * 2)


def test_batched_loops_end_apart() -> None:
    def f(n: Any, x: Any) -> Any:
        return weft.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, s[1] * 2), (0, x))
    i, x = weft.vmap(f)(np.array([3, 0, 5]), np.ones(3))
    np.testing.assert_array_equal(i, [3, 0, 5])
    np.testing.assert_array_equal(x, [8.0, 1.0, 32.0])


def test_complex_carries() -> None:
    def f(z: Any) -> Any:
        return np.abs(weft.fori_loop(0, 5, lambda i, v: v * v * 0.5 + z, z)) ** 2
    z, h = 0.3 + 0.2j, 1e-6
    real = (f(z + h) - f(z - h)) / (2 * h)
    imag = (f(z + 1j * h) - f(z - 1j * h)) / (2 * h)
    assert weft.grad(f)(z) == pytest.approx(complex(real - 1j * imag), rel=1e-8)
