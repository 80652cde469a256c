"""The inner loops of contractions: a register tile of accumulators over k.

For every k a few vectors of the right side meet `rows` broadcast elements of the left side. How
both are addressed is up to their readers: packed panels or the arrays themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from math import prod

from weft.compiler.kernel.expr import Expr
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import DType
from weft.devices.cpu.emit import BITS, Emitter, Number, Val
from weft.devices.cpu.gemm_form import Form, Leaf
from weft.devices.cpu.lower import Scalar, Typed, apply, convert, load_value, memory_type, reg
from weft.devices.cpu.lower_complex import Cx

__all__ = ["Body", "Reader", "Sides", "Span", "Tile", "from_planes", "plane_type", "read_element",
           "to_planes"]

Planes = tuple[Val, ...]


def plane_type(dtype: DType) -> str:
    """The element type of packed panels and tiles: real, at least a byte, 16-bit floats wide."""
    return "u8" if dtype.kind == "bool" else reg(dtype.real)


def to_planes(e: Emitter, x: Scalar, dtype: DType) -> Planes:
    """A register value as it is kept in panels and tiles."""
    if isinstance(x, Cx):
        return x.re, x.im
    return (e.convert(x, "u8") if dtype.kind == "bool" else x,)


def from_planes(planes: Planes, dtype: DType) -> Scalar:
    """The register value that `to_planes` took."""
    if dtype.is_complex:
        return Cx(*planes)
    return planes[0].ne(0) if dtype.kind == "bool" else planes[0]


@dataclass(frozen=True)
class Reader:
    """Where a tile finds one leaf: `at(k, i)` gives the planes for turn k at row or vector i."""

    leaf: Leaf
    at: Callable[[Val, int], Planes]


Sides = tuple[Sequence[Reader], Sequence[Reader], Sequence[Reader]]     # left, right, middle


def read_element(e: Emitter, leaf: Leaf, address: Val, lanes: int, mask: Val | None) -> Planes:
    """Elements of a plain leaf from consecutive addresses, converted as the leaf says."""
    assert leaf.load is not None
    dtype = leaf.load.dtype
    if dtype.is_complex:
        raw = e.load(address, dtype.real.name, 2 * lanes, _doubled(e, mask))
        order = [range(k, 2 * lanes, 2) for k in (0, 1)]
        parts = [e.shuffle(raw, None, list(o)) if lanes > 1 else e.extract(raw, o[0])
                 for o in order]
        value: Scalar = Cx(*parts)
    else:
        value = load_value(e, e.load(address, memory_type(dtype), lanes, mask), dtype)
    return to_planes(e, _converted(e, leaf.expr, value), leaf.expr.dtype)


def _doubled(e: Emitter, mask: Val | None) -> Val | None:
    return None if mask is None else e.shuffle(mask, None,
                                               [i // 2 for i in range(2 * mask.lanes)])


def _converted(e: Emitter, expr: Expr, value: Scalar) -> Scalar:
    if expr.kind == "load":
        return value
    (inner,) = expr.args
    return convert(e, _converted(e, inner, value), inner.dtype, expr.dtype)


class Body:
    """Writes `acc = acc + body(left, right)`: one instruction for a product of real floats."""

    def __init__(self, e: Emitter, form: Form, lanes: int) -> None:
        self.e = e
        self.form = form
        self.lanes = lanes
        self.dtype = form.dtype
        root = form.reduce.value
        self.product = root.kind == "apply" and root.what in ("mul", "and") \
            and root not in form.leaves and (self.dtype.is_inexact or self.dtype.kind == "bool")

    def start(self) -> Planes:
        """The accumulator before the first turn."""
        zero = self.e.const(plane_type(self.dtype), 0, self.lanes)
        return (zero, zero) if self.dtype.is_complex else (zero,)

    def step(self, acc: Planes, leaves: Mapping[Expr, Planes]) -> Planes:
        """The accumulator after one more turn."""
        values: dict[Expr, Scalar] = {x: self._wide(from_planes(p, x.dtype))
                                      for x, p in leaves.items()}
        root = self.form.reduce.value
        if self.dtype.kind == "bool" and self.product and set(root.args) <= set(leaves):
            (a,), (b,) = (leaves[x] for x in root.args)
            return (acc[0] | (self.e.splat(a, self.lanes) & self.e.splat(b, self.lanes)),)
        for part in self.form.inner:
            if part not in values and not (part is root and self.product):
                values[part] = self._apply(part, values)
        if self.product and self.dtype.is_inexact:
            x, y = (self._wide(self._operand(arg, values).value) for arg in root.args)
            return _fused(self.e, x, y, acc)
        new = to_planes(self.e, self._wide(values[root] if root in values else
                                           self._apply(root, values)), self.dtype)
        return self.add(acc, new)

    def add(self, a: Planes, b: Planes) -> Planes:
        """Two accumulators combined."""
        return tuple(x | y if self.dtype.kind == "bool" else x + y for x, y in zip(a, b))

    def _apply(self, x: Expr, values: Mapping[Expr, Scalar]) -> Scalar:
        return apply(self.e, x.what, x.dtype, *(self._operand(a, values) for a in x.args))

    def _operand(self, x: Expr, values: Mapping[Expr, Scalar]) -> Typed:
        return Typed(self._const(x) if x.kind == "const" else values[x], x.dtype)

    def _const(self, x: Expr) -> Scalar:
        def real(value: Number) -> Val:
            return self.e.const(reg(x.dtype.real), value, self.lanes)
        if x.dtype.is_complex:
            return Cx(real(float(x.what.real)), real(float(x.what.imag)))
        return real(float(x.what) if x.dtype.is_float else x.what.item())

    def _wide(self, x: Scalar) -> Scalar:
        if isinstance(x, Cx):
            return Cx(self.e.splat(x.re, self.lanes), self.e.splat(x.im, self.lanes))
        return self.e.splat(x, self.lanes)


def _fused(e: Emitter, a: Scalar, b: Scalar, acc: Planes) -> Planes:
    if isinstance(a, Val) and isinstance(b, Val):
        return (e.fma(a, b, acc[0]),)
    assert isinstance(a, Cx) and isinstance(b, Cx)
    re = e.fma(-a.im, b.im, e.fma(a.re, b.re, acc[0]))
    return re, e.fma(a.im, b.re, e.fma(a.re, b.im, acc[1]))


CHUNK = 512      # turns added up before the sum joins the others: keeps rounding errors small


@dataclass(frozen=True)
class Span:
    """A loop of a tile around the one over k: `enter(i)` makes a turn the one that readers are
    made for, as a context; `most` is how many turns there are at the most."""

    lo: Val | int
    hi: Val | int
    most: int
    enter: Callable[[Val], AbstractContextManager[None]]


class Tile:
    """Writes the loops over k of a tile of `rows` x `vectors` vectors.

    `ways` sets of accumulators take turns, so that a small tile does not wait for the latency of
    its additions. Without a multiple of `ways` turns, the first set takes the rest. Sums of many
    floats are made of sums of about CHUNK, which stand on the stack meanwhile.
    """

    def __init__(self, body: Body, rows: int, vectors: int, ways: int,
                 make: Callable[[], Sides]) -> None:
        self.body, self.e = body, body.e
        self.rows, self.vectors, self.ways = rows, vectors, ways
        self.make = make

    def write(self, nest: Sequence[Span], depth: Val | int, most: int) -> list[list[Planes]]:
        """The accumulators after the loops of `nest` around `depth` turns, at most `most`."""
        if prod((most, *(s.most for s in nest))) < 2 * CHUNK or not self.body.dtype.is_inexact:
            return self._combined(self._sums(nest, 0, depth, self._start()))
        inside, turns = len(nest), most       # loops from there on fit one sum
        while inside and turns * nest[inside - 1].most < 2 * CHUNK:
            inside -= 1
            turns *= nest[inside].most
        kept = self._kept()
        self._around(nest[:inside], lambda: self._pieces(nest[inside:], depth, most, kept))
        return [[self._total(place) for place in row] for row in kept]

    # ---- sums on the stack

    def _kept(self) -> list[list[Planes]]:
        e, start = self.e, self.body.start()
        kept = [[tuple(e.stack(p.lanes * BITS[p.dtype] // 8) for p in start)
                 for _ in range(self.vectors)] for _ in range(self.rows)]
        for place in (cell for row in kept for cell in row):
            for at, zero in zip(place, start):
                e.store(zero, at)
        return kept

    def _total(self, place: Planes) -> Planes:
        return tuple(self.e.load(at, p.dtype, p.lanes) for at, p in zip(place, self.body.start()))

    def _around(self, nest: Sequence[Span], inner: Callable[[], None]) -> None:
        if not nest:
            inner()
            return
        with self.e.loop(nest[0].lo, nest[0].hi, 1, stem="span") as loop, nest[0].enter(loop.i):
            self._around(nest[1:], inner)

    def _pieces(self, nest: Sequence[Span], depth: Val | int, most: int,
                kept: list[list[Planes]]) -> None:
        """What one sum takes, or several where the loop over k is long, added to those kept."""
        e = self.e
        if nest or most < 2 * CHUNK:
            self._add(kept, self._combined(self._sums(nest, 0, depth, self._start())))
            return
        sides = self.make()
        with e.loop(0, depth, CHUNK, stem="chunk") as chunk:
            end = e.intrinsic("smin", chunk.i + CHUNK, e.like(chunk.i, depth))
            self._add(kept, self._combined(self._turns(chunk.i, end, sides, self._start())))

    def _add(self, kept: list[list[Planes]], sums: list[list[Planes]]) -> None:
        for places, parts in zip(kept, sums):
            for place, more in zip(places, parts):
                for at, x in zip(place, self.body.add(self._total(place), more)):
                    self.e.store(x, at)

    # ---- sums in registers

    def _start(self) -> list[Val]:
        return [p for _ in range(self.ways * self.rows * self.vectors) for p in self.body.start()]

    def _sums(self, nest: Sequence[Span], lo: Val | int, hi: Val | int, flat: list[Val]
              ) -> list[Val]:
        if not nest:
            return self._turns(lo, hi, self.make(), flat)
        with self.e.loop(nest[0].lo, nest[0].hi, 1, carry=flat, stem="span") as loop, \
                nest[0].enter(loop.i):
            loop.next = self._sums(nest[1:], lo, hi, list(loop.carry))
        return list(loop.out)

    def _turns(self, lo: Val | int, hi: Val | int, sides: Sides, flat: list[Val]) -> list[Val]:
        return _turns(self.body, lo, hi, self.rows, self.vectors, self.ways, sides, flat)

    def _combined(self, flat: list[Val]) -> list[list[Planes]]:
        return _combined(self.body, flat, self.rows, self.vectors, self.ways)


def _turns(body: Body, lo: Val | int, hi: Val | int, rows: int, vectors: int, ways: int,
           sides: Sides, start: list[Val]) -> list[Val]:
    """Turns lo to hi, from `start`; `ways` sets of accumulators."""
    e = body.e
    cells = rows * vectors

    def step(flat: list[Val], k: Val, way: int) -> list[Val]:
        return _turn(body, flat, k, way * cells, rows, vectors, *sides)

    if isinstance(hi, int) and isinstance(lo, int):
        whole: Val | int = lo + (hi - lo) // ways * ways
    else:
        whole = hi if ways == 1 else e.like(lo, hi) - (e.like(lo, hi) - lo) % ways \
            if isinstance(lo, Val) else hi - (hi - lo) % ways
    with e.loop(lo, whole, ways, carry=start, stem="k") as loop:
        flat = list(loop.carry)
        for way in range(ways):
            flat = step(flat, loop.i if way == 0 else loop.i + way, way)
        loop.next = flat
    flat = list(loop.out)
    if ways > 1 and not (isinstance(whole, int) and whole == hi):
        with e.loop(whole, hi, 1, carry=flat, stem="rest") as loop:
            loop.next = step(list(loop.carry), loop.i, 0)
        flat = list(loop.out)
    return flat


def _turn(body: Body, flat: list[Val], k: Val, at: int, rows: int, vectors: int,
          left: Sequence[Reader], right: Sequence[Reader], middle: Sequence[Reader]) -> list[Val]:
    n = len(body.start())
    leaves = {r.leaf.expr: r.at(k, 0) for r in middle}
    columns = [{r.leaf.expr: r.at(k, v) for r in right} for v in range(vectors)]
    for i in range(rows):
        row = {r.leaf.expr: tuple(body.e.splat(p, body.lanes) for p in r.at(k, i)) for r in left}
        for v in range(vectors):
            c = (at + i * vectors + v) * n
            flat[c:c + n] = body.step(tuple(flat[c:c + n]), {**leaves, **row, **columns[v]})
    return flat


def _combined(body: Body, flat: list[Val], rows: int, vectors: int, ways: int
              ) -> list[list[Planes]]:
    n, cells = len(body.start()), rows * vectors
    sums = [tuple(flat[c * n:(c + 1) * n]) for c in range(ways * cells)]
    while len(sums) > cells:
        half = len(sums) // 2
        sums = [body.add(a, b) for a, b in zip(sums[:half], sums[half:])]
    return [sums[i * vectors:(i + 1) * vectors] for i in range(rows)]
