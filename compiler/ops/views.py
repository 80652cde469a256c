"""Views and creation: ops that move, repeat or make elements and compute none."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from weft.compiler.errors import DTypeError, ShapeError
from weft.compiler.ops.registry import Attrs, Op, register
from weft.compiler.ops.view_rules import BATCHES, TRANSPOSES
from weft.compiler.types import Dim, TensorType, dtype_of, numel, shape_text

__all__: list[str] = []

Types = tuple[TensorType, ...]
_A = np.arange(24.0).reshape(2, 3, 4)


def check_axes(name: str, axes: tuple[int, ...], rank: int) -> None:
    """Refuse axes outside [0, rank) and repeated ones."""
    if len(set(axes)) != len(axes) or any(not 0 <= a < rank for a in axes):
        raise ShapeError(f"{name} got axes {list(axes)} for an array of {rank} dimension(s)",
                         expected=f"distinct axes in [0, {rank})")


def _view(name: str, arity: int | None, doc: str, infer: Any, reference: Any, **more: Any) -> None:
    """Views are linear in all operands, cost nothing, and have their rules in `view_rules`."""
    register(Op(name, "view", arity, doc, infer, reference, cost=0, linear="jointly",
                transpose=TRANSPOSES[name], batch=BATCHES[name], **more))


# ---- broadcast_in_dim

def _broadcast(types: Types, attrs: Attrs) -> TensorType:
    (x,), shape, dims = types, attrs["shape"], attrs["dims"]
    if len(dims) != x.rank or list(dims) != sorted(set(dims)):
        raise ShapeError(f"broadcast_in_dim got dims {list(dims)} for {x}",
                         expected="one increasing result axis for every operand axis")
    for d, a in zip(x.shape, dims):
        if a >= len(shape) or d not in (1, shape[a]):
            raise ShapeError(f"cannot broadcast {shape_text(x.shape)} to {shape_text(shape)}",
                             expected="sizes that are equal or 1")
    return TensorType(tuple(shape), x.dtype)


def _broadcast_ref(xp: Any, x: Any, shape: tuple[int, ...], dims: tuple[int, ...]) -> Any:
    full = [1] * len(shape)
    for d, a in zip(x.shape, dims):
        full[a] = d
    return xp.broadcast_to(x.reshape(full), shape).copy()


_view("broadcast_in_dim", 1, "operand axis i becomes result axis dims[i]; size-1 and "
      "new axes are repeated", _broadcast, _broadcast_ref, attrs=("shape", "dims"),
      samples=lambda: [((np.arange(3.0),), {"shape": (2, 3), "dims": (1,)}),
                       ((np.arange(3.0).reshape(3, 1),), {"shape": (3, 4), "dims": (0, 1)}),
                       ((np.array(2),), {"shape": (2, 0), "dims": ()})])


# ---- reshape, transpose, reverse, slice

def _reshape(types: Types, attrs: Attrs) -> TensorType:
    (x,), shape = types, attrs["shape"]
    if numel(shape) != x.size:
        raise ShapeError(f"cannot reshape array of size {x.size} into shape {shape_text(shape)}",
                         expected=f"a shape of {x.size} elements")
    return TensorType(tuple(shape), x.dtype)


_view("reshape", 1, "the elements in row-major order under another shape", _reshape,
      lambda xp, x, shape: x.reshape(shape).copy(), attrs=("shape",),
      samples=lambda: [((_A,), {"shape": s}) for s in ((24,), (6, 4), (4, 3, 2), (1, 24, 1),
                                                      (8, 3), (2, 2, 6))])


def _transpose(types: Types, attrs: Attrs) -> TensorType:
    (x,), perm = types, tuple(attrs["perm"])
    if sorted(perm) != list(range(x.rank)):
        raise ShapeError(f"transpose got axes {list(perm)} for {x}",
                         expected=f"a permutation of 0…{x.rank - 1}")
    return TensorType(tuple(x.shape[p] for p in perm), x.dtype)


_view("transpose", 1, "result axis i is operand axis perm[i]", _transpose,
      lambda xp, x, perm: x.transpose(perm).copy(), attrs=("perm",),
      samples=lambda: [((_A,), {"perm": p}) for p in ((2, 1, 0), (0, 2, 1), (1, 2, 0))])


def _reverse(types: Types, attrs: Attrs) -> TensorType:
    check_axes("reverse", tuple(attrs["axes"]), types[0].rank)
    return types[0]


_view("reverse", 1, "the order of elements along axes turned round", _reverse,
      lambda xp, x, axes: xp.flip(x, axes).copy(), attrs=("axes",),
      samples=lambda: [((_A,), {"axes": (0, 2)}), ((_A,), {"axes": (1,)})])


def slice_size(start: Dim, limit: Dim, stride: int) -> Dim:
    """Elements picked by start:limit:stride (0 <= start <= limit, stride > 0)."""
    if stride == 1:
        return limit - start
    return (limit - start + (stride - 1)) // stride


def _slice(types: Types, attrs: Attrs) -> TensorType:
    (x,) = types
    start, limit, stride = attrs["start"], attrs["limit"], attrs["stride"]
    if not len(start) == len(limit) == len(stride) == x.rank:
        raise ShapeError(f"slice of {x} got bounds for another rank")
    for a, (lo, hi, st, d) in enumerate(zip(start, limit, stride, x.shape)):
        static = all(isinstance(v, int) for v in (lo, hi, d))
        if st < 1 or (static and not 0 <= lo <= hi <= d):
            raise ShapeError(f"slice {lo}:{hi}:{st} of axis {a}, which has size {d}",
                             expected="0 <= start <= limit <= size and a positive stride")
    return TensorType(tuple(map(slice_size, start, limit, stride)), x.dtype)


_view("slice", 1, "every stride-th element from start up to limit, along each axis",
      _slice, lambda xp, x, start, limit, stride:
      x[tuple(map(slice, start, limit, stride))].copy(),
      attrs=("start", "limit", "stride"),
      samples=lambda: [
          ((_A,), {"start": (0, 1, 0), "limit": (2, 3, 4), "stride": (1, 1, 2)}),
          ((_A,), {"start": (1, 0, 3), "limit": (1, 3, 4), "stride": (1, 2, 1)})])


# ---- pad, concatenate

def _pad(types: Types, attrs: Attrs) -> TensorType:
    x, value = types
    if value.shape != () or value.dtype is not x.dtype:
        raise DTypeError(f"pad of {x} got a padding value {value}",
                         expected=f"a 0-d value of type {x.dtype}")
    low, high = attrs["low"], attrs["high"]
    if not len(low) == len(high) == x.rank or min((*low, *high), default=0) < 0:
        raise ShapeError(f"pad of {x} got low={list(low)} high={list(high)}",
                         expected="one non-negative width for every axis")
    return TensorType(tuple(d + lo + hi for d, lo, hi in zip(x.shape, low, high)), x.dtype)


_view("pad", 2, "the operand with low[i] and high[i] copies of a value around axis i",
      _pad, lambda xp, x, v, low, high: xp.pad(x, list(zip(low, high)), constant_values=v)
      if x.ndim else x.copy(), attrs=("low", "high"),
      samples=lambda: [((_A, np.array(-1.0)), {"low": (1, 0, 2), "high": (0, 1, 3)})])


def _concatenate(types: Types, attrs: Attrs) -> TensorType:
    axis, first = attrs["axis"], types[0]
    check_axes("concatenate", (axis,), first.rank)
    total: Dim = 0
    for t in types:
        if t.dtype is not first.dtype:
            raise DTypeError(f"concatenate got {first.dtype} and {t.dtype}",
                             expected="one element type")
        rest = t.shape[:axis] + t.shape[axis + 1:]
        if rest != first.shape[:axis] + first.shape[axis + 1:]:
            raise ShapeError(f"concatenate along axis {axis} got {first} and {t}",
                             expected="equal sizes along all other axes")
        total = total + t.shape[axis]
    return TensorType((*first.shape[:axis], total, *first.shape[axis + 1:]), first.dtype)


_view("concatenate", None, "the operands one after another along an axis",
      _concatenate, lambda xp, *xs, axis: xp.concatenate(xs, axis=axis), attrs=("axis",),
      samples=lambda: [((_A, _A + 100, _A[:, :, :1]), {"axis": 2}),
                                     ((_A[:1], _A), {"axis": 0}), ((_A,), {"axis": 1})])


# ---- creation

def _constant(types: Types, attrs: Attrs) -> TensorType:
    value = attrs["value"]
    return TensorType(value.shape, dtype_of(value.dtype))


register(Op("constant", "creation", 0, "a value known while compiling", _constant,
            lambda xp, value: xp.asarray(value), attrs=("value",), cost=0,
            samples=lambda: [((), {"value": np.array(v)}) for v in ([1.5, np.nan], 3)]))


def _iota(types: Types, attrs: Attrs) -> TensorType:
    shape, dtype = tuple(attrs["shape"]), dtype_of(attrs["dtype"])
    check_axes("iota", (attrs["axis"],), len(shape))
    if dtype.kind == "bool":
        raise DTypeError("iota is not defined for bool", expected="numbers")
    return TensorType(shape, dtype)


def _iota_ref(xp: Any, shape: tuple[int, ...], axis: int, dtype: Any) -> Any:
    line = [1] * len(shape)
    line[axis] = operator.index(shape[axis])
    return xp.broadcast_to(xp.arange(shape[axis]).astype(dtype.numpy).reshape(line), shape).copy()


register(Op("iota", "creation", 0, "each element's index along an axis", _iota, _iota_ref,
            attrs=("shape", "axis", "dtype"), cost=0,
            samples=lambda: [((), {"shape": (2, 5), "axis": a, "dtype": dtype_of(d)})
                             for a in (0, 1) for d in ("i64", "f32", "u8", "c64")]))


def _size(types: Types, attrs: Attrs) -> TensorType:
    return TensorType((), dtype_of("i64"))


register(Op("size", "creation", 0, "the value of a symbolic size", _size,
            lambda xp, size: xp.asarray(np.int64(size)), attrs=("size",), cost=0,
            samples=lambda: [((), {"size": 7})]))
