"""Graphs to programs of kernels, and these to CUDA C++: what comes before there is machine code."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

from weft.compiler.digest import content_key
from weft.compiler.ir import Graph
from weft.compiler.kernel.ir import Kernel, Library, Program, Step
from weft.compiler.kernel.nested import Branch, Loop
from weft.compiler.kernel.program import build_program
from weft.compiler.kernel.pullback import POINTWISE, UPDATES
from weft.compiler.kernel.split import Chunks, split_reductions
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.ops.registry import OPS, names_of_kind
from weft.compiler.target import Target
from weft.compiler.types import TensorType
from weft.devices.described import described
from weft.devices.gpu.attention import take_attention
from weft.devices.gpu.attention_backward import take_gradients
from weft.devices.gpu.attention_backward_code import fits
from weft.devices.gpu.blas import take_products
from weft.devices.gpu.driver import the_driver
from weft.devices.gpu.emit import emit_kernel, has_code
from weft.devices.gpu.lanes import spread
from weft.devices.gpu.library import ON_HOST
from weft.devices.gpu.loops import KernelCode
from weft.devices.gpu.lower import TABLE
from weft.devices.gpu.nvrtc import build
from weft.devices.gpu.prelude import TYPES, needed
from weft.devices.gpu.replay import replayable
from weft.devices.protocol import Cache, Compiled, DeviceError, KernelInfo

__all__ = ["GpuLowered", "Unit", "lower", "supported"]

_KINDS = ("kernels", "cuda", "ptx")
# A block has enough to do with so many turns; some hundred blocks keep a device busy. Where threads
# stand side by side on rows, a thousand blocks share them evenly.
_CHUNKS = Chunks(turns=1 << 13, long=1 << 14, rows=128, across=1 << 16, blocks=1 << 10,
                 least=1 << 10, products=512)
PART = 8                # kernels that are compiled together
_COMPOSED = frozenset({"call", "pinv"})     # replaced by other ops before a device sees them


def supported() -> frozenset[str]:
    """All ops but those that no schedule, table line or library covers."""
    others = names_of_kind("reduction", "contraction", "scan", "sort", "structure", "control",
                           "factorization", "transform", "custom")
    return TABLE.union(POINTWISE, UPDATES, others, ("searchsorted",)) - _COMPOSED


def lower(graph: Graph, target: Target, donated: Sequence[int] = (), ordinal: int = 0
          ) -> GpuLowered:
    """The program of kernels for an optimised graph, which may overwrite the `donated` parameters.
    """
    program = build_program(graph, target, [graph.params[i] for i in donated])
    program = take_gradients(program, target, lambda form: fits(form, target))
    program = take_products(take_attention(program, target), target)
    program = split_reductions(program, target, _CHUNKS)
    if replayable(program):
        program = spread(program)
    return GpuLowered(graph, program, target, ordinal)


@dataclass(frozen=True)
class Unit:
    """A program's code: the functions of its kernels, by `step_key`."""

    functions: dict[str, KernelCode]

    @cached_property
    def source(self) -> str:
        """The text of all of it."""
        return _source(list(self.functions.values()))

    @cached_property
    def parts(self) -> tuple[tuple[KernelCode, ...], ...]:
        """The functions in groups, which are compiled side by side."""
        codes = tuple(self.functions.values())
        return tuple(codes[i:i + PART] for i in range(0, len(codes), PART))


def _source(codes: Sequence[KernelCode]) -> str:
    """Functions, behind the helpers that they use."""
    body = "\n".join(c.text for c in codes)
    return "\n".join([TYPES + needed(body), body])


class GpuLowered:
    """A program of kernels; its CUDA C++ is written when it is first asked for."""

    kinds = _KINDS

    def __init__(self, graph: Graph, program: Program, target: Target, ordinal: int = 0) -> None:
        self.graph = graph
        self.program = program
        self.target = target
        self.ordinal = ordinal

    @cached_property
    def unit(self) -> Unit:
        """The kernels' code."""
        functions: dict[str, KernelCode] = {}
        for step, unaligned in _kernel_steps(self.program, frozenset()):
            key = step_key(step, unaligned)
            if key not in functions:
                assert isinstance(step.kernel, (Kernel, Library))
                name = _function_name(step.name, {c.name for c in functions.values()})
                functions[key] = emit_kernel(step.kernel, name, _inner(step, unaligned),
                                             self.target)
        return Unit(functions)

    @property
    def kernels(self) -> tuple[KernelInfo, ...]:
        """What each step does, in order."""
        return tuple(described(self.program, _fallback))

    def text(self, kind: str) -> str:
        """`kernels`, `cuda` or `ptx`."""
        if kind == "kernels":
            return self.program.text()
        if kind == "cuda":
            return self.unit.source
        if kind == "ptx":
            return build(self.unit.source, self.target.cpu, self.target.fast_math).ptx
        raise DeviceError(f"device 'gpu' has no {kind} text",
                          expected=f"one of {', '.join(_KINDS)}")

    def compile(self, cache: Cache | None = None) -> Compiled:
        """Machine code, from the cache where that has it, loaded on the device."""
        from weft.devices.gpu.compiled import GpuCompiled  # needs a device

        return GpuCompiled(self, self.images(cache))

    def images(self, cache: Cache | None = None) -> list[bytes]:
        """Machine code of each part of the unit, from the cache where that has it."""
        parts = self.unit.parts
        if len(parts) < 2:
            return [self._image(part, cache) for part in parts]
        with ThreadPoolExecutor(min(len(parts), os.cpu_count() or 1)) as pool:
            return list(pool.map(lambda part: self._image(part, cache), parts))

    def _image(self, part: Sequence[KernelCode], cache: Cache | None) -> bytes:
        driver, source, fast = the_driver(), _source(part), self.target.fast_math
        key = content_key("gpu", driver.compiler(), self.target.cpu, str(fast), source)
        found = cache.get(key) if cache is not None else None
        if found is None:
            found = driver.build(source, self.target.cpu, fast)
            if cache is not None:
                cache.put(key, found)
        return found


# ---- which buffers begin where vectors can be read

def step_key(step: Step, unaligned: frozenset[str]) -> str:
    """Equal for steps that one function serves; `unaligned` are buffers of the program."""
    return f"{step.kernel.key}\n{sorted(_inner(step, unaligned))}"


def _inner(step: Step, unaligned: frozenset[str]) -> frozenset[str]:
    """The kernel's names of the buffers that may begin anywhere."""
    return frozenset(n for (n, _), b in zip(step.kernel.buffers, step.buffers) if b in unaligned)


def unaligned_in(step: Loop) -> frozenset[str]:
    """The buffers of a loop's body that begin anywhere: elements of arrays that it goes along."""
    n, inputs = step.first_carry + step.carries, len(step.buffers) - len(step.outputs)
    params = {b.index: b for b in step.body.buffers if b.kind == "param"}
    names = [params[i].name for i in range(n, inputs)
             if step.cond is None and _odd(params[i].type)]
    outs = {b.name: b for b in step.body.buffers}
    names += [r for r in step.body.results[step.carries:] if _odd(outs[r].type)]
    return frozenset(names)


def _odd(t: TensorType) -> bool:
    return not isinstance(t.nbytes, int) or t.nbytes % 16 != 0


def _kernel_steps(program: Program, unaligned: frozenset[str]
                  ) -> Iterator[tuple[Step, frozenset[str]]]:
    """All kernels, nested ones too, each with the unaligned buffers of its program."""
    for step in program.steps:
        if isinstance(step.kernel, Branch):
            inherited = _inner(step, unaligned)
            for inner in step.kernel.programs:
                yield from _kernel_steps(inner, _bound(step.kernel, inner, inherited))
        elif isinstance(step.kernel, Loop):
            for label, inner in step.kernel.nested:
                names = unaligned_in(step.kernel) if label == "body" else frozenset()
                yield from _kernel_steps(inner, names)
        elif has_code(step.kernel):
            yield step, unaligned


def bound_unaligned(step: Step, inner: Program, unaligned: frozenset[str]) -> frozenset[str]:
    """The unaligned buffers of a branch's program, in a program with these."""
    assert isinstance(step.kernel, Branch)
    return _bound(step.kernel, inner, _inner(step, unaligned))


def _bound(step: Branch, inner: Program, unaligned: frozenset[str]) -> frozenset[str]:
    names = [n for n, _ in step.buffers]
    operands = names[1:len(names) - len(step.outputs)]
    params = {b.index: b.name for b in inner.buffers if b.kind == "param"}
    found = {params[i] for i, n in enumerate(operands) if n in unaligned}
    return frozenset(found | {r for n, r in zip(step.outputs, inner.results) if n in unaligned})


def _function_name(stem: str, taken: set[str]) -> str:
    name = base = re.sub(r"\W", "_", stem)
    number = 1
    while name in taken:
        number += 1
        name = f"{base}_{number}"
    return name


# ---- what explain says

def _fallback(step: Step) -> str:
    op = OPS.get(step.kernel.op) if isinstance(step.kernel, Library) else None
    if isinstance(step.kernel, Library) and op is not None and op.kind == "custom":
        return f"{step.kernel.op} has no kernel for the GPU: its NumPy reference runs on the host"
    if op is not None and op.name in ON_HOST:
        return f"{op.name} runs on the host, by NumPy: {ON_HOST[op.name]}"
    return ""
