"""Which element types a ufunc computes in: NumPy's own answer (NEP 50), asked once and kept."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from weft.compiler.types import DTYPES, DType, dtype_of
from weft.frontend.problems import IntegerRangeError, dtype_error, problem

__all__ = ["Key", "Loop", "check_range", "common_type", "find_loop", "key_dtype"]

Key: TypeAlias = DType | type            # a `DType`, or int, float, complex for weak operands
Loop: TypeAlias = tuple[tuple[DType, ...], tuple[DType, ...]]

_loops: dict[tuple[Any, ...], Loop] = {}
_commons: dict[tuple[Key, ...], DType] = {}
_BOUNDS = {d: (int(np.iinfo(d.numpy).min), int(np.iinfo(d.numpy).max))
           for d in DTYPES.values() if d.is_integer}
_WEAK = {int: DTYPES["i64"], float: DTYPES["f64"], complex: DTYPES["c128"], bool: DTYPES["bool"]}


def key_dtype(key: Key) -> DType:
    """The element type of an operand standing alone."""
    return key if isinstance(key, DType) else _WEAK[key]


def _numpy(key: Key) -> Any:
    if isinstance(key, DType):
        return key.numpy
    return np.dtype(bool) if key is bool else key


def find_loop(ufunc: np.ufunc, keys: tuple[Key, ...], dtype: Any = None,
              casting: str = "same_kind") -> Loop:
    """The element types of operands and results in which `ufunc` computes for these operands."""
    key = (ufunc, keys, dtype, casting)
    found = _loops.get(key)
    if found is None:
        found = _loops[key] = _resolve(ufunc, keys, dtype, casting)
    return found


def _resolve(ufunc: np.ufunc, keys: tuple[Key, ...], dtype: Any, casting: str) -> Loop:
    signature = dtype
    if dtype is not None and not isinstance(dtype, tuple) and "->" not in str(dtype):
        signature = (None,) * ufunc.nin + (np.dtype(dtype),) * ufunc.nout
    operands = (*map(_numpy, keys), *[None] * ufunc.nout)
    options = {} if signature is None else {"signature": signature}
    try:
        resolve: Any = ufunc.resolve_dtypes
        types = resolve(operands, casting=casting, **options)
        own = tuple(map(dtype_of, types))
    except TypeError as error:
        unfit = "coerced" in str(error) or "loop" in str(error) or "cast" in str(error)
        repair = "convert the operands with astype" if unfit else None
        raise dtype_error(str(error), repair=repair) from None
    return own[:ufunc.nin], own[ufunc.nin:]


def common_type(keys: tuple[Key, ...]) -> DType:
    """The element type to which these promote: `np.result_type`."""
    found = _commons.get(keys)
    if found is None:
        first = keys[0]
        if len(set(keys)) == 1 and isinstance(first, DType):
            found = first
        else:
            found = _promote(keys)
        _commons[keys] = found
    return found


def _promote(keys: tuple[Key, ...]) -> DType:
    weak = {int: 0, float: 0.0, complex: 0j, bool: False}
    try:
        return dtype_of(np.result_type(*(k.numpy if isinstance(k, DType) else weak[k]
                                         for k in keys)))
    except TypeError as error:
        raise dtype_error(str(error), repair="convert the operands with astype") from None


def check_range(value: int, dtype: DType) -> None:
    """Refuse a Python integer that `dtype` cannot hold, as NumPy does."""
    bounds = _BOUNDS.get(dtype)
    if bounds is not None and not bounds[0] <= value <= bounds[1]:
        raise problem(IntegerRangeError, f"Python integer {value} out of bounds for {dtype.numpy}",
                      expected=f"an integer in [{bounds[0]}, {bounds[1]}]",
                      repair="convert the array to a wider type with astype")
