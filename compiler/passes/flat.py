"""A graph with placed parts as one list of nodes, of which each part is a unit."""

from __future__ import annotations

from collections.abc import Sequence

from weft.compiler.build import Builder
from weft.compiler.inline import copy_node, elements, zeros
from weft.compiler.ir import Graph, Node, live
from weft.compiler.passes.hosted import (
    copied_free,
    has_parts,
    moved_whole,
    symbols_inside,
    whole_on,
    with_operands,
    without_slices,
)
from weft.compiler.placement import Place, device_of, gets_behind, is_free, plain_sizes
from weft.compiler.target import Target

__all__ = ["Flat"]


class Flat:
    """The nodes of a graph and of its placed calls in one list.

    `unit` is the number of the placed part that a node is of, and `places` says where each of these
    is. What is free is of no unit. `hosted` are the loops and branches with parts on several
    devices, each a unit of its own; `kept` what is free and has to be made all the same, since
    such a loop takes it.
    """

    def __init__(self, graph: Graph, device: str, target: Target) -> None:
        self.graph = graph
        self.device = device
        self.unit: dict[Node, int] = {}
        self.places: list[Place] = []
        self.hosted: set[Node] = set()
        self.kept: set[Node] = set()
        self._target = target
        self._b = Builder(graph.name)
        self._b.params = list(graph.params)
        self._b.reserve([p.name for p in graph.params])
        self.results = self._add(graph, dict(zip(graph.params, graph.params)), None)
        self.nodes = gets_behind(live(self._b.nodes, self.results))

    def is_made(self, node: Node) -> bool:
        """Whether the node is in a partition, rather than made anew by whoever uses it."""
        return node in self.kept or not is_free(node)

    def _add(self, graph: Graph, now: dict[Node, Node], place: Place | None) -> list[Node]:
        outs: dict[Node, list[Node]] = {}
        unit = self._unit(place)
        for node in graph.nodes:
            own = device_of(node)
            if own is not None:
                inner: Graph = node.attrs["graph"]
                inputs = dict(zip(inner.params, [now[i] for i in node.inputs]))
                outs[node] = self._add(inner, inputs,
                                       None if own == self.device else (own, node.origin))
                unit = self._unit(place)    # what follows may depend on it
            elif node.opname == "get" and node.inputs[0] in outs:
                now[node] = outs[node.inputs[0]][node.attrs["index"]]
            elif has_parts(node):
                outs[node] = self._control(node, [now[i] for i in node.inputs], place)
                unit = self._unit(place)
            else:
                now[node] = self._copy(node, [now[i] for i in node.inputs])
                if unit is not None and not is_free(node):
                    self.unit[now[node]] = unit
        return [now[r] for r in graph.results]

    def _unit(self, place: Place | None) -> int | None:
        if place is None:
            return None
        self.places.append(place)
        return len(self.places) - 1

    def _copy(self, node: Node, inputs: Sequence[Node]) -> Node:
        if is_free(node):
            return copy_node(self._b, node, inputs)
        name = self._b.unique(node.name) if node.name else ""
        return self._b.insert(Node(node.op, tuple(inputs), node.attrs, node.type, node.origin,
                                   name))

    # ---- loops and branches with parts inside

    def _control(self, node: Node, inputs: Sequence[Node], place: Place | None) -> list[Node]:
        """The results of a loop or branch, moved to where its parts are or driven by the host."""
        part = whole_on(node)
        if part is None:
            return self._hosted(node, inputs, place or (self.device, None))
        device = device_of(part)
        assert device is not None
        attrs = moved_whole(node, self._target)
        made = self._b.insert(Node(node.op, tuple(inputs), attrs, node.type, node.origin,
                                   self._b.unique(node.name)))
        unit = None if device == self.device else self._unit((device, part.origin))
        return self._gets(made, unit, 0)

    def _hosted(self, node: Node, inputs: Sequence[Node], place: Place) -> list[Node]:
        skipped = 0
        operands = [*inputs]
        if node.opname == "scan" and node.attrs["length"] == 0:
            return self._no_turns(node, inputs)
        if node.opname == "scan":
            node, operands = without_slices(self._b, node, inputs)
            skipped = 1                             # the count of turns
        copies: dict[Node, Node] = {}
        for i, operand in enumerate(operands):
            if is_free(operand):
                operands[i] = copied_free(self._b, operand, copies)
                self.kept.add(operands[i])
                if place[0] != self.device:
                    unit = self._unit(place)
                    assert unit is not None
                    self.unit[operands[i]] = unit
        made = with_operands(self._b, node, operands, self._telling(node, operands))
        self.hosted.add(made)
        return self._gets(made, self._unit((place[0], node.origin)), skipped)

    def _no_turns(self, node: Node, inputs: Sequence[Node]) -> list[Node]:
        first, count = node.attrs["consts"], node.attrs["carries"]
        stacked = elements(node.type)[count:]
        return [*inputs[first:first + count], *[zeros(self._b, t) for t in stacked]]

    def _telling(self, node: Node, operands: Sequence[Node]) -> list[Node]:
        """Parameters that tell the sizes which the bodies need and no operand tells."""
        more: list[Node] = []
        told = {s for o in operands for s in plain_sizes(o)}
        for symbol in sorted(symbols_inside(node) - told):
            if not any(symbol in plain_sizes(m) for m in more):
                more += [p for p in self.graph.params if symbol in plain_sizes(p)][:1]
        return more

    def _gets(self, made: Node, unit: int | None, skipped: int) -> list[Node]:
        if unit is not None:
            self.unit[made] = unit
        count = len(made.type.elements)  # type: ignore[union-attr]
        gets = [self._b.add("get", made, index=i, origin=made.origin)
                for i in range(skipped, count)]
        if unit is not None:
            self.unit.update(dict.fromkeys(gets, unit))
        return gets
