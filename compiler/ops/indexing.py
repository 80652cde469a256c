"""Indexing by computed indices, sorting, and taking one of several results."""

from __future__ import annotations

from typing import Any

import numpy as np

from weft.compiler.errors import DTypeError, ShapeError
from weft.compiler.ops.elementwise import check_kind
from weft.compiler.ops.registry import Attrs, Op, register
from weft.compiler.ops.views import check_axes
from weft.compiler.types import DTYPES, TensorType, TupleType

__all__: list[str] = []

Types = tuple[TensorType, ...]
_A = np.sin(np.arange(1.0, 61.0)).reshape(4, 3, 5)    # (numpy.random is slow to import)


def _gather(types: Types, attrs: Attrs) -> TensorType:
    x, *indices = types
    axes, position = tuple(attrs["axes"]), attrs["position"]
    check_axes("gather", axes, x.rank)
    if len(indices) != len(axes) or not indices:
        raise ShapeError(f"gather got {len(indices)} index arrays for {len(axes)} axes")
    shape = indices[0].shape
    for t in indices:
        if t.dtype is not DTYPES["i64"] or t.shape != shape:
            raise DTypeError(f"gather got an index {t}", expected=f"i64 indices of shape {shape}")
    rest = [d for a, d in enumerate(x.shape) if a not in axes]
    if not 0 <= position <= len(rest):
        raise ShapeError(f"gather got position {position}", expected=f"in [0, {len(rest)}]")
    return TensorType((*rest[:position], *shape, *rest[position:]), x.dtype)


def _gather_ref(xp: Any, x: Any, *indices: Any, axes: tuple[int, ...], position: int,
                mode: str) -> Any:
    sizes = [x.shape[a] for a in axes]
    if mode == "clip":
        indices = tuple(xp.clip(i, 0, d - 1) for i, d in zip(indices, sizes))
    elif mode == "wrap":
        indices = tuple(xp.remainder(i, d) for i, d in zip(indices, sizes))
    order = [*axes, *(a for a in range(x.ndim) if a not in axes)]
    picked = x.transpose(order)[indices]
    k = indices[0].ndim
    rest = list(range(k, picked.ndim))
    return xp.asarray(picked.transpose(rest[:position] + list(range(k)) + rest[position:])).copy()


register(Op("gather", "indexing", None, "the operand indexed along `axes` by index arrays; their "
            "shape stands at `position` of the result, before the axes left. Modes: `raise` "
            "(negative indices count from the end, others out of bounds raise), `clip`, `wrap`",
            _gather, _gather_ref, attrs=("axes", "position", "mode"), cost=2,
            samples=lambda: [
                ((_A, np.array([0, -1, 2])), {"axes": (0,), "position": 0, "mode": "raise"}),
                ((_A, np.array([[0, 4], [2, -5]])), {"axes": (2,), "position": 1, "mode": "raise"}),
                ((_A, np.array([1, 0]), np.array([-2, 4])),
                 {"axes": (1, 2), "position": 1, "mode": "raise"}),
                ((_A, np.array([9, -9])), {"axes": (1,), "position": 1, "mode": "clip"}),
                ((_A, np.array([9, -9])), {"axes": (1,), "position": 1, "mode": "wrap"}),
                ((_A, np.array(2)), {"axes": (0,), "position": 0, "mode": "raise"})]))


def _sort(name: str, dtype: str | None) -> Any:
    def infer(types: Types, attrs: Attrs) -> TensorType:
        check_axes(name, (attrs["axis"],), types[0].rank)
        return TensorType(types[0].shape, DTYPES[dtype] if dtype else types[0].dtype)
    return infer


def _sorted(xp: Any, name: str, x: Any, axis: int, stable: bool) -> Any:
    """NumPy's function; of bfloat16 in float32, since NumPy does not know that type's NaN."""
    wide = x.astype(np.float32) if x.dtype == DTYPES["bf16"].numpy else x
    out = getattr(xp, name)(wide, axis=axis, kind="stable" if stable else None)
    return out.astype(x.dtype) if name == "sort" else out


_sorts = [((_A,), {"axis": a, "stable": s}) for a in (0, 2) for s in (False, True)] + [
    ((np.array([3.0, np.nan, -0.0, 0.0, -np.inf, 3.0]),), {"axis": 0, "stable": True})]
for _name, _dtype, _doc in (("sort", None, "elements in ascending order along an axis, NaN last"),
                            ("argsort", "i64", "indices that would sort along an axis")):
    register(Op(_name, "sort", 1, _doc, _sort(_name, _dtype),
                lambda xp, x, axis, stable, _fn=_name: _sorted(xp, _fn, x, axis, stable),
                attrs=("axis", "stable"), cost=20, samples=lambda: _sorts))


def _searchsorted(types: Types, attrs: Attrs) -> TensorType:
    a, v = types
    if a.rank != 1:
        raise ShapeError("object too deep for desired array", expected=f"a 1-d array, not {a}")
    if a.dtype is not v.dtype:
        raise DTypeError(f"searchsorted got {a.dtype} and {v.dtype}", expected="one element type")
    check_kind("searchsorted", a.dtype, "bif")
    return TensorType(v.shape, DTYPES["i64"])


register(Op("searchsorted", "indexing", 2, "where elements of the second operand would be inserted "
            "into the sorted first one; `side` left or right", _searchsorted,
            lambda xp, a, v, side: xp.asarray(xp.searchsorted(a, v, side=side)), attrs=("side",),
            cost=40, samples=lambda: [
                ((np.array([1.0, 2.0, 2.0, np.nan]), np.array([[2.0, 0.5], [np.nan, 9.0]])),
                 {"side": s}) for s in ("left", "right")]))


def _get(types: tuple[Any, ...], attrs: Attrs) -> TensorType:
    (x,), index = types, attrs["index"]
    if not isinstance(x, TupleType) or not 0 <= index < len(x.elements):
        raise ShapeError(f"get of element {index} of {x}", expected="a tuple with that element")
    return x.elements[index]


register(Op("get", "structure", 1, "one of the results of a node that has several", _get,
            lambda xp, x, index: x[index], attrs=("index",), cost=0))
