"""The CPU device: graphs become programs of kernels, kernels LLVM IR, that native code."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from weft.compiler.errors import WeftError
from weft.compiler.ir import Graph
from weft.compiler.kernel.columns import split_columns
from weft.compiler.kernel.ir import Failure, Program
from weft.compiler.kernel.nested import Branch, Loop
from weft.compiler.kernel.pieces import split_pieces
from weft.compiler.kernel.program import build_program
from weft.compiler.kernel.pullback import POINTWISE, UPDATES
from weft.compiler.kernel.split import split_reductions
from weft.compiler.kernel.spread import spread_updates
from weft.compiler.ops.registry import OPS
from weft.compiler.target import Target
from weft.compiler.types import Dim, Size, evaluate_dim
from weft.devices.cpu import numpy_loops
from weft.devices.cpu.engine import Entry, Library, assemble_all, assembly_text, load, load_entry
from weft.devices.cpu.entry_spec import EntrySpec
from weft.devices.cpu.host import host_target
from weft.devices.cpu.lower import TABLE
from weft.devices.cpu.module import CONSTANTS, MAIN, Module, build_module
from weft.devices.cpu.native import ensure
from weft.devices.protocol import Array, Cache, DeviceError, KernelInfo

__all__ = ["CpuDevice"]

LARGE = 256 << 10       # results from this size on are 64-byte aligned, by native entries too
_KINDS = ("kernels", "llvm", "asm")


class CpuDevice:
    """Native code for this machine's processor."""

    name = "cpu"

    def target(self) -> Target:
        """This machine."""
        return host_target()

    def supported(self) -> frozenset[str]:
        """All ops but those that no schedule or table line covers."""
        loops = frozenset(n for n, op in OPS.items()
                          if op.kind in ("reduction", "contraction", "scan", "sort", "structure",
                                     "control", "factorization", "transform")
                          and op.decompose is None)
        return TABLE | frozenset(POINTWISE) | UPDATES | loops | {"searchsorted"}

    def lower(self, graph: Graph, target: Target) -> CpuLowered:
        """The program of kernels for an optimised graph."""
        program = split_reductions(build_program(graph, target), target)
        program = split_pieces(split_columns(program))
        return CpuLowered(graph, spread_updates(program, target), target)


class CpuLowered:
    """A program of kernels; its LLVM IR is written when it is first asked for."""

    kinds = _KINDS

    def __init__(self, graph: Graph, program: Program, target: Target) -> None:
        self.graph = graph
        self.program = program
        self.target = target

    @cached_property
    def module(self) -> Module:
        """The LLVM module."""
        return build_module(self.program, self.target)

    @property
    def kernels(self) -> tuple[KernelInfo, ...]:
        """What each step does, in order."""
        return tuple(_describe(self.program, "", 1))

    def text(self, kind: str) -> str:
        """`kernels`, `llvm` or `asm`."""
        if kind == "kernels":
            return self.program.text()
        if kind == "llvm":
            return self.module.text
        if kind == "asm":
            return assembly_text(self.module.text, self.target)
        raise DeviceError(f"device 'cpu' has no {kind} text",
                          expected=f"one of {', '.join(_KINDS)}")

    def compile(self, cache: Cache | None = None) -> CpuCompiled:
        """Native code, from the cache where that has it."""
        objects = assemble_all(self.module.parts, self.target, cache)
        ensure(cache)
        symbols = numpy_loops.addresses(self.module.externals) if self.module.externals else None
        return CpuCompiled(self, load(objects, symbols=symbols,
                                      exports=(MAIN, CONSTANTS, "bad_index")))


class CpuCompiled:
    """Loaded native code for one program."""

    def __init__(self, lowered: CpuLowered, library: Library) -> None:
        self.program = lowered.program
        self.module = lowered.module
        self.library = library
        self._constants = self._fill_constants()
        address = library.address(MAIN)
        self._main = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p)(address)
        results = {b.name: b for b in self.program.buffers if b.kind == "result"}
        self._results = tuple(results[n] for n in dict.fromkeys(self.program.results))
        self._order = [list(dict.fromkeys(self.program.results)).index(n)
                       for n in self.program.results]
        self._slots = 1 + max([b.index for b in results.values()], default=-1)

    def _fill_constants(self) -> list[Array]:
        kept = [np.ascontiguousarray(value) for value in self.module.constants]
        table = (ctypes.c_void_p * max(1, len(kept))).from_address(self.library.address(CONSTANTS))
        for i, a in enumerate(kept):
            table[i] = a.ctypes.data
        return kept

    @property
    def checks(self) -> bool:
        """Whether main can return a status other than 0."""
        return bool(self.module.checks)

    def run(self, arrays: Sequence[Array], /) -> list[Array]:
        """The results for these arguments; see the protocol. Raises `IndexError` as NumPy does."""
        symbols = self._bind(arrays)
        made = [_aligned([evaluate_dim(d, symbols) for d in b.type.shape], b.type.dtype.numpy)
                for b in self._results]
        n = len(arrays)
        pointers = (ctypes.c_void_p * (n + self._slots + 1))()
        for i, a in enumerate(arrays):
            pointers[i] = a.ctypes.data
        for b, a in zip(self._results, made):
            pointers[n + b.index] = a.ctypes.data
        sizes = (ctypes.c_int64 * (len(symbols) + 1))(*symbols.values())
        status = self._main(pointers, sizes)
        if status:
            raise self.error(status, symbols)
        return [made[i] for i in self._order]

    def _bind(self, arrays: Sequence[Array]) -> dict[str, int]:
        """Values of the symbols, from the arguments' shapes."""
        out: dict[str, int] = {}
        if self.program.symbols:
            params = [b for b in self.program.buffers if b.kind == "param"]
            for b, a in zip(params, arrays):
                for d, n in zip(b.type.shape, a.shape):
                    if isinstance(d, Size) and len(d.symbols) == 1 and d == Size.symbol(str(d)):
                        out.setdefault(str(d), n)
        return {s: out[s] for s in self.program.symbols}

    def error(self, status: int, symbols: Mapping[str, int]) -> WeftError:
        """The error that a status stands for."""
        check = self.module.checks[status]
        value = ctypes.c_int64.from_address(self.library.address("bad_index")).value
        if isinstance(check, Failure):
            return check.error()
        return check.error(value, evaluate_dim(check.size, symbols))

    def entry(self, spec: EntrySpec, /, cache: Cache | None = None) -> Entry:
        """A native entry to `main` with this signature."""
        return load_entry(spec, self.library, cache)


def _aligned(shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """A new array; a large one begins at a multiple of 64 bytes, which streamed stores need."""
    nbytes = prod(shape) * dtype.itemsize
    if nbytes < LARGE:
        return np.empty(shape, dtype)
    raw = np.empty(nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start:start + nbytes].view(dtype).reshape(shape)


def _describe(program: Program, inside: str, turns: Dim | None) -> Iterator[KernelInfo]:
    """The steps of a program, those of loops and branches behind them."""
    for step in program.steps:
        nested = isinstance(step.kernel, (Branch, Loop))
        each = turns if turns is not None else 1
        yield KernelInfo(step.name, step.ops, step.origins,
                         0 if nested else int(step.flops) * each,
                         0 if nested else int(step.nbytes) * each, merged=(),
                         stopped="; ".join(step.notes), inside=inside, turns=turns)
        if isinstance(step.kernel, (Branch, Loop)):
            for label, inner in step.kernel.nested:
                yield from _describe(inner, f"{step.name}, {label}", _turns(step.kernel, turns))


def _turns(kernel: Branch | Loop, outer: Dim | None) -> Dim | None:
    if isinstance(kernel, Branch) or outer is None:
        return outer
    return outer * kernel.length if kernel.cond is None else None
