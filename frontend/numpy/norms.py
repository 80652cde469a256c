"""Norms that need no decomposition."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from weft.compiler.types import numel
from weft.frontend.numpy.common import (
    Array,
    as_array,
    axes_of,
    build,
    lift,
    result,
    root,
    ufunc,
)
from weft.frontend.numpy.factorizations import singular_values
from weft.frontend.numpy.reductions import fold
from weft.frontend.numpy.shapes import moveaxis, ravel
from weft.frontend.problems import shape_error
from weft.frontend.table import implements
from weft.frontend.tracer import Tracer

__all__: list[str] = []


def _norm_of(x: Tracer, ord: Any, axes: tuple[int, ...], keepdims: Any) -> Any:
    if ord in (None, 2, "fro", "f") and (ord != 2 or len(axes) == 1):
        size = ufunc("absolute", x) if x.element.is_complex else x
        if x.element.is_complex:
            b = build()
            re, im = b.real(x.node), b.imag(x.node)
            square: Any = as_array(b.add_(b.mul(re, re), b.mul(im, im)))
        else:
            square = ufunc("multiply", size, size)
        return result(root(fold("reduce_sum", square.node, axes, keepdims).node))
    if len(axes) == 1:
        return _vector_norm(x, ord, axes[0], keepdims)
    return _matrix_norm(x, ord, axes, keepdims)


def _vector_norm(x: Tracer, ord: Any, axis: int, keepdims: Any) -> Any:
    size = ufunc("absolute", x)
    if ord in (math.inf, -math.inf):
        op = "reduce_max" if ord > 0 else "reduce_min"
        return fold(op, size.node, axis, keepdims)
    if ord == 0:
        nonzero = build().convert(ufunc("not_equal", x, 0).node, size.element)
        return fold("reduce_sum", nonzero, axis, keepdims)
    if ord == 1:
        return fold("reduce_sum", size.node, axis, keepdims)
    if isinstance(ord, str):
        raise ValueError(f"Invalid norm order '{ord}' for vectors")
    total = fold("reduce_sum", ufunc("power", size, ord).node, axis, keepdims)
    if type(ord) is not Tracer and ord > 0:
        return result(root(total.node, 1 / ord))
    return ufunc("power", total, ufunc("reciprocal", float(ord))
                 if type(ord) is Tracer else 1 / ord)


def _matrix_norm(x: Tracer, ord: Any, axes: tuple[int, ...], keepdims: Any) -> Any:
    if ord in (2, -2, "nuc"):
        return _of_singular_values(x, ord, axes, keepdims)
    if ord not in (1, -1, math.inf, -math.inf):
        raise ValueError("Invalid norm order for matrices.")
    size = ufunc("absolute", x).node
    row, column = axes
    inner, rest = (row, column) if ord in (1, -1) else (column, row)
    sums = fold("reduce_sum", size, inner, True).node
    out = fold("reduce_max" if ord > 0 else "reduce_min", sums, rest, True).node
    if not keepdims:
        out = build().reshape(out, tuple(d for i, d in enumerate(out.shape) if i not in axes))
    return result(out)


def _of_singular_values(x: Tracer, ord: Any, axes: tuple[int, ...], keepdims: Any) -> Any:
    op = {2: "reduce_max", -2: "reduce_min", "nuc": "reduce_sum"}[ord]
    s = singular_values(moveaxis(x, axes, (-2, -1)).node)
    if op == "reduce_max" and s.shape[-1] == 0:
        out = build().broadcast(build().scalar(0, s.dtype), s.shape[:-1], ())
    else:
        out = fold(op, s, -1).node
    if keepdims:
        out = build().reshape(out, tuple(1 if i in axes else d
                                         for i, d in enumerate(x.node.shape)))
    return result(out)


def _floating(x: Tracer) -> Tracer:
    return x if x.element.is_inexact else as_array(build().convert(x.node, "f64"))


@implements(np.linalg.norm)
def _norm(x: Array, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    t = _floating(lift(x))
    rank = len(t.node.shape)
    if axis is None and ord is None:
        flat = ravel(t)
        out = _norm_of(flat, None, (0,), False)
        return out if not keepdims else as_array(build().reshape(out.node, (1,) * rank))
    axes = axes_of(axis, rank)
    if len(axes) not in (1, 2):
        raise shape_error("Improper number of dimensions to norm.", "1 or 2 axes", "give axis=")
    return _norm_of(t, ord, axes, keepdims)


@implements(np.linalg.vector_norm)
def _vector_norm_function(x: Array, /, *, axis: Any = None, keepdims: bool = False,
                          ord: Any = 2) -> Any:
    t = _floating(lift(x))
    shape = t.node.shape
    axes = axes_of(axis, len(shape))
    order = [i for i in range(len(shape)) if i not in axes] + list(axes)
    b = build()
    node = b.transpose(t.node, perm=tuple(order)) if order != sorted(order) else t.node
    rest = tuple(d for i, d in enumerate(shape) if i not in axes)
    flat = as_array(b.reshape(node, (*rest, numel([shape[i] for i in axes]))))
    out = _norm_of(flat, ord, (len(rest),), False)
    if not keepdims:
        return out
    return result(b.reshape(out.node, tuple(1 if i in axes else d for i, d in enumerate(shape))))


@implements(np.linalg.matrix_norm)
def _matrix_norm_function(x: Array, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    t = _floating(lift(x))
    rank = len(t.node.shape)
    return _norm_of(t, ord, (rank - 2, rank - 1), keepdims)
