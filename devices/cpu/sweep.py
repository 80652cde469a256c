"""Reductions down wide columns: the schedule that reads whole rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from weft.compiler.kernel.index import Axis
from weft.compiler.kernel.ir import Kernel, Reduce, Stage
from weft.devices.cpu.accumulate import Accumulator, accumulator
from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.evaluate import Evaluator
from weft.devices.cpu.schedule import Schedule

__all__ = ["Loops", "Sweep"]

States = list[list[Val]]


class Loops(Protocol):
    """What a sweep needs of the loops around it; see `codegen`."""

    kernel: Kernel
    plan: Schedule
    e: Emitter
    ev: Evaluator

    def vector_loop(self, axis: Axis, lo: Val, hi: Val,
                    body: Callable[[Val | None], None]) -> None:
        """A vector loop with a tail."""

    def for_(self, lo: Val, hi: Val, step: int, states: States,
             turn: Callable[[Val, States], States]) -> States:
        """A serial loop."""

    def take(self, stage: Stage, accs: list[Accumulator], states: States, mask: Val | None,
             position: Val | None) -> States:
        """One turn of a stage."""

    def position(self, stage: Stage) -> Val | None:
        """The flat position of the turn."""

    def single(self, stage: Stage, mask: Val | None) -> None:
        """A stage without inner axes."""


class Sweep:
    """Reductions down wide columns: whole rows are read one after another, as they lie in memory,
    and the accumulators of a block of columns stand in memory near the processor."""

    ROWS = 4        # rows taken in for each trip of the accumulators through a register

    def __init__(self, loops: Loops, v: Axis, lo: Val, hi: Val) -> None:
        self.loops, self.v, self.lo, self.hi = loops, v, lo, hi
        self.e, self.ev = loops.e, loops.ev
        self.memory: dict[int, list[Val]] = {}

    def run(self) -> None:
        """All stages, for the columns [lo, hi)."""
        self._allocate()
        for stage in self.loops.kernel.stages:
            if not stage.axes:
                self._columns(partial(self._last, stage))
                continue
            accs = [accumulator(r) for r in stage.reduces]
            self._columns(partial(self._start, stage, accs))
            self._rows(stage, accs, 0)

    def _allocate(self) -> None:
        width = self.loops.plan.block + self.loops.plan.lanes
        for r in self.loops.kernel.reduces:
            parts = accumulator(r).start(self.e, 1, self.e.const("i64", 0)
                                         if r.op.startswith("arg") else None)
            self.memory[r.number] = [self.e.stack(width * 8) for _ in parts]

    def _columns(self, body: Callable[[Val | None], None]) -> None:
        self.loops.vector_loop(self.v, self.lo, self.hi, body)

    def _place(self, number: int, part: int, dtype: str) -> Val:
        """Where the accumulators of this turn's columns stand."""
        column = self.ev.axes[self.v] - self.lo
        return self.e.gep(self.memory[number][part], column, _stored(dtype))

    def _load(self, r: Reduce) -> list[Val]:
        like = accumulator(r).start(self.e, 1, self.e.const("i64", 0)
                                    if r.op.startswith("arg") else None)
        out = []
        for i, v in enumerate(like):
            raw = self.e.load(self._place(r.number, i, v.dtype), _stored(v.dtype), self.ev.lanes)
            out.append(raw.ne(0) if v.dtype == "i1" else raw)
        return out

    def _store(self, r: Reduce, state: list[Val]) -> None:
        for i, v in enumerate(state):
            wide = self.e.splat(v, self.ev.lanes)
            wide = self.e.convert(wide, "bool") if v.dtype == "i1" else wide
            self.e.store(wide, self._place(r.number, i, v.dtype))

    def _start(self, stage: Stage, accs: list[Accumulator], mask: Val | None) -> None:
        for r, a in zip(stage.reduces, accs):
            zero = self.e.const("i64", 0) if a.is_arg else None
            self._store(r, a.start(self.e, self.ev.lanes, zero))

    def _known(self, before: Stage | None) -> None:
        """Make the results of the stages before this one known to expressions."""
        for stage in self.loops.kernel.stages:
            if stage is before:
                return
            for r in stage.reduces:
                self.ev.accs[r.number] = accumulator(r).result(self._load(r))

    def _last(self, stage: Stage, mask: Val | None) -> None:
        self._known(stage)
        self.loops.single(stage, mask)

    def _rows(self, stage: Stage, accs: list[Accumulator], depth: int) -> None:
        axis, ev = stage.axes[depth], self.ev
        extent = ev.extent(axis)

        def inner(rows: int, i: Val, states: States) -> States:
            with ev.scope():
                if depth < len(stage.axes) - 1:
                    ev.axes[axis] = i
                    self._rows(stage, accs, depth + 1)
                else:
                    self._columns(lambda mask: self._take(stage, accs, axis, i, rows, mask))
            return states

        rows = self.ROWS if depth == len(stage.axes) - 1 else 1
        full = extent
        if rows > 1:
            known = not extent.ref.startswith("%")
            full = self.e.const("i64", int(extent.ref) // rows * rows) if known else extent & -rows
            self.loops.for_(self.e.const("i64", 0), full, rows, [],
                            partial(inner, rows))
        self.loops.for_(full if rows > 1 else self.e.const("i64", 0), extent, 1, [],
                        partial(inner, 1))

    def _take(self, stage: Stage, accs: list[Accumulator], axis: Axis, first: Val, rows: int,
              mask: Val | None) -> None:
        self._known(stage)
        states = [self._load(r) for r in stage.reduces]
        for k in range(rows):
            with self.ev.inside():
                self.ev.axes[axis] = first + k if k else first
                states = self.loops.take(stage, accs, states, mask, self.loops.position(stage))
        for r, state in zip(stage.reduces, states):
            self._store(r, state)


def _stored(dtype: str) -> str:
    return "bool" if dtype == "i1" else dtype
