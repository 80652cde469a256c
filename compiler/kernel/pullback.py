"""Which elements of its inputs an element of a node is computed from.

`expression(build, node, index)` writes the element of `node` at `index` as a scalar expression
over its inputs' elements. Views turn into index arithmetic, so they cost nothing in a kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from weft.compiler.ir import Node, is_scalar_constant
from weft.compiler.kernel.expr import Expr, Exprs
from weft.compiler.kernel.index import Index, Value, as_index, linearize, unravel
from weft.compiler.types import DTYPES, Dim, Shape

__all__ = ["POINTWISE", "UPDATES", "At", "Place", "Reader", "expression", "is_counting",
           "is_pointwise", "update_place", "updates_of"]

At: TypeAlias = tuple[Index, ...]
Place: TypeAlias = tuple[At, Expr | None]
_I64 = DTYPES["i64"]
_BOOL = DTYPES["bool"]


class Reader(Protocol):
    """What a rule needs: the expressions' maker, the elements of inputs, and index checks."""

    exprs: Exprs

    def read(self, node: Node, at: At, guard: Expr | None = None) -> Expr:
        """The element of `node` at `at`; only read where the guard is true."""

    def check(self, node: Node, value: Expr, size: Dim, axis: int, kind: str = "index") -> None:
        """Note what a run-time value must fulfil; see `Check`."""


Rule: TypeAlias = Callable[[Reader, Node, At, Expr | None], Expr]


def is_pointwise(node: Node) -> bool:
    """Whether each element is an expression over single elements of the inputs."""
    return node.kind == "elementwise" or node.opname in POINTWISE


def is_counting(node: Node, depth: int = 5) -> bool:
    """Whether elements are computed, by a few operations, of nothing but their own numbers, so that
    they need not be stored."""
    if node.opname in ("iota", "size"):
        return True
    return depth > 0 and node.opname in _ON_INDICES and node.dtype is _I64 and all(
        is_scalar_constant(i) or is_counting(i, depth - 1) for i in node.inputs)


def expression(reader: Reader, node: Node, at: At, guard: Expr | None = None) -> Expr:
    """The element of a pointwise node at an index."""
    if node.kind == "elementwise":
        args = [reader.read(i, at if i.shape else (), guard) for i in node.inputs]
        if node.opname == "pow" and node.dtype.kind == "int" and guard is None:
            _check_exponent(reader, node, args[1])
        index = _as_index(node.opname, args) if node.opname in _ON_INDICES else None
        if index is not None:
            return reader.exprs.index(index, _I64)
        return reader.exprs.apply(node.opname, node.dtype, *args)
    return POINTWISE[node.opname](reader, node, at, guard)


_ON_INDICES: dict[str, Callable[[Index, Index], Index]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b.const if b.is_constant else b * a.const,
    "floor_divide": lambda a, b: a // b.const,
    "remainder": lambda a, b: a % b.const,
}
_SMALL = 1 << 31        # factors and summands that are sure not to overflow


def _as_index(op: str, args: Sequence[Expr]) -> Index | None:
    """Arithmetic on elements' own numbers, which reads of arrays can follow as plain steps."""
    parts = []
    for e in args:
        if e.dtype is not _I64 or e.kind not in ("index", "const"):
            return None
        index = e.index[0] if e.kind == "index" else as_index(int(e.what))
        if isinstance(index.const, int) and abs(index.const) >= _SMALL:
            return None
        parts.append(index)
    a, b = parts
    if all(e.kind == "const" for e in args) or (op == "mul" and a.terms and b.terms):
        return None
    if op in ("floor_divide", "remainder") and not (
            b.is_constant and isinstance(b.const, int) and b.const > 0):
        return None
    return _ON_INDICES[op](a, b)


def _check_exponent(r: Reader, n: Node, exponent: Expr) -> None:
    if exponent.kind == "const" and exponent.what >= 0:
        return
    wide = exponent if exponent.dtype is _I64 else r.exprs.apply("convert", _I64, exponent)
    r.check(n, wide, 0, 0, "exponent")


def _broadcast(r: Reader, n: Node, at: At, guard: Expr | None) -> Expr:
    (x,) = n.inputs
    index = tuple(Index() if d == 1 else at[a] for d, a in zip(x.shape, n.attrs["dims"]))
    return r.read(x, index, guard)


def _reshape(r: Reader, n: Node, at: At, guard: Expr | None) -> Expr:
    (x,) = n.inputs
    return r.read(x, reshape_index(at, n.shape, x.shape), guard)


def reshape_index(at: At, shape: tuple[Dim, ...], source: tuple[Dim, ...]) -> At:
    """The index into `source` of the element at `at` of its reshape to `shape`."""
    return _regroup(at, shape, source) or unravel(linearize(at, shape), source)


def _regroup(at: At, shape: tuple[Dim, ...], source: tuple[Dim, ...]) -> At | None:
    """Axes that the reshape keeps, or only adds or removes at size 1, carry over as they are."""
    kept = [ix for ix, d in zip(at, shape) if d != 1]
    if [d for d in shape if d != 1] != [d for d in source if d != 1]:
        return None
    it = iter(kept)
    return tuple(Index() if d == 1 else next(it) for d in source)


def _transpose(r: Reader, n: Node, at: At, guard: Expr | None) -> Expr:
    index: list[Index] = [Index()] * len(at)
    for i, p in enumerate(n.attrs["perm"]):
        index[p] = at[i]
    return r.read(n.inputs[0], tuple(index), guard)


def _reverse(r: Reader, n: Node, at: At, guard: Expr | None) -> Expr:
    axes = n.attrs["axes"]
    return r.read(n.inputs[0], tuple(
        as_index(n.shape[a] - 1) - ix if a in axes else ix for a, ix in enumerate(at)), guard)


def _slice(r: Reader, n: Node, at: At, guard: Expr | None) -> Expr:
    bounds: Mapping[str, Any] = n.attrs
    return r.read(n.inputs[0], tuple(
        ix * st + lo for ix, lo, st in zip(at, bounds["start"], bounds["stride"])), guard)


def _inside(r: Reader, ix: Index, lo: Dim, hi: Dim, size: Dim) -> list[Expr]:
    """The conditions, where not known to hold, that lo <= ix < hi for ix in [0, size)."""
    ex, out = r.exprs, []
    if lo != 0:
        out.append(ex.apply("ge", _BOOL, ex.index(ix - lo, _I64), ex.const(0, _I64)))
    if hi != size:
        out.append(ex.apply("lt", _BOOL, ex.index(ix - hi, _I64), ex.const(0, _I64)))
    return out


def _all(r: Reader, conditions: list[Expr]) -> Expr | None:
    out: Expr | None = None
    for c in conditions:
        out = c if out is None else r.exprs.apply("and", _BOOL, out, c)
    return out


def _windows(r: Reader, n: Node, at: At, guard: Expr | None) -> Expr:
    rank, index = len(n.inputs[0].shape), list(at)
    for j, (a, stride, dilation) in enumerate(
            zip(n.attrs["axes"], n.attrs["stride"], n.attrs["dilation"])):
        index[a] = index[a] * stride + index[rank + j] * dilation
    return r.read(n.inputs[0], tuple(index[:rank]), guard)


def _unwindow(r: Reader, n: Node, at: At, guard: Expr | None) -> Expr:
    (x,), ex = n.inputs, r.exprs
    rank, index = len(x.shape) - len(n.attrs["axes"]), list(at)
    conditions: list[Expr] = []
    for j, (a, stride, dilation) in enumerate(
            zip(n.attrs["axes"], n.attrs["stride"], n.attrs["dilation"])):
        shift = -(-(x.shape[rank + j] - 1) * dilation // stride)    # keeps the dividend positive
        place = index[a] - index[rank + j] * dilation + shift * stride
        rest = place % stride
        if not (rest.is_constant and rest.const == 0):
            conditions.append(ex.apply("eq", _BOOL, ex.index(rest, _I64), ex.const(0, _I64)))
        at_window = place // stride - shift
        conditions += _bounds(r, at_window, x.shape[a])
        index[a] = at_window
    inside = _all(r, conditions)
    if inside is None:
        return r.read(x, tuple(index), guard)
    both = inside if guard is None else ex.apply("and", _BOOL, guard, inside)
    return ex.apply("select", n.dtype, inside, r.read(x, tuple(index), both),
                    ex.const(0, n.dtype))


def _bounds(r: Reader, ix: Index, size: Dim) -> list[Expr]:
    """The conditions, where not known to hold, that ix lies in [0, size)."""
    ex, out, known = r.exprs, [], ix.bounds
    if known is None or known[0] < 0:
        out.append(ex.apply("ge", _BOOL, ex.index(ix, _I64), ex.const(0, _I64)))
    if known is None or not isinstance(size, int) or known[1] >= size:
        out.append(ex.apply("lt", _BOOL, ex.index(ix - size, _I64), ex.const(0, _I64)))
    return out


def _copy(r: Reader, n: Node, at: At, guard: Expr | None) -> Expr:
    return r.read(n.inputs[0], at, guard)


def _pad(r: Reader, n: Node, at: At, guard: Expr | None) -> Expr:
    x, value = n.inputs
    conditions: list[Expr] = []
    for ix, lo, d, total in zip(at, n.attrs["low"], x.shape, n.shape):
        conditions += _inside(r, ix, lo, lo + d, total)
    inside = _all(r, conditions)
    index = tuple(ix - lo for ix, lo in zip(at, n.attrs["low"]))
    if inside is None:
        return r.read(x, index, guard)
    both = inside if guard is None else r.exprs.apply("and", _BOOL, guard, inside)
    return r.exprs.apply("select", n.dtype, inside, r.read(x, index, both),
                         r.read(value, (), guard))


def _concatenate(r: Reader, n: Node, at: At, guard: Expr | None) -> Expr:
    axis, total = n.attrs["axis"], n.shape[n.attrs["axis"]]
    out: Expr | None = None
    offset: Dim = total
    for x in reversed(n.inputs):
        offset = offset - x.shape[axis]
        if x.shape[axis] == 0:
            continue
        conditions = _inside(r, at[axis], offset, offset + x.shape[axis], total)
        own = _all(r, conditions)
        both = own if guard is None else guard if own is None \
            else r.exprs.apply("and", _BOOL, guard, own)
        value = r.read(x, (*at[:axis], at[axis] - offset, *at[axis + 1:]), both)
        if out is None:
            out = value
        else:
            begins_after = r.exprs.apply(
                "lt", _BOOL, r.exprs.index(at[axis] - (offset + x.shape[axis]), _I64),
                r.exprs.const(0, _I64))
            out = r.exprs.apply("select", n.dtype, begins_after, value, out)
    return out if out is not None else r.exprs.const(0, n.dtype)    # all operands are empty


def _constant(r: Reader, n: Node, at: At, guard: Expr | None) -> Expr:
    return r.exprs.const(n.attrs["value"], n.dtype)


def _iota(r: Reader, n: Node, at: At, guard: Expr | None) -> Expr:
    return r.exprs.index(at[n.attrs["axis"]], n.dtype)


def _size(r: Reader, n: Node, at: At, guard: Expr | None) -> Expr:
    return r.exprs.index(as_index(n.attrs["size"]), n.dtype)


def _gather(r: Reader, n: Node, at: At, guard: Expr | None) -> Expr:
    x, *indices = n.inputs
    place, inside = _picked(r, n, x, indices, at, guard)
    if inside is None:
        return r.read(x, place, guard)
    both = inside if guard is None else r.exprs.apply("and", _BOOL, guard, inside)
    return r.exprs.apply("select", n.dtype, inside, r.read(x, place, both),
                         r.exprs.const(0, n.dtype))


def _picked(r: Reader, n: Node, x: Node, indices: Sequence[Node], at: At, guard: Expr | None
            ) -> Place:
    """Where the element of a gather lies in `x`, and whether it lies inside, if that may fail."""
    position, rank = n.attrs["position"], len(indices[0].shape)
    where = at[position:position + rank]
    rest = iter(at[:position] + at[position + rank:])
    picked, conditions = {}, []
    for axis, node in zip(n.attrs["axes"], indices):
        i = r.read(node, where, guard)
        if i.kind == "index" and i.index[0].within(x.shape[axis]):
            picked[axis] = i.index[0]
            continue
        if n.attrs["mode"] == "drop":
            conditions += _conditions(r, i, x.shape[axis])
        picked[axis] = _bounded(r, n, i, x.shape[axis], axis, guard)
    return tuple(picked[a] if a in picked else next(rest) for a in range(len(x.shape))), \
        _all(r, conditions)


def _conditions(r: Reader, i: Expr, size: Dim) -> list[Expr]:
    """That -size <= i < size."""
    ex = r.exprs
    return [ex.apply("ge", _BOOL, i, ex.index(as_index(size) * -1, _I64)),
            ex.apply("lt", _BOOL, i, ex.index(as_index(size), _I64))]


def _bounded(r: Reader, n: Node, i: Expr, size: Dim, axis: int, guard: Expr | None) -> Index:
    """A run-time index brought into [0, size) by the gather's mode."""
    ex, mode = r.exprs, n.attrs["mode"]
    zero = ex.const(0, _I64)
    count = ex.index(as_index(size), _I64)
    if mode == "clip":
        return _clamped(r, i, size)
    if mode == "wrap":
        return as_index(Value(ex.apply("remainder", _I64, i, count), size))
    if mode == "raise":
        # where the guard is false the element is not needed, and its index may be anything
        r.check(n, i if guard is None else ex.apply("select", _I64, guard, i, zero), size, axis)
    negative = ex.apply("lt", _BOOL, i, zero)
    i = ex.apply("select", _I64, negative, ex.apply("add", _I64, i, count), i)
    # the check only notes the error; the access must stay inside the array all the same
    return _clamped(r, i, size)


def _clamped(r: Reader, i: Expr, below: Dim) -> Index:
    """A run-time index brought into [0, below)."""
    ex = r.exprs
    if below == 1:
        return Index()
    if i.kind == "const" and isinstance(below, int):
        return as_index(min(max(int(i.what), 0), below - 1))
    last = ex.index(as_index(below - 1), _I64)
    i = ex.apply("maximum", _I64, ex.apply("minimum", _I64, i, last), ex.const(0, _I64))
    return as_index(Value(i, below))


def _dynamic_slice(r: Reader, n: Node, at: At, guard: Expr | None) -> Expr:
    x, *starts = n.inputs
    place, fits = _window(r, x, starts, n.shape, at, 1)
    if fits is not None:
        guard = fits if guard is None else r.exprs.apply("and", _BOOL, guard, fits)
    return r.read(x, place, guard)


def _window(r: Reader, x: Node, starts: Sequence[Node], sizes: Shape, at: At, least: int) -> Place:
    """Where the element of a part of `x` lies in it; and whether the part fits, where that cannot
    be told from the sizes. Axes are taken to have `least` elements."""
    place, conditions = [], []
    for ix, start, n, d in zip(at, starts, sizes, x.shape):
        if n != d:
            ix = ix + _clamped(r, r.read(start, ()), d - n + 1)
            if not isinstance(d - n, int) and n != least:
                conditions.append(r.exprs.apply("le", _BOOL, r.exprs.index(as_index(n), _I64),
                                                r.exprs.index(as_index(d), _I64)))
        place.append(ix)
    return tuple(place), _all(r, conditions)


# ---- updates: where they write

def updates_of(n: Node) -> Node:
    """The operand whose elements an update writes."""
    return n.inputs[-1] if n.opname == "scatter" else n.inputs[1]


def update_place(r: Reader, n: Node, at: At) -> Place:
    """Where an update writes the element at `at` of its updates, and under which condition."""
    x = n.inputs[0]
    if n.opname != "scatter":
        return _window(r, x, n.inputs[2:], updates_of(n).shape, at, 0)
    place, inside = _picked(r, n, x, n.inputs[1:-1], at, None)
    # an array of symbolic size may be empty: nothing is written to it
    some = [r.exprs.apply("gt", _BOOL, r.exprs.index(as_index(x.shape[a]), _I64),
                          r.exprs.const(0, _I64))
            for a in n.attrs["axes"] if not isinstance(x.shape[a], int)]
    return place, _all(r, [*([inside] if inside is not None else []), *some])


UPDATES = frozenset({"scatter", "dynamic_update_slice"})
"""Ops whose result is their first operand with elements overwritten: done in place where it is
not needed any more."""

POINTWISE: dict[str, Rule] = {
    "broadcast_in_dim": _broadcast, "reshape": _reshape, "transpose": _transpose,
    "reverse": _reverse, "slice": _slice, "pad": _pad, "concatenate": _concatenate,
    "constant": _constant, "iota": _iota, "size": _size, "gather": _gather, "window": _windows,
    "unwindow": _unwindow, "copy": _copy,
    "dynamic_slice": _dynamic_slice,
}
