"""CUDA C++ for attention: a tile of queries goes along the keys, a tile of them at a time.

A block has a tile of queries. Some neighbouring threads share a row of it; each has some rows, and
columns of the scores and of the results (`attention_shapes.py`). Queries stay in shared memory; the
values are copied there while scores are computed, the next keys while results are. Weights go to
the other threads of a row through shared memory of their warp; for tensor cores, they stay.

A row's greatest score is joined by shuffles, its sum only at the end. The running maximum scales
what was summed before when a greater score comes (Milakov and Gimelshein, 2018). Sums over one
tile's keys are taken apart and then added, so that rounding grows with the number of tiles.

Tiles that a mask leaves out whole are passed over, by the block or by a warp (`attention_mask.py`).
Of their values it is only found whether they are finite: 0 times an infinity or NaN is NaN.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod

from weft.compiler.kernel.expr import Expr
from weft.compiler.kernel.ir import Kernel, Library
from weft.compiler.target import Target
from weft.compiler.types import DTYPES
from weft.devices.gpu.attention import SCORE, Attention
from weft.devices.gpu.attention_mask import (
    Numbers,
    Texts,
    both,
    must_hold,
    text,
    tile_counts,
    unmasked,
)
from weft.devices.gpu.attention_shapes import CHUNK, Panels, Shape, floats, shape_for, sums
from weft.devices.gpu.attention_tiles import LANES, Panel, runs_in_fours
from weft.devices.gpu.loops import KernelCode, place, signature
from weft.devices.gpu.lower import identity
from weft.devices.gpu.tiles import extent
from weft.devices.gpu.writer import Evaluator, Writer

__all__ = ["emit_attention"]

_LOWEST = identity("max", DTYPES["f32"])
_EITHER = "[](bool a, bool b) { return a || b; }"
_KINDS = {"tf32": 0, "bf16": 1, "fp16": 2}      # of what operands are rounded to, in helpers


def emit_attention(step: Library, name: str, unaligned: frozenset[str], target: Target
                   ) -> KernelCode:
    """The function of an attention step; `unaligned` are buffers that may begin anywhere."""
    form = dict(step.attrs)["form"]
    assert isinstance(form, Attention)
    return _Code(step, form, name, shape_for(form, target, _masked(form)), unaligned,
                 _KINDS.get(target.precision, 0)).emit()


def _masked(form: Attention) -> bool:
    """Whether there may be tiles in which nothing counts."""
    every = (*form.batch, form.query, form.key)
    anywhere = Texts({a: (a.name, a.name) for a in every})
    return tile_counts(form.score, form.counts, anywhere) is not True


class _Code:
    def __init__(self, step: Library, form: Attention, name: str, shape: Shape,
                 unaligned: frozenset[str], kind: int) -> None:
        self.kind = kind
        self.form, self.name, self.shape = form, name, shape
        every = (*form.batch, form.query, form.key, form.depth, form.value)
        self.kernel = Kernel(every, (), step.buffers, step.outputs)
        self.w = Writer()
        self.ev = Evaluator(self.kernel, self.w)
        self.unaligned = unaligned
        self.queries, self.keys, self.depth, self.width = map(extent, every[-4:])
        self.panels = Panels(form, shape)
        self.sums = sums(form, shape)
        self.skips = _masked(form)

    def emit(self) -> KernelCode:
        """The function."""
        w, f, s, p = self.w, self.form, self.shape, self.panels
        plan = f"attention, {s.threads} threads, tiles of {s.queries} queries and {s.keys} keys"
        plan += ", on tensor cores" if s.tensor else ""
        self._begin()
        w.line(f"f32 most[{s.rows}], total[{s.rows}] = {{}}, scale[{s.rows}];")
        w.line(f"f32 out[{s.rows}][{self.sums}] = {{}};")
        if f.counts is not None:
            w.line(f"bool some[{s.rows}] = {{}};")
        self._each_row(f"most[r] = {_LOWEST};")
        if self.skips:
            self._seek()
        if p.resident:
            self._fill(p.q, "i0")
            self._tiles()
        else:
            self._chunked_tiles()
        if self.skips:
            self._passed_over()
        self._join("total", s.rows, "a + b")
        with self._rows():
            self._finish()
        head = signature(self.kernel, self.name, s.threads)
        code = "\n".join([f"// {plan}", head + " {", *w.lines, "}", ""])
        blocks = tuple((extent(a), 1) for a in f.batch)
        return KernelCode(self.name, code, s.threads, (*blocks, (self.queries, s.queries)),
                          plan=plan, shared=4 * floats(f, s))

    def _begin(self) -> None:
        """Shared memory, and which tile this block has, which rows this thread."""
        w, f, s, p = self.w, self.form, self.shape, self.panels
        before = "panels"
        w.line(f"w_memory(panels, {floats(f, s)});")
        for panel in (p.q, p.k, p.v):
            w.line(f"f32* const {panel.name} = {before};")
            before = f"{panel.name} + {panel.size}"
        if p.weights:
            w.line(f"f32* const weights = {before};")
        w.line(f"const i32 tx = (i32)threadIdx.x % {s.lanes};")
        w.line(f"const i32 ty = (i32)threadIdx.x % 32 / {s.lanes};")
        w.line(f"const i32 row = (i32)threadIdx.x / 32 * {s.apart * s.rows} + ty;")
        tiles, batch = -(-self.queries // s.queries), prod(map(extent, f.batch))
        if self._heavier():         # the last tiles have more to do: they begin
            w.line(f"const i32 i0 = ({tiles - 1} - (i32)blockIdx.x / {batch}) * {s.queries};")
            w.line(f"const i32 batch = (i32)blockIdx.x % {batch};")
        else:
            w.line(f"const i32 i0 = (i32)blockIdx.x % {tiles} * {s.queries};")
            w.line(f"const i32 batch = (i32)blockIdx.x / {tiles};")
        place(self.ev, "batch", f.batch, "i32")
        with self.ev.scope("const auto base = [](f32 greatest) -> f32"):
            self.ev.accs[f.greatest] = "greatest"
            w.line(f"return {self.ev.value(f.base)};")
        w.line(";")

    @contextmanager
    def _rows(self) -> Iterator[None]:
        self.w.line("#pragma unroll")
        with self.ev.scope(f"for (i32 r = 0; r < {self.shape.rows}; ++r)"):
            self.w.line(f"const i32 i = i0 + row + {self.shape.apart} * r;")
            self.ev.axes[self.form.query] = "i"
            yield

    def _each_row(self, line: str) -> None:
        self.w.line("#pragma unroll")
        self.w.line(f"for (i32 r = 0; r < {self.shape.rows}; ++r) {line}")

    def _join(self, name: str, count: int, joined: str) -> None:
        """A number of each row, joined over the row's threads."""
        w = self.w
        w.line("#pragma unroll")
        with w.block(f"for (i32 d = {self.shape.lanes // 2}; d > 0; d /= 2)"):
            w.line("#pragma unroll")
            with w.block(f"for (i32 r = 0; r < {count}; ++r)"):
                w.line(f"const f32 a = {name}[r], b = w_shuffle(a, d);")
                w.line(f"{name}[r] = {joined};")

    def _fill(self, panel: Panel, row: str, column: str = "0") -> None:
        panel.fill(self.ev, self.shape.threads, row, column, self.unaligned)

    # ---- which tiles

    def _heavier(self) -> bool:
        """Whether more tiles of keys count for the last tile of queries than for the first."""
        if not self.skips:
            return False
        f, s = self.form, self.shape
        last = (self.queries - 1) // s.queries * s.queries

        def count(i: int) -> int:
            return sum(bool(tile_counts(f.score, f.counts, Numbers({
                f.query: (i, min(i + s.queries, self.queries) - 1),
                f.key: (j, min(j + s.keys, self.keys) - 1)})))
                for j in range(0, self.keys, s.keys))
        return count(last) > count(0)

    def _bounds(self, rows: str) -> Texts:
        """The tile of these rows' first and last, and of keys j0 to j1."""
        f = self.form
        others = {a: (self.ev.axes[a], self.ev.axes[a]) for a in f.batch}
        return Texts({**others, f.query: (f"{rows}0", f"{rows}1"), f.key: ("j0", "j1")})

    def _end(self, name: str, first: str, step: int, size: int) -> None:
        """The last query, or key, of some."""
        last = f"{first} + {step - 1}"
        self.w.line(f"const i32 {name} = " + (
            f"{last};" if size % step == 0 else f"w_index_min<i32>({last}, {size - 1});"))

    def _seek(self) -> None:
        """Which tiles count, for the block and for a warp."""
        w, f, s = self.w, self.form, self.shape
        w.line(f"const i32 w0 = i0 + (i32)threadIdx.x / 32 * {s.apart * s.rows};")
        self._end("i1", "i0", s.queries, self.queries)
        self._end("w1", "w0", s.apart * s.rows, self.queries)
        with self.ev.scope("const auto counts = [&](i32 i0, i32 i1, i32 j0) -> bool"):
            self._end("j1", "j0", s.keys, self.keys)
            w.line(f"return {text(tile_counts(f.score, f.counts, self._bounds('i')))};")
        w.line(";")
        with w.block("const auto seek = [&](i32 j0) -> i32"):
            w.line(f"while (j0 < {self.keys} && !counts(i0, i1, j0)) j0 += {s.keys};")
            w.line("return j0;")
        w.line(";")

    def _tiles(self) -> None:
        """A loop over the tiles of keys that count; queries are there, or on their way."""
        w, s, p = self.w, self.shape, self.panels
        following = f"seek(j0 + {s.keys})" if self.skips else f"j0 + {s.keys}"
        w.line(f"i32 j0 = {'seek(0)' if self.skips else '0'};")
        with self.ev.scope(f"if (j0 < {self.keys})"):
            self._fill(p.k, "j0")
        with self.ev.scope(f"while (j0 < {self.keys})"):
            self._arrived()
            self._fill(p.v, "j0")
            if self.skips:
                w.line("const bool some_count = counts(w0, w1, j0);")
            w.line(f"f32 s[{s.rows}][{s.columns}] = {{}};")
            with self.ev.scope("if (some_count)" if self.skips else None):
                self._scores()
                self._weights()
            self._arrived()
            w.line(f"const i32 next = {following};")
            with self.ev.scope(f"if (next < {self.keys})"):
                self._fill(p.k, "next")
            with self.ev.scope("if (some_count)" if self.skips else None):
                self._results()
            if self.skips:
                with w.block("else"):
                    self._nothing()
            w.line("j0 = next;")

    def _chunked_tiles(self) -> None:
        """The same, for queries and keys that are too long to be there as a whole."""
        w, s, p = self.w, self.shape, self.panels
        step = f"j0 = seek(j0 + {s.keys})" if self.skips else f"j0 += {s.keys}"
        first = "seek(0)" if self.skips else "0"
        with self.ev.scope(f"for (i32 j0 = {first}; j0 < {self.keys}; {step})"):
            w.line(f"f32 s[{s.rows}][{s.columns}] = {{}};")
            w.line("__syncthreads();")
            self._fill(p.v, "j0")
            with self.ev.scope(f"for (i32 c0 = 0; c0 < {self.depth}; c0 += {CHUNK})"):
                self._fill(p.q, "i0", "c0")
                self._fill(p.k, "j0", "c0")
                self._arrived()
                self._scores()
                w.line("__syncthreads();")
            self._weights()
            w.line("__syncwarp();")
            self._results()

    def _nothing(self) -> None:
        """A tile of which nothing counts for a warp: its weights are 0, which values that are not
        finite make NaN."""
        w, s, p = self.w, self.shape, self.panels
        w.line(f"f32 rest[{self.sums}] = {{}};")
        with w.block(f"for (i32 x = ty; x < {s.keys}; x += {s.apart})"):
            w.line("#pragma unroll")
            w.line(f"for (i32 c = 0; c < {self.sums}; ++c) rest[c] = w_fma("
                   f"values[x * {p.v.pitch} + {s.value('c')}], 0.0f, rest[c]);")
        w.line("#pragma unroll")
        with w.block(f"for (i32 c = 0; c < {self.sums}; ++c)"):
            w.line("#pragma unroll")
            w.line(f"for (i32 d = {s.lanes}; d < 32; d *= 2) rest[c] += w_shuffle(rest[c], d);")
            self._each_row("out[r][c] += rest[c];")

    def _passed_over(self) -> None:
        """The same for tiles that the block has not looked at, from memory."""
        w, s, p = self.w, self.shape, self.panels
        along = p.v.columns // 4
        lines = s.threads // along
        w.line("bool any = false;")
        w.line("f32 rest[4] = {};")
        with self.ev.scope(f"for (i32 j0 = 0; j0 < {self.keys}; j0 += {s.keys})"):
            w.line("if (counts(i0, i1, j0)) continue;")
            w.line("any = true;")
            p.v.look(self.ev, f"(i32)threadIdx.x / {along}", lines,
                     f"(i32)threadIdx.x % {along} * 4", "j0",
                     "rest[u] = w_fma({}, 0.0f, rest[u]);", self.unaligned)
        with w.block("if (any)"):
            w.line("__syncthreads();")
            w.line(f"if ((i32)threadIdx.x < {lines * along}) "
                   "*(w_vec<f32, 4>*)(values + 4 * threadIdx.x) = "
                   "w_vec<f32, 4>{rest[0], rest[1], rest[2], rest[3]};")
            w.line("__syncthreads();")
            with w.block(f"for (i32 x = 0; x < {lines}; ++x)"):
                w.line("#pragma unroll")
                with w.block(f"for (i32 c = 0; c < {self.sums}; ++c)"):
                    w.line(f"const f32 y = values[x * {p.v.columns} + {s.value('c')}];")
                    self._each_row("out[r][c] += y;")

    def _arrived(self) -> None:
        self.w.line("w_copies_done();")
        self.w.line("__syncthreads();")

    # ---- scores and weights

    def _scores(self) -> None:
        p = self.panels
        if self.shape.tensor:
            self.w.line(f"w_mma_rows<{self.kind}, {p.q.columns}, {p.q.pitch}, {p.k.pitch}>"
                        f"(s, queries + row * {p.q.pitch} + tx * 4, "
                        f"keys + ty * {p.k.pitch} + tx * 4);")
            return
        self.w.line(f"w_rows_by_rows<{p.q.columns}, {4 * p.q.pitch}, {LANES * p.k.pitch}>"
                    f"(s, queries + row * {p.q.pitch}, keys + tx * {p.k.pitch});")

    def _weights(self) -> None:
        """Scores become weights; scales are for what was summed before."""
        w, f, s, p = self.w, self.form, self.shape, self.panels
        w.line(f"f32 top[{s.rows}];")
        whole, plain = unmasked(f.score, self._bounds("w")) if self.skips else (False, f.score)
        if f.counts is not None and whole is not False:
            whole = both(whole, must_hold(f.counts, self._bounds("w")))
        if whole is False:
            self._masked(f.score, f.counts)
        else:
            self._end("j1", "j0", s.keys, self.keys)
            edges = [f"{a}0 + {n} <= {size}" for a, n, size in (
                ("w", s.apart * s.rows, self.queries), ("j", s.keys, self.keys)) if size % n]
            with self.ev.scope(f"if ({' && '.join([text(whole), *edges])})"):
                self._masked(plain, None, whole=True)
            with self.ev.scope("else"):
                self._masked(f.score, f.counts)
        self._join("top", s.rows, "fmaxf(a, b)")
        w.line("#pragma unroll")
        with w.block(f"for (i32 r = 0; r < {s.rows}; ++r)"):
            w.line("const f32 before = most[r];")
            w.line("most[r] = fmaxf(before, top[r]);")
            # before there is a score, nothing was summed: any finite base will do
            w.line(f"const f32 low = most[r] == {_LOWEST} ? 0.0f : base(most[r]);")
            w.line("const f32 less = expf(base(before) - low);")
            w.line(f"scale[r] = before == {_LOWEST} ? 0.0f : less;")
            w.line("f32 sum = 0;")
            w.line("#pragma unroll")
            with w.block(f"for (i32 t = 0; t < {s.columns}; ++t)"):
                w.line(f"const f32 weight = {'w_exp_near' if s.tensor else 'expf'}(s[r][t] - low);")
                w.line("sum += weight;")
                w.line("s[r][t] = weight;" if s.tensor else
                       f"weights[(row + 4 * r) * {p.weights} + {s.key('t')}] = weight;")
            w.line("total[r] = total[r] * scale[r] + sum;")

    def _masked(self, score: Expr, counts: Expr | None, whole: bool = False) -> None:
        """What is done to scores, and the greatest of a thread's in each row.

        NaN is left out there: as a weight, it makes all results of the row NaN.
        """
        w, f, s = self.w, self.form, self.shape
        with self._rows():
            w.line(f"top[r] = {_LOWEST};")
            if whole and f.counts is not None:
                w.line("some[r] = true;")
            w.line("#pragma unroll")
            with self.ev.scope(f"for (i32 t = 0; t < {s.columns}; ++t)"):
                w.line(f"const i32 j = j0 + {s.key('t')};")
                self.ev.axes[f.key] = "j"
                inside = [] if whole else [
                    f"{a} < {size}" for a, n, size in (("i", s.queries, self.queries),
                                                       ("j", s.keys, self.keys)) if size % n]
                w.line(f"f32 x = {_LOWEST};")
                with self.ev.scope(f"if ({' && '.join(inside) or 'true'})"):
                    for e in _scores(f.score):
                        self.ev.given[e] = "s[r][t]"
                    w.line(f"x = {self.ev.value(score)};")
                    if counts is not None:
                        w.line(f"some[r] = some[r] || {self.ev.value(counts)};")
                w.line("s[r][t] = x;")
                w.line("top[r] = fmaxf(top[r], x);")

    # ---- results

    def _results(self) -> None:
        w, s, p = self.w, self.shape, self.panels
        if s.tensor:
            with w.block(f"for (i32 r = 0; r < {s.rows}; ++r)"):
                w.line(f"for (i32 c = 0; c < {self.sums}; ++c) out[r][c] *= scale[r];")
            w.line(f"w_mma_columns<{self.kind}, {p.v.pitch}>(out, s, "
                   f"values + tx * {2 * p.v.pitch} + ty);")
            return
        w.line(f"f32 part[{s.rows}][{self.sums}] = {{}};")
        w.line(f"w_rows_by_columns<{s.keys}, {4 * p.weights}, {p.v.pitch}, {4 * LANES}>"
               f"(part, weights + row * {p.weights}, values + 4 * tx);")
        w.line("#pragma unroll")
        with w.block(f"for (i32 r = 0; r < {s.rows}; ++r)"):
            w.line("#pragma unroll")
            w.line(f"for (i32 c = 0; c < {self.sums}; ++c) "
                   "out[r][c] = w_fma(out[r][c], scale[r], part[r][c]);")

    def _finish(self) -> None:
        w, f = self.w, self.form
        # the weight of each of so many lowest scores: 0, or what the difference of infinities is
        w.line(f"const f32 lost = most[r] == {_LOWEST} ? expf(most[r] - base(most[r])) : 0.0f;")
        w.line("const f32 sum = total[r] + lost;")
        if f.counts is not None:
            w.line(f"const bool counted = w_join_lanes<{self.shape.lanes}>(some[r], {_EITHER});")
        with self.ev.scope(f"if (i < {self.queries})"):
            self.ev.accs.update({f.total: "sum", f.some: "counted"})
            w.line(f"const f32 divisor = {self.ev.value(f.divisor)};")
            for (name, index), value in zip(f.stats or (), ("base(most[r])", "1.0f / divisor")):
                w.line(f"if (tx == 0) {name}[{self.ev.index(index)}] = {value};")
            self._store()

    def _store(self) -> None:
        """The results of a row, four at a time where memory has them so."""
        w, (name, index) = self.w, self.form.result
        n = self.shape.run if runs_in_fours(index, self.form.value) \
            and name not in self.unaligned else 1
        w.line("#pragma unroll")
        with self.ev.scope(f"for (i32 c = 0; c < {self.sums}; c += {n})"):
            w.line(f"const i32 d = {self.shape.value('c')};")
            w.line(f"w_vec<f32, {n}> y;")
            w.line("#pragma unroll")
            w.line(f"for (i32 u = 0; u < {n}; ++u) y.v[u] = (out[r][c + u] + lost) / divisor;")
            self.ev.axes[self.form.value] = "d"
            w.line(f"if (d < {self.width}) "
                   f"*(w_vec<f32, {n}>*)({name} + ({self.ev.index(index)})) = y;")


def _scores(e: Expr) -> Iterator[Expr]:
    if e.kind == "load" and e.what == SCORE:
        yield e
    for a in e.args:
        yield from _scores(a)
