"""Inlining calls: what is compiled has no functions in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from weft.compiler.build import Builder
from weft.compiler.errors import UnsupportedError
from weft.compiler.inline import inline
from weft.compiler.ir import Graph, Node, map_graphs, nested_graphs
from weft.compiler.lazy_dataclass import dataclass, replace
from weft.compiler.ops.registry import get_op
from weft.compiler.passes.base import Pass
from weft.compiler.rewrite.driver import map_nested, rebuild, with_inputs
from weft.compiler.target import Target

__all__ = ["InlineCalls"]

_CALLS = frozenset({"call", "linear_call"})


@dataclass(frozen=True)
class InlineCalls(Pass):
    """Puts the nodes of called graphs in the place of `call` nodes, the rules they bring aside.

    With a `device`, calls that are placed on another one stay: they are not of this program. In
    their graphs, those placed elsewhere again stay. Without, everything runs in one place.
    """

    name: ClassVar[str] = "inline-calls"
    device: str | None = None

    def run(self, graph: Graph, target: Target) -> Graph:
        """The graph without calls."""
        if any(self._dissolves(n) for n in graph.nodes):
            graph = self._inlined(graph, target)
        return self._map_nested(graph, target)

    def _dissolves(self, node: Node) -> bool:
        return node.opname in _CALLS and (self.device is None
                                          or node.attrs.get("device") in (None, self.device))

    def _map_nested(self, graph: Graph, target: Target) -> Graph:
        if self.device is None:
            return map_nested(graph, lambda inner: self.run(inner, target))
        changed: dict[Node, Node] = {}
        for node in graph.nodes:
            if node.attrs and nested_graphs(node):
                attrs = self._inside(node, target)
                if attrs is not node.attrs:
                    op = get_op("call") if node.opname in _CALLS else node.op
                    changed[node] = Node(op, node.inputs, attrs, node.type, node.origin, node.name)
        return rebuild(graph, changed) if changed else graph

    def _inside(self, node: Node, target: Target) -> Mapping[str, Any]:
        """The attributes of a node that stays, with calls in its graphs inlined."""
        device = node.attrs.get("device")
        if device is None or node.opname not in _CALLS:
            return map_graphs(node.attrs, lambda inner: self.run(inner, target))
        graph = _graph(node)
        inner = replace(self, device=device).run(graph, target)
        if inner is graph and node.attrs.keys() == {"device", "graph"}:
            return node.attrs
        return {"device": device, "graph": inner}

    def _inlined(self, graph: Graph, target: Target) -> Graph:
        b = Builder(graph.name)
        b.params = list(graph.params)
        b.reserve([n.name for n in (*graph.params, *graph.nodes)])
        now: dict[Node, Node] = {}
        results: dict[Node, list[Node]] = {}
        for node in graph.nodes:
            if self._dissolves(node):
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
