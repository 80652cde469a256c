"""CUDA C++ for the derivatives of attention: tiles of keys go along the queries, and the reverse.

A block has a tile of keys, goes along the queries and adds up dK and dV. It computes the products
of queries and keys again, and from them the weights, exp(score - base) * scale, by each row's base
and scale, which the forward kernel has left: weights are not stored (Dao, 2023). What its keys add
to dQ it adds to memory, when it is its turn: a tile of queries is added to by one block after
another, in the order of keys, so that results are the same bits in every run. A block waits for
blocks of smaller numbers alone, which they take as they start. Where dQ alone is wanted, blocks
have queries instead, and go along the keys.

As in the forward kernel, a few neighbouring threads share a row of the block's own tile, and each
has some rows and, of the scores, some columns. Weights, and then the derivatives of scores, go to
the other threads of a row through shared memory that only their warp uses.

Tiles that a mask leaves out whole are passed over, unless there is an infinity or NaN for 0 to be
multiplied by: `sound`, of each row or key of the other side, is 0 or NaN and says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf, prod

from weft.compiler.kernel.expr import Expr, Exprs, walk
from weft.compiler.kernel.index import Axis
from weft.compiler.kernel.ir import Kernel, Library
from weft.compiler.lazy_dataclass import dataclass, replace
from weft.compiler.target import Target
from weft.devices.gpu.attention import SCORE
from weft.devices.gpu.attention_group import UPSTREAM, Gradient, Place
from weft.devices.gpu.attention_mask import Texts, either, text, tile_counts
from weft.devices.gpu.attention_tiles import Panel, pitch, runs_in_fours, shared_limit
from weft.devices.gpu.loops import KernelCode, place, signature
from weft.devices.gpu.writer import Evaluator, Writer

__all__ = ["SHAPES", "Shape", "emit_gradient", "fits"]


@dataclass(frozen=True)
class Shape:
    """How threads share a tile: `lanes` for a row, each with so many rows and columns."""

    threads: int
    lanes: int
    rows: int
    columns: int

    @property
    def side(self) -> int:
        """Threads of a warp that stand below one another."""
        return 32 // self.lanes

    @property
    def down(self) -> int:
        """Rows of the block's own tile."""
        return self.threads // self.lanes * self.rows

    @property
    def across(self) -> int:
        """Of the tiles that it goes along."""
        return self.lanes * self.columns


# the first that fits shared memory and of which there is enough for all multiprocessors; on an
# H200, for heads of 64, eight columns for a thread, or 256 threads, took 3 to 40 percent longer
SHAPES = (Shape(128, 16, 8, 4), Shape(128, 16, 4, 4), Shape(64, 8, 4, 4), Shape(32, 8, 4, 2))
SUMS = 64               # results that a thread's registers hold at most


def fits(form: Gradient, target: Target) -> bool:
    """Whether there is a shape for it."""
    return bool(_usable(form, target))


def _usable(form: Gradient, target: Target) -> list[Shape]:
    limit = shared_limit(target)
    return [s for s in SHAPES if _Tiles(form, s).bytes <= limit
            and (_Tiles(form, s).sums <= SUMS or s.rows <= 4)]


def shape_for(form: Gradient, target: Target) -> Shape:
    """Large tiles where there are two for each multiprocessor."""
    usable = _usable(form, target)
    own = form.key if form.of_keys else form.query
    batch = prod(map(_extent, form.batch))
    enough = [s for s in usable if batch * -(-_extent(own) // s.down) >= 2 * target.threads]
    return (enough or usable[-1:])[0]


class _Tiles:
    """The tiles in shared memory: two of the block's own rows, two that it goes along, weights."""

    def __init__(self, form: Gradient, s: Shape) -> None:
        own, other = (form.key, form.query) if form.of_keys else (form.query, form.key)
        first = (form.k, form.v) if form.of_keys else (form.q, form.grad)
        second = (form.q, form.grad) if form.of_keys else (form.k, form.v)
        step = 4 * s.lanes
        self.groups = tuple(-(-_extent(a) // step) for a in (form.depth, form.value))
        self.turns = tuple(-(-_extent(a) // 4) * 4 for a in (form.depth, form.value))
        self.own, self.other = (tuple(
            Panel(f"{name}{n}", e, axis, along, rows, wide, pitch(wide))
            for n, (e, along, wide) in enumerate(zip(arrays, (form.depth, form.value), widths)))
            for name, arrays, axis, rows, widths in (
                ("own", first, own, s.down, self.turns),
                ("other", second, other, s.across, tuple(g * step for g in self.groups))))
        self.pitch = s.across + 4 if s.across % 8 == 0 else s.across
        self.weights = sum(p.size for p in (*self.own, *self.other))
        self.bytes = 4 * (self.weights + s.down * self.pitch)
        self.sums = sum(4 * g * s.rows for g, p in zip(self.groups, _wanted(form)) if p)


def emit_gradient(step: Library, name: str, unaligned: frozenset[str], target: Target,
                  shape: Shape | None = None) -> KernelCode:
    """The function of a step of derivatives; `unaligned` are buffers that may begin anywhere."""
    form = dict(step.attrs)["form"]
    assert isinstance(form, Gradient)
    return _Code(step, form, name, shape or shape_for(form, target), unaligned).emit()


class _Code:
    def __init__(self, step: Library, form: Gradient, name: str, shape: Shape,
                 unaligned: frozenset[str]) -> None:
        self.form, self.name, self.shape, self.unaligned = form, name, shape, unaligned
        every = (*form.batch, form.query, form.key, form.depth, form.value)
        self.kernel = Kernel(every, (), step.buffers, step.outputs)
        self.w = Writer()
        self.ev = Evaluator(self.kernel, self.w)
        self.tiles = _Tiles(form, shape)
        self.own, self.other = (form.key, form.query) if form.of_keys else (form.query, form.key)
        self.skips = form.sound is not None and self._counts("r0") is not True

    def emit(self) -> KernelCode:
        """The function."""
        w, f, s = self.w, self.form, self.shape
        names = ("keys", "queries") if f.of_keys else ("queries", "keys")
        plan = f"derivatives of {names[0]}, {s.threads} threads, tiles of {s.down} {names[0]} " \
               f"and {s.across} {names[1]}"
        self._begin()
        header = f"for (i32 c0 = 0; c0 < {_extent(self.other)}; c0 += {s.across})"
        with self.ev.scope(header):
            if self.skips:
                w.line(f"if (!everything && !({text(self._counts('r0'))})) continue;")
            self._tile()
        self._results()
        head = signature(self.kernel, self.name, s.threads)
        code = "\n".join([f"// {plan}", head + " {", *w.lines, "}", ""])
        blocks = tuple((_extent(a), 1) for a in f.batch)
        return KernelCode(self.name, code, s.threads, (*blocks, (_extent(self.own), s.down)),
                          plan=plan, shared=self.tiles.bytes)

    def _begin(self) -> None:
        """Shared memory, which tile this block has, which rows this thread, and the own tiles."""
        w, f, s, t = self.w, self.form, self.shape, self.tiles
        w.line(f"w_memory(memory, {t.bytes // 4});")
        place_ = "memory"
        for panel in (*t.own, *t.other):
            w.line(f"f32* const {panel.name} = {place_};")
            place_ = f"{panel.name} + {panel.size}"
        w.line(f"f32* const weights = {place_};")
        w.line(f"const i32 tx = (i32)threadIdx.x % {s.lanes};")
        w.line(f"const i32 row = (i32)threadIdx.x / 32 * {s.side * s.rows} + "
               f"(i32)threadIdx.x / {s.lanes} % {s.side};")
        tiles, batch = -(-_extent(self.own) // s.down), prod(map(_extent, f.batch))
        block = "(i32)blockIdx.x"
        if f.turns is not None:         # numbered as they start: none waits for one that has not
            block = "number"
            w.line("__shared__ i32 number;")
            w.line(f"if (threadIdx.x == 0) number = (i32)atomicAdd((u32*){f.turns[0]} + 1, 1u);")
            w.line("__syncthreads();")
        turn = f"{block} / {batch}"
        if not f.of_keys:               # with a causal mask, the last queries have most to do
            turn = f"{tiles - 1} - {turn}"
        w.line(f"const i32 r0 = ({turn}) * {s.down}, batch = {block} % {batch};")
        place(self.ev, "batch", f.batch, "i32")
        if self.skips:
            self._look()
        for panel in t.own:
            panel.fill(self.ev, s.threads, "r0", "0", self.unaligned)
        for name, groups, wanted in zip(("sum0", "sum1"), t.groups, _wanted(f)):
            if wanted:
                w.line(f"f32 {name}[{s.rows}][{4 * groups}] = {{}};")

    def _look(self) -> None:
        """Whether 0 times what is in a tile may be anything but 0: then none is passed over."""
        w, f = self.w, self.form
        w.line("__shared__ i32 odd;")
        w.line("if (threadIdx.x == 0) odd = 0;")
        w.line("__syncthreads();")
        for axis, sound in ((self.other, f.sound), (self.own, f.own_sound)):
            if sound is None:
                continue
            header = f"for (i32 e = (i32)threadIdx.x; e < {_extent(axis)}; " \
                     f"e += {self.shape.threads})"
            with self.ev.scope(header):
                self.ev.axes[axis] = "e"
                w.line(f"if ({self.ev.load(sound)} != 0.0f) odd = 1;")
        w.line("__syncthreads();")
        w.line("const bool everything = odd != 0;")

    # ---- which tiles

    def _counts(self, own: str) -> object:
        """Whether a tile of these rows may have weights or derivatives other than 0, as a text."""
        f, s = self.form, self.shape
        spans = {}
        for axis, at, size in ((self.own, own, s.down), (self.other, "c0", s.across)):
            spans[axis] = at, f"{at} + {size - 1}"
        over = Texts(spans)
        score, slope = (tile_counts(e, None, over) for e in (f.score, _as_score(f.slope)))
        return score if score == slope else either(score, slope)

    # ---- one tile

    def _tile(self) -> None:
        w, f, s, t = self.w, self.form, self.shape, self.tiles
        w.line("__syncthreads();")
        t.other[0].fill(self.ev, s.threads, "c0", "0", self.unaligned)
        w.line("w_copies_done();")
        w.line("__syncthreads();")
        t.other[1].fill(self.ev, s.threads, "c0", "0", self.unaligned)
        w.line(f"f32 s[{s.rows}][{s.columns}] = {{}};")
        self._rows_by_rows("s", 0)
        with self._elements():
            self._weight()
        w.line("w_copies_done();")
        w.line("__syncthreads();")
        if f.of_keys and f.dv is not None:
            self._rows_by_columns("sum1", 1)
        if f.dq is not None or f.dk is not None:
            self._slopes()
        if f.dk is not None or not f.of_keys:
            self._rows_by_columns("sum0", 0)
        if f.in_turns:
            self._add_to_queries()

    def _add_to_queries(self) -> None:
        """What the own keys add to dQ, for a tile of queries."""
        w, f, s, t = self.w, self.form, self.shape, self.tiles
        assert f.dq is not None and f.turns is not None
        down = s.threads // s.lanes
        rows, groups, own = -(-s.across // (4 * down)), t.groups[0], t.own[0]
        w.line("__syncthreads();")
        w.line(f"const i32 below = (i32)threadIdx.x / {s.lanes} * 4;")
        w.line(f"f32 part[{4 * rows}][{4 * groups}] = {{}};")
        w.line(f"w_columns_by_columns<{s.down}, {t.pitch}, {4 * down}, {own.pitch}, {4 * s.lanes}>"
               f"(part, weights + below, {own.name} + tx * 4);")
        self._turn()
        self.ev.axes[f.query] = "c0"
        name, index = f.turns
        w.line(f"f32* const turns = {name} + {self.ev.index(index)};")
        w.line("if (turn > 0) w_await(turns, turn);")
        w.line("#pragma unroll")
        with self.ev.scope(f"for (i32 r = 0; r < {4 * rows}; ++r)"):
            w.line(f"const i32 at = c0 + r / 4 * {4 * down} + below + r % 4;")
            inside = [f"at < {_extent(f.query)}"] if _extent(f.query) % s.across else []
            self.ev.axes[f.query] = "at"
            self._store(f.dq, f.depth, groups, "part", inside, "turn > 0")
        w.line("w_hand_on(turns, turn);")

    def _turn(self) -> None:
        """How many blocks add to a tile of queries before this one."""
        w, s = self.w, self.shape
        if not self.skips:
            w.line(f"const i32 turn = r0 / {s.down};")
            return
        w.line(f"i32 turn = everything ? r0 / {s.down} : 0;")
        with w.block(f"for (i32 before = 0; before < r0 && !everything; before += {s.down})"):
            w.line(f"turn += ({text(self._counts('before'))}) ? 1 : 0;")

    def _slopes(self) -> None:
        """The derivatives of scores in place of the weights."""
        w, s = self.w, self.shape
        w.line(f"f32 g[{s.rows}][{s.columns}] = {{}};")
        self._rows_by_rows("g", 1)
        w.line("__syncwarp();")
        with self._elements():
            self._slope()
        w.line("__syncwarp();")

    def _rows_by_rows(self, into: str, n: int) -> None:
        s, own, other = self.shape, self.tiles.own[n], self.tiles.other[n]
        self.w.line(f"w_rows_by_rows<{self.tiles.turns[n]}, {s.side * own.pitch}, "
                    f"{s.lanes * other.pitch}>({into}, {own.name} + row * {own.pitch}, "
                    f"{other.name} + tx * {other.pitch});")

    def _rows_by_columns(self, into: str, n: int) -> None:
        s, p, other = self.shape, self.tiles.pitch, self.tiles.other[n]
        self.w.line(f"w_rows_by_columns<{s.across}, {s.side * p}, {other.pitch}, {4 * s.lanes}>"
                    f"({into}, weights + row * {p}, {other.name} + tx * 4);")

    @contextmanager
    def _elements(self) -> Iterator[None]:
        """For each element that a thread has of a tile: `i`, `j`, and its `place`."""
        s, f = self.shape, self.form
        outer, inner = ("t", "r") if f.of_keys else ("r", "t")
        counts = {"r": s.rows, "t": s.columns}
        texts = {"r": f"r0 + row + r * {s.side}", "t": f"c0 + tx + t * {s.lanes}"}
        self.w.line("#pragma unroll")
        with self.ev.scope(f"for (i32 {outer} = 0; {outer} < {counts[outer]}; ++{outer})"):
            self.w.line(f"const i32 i = {texts[outer]};")
            self.ev.axes[f.query] = "i"
            self._of_the_row()
            self.w.line("#pragma unroll")
            with self.ev.scope(f"for (i32 {inner} = 0; {inner} < {counts[inner]}; ++{inner})"):
                self.w.line(f"const i32 j = {texts[inner]};")
                self.ev.axes[f.key] = "j"
                self.w.line(f"f32* const place = weights + (row + r * {s.side}) * "
                            f"{self.tiles.pitch} + tx + t * {s.lanes};")
                yield

    def _of_the_row(self) -> None:
        """What is known of the query `i`."""
        limit, f = _extent(self.form.query), self.form
        inside = f"i < {limit} ? " if limit % self._size(f.query) else ""
        for name, e in (("base", f.base), ("scale", f.scale), ("dot", f.dot)):
            self.w.line(f"const f32 {name} = {inside}{self.ev.load(e)}"
                        f"{' : 0.0f' if inside else ''};")

    def _size(self, axis: Axis) -> int:
        return self.shape.down if axis is self.own or axis == self.own else self.shape.across

    def _inside(self) -> str:
        """The condition that an element is one."""
        f = self.form
        tests = [f"{name} < {_extent(a)}" for name, a in (("i", f.query), ("j", f.key))
                 if _extent(a) % self._size(a)]
        return " && ".join(tests)

    def _weight(self) -> None:
        w, f, inside = self.w, self.form, self._inside()
        self._given("s[r][t]")
        with self.ev.scope(f"if ({inside})" if inside else ""):
            w.line(f"*place = expf({self.ev.value(f.score)} - base) * scale;")
        if inside:
            w.line("else *place = 0.0f;")

    def _slope(self) -> None:
        w, f, inside = self.w, self.form, self._inside()
        self._given("s[r][t]")
        with self.ev.scope(f"if ({inside})" if inside else ""):
            w.line("const f32 p = *place;")
            w.line("f32 up = p * (g[r][t] - dot);")
            if f.through_max:           # 0 but where nothing is finite any more
                w.line("if (p == scale) up += 0.0f * dot;")
            w.line(f"*place = {self.ev.value(f.slope)};")

    def _given(self, text: str) -> None:
        for e in walk(self.form.score, self.form.slope):
            if e.kind == "load" and e.what in (SCORE, UPSTREAM):
                self.ev.given[e] = text if e.what == SCORE else "up"

    # ---- results

    def _results(self) -> None:
        w, f, s = self.w, self.form, self.shape
        first = f.dk if f.of_keys else f.dq
        for name, result, axis, groups in zip(("sum0", "sum1"), (first, f.dv),
                                              (f.depth, f.value), self.tiles.groups):
            if result is None:
                continue
            w.line("#pragma unroll")
            with self.ev.scope(f"for (i32 r = 0; r < {s.rows}; ++r)"):
                w.line(f"const i32 at = r0 + row + r * {s.side};")
                inside = [f"at < {_extent(self.own)}"] if _extent(self.own) % s.down else []
                self.ev.axes[self.own] = "at"
                self._store(result, axis, groups, name, inside)

    def _store(self, result: Place, axis: Axis, groups: int, name: str, inside: list[str],
               add: str = "") -> None:
        """Write a row's sums, four at a time where memory has them so; `add` them under a
        condition."""
        w, (buffer, index) = self.w, result
        step, s = 4 * self.shape.lanes, self.shape
        many = 4 if runs_in_fours(index, axis) and buffer not in self.unaligned else 1
        w.line("#pragma unroll")
        with self.ev.scope(f"for (i32 c = 0; c < {4 * groups}; c += {many})"):
            w.line(f"const i32 d = c / 4 * {step} + tx * 4 + c % 4;")
            self.ev.axes[axis] = "d"
            if _extent(axis) % (4 * s.lanes):
                inside = [*inside, f"d < {_extent(axis)}"]
            with self.ev.scope(f"if ({' && '.join(inside)})" if inside else ""):
                w.line(f"f32* const to = {buffer} + ({self.ev.index(index)});")
                w.line(f"w_vec<f32, {many}> y;")
                w.line(f"for (i32 u = 0; u < {many}; ++u) y.v[u] = {name}[r][c + u];")
                if add:
                    with w.block(f"if ({add})"):
                        w.line(f"const w_vec<f32, {many}> before = w_fresh<{many}>(to);")
                        w.line(f"for (i32 u = 0; u < {many}; ++u) y.v[u] += before.v[u];")
                w.line(f"*(w_vec<f32, {many}>*)to = y;")


def _wanted(form: Gradient) -> tuple[bool, bool]:
    """Whether registers hold sums over the depth, and over values."""
    return (form.dk is not None, form.dv is not None) if form.of_keys else (True, False)


def _as_score(slope: Expr) -> Expr:
    """A derivative with -inf where it is 0, and 0 where it need not be."""
    def const(value: float) -> Expr:
        return Exprs().const(value, slope.dtype)

    if slope.kind == "const":
        return const(0.0 if slope.what != 0 else -inf)
    if slope.kind == "apply" and slope.what == "select":
        c, a, b = slope.args
        return replace(slope, args=(c, _as_score(a), _as_score(b)))
    factors = [a for a in slope.args if a.kind != "const"]
    if slope.kind == "apply" and slope.what in ("mul", "div", "neg") and len(factors) == 1 \
            and factors[0] is slope.args[0]:
        return _as_score(factors[0])
    return const(0.0)


def _extent(axis: Axis) -> int:
    assert isinstance(axis.extent, int)
    return axis.extent
