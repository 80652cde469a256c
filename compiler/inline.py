"""Putting the nodes of one graph into another that is being built."""

from __future__ import annotations

from collections.abc import Sequence

from weft.compiler.build import Builder
from weft.compiler.ir import Graph, Node, is_scalar_constant
from weft.compiler.types import Shape, TensorType, TupleType, Type

__all__ = ["copy_node", "elements", "inline", "zeros"]


def copy_node(b: Builder, node: Node, inputs: Sequence[Node]) -> Node:
    """The same op on other inputs of the same types."""
    if is_scalar_constant(node):
        return b.constant(node.attrs["value"])
    if b.origin is None or node.origin is not None:
        origin = node.origin
    else:
        origin = b.origin
    return b.insert(Node(node.op, tuple(inputs), node.attrs, node.type, origin))


def inline(b: Builder, graph: Graph, inputs: Sequence[Node]) -> list[Node]:
    """The graph's results, computed in `b` from these inputs.

    >>> from weft.compiler.types import TensorType, dtype_of
    >>> inner, f32 = Builder("double"), TensorType((), dtype_of("f32"))
    >>> x = inner.param("x", f32)
    >>> double = inner.graph([inner.add("add", x, x)])
    >>> b = Builder("quadruple")
    >>> y = b.param("y", f32)
    >>> print(b.graph(inline(b, double, inline(b, double, [y]))).text())
    graph @quadruple(%y: f32[]) -> (f32[]) {
      %add.0 = add %y, %y : f32[]
      %add.1 = add %add.0, %add.0 : f32[]
      return %add.1
    }
    """
    now = dict(zip(graph.params, inputs))
    for node in graph.nodes:
        now[node] = copy_node(b, node, [now[i] for i in node.inputs])
    return [now[r] for r in graph.results]


def zeros(b: Builder, type: TensorType, lead: Shape = ()) -> Node:
    """An array of zeros of this type, with further axes in front."""
    return b.broadcast(b.scalar(0, type.dtype), (*lead, *type.shape), ())


def elements(type: Type) -> tuple[TensorType, ...]:
    """The types of a node's results."""
    return type.elements if isinstance(type, TupleType) else (type,)
