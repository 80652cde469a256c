"""Cutting a graph with placed parts into partitions, one graph for each, and transfers between."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterator, Mapping, Sequence
from graphlib import TopologicalSorter
from typing import ClassVar, NoReturn

from weft.compiler.build import Builder
from weft.compiler.cost import node_bytes, node_flops
from weft.compiler.errors import UnsupportedError
from weft.compiler.inline import copy_node
from weft.compiler.ir import Graph, Node, live, nested_graphs
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.passes.base import Pass
from weft.compiler.placement import (
    Place,
    device_of,
    gets_behind,
    is_free,
    is_placed,
    outlined_call,
    placed_inside,
)
from weft.compiler.target import Target
from weft.compiler.types import Size, TensorType, TupleType

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
    is moved once to each device that needs it. Raises an `UnsupportedError` for parts placed inside
    of loops and branches on another device.
    """

    name: ClassVar[str] = "partition"
    device: str = "cpu"

    def run(self, graph: Graph, target: Target) -> Graph:
        """The partitioned graph; the same if it is that already."""
        if _is_cut(graph, self.device):
            return graph
        _check_bodies(graph)
        flat = _Flat(graph, self.device)
        parts = _parts(flat)
        free = [r for r in dict.fromkeys(flat.results) if is_free(r)]
        if free:
            parts.append(_Part((self.device, None), free))
        return _Writer(flat).write(parts)


def _is_cut(graph: Graph, device: str) -> bool:
    """Whether the graph consists of partitions that get what they need by transfers."""
    where = dict.fromkeys(graph.params, device)
    for node in graph.nodes:
        own = device_of(node)
        if own is not None:
            if any(where[i] != own for i in node.inputs) or is_placed(node.attrs["graph"]):
                return False
            where[node] = own
        elif node.opname == "transfer":
            where[node] = node.attrs["to"]
        elif node.opname == "get" and device_of(node.inputs[0]) is not None:
            where[node] = where[node.inputs[0]]
        else:
            return False
    return all(where[r] == device for r in graph.results)


def _check_bodies(graph: Graph) -> None:
    """Refuse parts placed in the bodies of loops and branches."""
    for node in graph.nodes:
        inner = node.attrs["graph"] if device_of(node) is not None else None
        if inner is not None:
            _check_bodies(inner)
        elif node.attrs:
            for body in nested_graphs(node).values():
                for part in placed_inside(body):
                    _refuse(node, part)


def _refuse(node: Node, part: Node) -> NoReturn:
    loop = "branch of a cond or switch" if node.opname == "case" else (
        f"body of a {'while_loop' if node.opname == 'while' else node.opname}")
    raise UnsupportedError(
        f"a part placed on {device_of(part)!r} stands in the {loop} on another device",
        origin=part.origin, expected="loops and branches that run on one device, whole",
        repair="put `with weft.device(...)` around the loop or branch, or take the part out of it")


# ---- one list of nodes, each of a unit or of none

class _Flat:
    """The nodes of a graph and of its placed calls in one list.

    `unit` is the number of the placed part that a node is of, and `places` says where each of these
    is. What is free is of no unit.
    """

    def __init__(self, graph: Graph, device: str) -> None:
        self.graph = graph
        self.device = device
        self.unit: dict[Node, int] = {}
        self.places: list[Place] = []
        self._b = Builder(graph.name)
        self._b.params = list(graph.params)
        self._b.reserve([p.name for p in graph.params])
        self.results = self._add(graph, dict(zip(graph.params, graph.params)), None)
        self.nodes = gets_behind(live(self._b.nodes, self.results))

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


# ---- which of them stand together

@dataclass(frozen=True, eq=False)
class _Part:
    """A partition: its nodes in order, and where it is."""

    place: Place
    nodes: list[Node]


@dataclass(frozen=True, eq=False)
class _Dag:
    """Vertices by number: the device of each, and those that it needs directly."""

    devices: list[str]
    inputs: list[set[int]]

    def order(self) -> list[int]:
        """Every vertex behind those that it needs."""
        return [*TopologicalSorter(dict(enumerate(self.inputs))).static_order()]

    def reach(self, counted: int) -> list[tuple[int, int]]:
        """For each vertex those of `counted` that it needs and that need it, as sets of bits."""
        order = self.order()
        up, down = [0] * len(order), [0] * len(order)
        for v in order:
            for i in self.inputs[v]:
                up[v] |= up[i] | (counted & 1 << i)
        for v in reversed(order):
            for i in self.inputs[v]:
                down[i] |= down[v] | (counted & 1 << v)
        return [*zip(up, down)]

    def contracted(self, keys: Sequence[Hashable]) -> tuple[_Dag, list[int]]:
        """Vertices of equal keys as one, and the new number of each."""
        numbers: dict[Hashable, int] = {}
        new = [numbers.setdefault(k, len(numbers)) for k in keys]
        out = _Dag([""] * len(numbers), [set() for _ in numbers])
        for v, n in enumerate(new):
            out.devices[n] = self.devices[v]
            out.inputs[n].update(new[i] for i in self.inputs[v])
        for n, inputs in enumerate(out.inputs):
            inputs.discard(n)
        return out, new


def _parts(flat: _Flat) -> list[_Part]:
    """The partitions, in an order in which they can run, those first that most depends on.

    Vertices on one device with equal sets of vertices of other devices above and below them may be
    one. (If a path led from one through another device to another, that would be above the second
    and not above the first; and a circle through several such classes would, likewise, put one of
    its vertices above itself.) That is asked first of the nodes on the flat graph's own device,
    which are many and are told apart by the placed parts alone.
    """
    dag, vertex = _vertices(flat)
    for tell in (_by_parts, _by_devices, _absorbed, _by_devices):
        dag, new = dag.contracted(tell(flat, dag, vertex))
        vertex = {node: new[v] for node, v in vertex.items()}
    nodes: list[list[Node]] = [[] for _ in dag.devices]
    for node, v in vertex.items():
        nodes[v].append(node)
    made = [_Part(_place(flat, members), members) for members in nodes]
    return [made[i] for i in _by_height(dag, flat.device)]


def _by_parts(flat: _Flat, dag: _Dag, vertex: Mapping[Node, int]) -> list[Hashable]:
    """Placed parts stay apart; other nodes are told apart by those above and below them."""
    units = {vertex[n] for n in flat.unit if n in vertex}
    placed = sum(1 << v for v in units)
    return [v if v in units else sets for v, sets in enumerate(dag.reach(placed))]


def _by_devices(flat: _Flat, dag: _Dag, vertex: Mapping[Node, int]) -> list[Hashable]:
    """The device, and what is above and below on other devices."""
    own: dict[str, int] = {}
    for v, d in enumerate(dag.devices):
        own[d] = own.get(d, 0) | 1 << v
    everything = (1 << len(dag.devices)) - 1
    return [(d, up & ~own[d], down & ~own[d])
            for d, (up, down) in zip(dag.devices, dag.reach(everything))]


def _absorbed(flat: _Flat, dag: _Dag, vertex: Mapping[Node, int]) -> list[Hashable]:
    """For each vertex the one that it becomes a part of, itself in most cases.

    What only one vertex on the same device needs, and is little work, is done there: a run of its
    own would take longer than what may be gained.
    """
    work = [0.0] * len(dag.inputs)
    for node, v in vertex.items():
        for size in (node_flops(node), node_bytes(node)):
            work[v] += size if isinstance(size, int) else _LITTLE
    users: list[set[int]] = [set() for _ in dag.inputs]
    for v, inputs in enumerate(dag.inputs):
        for i in inputs:
            users[i].add(v)
    into = [*range(len(dag.inputs))]
    for v in reversed(dag.order()):
        final = {into[u] for u in users[v]}
        if len(final) == 1 and work[v] < _LITTLE:
            (u,) = final
            if dag.devices[u] == dag.devices[v] and work[u] + work[v] < 2 * _LITTLE:
                into[v] = u
                work[u] += work[v]
    return [*into]


_LITTLE = 100_000       # operations and bytes: some ten microseconds


def _vertices(flat: _Flat) -> tuple[_Dag, dict[Node, int]]:
    """The units and the nodes that are of none, and the vertex of each node that is not free."""
    dag, vertex, unit = _Dag([], []), dict[Node, int](), dict[int, int]()
    for node in flat.nodes:
        if is_free(node):
            continue
        number = flat.unit.get(node)
        if number is not None and number in unit:
            vertex[node] = unit[number]
        elif node.opname == "get" and node.inputs[0] in vertex:
            vertex[node] = vertex[node.inputs[0]]
        else:
            vertex[node] = len(dag.inputs)
            dag.inputs.append(set())
            dag.devices.append(flat.device if number is None else flat.places[number][0])
            if number is not None:
                unit[number] = vertex[node]
        mine = vertex[node]
        dag.inputs[mine].update(vertex[i] for i in node.inputs
                                if i in vertex and vertex[i] != mine)
    return dag, vertex


def _place(flat: _Flat, nodes: Sequence[Node]) -> Place:
    number = flat.unit.get(nodes[0])
    return (flat.device, None) if number is None else flat.places[number]


def _by_height(dag: _Dag, device: str) -> list[int]:
    """Every vertex behind those that it needs; of several, the one first with most behind it."""
    users: list[list[int]] = [[] for _ in dag.inputs]
    height = [int(d != device) for d in dag.devices]    # results are moved to the device
    for v in reversed(dag.order()):
        for i in dag.inputs[v]:
            users[i].append(v)
            step = 1 if dag.devices[i] == dag.devices[v] else 2     # a transfer stands between
            height[i] = max(height[i], height[v] + step)
    missing = [len(i) for i in dag.inputs]
    ready = [(-height[v], v) for v, n in enumerate(missing) if not n]
    out = []
    heapq.heapify(ready)
    while ready:
        v = heapq.heappop(ready)[1]
        out.append(v)
        for u in users[v]:
            missing[u] -= 1
            if not missing[u]:
                heapq.heappush(ready, (-height[u], u))
    return out


# ---- writing them down

class _Writer:
    """The partitioned graph under construction."""

    def __init__(self, flat: _Flat) -> None:
        self.flat = flat
        self.b = Builder(flat.graph.name)
        self.b.params = list(flat.graph.params)
        self.b.reserve([n.name for n in (*flat.graph.params, *flat.nodes)])
        self.home: dict[Node, str] = dict.fromkeys(flat.graph.params, flat.device)
        self.there: dict[tuple[Node, str], Node] = {(p, flat.device): p for p in flat.graph.params}
        self.numbers: dict[str, int] = {}

    def write(self, parts: Sequence[_Part]) -> Graph:
        """The graph of these partitions, in this order."""
        used = {*self.flat.results}
        for part in parts:
            own = {*part.nodes}
            used.update(i for n in part.nodes for i in n.inputs if i not in own)
        for part in parts:
            self._part(part, [n for n in part.nodes if n in used])
        device = self.flat.device
        return self.b.graph([self._moved(r, device) for r in self.flat.results])

    def _part(self, part: _Part, outs: Sequence[Node]) -> None:
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

    def _for_sizes(self, part: _Part) -> list[Node]:
        """Parameters that tell the sizes which no input of the partition tells."""
        own = {*part.nodes}
        inputs = {i for n in part.nodes for i in n.inputs if i not in own and not is_free(i)}
        free: dict[Node, None] = {}
        for node in part.nodes:
            _note_free(node, free)
        told = {s for i in inputs for s in _plain_sizes(i)}
        more: list[Node] = []
        for symbol in sorted({s for n in (*part.nodes, *free) for s in _symbols(n)} - told):
            if any(symbol in _plain_sizes(m) for m in more):
                continue
            telling = [p for p in self.flat.graph.params if symbol in _plain_sizes(p)]
            more += telling[:1]
        return more


def _note_free(node: Node, found: dict[Node, None]) -> None:
    """Note the free nodes that a node is made of."""
    for i in node.inputs:
        if i not in found and is_free(i):
            found[i] = None
            _note_free(i, found)


def _plain_sizes(node: Node) -> set[str]:
    """The symbolic sizes that are axes of the node by themselves."""
    return {str(d) for d in node.shape if isinstance(d, Size) and d == Size.symbol(str(d))} \
        if isinstance(node.type, TensorType) else set()


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
