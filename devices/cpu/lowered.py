"""Graphs to programs of kernels, and these to LLVM IR: what comes before there is machine code."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from weft.compiler.ir import Graph
from weft.compiler.kernel.columns import split_columns
from weft.compiler.kernel.ir import Check, Failure, Library, Program, Step
from weft.compiler.kernel.pieces import split_pieces
from weft.compiler.kernel.program import build_program
from weft.compiler.kernel.pullback import POINTWISE, UPDATES
from weft.compiler.kernel.split import split_reductions
from weft.compiler.kernel.spread import spread_updates
from weft.compiler.ops.registry import OPS, names_of_kind
from weft.compiler.target import Target
from weft.compiler.types import Dim
from weft.devices.cpu.assembler import assemble_all, assembly_text
from weft.devices.cpu.compiled import CpuCompiled, Facts, Status
from weft.devices.cpu.linker import linkable
from weft.devices.cpu.lower import CUSTOM, TABLE
from weft.devices.cpu.module import Module, build_module
from weft.devices.cpu.native import ensure
from weft.devices.described import described
from weft.devices.protocol import Cache, DeviceError, KernelInfo

__all__ = ["CpuLowered", "lower", "supported"]

_KINDS = ("kernels", "llvm", "asm")
_COMPOSED = frozenset({"call", "pinv", "transfer"})  # of kinds that are; replaced before


def supported() -> frozenset[str]:
    """All ops but those that no schedule or table line covers."""
    loops = names_of_kind("reduction", "contraction", "scan", "sort", "structure",
                          "control", "factorization", "transform")
    return TABLE.union(CUSTOM, _custom(), POINTWISE, UPDATES, loops, ("searchsorted",)) - _COMPOSED


def _custom() -> list[str]:
    """Ops from outside that are called."""
    return [name for name, op in dict.items(OPS) if op.kind == "custom"]


def lower(graph: Graph, target: Target, donated: Sequence[int] = ()) -> CpuLowered:
    """The program of kernels for an optimised graph, which may overwrite the `donated` parameters.
    """
    program = build_program(graph, target, [graph.params[i] for i in donated])
    program = split_reductions(program, target)
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
        return tuple(described(self.program, _fallback))

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
        return CpuCompiled(linkable(objects), self._facts())

    def _facts(self) -> Facts:
        program, kernels = self.program, self.kernels
        results = {b.name: b for b in program.buffers if b.kind == "result"}
        given = {b.name: -1 - b.index for b in program.buffers if b.kind == "param"}
        distinct = list(dict.fromkeys(n for n in program.results if n in results))
        return Facts(
            params=tuple(b.type for b in program.buffers if b.kind == "param"),
            results=tuple((results[n].index, results[n].type) for n in distinct),
            order=tuple(given[n] if n in given else distinct.index(n) for n in program.results),
            symbols=program.symbols,
            statuses={status: _status(c) for status, c in self.module.checks.items()},
            constants=tuple(map(np.asarray, self.module.constants)),
            kernels=len(kernels),
            work=_work(kernels),
            externals=self.module.externals)


def _status(check: Check | Failure | None) -> Status:
    if check is None:
        return Status("interrupt", 0, 0, None)
    if isinstance(check, Failure):
        return Status(check.kind, 0, 0, check.origin, check.text)
    return Status(check.kind, check.axis, check.size, check.origin)


def _fallback(step: Step) -> str:
    """Why a step does not run natively."""
    if not isinstance(step.kernel, Library) or OPS[step.kernel.op].kind != "custom":
        return ""
    from weft.devices.cpu.custom import has_function  # for ops from outside only

    return "" if has_function(step.kernel.op) else \
        f"{step.kernel.op} has no kernel for the CPU: its NumPy reference is called through Python"


def _work(kernels: Sequence[KernelInfo]) -> int | None:
    """Operations and bytes, or None where only running tells."""
    total: Dim = 0
    for k in kernels:
        total = total + k.flops + k.nbytes
    return total if isinstance(total, int) and all(k.turns is not None for k in kernels) else None
