"""NumPy's own sorting functions, by the names under which generated code calls them.

Each built-in dtype has a table of C functions (`PyArray_ArrFuncs`) with its sorts. They work on
plain memory, without the GIL, and ignore their last argument (an array) for these dtypes:

    int weft_np_sort_<dtype>_<kind>(void *values, npy_intp n, void *unused)
    int weft_np_argsort_<dtype>_<kind>(void *values, npy_intp *indices, npy_intp n, void *unused)
"""

from __future__ import annotations

import ctypes
import functools

import numpy as np

from weft.compiler.types import DType
from weft.devices.cpu import python_api

__all__ = ["KINDS", "OPS", "sort_symbol", "symbols"]

OPS = {"sort": 0, "argsort": 3}         # places in a table of sorts: quick, heap, stable of each
KINDS = {"quick": 0, "stable": 2}       # kind=None is quick


def sort_symbol(op: str, dtype: DType | str, stable: bool) -> str:
    """The name of a sorting function."""
    return f"weft_np_{op}_{dtype}_{'stable' if stable else 'quick'}"


@functools.cache
def symbols() -> dict[str, int]:
    """The address of every sorting function; none for types without (bfloat16), and none at all
    where NumPy's tables are not laid out as expected."""
    tables = python_api.sort_tables()
    if not tables or not _sorts(tables["f32"]):
        return {}
    return {f"weft_np_{op}_{dtype}_{kind}": table[place + number]
            for dtype, table in tables.items() for op, place in OPS.items()
            for kind, number in KINDS.items() if table[place + number]}


def _sorts(table: ctypes.Array[ctypes.c_size_t]) -> bool:
    """Whether the functions of float32 sort a few numbers as they should."""
    values, order = np.array([3, 1, 2], np.float32), np.arange(3, dtype=np.int64)
    before, p = values.copy(), ctypes.c_void_p
    argsort = ctypes.CFUNCTYPE(ctypes.c_int, p, p, ctypes.c_int64, p)(table[OPS["argsort"]])
    status = argsort(values.ctypes.data, order.ctypes.data, 3, None)
    if status != 0 or order.tolist() != [1, 2, 0] or not np.array_equal(values, before):
        return False
    sort = ctypes.CFUNCTYPE(ctypes.c_int, p, ctypes.c_int64, p)(table[OPS["sort"]])
    return bool(sort(values.ctypes.data, 3, None) == 0 and values.tolist() == [1, 2, 3])
