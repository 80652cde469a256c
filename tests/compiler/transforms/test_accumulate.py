"""Cotangents of parts of arrays are added up in place."""

from __future__ import annotations

from typing import Any

import numpy as np

import weft
from weft.compiler.ir import Graph, Node

TABLE = np.random.default_rng(0).normal(size=(10, 4))
PLACES = np.array([1, 5, 1, -3, 1])


def nodes(graph: Graph) -> list[Node]:
    """All nodes, those of nested graphs too."""
    out = list(graph.nodes)
    for n in graph.nodes:
        for value in n.attrs.values():
            inner = value if isinstance(value, (list, tuple)) else [value]
            out += [m for g in inner if isinstance(g, Graph) for m in nodes(g)]
    return out


def rows(table: Any, places: Any) -> Any:
    def body(total: Any, i: Any) -> Any:
        return total + np.sum(table[i] ** 2), None
    return weft.scan(body, 0.0, places)[0]


def parts(table: Any, places: Any) -> Any:
    def body(total: Any, i: Any) -> Any:
        return total + np.sum(weft.dynamic_slice(table, (i, 0), (2, 4)) ** 2), None
    return weft.scan(body, 0.0, places)[0]


def test_a_loop_that_reads_rows() -> None:
    """Its derivative writes one row in each turn, into the array that it carries."""
    want = np.zeros_like(TABLE)
    np.add.at(want, PLACES, 2 * TABLE[PLACES])
    gradient = weft.jit(weft.grad(rows))
    np.testing.assert_allclose(gradient(TABLE, PLACES), want, rtol=1e-13)
    graph = gradient.trace(TABLE, PLACES).optimize().graph
    whole = [n for n in nodes(graph) if n.opname == "add" and n.shape == TABLE.shape]
    assert not whole
    text = gradient.lower(TABLE, PLACES).text("kernels")
    assert "updates" in text and "copy" not in text


def test_a_loop_that_reads_parts() -> None:
    want = np.zeros_like(TABLE)
    for i in PLACES:
        i = min(i + 10 * (i < 0), 8)
        want[i:i + 2] += 2 * TABLE[i:i + 2]
    gradient = weft.jit(weft.grad(parts))
    np.testing.assert_allclose(gradient(TABLE, PLACES), want, rtol=1e-13)
    whole = [n for n in nodes(gradient.trace(TABLE, PLACES).optimize().graph)
             if n.opname == "add" and n.shape == TABLE.shape]
    assert not whole


def test_several_reads() -> None:
    """Reads one after another are one chain of updates; with a dense term, too."""
    def loss(x: Any, i: Any) -> Any:
        return x[i].sum() + (x[i + 1] * x[i]).sum() + (x ** 3).sum()
    got = weft.jit(weft.grad(loss))(TABLE, np.array([2, 2, 4]))
    want = 3 * TABLE ** 2
    for i in (2, 2, 4):
        want[i] += 1 + TABLE[i + 1]
        want[i + 1] += TABLE[i]
    np.testing.assert_allclose(got, want, rtol=1e-13)
    graph = weft.jit(weft.grad(loss)).trace(TABLE, np.array([2, 2, 4])).optimize().graph
    assert sum(n.opname == "scatter" for n in graph.nodes) == 3
    assert not any(n.opname == "add" and n.shape == TABLE.shape for n in graph.nodes)


def test_second_derivatives() -> None:
    def loss(x: Any) -> Any:
        return rows(x.reshape(10, 4) ** 2, PLACES)
    x = TABLE.ravel()
    got = weft.hessian(loss)(x)
    counts = np.bincount(PLACES % 10, minlength=10).repeat(4)
    np.testing.assert_allclose(got, np.diag(12 * x ** 2 * counts), rtol=1e-12, atol=1e-12)
