"""The verifier: each rule of the IR, broken, with the exact message."""

from __future__ import annotations

import pytest

from weft.compiler.build import Builder
from weft.compiler.errors import Origin, VerifyError
from weft.compiler.ir import Graph, Node
from weft.compiler.ops import get_op
from weft.compiler.text import parse
from weft.compiler.types import DTYPES, Size, TensorType, TupleType
from weft.compiler.verify import verify

F2 = TensorType((2,), DTYPES["f32"])
F3 = TensorType((3,), DTYPES["f32"])


def _param(name: str = "x", type: TensorType = F2) -> Node:
    return Node(None, (), {}, type, None, name)


def _node(op: str, *inputs: Node, name: str = "y", type: TensorType | TupleType = F2,
          **attrs: object) -> Node:
    return Node(get_op(op), inputs, attrs, type, Origin("model.py", 3), name)


def _message(graph: Graph, after: str | None = None) -> str:
    with pytest.raises(VerifyError) as caught:
        verify(graph, after)
    return str(caught.value).removeprefix("graph @f is broken: ").removesuffix("\n  at model.py:3")


X = _param()
NEG = _node("neg", X)


@pytest.mark.parametrize(("graph", "message"), [
    (Graph("f", [X], [NEG, _node("exp", X)], [NEG]), "two nodes are named %y"),
    (Graph("f", [X], [_node("neg", X, name="x")], [X]), "two nodes are named %x"),
    (Graph("f", [X], [_node("neg", X, name="")], [X]), "a node of neg has no name"),
    (Graph("f", [X], [_node("exp", NEG, name="z"), NEG], [NEG]),
     "%z uses %y before it is defined"),
    (Graph("f", [X], [_node("exp", _param("w"), name="z")], []),
     "%z uses %w, which is not in the graph"),
    (Graph("f", [X], [NEG, NEG], [NEG]), "%y stands twice in the graph"),
    (Graph("f", [X], [_node("neg", X, type=F3)], []),
     "%y has type f32[3], its op neg gives f32[2]"),
    (Graph("f", [X], [_node("not", X)], []), "%y is ill-typed: not is not defined for f32"),
    (Graph("f", [X], [_node("reduce_sum", X)], []),
     "%y: operands or attributes do not fit reduce_sum (KeyError: 'axes')"),
    (Graph("f", [X], [_param("p")], []), "the parameter %p stands among the nodes"),
    (Graph("f", [NEG], [], []), "the parameter %y is the result of neg"),
    (Graph("f", [X], [], [NEG]), "the result %y is not in the graph"),
    (Graph("f", [Node(None, (), {}, TupleType((F2, F3)), Origin("model.py", 3), "t")], [],
           []), ""),
    (Graph("f", [X], [_node("broadcast_in_dim", X, type=TensorType(
        (Size.symbol("B"), 2), DTYPES["f32"]), shape=(Size.symbol("B"), 2), dims=(1,))], []),
     "%y has an unknown size in its type f32[B, 2]"),
])
def test_broken_graphs_say(graph: Graph, message: str) -> None:
    if message:
        assert _message(graph) == message
    else:
        verify(graph)


def test_tuple_results_are_refused() -> None:
    t = Node(None, (), {}, TupleType((F2, F3)), Origin("model.py", 3), "t")
    assert _message(Graph("f", [t], [], [t])) == "the result %t is a tuple"


def test_the_pass_is_named() -> None:
    assert _message(Graph("f", [X], [], [NEG]), "my-pass") == (
        "graph @f is broken after the pass my-pass: the result %y is not in the graph\n"
        "  at model.py:3\n  repair:   this is a bug in the pass my-pass")


def test_known_nodes_are_not_inferred_again() -> None:
    wrong = _node("neg", X, type=F3)
    known = {wrong}
    verify(Graph("f", [X], [wrong], []), known=known)
    verify(Graph("f", [X], [wrong, n := _node("exp", X, name="z")], []), known=known)
    assert n in known


def test_nested_graphs_are_verified() -> None:
    inner = Graph("body", [X], [NEG, _node("exp", X)], [NEG])
    b = Builder("f")
    node = b.add("neg", b.param("a", F2))
    outer = Node(node.op, node.inputs, {"body": inner}, node.type, None, "z")
    with pytest.raises(VerifyError, match="@body is broken: two nodes are named %y"):
        verify(Graph("f", b.params, [outer], [outer]))


def test_good_graphs_pass() -> None:
    verify(parse("""graph @f(%x: f32[B, 3]) -> (f32[B], f32[]) {
      %a = mul %x, 2.0:f32 : f32[B, 3]
      %s = reduce_sum %a {axes=[1]} : f32[B]
      return %s, 1.0:f32
    }"""))
