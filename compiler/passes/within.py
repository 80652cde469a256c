"""Passes inside of partitions: each partition has the passes and the target of its device."""

from __future__ import annotations

from collections.abc import Mapping

from weft.compiler.ir import Graph, Node, map_graphs
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.passes.base import Pass
from weft.compiler.passes.calls import InlineCalls
from weft.compiler.passes.clean import EliminateCommon, EliminateDead
from weft.compiler.passes.partition import Partition
from weft.compiler.passes.pipeline import pipeline_for
from weft.compiler.placement import device_of, is_hosted
from weft.compiler.rewrite.driver import rebuild
from weft.compiler.target import Target

__all__ = ["Within", "placed_pipeline"]


@dataclass(frozen=True)
class Within(Pass):
    """Runs a pass on the graph of every partition, and nothing across them.

    `passes` has, for each device, the pass with the options that it needs, and its target.
    """

    passes: tuple[tuple[str, Pass, Target], ...]

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name of the pass that runs inside."""
        return self.passes[0][1].name

    def run(self, graph: Graph, target: Target) -> Graph:
        """The graph with each placed call's graph transformed."""
        changed: dict[Node, Node] = {}
        passes = {device: (inner, own) for device, inner, own in self.passes}
        for node in graph.nodes:
            device, attrs = device_of(node), node.attrs
            if device is not None:
                inner, own = passes[device]
                attrs = map_graphs(attrs, lambda g, i=inner, t=own: i.run(g, t))  # type: ignore[misc]
            elif is_hosted(node):
                attrs = map_graphs(attrs, lambda g: self.run(g, target))
            if attrs is not node.attrs:
                changed[node] = Node(node.op, node.inputs, attrs, node.type, node.origin,
                                     node.name)
        return rebuild(graph, changed) if changed else graph


def placed_pipeline(device: str, machines: Mapping[str, tuple[Target, frozenset[str]]]
                    ) -> tuple[Pass, ...]:
    """The passes for a graph with placed parts, whose other parts run on `device`.

    `machines` has the target and the ops of that device and of each that is named in the graph. The
    graph is cut first; then all passes run on each partition, those of its own device.
    """
    rows = {d: pipeline_for(supported) for d, (_, supported) in machines.items()}
    inside = [Within(tuple((d, row[i], machines[d][0]) for d, row in rows.items()))
              for i in range(len(rows[device]))]
    # what is equal is found now: passes inside of partitions see no more than these
    return (InlineCalls(device), EliminateDead(), EliminateCommon(), Partition(device), *inside)
