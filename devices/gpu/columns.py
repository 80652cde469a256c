"""Loops over rows that lie side by side: sums over the first axis, and the like.

A thread has some neighbouring rows (columns, where memory is looked at) and reads their elements as
one vector, as `Schedule.columns` says. Its loop over the turns is unrolled, so that several loads
are under way; compensated sums take their runs of 16 as a loop of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod

from weft.compiler.kernel.expr import walk
from weft.compiler.kernel.index import Axis, Index, as_index
from weft.compiler.kernel.ir import Kernel, Stage
from weft.compiler.types import Dim, numel
from weft.devices.gpu.accumulate import RUN, Accumulator, accumulator
from weft.devices.gpu.loops import Loops, place
from weft.devices.gpu.lower import reg
from weft.devices.gpu.schedule import Schedule
from weft.devices.gpu.writer import fits_i32

__all__ = ["Columns"]

UNDER_WAY = 8           # loads of a thread


class Columns(Loops):
    """Writes a kernel whose threads have neighbouring rows."""

    def __init__(self, kernel: Kernel, plan: Schedule, name: str,
                 unaligned: frozenset[str] = frozenset()) -> None:
        super().__init__(kernel, plan, name, unaligned)
        self.last = kernel.axes[-1]
        self.ev.varying = plan.columns > 1
        self._run = False       # whether sums are taken in runs

    def _row_stage(self, stage: Stage, number: int, live: str) -> None:
        ev, w, plan = self.ev, self.w, self.plan
        ev.hoist(stage.roots, self._changing(stage.axes), self.scratch)
        turns = None
        if all(isinstance(a.extent, int) for a in stage.axes):
            turns = -(-prod(a.extent for a in stage.axes if isinstance(a.extent, int)) // plan.team)
        accs = [accumulator(r, f"s{r.number}", turns, plan.columns) for r in stage.reduces]
        for a in accs:
            a.start(w)
        if not stage.axes:
            self._once(stage, accs, live)
        elif plan.held[number]:
            self._shared(stage, number, accs, live)
        else:
            self._turns(stage, accs, stage.axes, live)
        for r, a in zip(stage.reduces, accs):
            self._finished(stage, r.number, reg(r.dtype), a)

    def _changing(self, axes: Sequence[Axis]) -> tuple[Axis, ...]:
        return (*axes, self.last) if self.plan.columns > 1 else tuple(axes)

    def _finished(self, stage: Stage, number: int, type: str, a: Accumulator) -> None:
        """The team's results, one for each column."""
        w, columns, name = self.w, self.plan.columns, f"acc{number}"
        text = a.result(self._joined(a) if stage.axes else a.own())
        if columns == 1:
            w.line(f"const {type} {name} = {text};")
        else:
            w.line(f"{type} {name}[{columns}];")
            w.line("#pragma unroll")
            w.line(f"for (i32 u = 0; u < {columns}; ++u) {name}[u] = {text};")
            name += "[u]"
        self.ev.accs[number] = name

    def _once(self, stage: Stage, accs: list[Accumulator], live: str) -> None:
        """A stage without a loop, for all columns; one thread of the team stores."""
        if self.plan.columns == 1:
            super()._once(stage, accs, live)
        elif accs or self.plan.team == 1:
            self._element(stage, accs, live)
        elif stage.stores or stage.checks:
            with self.ev.scope(f"if (lane == 0{f' && {live}' if live else ''})"):
                self._element(stage, accs, "")

    def _turns(self, stage: Stage, accs: list[Accumulator], axes: Sequence[Axis], live: str
               ) -> None:
        """Loops over the outer axes, of which the team shares the innermost, or all as one."""
        ev, first = self.ev, axes[0]
        whole = len(axes) > 1 and self.plan.team > 1 and \
            all(isinstance(a.extent, int) for a in axes)
        if len(axes) > 1 and not whole:
            with self._loop(first):
                ev.hoist(stage.roots, self._changing(axes[1:]), (*self.scratch, *self._written()))
                self._turns(stage, accs, axes[1:], live)
        else:
            extent = as_index(_total(axes)) if whole or not isinstance(first.extent, Index) \
                else first.extent
            kind = "i32" if fits_i32(extent) else "i64"
            self._loop_of_runs(stage, accs, axes, kind, ev.index_as(extent, kind), live)

    def _loop_of_runs(self, stage: Stage, accs: list[Accumulator], axes: Sequence[Axis], kind: str,
                      end: str, live: str) -> None:
        """The loop over q that threads share; sums that are compensated are taken in runs."""
        w, ev, team = self.w, self.ev, self.plan.team
        lane = "lane" if team > 1 else "0"
        loads = sum(e.kind == "load" and bool(e.axes & frozenset(axes))
                    for e in walk(*stage.roots))
        unroll = f"#pragma unroll {max(2, UNDER_WAY // max(1, loads))}"
        body = partial(self._turn_of, stage, accs, axes, kind, live)
        if not any(a.compensated for a in accs):
            w.line(unroll)
            with ev.scope(f"for ({kind} q = {lane}; q < {end}; q += {team})"):
                body()
            return
        self._run = True
        with ev.scope(f"for ({kind} run = {lane}; run < {end}; run += {RUN * team})"):
            with ev.scope(f"if (run + {(RUN - 1) * team} < {end})"):
                w.line(unroll)
                with ev.scope(f"for (i32 t = 0; t < {RUN}; ++t)"):
                    w.line(f"const {kind} q = run + t * {team};")
                    body()
            with ev.scope(f"else for ({kind} q = run; q < {end}; q += {team})"):
                body()
            for a in accs:
                a.flush(w)
        self._run = False

    def _turn_of(self, stage: Stage, accs: list[Accumulator], axes: Sequence[Axis], kind: str,
                 live: str) -> None:
        if len(axes) == 1:
            self.ev.axes[axes[0]] = "q"
        else:
            place(self.ev, "q", axes, kind)
        self._element(stage, accs, live)

    def _element(self, stage: Stage, accs: list[Accumulator], live: str) -> None:
        """One turn, for all of the thread's columns."""
        if self.plan.columns > 1:
            self._vector(stage, self.last, accs, self.plan.columns, "", live)
        else:
            self._held_turn(stage, accs, "", live, {})

    def _take(self, stage: Stage, accs: list[Accumulator], position: str) -> None:
        for r, a in zip(stage.reduces, accs):
            a.take(self.w, self.ev.value(r.value), lambda: position, self._run)

    def _position(self, axes: Sequence[Axis]) -> str:
        # within ragged loops nothing asks for it
        return "0" if any(isinstance(a.extent, Index) for a in axes) else super()._position(axes)


def _total(axes: Sequence[Axis]) -> Dim:
    return numel(a.extent for a in axes if not isinstance(a.extent, Index))
