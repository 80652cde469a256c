"""The stages of one compilation, each an object that can be held, printed and taken further.

``f.trace(x)`` → ``.optimize()`` → ``.lower()`` → ``.compile()``: traced graph, optimised graph,
the device's program, something callable.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from weft.compiler.ir import Graph
from weft.compiler.lazy_dataclass import dataclass, replace
from weft.compiler.target import Target
from weft.compiler.types import TensorType
from weft.devices.capabilities import check_graph
from weft.devices.host_memory import HostMemory
from weft.devices.protocol import Cache, Compiled, Device, DeviceError, KernelInfo, Lowered
from weft.devices.registry import AUTO, get_device
from weft.frontend.calling import CallTrace, trace_call
from weft.frontend.location import get_default_device, where_arrays_lie
from weft.frontend.places import place_name, read_place
from weft.frontend.pytree import LEAF, Tree, builder
from weft.frontend.signature import Arguments, Call
from weft.frontend.statics import value_key
from weft.frontend.watch import Watch
from weft.runtime.executable import Executable, executable_class
from weft.runtime.kept import KeptProgram

if TYPE_CHECKING:
    from weft.compiler.passes import History, Step
    from weft.runtime.choose import Choice
    from weft.runtime.entry_signature import EntrySpec, Structure

__all__ = ["CompiledStage", "LoweredStage", "OptimizedStage", "Options", "TracedStage",
           "trace_stage"]


@dataclass(frozen=True)
class Options:
    """What a function was decorated with, as far as compiling is concerned."""

    device: str = ""                 # empty where the arguments decide
    fast_math: bool = False
    donate: tuple[str, ...] = ()     # arguments whose memory may be overwritten
    mesh: Any = None                 # `MeshOptions` of a function on a mesh of devices
    auto: bool = False               # what is not placed runs where a cost model says
    precision: str = "highest"       # of float32 products

    def on(self, device: str | None) -> Options:
        """The same for another device, if one is named."""
        if not device:
            return self
        auto = device == AUTO
        return replace(self, device="" if auto else device, auto=auto)

    def target(self) -> Target:
        """The machine to compile for."""
        return replace(get_device(self.device).target(), fast_math=self.fast_math,
                       precision=self.precision)


@dataclass(frozen=True)
class Source:
    """The function a stage came from, and the call it was traced for (without the arrays)."""

    fn: Callable[..., Any]
    arguments: Arguments
    call: Call
    key: Hashable
    options: Options
    donated: tuple[int, ...]     # flat arguments whose memory may be overwritten
    named: bool                  # the device was asked for; the arguments did not decide
    plain: bool                  # arrays among the leaves are ndarrays of native byte order


@dataclass(frozen=True, eq=False)
class TracedStage:
    """The graph of a function as it was traced, before any pass.

    >>> import numpy as np, weft
    >>> f = weft.jit(lambda x: np.tanh(x), device="reference")
    >>> print(f.trace(np.zeros(3, np.float32)).graph.text(origins=False))
    graph @function(%x: f32[3]) -> (f32[3]) {
      %tanh.0 = tanh %x : f32[3]
      return %tanh.0
    }
    """

    source: Source
    traced: CallTrace
    seconds: float
    choices: tuple[Choice, ...] = ()     # of devices for parts placed on "auto"

    @property
    def graph(self) -> Graph:
        """The graph."""
        return self.traced.traced.graph

    def is_placed(self, device: str) -> bool:
        """Whether parts of it run on other devices than this one."""
        if not self.traced.traced.placed:
            return False
        from weft.compiler.placement import is_elsewhere  # for functions with placed parts only

        return is_elsewhere(self.graph, device)

    def text(self) -> str:
        """The graph as text, with the user's line behind each op."""
        return self.graph.text()

    def html(self) -> str:
        """The graph as a piece of HTML."""
        from weft.frontend.html import page, section  # seldom asked for

        return page(section(f"{self.source.call.text}: traced", self.text()))

    def optimize(self, device: str | None = None,
                 callback: Callable[[Step], None] | None = None) -> OptimizedStage:
        """Run the passes, for another device than the function's if one is named.

        `callback` is called after each pass.
        """
        from weft.compiler.passes import pipeline_for, run_pipeline  # the disk cache saves it

        options = self.source.options.on(device)
        target, supported = options.target(), get_device(options.device).supported()
        passes = pipeline_for(supported)
        if self.is_placed(options.device):
            from weft.runtime.placed import passes_for  # for functions with placed parts only

            passes = passes_for(self.graph, options.device, target)
        start = time.perf_counter()     # loading the device is no part of it
        graph, history = run_pipeline(self.graph, target, passes, callback=callback)
        return OptimizedStage(self, options, graph, history, time.perf_counter() - start)

    def lower(self, device: str | None = None) -> LoweredStage:
        """Optimise, then make the device's program."""
        return self.optimize(device).lower()

    def compile(self, device: str | None = None, cache: Cache | None = None) -> CompiledStage:
        """Go all the way, or take the whole program from `cache` where that has it."""
        options = self.source.options.on(device)
        placed = self.is_placed(options.device)     # then the parts' programs are kept, each apart
        program = KeptProgram.of(self.graph, get_device(options.device), options.fast_math,
                                 self.source.donated, cache) \
            if cache is not None and not placed else None
        if program is None:
            return self.lower(device).compile(cache)
        start = time.perf_counter()
        found = program.find()
        if found is not None:
            times = {"trace": self.seconds, "load": time.perf_counter() - start}
            return CompiledStage(self, options, found, times, from_cache=True)
        made = self.lower(device).compile()
        program.keep(made.compiled)
        return made

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return self.html()


@dataclass(frozen=True, eq=False)
class OptimizedStage:
    """The graph after the passes, and the history of what each of them did."""

    before: TracedStage
    options: Options
    graph: Graph
    history: History
    seconds: float

    def text(self) -> str:
        """The optimised graph as text."""
        return self.graph.text()

    def html(self) -> str:
        """The optimised graph and what each pass changed, as a piece of HTML."""
        from weft.frontend.html import page, section  # seldom asked for

        return page(section(f"{self.before.source.call.text}: optimised", self.text()),
                    section("passes", self.history.text(), open=False))

    def lower(self, device: str | None = None) -> LoweredStage:
        """The program for the device; for another one, the passes run again for it."""
        if device and device != self.options.device:
            return self.before.optimize(device).lower()
        start = time.perf_counter()
        return LoweredStage(self, self._lowered(), time.perf_counter() - start)

    def _lowered(self) -> Lowered:
        options = self.options
        if self.before.is_placed(options.device):
            from weft.runtime.placed import lower_placed  # for functions with placed parts only

            return lower_placed(self.graph, options.device, options.target(),
                                self.before.source.donated)
        chosen = get_device(options.device)
        check_graph(self.graph, chosen)
        if options.mesh is not None:
            from weft.frontend.sharding import lower_sharded  # for functions on a mesh only

            return lower_sharded(self, chosen, options.mesh)
        return chosen.lower(self.graph, options.target(), self.before.source.donated)

    def compile(self) -> CompiledStage:
        """Lower, then compile."""
        return self.lower().compile()

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return self.html()


@dataclass(frozen=True, eq=False)
class LoweredStage:
    """A device's program for a graph."""

    before: OptimizedStage
    lowered: Lowered
    seconds: float

    @property
    def device(self) -> Device:
        """The device it is for."""
        return get_device(self.before.options.device)

    @property
    def kernels(self) -> tuple[KernelInfo, ...]:
        """Its kernels, in the order in which they run."""
        return self.lowered.kernels

    def text(self, kind: str | None = None) -> str:
        """The program as text: ``"kernels"``, ``"llvm"`` or ``"asm"``, as the device offers.

        Without a kind, the first there is, or the graph where the device runs that. Raises
        `DeviceError` for a kind that the device does not have.
        """
        kinds = self.lowered.kinds
        if kind is None:
            return self.lowered.text(kinds[0]) if kinds else self.before.text()
        if kinds and kind not in kinds:
            raise DeviceError(f"device {self.device.name!r} has no {kind!r} text",
                              expected=" or ".join(map(repr, kinds)))
        return self.lowered.text(kind)

    def html(self) -> str:
        """The program at each level, as a piece of HTML."""
        from weft.frontend.html import page, section  # seldom asked for

        return page(*[section(kind, self.text(kind), open=not i)
                      for i, kind in enumerate(self.lowered.kinds)])

    def compile(self, cache: Cache | None = None) -> CompiledStage:
        """Machine code, from `cache` where that has it."""
        start = time.perf_counter()
        asked = _Asked(cache) if cache is not None else None
        compiled = self.lowered.compile(asked)
        from_cache = asked is not None and asked.hits > 0 and not asked.misses
        optimized = self.before
        times = {"trace": optimized.before.seconds, "optimize": optimized.seconds,
                 "lower": self.seconds, "compile": time.perf_counter() - start}
        made = CompiledStage(optimized.before, optimized.options, compiled, times, from_cache)
        made.__dict__["before"] = self      # no need to make it again
        return made

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return self.html()


@dataclass(frozen=True, eq=False)
class CompiledStage:
    """A compiled function: call it with arguments of the signature it was made for."""

    traced: TracedStage
    options: Options                # what it was compiled with
    compiled: Compiled
    times: Mapping[str, float]      # seconds that each stage took
    from_cache: bool                # all machine code was found in the disk cache

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        source = self.source
        args, kwargs = source.arguments.normal(args, kwargs)
        call = source.arguments.apart(args, kwargs)
        if source.arguments.key(call) != source.key:
            raise TypeError(f"compiled for {source.call.text}, called as {call.text}")
        for i, value in self.specialized.items():
            if value_key(call.leaves[i]) != value_key(value):
                name = source.call.paths[i]
                raise TypeError(f"compiled for {name} = {value!r}, called with "
                                f"{name} = {call.leaves[i]!r}")
        return self.executable(call.leaves)

    @cached_property
    def before(self) -> LoweredStage:
        """The program it was compiled from; made again if the disk cache had the machine code."""
        return self.traced.lower(self.options.device)

    @property
    def source(self) -> Source:
        """The function it is of."""
        return self.traced.source

    @property
    def specialized(self) -> dict[int, object]:
        """The values it was made for, where the code needed them, by flat argument."""
        return self.traced.traced.traced.specialized

    @property
    def kernel_count(self) -> int:
        """How many kernels run."""
        count: int | None = getattr(self.compiled, "kernel_count", None)    # of several devices
        if count is not None:
            return count
        facts = getattr(self.compiled, "facts", None)
        return facts.kernels if facts is not None else len(self.before.kernels)

    def entry_spec(self) -> EntrySpec | None:
        """The signature of a native entry, or None where calls have to be taken apart by Python.

        The outside arrays follow the arguments.
        """
        from weft.runtime.entry_signature import entry_spec  # not for a first call

        source, call_trace = self.source, self.traced.traced
        facts = getattr(self.compiled, "facts", None)
        if facts is None or not (source.plain and source.call.is_flat):
            return None
        return entry_spec(self.params, self.specialized, call_trace.traced.results,
                          self.traced.graph, _structure(call_trace.tree), facts)

    @property
    def params(self) -> list[tuple[str, TensorType]]:
        """Kinds (see `ArgSpec`) and types of what is passed to the program."""
        given = [(spec.kind, spec.type) for spec in self.source.call.specs]
        return given + [("array", p.tensor) for p in self.traced.graph.params[len(given):]]

    @cached_property
    def executable(self) -> Executable:
        """What runs it on flat arguments."""
        traced, tree = self.traced.traced.traced, self.traced.traced.tree
        hidden = self.traced.traced.hidden
        device = get_device(self.options.device)
        memory = getattr(self.compiled, "memory", device.memory)    # a mesh has one of its own
        away = {} if isinstance(memory, HostMemory) else {
            "memory": memory, "refuse": None if self.source.named else self._mixed}
        made = executable_class(device)(
            self.compiled, [p.dtype.numpy for p in traced.graph.params], traced.results,
            builder(tree), hidden, single=tree is LEAF,
            plain=self.source.plain and all(s.kind == "array" for s in self.source.call.specs),
            donated=self.source.donated, **away)
        made.about = self
        return made

    def _mixed(self, leaves: Sequence[Any]) -> None:
        """Raise the error for arguments of several devices, where none was named."""
        call = self.source.call
        where_arrays_lie(call.function, zip(map(repr, call.paths), leaves))

    def text(self, kind: str | None = None) -> str:
        """The program as text, see `LoweredStage.text`."""
        return self.before.text(kind)

    def html(self) -> str:
        """The program at each level, as a piece of HTML."""
        return self.before.html()

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return self.html()


class _Asked:
    """A cache that notes whether it was of use."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self.hits = self.misses = 0

    def get(self, key: str) -> bytes | None:
        found = self._cache.get(key)
        self.hits += found is not None
        self.misses += found is None
        return found

    def put(self, key: str, data: bytes) -> None:
        self._cache.put(key, data)


def _device_of(call: Call, traced: CallTrace) -> str:
    """Where a call runs for which no device is named."""
    named = [(repr(path), leaf) for path, leaf in zip(call.paths, call.leaves)
             if type(leaf) is not np.ndarray]
    for place, array in traced.outside:
        value = array if place is None else read_place(place)
        if type(value) is not np.ndarray:
            named.append((f"{place_name(place)!r}" if place else "an array it holds", value))
    return where_arrays_lie(call.function, named) or get_default_device()


def _structure(tree: Tree) -> Structure | None:
    """What native code can build: one result, or a flat tuple or list of them."""
    if tree is LEAF:
        return "single"
    if not isinstance(tree, tuple) or any(t is not LEAF for t in tree[2:]):
        return None
    return "tuple" if tree[0] is tuple else "list" if tree[0] is list else None


def trace_stage(fn: Callable[..., Any], arguments: Arguments, call: Call, options: Options,
                watch: Watch) -> TracedStage:
    """Trace `fn` for this call. `watch.look` must have been called for it."""
    start = time.perf_counter()
    traced = trace_call(fn, call, watch)
    seconds = time.perf_counter() - start
    named = bool(options.device)
    choices: tuple[Choice, ...] = ()
    device = options.device or _device_of(call, traced)
    if options.auto or traced.traced.placed:
        from weft.frontend.placement import decided  # for functions with placed parts only

        traced, choices = decided(traced, device, options.auto, options.mesh is not None)
    options = options.on(device)
    plain = all(v.dtype.isnative for v in call.leaves if isinstance(v, np.ndarray))
    donated = tuple(i for i, path in enumerate(call.paths)
                    if re.split(r"[.\[]", path)[0] in options.donate)
    source = Source(fn, arguments, call.settled(), arguments.key(call), options, donated, named,
                    plain)
    return TracedStage(source, traced, seconds, choices)
