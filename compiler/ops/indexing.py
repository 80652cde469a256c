"""Sorting, searching, and taking one of several results."""

from __future__ import annotations

from typing import Any

import numpy as np

from weft.compiler.errors import DTypeError, ShapeError
from weft.compiler.ops.elementwise import check_kind
from weft.compiler.ops.order_rules import search_batch, sort_jvp
from weft.compiler.ops.registry import Attrs, Op, register
from weft.compiler.ops.views import check_axes
from weft.compiler.types import DTYPES, TensorType, TupleType

__all__: list[str] = []

Types = tuple[TensorType, ...]
_A = np.sin(np.arange(1.0, 61.0)).reshape(4, 3, 5)    # (numpy.random is slow to import)


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
                attrs=("axis", "stable"), cost=20, samples=lambda: _sorts,
                jvp=None if _dtype else sort_jvp))


def _searchsorted(types: Types, attrs: Attrs) -> TensorType:
    (a, v), n = types, attrs.get("batch", 0)
    if a.rank != n + 1:
        raise ShapeError("object too deep for desired array", expected=f"a 1-d array, not {a}")
    if a.shape[:n] != v.shape[:n]:
        raise ShapeError(f"searchsorted got {a} and {v}", expected=f"{n} equal axes in front")
    if a.dtype is not v.dtype:
        raise DTypeError(f"searchsorted got {a.dtype} and {v.dtype}", expected="one element type")
    check_kind("searchsorted", a.dtype, "bif")
    return TensorType(v.shape, DTYPES["i64"])


def _searchsorted_ref(xp: Any, a: Any, v: Any, side: str, batch: int = 0) -> Any:
    out = xp.empty(v.shape, np.int64)
    for row in np.ndindex(*a.shape[:batch]):
        out[row] = xp.searchsorted(a[row], v[row], side=side)
    return out


register(Op("searchsorted", "indexing", 2, "where elements of the second operand would be inserted "
            "into the sorted first one; `side` left or right. With `batch`, that many axes in "
            "front of both say which array is searched", _searchsorted, _searchsorted_ref,
            attrs=("side", "batch"), cost=40, batch=search_batch, samples=lambda: [
                *(((np.array([1.0, 2.0, 2.0, np.nan]), np.array([[2.0, 0.5], [np.nan, 9.0]])),
                   {"side": s}) for s in ("left", "right")),
                ((np.sort(_A[0], axis=1), np.cos(_A[0, :, :2])), {"side": "left", "batch": 1}),
                ((np.sort(_A, axis=2), np.cos(_A[:, :, 0])), {"side": "right", "batch": 2})]))


def _get(types: tuple[Any, ...], attrs: Attrs) -> TensorType:
    (x,), index = types, attrs["index"]
    if not isinstance(x, TupleType) or not 0 <= index < len(x.elements):
        raise ShapeError(f"get of element {index} of {x}", expected="a tuple with that element")
    return x.elements[index]


register(Op("get", "structure", 1, "one of the results of a node that has several", _get,
            lambda xp, x, index: x[index], attrs=("index",), cost=0))
