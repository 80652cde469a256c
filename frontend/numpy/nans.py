"""Reductions that leave NaN out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from weft.compiler.ir import Node
from weft.frontend.numpy.common import Array, as_array, build, element, into, lift, result, root
from weft.frontend.numpy.reductions import (
    accumulator,
    argmax,
    argmin,
    divide_by_count,
    fold,
    mean,
    var,
)
from weft.frontend.numpy.ufuncs import apply
from weft.frontend.table import implements
from weft.frontend.tracer import Tracer

__all__: list[str] = []

_MISSING: Any = np._NoValue


def _filled(x: Node, value: float) -> Node:
    b = build()
    return b.select(b.is_nan(x), b.scalar(value, x.dtype), x)


def _sum_like(op: str, neutral: int) -> Any:
    def run(a: Array, axis: Any = None, dtype: Any = None, out: Any = None,
            keepdims: Any = _MISSING, initial: Any = _MISSING, where: Any = True) -> Any:
        x, b = lift(a).node, build()
        if x.dtype.is_inexact:
            x = _filled(x, neutral)
        wide = element(dtype) if dtype is not None else accumulator(x.dtype)
        return fold(op, b.convert(x, wide), axis, keepdims, initial,
                    True if where is _MISSING else where, out)
    return run


nansum = implements(np.nansum)(_sum_like("reduce_sum", 0))
implements(np.nanprod)(_sum_like("reduce_prod", 1))


def _extreme(op: str, worst: float) -> Any:
    def run(a: Array, axis: Any = None, out: Any = None, keepdims: Any = _MISSING,
            initial: Any = _MISSING, where: Any = True) -> Any:
        x, b = lift(a).node, build()
        where = True if where is _MISSING else where
        if not x.dtype.is_inexact:
            return fold(op, x, axis, keepdims, initial, where, out)
        best = fold(op, _filled(x, worst), axis, keepdims, initial, where)
        if initial is _MISSING:                    # nothing but NaN gives NaN
            none = fold("reduce_and", b.is_nan(x), axis, keepdims, where=where)
            nan = b.scalar(math.nan, best.element)
            best = result(b.select(none.node, nan, best.node))
        return into(out, best)
    return run


implements(np.nanmax)(_extreme("reduce_max", -math.inf))
implements(np.nanmin)(_extreme("reduce_min", math.inf))


def _arg(find: Any, worst: float) -> Any:
    def run(a: Array, axis: Any = None, out: Any = None, *, keepdims: Any = _MISSING) -> Any:
        x = lift(a)
        if x.element.is_inexact:
            x = as_array(_filled(x.node, worst))
        return find(x, axis, out, keepdims=keepdims)
    return run


implements(np.nanargmax)(_arg(argmax, -math.inf))
implements(np.nanargmin)(_arg(argmin, math.inf))


def _count(x: Node, axis: Any, keepdims: Any, where: Any) -> Node:
    b = build()
    valid = b.convert(b.not_(b.is_nan(x)), "i64")
    return fold("reduce_sum", valid, axis, keepdims, where=where).node


@implements(np.nanmean)
def nanmean(a: Array, axis: Any = None, dtype: Any = None, out: Any = None,
            keepdims: Any = _MISSING, *, where: Any = _MISSING) -> Any:
    """`np.nanmean`."""
    x = lift(a)
    where = True if where is _MISSING else where
    if not x.element.is_inexact:
        return mean(x, axis, dtype, out, keepdims, where=where)
    b = build()
    wide = b.convert(_filled(x.node, 0), x.element if dtype is None else element(dtype))
    total = fold("reduce_sum", wide, axis, keepdims, where=where).node
    return into(out, result(divide_by_count(total, _count(x.node, axis, keepdims, where))))


@implements(np.nanvar)
def nanvar(a: Array, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0,
           keepdims: Any = _MISSING, *, where: Any = _MISSING, mean: Any = _MISSING,
           correction: Any = _MISSING) -> Any:
    """`np.nanvar`."""
    x, b = lift(a), build()
    where = True if where is _MISSING else where
    if correction is not _MISSING:
        ddof = correction
    if not x.element.is_inexact:
        return var(x, axis, dtype, out, ddof, keepdims, where=where, mean=mean)
    node = b.convert(x.node, x.element if dtype is None else element(dtype))
    centre = lift(mean) if mean is not _MISSING else nanmean(as_array(node), axis, keepdims=True,
                                                             where=where)
    far = apply(x.tape, np.subtract, (as_array(node), centre)).node
    far = b.select(b.is_nan(node), b.scalar(0, far.dtype), far)
    square = b.mul(far, far) if not far.dtype.is_complex else b.add_(
        b.mul(b.real(far), b.real(far)), b.mul(b.imag(far), b.imag(far)))
    total = fold("reduce_sum", square, axis, keepdims, where=where).node
    left = apply(x.tape, np.subtract, (as_array(_count(x.node, axis, keepdims, where)), ddof))
    ratio = divide_by_count(total, left.node)
    none = b.le(left.node, b.scalar(0, left.element))
    nan = b.scalar(math.nan, ratio.dtype)
    return into(out, result(b.select(none, nan, ratio)))


@implements(np.nanstd)
def _nanstd(a: Array, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0,
            keepdims: Any = _MISSING, *, where: Any = _MISSING, mean: Any = _MISSING,
            correction: Any = _MISSING) -> Any:
    value: Tracer = nanvar(a, axis, dtype, None, ddof, keepdims, where=where, mean=mean,
                           correction=correction)
    return into(out, result(root(value.node)))
