"""Exact text of array elements and constants, and the way back.

Every literal reads back to the same bits: floats are the shortest decimals that do, a NaN other
than the usual one shows its bits (``nan(0x7fc00001)``), complex numbers are ``1.0-2.0j``.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from weft.compiler.digest import blake2b
from weft.compiler.types import DTYPES, DType, dtype_of, shape_text

__all__ = ["NUMBER", "array_text", "element_text", "parse_array", "parse_element", "scalar_text"]

Array = np.ndarray[Any, Any]

NUMBER = (r"-?(?:nan\(0x[0-9a-f]+\)|(?:nan|inf)(?:(?![\w.])|(?=j))"
          r"|\d+(?:\.\d+)?(?:e[+-]?\d+)?)")
"""A regular expression for one real number as these functions write it."""

_SMALL = 16                 # arrays up to this size are listed element by element
_SPLAT_BYTES = 1 << 28      # a few characters of text must not allocate more than this
_BITS = {"f16": np.uint16, "bf16": np.uint16, "f32": np.uint32, "f64": np.uint64}
_NAN = {name: int(np.array(np.nan, DTYPES[name].numpy).view(bits)) for name, bits in _BITS.items()}


# --------------------------------------------------------------------------- elements

def element_text(value: Any, dtype: DType) -> str:
    """One element as text, without its type.

    >>> element_text(np.float32(0.1), DTYPES["f32"]), element_text(np.int8(-3), DTYPES["i8"])
    ('0.1', '-3')
    """
    return _ELEMENT[dtype.kind](value, dtype)


def _float_text(value: Any, dtype: DType) -> str:
    if value != value:
        return _nan_text(value, dtype)
    wide = float(value)
    if dtype.name == "f64" or (wide.is_integer() and abs(wide) < 1e7):
        return repr(wide)
    text = _shortest(wide) if dtype.name == "bf16" else str(value)
    if "." not in text and "e" not in text and "n" not in text:
        text += ".0"
    # a decimal that is shortest for a narrow type could round twice on the way back
    return text if dtype.numpy.type(float(text)) == value else repr(wide)


def _shortest(value: float) -> str:
    for digits in (2, 3, 4):
        text = f"{value:.{digits}g}"
        if float(DTYPES["bf16"].numpy.type(float(text))) == value:
            return text
    return repr(value)


def _nan_text(value: Any, dtype: DType) -> str:
    bits = int(np.asarray(value, dtype.numpy).view(_BITS[dtype.name]))
    if bits == _NAN[dtype.name]:
        return "nan"
    if bits == _NAN[dtype.name] | 1 << (dtype.bits - 1):
        return "-nan"
    return f"nan(0x{bits:x})"


def _complex_text(value: Any, dtype: DType) -> str:
    re, im = (_float_text(part, dtype.real) for part in (value.real, value.imag))
    return f"{re}{im if im.startswith('-') else '+' + im}j"


_ELEMENT: dict[str, Callable[[Any, DType], str]] = {
    "bool": lambda v, d: "true" if v else "false",
    "int": lambda v, d: str(int(v)), "uint": lambda v, d: str(int(v)),
    "float": _float_text, "complex": _complex_text,
}


def scalar_text(value: Any) -> str:
    """A 0-d array or NumPy scalar with its type: ``2.0:f32``."""
    dtype = dtype_of(value.dtype)
    return f"{element_text(value[()], dtype)}:{dtype}"


def parse_element(text: str, dtype: DType) -> Any:
    """The element that `element_text` wrote; `ValueError` if it is none of this type.

    >>> parse_element("-0.0", DTYPES["f32"]), parse_element("true", DTYPES["bool"])
    (np.float32(-0.0), np.True_)
    """
    kind, make = dtype.kind, dtype.numpy.type
    if kind == "bool":
        return make({"true": True, "false": False}[text])
    if kind in ("int", "uint"):
        value, info = int(text), np.iinfo(dtype.numpy)
        if not info.min <= value <= info.max:
            raise ValueError("out of range")
        return make(value)
    if kind == "float":
        return _parse_float(text, dtype)
    if not text.endswith("j"):
        raise ValueError("not a complex number")
    out = np.empty((), dtype.numpy)
    cut = _imaginary_start(text)
    out.real = _parse_float(text[:cut], dtype.real)
    out.imag = _parse_float(text[cut:-1].removeprefix("+"), dtype.real)
    return out[()]


def _imaginary_start(text: str) -> int:
    """Where the imaginary part begins: at the last sign that is no exponent's."""
    return max(i for i, c in enumerate(text) if i and c in "+-" and text[i - 1] != "e")


def _parse_float(text: str, dtype: DType) -> Any:
    if "nan" not in text:
        with np.errstate(over="ignore"):
            return dtype.numpy.type(float(text))
    bits = _NAN[dtype.name]
    if "(" in text:
        bits = int(text[6:-1], 16)
    elif text.startswith("-"):
        bits |= 1 << (dtype.bits - 1)
    value = np.array(bits, _BITS[dtype.name]).view(dtype.numpy)[()]
    if value == value:
        raise ValueError("these are not the bits of a NaN")
    return value


# --------------------------------------------------------------------------- arrays

def array_text(value: Array, digest: bool = False) -> str:
    """An array with its type: listed if small, else one repeated element, else base64.

    With `digest`, large data is given by its hash; that identifies it but does not read back.

    >>> array_text(np.array([1.5, 2.0], np.float32)), array_text(np.zeros((64, 64), np.int8))
    ('f32[2](1.5, 2.0)', 'i8[64, 64](splat 0)')
    """
    value = np.ascontiguousarray(value).reshape(value.shape)
    dtype = dtype_of(value.dtype)
    head = f"{dtype}{shape_text(value.shape)}"
    if value.size <= _SMALL:
        return f"{head}({', '.join(element_text(v, dtype) for v in value.ravel())})"
    raw = value.reshape(-1).view(np.uint8).reshape(value.size, dtype.itemsize)
    if value.nbytes <= _SPLAT_BYTES and (raw == raw[0]).all():
        return f"{head}(splat {element_text(value.flat[0], dtype)})"
    data = value.astype(dtype.numpy.newbyteorder("<"), copy=False).tobytes()
    if digest:
        return f'{head}(digest "{blake2b(data, digest_size=16).hexdigest()}")'
    return f'{head}(base64 "{base64.b64encode(data).decode()}")'


def parse_array(dtype: DType, shape: tuple[int, ...], form: str, items: list[str]) -> Array:
    """The array written as ``dtype[shape](form items)``; `ValueError` where that is malformed.

    `form` is ``"list"``, ``"splat"`` or ``"base64"``.
    """
    count = prod(shape)
    if form == "digest":
        raise ValueError("this text gives only the hash of a constant, not its data")
    if form == "base64":
        data = base64.b64decode(items[0], validate=True)
        if len(data) != count * dtype.itemsize:
            raise ValueError(f"{len(data)} bytes of data for {count} elements of {dtype}")
        flat = np.frombuffer(data, dtype.numpy.newbyteorder("<")).astype(dtype.numpy)
    elif form == "splat":
        if count * dtype.itemsize > _SPLAT_BYTES:
            raise ValueError(f"a constant of {count} elements is too large")
        flat = np.full(count, parse_element(items[0], dtype), dtype.numpy)
    else:
        if count != len(items):
            raise ValueError(f"{len(items)} elements given for {count}")
        flat = np.empty(count, dtype.numpy)
        for i, item in enumerate(items):
            flat[i] = parse_element(item, dtype)
    return flat.reshape(shape)
