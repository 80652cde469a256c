"""Sorting along an axis, by NumPy's own sorting functions.

These give NumPy's exact results, also where an unstable order is free, at the speed of its
vectorised code. Element types without such functions get a merge sort.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from weft.compiler.kernel.ir import Library
from weft.compiler.target import Target
from weft.devices.cpu.code import KernelCode
from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.library_frame import Elements, Frame
from weft.devices.cpu.library_merge import merge_sort
from weft.devices.cpu.numpy_sorts import sort_symbol, symbols

__all__ = ["emit_sort"]

TOGETHER = 16                           # columns gathered together, a cache line of float32


def emit_sort(step: Library, name: str, target: Target) -> KernelCode:
    """Code for sort and argsort: units are rows, or columns of blocks."""
    return _Sort(step, name, target).emit()


class _Sort:
    def __init__(self, step: Library, name: str, target: Target) -> None:
        attrs = dict(step.attrs)
        self.f = Frame(step, name, target)
        self.source, self.out = self.f.arrays
        self.by_index = step.op == "argsort"
        self.outer, self.n, self.inner = self.f.around(attrs["axis"])
        self.length = self.pitch = self.f.dim(self.n)
        self.function = sort_symbol(step.op, self.source.dtype, attrs["stable"])
        if self.function not in symbols():
            self.function, text, declares = merge_sort(self.source.dtype, self.by_index, target)
            self.f.e.helpers[self.function] = text
            self.f.e.declares |= declares

    def emit(self) -> KernelCode:
        """The code."""
        cost = self.n * 16
        if self.inner == 1:
            with self.f.e.loop(self.f.lo, self.f.hi, stem="row") as row:
                begin = row.i * self.length
                self._sort(self.source.at(begin), self.out.at(begin))
            return self.f.code(self.outer, cost)
        # neighbouring rows of scratch memory begin in different lines of a cache
        self.pitch = self.length + 64 // self.source.dtype.itemsize
        memory = [self.f.scratch(self.pitch * TOGETHER, a.dtype)
                  for a in (self.source, *((self.out,) if self.by_index else ()))]
        self.f.columns(self.inner, TOGETHER, lambda *run: self._run(memory, *run))
        self.f.release(memory)
        return self.f.code(self.outer * self.inner, cost, TOGETHER)

    def _sort(self, keys: Elements, out: Elements) -> None:
        """Sort a row; `keys` stay as they are."""
        if self.by_index:
            _count_up(self.f, out, self.length)
            self._call(keys.address, out.address)
        else:
            out.copy_all(keys, self.length)
            self._call(out.address)

    def _call(self, *pointers: Val) -> None:
        e = self.f.e
        args = ", ".join(f"ptr {p.ref}" for p in pointers)
        if self.function not in e.helpers:
            e.declares.add(f"declare i32 @{self.function}({'ptr, ' * len(pointers)}i64, ptr)")
        e.assign(f"call i32 @{self.function}({args}, i64 {self.length.ref}, ptr null)", "i32")

    def _run(self, memory: list[Elements], block: Val, column: Val, width: Val) -> None:
        """Gather a run of columns into rows, sort these, put them back."""
        e, keys, rows = self.f.e, memory[0], memory[-1]
        size = self.f.dim(self.inner)
        begin = block * self.length * size + column
        with _each(e, self.length, width) as (i, j):
            keys.copy(j * self.pitch + i, self.source.at(begin + i * size), j)
        with e.loop(0, width, stem="column") as loop:
            row = loop.i * self.pitch
            if self.by_index:
                self._sort(keys.at(row), rows.at(row))
            else:
                self._call(keys.at(row).address)
        with _each(e, self.length, width) as (i, j):
            self.out.copy(begin + i * size + j, rows, j * self.pitch + i)


def _count_up(f: Frame, out: Elements, n: Val) -> None:
    """0, 1, 2, … into an array of i64."""
    lanes = f.e.target.lanes(8)

    def write(i: Val, lanes: int) -> None:
        first = f.e.splat(i, lanes)
        out.store(i, first + f.e.iota("i64", lanes) if lanes > 1 else first)
    f.vectors(n, lanes, write)


@contextmanager
def _each(e: Emitter, rows: Val, width: Val) -> Iterator[tuple[Val, Val]]:
    """Two loops, the columns inside."""
    with e.loop(0, rows, stem="down") as down, e.loop(0, width, stem="across") as across:
        yield down.i, across.i
