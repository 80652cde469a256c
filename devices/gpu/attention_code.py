"""CUDA C++ for attention: tiles of 64 queries go along the keys, 64 at a time.

A block of 256 threads has a tile. Thread (tx, ty) has rows 4 ty to 4 ty + 3 and, of the scores,
columns 4 tx to 4 tx + 3; of the results, every 64th group of four columns. A row is shared by 16
neighbouring threads, half a warp, which join its maximum and its sum by shuffles. The running
maximum scales what was summed before when a greater score comes (Milakov and Gimelshein, 2018).
Sums over one tile's keys are taken apart and then added, so that rounding grows with the number of
tiles, not of keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from weft.compiler.kernel.expr import Expr
from weft.compiler.kernel.ir import Kernel, Library
from weft.compiler.types import DTYPES
from weft.devices.gpu.attention import SCORE, Attention
from weft.devices.gpu.loops import KernelCode, place, signature
from weft.devices.gpu.lower import identity
from weft.devices.gpu.writer import Evaluator, Writer

__all__ = ["emit_attention"]

THREADS = 256
TILE = 64               # queries, keys, and columns of values
DEPTH = 32              # of queries and keys, that is in shared memory at a time
PITCH = TILE + 4        # of rows in shared memory: vectors stay aligned, banks differ
_LOWEST = identity("max", DTYPES["f32"])
_PLUS = "[](f32 a, f32 b) { return a + b; }"
_MOST = "[](f32 a, f32 b) { return w_maximum(a, b); }"
_EITHER = "[](bool a, bool b) { return a || b; }"


def emit_attention(step: Library, name: str) -> KernelCode:
    """The function of an attention step."""
    form = dict(step.attrs)["form"]
    assert isinstance(form, Attention)
    return _Code(step, form, name).emit()


class _Code:
    def __init__(self, step: Library, form: Attention, name: str) -> None:
        self.form, self.name = form, name
        every = (*form.batch, form.query, form.key, form.depth, form.value)
        self.kernel = Kernel(every, (), step.buffers, step.outputs)
        self.w = Writer()
        self.ev = Evaluator(self.kernel, self.w)
        self.queries, self.keys, self.depth, self.width = (
            a.extent for a in (form.query, form.key, form.depth, form.value)
            if isinstance(a.extent, int))
        self.panels = -(-self.width // TILE)

    def emit(self) -> KernelCode:
        """The function."""
        w, f = self.w, self.form
        plan = f"attention, {THREADS} threads, tiles of {TILE} queries and {TILE} keys"
        w.line(f"__shared__ __align__(16) f32 panels[{2 * DEPTH * PITCH}];")
        w.line(f"__shared__ __align__(16) f32 weights[{TILE * PITCH}];")
        w.line("const i32 tx = (i32)threadIdx.x % 16, ty = (i32)threadIdx.x / 16;")
        w.line(f"const i32 tiles = {-(-self.queries // TILE)};")
        w.line(f"const i32 i0 = (i32)blockIdx.x % tiles * {TILE};")
        w.line("const i32 batch = (i32)blockIdx.x / tiles;")
        place(self.ev, "batch", f.batch, "i32")
        self._base()
        w.line(f"f32 most[4], total[4], scale[4], out[4][{4 * self.panels}] = {{}};")
        if f.counts is not None:
            w.line("bool some[4] = {};")
        w.line(f"for (i32 r = 0; r < 4; ++r) {{ most[r] = {_LOWEST}; total[r] = 0; }}")
        with self.ev.scope(f"for (i32 j0 = 0; j0 < {self.keys}; j0 += {TILE})"):
            self._products()
            with self._rows():
                self._weights()
            self._results()
        with self._rows():
            self._finish()
        head = signature(self.kernel, self.name, THREADS)
        text = "\n".join([f"// {plan}", head + " {", *w.lines, "}", ""])
        blocks = tuple((a.extent, 1) for a in f.batch if isinstance(a.extent, int))
        return KernelCode(self.name, text, THREADS, (*blocks, (self.queries, TILE)), plan=plan)

    @contextmanager
    def _rows(self) -> Iterator[None]:
        self.w.line("#pragma unroll")
        with self.ev.scope("for (i32 r = 0; r < 4; ++r)"):
            self.w.line("const i32 i = i0 + ty * 4 + r;")
            self.ev.axes[self.form.query] = "i"
            yield

    def _base(self) -> None:
        """What is taken off the scores, by the greatest of them."""
        with self.ev.scope("const auto base = [](f32 greatest) -> f32"):
            self.ev.accs[self.form.greatest] = "greatest"
            self.w.line(f"return {self.ev.value(self.form.base)};")
        self.w.line(";")

    # ---- scores

    def _products(self) -> None:
        """A tile of products of queries and keys."""
        w = self.w
        w.line("f32 s[4][4] = {};")
        with w.block(f"for (i32 c0 = 0; c0 < {self.depth}; c0 += {DEPTH})"):
            w.line("__syncthreads();")
            header = f"for (i32 e = (i32)threadIdx.x; e < {TILE * DEPTH}; e += {THREADS})"
            with self.ev.scope(header):
                w.line(f"const i32 c = c0 + e % {DEPTH}, i = i0 + e / {DEPTH}, "
                       f"j = j0 + e / {DEPTH};")
                at = f"panels[e % {DEPTH} * {PITCH} + e / {DEPTH}"
                self._fill(f"{at}]", self.form.q, f"i < {self.queries} && c < {self.depth}")
                self._fill(f"{at} + {DEPTH * PITCH}]", self.form.k,
                           f"j < {self.keys} && c < {self.depth}")
            w.line("__syncthreads();")
            self._multiply(DEPTH, "panels", f"panels + {DEPTH * PITCH}", "s")

    def _fill(self, place: str, e: Expr, inside: str) -> None:
        """Put an element into shared memory, or 0 where there is none."""
        f = self.form
        self.ev.axes.update({f.query: "i", f.key: "j", f.depth: "c", f.value: "d"})
        self.w.line(f"{place} = {inside} ? {e.what}[{self.ev.index(e.index[0])}] : 0.0f;")

    def _multiply(self, turns: int, left: str, right: str, into: str) -> None:
        w = self.w
        w.line("#pragma unroll 8")
        with w.block(f"for (i32 c = 0; c < {turns}; ++c)"):
            for name, panel, at in (("a", left, "ty"), ("b", right, "tx")):
                w.line(f"const w_vec<f32, 4> {name} = *(const w_vec<f32, 4>*)"
                       f"({panel} + c * {PITCH} + {at} * 4);")
            w.line("#pragma unroll")
            with w.block("for (i32 r = 0; r < 4; ++r)"):
                w.line("#pragma unroll")
                w.line(f"for (i32 t = 0; t < 4; ++t) {into}[r][t] = "
                       f"w_fma(a.v[r], b.v[t], {into}[r][t]);")

    # ---- weights

    def _weights(self) -> None:
        """Scores of one row become weights; what was summed before is scaled."""
        w, f = self.w, self.form
        w.line(f"f32 top = {_LOWEST};")
        w.line("#pragma unroll")
        with self.ev.scope("for (i32 t = 0; t < 4; ++t)"):
            w.line("const i32 j = j0 + tx * 4 + t;")
            w.line(f"f32 x = {_LOWEST};")
            with self.ev.scope(f"if (i < {self.queries} && j < {self.keys})"):
                self.ev.axes[f.key] = "j"
                self._given("s[r][t]")
                w.line(f"x = {self.ev.value(f.score)};")
                if f.counts is not None:
                    w.line(f"some[r] = some[r] || {self.ev.value(f.counts)};")
            w.line("s[r][t] = x;")
            w.line("top = w_maximum(top, x);")
        w.line(f"top = w_maximum(most[r], w_join_lanes<16>(top, {_MOST}));")
        # before there is a score, nothing was summed: any finite base will do
        w.line(f"const f32 low = top == {_LOWEST} ? 0.0f : base(top);")
        w.line(f"scale[r] = most[r] == {_LOWEST} ? 0.0f : expf(base(most[r]) - low);")
        w.line("most[r] = top;")
        w.line("f32 sum = 0;")
        w.line("#pragma unroll")
        with w.block("for (i32 t = 0; t < 4; ++t)"):
            w.line("const f32 p = expf(s[r][t] - low);")
            w.line("sum += p;")
            w.line(f"weights[(tx * 4 + t) * {PITCH} + ty * 4 + r] = p;")
        w.line(f"total[r] = total[r] * scale[r] + w_join_lanes<16>(sum, {_PLUS});")

    def _given(self, text: str) -> None:
        f32 = DTYPES["f32"]
        for e in _scores(self.form.score):
            assert e.dtype is f32
            self.ev.given[e] = text

    # ---- results

    def _results(self) -> None:
        w = self.w
        w.line("#pragma unroll")
        with self.ev.scope(f"for (i32 h = 0; h < {self.panels}; ++h)"):
            w.line("__syncthreads();")
            header = f"for (i32 e = (i32)threadIdx.x; e < {TILE * TILE}; e += {THREADS})"
            with self.ev.scope(header):
                w.line(f"const i32 d = h * {TILE} + e % {TILE}, j = j0 + e / {TILE};")
                self._fill(f"panels[e / {TILE} * {PITCH} + e % {TILE}]", self.form.v,
                           f"j < {self.keys} && d < {self.width}")
            w.line("__syncthreads();")
            w.line("f32 part[4][4] = {};")
            self._multiply(TILE, "weights", "panels", "part")
            w.line("#pragma unroll")
            with w.block("for (i32 r = 0; r < 4; ++r)"):
                w.line("#pragma unroll")
                w.line("for (i32 t = 0; t < 4; ++t) out[r][h * 4 + t] = "
                       "w_fma(out[r][h * 4 + t], scale[r], part[r][t]);")

    def _finish(self) -> None:
        w, f = self.w, self.form
        # the weight of each of so many lowest scores: 0, or what the difference of infinities is
        w.line(f"const f32 lost = most[r] == {_LOWEST} ? expf(most[r] - base(most[r])) : 0.0f;")
        w.line("const f32 sum = total[r] + lost;")
        if f.counts is not None:
            w.line(f"const bool counted = w_join_lanes<16>(some[r], {_EITHER});")
        with self.ev.scope(f"if (i < {self.queries})"):
            self.ev.accs.update({f.total: "sum", f.some: "counted"})
            w.line(f"const f32 divisor = {self.ev.value(f.divisor)};")
            w.line("#pragma unroll")
            with self.ev.scope(f"for (i32 c = 0; c < {4 * self.panels}; ++c)"):
                w.line(f"const i32 d = c / 4 * {TILE} + tx * 4 + c % 4;")
                self.ev.axes[f.value] = "d"
                name, index = f.result
                w.line(f"if (d < {self.width}) {name}[{self.ev.index(index)}] = "
                       "(out[r][c] + lost) / divisor;")


def _scores(e: Expr) -> Iterator[Expr]:
    if e.kind == "load" and e.what == SCORE:
        yield e
    for a in e.args:
        yield from _scores(a)
