"""A compiled program on a device: loaded code, and the steps that launch it.

Nothing here waits for the device, but where a loop or a branch depends on a value that it
computes: results are arrays that may be still being computed, on the user's current stream.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from weft.compiler.kernel.interp import bind_sizes
from weft.compiler.kernel.ir import Buffer, Check, Kernel, Library, Program, Step
from weft.compiler.kernel.nested import ALIGN, Branch, Loop
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import Dim, Size, TensorType, evaluate_dim
from weft.devices.gpu.blas import MATMUL
from weft.devices.gpu.driver import Driver, Fork
from weft.devices.gpu.emit import has_code
from weft.devices.gpu.lanes import Place, lanes
from weft.devices.gpu.library import LibraryCall, run_library
from weft.devices.gpu.loops import KernelCode
from weft.devices.gpu.pending import PENDING, Status, guarded
from weft.devices.gpu.replay import Replay, replayable
from weft.devices.protocol import Cache

if TYPE_CHECKING:
    from weft.devices.gpu.lowered import GpuLowered

__all__ = ["GpuCompiled"]

ALIGNMENT = 16          # of arrays whose elements vectors are read from
KEPT_STATUSES = 64      # of one program, for as many different sizes


class GpuCompiled:
    """Loaded code for one program, on one device."""

    def __init__(self, lowered: GpuLowered, images: Sequence[bytes]) -> None:
        from weft.devices.gpu.driver import the_driver  # put in its place by tests

        self.program = lowered.program
        self.ordinal = lowered.ordinal
        self.driver: Driver = the_driver()
        with self.driver.use(self.ordinal), guarded(self.driver, self.ordinal):
            self._modules = [self.driver.load(image) for image in images]   # functions are theirs
            self._functions = {
                code.name: _functions(self.driver, module, code)
                for module, part in zip(self._modules, lowered.unit.parts) for code in part}
            self.checks: list[Check] = []
            self._statuses: dict[tuple[int, ...], Status] = {}
            self._waits = _may_wait(self.program)
            self.made = tuple(b for b in self.program.buffers if b.kind == "result")
            params = {b.name: b.index for b in self.program.buffers if b.kind == "param"}
            # of each result: the number of the parameter that it is, or the name of its buffer
            self.results = tuple(params.get(n, n) for n in self.program.results)
            self.replay = Replay() if replayable(self.program) else None
            self._plan = _Planner(self, lowered).plan(self.program, frozenset())

    def run(self, arrays: Sequence[Any], /) -> list[Any]:
        """The results for these arguments, perhaps still being computed; see the protocol.

        An index that is out of bounds is found on the device; see `pending`.
        """
        driver = self.driver
        with driver.use(self.ordinal), guarded(driver, self.ordinal):
            PENDING.poll(self.ordinal)
            call = _Call(driver, self.ordinal, bind_sizes(self.program, arrays))
            call.status = self._status_for(call.sizes)
            pointers = [call.aligned(i, a) for i, a in enumerate(arrays)]
            results = _run_outermost(self, call, pointers, arrays)
            if self.checks:
                assert call.status is not None
                PENDING.add(driver, self.ordinal, call.status)
        return results

    def _status_for(self, sizes: Mapping[str, int]) -> Status | None:
        """Where checks that fail are written: the same for all calls of these sizes, so that graphs
        can be replayed. A loop's condition needs one for each call."""
        if self._waits:
            return Status(self.driver, self.checks, sizes)
        if not self.checks:
            return None
        key = tuple(sizes.values())
        found = self._statuses.get(key)
        if found is None:
            found = Status(self.driver, self.checks, sizes)
            while len(self._statuses) >= KEPT_STATUSES:
                self._statuses.pop(next(iter(self._statuses)), None)
            self._statuses[key] = found
        return found

    def entry(self, spec: Any, /, cache: Cache | None = None) -> None:
        """There is no native entry."""

    def functions(self, code: KernelCode) -> tuple[int, ...]:
        """The loaded functions of a kernel, in the order in which they are launched."""
        return self._functions[code.name]


def _functions(driver: Driver, module: Any, code: KernelCode) -> tuple[int, ...]:
    """The functions of a kernel, in the order in which they are launched."""
    marking = (f"{code.name}_mark",) if code.marks != 0 else ()
    return tuple(driver.function(module, name, code.shared) for name in (*marking, code.name))


# ---- what a program became

@dataclass(frozen=True)
class _Launch:
    """A kernel to be launched on buffers."""

    functions: tuple[int, ...]
    code: KernelCode
    buffers: tuple[str, ...]
    symbols: tuple[str, ...]
    first_check: int


@dataclass(frozen=True)
class _Plan:
    """A program with its steps made ready; `constants` are arrays on the device."""

    program: Program
    steps: tuple[Any, ...]          # a _Launch, or a Step with the plans of its programs
    constants: dict[str, Any]

    @cached_property
    def lanes(self) -> tuple[Place, ...]:
        """Where the steps go in a graph."""
        return lanes(self.program)


class _Planner:
    def __init__(self, compiled: GpuCompiled, lowered: GpuLowered) -> None:
        from weft.devices.gpu import lowered as module  # a circle otherwise

        self._compiled = compiled
        self._unit = lowered.unit
        self._module = module

    def plan(self, program: Program, unaligned: frozenset[str]) -> _Plan:
        """The plan of a program of which these buffers may begin anywhere."""
        constants = {b.name: self._compiled.driver.put(np.ascontiguousarray(b.value))
                     for b in program.buffers if b.kind == "constant"}
        return _Plan(program, tuple(self._step(s, unaligned) for s in program.steps), constants)

    def _step(self, step: Step, unaligned: frozenset[str]) -> Any:
        k, m = step.kernel, self._module
        if isinstance(k, (Kernel, Library)) and has_code(k):
            code = self._unit.functions[m.step_key(step, unaligned)]
            first = len(self._compiled.checks) + 1
            # of equal kernels, checks differ in the user's lines that they name
            if isinstance(k, Kernel):
                self._compiled.checks += [c for s in k.stages for c in s.checks]
            return _Launch(self._compiled.functions(code), code, step.buffers, k.symbols, first)
        if isinstance(k, Branch):
            return step, tuple(self.plan(p, m.bound_unaligned(step, p, unaligned))
                               for p in k.programs)
        if isinstance(k, Loop):
            return step, tuple(self.plan(p, m.unaligned_in(k) if label == "body" else frozenset())
                               for label, p in k.nested)
        return step, ()


# ---- one run

class _Call:
    """What one run has: sizes, the status, and the arrays that have to live until it is done."""

    def __init__(self, driver: Driver, ordinal: int, sizes: Mapping[str, int]) -> None:
        self.driver = driver
        self.ordinal = ordinal
        self.sizes = sizes
        self.owned: list[Any] = []
        self.copied: dict[int, int] = {}        # arguments that are not aligned: where they begin
        self.status: Status | None = None

    def bytes(self, count: int) -> int:
        """New memory of so many bytes, which lives as long as the call."""
        array = self.driver.empty((max(count, 1),), np.dtype(np.uint8))
        self.owned.append(array)
        return self.driver.pointer(array)

    def aligned(self, index: int, array: Any) -> int:
        """Where an argument begins; one that is not aligned is copied."""
        pointer = self.driver.pointer(array)
        if pointer % ALIGNMENT == 0:
            return pointer
        copy = self.bytes(array.nbytes)
        self.copied[index] = pointer
        self.driver.copy(copy, pointer, array.nbytes)
        return copy

    def dim(self, d: Dim) -> int:
        """The value of a size."""
        return d if isinstance(d, int) else evaluate_dim(d, self.sizes)

    def shape(self, t: TensorType) -> tuple[int, ...]:
        """The shape of a type."""
        return tuple(map(self.dim, t.shape))


def _run_outermost(compiled: GpuCompiled, call: _Call, pointers: list[int], arrays: Sequence[Any]
                   ) -> list[Any]:
    program, driver = compiled.program, call.driver
    made = {b.name: driver.empty(call.shape(b.type), b.type.dtype.numpy) for b in compiled.made}
    arena = call.bytes(call.dim(program.arena)) if program.arena != 0 else 0
    into = {name: driver.pointer(a) for name, a in made.items()}

    def work(fork: Fork | None = None) -> None:
        _run(compiled._plan, call, pointers, into, arena, fork)
        if compiled.checks and call.status is not None:
            call.status.tell()
            call.owned.append(call.status)          # a graph writes there as long as it lives

    if compiled.replay is None:
        work()
    else:
        key = (*pointers, *into.values(), arena, *call.sizes.values())
        compiled.replay.run(driver, key, work, call.owned)
    if call.copied:
        for i in dict.fromkeys(r for r in compiled.results if isinstance(r, int)):
            if i in call.copied:
                driver.copy(call.copied[i], pointers[i], arrays[i].nbytes)
    return [arrays[r] if isinstance(r, int) else made[r] for r in compiled.results]


def _run(plan: _Plan, call: _Call, arguments: Sequence[int], into: Mapping[str, int], arena: int,
         fork: Fork | None = None) -> None:
    """Run a program on memory for its parameters, its results, and its temporaries; with `fork`, in
    lanes of a graph."""
    def place(b: Buffer) -> int:
        if b.kind == "param":
            return arguments[b.index]
        if b.kind == "constant":
            return call.driver.pointer(plan.constants[b.name])
        if b.kind == "temp":
            at = arena + call.dim(b.offset)
            return at if isinstance(b.offset, int) else -(-at // ALIGN) * ALIGN
        return into[b.name]

    memory = {b.name: place(b) for b in plan.program.buffers if b.kind != "result"
              or b.name in into}
    if fork is None:
        for step in plan.steps:
            _do(step, call, memory)
        return
    for i, (step, lane) in enumerate(zip(plan.steps, plan.lanes)):
        with fork.step(i, lane):
            _do(step, call, memory)
    fork.join()


def _do(step: Any, call: _Call, memory: Mapping[str, int]) -> None:
    if isinstance(step, _Launch):
        _launch(step, call, memory)
        return
    one, inner = step
    if isinstance(one.kernel, Library):
        _library(one, call, memory)
    elif isinstance(one.kernel, Branch):
        _branch(one, inner, call, memory)
    else:
        _loop(one, inner, call, memory)


def _launch(step: _Launch, call: _Call, memory: Mapping[str, int]) -> None:
    code = step.code
    grid = prod(max(0, -(-call.dim(size) // by)) for size, by in code.blocks)
    if grid == 0:
        return
    grid = min(grid, code.most) if code.most else grid
    values = [memory[b] for b in step.buffers] + [call.sizes[s] for s in step.symbols]
    if code.checks:
        assert call.status is not None
        values += [call.status.pointer, step.first_check]
    if code.marks != 0:
        nbytes = call.dim(code.marks)
        values.append(call.bytes(nbytes))
        call.driver.zero(values[-1], nbytes)
    slots = (ctypes.c_int64 * len(values))(*values)
    base = ctypes.addressof(slots)
    params = (ctypes.c_void_p * len(values))(*(base + 8 * i for i in range(len(values))))
    for function in step.functions:
        call.driver.launch(function, grid, code.threads, code.shared, ctypes.addressof(params))


def _product(step: Step, call: _Call, memory: Mapping[str, int]) -> None:
    k, lib = step.kernel, call.driver.cublaslt()
    assert isinstance(k, Library) and lib is not None
    attrs = {name: _concrete(v, call) for name, v in k.attrs}
    pointers = [memory[step.buffers[i]] for i in attrs.pop("places")]
    lib.matmul(attrs, pointers, call.ordinal, call.driver.stream(), call.bytes)


def _library(step: Step, call: _Call, memory: Mapping[str, int]) -> None:
    k = step.kernel
    assert isinstance(k, Library)
    if k.op == MATMUL:
        _product(step, call, memory)
        return
    arrays = {n: call.driver.view(memory[b], call.shape(t), t.dtype.numpy, call)
              for (n, t), b in zip(k.buffers, step.buffers)}
    attrs = {name: _concrete(v, call) for name, v in k.attrs}
    run_library(LibraryCall(k, tuple(a for n, a in arrays.items() if n not in k.outputs),
                            tuple(arrays[n] for n in k.outputs), attrs, call.driver))


def _concrete(value: Any, call: _Call) -> Any:
    if isinstance(value, Size):
        return call.dim(value)
    return tuple(_concrete(v, call) for v in value) if isinstance(value, (tuple, list)) else value


# ---- control flow, driven by the host

def _read(call: _Call, pointer: int, dtype: np.dtype[Any]) -> int:
    """A number that the device computes; waits for it."""
    return int(np.frombuffer(call.driver.read(pointer, dtype.itemsize), dtype)[0])


def _branch(step: Step, plans: tuple[_Plan, ...], call: _Call, memory: Mapping[str, int]) -> None:
    k = step.kernel
    assert isinstance(k, Branch)
    places = [memory[b] for b in step.buffers]
    at = _read(call, places[0], k.buffers[0][1].dtype.numpy)
    plan = plans[at if 0 <= at < len(plans) else -1]
    n = len(k.buffers) - len(k.outputs)
    _run(plan, call, places[1:n], dict(zip(plan.program.results, places[n:])),
         memory.get(step.scratch, 0))


def _loop(step: Step, plans: tuple[_Plan, ...], call: _Call, memory: Mapping[str, int]) -> None:
    """Carries are written where they are read, or to and fro between two places."""
    k = step.kernel
    assert isinstance(k, Loop)
    places = [memory[b] for b in step.buffers]
    n, first = len(k.buffers) - len(k.outputs), k.first_carry
    sizes = [call.dim(t.nbytes) for t in k.carry_types]
    before, moving = places[:first], places[first + k.carries:n]
    state, ys = places[n:n + k.carries], places[n + k.carries:]
    for source, target, size in zip(places[first:], state, sizes):
        call.driver.copy(target, source, size)
    scratch = memory.get(step.scratch, 0)
    spare = [p if i in k.in_place else scratch + call.dim(k.spares[i]) if i in k.spares
             else call.bytes(size) for i, (p, size) in enumerate(zip(state, sizes))]
    rows = [call.dim(t.nbytes) for t in _row_types(k, n)]
    turns = iter(lambda: None, 0) if k.cond is not None else iter(_turns(k, call))
    body = plans[-1]
    for i in turns:
        at = [x if i is None else x + i * row for x, row in zip(moving, rows)]
        arguments = [*before, *state, *at]
        if k.cond is not None:
            cond, status = plans[0], call.status
            assert status is not None
            _run(cond, call, arguments, {cond.program.results[0]: status.flag}, scratch)
            if not status.goes_on():
                break
        outs = [y + (i or 0) * row for y, row in zip(ys, rows[len(moving):])]
        _run(body, call, arguments, dict(zip(body.program.results, [*spare, *outs])), scratch)
        state, spare = spare, state
    for source, target, size in zip(state, places[n:], sizes):
        if source != target:
            call.driver.copy(target, source, size)


def _may_wait(program: Program) -> bool:
    """Whether it has a loop whose condition the device computes."""
    return any((isinstance(s.kernel, Loop) and s.kernel.cond is not None)
               or (isinstance(s.kernel, (Branch, Loop)) and any(
                   _may_wait(p) for _, p in s.kernel.nested)) for s in program.steps)


def _row_types(k: Loop, n: int) -> list[TensorType]:
    """The types of what moves along, then of what is collected: without their first axis."""
    moving = [t for _, t in k.buffers[k.first_carry + k.carries:n]]
    ys = [t for _, t in k.buffers[n + k.carries:]]
    if k.cond is not None:
        return [*moving]
    return [TensorType(t.shape[1:], t.dtype) for t in (*moving, *ys)]


def _turns(k: Loop, call: _Call) -> range:
    length = call.dim(k.length)
    return range(length - 1, -1, -1) if k.reverse else range(length)

