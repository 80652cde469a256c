"""Which nodes of a flattened graph stand together in a partition, and the order of partitions."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Mapping, Sequence
from graphlib import TopologicalSorter

from weft.compiler.cost import node_bytes, node_flops
from weft.compiler.ir import Node
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.passes.flat import Flat
from weft.compiler.placement import Place

__all__ = ["Part", "parts_of"]


@dataclass(frozen=True, eq=False)
class Part:
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


def parts_of(flat: Flat) -> list[Part]:
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
    made = [Part(_place(flat, members), members) for members in nodes]
    return [made[i] for i in _by_height(dag, flat.device)]


def _by_parts(flat: Flat, dag: _Dag, vertex: Mapping[Node, int]) -> list[Hashable]:
    """Placed parts stay apart; other nodes are told apart by those above and below them."""
    units = {vertex[n] for n in flat.unit if n in vertex}
    placed = sum(1 << v for v in units)
    return [v if v in units else sets for v, sets in enumerate(dag.reach(placed))]


def _by_devices(flat: Flat, dag: _Dag, vertex: Mapping[Node, int]) -> list[Hashable]:
    """The device, and what is above and below on other devices."""
    own: dict[str, int] = {}
    for v, d in enumerate(dag.devices):
        own[d] = own.get(d, 0) | 1 << v
    everything = (1 << len(dag.devices)) - 1
    return [(d, up & ~own[d], down & ~own[d])
            for d, (up, down) in zip(dag.devices, dag.reach(everything))]


def _absorbed(flat: Flat, dag: _Dag, vertex: Mapping[Node, int]) -> list[Hashable]:
    """For each vertex the one that it becomes a part of, itself in most cases.

    What only one vertex on the same device needs, and is little work, is done there: a run of its
    own would take longer than what may be gained. So would one of little work that nothing waits
    for and that waits for nothing, as the count of a loop's turns: any other takes it.
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
    for v, inputs in enumerate(dag.inputs):
        if not inputs and not users[v] and work[v] < _LITTLE:
            others = (u for u, d in enumerate(dag.devices)
                      if d == dag.devices[v] and u != v and (dag.inputs[u] or users[u]))
            into[v] = into[next(others, v)]
    return [*into]


_LITTLE = 100_000       # operations and bytes: some ten microseconds


def _vertices(flat: Flat) -> tuple[_Dag, dict[Node, int]]:
    """The units and the nodes that are of none, and the vertex of each node that is not free."""
    dag, vertex, unit = _Dag([], []), dict[Node, int](), dict[int, int]()
    for node in flat.nodes:
        if not flat.is_made(node):
            continue
        number = flat.unit.get(node)
        if number is not None and number in unit:
            vertex[node] = unit[number]
        elif node.opname == "get" and node.inputs[0] in vertex:
            vertex[node] = vertex[node.inputs[0]]
        else:
            vertex[node] = len(dag.inputs)
            dag.inputs.append(set())
            device = flat.device if number is None else flat.places[number][0]
            dag.devices.append(f"{device} {number}" if node in flat.hosted else device)
            if number is not None:
                unit[number] = vertex[node]
        mine = vertex[node]
        dag.inputs[mine].update(vertex[i] for i in node.inputs
                                if i in vertex and vertex[i] != mine)
    return dag, vertex


def _place(flat: Flat, nodes: Sequence[Node]) -> Place:
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
