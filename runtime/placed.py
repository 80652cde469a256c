"""Programs of several devices: a partitioned graph lowered, compiled and run by the scheduler."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from weft.compiler.digest import graph_digest
from weft.compiler.errors import WeftError
from weft.compiler.ir import Graph, Node, nested_graphs
from weft.compiler.lazy_dataclass import dataclass, replace
from weft.compiler.passes.base import Pass
from weft.compiler.passes.within import placed_pipeline
from weft.compiler.placement import device_of, is_hosted, placed_inside
from weft.compiler.target import Target
from weft.compiler.text import name_text
from weft.compiler.types import Dim
from weft.devices.capabilities import check_graph
from weft.devices.protocol import Cache, Compiled, Device, DeviceError, KernelInfo, Lowered, Memory
from weft.devices.registry import get_device
from weft.runtime.donated import dying_inputs
from weft.runtime.hosted import copied
from weft.runtime.part_program import PartProgram, compile_all, located
from weft.runtime.placed_plan import is_copy, plan_of
from weft.runtime.scheduler import Plan, run_plan

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


def lower_placed(graph: Graph, device: str, target: Target, donated: Sequence[int] = ()
                 ) -> PlacedLowered:
    """Each partition's program, by its device. `target`: see `passes_for`; `donated` are parameters
    that may be overwritten."""
    return _Lowering(target).lower(graph, device, donated)


class _Lowering:
    """Of a graph and the bodies in it; code that was unrolled has the same part again and again."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.same: dict[Hashable, PartProgram] = {}

    def lower(self, graph: Graph, device: str, donated: Sequence[int]) -> PlacedLowered:
        dying = dying_inputs(graph, {graph.params[i] for i in donated}, is_copy)
        parts, hosted = [], {}
        for node in graph.nodes:
            if device_of(node) is not None:
                parts.append(self._part(node, dying[node]))
            elif is_hosted(node):
                hosted[node] = {name: self.lower(body, node.attrs["device"], _carried(node, name))
                                for name, body in nested_graphs(node).items()}
        return PlacedLowered(graph, device, tuple(parts), hosted, dying)

    def _part(self, node: Node, donated: tuple[int, ...]) -> Part:
        name, graph = node.attrs["device"], node.attrs["graph"]
        own = get_device(name)
        try:
            digest = graph_digest(graph)
            key = (name, donated, digest.key, *digest.origins) if digest is not None else node
            if key not in self.same:
                check_graph(graph, own)
                self.same[key] = PartProgram(graph, own, _target(own, self.target), donated)
        except WeftError as error:
            error.origin = error.origin or node.origin
            raise
        return Part(node, own, self.same[key])


def _carried(node: Node, body: str) -> Sequence[int]:
    """The parameters of a body that are the loop's own: its carries, but for the condition."""
    if body != "body":
        return ()
    first = node.attrs.get("consts", 0)
    return range(first, first + node.attrs["carries"])


@dataclass(frozen=True, eq=False)
class Part:
    """A partition: its node in the graph, its device and that device's program."""

    node: Node
    device: Device
    program: PartProgram

    @property
    def name(self) -> str:
        """Device and number: ``"gpu:1.0"``."""
        return str(self.node.attrs["graph"].name)

    @property
    def lowered(self) -> Lowered:
        """The device's program, made when it is first asked for."""
        with located(self.node):
            return self.program.lowered


@dataclass(frozen=True, eq=False)
class PlacedLowered:
    """The programs of the partitions of a graph, and what is moved between them.

    `hosted` has the same for the bodies of loops and branches that the host drives, by their names;
    `dying` the inputs that partitions and such loops may overwrite.
    """

    graph: Graph
    device: str
    parts: tuple[Part, ...]
    hosted: Mapping[Node, Mapping[str, PlacedLowered]]
    dying: Mapping[Node, tuple[int, ...]]

    @cached_property
    def all_parts(self) -> tuple[Part, ...]:
        """The partitions, those of bodies behind them."""
        return (*self.parts, *(p for bodies in self.hosted.values() for body in bodies.values()
                               for p in body.all_parts))

    @property
    def overwrites(self) -> tuple[int, ...]:
        """The parameters that are given to a step that may overwrite them."""
        source = {p: i for i, p in enumerate(self.graph.params)}
        for node in self.graph.nodes:
            if node.opname == "transfer" and not is_copy(node) and node.inputs[0] in source:
                source[node] = source[node.inputs[0]]
        return tuple(sorted({source[node.inputs[i]] for node, inputs in self.dying.items()
                             for i in inputs if node.inputs[i] in source}))

    @property
    def kinds(self) -> tuple[str, ...]:
        """``"schedule"``, then what any of the devices can show."""
        return ("schedule", *dict.fromkeys(k for p in self.all_parts for k in p.lowered.kinds))

    @cached_property
    def kernels(self) -> tuple[KernelInfo, ...]:
        """Those of all partitions, each with the partition it is inside of, in the plan's order;
        those of loops that the host drives are of one turn."""
        return tuple(
            replace(k, name=f"{p.name}/{k.name}",
                    inside=f"{p.name}/{k.inside}" if k.inside else "")
            for p in self.all_parts for k in p.lowered.kernels)

    @property
    def summary(self) -> str:
        """How many partitions there are, and where."""
        count = len(self.all_parts)
        return f"{count} partition{'s' * (count != 1)} on {_listed(self.all_parts)}"

    @property
    def moved_bytes(self) -> Dim:
        """The bytes of all transfers that copy, those in loops that the host drives once."""
        inner = (body.moved_bytes for bodies in self.hosted.values() for body in bodies.values())
        return sum((n.tensor.nbytes for n in self.graph.nodes
                    if n.opname == "transfer" and is_copy(n)), 0) + sum(inner, 0)

    def text(self, kind: str) -> str:
        """The schedule, or the texts of the partitions whose devices have this kind."""
        if kind == "schedule":
            return "\n".join(_schedule_lines(self))
        shown = [f"# {p.name}\n{p.lowered.text(kind)}" for p in self.all_parts
                 if kind in p.lowered.kinds]
        if not shown:
            raise DeviceError(f"none of the devices {_listed(self.all_parts)} has {kind!r} text",
                              expected=" or ".join(map(repr, self.kinds)))
        return "\n\n".join(shown)

    def compile(self, cache: Cache | None = None) -> PlacedCompiled:
        """The compiled partitions, side by side or from `cache`, and the plan by which they run."""
        programs = dict.fromkeys(p.program for p in self.all_parts)
        first = {p.program: p.node for p in reversed(self.all_parts)}
        made = compile_all([(program, first[program]) for program in programs], cache)
        compiled = {p.node: made[p.program] for p in self.all_parts}
        kernels = sum(p.program.kernel_count(made[p.program]) for p in self.all_parts)
        return PlacedCompiled(plan_of(self, compiled, cache), tuple(compiled.values()), kernels,
                              len(self.graph.params), get_device(self.device).memory)


class PlacedCompiled:
    """Compiled partitions, run by a plan. Safe to run from many threads at once."""

    def __init__(self, plan: Plan, parts: tuple[Compiled, ...], kernel_count: int, params: int,
                 memory: Memory) -> None:
        self.plan = plan
        self.parts = parts
        self.kernel_count = kernel_count
        self._memory = memory
        self._given = [i for i, slot in enumerate(plan.results) if slot < params]

    def run(self, arrays: Sequence[Any], /) -> list[Any]:
        """The results for these arguments, both in the memory of the function's device."""
        results = run_plan(self.plan, arrays)
        for i in self._given:           # results are new arrays, also where they are arguments
            results[i] = copied(results[i], self._memory)
        return results

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
            continue
        name = f"{node.name} turn by turn" if is_hosted(node) else node.attrs["graph"].name
        name = f"a branch of {node.name}" if node.opname == "case" else name
        results = [f"%{name_text(g.name)}" for g in lowered.graph.users[node]]
        yield f"run {name}: {', '.join(inputs)} → {', '.join(results)}{line}".replace(
            ":  →", ": →")
        for body, inner in lowered.hosted.get(node, {}).items():
            yield f"  {body}:"
            yield from (f"    {text}" for text in _schedule_lines(inner))


def _moved(node: Node) -> str:
    return f"{node.tensor.nbytes} bytes" if is_copy(node) else \
        "nothing to copy: they share a memory"


def _listed(parts: Sequence[Part]) -> str:
    return ", ".join(sorted({p.node.attrs["device"] for p in parts}))
