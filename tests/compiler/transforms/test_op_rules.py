"""Every op's derivative and batching rules, against finite differences and loops.

Tangents are held against central differences, cotangents against tangents (both are one linear
map), second derivatives against differences of first ones, batched graphs against a loop.
"""

from __future__ import annotations

import numpy as np
import pytest

from weft.compiler.ir import Graph
from weft.compiler.ops import OPS
from weft.compiler.ops.registry import OUTSIDE
from weft.compiler.transforms import batch, jvp, vjp
from weft.compiler.verify import verify
from weft.devices.conformance.points import (
    NO_DERIVATIVE,
    Array,
    Point,
    all_points,
    differentiable,
    run,
)

SMOOTH = all_points(lambda op, p: op.name not in NO_DERIVATIVE and differentiable(p))
BATCHED = all_points(lambda op, p: bool(p[0].params))
IDS = [label for label, _ in SMOOTH]
STEP = 1e-6          # central differences: error ~ STEP**2 and ~ 1e-16 / STEP
CLOSE = 3e-8         # both of these, for values and third derivatives of a few dozen at most


def direction(arrays: list[Array], seed: int) -> list[Array]:
    """A random direction of the float64 and complex128 among the arrays."""
    rng = np.random.default_rng(seed)
    out = []
    for a in arrays:
        t = rng.standard_normal(a.shape)
        out.append(np.asarray(t + 1j * rng.standard_normal(a.shape) if a.dtype.kind == "c" else t))
    return out


def active(graph: Graph) -> list[bool]:
    return [p.dtype.name in ("f64", "c128") for p in graph.params]


def moved(arrays: list[Array], tangents: list[Array], flags: list[bool], step: float
          ) -> list[Array]:
    return [a + step * t if f else a for a, t, f in zip(arrays, tangents, flags)]


def inexact(graph: Graph, results: list[Array]) -> list[Array]:
    return [r for n, r in zip(graph.results, results) if n.dtype.is_inexact]


def differences(graph: Graph, arrays: list[Array], tangents: list[Array], flags: list[bool]
                ) -> list[Array]:
    """Central differences of the results along tangents."""
    plus = inexact(graph, run(graph, moved(arrays, tangents, flags, STEP)))
    minus = inexact(graph, run(graph, moved(arrays, tangents, flags, -STEP)))
    return [(p - m) / (2 * STEP) for p, m in zip(plus, minus)]


def close(got: list[Array], want: list[Array]) -> None:
    assert len(got) == len(want)
    for g, w in zip(got, want):
        assert g.shape == w.shape
        scale = 1 + float(np.max(np.abs(w), initial=0))
        np.testing.assert_allclose(g, w, rtol=0, atol=CLOSE * scale * 10)


def chosen(values: list[Array], flags: list[bool]) -> list[Array]:
    return [v for v, f in zip(values, flags) if f]


@pytest.mark.parametrize("point", [p for _, p in SMOOTH], ids=IDS)
def test_tangents(point: Point) -> None:
    """jvp gives the results themselves, and tangents like finite differences."""
    graph, arrays = point
    flags, ts = active(graph), direction(arrays, 1)
    made = jvp(graph, flags)
    verify(made)
    got = run(made, [*arrays, *chosen(ts, flags)])
    n = len(graph.results)
    for a, w in zip(got[:n], run(graph, arrays)):
        np.testing.assert_array_equal(a, w)
    close(got[n:], differences(graph, arrays, ts, flags))


@pytest.mark.parametrize("point", [p for _, p in SMOOTH], ids=IDS)
def test_cotangents(point: Point) -> None:
    """The transposed map: sum(ct * jvp(t)) == sum(vjp(ct) * t), without conjugation.

    Real operands of complex results see the real part.
    """
    graph, arrays = point
    flags, ts = active(graph), direction(arrays, 2)
    n = len(graph.results)
    cts = direction(inexact(graph, run(graph, arrays)), 3)
    made = vjp(graph, flags)
    verify(made)
    back = run(made, [*arrays, *cts])[n:]
    dots = run(jvp(graph, flags), [*arrays, *chosen(ts, flags)])[n:]
    left = sum(np.sum(c * d).real for c, d in zip(cts, dots))
    right = sum(np.sum(c * t).real for c, t in zip(back, chosen(ts, flags)))
    assert [b.dtype for b in back] == [a.dtype for a in chosen(arrays, flags)]
    assert left == pytest.approx(right, rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("point", [p for _, p in SMOOTH], ids=IDS)
def test_second_order(point: Point) -> None:
    """jvp of vjp against differences of vjp, and vjp of jvp is its transpose."""
    graph, arrays = point
    flags, ts = active(graph), direction(arrays, 4)
    n = len(graph.results)
    cts = direction(inexact(graph, run(graph, arrays)), 5)
    back = vjp(graph, flags)
    values, both = [*arrays, *cts], [*flags, *[False] * len(cts)]
    got = run(jvp(back, both), [*values, *chosen(ts, flags)])[len(back.results):]
    want = differences(back, values, [*ts, *cts], both)
    close(got[-sum(flags):], want[-sum(flags):])
    forward = jvp(graph, flags)
    twice = vjp(forward, [*flags, *[False] * sum(flags)])
    verify(twice)
    cots = direction(inexact(forward, run(forward, [*arrays, *chosen(ts, flags)])), 6)
    k = len(cots) // 2
    cots = [np.zeros_like(c) for c in cots[:k]] + cts
    reverse = run(twice, [*arrays, *chosen(ts, flags), *cots])[len(forward.results):]
    us = chosen(direction(arrays, 7), flags)
    # d/du of sum(ct * J(x) t), which is symmetric in t and u where the same ct is taken
    left = sum(np.sum(r * u).real for r, u in zip(reverse, us))
    along = run(jvp(back, both), [*values, *us])[len(back.results):][-sum(flags):]
    right = sum(np.sum(a * t).real for a, t in zip(along, chosen(ts, flags)))
    assert left == pytest.approx(right, rel=1e-9, abs=1e-9)
    assert n == len(graph.results)


def spread(arrays: list[Array], which: list[bool], size: int) -> list[Array]:
    """Several different points beside each other, of the operands in `which`."""
    rng = np.random.default_rng(8)
    out = []
    for a, w in zip(arrays, which):
        if not w:
            out.append(a)
        elif a.dtype.kind in "fc":
            out.append(np.stack([a * (1 + 0.02 * rng.uniform(0, 1)) for _ in range(size)]))
        else:
            out.append(np.stack([a] * size))
    return out


def subsets(graph: Graph) -> list[list[bool]]:
    """All operands batched, and each of them alone."""
    n = len(graph.params)
    return [[True] * n] + [[i == k for i in range(n)] for k in range(n) if n > 1]


def check_batched(graph: Graph, arrays: list[Array], which: list[bool], rtol: float) -> None:
    size = 3
    many = spread(arrays, which, size)
    made, flags = batch(graph, which, size)
    verify(made)
    got = run(made, many)
    for i in range(size):
        one = run(graph, [a[i] if w else a for a, w in zip(many, which)])
        for g, w, f in zip(got, one, flags):
            scale = float(np.max(np.abs(w), initial=0)) if w.dtype.kind in "fc" else 0
            np.testing.assert_allclose(g[i] if f else g, w, rtol=rtol, atol=rtol * scale)


@pytest.mark.parametrize("point", [p for _, p in BATCHED], ids=[label for label, _ in BATCHED])
def test_batching(point: Point) -> None:
    """A batched graph against a loop over the graph itself."""
    graph, arrays = point
    for which in subsets(graph):
        check_batched(graph, arrays, which, 1e-13)


@pytest.mark.parametrize("point", [p for _, p in SMOOTH], ids=IDS)
def test_batching_of_derivatives(point: Point) -> None:
    """The batched vjp against a loop, cotangents batched too."""
    graph, arrays = point
    flags = active(graph)
    made = vjp(graph, flags)
    cts = direction(inexact(graph, run(graph, arrays)), 9)
    for which in subsets(graph)[:1]:
        check_batched(made, [*arrays, *cts], [*which, *[True] * len(cts)], 1e-11)


def test_every_op_is_covered() -> None:
    """An op of floats has a derivative or a reason to have none; every op with operands batches."""
    seen = {label.rpartition("-")[0].partition("-")[0] for label, _ in SMOOTH}
    missing = [op.name for op in OPS.values() if op.name not in seen | set(NO_DERIVATIVE)
               and (op.partials or op.linear or op.jvp)]
    allowed = {"get", "reduce_and", "reduce_or", *OUTSIDE}     # other tests may declare some
    assert not set(missing) - allowed, f"no point to differentiate at: {missing}"
