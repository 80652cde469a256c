"""Matrix products of our own: tiles of the result, over panels of the operands in shared memory.

What it can write is any contraction: products of two values of which one depends on rows of the
result alone, the other on columns, summed over axes that both have; with whatever reads the
operands (transposes, windows of a convolution, conversions) and whatever follows the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from weft.compiler.kernel.expr import Expr
from weft.compiler.kernel.flatten import flatten
from weft.compiler.kernel.index import Axis, Index
from weft.compiler.kernel.ir import Kernel
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.target import Target
from weft.compiler.types import Dim, DType, numel
from weft.devices.gpu.loops import KernelCode, place, signature
from weft.devices.gpu.lower import reg, store_value
from weft.devices.gpu.panels import Panel
from weft.devices.gpu.schedule import extent_of
from weft.devices.gpu.writer import Evaluator, Writer

__all__ = ["ProductForm", "Tile", "emit_product", "product_form", "tile_for"]

CHUNK = 512             # turns added up before the sum joins the others: less rounding
LEAST = 16              # rows, and columns, from which tiles are worth it
THREADS = 256


@dataclass(frozen=True)
class ProductForm:
    """A kernel as a product: the axes of rows, of columns, of both (`batch`), and of the sum."""

    left: Expr
    right: Expr
    dtype: DType
    batch: tuple[Axis, ...]
    rows: tuple[Axis, ...]
    columns: tuple[Axis, ...]
    inner: tuple[Axis, ...]


@dataclass(frozen=True)
class Tile:
    """How a block's threads share a tile of `rows` x `columns`: each has `down` x `across` elements
    of it, and panels are `depth` turns deep."""

    rows: int
    columns: int
    depth: int
    down: int
    across: int

    def __str__(self) -> str:
        return (f"product, tiles of {self.rows} x {self.columns} x {self.depth}, "
                f"{self.down} x {self.across} for a thread")


# What a result costs in each, beside 128 x 128: smaller tiles read more for each product.
_TILES = {Tile(128, 128, 8, 8, 8): 1.0, Tile(128, 64, 16, 8, 4): 1.1, Tile(64, 128, 16, 4, 8): 1.1,
          Tile(64, 64, 16, 4, 4): 1.3, Tile(128, 32, 16, 8, 2): 1.5, Tile(32, 128, 16, 2, 8): 1.5,
          Tile(64, 32, 16, 4, 2): 1.8, Tile(32, 64, 16, 2, 4): 1.8}
_WIDE = {8: Tile(64, 64, 16, 4, 4), 16: Tile(64, 64, 8, 4, 4)}      # of larger elements


def product_form(kernel: Kernel) -> ProductForm | None:
    """The form of a flattened kernel, None where it has not this one, or is too small."""
    if not kernel.stages or kernel.scratch or kernel.updates:
        return None
    first, *rest = kernel.stages
    if len(first.reduces) != 1 or first.stores or first.checks or not first.axes \
            or any(s.axes or s.reduces or s.checks for s in rest):
        return None
    (r,) = first.reduces
    axes = (*kernel.axes, *first.axes)
    if r.op != "sum" or r.value.kind != "apply" or r.value.what != "mul" \
            or any(isinstance(a.extent, Index) for a in axes):
        return None
    form = _with_roles(kernel, r.value.args, r.dtype, first.axes)
    if form is None or min(map(_points, (form.rows, form.columns))) < LEAST:
        return None
    return form


def _with_roles(kernel: Kernel, operands: tuple[Expr, ...], dtype: DType, inner: tuple[Axis, ...]
                ) -> ProductForm | None:
    a, b = operands
    rows = tuple(x for x in kernel.axes if x in a.axes and x not in b.axes)
    columns = tuple(x for x in kernel.axes if x in b.axes and x not in a.axes)
    if rows and columns and kernel.axes.index(rows[-1]) > kernel.axes.index(columns[-1]):
        a, b, rows, columns = b, a, columns, rows       # neighbouring columns lie side by side
    batch = tuple(x for x in kernel.axes if x not in rows and x not in columns)
    return ProductForm(a, b, dtype, batch, rows, columns, inner)


def _points(axes: Sequence[Axis]) -> int:
    return prod(map(extent_of, axes))


def tile_for(form: ProductForm, target: Target) -> Tile:
    """The tile with which the multiprocessor that has most of them has least to do."""
    if form.dtype.itemsize > 4:
        return _WIDE[form.dtype.itemsize]
    rows, columns, batch = map(_points, (form.rows, form.columns, form.batch))

    def cost(t: Tile) -> float:
        blocks = -(-rows // t.rows) * -(-columns // t.columns) * batch
        return -(-blocks // target.threads) * t.rows * t.columns * _TILES[t]

    return min(_TILES, key=cost)


def emit_product(kernel: Kernel, name: str, target: Target,
                 unaligned: frozenset[str] = frozenset()) -> KernelCode | None:
    """The function of a kernel that is a product, None for others; `unaligned` are buffers that may
    begin anywhere."""
    flat = flatten(kernel)
    form = product_form(flat)
    return None if form is None else \
        _Product(flat, form, tile_for(form, target), name, unaligned).emit()


class _Product:
    def __init__(self, kernel: Kernel, form: ProductForm, tile: Tile, name: str,
                 unaligned: frozenset[str]) -> None:
        self.kernel, self.form, self.tile, self.name = kernel, form, tile, name
        self.w = Writer()
        self.ev = Evaluator(kernel, self.w)
        every = numel(a.extent for a in (*kernel.axes, *form.inner)
                      if not isinstance(a.extent, Index))
        self.kind = "i32" if isinstance(every, int) and all(
            isinstance(t.size, int) and t.size < 1 << 30 for _, t in kernel.buffers) else "i64"
        self.type = reg(form.dtype)
        self.unaligned = unaligned
        self.group = max(1, min(4, 16 // max(4, form.dtype.itemsize)))  # what one access reads

    def emit(self) -> KernelCode:
        """The function."""
        f, t, w = self.form, self.tile, self.w
        rows, columns, inner, batch = map(_size, (f.rows, f.columns, f.inner, f.batch))
        self._begin(rows, columns, batch)
        compensated = f.dtype.is_inexact and (not isinstance(inner, int) or inner >= 2 * CHUNK)
        w.line(f"{self.type} sum[{t.down}][{t.across}] = {{}};")
        if compensated:
            w.line(f"{self.type} whole[{t.down}][{t.across}] = {{}};")
        panels = [
            Panel(self.ev, side, value, outer, f.inner, begin=begin, size=size, turns=inner,
                  width=width, depth=t.depth, kind=self.kind, type=self.type,
                  unaligned=self.unaligned)
            for side, value, outer, begin, size, width in (
                ("left", f.left, f.rows, "m0", rows, t.rows),
                ("right", f.right, f.columns, "n0", columns, t.columns))]
        for p in panels:
            w.line(f"__shared__ __align__(16) {self.type} {p.side}[2][{t.depth}][{p.width + 4}];")
        for p in panels:
            p.begin_rows()
        # each turn reads the panels of the next one while it multiplies its own
        k, end = self.kind, self._dim(inner)
        w.line("i32 own = 1;")
        with self.ev.scope(f"for ({k} k0 = {-t.depth}; k0 < {end}; k0 += {t.depth}, own ^= 1)"):
            w.line(f"const bool more = k0 + {t.depth} < {end};")
            with self.ev.scope("if (more)"):
                for p in panels:
                    p.fetch(f"k0 + {t.depth}")
            with w.block("if (k0 >= 0)"):
                self._multiply()
                if compensated:
                    with w.block(f"if ((k0 + {t.depth}) % {CHUNK} == 0)"):
                        self._add_up("sum[i][j] = {};")
            with self.ev.scope("if (more)"):
                for p in panels:
                    p.stash("own ^ 1")
            w.line("__syncthreads();")
        if compensated:
            self._add_up("sum[i][j] = whole[i][j];")
        self._finish(rows, columns)
        head = signature(self.kernel, self.name, THREADS)
        text = "\n".join([f"// {t}", head + " {", *w.lines, "}", ""])
        blocks = ((batch, 1), (rows, t.rows), (columns, t.columns))
        return KernelCode(self.name, text, THREADS, blocks, plan=str(t))

    def _dim(self, d: Dim) -> str:
        return self.ev.dim(d, self.kind)

    def _begin(self, rows: Dim, columns: Dim, batch: Dim) -> None:
        """Which tile this block has, and which of its elements this thread."""
        t, w, k = self.tile, self.w, self.kind
        w.line(f"const {k} across = ({self._dim(columns)} + {t.columns - 1}) / {t.columns};")
        w.line(f"const {k} down = ({self._dim(rows)} + {t.rows - 1}) / {t.rows};")
        w.line(f"const {k} n0 = ({k})blockIdx.x % across * {t.columns};")
        w.line(f"const {k} m0 = ({k})blockIdx.x / across % down * {t.rows};")
        w.line(f"const {k} batch = ({k})blockIdx.x / across / down;")
        # the threads of a warp are 4 x 8, so that few of them read different rows and columns
        wide = t.columns // t.across // 8
        w.line(f"const i32 row = (i32)threadIdx.x / 32 / {wide} * 4 + "
               "(i32)threadIdx.x % 32 / 8;")
        w.line(f"const i32 column = (i32)threadIdx.x / 32 % {wide} * 8 + (i32)threadIdx.x % 8;")
        place(self.ev, "batch", self.form.batch, k)

    def _place(self, own: str, number: str, threads: int, count: int) -> str:
        """Which row of the tile is a thread's number so: groups of neighbours."""
        g = min(self.group, count)
        return f"({number} / {g} * {threads * g} + {own} * {g} + {number} % {g})"

    def _multiply(self) -> None:
        t, w = self.tile, self.w
        w.line("#pragma unroll")
        with w.block(f"for (i32 turn = 0; turn < {t.depth}; ++turn)"):
            w.line(f"{self.type} a[{t.down}], b[{t.across}];")
            for name, side, count, own, step in (
                    ("a", "left", t.down, "row", t.rows // t.down),
                    ("b", "right", t.across, "column", t.columns // t.across)):
                g = min(self.group, count)
                vector = f"w_vec<{self.type}, {g}>"
                w.line("#pragma unroll")
                w.line(f"for (i32 i = 0; i < {count}; i += {g}) *({vector}*)&{name}[i] = "
                       f"*(const {vector}*)&{side}[own][turn][i * {step} + {own} * {g}];")
            w.line("#pragma unroll")
            with w.block(f"for (i32 i = 0; i < {t.down}; ++i)"):
                w.line("#pragma unroll")
                w.line(f"for (i32 j = 0; j < {t.across}; ++j) "
                       "sum[i][j] = w_fma(a[i], b[j], sum[i][j]);")

    def _add_up(self, then: str) -> None:
        t, w = self.tile, self.w
        w.line("#pragma unroll")
        with w.block(f"for (i32 i = 0; i < {t.down}; ++i)"):
            w.line("#pragma unroll")
            with w.block(f"for (i32 j = 0; j < {t.across}; ++j)"):
                w.line("whole[i][j] = w_plus(whole[i][j], sum[i][j]);")
                w.line(then.replace("{}", f"{self.type}()"))

    def _finish(self, rows: Dim, columns: Dim) -> None:
        """What follows the sum, for each of the thread's elements."""
        f, t, w, ev, k = self.form, self.tile, self.w, self.ev, self.kind
        ev.accs[self.kernel.reduces[0].number] = "sum[i][j]"
        w.line("#pragma unroll")
        with ev.scope(f"for (i32 i = 0; i < {t.down}; ++i)"):
            w.line("#pragma unroll")
            with ev.scope(f"for (i32 j = 0; j < {t.across}; ++j)"):
                at = self._place("row", "i", t.rows // t.down, t.down)
                w.line(f"const {k} m = m0 + {at};")
                at = self._place("column", "j", t.columns // t.across, t.across)
                w.line(f"const {k} n = n0 + {at};")
                with ev.scope(f"if (m < {self._dim(rows)} && n < {self._dim(columns)})"):
                    place(ev, "m", f.rows, k)
                    place(ev, "n", f.columns, k)
                    for stage in self.kernel.stages[1:]:
                        for s in stage.stores:
                            dtype = self.kernel.types[s.buffer].dtype
                            value = store_value(ev.value(s.value), dtype)
                            w.line(f"{s.buffer}[{ev.index(s.index[0])}] = {value};")


def _size(axes: Sequence[Axis]) -> Dim:
    return numel(a.extent for a in axes if not isinstance(a.extent, Index))
