"""Loops: from a kernel and its schedule to a CUDA C++ function.

The function takes pointers to the kernel's buffers, the values of its symbolic sizes, and, where it
checks indices, a status: two 64-bit numbers, which of the checks failed and on what value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import prod

from weft.compiler.kernel.expr import Expr, walk
from weft.compiler.kernel.index import Axis, Index, as_index
from weft.compiler.kernel.ir import Check, Kernel, Stage, Store
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import Dim, numel
from weft.devices.gpu.accumulate import Accumulator, accumulator
from weft.devices.gpu.lower import apply, load_value, memory_type, reg, store_value
from weft.devices.gpu.schedule import Schedule, places, unit_accesses
from weft.devices.gpu.writer import Evaluator, Writer, fits_i32

__all__ = ["KernelCode", "Loops", "place", "signature"]

MOST_BLOCKS = 1 << 14       # of a kernel whose threads go on to more points
JOIN_BYTES = 32             # the most that one thread gives to others: a c128 and its position


@dataclass(frozen=True)
class KernelCode:
    """A kernel's function: its text, and how it is launched.

    There are as many blocks of `threads` as the product of the `blocks`, which are sizes and how
    many of each a block takes, but at most `most`, if that is not 0. The last argument of a kernel
    with `checks` is the number of the first of these in the status. One that `marks` is launched
    twice, as `name`_mark and then as `name`, both with memory of so many bytes, zeros at first, as
    their last argument. Blocks have `shared` bytes of dynamic shared memory (`w_memory`).
    """

    name: str
    text: str
    threads: int
    blocks: tuple[tuple[Dim, int], ...]
    most: int = 0
    checks: tuple[Check, ...] = ()
    plan: str = ""
    marks: Dim = 0
    shared: int = 0


def signature(kernel: Kernel, name: str, threads: int, checks: bool = False, marks: bool = False,
              blocks: int = 0) -> str:
    """The head of a kernel's function, of which so many `blocks` are to fit a multiprocessor."""
    updated = {kernel.updates} if kernel.updates else set()
    args = []
    for n, t in kernel.buffers:
        const = "" if n in kernel.outputs else "const "
        restrict = "" if kernel.shares or updated else "__restrict__ "
        args.append(f"{const}{memory_type(t.dtype)}* {restrict}{n}")
    args += [f"i64 n_{s}" for s in kernel.symbols]
    if checks:
        args += ["i64* status", "i64 first_check"]
    if marks:
        args.append("u32* marks")
    bounds = f"{threads}, {blocks}" if blocks else f"{threads}"
    return f'extern "C" __global__ void __launch_bounds__({bounds}) {name}({", ".join(args)})'


class Loops:
    """Writes the function of a flattened kernel by its schedule."""

    def __init__(self, kernel: Kernel, plan: Schedule, name: str,
                 unaligned: frozenset[str] = frozenset(), marking: bool = False) -> None:
        """With `marking`, it only finds out which of the updates that meet is the last."""
        self.marking = marking
        self.kernel = kernel
        self.plan = plan
        self.name = name
        self.unaligned = unaligned
        self.w = Writer()
        self.ev = Evaluator(kernel, self.w)
        self.checks = tuple(c for s in kernel.stages for c in s.checks)
        self.units: Dim = 0
        self.per_unit = 1                   # of which a thread takes so many
        self.joins = 0                      # bytes of shared memory for joining
        self.scratch = {n for n, _ in kernel.scratch}
        self.kept: dict[Expr, str] = {}     # loads that later stages find in registers
        self.parked: dict[Expr, str] = {}   # and where in shared memory those of more turns are
        self._filled: set[Expr] = set()     # those that have been put there
        self._there = self.kept             # where turns find them
        self.dynamic = 0                    # bytes of dynamic shared memory

    def emit(self) -> KernelCode:
        """The function."""
        points = self.plan.kind == "points"
        if points:
            for stage, width in zip(self.kernel.stages, self.plan.vectors):
                self._points(stage, width)
        else:
            self._rows()
        head = signature(self.kernel, self.name, self.plan.threads, bool(self.checks),
                         self.plan.meeting == "last")
        shared = [f"  __shared__ __align__(16) u8 w_memory[{self.joins}];"] if self.joins else []
        text = "\n".join([f"// {self.plan}", head + " {", *shared, *self.w.lines, "}", ""])
        per_block = self.plan.threads if points else self.plan.threads // self.plan.team
        return KernelCode(self.name, text, self.plan.threads,
                          ((self.units, per_block * self.per_unit),), MOST_BLOCKS if points else 0,
                          self.checks, str(self.plan), shared=self.dynamic)

    # ---- points: each stage is a loop of its own over rows and inner axes

    def _points(self, stage: Stage, width: int) -> None:
        k, ev, w = self.kernel, self.ev, self.w
        serial = () if self.plan.meeting else stage.ordered
        axes = [a for a in (*k.axes, *stage.axes) if a not in serial]
        total = numel(_plain(a) for a in axes)
        if total == 0 or not (stage.stores or stage.checks):
            return
        steps = _steps(axes, total, width)
        if steps is None:                   # vectors of an open length, the last of which is short
            self.units, self.per_unit = total, width
        elif _more(steps, self.units):
            self.units, self.per_unit = steps, 1
        kind = "i32" if isinstance(total, int) and total < 1 << 30 else "i64"
        if not axes:
            with ev.scope("if (blockIdx.x == 0 && threadIdx.x == 0)"):
                self._serial(stage, serial)
            return
        first, step = (f"({kind})blockIdx.x * {self.plan.threads} + ({kind})threadIdx.x",
                       f"({kind})gridDim.x * {self.plan.threads}")
        end = ev.dim(steps, kind) if steps is not None else \
            f"({ev.dim(total, kind)} + {width - 1}) / {width}"
        with ev.scope(f"for ({kind} p = {first}; p < {end}; p += {step})"):
            place(self.ev, "p", axes, kind, width)
            if width == 1:
                self._serial(stage, serial)
            else:
                self._vector_point(stage, axes, width, kind)
        w.depth = 1

    def _vector_point(self, stage: Stage, axes: list[Axis], width: int, kind: str) -> None:
        """A vector of points, or, where the last one is not whole, its points one by one."""
        ev, last = self.ev, axes[-1]
        base, end = ev.axes[last], ev.dim(_plain(last), kind)
        whole = isinstance(last.extent, int) and last.extent % width == 0
        if whole:
            self._vector(stage, last, [], width)
            return
        with ev.scope(f"if ({base} + {width} <= {end})"):
            self._vector(stage, last, [], width)
        with ev.scope(f"else for ({kind} e = {base}; e < {end}; ++e)"):
            ev.axes[last] = "e"
            self._turn(stage)

    def _vector(self, stage: Stage, last: Axis, accs: list[Accumulator], width: int,
                keep: str = "", live: str = "") -> None:
        """Code for `width` elements along the last axis, from its value on."""
        k, ev, w, base = self.kernel, self.ev, self.w, self.ev.axes[last]
        loads, stores = unit_accesses(k, stage, last, width, self.unaligned)
        ev.hoist(stage.roots, (last,), (*self.scratch, *self._written()))
        vectors = {}
        for e in loads:
            if not (keep and e in self.kept and e in self._filled):
                t = memory_type(k.types[e.what].dtype)
                name = vectors[e] = ev.fresh("x")
                read = f"*(const w_vec<{t}, {width}>*)({e.what} + ({ev.index(e.index[0])}));"
                if e.args:      # a condition that holds for all of them, or for none
                    w.line(f"w_vec<{t}, {width}> {name} = {{}};")
                    w.line(f"if ({ev.value(e.args[0])}) {name} = {read}")
                else:
                    w.line(f"const w_vec<{t}, {width}> {name} = {read}")
        out = {i: (ev.fresh("y"), memory_type(k.types[stage.stores[i].buffer].dtype))
               for i in stores}
        for name, t in out.values():
            w.line(f"w_vec<{t}, {width}> {name};")
        w.line("#pragma unroll")
        with ev.scope(f"for (i32 u = 0; u < {width}; ++u)"):
            ev.axes[last] = f"({base} + u)"
            for e, name in vectors.items():
                dtype = k.types[e.what].dtype
                ev.given[e] = ev.fresh()
                w.line(f"const {reg(dtype)} {ev.given[e]} = "
                       f"{load_value(f'{name}.v[u]', dtype)};")
            self._held_turn(stage, accs, keep, live, {i: name for i, (name, _) in out.items()})
        for i, (name, t) in out.items():
            s = stage.stores[i]
            w.line(f"{f'if ({live}) ' if live else ''}*(w_vec<{t}, {width}>*)"
                   f"({s.buffer} + ({ev.index(s.index[0])})) = {name};")

    def _serial(self, stage: Stage, axes: Sequence[Axis]) -> None:
        """Turns of ordered axes, one after another."""
        if not axes:
            self._turn(stage)
            return
        with self._loop(axes[0]):
            self._serial(stage, axes[1:])

    @contextmanager
    def _loop(self, axis: Axis) -> Iterator[None]:
        extent = as_index(axis.extent) if not isinstance(axis.extent, Index) else axis.extent
        kind = "i32" if fits_i32(extent) else "i64"
        name = self._name(axis)
        end = self.ev.index_as(extent, kind)
        with self.ev.scope(f"for ({kind} {name} = 0; {name} < {end}; ++{name})"):
            self.ev.axes[axis] = name
            yield

    def _name(self, axis: Axis) -> str:
        return f"{axis.name}_"

    # ---- one turn

    def _turn(self, stage: Stage, vectors: dict[int, str] | None = None, keep: str = "",
              live: str = "") -> None:
        """Checks, then stores; those in `vectors` go there, at u."""
        ok = ""
        for c in () if self.marking else stage.checks:
            ok = self._check(c, ok)
        for i, s in enumerate(stage.stores):
            if self.plan.meeting == "last" and stage.ordered:
                ok = self._last(s, stage, ok)
            if not self.marking:
                self._store(s, (vectors or {}).get(i), keep, live, ok)

    def _last(self, s: Store, stage: Stage, ok: str) -> str:
        """Note the turn of an update that others may meet, or find whether it is the last."""
        ev, w = self.ev, self.w
        turn, mark = ev.fresh("turn"), f"marks[{ev.index(s.index[0])}]"
        w.line(f"const u32 {turn} = (u32)({self._position(stage.ordered)}) + 1u;")
        guard = ev.value(s.guard) if s.guard is not None else "true"
        if self.marking:
            w.line(f"if ({guard}) atomicMax(&{mark}, {turn});")
            return ok
        name = ev.fresh("ok")
        w.line(f"const bool {name} = {f'{ok} && ' if ok else ''}{guard} && {mark} == {turn};")
        return name

    def _check(self, c: Check, ok: str) -> str:
        ev, w = self.ev, self.w
        number = f"first_check + {next(i for i, own in enumerate(self.checks) if own is c)}"
        value, size = ev.value(c.value), ev.dim(c.size)
        good = f"{value} >= 0" if c.kind == "exponent" else \
            f"{value} >= -{size} && {value} < {size}"
        name = ev.fresh("ok")
        w.line(f"const bool {name} = {f'{ok} && ' if ok else ''}{good};")
        w.line(f"if (!({good})) w_fail(status, {number}, {value});")
        return name

    def _store(self, s: Store, vector: str | None, keep: str, live: str, ok: str) -> None:
        ev, w, dtype = self.ev, self.w, self.kernel.types[s.buffer].dtype
        value = ev.value(s.value)
        if s.buffer in self.scratch:
            name = next(n for e, n in self._there.items() if e.what == s.buffer)
            w.line(f"{name}[{keep}] = {value};")
            return
        if vector is not None:
            w.line(f"{vector}.v[u] = {store_value(value, dtype)};")
            return
        if self.kernel.types[s.buffer].size == 0:
            return
        conditions = [c for c in (live, ok, ev.value(s.guard) if s.guard is not None else "") if c]
        place = f"{s.buffer}[{ev.index(s.index[0])}]"
        if s.combine and self.plan.meeting == "atomic":
            text = self._atomic(s, place, value)
        elif s.combine:
            there = load_value(place, dtype)
            text = f"{place} = " + store_value(apply(
                s.combine, dtype, [f"({there})", value], [dtype, dtype]), dtype) + ";"
        else:
            text = f"{place} = {store_value(value, dtype)};"
        w.line(f"if ({' && '.join(conditions)}) {text}" if conditions else text)

    def _atomic(self, s: Store, place: str, value: str) -> str:
        dtype = self.kernel.types[s.buffer].dtype
        if s.combine == "add" and dtype.name in ("i32", "u32", "f32", "f64", "u64", "i64"):
            t = "u64" if dtype.name == "i64" else dtype.name
            return f"atomicAdd(({t}*)&{place}, ({t}){value});"
        new = store_value(apply(s.combine, dtype, ["w_there", value], [dtype, dtype]), dtype)
        t = memory_type(dtype)
        return (f"w_atomic<{t}>(&{place}, [=]({t} w_old) {{ const {reg(dtype)} w_there = "
                f"{load_value('w_old', dtype)}; return ({t})({new}); }});")

    # ---- rows: a team of threads for each

    def _rows(self) -> None:
        k, ev, w, plan = self.kernel, self.ev, self.w, self.plan
        per_block, team = plan.threads // plan.team, plan.team
        rows = self.units = _over(k.axes, plan.columns)
        kind = "i32" if isinstance(rows, int) and rows < 1 << 30 else "i64"
        if team > 1:
            lane = f"/ {per_block}" if plan.across else f"% {team}"
            w.line(f"const i32 lane = (i32)threadIdx.x {lane};")
        live = ""
        if per_block > 1:
            own = "" if team == 1 else f" % {per_block}" if plan.across else f" / {team}"
            w.line(f"{kind} row = ({kind})blockIdx.x * {per_block} + (i32)threadIdx.x{own};")
            if not (isinstance(rows, int) and rows % per_block == 0):
                if team == 1:
                    w.line(f"if (row >= {ev.dim(rows, kind)}) return;")
                else:
                    live = "live"
                    w.line(f"const bool live = row < {ev.dim(rows, kind)};")
                    w.line(f"if (!live) row = {ev.dim(rows, kind)} - 1;")
        else:
            w.line(f"const {kind} row = ({kind})blockIdx.x;")
        place(self.ev, "row", k.axes, kind, plan.columns)
        self._declare_held()
        for number, stage in enumerate(k.stages):
            self._row_stage(stage, number, live)

    def _declare_held(self) -> None:
        """Registers, and shared memory, for what later stages need again."""
        k, seen, w = self.kernel, set(), self.w
        parked = self.plan.parked or (0,) * len(k.stages)
        at: list[str] = []
        for stage, turns, more, width in zip(k.stages, self.plan.held, parked, self.plan.vectors):
            if turns and stage.axes not in seen:
                seen.add(stage.axes)
                for first, others in places(k, stage.axes).items():
                    name = self.ev.fresh("held")
                    w.line(f"{reg(first.dtype)} {name}[{turns * width}];")
                    self.kept.update(dict.fromkeys(others, name))
                    if more:
                        name = self.ev.fresh("parked")
                        t = reg(first.dtype)
                        at.append(f"{t}* const {name} = ({t}*)(row_memory + {self.dynamic // 4}) + "
                                  "lane;")
                        self.dynamic += more * width * self.plan.team * max(
                            4, first.dtype.itemsize)
                        self.parked.update(dict.fromkeys(others, name))
        if at:
            w.line(f"w_memory(row_memory, {self.dynamic // 4});")
            for line in at:
                w.line(line)

    def _row_stage(self, stage: Stage, number: int, live: str) -> None:
        ev, w, team = self.ev, self.w, self.plan.team
        ev.hoist(stage.roots, stage.axes, self.scratch)
        share = prod(a.extent for a in stage.axes if isinstance(a.extent, int)) \
            if all(isinstance(a.extent, int) for a in stage.axes) else None
        turns = None if share is None else -(-share // team)
        accs = [accumulator(r, f"s{r.number}", turns) for r in stage.reduces]
        for a in accs:
            a.start(w)
        if not stage.axes:
            self._once(stage, accs, live)
        elif any(isinstance(a.extent, Index) for a in stage.axes) or stage.ordered:
            self._ragged(stage, accs, stage.axes, live)
        elif team == 1 and not self.plan.held[number] and self.plan.vectors[number] == 1:
            self._nest(stage, accs, stage.axes)
        else:
            self._shared(stage, number, accs, live)
        for r, a in zip(stage.reduces, accs):
            joined = self._joined(a) if stage.axes else a.own()
            w.line(f"const {reg(r.dtype)} acc{r.number} = {a.result(joined)};")
            ev.accs[r.number] = f"acc{r.number}"

    def _joined(self, a: Accumulator) -> str:
        """The text of the value that all threads of the team have together."""
        plan, own = self.plan, a.own()
        if plan.team == 1:
            return own
        if not plan.across and plan.team <= 32:
            return f"w_join_lanes<{plan.team}>({own}, {a.function()})"
        if plan.across:
            per_block = plan.threads // plan.team
            self.joins = max(self.joins, plan.threads * _join_bytes(a))
            return f"w_join_columns<{plan.team}, {per_block}>(w_memory, {own}, {a.function()})"
        self.joins = max(self.joins, 32 * JOIN_BYTES)
        return f"w_join_block<{plan.team}>(w_memory, {own}, {a.function()})"

    def _once(self, stage: Stage, accs: list[Accumulator], live: str) -> None:
        """A stage without a loop: what it reduces is one value, and one thread stores."""
        for r, a in zip(stage.reduces, accs):
            a.take(self.w, self.ev.value(r.value), lambda: "0")
        if stage.stores or stage.checks:
            if self.plan.team > 1:
                condition = f"lane == 0{f' && {live}' if live else ''}"
                with self.ev.scope(f"if ({condition})"):
                    self._turn(stage)
            else:
                self._turn(stage, live=live)

    def _take(self, stage: Stage, accs: list[Accumulator], position: str) -> None:
        for r, a in zip(stage.reduces, accs):
            a.take(self.w, self.ev.value(r.value), lambda: position)

    def _nest(self, stage: Stage, accs: list[Accumulator], axes: Sequence[Axis]) -> None:
        """Plain loops, for a thread that has the row for itself."""
        if not axes:
            self._take(stage, accs, self._position(stage.axes))
            self._turn(stage)
            return
        with self._loop(axes[0]):
            self.ev.hoist(stage.roots, axes[1:], (*self.scratch, *self._written()))
            self._nest(stage, accs, axes[1:])

    def _written(self) -> Iterable[str]:
        return self.kernel.outputs if self.kernel.updates else ()

    def _position(self, axes: Sequence[Axis]) -> str:
        """The flat position of the turn in the stage's space."""
        flat = Index()
        for a in axes:
            assert not isinstance(a.extent, Index)
            flat = flat * a.extent + as_index(a)
        return self.ev.index_as(flat, "i64")

    def _ragged(self, stage: Stage, accs: list[Accumulator], axes: Sequence[Axis],
                live: str) -> None:
        """Plain loops, of which the team shares the innermost."""
        ev, axis = self.ev, axes[0]
        if len(axes) > 1:
            with self._loop(axis):
                self._ragged(stage, accs, axes[1:], live)
            return
        extent = axis.extent if isinstance(axis.extent, Index) else as_index(axis.extent)
        kind, name = "i32" if fits_i32(extent) else "i64", self._name(axis)
        first = "lane" if self.plan.team > 1 else "0"
        end = ev.index_as(extent, kind)
        with ev.scope(f"for ({kind} {name} = {first}; {name} < {end}; {name} += {self.plan.team})"):
            ev.axes[axis] = name
            self._take(stage, accs, "0")
            self._turn(stage, live=live)

    def _shared(self, stage: Stage, number: int, accs: list[Accumulator], live: str) -> None:
        """One loop over the stage's whole space, of which each thread takes its share."""
        ev, w, plan = self.ev, self.w, self.plan
        width, held = plan.vectors[number], plan.held[number] if plan.held else 0
        total = numel(_plain(a) for a in stage.axes)
        kind = "i32" if isinstance(total, int) and total < 1 << 30 else "i64"
        lane = f" + lane * {width}" if plan.team > 1 and width > 1 else \
            " + lane" if plan.team > 1 else ""
        stride = plan.team * width
        if not held:
            with ev.scope(f"for ({kind} q = 0{lane}; q < {ev.dim(total, kind)}; q += {stride})"):
                place(self.ev, "q", stage.axes, kind, 1)
                self._share(stage, accs, width, "", live)
            return
        assert isinstance(total, int)
        more = plan.parked[number] if plan.parked else 0
        for first, turns, there in ((0, held, self.kept), (held, more, self.parked)):
            if not turns:
                continue
            self._there = there
            w.line(f"#pragma unroll {max(4, 16 // width)}" if first else "#pragma unroll")
            with ev.scope(f"for (i32 t = 0; t < {turns}; ++t)"):
                w.line(f"const i32 q = {f'(t + {first})' if first else 't'} * {stride}{lane};")
                header = "" if (first + turns) * stride <= total else f"if (q < {total})"
                keep = "t" if width == 1 else f"t * {width} + u"
                with ev.scope(header or None):
                    place(self.ev, "q", stage.axes, "i32", 1)
                    self._share(stage, accs, width, f"({keep}) * {plan.team}" if first else keep,
                                live)
        self._filled |= {e for e in self.kept if e in walk(*stage.roots)}

    def _share(self, stage: Stage, accs: list[Accumulator], width: int, keep: str, live: str
               ) -> None:
        """A thread's elements from q on."""
        if width == 1:
            self._held_turn(stage, accs, keep, live, {})
        else:
            self._vector(stage, stage.axes[-1], accs, width, keep, live)

    def _held_turn(self, stage: Stage, accs: list[Accumulator], keep: str, live: str,
                   vectors: dict[int, str]) -> None:
        """One element: what is kept is taken from where it is, or put there by the first stage."""
        ev, w = self.ev, self.w
        used = [e for e in self._there if keep and e.axes & frozenset(stage.axes)
                and e in walk(*stage.roots)]
        ready = [e for e in used if e in self._filled or e.what in self.scratch]
        for e in ready:         # before anything takes its place
            ev.given[e] = ev.fresh()
            w.line(f"const {reg(e.dtype)} {ev.given[e]} = {self._there[e]}[{keep}];")
        for e in used:
            if e not in ready:
                value = ev.value(e)
                w.line(f"{self._there[e]}[{keep}] = {value};")
        self._take(stage, accs, self._position(stage.axes) if any(a.is_arg for a in accs) else "0")
        self._turn(stage, vectors, keep, live)


def place(ev: Evaluator, flat: str, axes: Sequence[Axis], kind: str, width: int = 1) -> None:
    """Set the axes from the flat number of a point, or of a vector along the last axis."""
    rest = flat
    for n in range(len(axes) - 1, -1, -1):
        axis, extent = axes[n], _plain(axes[n])
        scale = f" * {width}" if n == len(axes) - 1 and width > 1 else ""
        if scale and n:
            assert isinstance(extent, int)
            extent = extent // width
        end = ev.dim(extent, kind)
        before = rest
        if n:
            rest = ev.fresh("q")
            over = f"{before} / {end}" if isinstance(extent, int) else f"w_over({before}, {end})"
            ev.w.line(f"const {kind} {rest} = {over};")
        text = f"{before}{scale}" if n == 0 else f"({before} - {rest} * {end}){scale}" \
            if not isinstance(extent, int) else f"{before} % {end}{scale}"
        name = flat if text == flat else f"{axis.name}_"
        if name != flat:
            ev.w.line(f"const {kind} {name} = {text};")
        ev.axes[axis] = name


def _plain(axis: Axis) -> Dim:
    assert not isinstance(axis.extent, Index), "a ragged axis is not shared among threads"
    return axis.extent


def _over(axes: Sequence[Axis], columns: int) -> Dim:
    """How many threads share points, of which each takes so many along the last axis."""
    if columns == 1:
        return numel(_plain(a) for a in axes)
    last = _plain(axes[-1])
    assert isinstance(last, int) and last % columns == 0, "vectors that are not whole"
    return numel((*(_plain(a) for a in axes[:-1]), last // columns))


def _steps(axes: Sequence[Axis], total: Dim, width: int) -> Dim | None:
    """How many vectors the points are, None where that is no plain size."""
    last = _plain(axes[-1]) if axes else 1
    if width > 1 and isinstance(last, int) and last % width == 0:
        return _over(axes, width)
    if isinstance(total, int):
        return -(-total // width)
    return total if width == 1 else None


def _more(a: Dim, b: Dim) -> bool:
    return not isinstance(a, int) or (isinstance(b, int) and a > b)


def _join_bytes(a: Accumulator) -> int:
    size = a.dtype.itemsize if a.dtype.kind != "float" else max(4, a.dtype.itemsize)
    return JOIN_BYTES if a.is_arg else size

