"""Random graphs: every pass keeps every bit, does nothing twice, and leaves a graph that verifies.

Two kinds of inputs. Special values (NaN, infinities, -0.0, extremes) hold the exact rules to every
bit. Small whole numbers, on which sums are exact in any order, hold all rules to every bit, those
included that add in another order.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import assert_same, graphs, inputs

from weft.compiler.ir import Graph
from weft.compiler.passes import (
    DEFAULT,
    Canonicalize,
    EliminateCommon,
    EliminateDead,
    FoldConstants,
    MoveShapes,
    Pass,
    run_pipeline,
)
from weft.compiler.passes.simplify import canonical_rules
from weft.compiler.target import Target
from weft.compiler.verify import verify
from weft.devices.reference import evaluate

_INEXACT = frozenset(r.name for r in canonical_rules() if not r.exact)
EXACT: tuple[Pass, ...] = tuple(
    type(p)(without=_INEXACT) if isinstance(p, (Canonicalize, MoveShapes)) else p for p in DEFAULT)
TARGET = Target()


def _hold(graph: Graph, out: Graph, seed: int, integral: bool) -> None:
    arrays = inputs(graph, seed, integral=integral)
    assert_same(evaluate(out, arrays), evaluate(graph, arrays), f"{graph}\n{out}")


def _check_pass(p: Pass, graph: Graph, seed: int, integral: bool = False) -> None:
    before = graph.text()
    out = p.run(graph, TARGET)
    verify(out, after=p.name)
    assert graph.text() == before, "the pass changed its input"
    assert [r.type for r in out.results] == [r.type for r in graph.results]
    assert out.params == graph.params
    assert p.run(out, TARGET) is out, f"not idempotent:\n{out}\n{p.run(out, TARGET)}"
    _hold(graph, out, seed, integral)


@pytest.mark.parametrize("p", [EliminateDead(), FoldConstants(), EliminateCommon(),
                               Canonicalize(without=_INEXACT), MoveShapes(without=_INEXACT)],
                         ids=lambda p: p.name)
def test_pass_keeps_every_bit(p: Pass) -> None:
    @settings(max_examples=100)
    @given(graphs(transcendental=False), st.integers(0, 99))
    def check(graph: Graph, seed: int) -> None:
        _check_pass(p, graph, seed)
    check()


@pytest.mark.parametrize("p", [Canonicalize(), MoveShapes()], ids=lambda p: p.name)
def test_pass_is_exact_on_whole_numbers(p: Pass) -> None:
    @settings(max_examples=100)
    @given(graphs(dtypes=("f32", "f64", "i32"), integral=True), st.integers(0, 99))
    def check(graph: Graph, seed: int) -> None:
        _check_pass(p, graph, seed, integral=True)
    check()


@settings(max_examples=150)
@given(graphs(transcendental=False, max_nodes=16), st.integers(0, 99))
def test_pipeline_keeps_every_bit(graph: Graph, seed: int) -> None:
    out, _ = run_pipeline(graph, TARGET, EXACT)
    _hold(graph, out, seed, False)


@settings(max_examples=100)
@given(graphs(dtypes=("f32", "f64", "i32"), integral=True, max_nodes=16), st.integers(0, 99))
def test_pipeline_is_exact_on_whole_numbers(graph: Graph, seed: int) -> None:
    out, _ = run_pipeline(graph, TARGET)
    _hold(graph, out, seed, True)


@settings(max_examples=60)
@given(graphs(symbolic=True, dtypes=("f32", "i64"), transcendental=False,
              steps=("elementwise", "elementwise", "transpose", "broadcast", "reduction", "pad",
                     "select", "reverse")),
       st.integers(0, 99), st.integers(1, 3))
def test_pipeline_keeps_symbolic_graphs(graph: Graph, seed: int, size: int) -> None:
    out, _ = run_pipeline(graph, TARGET, EXACT)
    arrays = inputs(graph, seed, sizes={"B": size})
    assert_same(evaluate(out, arrays), evaluate(graph, arrays), f"{graph}\n{out}")


@pytest.mark.slow
def test_pipeline_keeps_every_bit_of_many_graphs() -> None:
    @settings(max_examples=5000)
    @given(graphs(transcendental=False, max_nodes=24), st.integers(0, 999))
    def check(graph: Graph, seed: int) -> None:
        out, _ = run_pipeline(graph, TARGET, EXACT)
        _hold(graph, out, seed, False)
    check()
