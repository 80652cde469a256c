"""The passes that remove nodes: common subexpressions and dead code."""

from __future__ import annotations

from collections.abc import Hashable
from typing import ClassVar

import numpy as np

from weft.compiler.ir import Graph, Node, attrs_key, live
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.passes.base import Pass
from weft.compiler.rewrite.arith import COMMUTATIVE
from weft.compiler.rewrite.driver import map_nested, with_inputs
from weft.compiler.target import Target

__all__ = ["EliminateCommon", "EliminateDead"]

_COMPARED_BYTES = 1 << 16


@dataclass(frozen=True)
class EliminateCommon(Pass):
    """Merges nodes of the same op, inputs and attributes: what is equal is computed once.

    The two inputs of a commutative op may stand in either order.
    """

    name: ClassVar[str] = "eliminate-common"

    def run(self, graph: Graph, target: Target) -> Graph:
        """The graph with equal nodes merged, the first of them kept."""
        graph = map_nested(graph, lambda inner: self.run(inner, target))
        now: dict[Node, Node] = {}
        seen: dict[Hashable, Node] = {}
        nodes: list[Node] = []
        for node in graph.nodes:
            out = with_inputs(node, now)
            first = seen.setdefault(_identity(out), out)
            if first is out:
                nodes.append(out)
            if first is not node:
                now[node] = first
        if not now:
            return graph
        results = [now.get(r, r) for r in graph.results]
        return Graph(graph.name, graph.params, nodes, results)


def _identity(node: Node) -> Hashable:
    """What makes two nodes equal. Large constants are equal only if they are one array."""
    if not node.attrs:
        either_way = node.op is not None and node.op.name in COMMUTATIVE
        return (node.op, frozenset(node.inputs) if either_way else node.inputs)
    value = node.attrs.get("value")
    if isinstance(value, np.ndarray) and value.nbytes > _COMPARED_BYTES:
        return (node.op, id(value))
    return (node.op, node.inputs, attrs_key(node.attrs))


@dataclass(frozen=True)
class EliminateDead(Pass):
    """Drops nodes that no result depends on."""

    name: ClassVar[str] = "eliminate-dead"

    def run(self, graph: Graph, target: Target) -> Graph:
        """The graph without dead nodes."""
        graph = map_nested(graph, lambda inner: self.run(inner, target))
        nodes = live(graph.nodes, graph.results)
        if len(nodes) == len(graph.nodes):
            return graph
        return Graph(graph.name, graph.params, nodes, graph.results)
