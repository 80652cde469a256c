"""What kind of thing a flat argument is, and which things cannot be one."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from weft.compiler.errors import DTypeError, UnsupportedError, WeftError, caller_origin
from weft.compiler.types import DTYPES, DType, dtype_of
from weft.devices.registry import owner_of
from weft.frontend.statics import Static, known_by_identity
from weft.frontend.tracer import Tracer

if TYPE_CHECKING:
    from weft.devices.protocol import Device

__all__ = ["INT_LIMIT", "WEAK", "Refused", "array_device", "is_array", "leaf_dtype", "leaf_kind",
           "may_lie_on_device", "static_part"]

WEAK: dict[type, DType] = {float: DTYPES["f64"], int: DTYPES["i64"], bool: DTYPES["bool"],
                           complex: DTYPES["c128"]}
INT_LIMIT = 2**63

_TEXT = (np.str_, np.bytes_)
_FOREIGN = ("__array__", "__array_interface__", "__cuda_array_interface__", "__dlpack__")
_NUMBERS = "bool, int8 to int64, uint8 to uint64, float16, bfloat16, float32, float64, " \
    "complex64 or complex128"


class Refused(Exception):
    """An argument that cannot be one; `error(name)` makes the error to show."""

    def __init__(self, kind: type[WeftError], what: str, expected: str | None,
                 repair: str | None) -> None:
        super().__init__(what)
        self.kind, self.what, self.expected, self.repair = kind, what, expected, repair

    def error(self, name: str) -> WeftError:
        """The error for the argument of this name (such as ``'x' of f``)."""
        return self.kind(f"argument {name} {self.what}", expected=self.expected,
                         repair=self.repair, origin=caller_origin())


def static_part(value: Any) -> Static | None:
    """The value as a part of the signature, or None if it is an array or number to be traced.

    Raises `Refused` for what is neither.
    """
    cls: Any = type(value)
    kind = _class_kind(cls)
    if kind == "leaf":
        return None
    if kind == "int":
        return None if -INT_LIMIT <= value < INT_LIMIT else Static(value)
    if kind == "object":
        return Static.of_object(value)
    if kind == "array":
        _check_array(value)
        return None
    if kind == "foreign":
        if owner_of(value) is not None:
            return None
        raise Refused(UnsupportedError, f"is a {_named(cls)}, not an array of NumPy's own",
                      "an ndarray", "pass numpy.asarray(...) of it")
    return _hashed(value)


@functools.lru_cache(maxsize=1024)
def _class_kind(cls: type) -> str:
    """What values of a class are: leaves, arrays of a kind to be checked, or static."""
    if cls is int:
        return "int"
    if cls in WEAK or cls is np.ndarray or issubclass(cls, Tracer) or (
            issubclass(cls, np.generic) and not issubclass(cls, _TEXT)):
        return "leaf"
    if issubclass(cls, np.ndarray):
        return "array"
    if issubclass(cls, _TEXT) or not any(hasattr(cls, name) for name in _FOREIGN):
        return "object" if known_by_identity(cls) else "value"
    return "foreign"


def is_array(value: Any) -> bool:
    """Whether it is an array: NumPy's, or one that lies on a device."""
    return isinstance(value, np.ndarray) or array_device(value) is not None


def array_device(value: Any) -> Device | None:
    """The device on which an array lies; None for NumPy's arrays, and for all other things."""
    cls: Any = type(value)
    return owner_of(value) if _class_kind(cls) == "foreign" else None


def may_lie_on_device(cls: Any) -> bool:
    """Whether objects of a class can be arrays of a device, as those of other libraries can."""
    return _class_kind(cls) == "foreign"


def leaf_kind(value: Any) -> str:
    """`kind` of the argument's `ArgSpec`."""
    if isinstance(value, np.ndarray):
        return "array"
    if type(value) in WEAK:
        return type(value).__name__
    return "scalar" if isinstance(value, np.generic) else "array"


def leaf_dtype(value: Any) -> DType:
    """The element type that the argument has in the graph; `Refused` if weft has none for it."""
    weak = WEAK.get(type(value))
    if weak is not None:
        return weak
    try:
        return dtype_of(value.dtype)
    except TypeError:
        raise _no_dtype(value) from None


def _check_array(value: Any) -> None:
    cls = type(value)
    if isinstance(value, np.ma.MaskedArray):
        raise Refused(UnsupportedError, "is a masked array", "an ndarray without a mask",
                      "pass its .filled(...) and, where the code needs it, its .mask")
    if isinstance(value, np.matrix):
        raise Refused(UnsupportedError, "is a numpy.matrix, whose * is a matrix product",
                      "an ndarray", "pass numpy.asarray(...) of it, and write @ for the product")
    if isinstance(value, np.ndarray) and _overrides(cls):
        raise Refused(UnsupportedError, f"is a {_named(cls)}, whose rules are not NumPy's",
                      "an ndarray", "pass numpy.asarray(...) of it")


def _overrides(cls: type) -> bool:
    return any(getattr(cls, name) is not getattr(np.ndarray, name)
               for name in ("__array_ufunc__", "__array_function__"))


def _no_dtype(value: Any) -> Refused:
    if value.dtype == object:
        return Refused(DTypeError, "is an array of Python objects (dtype object)",
                       "an array of numbers", "convert it: numpy.asarray(x, dtype=numpy.float64)")
    return Refused(DTypeError, f"has dtype {value.dtype}, which weft does not have", _NUMBERS, None)


def _hashed(value: Any) -> Static:
    try:
        return Static(value)
    except TypeError:
        raise Refused(
            UnsupportedError, f"is a {_named(type(value))}, which is neither traced nor hashable",
            "an array, a number, a container of them, or a hashable value",
            "register its class with weft.register_pytree, or make it hashable") from None


def _named(cls: type) -> str:
    return cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
