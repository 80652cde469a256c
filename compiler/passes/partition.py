"""Cutting a graph with placed parts into partitions, one graph for each, and transfers between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from weft.compiler.build import Builder
from weft.compiler.ir import Graph, Node, nested_graphs
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.passes.base import Pass
from weft.compiler.passes.flat import Flat
from weft.compiler.passes.group import Part, parts_of
from weft.compiler.passes.hosted import with_homes
from weft.compiler.placement import (
    device_of,
    is_free,
    is_hosted,
    is_placed,
    outlined_call,
    param_places,
    plain_sizes,
    result_places,
)
from weft.compiler.target import Target
from weft.compiler.types import Size, TupleType

__all__ = ["Partition"]


@dataclass(frozen=True)
class Partition(Pass):
    """Cuts the graph into calls, each on one device, and transfers of values between them.

    `device` is where everything runs that is not placed, where the parameters are and where the
    results are due. Placed parts are kept whole. Nodes are together in a partition if they are on
    one device and need, and are needed by, the same parts on other devices, directly or not. So
    partitions never wait for each other in a circle, none waits for what only a part of it needs
    (unless that part is little work), and none keeps another device waiting for what that does not
    need.

    Afterwards the graph has only placed calls, what gets their results, and transfers; each value
    is moved once to each device that needs it. Loops and branches with parts inside are moved to
    the device of these, or stay and are driven by the host, see `weft.compiler.passes.hosted`.
    """

    name: ClassVar[str] = "partition"
    device: str = "cpu"

    def run(self, graph: Graph, target: Target) -> Graph:
        """The partitioned graph; the same if it is that already."""
        if _is_cut(graph, self.device, [self.device] * len(graph.params),
                   [self.device] * len(graph.results)):
            return graph
        return _Cutter(target).cut(graph, self.device)


def _is_cut(graph: Graph, device: str, places: Sequence[str], due: Sequence[str]) -> bool:
    """Whether the graph consists of partitions that get what they need by transfers.

    `places` are the devices of the parameters, `due` those on which results have to be.
    """
    where: dict[Node, str] = dict(zip(graph.params, places, strict=True))
    results: dict[Node, Sequence[str]] = {}
    for node in graph.nodes:
        own = device_of(node)
        if own is not None:
            if any(where[i] != own for i in node.inputs) or is_placed(node.attrs["graph"]):
                return False
            results[node] = [own] * len(node.attrs["graph"].results)
        elif is_hosted(node):
            if tuple(where[i] for i in node.inputs) != node.attrs["places"] or not all(
                    _is_cut(g, node.attrs["device"], param_places(node), result_places(node, name))
                    for name, g in nested_graphs(node).items()):
                return False
            results[node] = result_places(node)
        elif node.opname == "transfer":
            where[node] = node.attrs["to"]
        elif node.opname == "get" and node.inputs[0] in results:
            where[node] = results[node.inputs[0]][node.attrs["index"]]
        else:
            return False
    return all(where[r] == d for r, d in zip(graph.results, due, strict=True))


@dataclass(frozen=True)
class _Cutter:
    """Cuts graphs, and those of the loops and branches in them that the host drives."""

    target: Target

    def cut(self, graph: Graph, device: str, places: Sequence[str] = (),
            due: Sequence[str] = ()) -> Graph:
        """The partitioned graph. Parameters are at `places`, results wanted where they are `due`,
        on the device all unless it is said."""
        flat = Flat(graph, device, self.target)
        parts = parts_of(flat)
        free = [r for r in dict.fromkeys(flat.results) if not flat.is_made(r)]
        if free:
            parts.append(Part((device, None), free))
        writer = _Writer(flat, places or [device] * len(graph.params), self)
        return writer.write(parts, due or [device] * len(graph.results))


# ---- writing them down

class _Writer:
    """The partitioned graph under construction."""

    def __init__(self, flat: Flat, places: Sequence[str], cutter: _Cutter) -> None:
        self.flat = flat
        self.cutter = cutter
        self.b = Builder(flat.graph.name)
        self.b.params = list(flat.graph.params)
        self.b.reserve([n.name for n in (*flat.graph.params, *flat.nodes)])
        self.home: dict[Node, str] = dict(zip(flat.graph.params, places, strict=True))
        self.there: dict[tuple[Node, str], Node] = {(p, d): p for p, d in self.home.items()}
        self.numbers: dict[str, int] = {}

    def write(self, parts: Sequence[Part], due: Sequence[str]) -> Graph:
        """The graph of these partitions, in this order."""
        used = {*self.flat.results}
        for part in parts:
            own = {*part.nodes}
            used.update(i for n in part.nodes for i in n.inputs if i not in own)
        for part in parts:
            if part.nodes[0] in self.flat.hosted:
                self._hosted(part.nodes[0], part.nodes[1:])
            else:
                self._part(part, [n for n in part.nodes if n in used])
        return self.b.graph([self._moved(r, d) for r, d in zip(self.flat.results, due)])

    def _hosted(self, node: Node, gets: Sequence[Node]) -> None:
        """A loop or branch that the host drives; its bodies are cut in turn."""
        device = self.flat.places[self.flat.unit[node]][0]
        attrs = with_homes(node, device, self.cutter.cut)
        operands = [self._moved(i, d) for i, d in zip(node.inputs, attrs["places"])]
        made = self.b.insert(Node(node.op, tuple(operands), attrs, node.type, node.origin,
                                  node.name))
        for get in gets:
            new = self.b.add("get", made, index=get.attrs["index"], origin=get.origin)
            self.home[get] = place = result_places(made)[get.attrs["index"]]
            self.there[get, place] = new

    def _part(self, part: Part, outs: Sequence[Node]) -> None:
        device = part.place[0]
        more = self._for_sizes(part)
        own = {*part.nodes}
        inputs = dict.fromkeys((*(i for n in part.nodes for i in n.inputs), *more))
        now = {i: self._moved(i, device) for i in inputs if i not in own and not is_free(i)}
        number = self.numbers[device] = self.numbers.get(device, -1) + 1
        made = outlined_call(self.b, part.nodes, outs, part.place, now, f"{device}.{number}", more)
        for out, node in made.items():
            self.home[out] = device
            self.there[out, device] = node

    def _moved(self, value: Node, device: str) -> Node:
        """The value on a device, moved there when it is first asked for."""
        found = self.there.get((value, device))
        if found is None:
            home = self.home[value]
            found = self.b.add("transfer", self.there[value, home], origin=value.origin,
                               source=home, to=device)
            self.there[value, device] = found
        return found

    def _for_sizes(self, part: Part) -> list[Node]:
        """Parameters that tell the sizes which no input of the partition tells."""
        own = {*part.nodes}
        inputs = {i for n in part.nodes for i in n.inputs if i not in own and not is_free(i)}
        free: dict[Node, None] = {}
        for node in part.nodes:
            _note_free(node, free)
        told = {s for i in inputs for s in plain_sizes(i)}
        more: list[Node] = []
        for symbol in sorted({s for n in (*part.nodes, *free) for s in _symbols(n)} - told):
            if any(symbol in plain_sizes(m) for m in more):
                continue
            telling = [p for p in self.flat.graph.params if symbol in plain_sizes(p)]
            more += telling[:1]
        return more


def _note_free(node: Node, found: dict[Node, None]) -> None:
    """Note the free nodes that a node is made of."""
    for i in node.inputs:
        if i not in found and is_free(i):
            found[i] = None
            _note_free(i, found)


def _symbols(node: Node) -> Iterator[str]:
    types = node.type.elements if isinstance(node.type, TupleType) else (node.type,)
    sizes = [d for t in types for d in t.shape]
    for value in node.attrs.values():
        sizes += value if isinstance(value, tuple) else (value,)
    for d in sizes:
        if isinstance(d, Size):
            yield from d.symbols
    for graph in nested_graphs(node).values() if node.attrs else ():
        for inner in graph.nodes:
            yield from _symbols(inner)
