"""The pipeline: history, callbacks, stopping, blame, bisection, decomposition."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import pytest

from weft.compiler.build import Builder
from weft.compiler.errors import VerifyError, WeftError
from weft.compiler.ir import Graph, Node
from weft.compiler.ops import OPS
from weft.compiler.ops.registry import Op
from weft.compiler.passes import (
    DEFAULT,
    PASSES,
    Canonicalize,
    Decompose,
    EliminateDead,
    FoldConstants,
    Pass,
    Step,
    bisect,
    pipeline_for,
    run_pipeline,
)
from weft.compiler.target import Target
from weft.compiler.text import parse

TEXT = """\
graph @f(%x: f32[4]) -> (f32[4]) {
  %dead = exp %x : f32[4]
  %a = mul %x, 1.0:f32 : f32[4]
  %b = sin %a : f32[4]
  return %b
}"""
TARGET = Target()


@dataclass(frozen=True)
class Break(Pass):
    """Gives a node the type of another."""

    name: ClassVar[str] = "break"

    def run(self, graph: Graph, target: Target) -> Graph:
        last = graph.nodes[-1]
        wrong = Node(last.op, last.inputs, last.attrs, graph.nodes[0].type, None, "dead")
        return Graph(graph.name, graph.params, [*graph.nodes, wrong], [wrong])


@dataclass(frozen=True)
class Crash(Pass):
    """Raises."""

    name: ClassVar[str] = "crash"

    def run(self, graph: Graph, target: Target) -> Graph:
        raise RuntimeError("no")


@dataclass(frozen=True)
class SinToCos(Pass):
    """Changes the meaning."""

    name: ClassVar[str] = "sin-to-cos"

    def run(self, graph: Graph, target: Target) -> Graph:
        return parse(graph.text().replace("sin", "cos"))


def test_history_tells_what_each_pass_did() -> None:
    seen: list[Step] = []
    graph = parse(TEXT)
    out, history = run_pipeline(graph, TARGET, callback=seen.append)
    assert [n.name for n in out.nodes] == ["b"]
    assert [s.name for s in history] == [p.name for p in DEFAULT]
    assert seen == list(history) and len(history) == len(DEFAULT)
    assert [s.name for s in history if s.changed] == ["eliminate-dead", "canonicalize"]
    assert history.steps[0].before is graph and history.steps[-1].after is out
    assert history.seconds == sum(s.seconds for s in history) > 0
    assert history.steps[1].diff() == """\
--- before eliminate-dead
+++ after eliminate-dead
@@ -1,5 +1,4 @@
 graph @f(%x: f32[4]) -> (f32[4]) {
-  %dead = exp %x : f32[4]
   %a = mul %x, 1.0:f32 : f32[4]
   %b = sin %a : f32[4]
   return %b"""
    assert history.diff().count("+++") == 2
    rows = str(history).splitlines()
    assert rows[0].split() == ["pass", "ms", "nodes"]
    assert rows[2].endswith("4 → 3") and rows[3].endswith("unchanged")


def test_stop_after() -> None:
    out, history = run_pipeline(parse(TEXT), TARGET, stop_after="eliminate-common")
    assert len(history) == 4
    assert [n.name for n in out.nodes if n.name] == ["a", "b"]
    with pytest.raises(WeftError) as caught:
        run_pipeline(parse(TEXT), TARGET, stop_after="cse")
    assert str(caught.value) == (
        "there is no pass named 'cse'\n  expected: one of inline-calls, eliminate-dead, "
        "fold-constants, eliminate-common, simplify-control, canonicalize, decompose, "
        "move-shapes")


def test_the_pass_that_breaks_the_graph_is_named() -> None:
    passes = (EliminateDead(), Break(), Canonicalize())
    with pytest.raises(VerifyError) as caught:
        run_pipeline(parse(TEXT), TARGET, passes)
    assert "broken after the pass break: two nodes are named %dead" not in str(caught.value)
    assert str(caught.value).startswith("graph @f is broken after the pass break: ")
    run_pipeline(parse(TEXT), TARGET, passes[:2], check=False)


def test_the_pass_that_raises_is_named() -> None:
    with pytest.raises(RuntimeError) as caught:
        run_pipeline(parse(TEXT), TARGET, (Crash(),))
    assert caught.value.__notes__ == ["in the pass crash, on the graph @f"]


def test_an_ill_typed_input_is_refused_before_any_pass() -> None:
    graph = parse(TEXT)
    last = graph.nodes[-1]
    wrong = Node(last.op, last.inputs, {}, parse(TEXT.replace("[4]", "[3]")).nodes[0].type, None,
                 "w")
    with pytest.raises(VerifyError, match="graph @f is broken: %w has type"):
        run_pipeline(Graph("f", graph.params, [*graph.nodes, wrong], [wrong]), TARGET)


@pytest.mark.parametrize("at", range(5))
def test_bisect_finds_the_pass(at: int) -> None:
    passes: list[Pass] = [EliminateDead(), FoldConstants(), Canonicalize(), EliminateDead()]
    passes.insert(at, SinToCos())
    checks: list[Graph] = []

    def check(graph: Graph) -> bool:
        checks.append(graph)
        return any(n.opname == "sin" for n in graph.nodes)

    step = bisect(parse(TEXT), TARGET, check, passes)
    assert step is not None and step.name == "sin-to-cos" and step.index == at
    assert len(checks) <= 5
    assert bisect(parse(TEXT), TARGET, lambda g: True, passes) is None
    with pytest.raises(WeftError, match="fails before any pass"):
        bisect(parse(TEXT), TARGET, lambda g: False, passes)


@pytest.fixture
def double() -> Iterator[Op]:
    """An op that decomposes to another that decomposes."""
    def unary(name: str, write: object) -> Op:
        return Op(name, "elementwise", 1, "a test op", lambda types, attrs: types[0],
                  lambda xp, x: x + x, decompose=write)  # type: ignore[arg-type]

    OPS["double"] = unary("double", lambda b, n: b.add("twice", n.inputs[0]))
    OPS["twice"] = unary("twice", lambda b, n: b.add("add", n.inputs[0], n.inputs[0]))
    yield OPS["double"]
    del OPS["double"], OPS["twice"]


def test_decomposition_goes_down_to_the_table(double: Op) -> None:
    b = Builder("f")
    x = b.param("x", parse(TEXT).params[0].type)
    graph = b.graph([b.sin(b.double(x))])
    for supported, ops in (({"sin", "add"}, ["add", "sin"]), ({"sin", "twice"}, ["twice", "sin"]),
                           ({"sin", "double"}, ["double", "sin"])):
        out, _ = run_pipeline(graph, TARGET, pipeline_for(frozenset(supported)))
        assert [n.opname for n in out.nodes] == ops
    assert Decompose().run(graph, TARGET) is graph


def test_passes_are_values() -> None:
    assert Canonicalize() == Canonicalize() and hash(Canonicalize()) == hash(Canonicalize())
    assert Canonicalize(without=frozenset({"neg_neg"})) != Canonicalize()
    assert all(p.run.__doc__ and p.__doc__ for p in PASSES.values())
    text = TEXT.replace("mul %x, 1.0:f32", "neg %x").replace("sin", "neg")
    graph = parse(text.replace("  %dead = exp %x : f32[4]\n", ""))
    assert Canonicalize(without=frozenset({"neg_neg"})).run(graph, TARGET) is graph
    assert Canonicalize().run(graph, TARGET).nodes == ()
