"""Matrices in scratch memory as elimination wants them: rows padded to whole vectors, the real and
the imaginary parts of complex numbers apart; and the inner loop of elimination.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from weft.compiler.types import DType
from weft.devices.cpu.emit import Val
from weft.devices.cpu.library_frame import Elements, Frame
from weft.devices.cpu.lower import Scalar
from weft.devices.cpu.lower_complex import COMPLEX, Cx

__all__ = ["ROWS", "Number", "Planes", "Tile", "divide", "eliminate", "minus_product"]

ROWS = 4            # rows that are eliminated together: each number of the others is loaded once

Number: TypeAlias = tuple[Val, ...]     # one value, or its real and its imaginary part
Tile: TypeAlias = list[list[Number]]    # rows of vectors, in registers


class Planes:
    """A matrix of `rows` rows, `pitch` numbers apart, in memory from the allocator."""

    def __init__(self, f: Frame, dtype: DType, rows: Val, pitch: Val) -> None:
        self.f = f
        self.e = f.e
        self.dtype = dtype
        self.parts = 2 if dtype.is_complex else 1
        self.pitch = pitch
        self.plane = rows * pitch
        self.memory = f.scratch(self.plane, dtype)
        self.flat = Elements(f.e, self.memory.address, dtype.real)

    def _at(self, row: Val, column: Val | int, part: int) -> Val:
        at = row * self.pitch + column
        return at + self.plane if part else at

    def load(self, row: Val, column: Val | int, lanes: int = 1) -> Number:
        """Consecutive numbers of a row."""
        out = []
        for part in range(self.parts):
            value = self.flat.load(self._at(row, column, part), lanes)
            assert isinstance(value, Val)
            out.append(value)
        return tuple(out)

    def store(self, row: Val, column: Val | int, value: Number) -> None:
        """Write consecutive numbers of a row."""
        for part, v in enumerate(value):
            self.flat.store(self._at(row, column, part), v)

    def put(self, row: Val, column: Val, value: Scalar, conjugate: bool = False) -> None:
        """Write one number as it is loaded from an array."""
        if isinstance(value, Cx):
            self.store(row, column, (value.re, -value.im if conjugate else value.im))
        else:
            self.store(row, column, (value,))

    def take(self, row: Val, column: Val) -> Scalar:
        """One number as it is stored to an array."""
        value = self.load(row, column)
        return Cx(*value) if self.parts == 2 else value[0]

    def clear(self) -> None:
        """Make every number 0."""
        lanes = self.e.target.lanes(self.dtype.real.itemsize)
        zero = self.e.const(self.dtype.real.name, 0.0)

        def some(i: Val, lanes: int) -> None:
            self.flat.store(i, self.e.splat(zero, lanes))
        self.f.vectors(self.plane * self.parts, lanes, some)

    def constant(self, value: float) -> Number:
        """A real number."""
        name = self.dtype.real.name
        return (self.e.const(name, value), self.e.const(name, 0.0))[:self.parts]

    def release(self) -> None:
        """Give the memory back."""
        self.f.release([self.memory])


def minus_product(f: Frame, out: Number, a: Number, x: Number) -> Number:
    """out - a*x, where a is one number or a vector."""
    e, lanes = f.e, x[0].lanes
    wide = [e.splat(v, lanes) for v in a]
    if len(out) == 1:
        return (e.fma(-wide[0], x[0], out[0]),)
    re, im = wide
    return (e.fma(im, x[1], e.fma(-re, x[0], out[0])),
            e.fma(-im, x[0], e.fma(-re, x[1], out[1])))


def divide(f: Frame, x: Number, by: Number) -> Number:
    """x / by, where `by` is one number."""
    wide = [f.e.splat(v, x[0].lanes) for v in by]
    if len(x) == 1:
        return (x[0] / wide[0],)
    out = COMPLEX["div"](f.e, Cx(*x), Cx(*wide))
    return (out.re, out.im)


def eliminate(f: Frame, factors: Planes, x: Planes, row: Val, column: Val | int, known: Val,
              vectors: int, lanes: int) -> Tile:
    """ROWS rows of x from `row` on, `vectors` vectors wide from `column` on, from which the first
    `known` rows of x are taken away, as often as these rows of `factors` say."""
    e = f.e
    rows = [row + r for r in range(ROWS)]
    places = [column + v * lanes for v in range(vectors)]
    tile = [[x.load(r, p, lanes) for p in places] for r in rows]
    with e.loop(0, known, carry=_flat(tile), stem="eliminate") as loop:
        now = _tile(loop.carry, vectors, x.parts)
        others = [x.load(loop.i, p, lanes) for p in places]
        done = []
        for r, line in zip(rows, now):
            a = factors.load(r, loop.i)
            done.append([minus_product(f, out, a, other) for out, other in zip(line, others)])
        loop.next = _flat(done)
    return _tile(loop.out, vectors, x.parts)


def _flat(tile: Tile) -> list[Val]:
    return [v for line in tile for number in line for v in number]


def _tile(values: Sequence[Val], vectors: int, parts: int) -> Tile:
    it = iter(values)
    return [[tuple(next(it) for _ in range(parts)) for _ in range(vectors)] for _ in range(ROWS)]
