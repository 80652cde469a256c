"""Searching sorted arrays: several keys side by side, without branches."""

from __future__ import annotations

from collections.abc import Sequence

from weft.compiler.kernel.ir import Library
from weft.compiler.target import Target
from weft.compiler.types import DType, numel
from weft.devices.cpu.code import KernelCode
from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.library_frame import Elements, Frame, known
from weft.devices.cpu.lower import Scalar
from weft.devices.cpu.lower_complex import Cx

__all__ = ["emit_searchsorted", "halvings", "less"]

TOGETHER = 8        # keys searched side by side: their cache misses overlap


def less(e: Emitter, a: Scalar, b: Scalar, dtype: DType) -> Val:
    """NumPy's order of sorting: NaN behind everything else, complex numbers by part."""
    if isinstance(a, Cx) and isinstance(b, Cx):
        return _less_complex(e, a, b)
    assert isinstance(a, Val) and isinstance(b, Val)
    if dtype.is_float:
        return (a < b) | (~_is_nan(e, a) & _is_nan(e, b))
    return a < b


def _less_complex(e: Emitter, a: Cx, b: Cx) -> Val:
    a_nan, b_nan = _is_nan(e, a.im), _is_nan(e, b.im)
    by_im = (a.im < b.im) | (~a_nan & b_nan)
    same = a.re.eq(b.re) | (_is_nan(e, a.re) & _is_nan(e, b.re))
    below, above = (a.re < b.re) & (~a_nan | b_nan), (a.re > b.re)
    other = e.select(above, ~a_nan & b_nan, ~_is_nan(e, a.re) & _is_nan(e, b.re))
    return e.select(a.re < b.re, below, e.select(same, by_im, other))


def _is_nan(e: Emitter, x: Val) -> Val:
    return e.unordered(x, x)


def halvings(e: Emitter, n: Val) -> Val:
    """How often n >= 1 things are halved, rounding up, until one is left."""
    e.declares.add("declare i64 @llvm.ctlz.i64(i64, i1)")
    zeros = e.assign(f"call i64 @llvm.ctlz.i64(i64 {(n - 1).ref}, i1 false)", "i64")
    return e.const("i64", 64) - zeros


def emit_searchsorted(step: Library, name: str, target: Target) -> KernelCode:
    """Code for searchsorted: units are keys."""
    f = Frame(step, name, target)
    e = f.e
    size = f.dim(f.types[0].shape[-1])
    rounds = e.select(size > 0, halvings(e, size), 0)
    full = f.hi - (f.hi - f.lo) % TOGETHER
    with e.loop(f.lo, full, TOGETHER, stem="keys") as keys:
        _search(f, size, rounds, [keys.i + k for k in range(TOGETHER)])
    with e.loop(full, f.hi, stem="key") as key:
        _search(f, size, rounds, [key.i])
    depth = max(1, known(f.types[0].shape[-1]).bit_length())
    return f.code(f.types[1].size, 2 * depth)


def _search(f: Frame, size: Val, rounds: Val, at: Sequence[Val]) -> None:
    """Each round leaves the half of the range that the key's place lies in."""
    e, (table, keys, out) = f.e, f.arrays
    wanted = [keys.load(i) for i in at]
    tables = [_table(f, size, i) for i in at]
    dtype, right = table.dtype, dict(f.step.attrs)["side"] == "right"

    def before(table: Elements, i: Val, key: Scalar) -> Val:
        """Whether the key's place is behind element i."""
        x = table.load(i)
        return ~less(e, key, x, dtype) if right else less(e, x, key, dtype)

    zero = e.const("i64", 0)
    with e.loop(0, rounds, carry=[size, *(zero for _ in at)], stem="round") as loop:
        left, *bases = loop.carry
        half = left >> 1
        loop.next = [left - half, *(e.select(before(t, b + half - 1, key), b + half, b)
                                    for t, b, key in zip(tables, bases, wanted))]
    ends = loop.out[1:]
    with e.when(size > 0):
        for i, t, base, key in zip(at, tables, ends, wanted):
            out.store(i, base + e.convert(before(t, base, key), "i64"))
    with e.when(size.eq(0)):
        for i in at:
            out.store(i, zero)


def _table(f: Frame, size: Val, key: Val) -> Elements:
    """The sorted array in which the key of this number is searched."""
    table, batch = f.arrays[0], dict(f.step.attrs).get("batch", 0)
    if not batch:
        return table
    return table.at(key / f.dim(numel(f.types[1].shape[batch:])) * size)
