"""Transposes: elementwise kernels that read some arrays along one axis and write along another.

Read element by element, such an array costs a memory transaction for each. Here a block takes a
square of both axes: it reads the array along its own axis into shared memory, side by side, and
computes from there along the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod

from weft.compiler.kernel.expr import Expr, index_values, walk
from weft.compiler.kernel.flatten import flatten
from weft.compiler.kernel.index import Axis
from weft.compiler.kernel.ir import Kernel
from weft.compiler.lazy_dataclass import dataclass
from weft.devices.gpu.loops import KernelCode, place, signature
from weft.devices.gpu.lower import load_value, memory_type, store_value
from weft.devices.gpu.schedule import BUSY
from weft.devices.gpu.writer import Evaluator, Writer

__all__ = ["Turned", "emit_tiles", "turned"]

SIDE, DEEP = 32, 8          # a square, and how many of its rows threads take at a time
MOST_SHARED = 40 << 10      # bytes of a block


@dataclass(frozen=True)
class Turned:
    """The loads that run along `other` where the kernel's last axis is `last`."""

    loads: tuple[Expr, ...]
    other: Axis
    last: Axis


def turned(kernel: Kernel) -> Turned | None:
    """What of a flattened kernel is read across, None where nothing is or it is not worth it."""
    if len(kernel.stages) != 1 or len(kernel.axes) < 2 or kernel.updates or kernel.shares:
        return None
    (stage,) = kernel.stages
    if stage.axes or stage.checks or stage.reduces or any(s.combine or s.guard
                                                          for s in stage.stores):
        return None
    if not all(isinstance(a.extent, int) for a in kernel.axes) \
            or prod(map(extent, kernel.axes)) < BUSY:
        return None
    last = kernel.axes[-1]
    found: dict[Axis, list[Expr]] = {}
    for e in walk(*stage.roots):
        axis = _runs_across(e, kernel, last)
        if axis is not None:
            found.setdefault(axis, []).append(e)
    if not found:
        return None
    other = max(found, key=lambda a: len(found[a]))
    shared = sum((SIDE + 1) * SIDE * e.dtype.itemsize for e in found[other])
    wide = all(extent(a) >= SIDE // 2 for a in (other, last))
    return Turned(tuple(found[other]), other, last) if wide and shared <= MOST_SHARED else None


def _runs_across(e: Expr, kernel: Kernel, last: Axis) -> Axis | None:
    """The axis along which a load runs through memory, if that is not the last one."""
    if e.kind != "load" or e.args or index_values(e.index[0]):
        return None
    step = e.index[0].coefficient(last)
    if not isinstance(step, int) or abs(step) < 2:
        return None
    return next((a for a in kernel.axes[:-1] if e.index[0].coefficient(a) == 1), None)


def emit_tiles(kernel: Kernel, name: str) -> KernelCode | None:
    """The function of a kernel that reads across, None for others."""
    flat = flatten(kernel)
    form = turned(flat)
    if form is None or not all(isinstance(t.size, int) and t.size < 1 << 30
                               for _, t in flat.buffers):
        return None
    return _Tiles(flat, form, name).emit()


class _Tiles:
    def __init__(self, kernel: Kernel, form: Turned, name: str) -> None:
        self.kernel, self.form, self.name = kernel, form, name
        self.w = Writer()
        self.ev = Evaluator(kernel, self.w)

    def emit(self) -> KernelCode:
        """The function."""
        k, f, w, ev = self.kernel, self.form, self.w, self.ev
        threads = SIDE * DEEP
        sizes = [k.types[e.what].dtype for e in f.loads]
        for i, dtype in enumerate(sizes):
            w.line(f"__shared__ {memory_type(dtype)} tile{i}[{SIDE}][{SIDE + 1}];")
        w.line(f"const i32 x = (i32)threadIdx.x % {SIDE}, y = (i32)threadIdx.x / {SIDE};")
        squares = [-(-extent(a) // SIDE) for a in (f.last, f.other)]
        w.line(f"const i32 p0 = (i32)blockIdx.x % {squares[0]} * {SIDE};")
        w.line(f"const i32 q0 = (i32)blockIdx.x / {squares[0]} % {squares[1]} * {SIDE};")
        rest = tuple(a for a in k.axes if a not in (f.other, f.last))
        w.line(f"const i32 batch = (i32)blockIdx.x / {squares[0] * squares[1]};")
        place(ev, "batch", rest, "i32")
        with self._square("q0 + x", "p0 + y + i"):
            for i, e in enumerate(f.loads):
                w.line(f"tile{i}[y + i][x] = {e.what}[{ev.index(e.index[0])}];")
        w.line("__syncthreads();")
        with self._square("q0 + y + i", "p0 + x"):
            for i, (e, dtype) in enumerate(zip(f.loads, sizes)):
                ev.given[e] = f"({load_value(f'tile{i}[x][y + i]', dtype)})"
            for s in k.stages[0].stores:
                dtype = k.types[s.buffer].dtype
                w.line(f"{s.buffer}[{ev.index(s.index[0])}] = "
                       f"{store_value(ev.value(s.value), dtype)};")
        plan = f"tiles of {SIDE} x {SIDE}, {threads} threads, {len(f.loads)} arrays read across"
        text = "\n".join([f"// {plan}", signature(k, self.name, threads) + " {", *w.lines, "}", ""])
        blocks = ((prod(map(extent, rest)), 1), (extent(f.last), SIDE), (extent(f.other), SIDE))
        return KernelCode(self.name, text, threads, blocks, plan=plan)

    @contextmanager
    def _square(self, other: str, last: str) -> Iterator[None]:
        """A loop over a thread's elements of the square, those outside the array left out."""
        f, w, ev = self.form, self.w, self.ev
        w.line("#pragma unroll")
        with ev.scope(f"for (i32 i = 0; i < {SIDE}; i += {DEEP})"):
            names = [f"{a.name}_" for a in (f.other, f.last)]
            w.line(f"const i32 {names[0]} = {other}, {names[1]} = {last};")
            ev.axes.update(zip((f.other, f.last), names))
            with ev.scope(f"if ({names[0]} < {extent(f.other)} && {names[1]} < "
                          f"{extent(f.last)})"):
                yield


def extent(axis: Axis) -> int:
    """The extent of an axis of known size."""
    assert isinstance(axis.extent, int)
    return axis.extent
