"""Updates by computed indices, made in their order by many warps: each place is one warp's.

    for t in order: out[key(t) + rest(p)] += value(t, p)     for all p

Where two turns t meet, both must be made by one thread, the earlier one first. Here the keys are
spread over warps by a hash. Every block works out the keys of some turns together, in shared
memory; then each warp lists its own of them, 32 at a glance, and makes them in this order, while
its lanes take neighbouring p. What meets again and again is added up in a register. The answer is
that of one thread that makes all turns, to the bit, however many warps there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

from weft.compiler.kernel.expr import walk
from weft.compiler.kernel.flatten import flatten
from weft.compiler.kernel.index import Atom, Axis, Index, Quotient, Remainder, Smaller, Value
from weft.compiler.kernel.ir import Kernel, Stage
from weft.compiler.types import Dim, numel
from weft.devices.gpu.loops import KernelCode, Loops, place, signature
from weft.devices.gpu.lower import apply, load_value, memory_type, reg, store_value
from weft.devices.gpu.schedule import MANY, Schedule, extent_of, known
from weft.devices.gpu.writer import fits_i32

__all__ = ["axes_of", "emit_updates"]

THREADS, WARP = 256, 32
GLANCE = 1024           # turns whose keys are in shared memory at a time
MOST_WARPS = 1 << 12
TOGETHER = 16           # turns of a warp whose values are read together
SPARE = 4               # warps for a key: few get two of them then


def emit_updates(kernel: Kernel, name: str) -> KernelCode | None:
    """The function of a kernel of ordered updates, None for others, and for too many of them."""
    flat = flatten(kernel)
    if not flat.updates or not flat.stages or not _suits(flat):
        return None
    stage = flat.stages[-1]
    turns = prod(map(extent_of, stage.ordered))
    others = [a for a in (*flat.axes, *stage.axes) if a not in stage.ordered]
    points = prod(map(extent_of, others))
    keys = min(turns, -(-known(flat.types[flat.updates].size) // points))
    owners = THREADS // WARP
    while owners < SPARE * keys and owners * -(-points // WARP) < MOST_WARPS:
        owners *= 2
    return _Owned(flat, Schedule("points", THREADS, (1,) * len(flat.stages)), name, owners).emit()


def _suits(kernel: Kernel) -> bool:
    """Whether places, guards and checks of one store vary with ordered turns alone, and nothing
    reads what is updated."""
    *before, last = kernel.stages
    axes = (*kernel.axes, *last.axes)
    turns = frozenset(last.ordered)
    if not turns or len(last.stores) != 1 or prod(map(extent_of, last.ordered)) >= MANY \
            or any(s.stores or s.reduces for s in before) or last.reduces or kernel.scratch \
            or any(isinstance(a.extent, Index) for a in axes):
        return False
    (s,) = last.stores
    alone = [*([s.guard] if s.guard is not None else []), *(c.value for c in last.checks)]
    return kernel.types[s.buffer].size != 0 and numel(_size(axes)) != 0 \
        and all(e.axes <= turns for e in alone) \
        and all(a <= turns or not a & turns for a in map(axes_of, _atoms(s.index[0]))) \
        and not any(e.kind == "load" and e.what == kernel.updates for e in walk(*last.roots))


def _size(axes: Sequence[Axis]) -> Iterator[Dim]:
    for a in axes:
        assert not isinstance(a.extent, Index)
        yield a.extent


def _atoms(index: Index) -> list[Atom]:
    return [atom for atom, _ in index.terms]


def axes_of(atom: Atom) -> frozenset[Axis]:
    """The axes that an atom varies with."""
    if isinstance(atom, Axis):
        return frozenset((atom,))
    if isinstance(atom, Value):
        return frozenset(atom.expr.axes)
    if isinstance(atom, Smaller):
        inner = (*_atoms(atom.a), *_atoms(atom.b))
    else:
        assert isinstance(atom, (Quotient, Remainder))
        inner = (*_atoms(atom.of),)
    return frozenset().union(*map(axes_of, inner))


class _Owned(Loops):
    """Writes the function; `owners` warps share the keys, for each 32 of the other axes' points."""

    def __init__(self, kernel: Kernel, plan: Schedule, name: str, owners: int) -> None:
        super().__init__(kernel, plan, name)
        self.owners = owners
        self.stage: Stage = kernel.stages[-1]
        self.store = self.stage.stores[0]
        self.others = [a for a in (*kernel.axes, *self.stage.axes)
                       if a not in self.stage.ordered]
        index = self.store.index[0]
        turns = frozenset(self.stage.ordered)
        own = [t for t in index.terms if axes_of(t[0]) <= turns]
        self.key = Index(tuple(own), index.const)
        self.rest = Index(tuple(t for t in index.terms if t not in own))
        self.type = "i32" if fits_i32(index) else "i64"

    def emit(self) -> KernelCode:
        """The function."""
        w, ev = self.w, self.ev
        for stage in self.kernel.stages[:-1]:
            self._points(stage, 1)
        total, points = numel(_size(self.stage.ordered)), numel(_size(self.others))
        kind = "i32" if isinstance(total, int) else "i64"
        groups = self.owners * WARP // THREADS
        w.line(f"__shared__ {self.type} keys[{GLANCE}];")
        w.line(f"__shared__ u16 lists[{THREADS // WARP}][{GLANCE}];")
        w.line(f"const i32 lane = (i32)threadIdx.x % {WARP};")
        w.line(f"u16* const list = lists[threadIdx.x / {WARP}];")
        w.line(f"const u32 own = blockIdx.x % {groups} * {THREADS // WARP} + "
               f"threadIdx.x / {WARP};")
        wide = "i32" if isinstance(points, int) and points < 1 << 30 else "i64"
        w.line(f"{wide} point = ({wide})(blockIdx.x / {groups}) * {WARP} + lane;")
        w.line(f"const bool live = point < {ev.dim(points, wide)};")
        w.line("if (!live) point = 0;")
        place(ev, "point", self.others, wide)
        dtype = self.kernel.types[self.store.buffer].dtype
        w.line(f"{memory_type(dtype)}* const at = {self.store.buffer} + "
               f"({ev.index_as(self.rest, 'i64')});")
        w.line(f"{reg(dtype)} sum = {{}};")
        w.line(f"{self.type} held = -1;")
        end = ev.dim(total, kind)
        with ev.scope(f"for ({kind} base = 0; base < {end}; base += {GLANCE})"):
            w.line("__syncthreads();")
            self._glance(kind, end)
            w.line("__syncthreads();")
            self._pick(kind, end)
        w.line(f"if (live && held >= 0) at[held] = {store_value('sum', dtype)};")
        head = signature(self.kernel, self.name, THREADS, bool(self.checks))
        plan = f"updates in their order, {THREADS} threads, {self.owners} warps share the places"
        text = "\n".join([f"// {plan}", head + " {", *w.lines, "}", ""])
        return KernelCode(self.name, text, THREADS, ((groups, 1), (points, WARP)), 0, self.checks,
                          plan)

    def _glance(self, kind: str, end: str) -> None:
        """The keys of the next turns, -1 for those that write nothing."""
        w, ev = self.w, self.ev
        with ev.scope(f"for (i32 q = (i32)threadIdx.x; q < {GLANCE}; q += {THREADS})"):
            w.line(f"{self.type} key = -1;")
            with ev.scope(f"if (base + q < {end})"):
                w.line(f"const {kind} turn = base + q;")
                place(ev, "turn", self.stage.ordered, kind)
                conditions, ok = [], ""
                for c in self.stage.checks:
                    ok = self._check(c, ok)
                conditions += [ok] if ok else []
                if self.store.guard is not None:
                    conditions.append(ev.value(self.store.guard))
                text = f"key = {ev.index_as(self.key, self.type)};"
                w.line(f"if ({' && '.join(conditions)}) {text}" if conditions else text)
            w.line("keys[q] = key;")

    def _pick(self, kind: str, end: str) -> None:
        """This warp's turns, listed in their order, then made one after another."""
        w, ev = self.w, self.ev
        w.line("i32 count = 0;")
        with ev.scope(f"for (i32 q = lane; q - lane < {GLANCE} && base + (q - lane) < {end}; "
                      f"q += {WARP})"):
            w.line("const bool mine = keys[q] >= 0 && "
                   f"w_owner((u64)keys[q], {self.owners}u) == own;")
            w.line("const u32 all = __ballot_sync(0xFFFFFFFFu, mine);")
            w.line("if (mine) list[count + __popc(all & ((1u << lane) - 1u))] = (u16)q;")
            w.line("count += __popc(all);")
        w.line("__syncwarp();")
        with ev.scope(f"for (i32 first = 0; first < count; first += {TOGETHER})"):
            w.line(f"i32 next[{TOGETHER}];")
            w.line("#pragma unroll")
            w.line(f"for (i32 i = 0; i < {TOGETHER}; ++i) "
                   "next[i] = (i32)list[first + i < count ? first + i : first];")
            self._values(kind)
            w.line("#pragma unroll")
            with ev.scope(f"for (i32 i = 0; i < {TOGETHER}; ++i)"), \
                    ev.scope("if (first + i < count)"):
                self._update()

    def _values(self, kind: str) -> None:
        """The values of some turns, read one behind another without waiting."""
        w, ev = self.w, self.ev
        w.line(f"{reg(self.store.value.dtype)} values[{TOGETHER}];")
        w.line("#pragma unroll")
        with ev.scope(f"for (i32 i = 0; i < {TOGETHER}; ++i)"):
            w.line(f"const {kind} turn = base + next[i];")
            place(ev, "turn", self.stage.ordered, kind)
            w.line(f"values[i] = {ev.value(self.store.value)};")

    def _update(self) -> None:
        w, ev, s = self.w, self.ev, self.store
        dtype = self.kernel.types[s.buffer].dtype
        w.line(f"const {self.type} key = keys[next[i]];")
        with ev.scope("if (key != held)"):
            w.line(f"if (live && held >= 0) at[held] = {store_value('sum', dtype)};")
            w.line("held = key;")
            if s.combine:
                w.line(f"sum = {load_value('at[key]', dtype)};")
        new = apply(s.combine, dtype, ["sum", "values[i]"], [dtype, dtype]) if s.combine \
            else "values[i]"
        w.line(f"sum = {new};")
