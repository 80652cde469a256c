"""Inlining calls: what is compiled has no functions in it."""

from __future__ import annotations

from typing import ClassVar

from weft.compiler.build import Builder
from weft.compiler.errors import UnsupportedError
from weft.compiler.ir import Graph, Node
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.passes.base import Pass
from weft.compiler.rewrite.driver import map_nested, with_inputs
from weft.compiler.target import Target

__all__ = ["InlineCalls"]

_CALLS = frozenset({"call", "linear_call"})


@dataclass(frozen=True)
class InlineCalls(Pass):
    """Puts the nodes of called graphs in the place of `call` nodes, the rules they bring aside."""

    name: ClassVar[str] = "inline-calls"

    def run(self, graph: Graph, target: Target) -> Graph:
        """The graph without calls."""
        if any(n.opname in _CALLS for n in graph.nodes):
            graph = self._inlined(graph, target)
        return map_nested(graph, lambda inner: self.run(inner, target))

    def _inlined(self, graph: Graph, target: Target) -> Graph:
        from weft.compiler.transforms.inline import inline  # many modules, for seldom used ops

        b = Builder(graph.name)
        b.params = list(graph.params)
        b.reserve([n.name for n in (*graph.params, *graph.nodes)])
        now: dict[Node, Node] = {}
        results: dict[Node, list[Node]] = {}
        for node in graph.nodes:
            if node.opname in _CALLS:
                b.origin = node.origin
                body = self.run(_graph(node), target)
                results[node] = inline(b, body, [now.get(i, i) for i in node.inputs])
            elif node.opname == "get" and node.inputs[0] in results:
                now[node] = results[node.inputs[0]][node.attrs["index"]]
            else:
                now[node] = b.insert(with_inputs(node, now))
        return b.graph([now.get(r, r) for r in graph.results])


def _graph(node: Node) -> Graph:
    graph: Graph | None = node.attrs.get("graph")
    if graph is None:
        raise UnsupportedError(
            "a derivative by weft.custom_vjp is taken in forward mode", origin=node.origin,
            expected="grad, vjp or jacrev",
            repair="give it with weft.custom_jvp, which serves both modes")
    return graph
