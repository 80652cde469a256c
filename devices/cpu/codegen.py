"""Loops: from a kernel and its schedule to an LLVM function.

A unit of work is one row, or a block of one row axis for kernels that run across rows. Inside, the
stages follow one another; each is a nest of serial loops around one vector loop, with a masked or
scalar tail for what does not fill the lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

from weft.compiler.kernel.expr import Expr
from weft.compiler.kernel.flatten import flatten
from weft.compiler.kernel.index import Axis, Index
from weft.compiler.kernel.ir import Check, Kernel, Stage, Store
from weft.compiler.target import Target
from weft.compiler.types import Dim, numel
from weft.devices.cpu.accumulate import Accumulator, accumulator, compensated, two_sum
from weft.devices.cpu.code import KernelCode, Phase
from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.evaluate import Evaluator
from weft.devices.cpu.interleave import side_by_side
from weft.devices.cpu.schedule import Schedule, schedule
from weft.devices.cpu.sweep import Sweep

__all__ = ["Loops", "emit_loops"]

States = list[list[Val]]

BLOCK_TURNS = 16           # turns of a vector loop added up plainly before compensation
STACK_BYTES = 16 << 10     # scratch rows up to this size live on the stack


def emit_loops(kernel: Kernel, name: str, target: Target) -> KernelCode:
    """Code for any kernel, by the general schedules."""
    return Loops(flatten(kernel), name, target).emit()


def dim_product(axes: Sequence[Axis]) -> Dim:
    """Points of an index space whose extents are plain sizes."""
    return numel(a.extent for a in axes if not isinstance(a.extent, Index))


class Loops:
    """Writes the function of a kernel by its schedule."""

    def __init__(self, kernel: Kernel, name: str, target: Target) -> None:
        self.kernel = kernel
        self.name = name
        self.target = target
        self.plan: Schedule = schedule(kernel, target)
        self.e = Emitter(target)
        self.status: Val | None = None

    # ---- the function

    def emit(self) -> KernelCode:
        """The function."""
        k, e = self.kernel, self.e
        ctx = e.arg("ctx", "ptr")
        pointers = {}
        for i, (name, _) in enumerate(k.buffers):
            pointers[name] = e.load(e.gep(ctx, i, "ptr"), "ptr")
        n = len(k.buffers)
        dims = self._dims(ctx, n)
        self.status = e.load(e.gep(ctx, n + 1, "ptr"), "ptr") if self._checks else None
        release = self._scratch(pointers)
        self.ev: Evaluator = Evaluator(e, pointers, k.types, dims)
        self.ev.lane_scratch = frozenset(s for s, _ in k.scratch) if self.plan.across \
            else frozenset()
        self.ev.hoist([r for s in k.stages for r in s.roots],
                      [*k.axes, *(a for s in k.stages for a in s.axes)])
        with e.loop(e.arg("lo", "i64"), e.arg("hi", "i64"), stem="unit") as unit, self.ev.scope():
            self._unit(unit.i)
        release()
        self._fence()
        e.write("ret void")
        text = (f"define internal void @{self.name}(ptr noalias %ctx, i64 %lo, i64 %hi) "
                + "\n".join(["{", "entry:", e.body(), "}", ""]))
        phase = Phase(self.name, self._units(), self.plan.grain, self.plan.parallel)
        return KernelCode(text, frozenset(e.declares), dict(getattr(e, "helpers", {})), (phase,))

    def _fence(self) -> None:
        """Streamed stores become visible before the function returns."""
        if self.plan.stream and self.target.triple.startswith(("x86_64", "amd64")):
            self.e.declares.add("declare void @llvm.x86.sse.sfence()")
            self.e.write("call void @llvm.x86.sse.sfence()")
        elif self.plan.stream:
            self.e.write("fence release")

    @property
    def _checks(self) -> bool:
        return any(s.checks for s in self.kernel.stages)

    def _dims(self, ctx: Val, n: int) -> dict[str, Val]:
        if not self.kernel.symbols:
            return {}
        table = self.e.load(self.e.gep(ctx, n, "ptr"), "ptr")
        return {s: self.e.load(self.e.gep(table, i, "i64"), "i64")
                for i, s in enumerate(self.kernel.symbols)}

    def _scratch(self, pointers: dict[str, Val]) -> Callable[[], None]:
        """Memory for scratch rows; returns what gives it back."""
        e, total, offsets = self.e, 0, {}
        for name, t in self.kernel.scratch:
            assert isinstance(t.nbytes, int)
            offsets[name] = total
            total += (t.nbytes * (self.plan.lanes if self.plan.across else 1) + 63) // 64 * 64
        if not total:
            return lambda: None
        if total <= STACK_BYTES:
            block = e.assign(f"alloca i8, i64 {total}, align 64", "ptr")
        else:
            e.declares.add("declare ptr @weft_alloc(i64)")
            block = e.assign(f"call ptr @weft_alloc(i64 {total})", "ptr")
        for name, offset in offsets.items():
            pointers[name] = e.gep(block, offset, "i8")

        def release() -> None:
            if total > STACK_BYTES:
                e.declares.add("declare void @weft_free(ptr)")
                e.write(f"call void @weft_free(ptr {block.ref})")
        return release

    def _units(self) -> Dim:
        k = self.kernel
        if not self.plan.across:
            return dim_product(k.axes)
        if not k.axes:
            return 1
        rows = dim_product(k.axes[:-1])
        width = k.axes[-1].extent
        assert not isinstance(width, Index)
        if isinstance(width, int):
            return rows * -(-width // self.plan.block)
        return rows  # a symbolic width is one block

    # ---- one unit

    def _unit(self, unit: Val) -> None:
        k, ev = self.kernel, self.ev
        if not self.plan.across:
            self._place(unit, k.axes)
            for stage in k.stages:
                self._stage_along(stage)
            return
        if not k.axes:
            self._body_across(None)
            return
        *outer, v = k.axes
        lo, hi = self._block(unit, outer, v)
        if self.plan.sweep:
            Sweep(self, v, lo, hi).run()
            return
        ev.hoist([r for s in k.stages for r in s.roots],
                 (v, *(a for s in k.stages for a in s.axes)))
        self.vector_loop(v, lo, hi, lambda live: self._body_across(live))

    def _place(self, point: Val, axes: Sequence[Axis]) -> None:
        """Set the axes from a flat number of a point in their space."""
        for axis, after in zip(axes, [*pairwise(axes), None]):
            self.ev.axes[axis] = point
            if after is not None:
                step = self.ev.dim(dim_product(axes[list(axes).index(axis) + 1:]))
                q = self.e.binary("div", Val(self.e, point.ref, "u64"), Val(self.e, step.ref,
                                                                             "u64"))
                quotient = Val(self.e, q.ref, "i64")
                self.ev.axes[axis] = quotient
                point = point - quotient * step

    def _block(self, unit: Val, outer: list[Axis], v: Axis) -> tuple[Val, Val]:
        """Place the outer axes; the range of the last row axis that this unit covers."""
        e, width = self.e, v.extent
        assert not isinstance(width, Index)
        if not isinstance(width, int):
            self._place(unit, outer)
            return e.const("i64", 0), self.ev.dim(width)
        blocks = -(-width // self.plan.block)
        if blocks <= 1:
            self._place(unit, outer)
            return e.const("i64", 0), e.const("i64", width)
        row, number = unit, unit
        if outer:
            u = e.binary("div", Val(e, unit.ref, "u64"), e.const("u64", blocks))
            row = Val(e, u.ref, "i64")
            number = unit - row * blocks
            self._place(row, outer)
        lo = number * self.plan.block
        hi = e.intrinsic("smin", lo + self.plan.block, e.const("i64", width))
        return lo, hi

    # ---- vector loops

    def vector_loop(self, axis: Axis, lo: Val, hi: Val,
                     body: Callable[[Val | None], None]) -> None:
        """`body(mask)` for all of [lo, hi) along the axis, lanes at a time; no carried values."""
        e, ev, lanes = self.e, self.ev, self.plan.lanes

        def turn(width: int, mask: Val | None, i: Val, states: States) -> States:
            with ev.scope():
                ev.axes[axis], ev.vector, ev.lanes, ev.mask = i, axis, width, mask
                body(mask)
            return states

        full = self._full(lo, hi, lanes)
        self.for_(lo, full, lanes, [], partial(turn, lanes, None))
        if self._divides(axis, lanes) or lanes == 1:
            return
        if self.target.masked:
            mask = e.iota("i64", lanes) < e.splat(hi - full, lanes)
            self.for_(full, hi, lanes, [], partial(turn, lanes, mask))
        else:
            self.for_(full, hi, 1, [], partial(turn, 1, None))

    def for_(self, lo: Val, hi: Val, step: int, states: States,
             turn: Callable[[Val, States], States]) -> States:
        """A loop carrying states; without the loop where it is known to take at most one turn."""
        if not lo.ref.startswith("%") and not hi.ref.startswith("%"):
            turns = -(-(int(hi.ref) - int(lo.ref)) // step)
            if turns <= 1:
                return turn(lo, states) if turns == 1 else states
        with self.e.loop(lo, hi, step, carry=_flat(states)) as loop:
            loop.next = _flat(turn(loop.i, _unflat(loop.carry, states)))
        return _unflat(loop.out, states)

    def _full(self, lo: Val, hi: Val, lanes: int) -> Val:
        """The end of the part of [lo, hi) that fills all lanes."""
        if lanes == 1:
            return hi
        if not lo.ref.startswith("%") and not hi.ref.startswith("%"):
            a, b = int(lo.ref), int(hi.ref)
            return self.e.const("i64", a + (b - a) // lanes * lanes)
        return lo + ((hi - lo) & -lanes)

    def _divides(self, axis: Axis, lanes: int) -> bool:
        return isinstance(axis.extent, int) and axis.extent % lanes == 0

    # ---- stages across rows: lanes along the last row axis

    def _body_across(self, mask: Val | None) -> None:
        for stage in self.kernel.stages:
            if not stage.axes:
                self.single(stage, mask)
                continue
            self.ev.hoist(stage.roots, stage.axes)
            accs = self._accumulators(stage)
            start = [self._first(a, self.ev.lanes) for a in accs]
            states = self._serial(stage, accs, start, 0, mask)
            self._finish(stage, accs, states)

    def _serial(self, stage: Stage, accs: list[Accumulator], states: States, depth: int,
                mask: Val | None) -> States:
        """Serial loops over the inner axes from `depth` on, carrying the states."""
        e, ev = self.e, self.ev
        if depth == len(stage.axes):
            return self.take(stage, accs, states, mask, self.position(stage))
        axis = stage.axes[depth]
        if depth:
            ev.hoist(stage.roots, stage.axes[depth:])
        def turn(i: Val, now: States) -> States:
            with ev.scope():
                ev.axes[axis] = i
                return self._serial(stage, accs, now, depth + 1, mask)

        return self.for_(e.const("i64", 0), ev.extent(axis), 1, states, turn)

    # ---- stages along rows: lanes along the stage's last inner axis

    def _stage_along(self, stage: Stage) -> None:
        e, ev = self.e, self.ev
        if not stage.axes:
            self.single(stage, None)
            return
        ev.hoist(stage.roots, stage.axes)
        accs = self._accumulators(stage)
        start = [self._start(a, self.plan.lanes) for a in accs]
        states, tails = self._along(stage, accs, start, 0)
        done = []
        for a, state, tail in zip(accs, states, tails):
            out = self._across_lanes(a, state)
            done.append(a.join(e, out, tail) if tail is not None else out)
        self._finish(stage, accs, done)

    def _accumulators(self, stage: Stage) -> list[Accumulator]:
        turns = stage.most_turns
        return [accumulator(r, turns) for r in stage.reduces]

    def _first(self, a: Accumulator, lanes: int) -> list[Val]:
        """The state before any value, where all lanes begin with the first turn."""
        return a.start(self.e, lanes, self.e.const(a.position, 0) if a.is_arg else None)

    def _start(self, a: Accumulator, lanes: int) -> list[Val]:
        """The state before any value, where the first turns are those of the lanes."""
        state = a.start(self.e, lanes, self.e.iota(a.position, lanes) if a.is_arg else None)
        if a.is_blocked:
            rest = [self.e.const(v.dtype, 0.0, lanes) for v in state]
            return [*state, *rest]
        return state

    def _across_lanes(self, a: Accumulator, state: list[Val]) -> list[Val]:
        if a.is_blocked:
            n = len(state) // 2
            state = [compensated(self.e, s, r) for s, r in zip(state[:n], state[n:])]
        return a.across(self.e, state)

    def _along(self, stage: Stage, accs: list[Accumulator], states: States, depth: int
               ) -> tuple[States, list[list[Val] | None]]:
        """The nest from `depth` on. States are vectors; a scalar tail has states of its own,
        which are joined in before the next outer turn."""
        e, ev = self.e, self.ev
        axis = stage.axes[depth]
        if depth == len(stage.axes) - 1:
            return self._innermost(stage, accs, states, axis)
        if depth:
            ev.hoist(stage.roots, stage.axes[depth:])
        tail_start = [self._first(a, 1) for a in accs]
        n = len(states)

        def turn(i: Val, now: States) -> States:
            with ev.scope():
                ev.axes[axis] = i
                out, tails = self._along(stage, accs, now[:n], depth + 1)
                joined = [old if t is None else a.join(e, old, t)
                          for a, old, t in zip(accs, now[n:], tails)]
                return [*out, *joined]

        done = self.for_(e.const("i64", 0), ev.extent(axis), 1, [*states, *tail_start], turn)
        needed = not (self.target.masked or self.plan.lanes == 1)
        return done[:n], [t if needed else None for t in done[n:]]

    def _innermost(self, stage: Stage, accs: list[Accumulator], states: States,
                   axis: Axis) -> tuple[States, list[list[Val] | None]]:
        e, ev, lanes = self.e, self.ev, self.plan.lanes
        if len(stage.axes) > 1:
            ev.hoist(stage.roots, (axis,))
        lo, hi = e.const("i64", 0), ev.extent(axis)
        full = self._full(lo, hi, lanes)

        def turn(i: Val, width: int, mask: Val | None, now: States) -> States:
            with ev.scope():
                ev.axes[axis], ev.vector, ev.lanes, ev.mask = i, axis, width, mask
                return self.take(stage, accs, now, mask, self.position(stage))

        states = self._blocks(accs, states, lo, full, turn) if any(
            a.is_blocked for a in accs) else self._plain(states, lo, full, turn)
        none: list[list[Val] | None] = [None for _ in accs]
        if self._divides(axis, lanes) or lanes == 1:
            return states, none
        if self.target.masked:
            return self._masked_tail(states, full, hi, turn), none
        tails = [self._first(a, 1) for a in accs]
        return states, list(self.for_(full, hi, 1, tails, lambda i, now: turn(i, 1, None, now)))

    def _plain(self, states: States, lo: Val, full: Val,
               turn: Callable[..., States]) -> States:
        lanes = self.plan.lanes
        return self.for_(lo, full, lanes, states, lambda i, now: turn(i, lanes, None, now))

    def _blocks(self, accs: list[Accumulator], states: States, lo: Val, full: Val,
                turn: Callable[..., States]) -> States:
        """Float sums in blocks: plain sums of a few turns, joined with two-sum compensation."""
        e, lanes = self.e, self.plan.lanes
        size = BLOCK_TURNS * lanes

        def block(i: Val, outer: States) -> States:
            end = full if self._at_most(i, full, size) else e.intrinsic("smin", i + size, full)
            fresh = [self._fresh(a, s) for a, s in zip(accs, outer)]
            inner = self.for_(i, end, lanes, fresh, lambda j, now: turn(j, lanes, None, now))
            return [self._add_block(a, old, new) for a, old, new in zip(accs, outer, inner)]

        return self.for_(lo, full, size, states, block)

    def _at_most(self, lo: Val, hi: Val, size: int) -> bool:
        constant = not lo.ref.startswith("%") and not hi.ref.startswith("%")
        return constant and int(hi.ref) - int(lo.ref) <= size

    def _fresh(self, a: Accumulator, state: list[Val]) -> list[Val]:
        return a.start(self.e, self.plan.lanes) if a.is_blocked else state

    def _add_block(self, a: Accumulator, old: list[Val], new: list[Val]) -> list[Val]:
        if not a.is_blocked:
            return new
        n = len(new)
        pairs = [two_sum(self.e, s, r, x) for s, r, x in zip(old[:n], old[n:], new)]
        return [s for s, _ in pairs] + [r for _, r in pairs]

    def _masked_tail(self, states: States, full: Val, hi: Val,
                     turn: Callable[..., States]) -> States:
        e, lanes = self.e, self.plan.lanes
        mask = e.iota("i64", lanes) < e.splat(hi - full, lanes)
        # a loop of at most one turn: the states pass it unchanged where nothing is left over
        return self.for_(full, hi, lanes, states, lambda i, now: turn(i, lanes, mask, now))

    # ---- one turn

    def position(self, stage: Stage) -> Val | None:
        """The flat position of this turn in the stage's inner space (for argmax)."""
        if not any(r.op in ("argmax", "argmin") for r in stage.reduces):
            return None
        flat = Index(((stage.axes[0], 1),))
        for axis in stage.axes[1:]:
            assert not isinstance(axis.extent, Index)
            flat = flat * axis.extent + Index(((axis, 1),))
        turns = stage.most_turns
        return self.ev.index(flat) if turns is None or turns >= 1 << 31 else \
            self.ev.narrow_index(flat)

    def take(self, stage: Stage, accs: list[Accumulator], states: States,
              mask: Val | None, position: Val | None) -> States:
        """Evaluate one turn: checks and stores, and every reduction's next state."""
        out = []
        for a, r, state in zip(accs, stage.reduces, states):
            value = self.ev.value(r.value)
            n = len(state) // 2 if a.is_blocked and len(state) == 2 * self._parts(a) else 0
            own = a.take(self.e, state[:n] if n else state, value, mask, position)
            out.append([*own, *state[n:]] if n else own)
        self._turn(stage, mask)
        return out

    def _parts(self, a: Accumulator) -> int:
        return 2 if a.dtype.is_complex else 1

    def _turn(self, stage: Stage, mask: Val | None) -> None:
        for number, c in enumerate(stage.checks):
            self._check(c, self.ev.real(c.value), mask, number)
        v = self.ev.vector if mask is None and self.ev.lanes > 1 and not self.kernel.updates \
            else None
        for group in side_by_side(stage.stores, v) if v else [[w] for w in stage.stores]:
            if len(group) > 1:
                self.ev.store_interleaved(group[0].buffer, group[0].index[0],
                                          [self.ev.value(w.value) for w in group])
                continue
            (w,) = group
            streamed = self.plan.stream and mask is None and self.ev.lanes == self.plan.lanes
            if w.guard is None:
                self.ev.put(w, mask, streamed)
            else:
                self._guarded(w, w.guard, mask)

    def _guarded(self, w: Store, guard: Expr, mask: Val | None) -> None:
        """A store in the lanes where its guard is true; what it stores is computed if any is."""
        e, ev = self.e, self.ev
        some = live = ev.real(guard)
        if live.lanes > 1:
            live = live if mask is None else live & mask
            some, mask = e.any(live), live
        with e.when(some, "guarded"), ev.scope():
            ev.mask = mask
            ev.put(w, mask)

    def single(self, stage: Stage, mask: Val | None) -> None:
        """A stage without inner axes: a reduction over no more than one element is that element."""
        for r in stage.reduces:
            a = accumulator(r)
            self.ev.accs[r.number] = self.e.const("i64", 0) if a.is_arg else a.alone(
                self.e, self.ev.value(r.value))
        self._turn(stage, mask)

    def _check(self, c: Check, value: Val, mask: Val | None, number: int) -> None:
        e = self.e
        assert self.status is not None
        bound = e.like(value, self.ev.dim(c.size))
        bad = value < 0 if c.kind == "exponent" else (value >= bound) | (value < -bound)
        if mask is not None and bad.lanes > 1:
            bad = bad & mask
        with e.when(e.any(bad) if bad.lanes > 1 else bad, "bad"):
            self._report(value, bad, number)

    def _report(self, value: Val, bad: Val, number: int) -> None:
        e = self.e
        assert self.status is not None
        if value.lanes > 1:
            value = e.extract(value, e.first_set(bad))
        e.store(e.const("i32", number + 1), self.status)
        e.store(value, e.gep(self.status, 1, "i64"))

    def _finish(self, stage: Stage, accs: list[Accumulator], states: States) -> None:
        for r, a, state in zip(stage.reduces, accs, states):
            self.ev.accs[r.number] = a.result(state)


def _flat(states: Sequence[Sequence[Val]]) -> list[Val]:
    return [v for s in states for v in s]


def _unflat(values: Sequence[Val], like: Sequence[Sequence[Val]]) -> States:
    it = iter(values)
    return [[next(it) for _ in s] for s in like]
