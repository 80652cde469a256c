"""Functions that change the shape of one array: reshape, transpose, squeeze, astype, …"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from weft.compiler.errors import UnsupportedError
from weft.compiler.types import Dim, Shape, numel
from weft.frontend.numpy.common import (
    Array,
    as_array,
    as_list,
    as_shape,
    axes_of,
    axis_of,
    build,
    element,
    lift,
    of_kind,
    view,
)
from weft.frontend.numpy.ufuncs import broadcast_shape, shape_str
from weft.frontend.problems import problem, shape_error
from weft.frontend.table import attribute, implements, method
from weft.frontend.tracer import Tracer

__all__ = ["broadcast_to", "moveaxis", "ravel", "reshape", "transpose"]


# ---- reshape

def _check_order(order: Any, x: Tracer) -> None:
    if order not in ("C", "K", None) and not (order == "A"):
        raise problem(UnsupportedError, f"order={order!r} is not traced: results are in C order",
                      repair="transpose first: x.T.reshape(...).T for order='F'")


def _fill_unknown(shape: Shape, size: Dim) -> Shape:
    """The shape with its -1 replaced by what is left of `size`."""
    unknown = [a for a, d in enumerate(shape) if isinstance(d, int) and d < 0]
    wrong = f"cannot reshape array of size {size} into shape {shape_str(shape)}"
    if len(unknown) > 1:
        raise shape_error("can only specify one unknown dimension")
    if unknown:
        a = unknown[0]
        rest = numel(d for i, d in enumerate(shape) if i != a)
        filled = _divided(size, rest)
        if filled is None:
            raise shape_error(wrong, f"a shape whose other sizes divide {size}")
        shape = (*shape[:a], filled, *shape[a + 1:])
    if numel(shape) != size:
        raise shape_error(wrong, f"a shape of {size} elements")
    return shape


def _divided(size: Dim, rest: Dim) -> Dim | None:
    if isinstance(size, int) and isinstance(rest, int):
        return size // rest if rest and size % rest == 0 else None
    try:
        return size // rest  # type: ignore[operator]
    except (ValueError, TypeError, ZeroDivisionError):
        return None


@implements(np.reshape)
def reshape(a: Array, /, shape: Any = None, order: Any = "C", *, copy: Any = None) -> Tracer:
    """`np.reshape`; one size may be -1."""
    x = lift(a)
    b, node = build(), x.node
    wanted = as_shape(shape)
    if order == "F":
        turned = b.transpose(node, perm=tuple(reversed(range(len(node.shape)))))
        wanted = _fill_unknown(wanted, node.tensor.size)
        node = b.reshape(turned, tuple(reversed(wanted)))
        return as_array(b.transpose(node, perm=tuple(reversed(range(len(wanted))))))
    _check_order(order, x)
    node = b.reshape(node, _fill_unknown(wanted, node.tensor.size))
    return view(x, node) if not x.weak else as_array(node)


@method("reshape")
def _reshape_method(x: Tracer, *shape: Any, order: Any = "C", copy: Any = None) -> Tracer:
    if len(shape) == 1:
        return reshape(x, shape[0], order)
    return reshape(x, shape, order)


@implements(np.ravel, methods=("ravel",))
def ravel(a: Array, order: Any = "C") -> Tracer:
    """`np.ravel`: the elements in one axis."""
    return reshape(a, (-1,) if lift(a).node.tensor.size != 0 else (0,), order)


@method("flatten")
def _flatten(x: Tracer, order: Any = "C") -> Tracer:
    return as_array(ravel(x, order).node)


@attribute("flat")
def _flat(x: Tracer) -> Tracer:
    return ravel(x)


# ---- order of axes

def _permuted(x: Tracer, perm: Sequence[int]) -> Tracer:
    node = x.node
    if tuple(perm) != tuple(range(len(perm))):
        node = build().transpose(node, perm=tuple(perm))
    return view(x, node)


@implements(np.transpose)
def transpose(a: Array, axes: Any = None) -> Tracer:
    """`np.transpose`; all axes reversed by default."""
    x = lift(a)
    rank = len(x.node.shape)
    if axes is None:
        return _permuted(x, range(rank)[::-1])
    if len(axes) != rank:
        raise shape_error("axes don't match array", f"a permutation of {rank} axes")
    perm = [axis_of(i, rank) for i in axes]
    if len(set(perm)) != rank:
        raise shape_error("repeated axis in transpose", f"a permutation of {rank} axes")
    return _permuted(x, perm)


@method("transpose")
def _transpose_method(x: Tracer, *axes: Any) -> Tracer:
    if not axes or axes == (None,):
        return transpose(x)
    return transpose(x, axes[0] if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else axes)


@attribute("T")
def _t(x: Tracer) -> Tracer:
    return transpose(x)


@attribute("mT")
def _mt(x: Tracer) -> Tracer:
    return matrix_transpose(x)


@implements(np.matrix_transpose, np.linalg.matrix_transpose)
def matrix_transpose(x: Array, /) -> Tracer:
    """`np.matrix_transpose`: the last two axes swapped."""
    t = lift(x)
    if len(t.node.shape) < 2:
        raise shape_error(f"Input array must be at least 2-dimensional, but it is "
                          f"{len(t.node.shape)}")
    return swapaxes(t, -1, -2)


@implements(np.swapaxes, methods=("swapaxes",))
def swapaxes(a: Array, axis1: Any, axis2: Any) -> Tracer:
    """`np.swapaxes`."""
    x = lift(a)
    rank = len(x.node.shape)
    i, j = axis_of(axis1, rank, "axis1: axis"), axis_of(axis2, rank, "axis2: axis")
    perm = list(range(rank))
    perm[i], perm[j] = j, i
    return _permuted(x, perm)


@implements(np.moveaxis)
def moveaxis(a: Array, source: Any, destination: Any) -> Tracer:
    """`np.moveaxis`."""
    x = lift(a)
    rank = len(x.node.shape)
    src = [axis_of(i, rank, "source: axis") for i in as_list(source)]
    dst = [axis_of(i, rank, "destination: axis") for i in as_list(destination)]
    if len(src) != len(dst):
        raise shape_error("`source` and `destination` arguments must have the same number of "
                          "elements")
    order = [n for n in range(rank) if n not in src]
    for d, s in sorted(zip(dst, src)):
        order.insert(d, s)
    return _permuted(x, order)


@implements(np.rollaxis)
def _rollaxis(a: Array, axis: Any, start: Any = 0) -> Tracer:
    x = lift(a)
    rank = len(x.node.shape)
    i, j = axis_of(axis, rank), operator.index(start)
    j = j + rank if j < 0 else j
    order = [n for n in range(rank) if n != i]
    order.insert(j - 1 if i < j else j, i)
    return _permuted(x, order)


# ---- axes of size 1

@implements(np.squeeze, methods=("squeeze",))
def _squeeze(a: Array, axis: Any = None) -> Tracer:
    x = lift(a)
    shape = x.node.shape
    if axis is None:
        gone = tuple(i for i, d in enumerate(shape) if d == 1)
    else:
        gone = axes_of(axis, len(shape))
        if any(shape[i] != 1 for i in gone):
            raise shape_error("cannot select an axis to squeeze out which has size not equal to "
                              "one", "axes of size 1")
    return view(x, build().reshape(x.node, tuple(d for i, d in enumerate(shape) if i not in gone)))


@implements(np.expand_dims)
def expand_dims(a: Array, axis: Any) -> Tracer:
    """`np.expand_dims`."""
    x = lift(a)
    extra = as_list(axis)
    rank = len(x.node.shape) + len(extra)
    new = axes_of(tuple(extra), rank)
    rest = iter(x.node.shape)
    return view(x, build().reshape(x.node, tuple(1 if i in new else next(rest)
                                                 for i in range(rank))))


def _at_least(x: Tracer, rank: int) -> Tracer:
    shape = x.node.shape
    if len(shape) >= rank:
        return x if x.kind == "array" else as_array(x.node)
    if rank == 3:
        shape = {0: (1, 1, 1), 1: (1, *shape, 1), 2: (*shape, 1)}[len(shape)]
    else:
        shape = (1,) * (rank - len(shape)) + shape
    node = build().reshape(x.node, shape)
    return view(x, node) if x.kind == "array" else as_array(node)


def _at_least_function(rank: int) -> Any:
    def atleast(*arys: Array) -> Any:
        out = tuple(_at_least(lift(a), rank) for a in arys)
        return out[0] if len(out) == 1 else out
    return atleast


atleast_1d = implements(np.atleast_1d)(_at_least_function(1))
atleast_2d = implements(np.atleast_2d)(_at_least_function(2))
atleast_3d = implements(np.atleast_3d)(_at_least_function(3))


# ---- broadcasting

@implements(np.broadcast_to)
def broadcast_to(array: Array, shape: Any, subok: bool = False) -> Tracer:
    """`np.broadcast_to`."""
    x, wanted = lift(array), as_shape(shape)
    have = x.node.shape
    if len(have) > len(wanted):
        raise shape_error("input operand has more dimensions than allowed by the axis remapping")
    fits = all(d in (1, w) for d, w in zip(have[::-1], wanted[::-1]))
    if not fits:
        raise shape_error("operands could not be broadcast together with remapped shapes "
                          f"[original->remapped]: {shape_str(have)}  and requested shape "
                          f"{shape_str(wanted)}", "sizes that are equal or 1")
    return view(x, build().broadcast(x.node, wanted)) if x.kind == "array" else as_array(
        build().broadcast(x.node, wanted))


@implements(np.broadcast_arrays)
def _broadcast_arrays(*args: Array, subok: bool = False) -> tuple[Tracer, ...]:
    xs = [lift(a) for a in args]
    shape = broadcast_shape([x.node.shape for x in xs])
    return tuple(broadcast_to(x, shape) for x in xs)


# ---- copies and conversions

@implements(np.copy)
def copy(a: Array, order: Any = "K", subok: bool = False) -> Tracer:
    """`np.copy`: an array of its own."""
    return as_array(lift(a).node)


@method("copy")
def _copy_method(x: Tracer, order: Any = "C") -> Tracer:
    return of_kind(x, x.node)


@implements(np.astype)
def astype(x: Array, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Tracer:
    """`np.astype`."""
    return _astype_method(lift(x), dtype, copy=copy)


@method("astype")
def _astype_method(x: Tracer, dtype: Any, order: Any = "K", casting: str = "unsafe",
                   subok: bool = True, copy: bool = True) -> Tracer:
    wanted = element(dtype)
    if not np.can_cast(x.dtype, wanted.numpy, casting):  # type: ignore[arg-type]
        raise TypeError(f"Cannot cast array data from {x.dtype!r} to {wanted.numpy!r} according "
                        f"to the rule {casting!r}")
    if not copy and wanted is x.element:
        return x
    return of_kind(x, build().convert(x.node, wanted))


@implements(np.real)
def real(val: Array) -> Any:
    """`np.real`: the real part; the array itself where it is real."""
    x = lift(val)
    if x.weak:
        return x.real
    return view(x, build().real(x.node) if x.element.is_complex else x.node)


@implements(np.imag)
def imag(val: Array) -> Any:
    """`np.imag`: the imaginary part."""
    x = lift(val)
    if x.weak:
        return x.imag
    b = build()
    if x.element.is_complex:
        return view(x, b.imag(x.node))
    return of_kind(x, b.broadcast(b.scalar(0, x.element), x.node.shape))


attribute("real")(real)
attribute("imag")(imag)


@method("conj", "conjugate")
def _conj(x: Tracer) -> Tracer:
    return of_kind(x, build().conj(x.node)) if x.element.is_complex else x
