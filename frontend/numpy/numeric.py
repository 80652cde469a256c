"""Functions composed of others: rounding, complex parts, special functions, covariance."""

from __future__ import annotations

import functools
import math
import operator
from typing import Any

import numpy as np

from weft.compiler.build import Builder
from weft.compiler.errors import UnsupportedError
from weft.compiler.ir import Node
from weft.compiler.types import Size, dtype_of
from weft.frontend.numpy.common import (
    Array,
    as_array,
    build,
    into,
    lift,
    result,
    spread,
    the_trace,
    ufunc,
)
from weft.frontend.numpy.joins import concatenate
from weft.frontend.numpy.linalg_core import dot
from weft.frontend.numpy.matrices import diagonal_node
from weft.frontend.numpy.reductions import mean
from weft.frontend.numpy.shapes import transpose
from weft.frontend.problems import problem
from weft.frontend.table import implements, method
from weft.frontend.tracer import Tracer

__all__ = ["round_"]


# ---- rounding

@implements(np.round, np.around)
def round_(a: Array, decimals: Any = 0, out: Any = None) -> Any:
    """`np.round`: halves to even, at a power of ten."""
    x, places = lift(a), operator.index(decimals)
    b, node = build(), x.node
    if x.element.is_complex:
        parts = [_rounded(p, places) for p in (b.real(node), b.imag(node))]
        return into(out, result(b.complex(*parts)))
    if x.element.is_integer:
        if places < 0:
            scale = b.scalar(10.0 ** -places, "f64")
            wide = b.mul(b.rint(b.div(b.convert(node, "f64"), scale)), scale)
            node = b.convert(wide, x.element)
        return into(out, result(node))
    if x.element.kind == "bool":
        node = b.convert(node, "f16")
    return into(out, result(_rounded(node, places)))


def _rounded(node: Node, places: int) -> Node:
    b = build()
    if places == 0:
        return b.rint(node)
    scale = b.scalar(10.0 ** abs(places), node.dtype)
    if places > 0:
        return b.div(b.rint(b.mul(node, scale)), scale)
    return b.mul(b.rint(b.div(node, scale)), scale)


@method("round")
def _round_method(x: Tracer, decimals: Any = 0, out: Any = None) -> Any:
    return round_(x, decimals, out)


@implements(np.fix)
def _fix(x: Array, out: Any = None) -> Any:
    return into(out, ufunc("trunc", x))


@implements(np.nan_to_num)
def _nan_to_num(x: Array, copy: bool = True, nan: Any = 0.0, posinf: Any = None,
                neginf: Any = None) -> Any:
    t, b = lift(x), build()
    if t.element.is_complex:
        parts = [_finite(p, nan, posinf, neginf) for p in (b.real(t.node), b.imag(t.node))]
        return result(b.complex(*parts))
    return result(_finite(t.node, nan, posinf, neginf) if t.element.is_float else t.node)


def _finite(node: Node, nan: Any, posinf: Any, neginf: Any) -> Node:
    b, info = build(), np.finfo(node.dtype.numpy)
    values = [nan, info.max if posinf is None else posinf, info.min if neginf is None else neginf]
    zero, up, down = (b.convert(lift(v).node, node.dtype) for v in values)
    sign = b.lt(node, b.scalar(0, node.dtype))
    infinite = b.select(sign, spread(down, node), spread(up, node))
    finite = b.select(b.is_inf(node), infinite, node)
    return b.select(b.is_nan(node), zero, finite)


@implements(np.isposinf)
def _isposinf(x: Array, out: Any = None) -> Any:
    return _signed_inf(x, out, False)


@implements(np.isneginf)
def _isneginf(x: Array, out: Any = None) -> Any:
    return _signed_inf(x, out, True)


def _signed_inf(x: Array, out: Any, negative: bool) -> Any:
    t = lift(x)
    if t.element.is_complex:
        raise TypeError("This operation is not supported for complex128 values because it would "
                        "be ambiguous.")
    sign = ufunc("signbit", t) if t.element.is_float else ufunc("less", t, 0)
    sign = sign if negative else ufunc("logical_not", sign)
    return into(out, ufunc("logical_and", ufunc("isinf", t), sign))


# ---- complex numbers

@implements(np.angle)
def _angle(z: Array, deg: bool = False) -> Any:
    x, b = lift(z), build()
    if x.element.is_complex:
        re, im = result(b.real(x.node)), result(b.imag(x.node))
    else:
        re, im = x, lift(0)
    out = ufunc("arctan2", im, re)
    return ufunc("multiply", out, 180 / math.pi) if deg else out


@implements(np.isreal)
def _isreal(x: Array) -> Any:
    t, b = lift(x), build()
    if not t.element.is_complex:
        return result(b.broadcast(b.scalar(True, "bool"), t.node.shape))
    im = b.imag(t.node)
    return result(b.eq(im, b.scalar(0, im.dtype)))


@implements(np.iscomplex)
def _iscomplex(x: Array) -> Any:
    t, b = lift(x), build()
    if not t.element.is_complex:
        return result(b.broadcast(b.scalar(False, "bool"), t.node.shape))
    im = b.imag(t.node)
    return result(b.ne(im, b.scalar(0, im.dtype)))


# ---- special functions

@implements(np.sinc)
def _sinc(x: Array) -> Any:
    t, b = lift(x), build()
    y = ufunc("multiply", math.pi, t) if t.element.is_inexact else as_array(
        b.mul(b.convert(t.node, "f64"), b.scalar(math.pi, "f64")))
    zero = b.eq(y.node, b.scalar(0, y.element))
    eps = b.scalar(np.finfo(y.element.numpy).eps, y.element)
    safe = b.select(zero, spread(eps, y.node), y.node)
    return result(b.div(b.sin(safe), safe))


@functools.cache
def _bessel_series() -> tuple[list[float], list[float]]:
    """Chebyshev coefficients of exp(-x)*I0(x) on [0, 8] and, times sqrt(x), beyond."""
    fit = np.polynomial.chebyshev.chebinterpolate

    def near(t: Any) -> Any:
        x = 4 * (t + 1)
        return np.exp(-x) * np.i0(x)

    def far(t: Any) -> Any:
        x = 16 / (t + 1)
        small = np.minimum(x, 600.0)
        return np.where(x > 600, _i0_tail(x), np.exp(-small) * np.i0(small) * np.sqrt(small))
    return fit(near, 29).tolist(), fit(far, 24).tolist()


def _i0_tail(x: Any) -> Any:
    """The asymptotic series of exp(-x)*I0(x)*sqrt(x)."""
    r = 1 / (8 * x)
    return (1 + r + 4.5 * r * r + 37.5 * r ** 3) / math.sqrt(2 * math.pi)


def _clenshaw(b: Builder, t: Node, coefficients: list[float]) -> Node:
    ahead = later = b.broadcast(b.scalar(0, t.dtype), t.shape)
    twice = b.add_(t, t)
    for c in coefficients[:0:-1]:
        ahead, later = b.add_(b.sub(b.mul(twice, ahead), later), b.scalar(c, t.dtype)), ahead
    return b.add_(b.sub(b.mul(t, ahead), later), b.scalar(coefficients[0], t.dtype))


@implements(np.i0)
def _i0(x: Array) -> Any:
    t, b = lift(x), build()
    if t.element.is_complex:
        raise TypeError("i0 not supported for complex values")
    node = b.abs(t.node if t.element.is_float else b.convert(t.node, "f64"))
    near, far = _bessel_series()
    one, eight = b.scalar(1, node.dtype), b.scalar(8, node.dtype)
    low = _clenshaw(b, b.sub(b.div(b.minimum(node, eight), b.scalar(4, node.dtype)), one), near)
    big = b.maximum(node, eight)
    high = b.div(_clenshaw(b, b.sub(b.div(b.scalar(16, node.dtype), big), one), far), b.sqrt(big))
    return as_array(b.mul(b.exp(node), b.select(b.le(node, eight), low, high)))


# ---- covariance

@implements(np.cov)
def cov(m: Array, y: Any = None, rowvar: bool = True, bias: bool = False, ddof: Any = None,
        fweights: Any = None, aweights: Any = None, *, dtype: Any = None) -> Any:
    """`np.cov`."""
    if fweights is not None or aweights is not None:
        raise problem(UnsupportedError, "np.cov with weights is not traced",
                      repair="use np.average to take weighted means")
    b = build()
    xs = [lift(v) for v in ((m,) if y is None else (m, y))]
    wide = np.result_type(*(x.dtype if not x.weak else x.element.numpy for x in xs), np.float64)
    wanted = dtype_of(wide if dtype is None else dtype)
    rows = []
    for x in xs:
        node = b.convert(x.node, wanted)
        node = b.reshape(node, (1, *node.shape)) if len(node.shape) == 1 else node
        if not rowvar and len(x.node.shape) == 2:
            node = b.transpose(node, perm=(1, 0))
        rows.append(as_array(node))
    data = concatenate(rows, 0) if len(rows) > 1 else rows[0]
    ddof = (0 if bias else 1) if ddof is None else ddof
    return _covariance(data, ddof)


def _covariance(data: Tracer, ddof: int) -> Any:
    n: Any = data.node.shape[1]
    centred = ufunc("subtract", data, mean(data, 1, keepdims=True))
    turned = transpose(centred)
    product = dot(centred, ufunc("conjugate", turned) if turned.element.is_complex else turned)
    if isinstance(n, Size):
        factor = 1 / the_trace().size(n - ddof)  # type: ignore[arg-type]
    else:
        factor = 1 / np.float64(n - ddof) if n > ddof else math.nan
    b = build()
    out = b.convert(ufunc("multiply", product, factor).node, product.node.dtype)
    return as_array(b.reshape(out, tuple(d for d in out.shape if d != 1)))


@implements(np.corrcoef)
def _corrcoef(x: Array, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Any:
    c = cov(x, y, rowvar, dtype=dtype)
    if not c.node.shape:
        return ufunc("divide", c, c)
    b = build()
    n: Any = c.node.shape[0]
    diagonal = diagonal_node(c.node, 0, 0, 1)
    spread = ufunc("sqrt", as_array(b.real(diagonal) if c.element.is_complex else diagonal))
    c = ufunc("divide", c, as_array(b.reshape(spread.node, (n, 1))))
    c = ufunc("divide", c, as_array(b.reshape(spread.node, (1, n))))
    if c.element.is_complex:
        return as_array(b.complex(*(_unit(p) for p in (b.real(c.node), b.imag(c.node)))))
    return as_array(_unit(c.node))


def _unit(x: Node) -> Node:
    """Clipped to [-1, 1], where rounding left it."""
    b = build()
    return b.minimum(b.maximum(x, b.scalar(-1, x.dtype)), b.scalar(1, x.dtype))
