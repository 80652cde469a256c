"""Programs of several devices: a partitioned graph lowered, compiled and run by the scheduler."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cached_property, partial
from typing import Any

from weft.compiler.digest import graph_digest
from weft.compiler.errors import WeftError
from weft.compiler.ir import Graph, Node
from weft.compiler.lazy_dataclass import dataclass, replace
from weft.compiler.passes.base import Pass
from weft.compiler.passes.within import placed_pipeline
from weft.compiler.placement import device_of, placed_inside
from weft.compiler.target import Target
from weft.compiler.text import name_text
from weft.compiler.types import Dim
from weft.devices.capabilities import check_graph
from weft.devices.host_memory import HostMemory
from weft.devices.protocol import Cache, Compiled, Device, DeviceError, KernelInfo, Lowered, Memory
from weft.devices.registry import get_device
from weft.runtime.scheduler import Lane, Plan, Step, make_plan, run_plan

__all__ = ["PlacedCompiled", "PlacedLowered", "lower_placed", "passes_for"]


def passes_for(graph: Graph, device: str, target: Target) -> tuple[Pass, ...]:
    """The passes for a graph with placed parts, whose other parts run on `device`.

    `target` is that device's: the options set in it hold for all parts.
    """
    names = dict.fromkeys([device, *(device_of(n) or device for n in placed_inside(graph))])
    made = {name: get_device(name) for name in names}
    return placed_pipeline(device, {
        name: (_target(d, target), d.supported()) for name, d in made.items()})


def _target(device: Device, like: Target) -> Target:
    """The device's machine, with the options of another target."""
    return replace(device.target(), fast_math=like.fast_math, precision=like.precision)


def lower_placed(graph: Graph, device: str, target: Target) -> PlacedLowered:
    """Each partition's program, by its device. `target`: see `passes_for`."""
    parts = []
    same: dict[Hashable, Lowered] = {}      # unrolled code has the same part again and again
    for node in graph.nodes:
        name = device_of(node)
        if name is not None:
            own, inner = get_device(name), node.attrs["graph"]
            try:
                digest = graph_digest(inner)
                key = (name, digest.key, *digest.origins) if digest is not None else node
                if key not in same:
                    check_graph(inner, own)
                    same[key] = own.lower(inner, _target(own, target))
                parts.append(_Part(node, own, same[key]))
            except WeftError as error:
                error.origin = error.origin or node.origin
                raise
    return PlacedLowered(graph, device, tuple(parts))


@dataclass(frozen=True, eq=False)
class _Part:
    """A partition: its node in the graph, its device and that device's program."""

    node: Node
    device: Device
    lowered: Lowered

    @property
    def name(self) -> str:
        """Device and number: ``"gpu:1.0"``."""
        return str(self.node.attrs["graph"].name)


@dataclass(frozen=True, eq=False)
class PlacedLowered:
    """The programs of the partitions of a graph, and what is moved between them."""

    graph: Graph
    device: str
    parts: tuple[_Part, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """``"schedule"``, then what any of the devices can show."""
        return ("schedule", *dict.fromkeys(k for p in self.parts for k in p.lowered.kinds))

    @cached_property
    def kernels(self) -> tuple[KernelInfo, ...]:
        """Those of all partitions, each with the partition it is inside of, in the plan's order."""
        return tuple(
            replace(k, name=f"{p.name}/{k.name}",
                    inside=f"{p.name}/{k.inside}" if k.inside else "")
            for p in self.parts for k in p.lowered.kernels)

    @property
    def summary(self) -> str:
        """How many partitions there are, and where."""
        count = len(self.parts)
        return f"{count} partition{'s' * (count != 1)} on {_listed(self.parts)}"

    @property
    def moved_bytes(self) -> Dim:
        """The bytes of all transfers that copy."""
        return sum((n.tensor.nbytes for n in self.graph.nodes
                    if n.opname == "transfer" and not _one_memory(n)), 0)

    def text(self, kind: str) -> str:
        """The schedule, or the texts of the partitions whose devices have this kind."""
        if kind == "schedule":
            return "\n".join(_schedule_lines(self))
        shown = [f"# {p.name}\n{p.lowered.text(kind)}" for p in self.parts
                 if kind in p.lowered.kinds]
        if not shown:
            raise DeviceError(f"none of the devices {_listed(self.parts)} has {kind!r} text",
                              expected=" or ".join(map(repr, self.kinds)))
        return "\n\n".join(shown)

    def compile(self, cache: Cache | None = None) -> PlacedCompiled:
        """The compiled partitions and the plan by which they run."""
        made: dict[Node, Compiled] = {}
        compiled: dict[int, Compiled] = {}
        for part in self.parts:
            try:
                if id(part.lowered) not in compiled:
                    compiled[id(part.lowered)] = part.lowered.compile(cache)
                made[part.node] = compiled[id(part.lowered)]
            except WeftError as error:
                error.origin = error.origin or part.node.origin
                raise
        return PlacedCompiled(_plan(self, made), tuple(made.values()))


class PlacedCompiled:
    """Compiled partitions, run by a plan. Safe to run from many threads at once."""

    def __init__(self, plan: Plan, parts: tuple[Compiled, ...]) -> None:
        self.plan = plan
        self.parts = parts

    def run(self, arrays: Sequence[Any], /) -> list[Any]:
        """The results for these arguments, both in the memory of the function's device."""
        return run_plan(self.plan, arrays)

    def entry(self, spec: Any, /, cache: Cache | None = None) -> None:
        """There is no native entry."""


# ---- as text

def _schedule_lines(lowered: PlacedLowered) -> Iterator[str]:
    """What runs and what is moved, in the order of the plan."""
    names: dict[Node, str] = {}
    for node in lowered.graph.nodes:
        inputs = [names.get(i, f"%{name_text(i.name)}") for i in node.inputs]
        line = f"  # {node.origin}" if node.origin is not None else ""
        if node.opname == "get":
            continue
        if node.opname == "transfer":
            names[node] = inputs[0]
            source, to = node.attrs["source"], node.attrs["to"]
            yield f"move {inputs[0]}: {source} → {to}, {_moved(node)}{line}"
        else:
            graph: Graph = node.attrs["graph"]
            results = [f"%{name_text(g.name)}" for g in lowered.graph.users[node]]
            yield f"run {graph.name}: {', '.join(inputs)} → {', '.join(results)}{line}".replace(
                ":  →", ": →")


def _moved(node: Node) -> str:
    return "nothing to copy: they share a memory" if _one_memory(node) else \
        f"{node.tensor.nbytes} bytes"


def _one_memory(node: Node) -> bool:
    a, b = (get_device(node.attrs[side]).memory for side in ("source", "to"))
    return a is b


def _listed(parts: Sequence[_Part]) -> str:
    return ", ".join(sorted({p.node.attrs["device"] for p in parts}))


# ---- the plan

def _plan(lowered: PlacedLowered, compiled: dict[Node, Compiled]) -> Plan:
    """The steps: a run of each partition, and each transfer between memories that are not one."""
    devices = {p.node: p.device for p in lowered.parts}
    slot: dict[Node, int] = {p: i for i, p in enumerate(lowered.graph.params)}
    outs: dict[Node, tuple[int, ...]] = {}
    lanes: dict[str, Lane] = {}
    steps: list[Step] = []
    free = len(slot)
    for node in lowered.graph.nodes:
        if node in compiled:
            count = len(node.attrs["graph"].results)
            outs[node], free = tuple(range(free, free + count)), free + count
            lane = _add_lane(lanes, _device_lane(node.attrs["device"], devices[node]))
            steps.append(Step(node.attrs["graph"].name, lane, compiled[node].run,
                              tuple([slot[i] for i in node.inputs]), outs[node],
                              partial(_run_failed, node, devices[node])))
        elif node.opname == "get":
            slot[node] = outs[node.inputs[0]][node.attrs["index"]]
        else:
            step = _transfer(node, slot[node.inputs[0]], free, lanes)
            slot[node] = step.outputs[0] if step else slot[node.inputs[0]]
            if step:
                steps.append(step)
                free += 1
    return make_plan(list(lanes.values()), steps, len(lowered.graph.params),
                     [slot[r] for r in lowered.graph.results])


def _add_lane(lanes: dict[str, Lane], lane: Lane) -> int:
    lanes.setdefault(lane.name, lane)
    return [*lanes].index(lane.name)


def _device_lane(name: str, device: Device) -> Lane:
    """A device that computes in another memory than NumPy's is taken to return at once."""
    memory = device.memory
    if isinstance(memory, HostMemory):
        return Lane(name)
    mark = getattr(memory, "mark", None) or partial(_mark, memory)
    return Lane(name, False, mark, _here(memory))


def _mark(memory: Memory, arrays: Sequence[Any]) -> Callable[[], None]:
    """Waits for the smallest of the arrays: it is held until then."""
    return partial(memory.wait, [min(arrays, key=_size)])


def _size(array: Any) -> int:
    """Bytes, or at least elements."""
    return int(getattr(array, "nbytes", 0)) or math.prod(array.shape)


def _here(*memories: Memory) -> Callable[[], Callable[[], AbstractContextManager[object]]] | None:
    """See `Lane`: for all of these memories that have something to say."""
    asked = [m.here for m in memories if hasattr(m, "here")]
    return partial(_all_here, asked) if asked else None


def _all_here(asked: Sequence[Callable[[], Callable[[], AbstractContextManager[object]]]]
              ) -> Callable[[], AbstractContextManager[object]]:
    return partial(_entered, [ask() for ask in asked])


@contextmanager
def _entered(makers: Sequence[Callable[[], AbstractContextManager[object]]]) -> Iterator[None]:
    with ExitStack() as stack:
        for make in makers:
            stack.enter_context(make())
        yield


def _transfer(node: Node, source: int, to: int, lanes: dict[str, Lane]) -> Step | None:
    """The step that moves a value; None between devices that share a memory."""
    if _one_memory(node):
        return None
    a, b = (get_device(node.attrs[side]).memory for side in ("source", "to"))
    lane = _add_lane(lanes, Lane(f"{node.attrs['source']} → {node.attrs['to']}",
                                 blocking=not isinstance(a, HostMemory), here=_here(a, b)))

    def move(values: list[Any]) -> tuple[Any]:
        (value,) = values
        return (b.put(a.get(value)),)

    return Step(node.name, lane, move, (source,), (to,), partial(_move_failed, node))


def _run_failed(node: Node, device: Device, error: Exception) -> Exception:
    """The error in running a partition, with the user's line.

    What functions of the user's raise, which devices call that compute on NumPy arrays, stays.
    """
    name = node.attrs["graph"].name
    if isinstance(error, WeftError):
        error.origin = error.origin or node.origin
    elif not isinstance(device.memory, HostMemory):
        return _caused(DeviceError(f"device {node.attrs['device']!r} failed in the partition "
                                   f"{name}: {error}", origin=node.origin), error)
    else:
        error.add_note(f"in the partition {name}, which begins at {node.origin}")
    return error


def _move_failed(node: Node, error: Exception) -> Exception:
    """The error in moving a value, which may be that of computing it."""
    if isinstance(error, WeftError):
        error.origin = error.origin or node.origin
        return error
    source, to = node.attrs["source"], node.attrs["to"]
    return _caused(DeviceError(f"moving %{node.inputs[0].name} from {source!r} to {to!r} failed: "
                               f"{error}", origin=node.origin), error)


def _caused(made: DeviceError, error: Exception) -> DeviceError:
    made.__cause__ = error
    return made
