"""What native code needs of CPython and NumPy: symbols by name, layouts, and a check of both.

Objects are cached on disk, so no address may stand in them. Everything they call or point to is a
symbol, given its address when the native runtime is loaded:

* functions of CPython's C API and its types, under their own names;
* `weft_np_<function>`: functions of NumPy's C API table;
* `weft_np_array`, `weft_np_descr_<dtype>`, `weft_np_scalar_<dtype>`: the `ndarray` type, and for
  each weft element type the one built-in dtype object and the scalar type;
* `weft_np_sort_…`, `weft_np_argsort_…`: see `numpy_sorts`;
* `weft_str_<name>`: interned strings.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy._core import _multiarray_umath  # type: ignore[attr-defined]

from weft.compiler.types import DTYPES

if TYPE_CHECKING:
    from weft.devices.cpu.linker import Library

__all__ = ["ARRAY", "ARR_FUNCS", "DESCR", "SCALAR", "Symbols", "publish", "sort_tables",
           "supported"]

_FUNCTIONS = (
    "PyBool_FromLong", "PyComplex_FromDoubles", "PyComplex_ImagAsDouble", "PyComplex_RealAsDouble",
    "PyErr_CheckSignals", "PyErr_Fetch", "PyGILState_Ensure", "PyGILState_Release",
    "PyEval_RestoreThread", "PyEval_SaveThread", "PyFloat_AsDouble", "PyFloat_FromDouble",
    "PyList_New", "PyList_SetItem", "PyLong_AsLongLongAndOverflow", "PyLong_FromLongLong",
    "PyObject_GetAttr", "PyObject_Vectorcall", "PyTuple_New", "PyTuple_SetItem",
    "Py_DecRef", "Py_IncRef",
)
_OBJECTS = {"PyFloat_Type": float, "PyLong_Type": int, "PyBool_Type": bool,
            "PyComplex_Type": complex, "_Py_TrueStruct": True, "_Py_FalseStruct": False,
            "_Py_NoneStruct": None}
_NUMPY = {"NewFromDescr": 94, "Scalar": 60}  # places in NumPy's C API table, fixed for ever
_STRINGS = {name: sys.intern(name) for name in ("_dispatch", "_native_error")}

DESCR = {"byteorder": 26, "type_num": 28}
"""Offsets of the fields of a dtype object (`PyArray_Descr`), in bytes."""

SCALAR = 16
"""Offset of the value of a NumPy scalar, in bytes."""

ARRAY = {"data": 16, "nd": 24, "dims": 32, "strides": 40, "base": 48, "descr": 56, "flags": 64,
         "handler": 88}
"""Offsets of the fields of an array object (`PyArrayObject_fields`), in bytes."""


ARR_FUNCS = {"sort": 33 * 8}
"""Offset of the sorting functions in a dtype's table of functions, in bytes."""

_VERSION, _GET_HANDLER, _GET_ARR_FUNCS = 0, 305, 365    # more places in NumPy's table
_LATE = "bf16"                        # its library is loaded when a program has it
_CAPSULE = b"mem_handler"             # the name NumPy asks for; kept by pointer
_ABI_2 = 0x02000000                   # NPY_VERSION of NumPy 2


class Symbols(Mapping[str, int]):
    """The address of every symbol, looked up when it is asked for."""

    def __getitem__(self, name: str) -> int:
        if name in _FUNCTIONS:
            return _address_of(getattr(ctypes.pythonapi, name))
        if name in _OBJECTS:
            return id(_OBJECTS[name])
        head, _, rest = name.partition("_")
        kind, _, rest = rest.partition("_")
        if head != "weft" or kind not in ("np", "str"):
            raise KeyError(name)
        if kind == "str":
            return id(_STRINGS[rest])
        what, _, of = rest.partition("_")
        if what in ("descr", "scalar"):
            dtype = DTYPES[of].numpy
            if of == _LATE and not _scalar_as_expected(of):
                raise KeyError(name)
            return id(dtype if what == "descr" else dtype.type)
        if what in ("sort", "argsort"):
            from weft.devices.cpu import numpy_sorts  # seldom needed, and tries them out

            return numpy_sorts.symbols()[name]
        return id(np.ndarray) if rest == "array" else _table()[_NUMPY[rest]]

    def __iter__(self) -> Iterator[str]:
        from weft.devices.cpu import numpy_sorts  # as above

        yield from (*_FUNCTIONS, *_OBJECTS)
        yield from (f"weft_str_{name}" for name in _STRINGS)
        yield from (f"weft_np_{name}" for name in ("array", *_NUMPY))
        yield from (f"weft_np_{what}_{name}" for what in ("descr", "scalar") for name in DTYPES)
        yield from numpy_sorts.symbols()

    def __len__(self) -> int:
        return len(list(iter(self)))


@functools.cache
def supported() -> bool:
    """Whether this interpreter and NumPy have the layouts that native entries read.

    Looked up in live objects rather than believed of version numbers: where a field is not where
    it should be (free-threaded or debug builds, other implementations), calls go through Python.
    """
    plain = (sys.implementation.name == "cpython" and sys.maxsize == 2**63 - 1
             and sys.byteorder == "little" and "free-threading" not in sys.version
             and not hasattr(sys, "gettotalrefcount")   # a debug build
             and np.ndarray.__basicsize__ >= ARRAY["handler"] + 8)
    return (plain and _table_version() == _ABI_2 and all(map(_typed, (1.5, 7, "x", np.zeros(2))))
            and _array_as_expected()
            and all(_scalar_as_expected(name) for name in DTYPES if name != _LATE))


def publish(library: Library) -> None:
    """Finish the loaded runtime: give it the capsule through which NumPy frees our blocks."""
    new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
        ("PyCapsule_New", ctypes.pythonapi))
    capsule = new(library.address("weft_mem_handler"), _CAPSULE, None)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(capsule))  # arrays may outlive every module
    _word_at(library.address("weft_mem_capsule")).value = id(capsule)


def _address_of(function: object) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0  # type: ignore[arg-type]


@functools.cache
def _table() -> ctypes.Array[ctypes.c_size_t]:
    """NumPy's C API table, up to the last place that is read."""
    get = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi))
    address = get(_multiarray_umath._ARRAY_API, None)
    return (ctypes.c_size_t * (_GET_ARR_FUNCS + 1)).from_address(address)


def sort_tables() -> dict[str, ctypes.Array[ctypes.c_size_t]]:
    """For each element type the addresses of NumPy's sorts: quick, heap and stable, then those of
    the sorts of indices. From `PyArray_ArrFuncs`; empty where its layout is not known."""
    if not supported():
        return {}
    get = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(_table()[_GET_ARR_FUNCS])
    return {name: (ctypes.c_size_t * 6).from_address(get(id(dtype.numpy)) + ARR_FUNCS["sort"])
            for name, dtype in DTYPES.items() if name != _LATE}     # NumPy cannot sort those


def _table_version() -> int:
    return int(ctypes.PYFUNCTYPE(ctypes.c_uint)(_table()[_VERSION])())


def _word_at(address: int) -> ctypes.c_size_t:
    return ctypes.c_size_t.from_address(address)


def _typed(thing: object) -> bool:
    return _word_at(id(thing) + 8).value == id(type(thing))


def _array_as_expected() -> bool:
    array, at = np.zeros((3, 5), np.float32), ARRAY
    where = id(array)
    shape = (ctypes.c_int64 * 2).from_address(_word_at(where + at["dims"]).value)
    handler = ctypes.PYFUNCTYPE(ctypes.py_object)(_table()[_GET_HANDLER])()
    dtype = id(np.dtype(np.float32))
    return (_word_at(where + at["data"]).value == array.ctypes.data
            and ctypes.c_int.from_address(where + at["nd"]).value == 2
            and _word_at(where + at["descr"]).value == dtype == id(array.dtype)
            and ctypes.c_int.from_address(where + at["flags"]).value == array.flags.num
            and _word_at(where + at["handler"]).value == id(handler)
            and _word_at(where + at["base"]).value == 0 and tuple(shape) == (3, 5)
            and ctypes.string_at(dtype + DESCR["byteorder"], 1) == b"="
            and ctypes.c_int.from_address(dtype + DESCR["type_num"]).value == array.dtype.num)


def _scalar_as_expected(name: str) -> bool:
    dtype = DTYPES[name].numpy
    scalar = dtype.type(1)
    return ctypes.string_at(id(scalar) + SCALAR, dtype.itemsize) == np.ones((), dtype).tobytes()
