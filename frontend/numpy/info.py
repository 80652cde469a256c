"""Questions about shapes and types, answered while tracing."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import numpy as np

from weft.compiler.types import dtype_of, numel
from weft.frontend.numpy.common import Array, axes_of, build, lift, the_trace, ufunc
from weft.frontend.numpy.reductions import fold
from weft.frontend.numpy.ufuncs import broadcast_shape
from weft.frontend.table import HOOKS, implements
from weft.frontend.tracer import PYTHON_TYPES, Tracer

__all__: list[str] = []


def _public(d: Any) -> Any:
    return d if isinstance(d, int) else the_trace().size(d)


@implements(np.shape)
def _shape(a: Array) -> tuple[Any, ...]:
    return tuple(map(_public, lift(a).node.shape))


@implements(np.ndim)
def _ndim(a: Array) -> int:
    return len(lift(a).node.shape)


@implements(np.size)
def _size(a: Array, axis: Any = None) -> Any:
    shape = lift(a).node.shape
    return _public(numel([shape[i] for i in axes_of(axis, len(shape))]))


@implements(np.iscomplexobj)
def _iscomplexobj(x: Array) -> bool:
    return lift(x).element.is_complex


@implements(np.isrealobj)
def _isrealobj(x: Array) -> bool:
    return not lift(x).element.is_complex


def _promotable(x: Any) -> Any:
    if type(x) is not Tracer:
        return x
    return PYTHON_TYPES[x.kind](0) if x.weak else x.dtype


@implements(np.result_type)
def _result_type(*arrays_and_dtypes: Any) -> Any:
    return np.result_type(*map(_promotable, arrays_and_dtypes))


@implements(np.common_type)
def _common_type(*arrays: Any) -> Any:
    return np.common_type(*(np.empty(0, lift(a).element.numpy) for a in arrays))


@implements(np.can_cast)
def _can_cast(from_: Any, to: Any, casting: Any = "safe") -> bool:
    return np.can_cast(_promotable(from_), to, casting)


@implements(np.min_scalar_type)
def _min_scalar_type(a: Array, /) -> Any:
    return lift(a).dtype


def _text(a: Array, *args: Any, **kwargs: Any) -> str:
    return repr(lift(a))


implements(np.array_repr, np.array_str, np.array2string)(_text)


# ---- equality of whole arrays

@implements(np.array_equal)
def _array_equal(a1: Array, a2: Array, equal_nan: bool = False) -> Any:
    x, y = lift(a1), lift(a2)
    if x.node.shape != y.node.shape:
        return False
    return _all_equal(x, y, equal_nan)


def _all_equal(x: Tracer, y: Tracer, equal_nan: bool) -> Any:
    b = build()
    same = ufunc("equal", x, y)
    if equal_nan and x.element.is_inexact and y.element.is_inexact:
        both = ufunc("logical_and", ufunc("isnan", x), ufunc("isnan", y))
        same = ufunc("logical_or", same, both)
    node = fold("reduce_and", same.node, None).node
    return Tracer(x.tape, b.convert(node, "bool"), "bool")


@implements(np.array_equiv)
def _array_equiv(a1: Array, a2: Array) -> Any:
    x, y = lift(a1), lift(a2)
    try:
        broadcast_shape([x.node.shape, y.node.shape])
    except ValueError:
        return False
    return _all_equal(x, y, False)


@implements(np.isclose)
def _isclose(a: Array, b: Array, rtol: Any = 1e-5, atol: Any = 1e-8,
             equal_nan: bool = False) -> Tracer:
    x, y = lift(a), lift(b)
    if y.element.kind != "float":
        wide = dtype_of(np.result_type(_promotable(y), 1.0))
        y = Tracer(y.tape, build().convert(y.node, wide), "scalar" if y.weak else y.kind)
    gap = ufunc("absolute", ufunc("subtract", x, y))
    reach = ufunc("add", atol, ufunc("multiply", rtol, ufunc("absolute", y)))
    near = ufunc("logical_and", ufunc("less_equal", gap, reach), ufunc("isfinite", y))
    near = ufunc("logical_or", near, ufunc("equal", x, y))
    if equal_nan:
        near = ufunc("logical_or", near,
                     ufunc("logical_and", ufunc("isnan", x), ufunc("isnan", y)))
    return near  # type: ignore[no-any-return]


@implements(np.allclose)
def _allclose(a: Array, b: Array, rtol: Any = 1e-5, atol: Any = 1e-8,
              equal_nan: bool = False) -> Tracer:
    near = _isclose(a, b, rtol, atol, equal_nan)
    return Tracer(near.tape, fold("reduce_and", near.node, None).node, "bool")


def _namespace() -> ModuleType:
    return importlib.import_module("weft.numpy")


HOOKS.namespace = _namespace
