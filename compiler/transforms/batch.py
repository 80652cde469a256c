"""Batching: the graph of a function becomes that of the function mapped over a new first axis.

Every batched value has the new axis first. What is not batched stays as it is, and is computed
once. An op's declaration may have a rule, `batch`; what follows from an op's kind stands here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from weft.compiler.build import Builder
from weft.compiler.errors import UnsupportedError
from weft.compiler.inline import copy_node
from weft.compiler.ir import Graph, Node
from weft.compiler.types import Dim, TensorType

__all__ = ["batch", "batch_into", "batched_node", "lead"]

Rule = Callable[[Builder, Node, Sequence[Node], Sequence[bool]], Any]


def batch(graph: Graph, batched: Sequence[bool], size: Dim,
          results: Sequence[bool] | None = None) -> tuple[Graph, tuple[bool, ...]]:
    """The graph mapped over a first axis of the `batched` parameters, which has `size` elements.

    Gives the graph and which of its results are batched; `results` are to be, if given.
    """
    b = Builder(graph.name)
    params = [b.param(p.name, _with_lead(p, size) if x else p.type)
              for p, x in zip(graph.params, batched)]
    outs, flags = batch_into(b, graph, params, batched)
    if results is not None:
        outs = [lead(b, o, size) if want and not is_ else o
                for o, want, is_ in zip(outs, results, flags)]
        flags = [a or b for a, b in zip(flags, results)]
    return b.graph(outs), tuple(flags)


def _with_lead(param: Node, size: Dim) -> TensorType:
    return TensorType((size, *param.shape), param.dtype)


def batch_into(b: Builder, graph: Graph, inputs: Sequence[Node], batched: Sequence[bool]
               ) -> tuple[list[Node], list[bool]]:
    """The results of the mapped graph, built in `b`, and which of them are batched."""
    now: dict[Node, Any] = dict(zip(graph.params, inputs))
    flags: dict[Node, bool] = dict(zip(graph.params, batched))
    kept = b.origin
    for node in graph.nodes:
        new = [now[i] for i in node.inputs]
        which = [flags[i] for i in node.inputs]
        if node.opname == "get" and isinstance(new[0], list):
            now[node], flags[node] = new[0][node.attrs["index"]]
            continue
        b.origin = node.origin or kept
        flags[node] = any(which)
        now[node] = batched_node(b, node, new, which) if flags[node] else copy_node(b, node, new)
    b.origin = kept
    return [now[r] for r in graph.results], [flags[r] for r in graph.results]


def batched_node(b: Builder, node: Node, inputs: Sequence[Node], batched: Sequence[bool]) -> Any:
    """The node's op on inputs of which some are batched, so that the result is. Of an op that holds
    graphs, a list of results, each with whether it is batched."""
    assert node.op is not None
    rule: Rule | None = node.op.batch or _KINDS.get(node.kind)
    if rule is None:
        raise UnsupportedError(f"the op {node.opname} cannot be batched", origin=node.origin,
                               repair="use weft.map, which runs one element after another")
    return rule(b, node, inputs, batched)


def lead(b: Builder, x: Node, size: Dim) -> Node:
    """`x`, repeated along a new first axis."""
    return b.broadcast(x, (size, *x.shape), range(1, len(x.shape) + 1))


def batch_size(inputs: Sequence[Node], batched: Sequence[bool]) -> Dim:
    """The size of the new axis."""
    first = next(x for x, is_ in zip(inputs, batched) if is_)
    return first.shape[0]


def all_batched(b: Builder, inputs: Sequence[Node], batched: Sequence[bool]) -> list[Node]:
    """The inputs, those repeated that are not batched."""
    size = batch_size(inputs, batched)
    return [x if is_ else lead(b, x, size) for x, is_ in zip(inputs, batched)]


# ---- what follows from the kind

def batched_elementwise(b: Builder, node: Node, inputs: Sequence[Node], batched: Sequence[bool]
                        ) -> Node:
    """Operands are 0-d, or get the shape of the result."""
    shape = (batch_size(inputs, batched), *node.shape)
    operands = []
    for x, is_ in zip(inputs, batched):
        if is_ and len(x.shape) < len(shape):
            x = b.broadcast(x, shape, (0,))
        elif not is_ and x.shape != ():
            x = b.broadcast(x, shape, range(1, len(shape)))
        operands.append(x)
    return b.add(node.opname, *operands, **node.attrs)


def _along_axes(b: Builder, node: Node, inputs: Sequence[Node], batched: Sequence[bool]) -> Node:
    """One operand, and axes that are counted one further."""
    attrs = dict(node.attrs)
    if "axes" in attrs:
        attrs["axes"] = tuple(a + 1 for a in attrs["axes"])
    if "axis" in attrs:
        attrs["axis"] += 1
    return b.add(node.opname, *inputs, **attrs)


def _structure(b: Builder, node: Node, inputs: Sequence[Node], batched: Sequence[bool]) -> Node:
    return b.add(node.opname, *inputs, **node.attrs)


_KINDS: dict[str, Rule] = {
    "elementwise": batched_elementwise, "reduction": _along_axes, "scan": _along_axes,
    "sort": _along_axes, "structure": _structure,
}
