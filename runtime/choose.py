"""`device="auto"`: which device a part runs on, by a cost model, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from weft.compiler.cost import Costs, Work, number, work_of
from weft.compiler.errors import Origin
from weft.compiler.ir import Graph, Node, map_graphs, nested_graphs
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.placement import device_of, placed_inside
from weft.compiler.types import DTYPES, TupleType
from weft.devices.costs import costs_of
from weft.devices.protocol import Device, DeviceError
from weft.devices.registry import AUTO, device_names, get_device, is_loaded

__all__ = ["Choice", "Estimate", "chosen"]

WORTH = 1e-3        # seconds on the function's own device from which others are loaded to ask them
HANDING = 20e-6     # seconds that a partition on another device costs besides


@dataclass(frozen=True)
class Estimate:
    """What a part would take on a device: seconds, of which `moving`, or the reason why it cannot
    run there. `costs` are those of the device."""

    device: str
    seconds: float = 0.0
    moving: float = 0.0
    problem: str = ""
    costs: Costs | None = None


@dataclass(frozen=True)
class Choice:
    """The device of a part, and what was estimated for each, the best first."""

    device: str
    origin: Origin | None
    work: Work
    estimates: tuple[Estimate, ...]

    def lines(self) -> Iterator[str]:
        """For people."""
        where = f"the part at {self.origin}" if self.origin is not None else "the function"
        yield (f"{where} runs on {self.device}: {self.work.flops / 1e6:.3g} MFLOP, "
               f"{self.work.nbytes / 1e6:.3g} MB, {self.work.ops:.0f} ops")
        for e in self.estimates:
            yield f"  {e.device:<10} " + (e.problem or _time(e.seconds) + (
                f", of which {_time(e.moving)} to move arrays" if e.moving else ""))
        for e in self.estimates:
            if e.costs is not None:
                yield (f"    assumed of {e.device}: {e.costs.flops:.3g} FLOP/s, "
                       f"{e.costs.bandwidth:.3g} B/s, {_time(e.costs.launch)} a run"
                       f" ({e.costs.why})")


def _time(seconds: float) -> str:
    factor, unit = next((f, u) for f, u in ((1.0, "s"), (1e3, "ms"), (1e6, "µs"))
                        if seconds * f >= 1 or u == "µs")
    return f"{seconds * factor:.3g} {unit}"


def chosen(graph: Graph, device: str) -> tuple[Graph, tuple[Choice, ...]]:
    """The graph with a device for each part that is placed on `AUTO`, and the choices.

    `device` is where all else runs. Parts in loops, branches and other parts are placed where these
    are.
    """
    choices: list[Choice] = []

    def choose(node: Node, where: Mapping[Node, str]) -> str:
        choices.append(_choice(node, device, where))
        return choices[-1].device
    return _decided(graph, device, choose), tuple(choices)


_Choose: TypeAlias = Callable[[Node, Mapping[Node, str]], str]


def _always(device: str) -> _Choose:
    return lambda node, where: device


def _decided(graph: Graph, device: str, choose: _Choose) -> Graph:
    if not any(device_of(n) == AUTO for n in placed_inside(graph)):
        return graph
    now: dict[Node, Node] = {}
    where: dict[Node, str] = dict.fromkeys(graph.params, device)
    for node in graph.nodes:
        attrs: Mapping[str, Any] = node.attrs
        name = device_of(node)
        if name == AUTO:
            name = choose(node, where)
            body: Graph = attrs["graph"]
            attrs = {**attrs, "device": name,
                     "graph": Graph(name, body.params, body.nodes, body.results)}
        around = name or device
        if attrs and nested_graphs(node):
            attrs = map_graphs(attrs, partial(_decided, device=around, choose=_always(around)))
        where[node] = where[node.inputs[0]] if node.opname == "get" else around
        now[node] = node if attrs is node.attrs and not any(i in now for i in node.inputs) else \
            Node(node.op, tuple([now.get(i, i) for i in node.inputs]), attrs, node.type,
                 node.origin, node.name)
    return Graph(graph.name, graph.params, now.values(), [now.get(r, r) for r in graph.results])


def _choice(node: Node, device: str, where: Mapping[Node, str]) -> Choice:
    graph: Graph = node.attrs["graph"]
    work = work_of(graph)
    own = get_device(device)
    first = Estimate(device, *_seconds(node, work, own, own, where), costs=costs_of(own))
    estimates = [first]
    for name in _others(device):
        problem = "" if is_loaded(name) or first.seconds >= WORTH else (
            f"not asked: to load it takes longer than the {_time(first.seconds)} on {device} are "
            "worth")
        problem = problem or _absent(name) or _lacking(graph, get_device(name))
        if problem:
            estimates.append(Estimate(name, problem=problem))
        else:
            other = get_device(name)
            estimates.append(Estimate(name, *_seconds(node, work, other, own, where),
                                      costs=costs_of(other)))
    able = sorted((e for e in estimates if not e.problem), key=lambda e: e.seconds)
    return Choice(able[0].device, node.origin, work,
                  (*able, *(e for e in estimates if e.problem)))


def _absent(name: str) -> str:
    """Why there is no such device here; empty if there is."""
    try:
        get_device(name).describe()         # which some can be made without
        return ""
    except DeviceError as error:
        return error.what


def _others(device: str) -> list[str]:
    """The first device of each name, but the one that the function runs on."""
    return [n for n in device_names() if n != device.partition(":")[0]]


def _seconds(node: Node, work: Work, device: Device, own: Device, where: Mapping[Node, str]
             ) -> tuple[float, float]:
    """What a part takes on a device, results brought back included, and the moving in that."""
    moving = 0.0
    for i in dict.fromkeys(node.inputs):
        moving += _between(get_device(where[i]), device, number(i.tensor.nbytes))
    for r in dict.fromkeys(node.attrs["graph"].results):
        moving += _between(device, own, number(r.tensor.nbytes))
    handing = HANDING if device is not own else 0.0
    return costs_of(device).seconds(work) + moving + handing, moving


def _between(source: Device, to: Device, nbytes: float) -> float:
    if source.memory is to.memory:
        return 0.0
    sides: Sequence[Costs] = (costs_of(source), costs_of(to))
    return sum(c.moving(nbytes) for c in sides)


def _lacking(graph: Graph, device: Device) -> str:
    """Why the device cannot run a graph, before ops are decomposed; empty if it can."""
    ops, dtypes = device.supported(), device.dtypes()
    if graph.symbols and not device.symbolic_sizes:
        return "cannot: it does not leave sizes open"
    for node in _all_nodes(graph):
        if node.op is not None and node.opname not in ops and node.op.decompose is None \
                and node.opname not in ("call", "linear_call"):
            return f"cannot: it has no op {node.opname}"
        types = node.type.elements if isinstance(node.type, TupleType) else (node.type,)
        missing = [t.dtype.name for t in types if t.dtype.name not in dtypes]
        if missing and len(dtypes) < len(DTYPES):
            return f"cannot: it has no {missing[0]}"
    return ""


def _all_nodes(graph: Graph) -> Iterator[Node]:
    yield from graph.params
    for node in graph.nodes:
        yield node
        if node.attrs:
            for inner in nested_graphs(node).values():
                yield from _all_nodes(inner)
