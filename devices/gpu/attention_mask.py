"""Which tiles of scores a mask leaves out, or leaves alone: bounds of conditions over a rectangle.

A mask is any condition inside the scores, ``select(condition, x, -inf)``. Over the rectangle of
queries and keys that a tile is, an index has a least and a greatest value, found atom by atom, and
so a comparison of two indices can hold nowhere, or has to hold everywhere. Of a condition that is
something else, such as an array's element, nothing is known: it can hold, and need not.

Bounds are numbers, where code is decided on, or texts, in code: `Numbers` and `Texts` compute both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from weft.compiler.kernel.expr import Expr
from weft.compiler.kernel.index import Axis, Index, Quotient, as_index
from weft.compiler.types import DType

__all__ = ["Numbers", "Texts", "both", "must_hold", "text", "tile_counts", "unmasked"]

_FLIPPED = {"gt": "lt", "ge": "le"}
_EXACT = {"f16": 1 << 11, "bf16": 1 << 8, "f32": 1 << 24, "f64": 1 << 53}


class Numbers:
    """Bounds as integers, conditions as booleans; axes that are not given run over all values."""

    def __init__(self, axes: Mapping[Axis, tuple[int, int]]) -> None:
        self.axes = axes

    def axis(self, axis: Axis) -> tuple[int, int]:
        """The least and the greatest value."""
        found = as_index(axis).bounds
        return self.axes.get(axis) or found or (0, 0)

    def number(self, n: int) -> int:
        """A constant."""
        return n

    def add(self, a: int, b: int) -> int:
        """Their sum."""
        return a + b

    def times(self, a: int, c: int) -> int:
        """By a constant."""
        return a * c

    def divide(self, a: int, c: int) -> int:
        """The floor of the quotient by a positive constant."""
        return a // c

    def at_most(self, a: int, c: int) -> bool:
        """a <= c."""
        return a <= c


class Texts:
    """Bounds as texts of 32-bit integers, conditions as texts, or as booleans that are known."""

    def __init__(self, axes: Mapping[Axis, tuple[str, str]]) -> None:
        self.axes = axes

    def axis(self, axis: Axis) -> tuple[str, str]:
        """The least and the greatest value."""
        return self.axes[axis]

    def number(self, n: int) -> str:
        """A constant."""
        return str(n)

    def add(self, a: str, b: str) -> str:
        """Their sum."""
        return a if b == "0" else b if a == "0" else f"{a} + {b}"

    def times(self, a: str, c: int) -> str:
        """By a constant."""
        return a if c == 1 else f"({a}) * {c}" if c >= 0 else f"({a}) * ({c})"

    def divide(self, a: str, c: int) -> str:
        """The floor of the quotient by a positive constant."""
        return f"w_index_div<i32>({a}, {c})"

    def at_most(self, a: str, c: int) -> bool | str:
        """a <= c."""
        return int(a) <= c if a.lstrip("-").isdigit() else f"{a} <= {c}"


Domain = Any        # Numbers or Texts
Truth = Any         # bool, or a text


def text(a: Truth) -> str:
    """A condition in code."""
    return a if isinstance(a, str) else "true" if a else "false"


def both(a: Truth, b: Truth) -> Truth:
    """Whether both hold."""
    if a is False or b is False:
        return False
    return b if a is True else a if b is True else f"({a} && {b})"


def either(a: Truth, b: Truth) -> Truth:
    """Whether one of them holds."""
    if a is True or b is True:
        return True
    return b if a is False or a == b else a if b is False else f"({a} || {b})"


def can_hold(e: Expr, over: Domain) -> Truth:
    """Whether a condition may hold somewhere; true where nothing is known."""
    return _truth(e, over, True)


def must_hold(e: Expr, over: Domain) -> Truth:
    """Whether a condition holds everywhere; false where nothing is known."""
    return _truth(e, over, False)


def _truth(e: Expr, over: Domain, somewhere: bool) -> Truth:
    if e.kind == "const" and e.dtype.kind == "bool":
        return bool(e.what)
    if e.kind != "apply":
        return somewhere
    if e.what in ("and", "or") and e.dtype.kind == "bool":
        join = both if e.what == "and" else either
        return join(*(_truth(a, over, somewhere) for a in e.args))
    if e.what == "not" and e.dtype.kind == "bool":
        return _not(_truth(e.args[0], over, not somewhere))
    if e.what in ("lt", "le", "gt", "ge", "eq", "ne"):
        found = _difference(e)
        if found is not None:
            return _compared(e.what, _bounds(found, over), over, somewhere)
    return somewhere


def _not(a: Truth) -> Truth:
    return not a if isinstance(a, bool) else f"!({a})"


def _compared(op: str, span: tuple[Any, Any], over: Domain, somewhere: bool) -> Truth:
    """A comparison with 0 of what lies between two bounds."""
    least, most = span
    if op in ("gt", "ge"):
        op, least, most = _FLIPPED[op], over.times(most, -1), over.times(least, -1)
    if op in ("lt", "le"):
        return over.at_most(least if somewhere else most, 0 if op == "le" else -1)
    low, high = (least, most) if somewhere else (most, least)
    equal = both(over.at_most(low, 0), over.at_most(over.times(high, -1), 0))
    if op == "eq":
        return equal
    # not equal somewhere, unless all are 0; everywhere, if 0 is outside
    zero = both(over.at_most(high, 0), over.at_most(over.times(low, -1), 0))
    return _not(zero)


def _bounds(index: Index, over: Domain) -> tuple[Any, Any]:
    low = high = over.number(index.const)
    for atom, c in index.terms:
        assert isinstance(c, int)
        if isinstance(atom, Axis):
            a, b = over.axis(atom)
        elif isinstance(atom, Quotient) and isinstance(atom.by, int):
            a, b = (over.divide(x, atom.by) for x in _bounds(atom.of, over))
        else:
            span = as_index(atom).bounds
            assert span is not None
            a, b = map(over.number, span)
        if c < 0:
            a, b = b, a
        low, high = over.add(low, over.times(a, c)), over.add(high, over.times(b, c))
    return low, high


def _difference(e: Expr) -> Index | None:
    """What a comparison compares with 0, where both sides are indices."""
    a, b = map(_as_index, e.args)
    if a is None or b is None:
        return None
    found = a - b
    return found if _within(found, 1 << 31) else None


def _as_index(e: Expr) -> Index | None:
    """An expression as an index that is known to have the same value."""
    found: Index | None = None
    if e.kind == "const" and e.dtype.kind != "bool" and not e.dtype.is_complex \
            and np.isfinite(e.what) and float(e.what).is_integer():
        found = as_index(int(e.what))
    elif e.kind == "index":
        found = e.index[0]
    elif e.kind == "apply" and e.what in ("add", "sub", "mul", "neg", "convert",
                                             "floor_divide", "shift_right"):
        parts = [_as_index(a) for a in e.args]
        if all(p is not None for p in parts):
            found = _combined(e.what, [p for p in parts if p is not None])
    if found is None or not _within(found, _largest(e.dtype)):
        return None
    low, _ = found.bounds or (-1, 0)
    return None if e.dtype.kind == "uint" and low < 0 else found


def _combined(op: str, parts: list[Index]) -> Index | None:
    if op == "mul":
        a, b = parts
        scale = b.const if b.is_constant else a.const if a.is_constant else None
        return (a if b.is_constant else b) * scale if scale is not None else None
    if op in ("floor_divide", "shift_right"):
        by = parts[1].const
        if not parts[1].is_constant or not isinstance(by, int) or not 0 <= by < 1 << 20:
            return None
        by = by if op == "floor_divide" else 1 << min(by, 30)
        return parts[0] // by if by else None
    if op == "neg":
        return parts[0] * -1
    return parts[0] if op == "convert" else parts[0] + parts[1] if op == "add" \
        else parts[0] - parts[1]


def _largest(dtype: DType) -> int:
    """Up to where all integers are values of a type."""
    if dtype.is_integer:
        return int(np.iinfo(dtype.numpy).max)
    return _EXACT.get(dtype.name, 0)


def _within(index: Index, limit: int) -> bool:
    """Whether an index's values, and all parts of it, are known to be smaller than this."""
    parts = [as_index(a).bounds for a, _ in index.terms]
    whole = 0
    for span, (_, c) in zip(parts, index.terms):
        if span is None or not isinstance(c, int):
            return False
        whole += max(map(abs, span)) * abs(c)
    return isinstance(index.const, int) and whole + abs(index.const) < min(limit, 1 << 30)


# ---- scores

def tile_counts(score: Expr, counts: Expr | None, over: Domain) -> Truth:
    """Whether anything in a tile can be a score other than -inf, or be one that `counts`."""
    found = _can_count(score, over)
    return found if counts is None else either(found, can_hold(counts, over))


def _can_count(score: Expr, over: Domain) -> Truth:
    """Whether a score can be anything but -inf."""
    if _nothing(score):
        return False
    if score.kind == "apply" and score.what == "select":
        c, a, b = score.args
        return either(both(can_hold(c, over), _can_count(a, over)),
                       both(_not(must_hold(c, over)), _can_count(b, over)))
    return True


def unmasked(score: Expr, over: Domain) -> tuple[Truth, Expr]:
    """A condition, and the scores without masks where that holds."""
    if score.kind == "apply" and score.what == "select":
        c, a, b = score.args
        if _nothing(b):
            rest, plain = unmasked(a, over)
            return both(must_hold(c, over), rest), plain
        if _nothing(a):
            rest, plain = unmasked(b, over)
            return both(_not(can_hold(c, over)), rest), plain
    return True, score


def _nothing(e: Expr) -> bool:
    return e.kind == "const" and bool(e.dtype.is_float) and float(e.what) == -np.inf
