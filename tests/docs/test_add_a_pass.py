"""docs/add-a-pass.md writes a rule and a pass; this runs both."""

from __future__ import annotations

import functools
import importlib
from dataclasses import replace
from typing import Any

import numpy as np

from tests.docs.markdown import ROOT, block, check_generated, run
from weft.compiler.ir import Graph
from weft.compiler.passes import DEFAULT, MoveShapes, Pass, run_pipeline
from weft.compiler.rewrite import Rule, RuleTable, rewrite
from weft.compiler.target import Target
from weft.compiler.text import parse
from weft.compiler.verify import verify
from weft.devices.reference import evaluate

FILE = ROOT / "docs" / "add-a-pass.md"
GOLDEN = "share_reciprocals.txt"
FAST = Target(fast_math=True)


def _rule() -> Rule:
    """The rule of the document, in a list of its own."""
    names = dict(vars(importlib.import_module("weft.compiler.rewrite.arith"))) | {"RULES": []}
    run(block(FILE, "run: weft.compiler.rewrite.arith"), names)
    (found,) = names["RULES"]
    return found  # type: ignore[no-any-return]


@functools.cache
def _pass() -> Pass:
    names: dict[str, Any] = {"__name__": __name__}
    run(block(FILE, "run: weft.compiler.passes.reciprocal"), names)
    return names["ShareReciprocals"]()  # type: ignore[no-any-return]


def _source() -> Graph:
    text = block(FILE, f"generated: {GOLDEN}").text
    return parse("graph " + text.partition("graph ")[2].partition("---")[0])


def _golden() -> str:
    """The golden file, with what the pass gives now."""
    text = block(FILE, f"generated: {GOLDEN}").text
    return f"{text.partition('---')[0]}---\n{_pass().run(_source(), FAST)}"


def test_golden(bless: bool) -> None:
    """The pass gives the text shown."""
    check_generated(FILE, {GOLDEN: _golden}, bless)


def test_contract() -> None:
    """Same object where nothing changes, twice is once, a graph that verifies, right answers."""
    p, graph = _pass(), _source()
    assert p.run(graph, Target()) is graph
    assert replace(p, least=3).run(graph, FAST) is graph  # type: ignore[call-arg]
    out = p.run(graph, FAST)
    verify(out, after=p.name)
    assert p.run(out, FAST) is out
    assert [n.name for n in out.results] == [n.name for n in graph.results]
    assert {str(n.origin) for n in out.nodes if n.opname == "mul"} == {"model.py:1", "model.py:2"}
    arrays = np.random.default_rng(0).uniform(1, 2, (4, 4)).astype(np.float32)
    for got, want in zip(evaluate(out, list(arrays)), evaluate(graph, list(arrays))):
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_in_the_pipeline() -> None:
    """In the place that the document gives it, the reciprocal is taken before it is repeated."""
    at = next(i for i, p in enumerate(DEFAULT) if isinstance(p, MoveShapes))
    graph = parse("""graph @f(%x: f32[3, 4], %y: f32[3, 4], %s: f32[3]) -> (f32[3, 4], f32[3, 4]) {
      %d = broadcast_in_dim %s {shape=[3, 4], dims=[0]} : f32[3, 4]
      %a = div %x, %d : f32[3, 4]
      %b = div %y, %d : f32[3, 4]
      return %a, %b
    }""")
    out, history = run_pipeline(graph, FAST, (*DEFAULT[:at], _pass(), *DEFAULT[at:]))
    assert "share-reciprocals" in [s.name for s in history if s.changed]
    assert [n.shape for n in out.nodes if n.opname == "div"] == [(3,)]


def test_rule() -> None:
    """The rule fires for integers, in any order of operands, and not for floats."""
    found = _rule()
    assert not found.fast_math_only and found.exact
    for dtype, fires in (("i32", True), ("u8", True), ("f32", False)):
        for outer, inner in (("maximum", "minimum"), ("minimum", "maximum")):
            for operands in ("%x, %m", "%m, %x"):
                graph = parse(f"graph @f(%x: {dtype}[4], %y: {dtype}[4]) -> ({dtype}[4]) {{\n"
                              f" %m = {inner} %y, %x : {dtype}[4]\n"
                              f" %o = {outer} {operands} : {dtype}[4]\n return %o\n}}")
                out = rewrite(graph, RuleTable([found]))
                assert (out.results == graph.params[:1]) == fires
                arrays = [np.array(v, graph.params[0].dtype.numpy)
                          for v in ([0, 1, 7, 5], [3, 1, 2, 200])]
                np.testing.assert_array_equal(evaluate(out, arrays)[0], arrays[0])
