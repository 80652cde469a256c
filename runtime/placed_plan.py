"""The plan by which a partitioned graph runs: its steps, the lanes they are on, their errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from weft.compiler.cost import number, work_of
from weft.compiler.errors import WeftError
from weft.compiler.ir import Graph, Node, nested_graphs
from weft.compiler.ops.registry import HOMES
from weft.compiler.placement import is_hosted
from weft.compiler.types import Size
from weft.devices.host_memory import HostMemory
from weft.devices.protocol import Cache, Compiled, Device, DeviceError, Memory
from weft.devices.registry import get_device
from weft.runtime.hosted import Hosted, Operand, run_branch, run_counted, run_while
from weft.runtime.scheduler import Lane, Plan, Step, make_plan

if TYPE_CHECKING:
    from weft.runtime.placed import PlacedLowered

__all__ = ["is_copy", "plan_of"]

_Entering = Callable[[], AbstractContextManager[object]]


def is_copy(node: Node) -> bool:
    """Whether a transfer copies: its devices do not share a memory."""
    a, b = (get_device(node.attrs[side]).memory for side in ("source", "to"))
    return a is not b


def plan_of(lowered: PlacedLowered, compiled: Mapping[Node, Compiled], cache: Cache | None) -> Plan:
    """A step for each partition, each transfer between two memories, each loop the host drives."""
    return _Planner(lowered, compiled, cache).plan()


class _Planner:
    def __init__(self, lowered: PlacedLowered, compiled: Mapping[Node, Compiled],
                 cache: Cache | None) -> None:
        self.lowered = lowered
        self.cache = cache
        self.compiled = compiled
        self.devices = {p.node: p.device for p in lowered.parts}
        self.slot: dict[Node, int] = {p: i for i, p in enumerate(lowered.graph.params)}
        self.outs: dict[Node, tuple[int, ...]] = {}
        self.lanes: dict[str, Lane] = {}
        self.steps: list[Step] = []
        self.free = len(self.slot)

    def plan(self) -> Plan:
        graph = self.lowered.graph
        for node in graph.nodes:
            if node.opname == "get":
                self.slot[node] = self.outs[node.inputs[0]][node.attrs["index"]]
            elif node in self.compiled:
                self._run(node)
            elif is_hosted(node):
                self._loop(node)
            elif is_copy(node):
                self._move(node)
            else:
                self.slot[node] = self.slot[node.inputs[0]]
        return make_plan(list(self.lanes.values()), self.steps, len(graph.params),
                         [self.slot[r] for r in graph.results])

    def _step(self, node: Node, name: str, lane: Lane, run: Callable[[list[Any]], Sequence[Any]],
              count: int, failed: Callable[[Exception], Exception] | None,
              little: bool = False) -> tuple[int, ...]:
        outs = tuple(range(self.free, self.free + count))
        self.free += count
        self.lanes.setdefault(lane.name, lane)
        number = [*self.lanes].index(lane.name)
        self.steps.append(Step(name, number, run, tuple([self.slot[i] for i in node.inputs]), outs,
                               failed, little))
        return outs

    def _run(self, node: Node) -> None:
        device, graph, compiled = self.devices[node], node.attrs["graph"], self.compiled[node]
        run = NativeRun(compiled, graph, self.cache) if hasattr(compiled, "facts") else compiled.run
        self.outs[node] = self._step(
            node, graph.name, _device_lane(node.attrs["device"], device), run,
            len(graph.results), partial(_run_failed, node, device), _is_little(graph))

    def _move(self, node: Node) -> None:
        source, to = node.attrs["source"], node.attrs["to"]
        a, b = get_device(source).memory, get_device(to).memory
        lane = Lane(f"{source} → {to}", blocking=not isinstance(a, HostMemory), here=_here((a, b)))
        get, put = a.get, b.put
        handing = getattr(b, "handing", None)
        if handing is not None and isinstance(a, HostMemory) and self._is_for_a_program(node):
            def put(array: Any) -> Any:
                return handing(array.nbytes)(array)

        def move(values: list[Any]) -> tuple[Any]:
            return (put(get(values[0])),)

        (self.slot[node],) = self._step(node, node.name, lane, move, 1,
                                        partial(_move_failed, node),
                                        number(node.tensor.nbytes) < LITTLE)

    def _is_for_a_program(self, node: Node) -> bool:
        """Whether one partition takes the value, and nothing else does."""
        users = self.lowered.graph.users[node]
        return len(users) == 1 and users[0] in self.compiled and \
            node not in self.lowered.graph.results

    def _loop(self, node: Node) -> None:
        bodies = self.lowered.hosted[node]
        run = {"scan": run_counted, "while": run_while, "case": run_branch}[node.opname]
        lane = Lane(f"loops on {node.attrs['device']}", here=_here(_memories(bodies.values())))
        self.outs[node] = self._step(
            node, node.name, lane,
            partial(run, _hosted(node, self.lowered, self.compiled, self.cache)),
            len(node.type.elements), None)      # type: ignore[union-attr]


LITTLE = 100_000        # operations and bytes, which take some ten microseconds; so does a thread


def _is_little(graph: Graph) -> bool:
    """Whether a partition is less work than waking a thread; what others' ops do is not known."""
    work = work_of(graph)
    return work.flops + work.nbytes < LITTLE and all(n.opname in HOMES for n in _all_nodes(graph))


def _all_nodes(graph: Graph) -> Iterator[Node]:
    for node in graph.nodes:
        yield node
        for inner in nested_graphs(node).values() if node.attrs else ():
            yield from _all_nodes(inner)


class NativeRun:
    """Runs a program of the CPU's, by a native entry from the second time on."""

    __slots__ = ("_cache", "_compiled", "_graph", "_run", "_runs")

    def __init__(self, compiled: Any, graph: Graph, cache: Cache | None) -> None:
        self._compiled = compiled
        self._graph = graph
        self._cache = cache
        self._runs = 0
        self._run: Callable[..., list[Any]] | None = None

    def __call__(self, values: list[Any]) -> Sequence[Any]:
        """The results."""
        if self._run is not None:
            return self._run(*values)
        self._runs += 1
        if self._runs == 2:         # many functions are called only once
            from weft.runtime.native import native_runner  # not for a first call

            params = [("array", p.tensor) for p in self._graph.params]
            self._run = native_runner(self._compiled, params, self._graph, self._cache)
        results: Sequence[Any] = self._compiled.run(values)
        return results


def _hosted(node: Node, lowered: PlacedLowered, compiled: Mapping[Node, Compiled],
            cache: Cache | None) -> Hosted:
    attrs = node.attrs
    bodies = [lowered.hosted[node][name] for name in nested_graphs(node)]
    first = attrs.get("consts", 0)
    overwritten = set(bodies[-1].overwrites) if node.opname != "case" else set()
    owned = set(lowered.dying[node])
    operands = [Operand(get_device(place).memory, i in owned, i in overwritten)
                for i, place in enumerate(attrs["places"])]
    sizes = tuple((str(d), i, axis) for i, operand in enumerate(node.inputs)
                  for axis, d in enumerate(operand.shape)
                  if isinstance(d, Size) and d == Size.symbol(str(d)))
    return Hosted(tuple([plan_of(b, compiled, cache) for b in bodies]), tuple(operands),
                  get_device(attrs["device"]).memory, first, attrs.get("carries", 0),
                  attrs.get("length", 0), sizes)


# ---- lanes

def _device_lane(name: str, device: Device) -> Lane:
    """A device that computes in another memory than NumPy's is taken to return at once."""
    memory = device.memory
    if isinstance(memory, HostMemory):
        return Lane(name)
    mark = getattr(memory, "mark", None) or partial(_mark, memory)
    return Lane(name, False, mark, _here((memory,)))


def _memories(bodies: Any) -> list[Memory]:
    return [p.device.memory for b in bodies for p in b.all_parts]


def _mark(memory: Memory, arrays: Sequence[Any]) -> Callable[[], None]:
    """Waits for the smallest of the arrays: it is held until then."""
    return partial(memory.wait, [min(arrays, key=_size)])


def _size(array: Any) -> int:
    """Bytes, or at least elements."""
    return int(getattr(array, "nbytes", 0)) or math.prod(array.shape)


def _here(memories: Sequence[Memory]) -> Callable[[], _Entering] | None:
    """See `Lane`: for all of these memories that have something to say."""
    asked = [m.here for m in dict.fromkeys(memories) if hasattr(m, "here")]
    return partial(_all_here, asked) if asked else None


def _all_here(asked: Sequence[Callable[[], _Entering]]) -> _Entering:
    return partial(_entered, [ask() for ask in asked])


@contextmanager
def _entered(makers: Sequence[_Entering]) -> Iterator[None]:
    with ExitStack() as stack:
        for make in makers:
            stack.enter_context(make())
        yield


# ---- errors

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
