"""Small things that the tables of lowerings share: literals, kinds of elements, 16-bit floats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax.numpy as jnp
from jax import lax

from weft.compiler.types import DTYPES, DType, dtype_of

__all__ = ["Lowering", "absolute", "bits_of", "both", "dtype_info", "float_bits", "invert",
           "is_float", "is_signed", "kind", "like", "negative", "pick", "short", "to", "wide"]

Lowering: TypeAlias = Callable[..., Any]


def kind(x: Any) -> str:
    """The kind of the elements: bool, int, uint, float or complex."""
    return dtype_of(x.dtype).kind


def is_float(x: Any) -> bool:
    """Whether elements are real floating-point numbers."""
    return kind(x) == "float"


def is_signed(x: Any) -> bool:
    """Whether elements are signed integers."""
    return kind(x) == "int"


def like(x: Any, value: Any) -> Any:
    """`value` in the shape and element type of `x`."""
    return lax.full_like(x, value)


def to(x: Any, dtype: DType | str) -> Any:
    """`x` with other elements."""
    return lax.convert_element_type(x, dtype_of(dtype).numpy)


def short(dtype: DType) -> bool:
    """Whether this is a float of 16 bits, whose arithmetic is done in f32."""
    return dtype.is_float and dtype.itemsize == 2


def wide(fn: Lowering) -> Lowering:
    """The function, computed in f32 for 16-bit floats and rounded once, as NumPy does."""
    def lower(*xs: Any) -> Any:
        dtype = dtype_of(xs[0].dtype)
        if not short(dtype):
            return fn(*xs)
        return to(fn(*(to(x, "f32") for x in xs)), dtype)
    return lower


def pick(mask: Any, yes: Any, no: Any) -> Any:
    """Elementwise choice; numbers stand for arrays of them."""
    if not hasattr(yes, "dtype"):
        yes = like(no, yes)
    if not hasattr(no, "dtype"):
        no = like(yes, no)
    return lax.select(mask, yes, no)


def negative(x: Any) -> Any:
    """Whether elements are below 0."""
    return lax.lt(x, like(x, 0))


def both(*masks: Any) -> Any:
    """Whether all of them hold."""
    out = masks[0]
    for m in masks[1:]:
        out = lax.bitwise_and(out, m)
    return out


def invert(mask: Any) -> Any:
    """Where it does not hold."""
    return lax.bitwise_not(mask)


def absolute(x: Any) -> Any:
    """|x| of an integer, as unsigned."""
    if not is_signed(x):
        return x
    unsigned = DTYPES["u" + dtype_of(x.dtype).name[1:]]
    return to(pick(negative(x), lax.neg(x), x), unsigned)


def float_bits(dtype: DType) -> tuple[DType, int]:
    """The unsigned integer as wide as a float, and the bits of its fraction."""
    fraction = {"f16": 10, "bf16": 7, "f32": 23, "f64": 52}[dtype.name]
    return DTYPES[f"u{dtype.bits}"], fraction


def bits_of(x: Any) -> Any:
    """The bits of floats, as unsigned integers."""
    return lax.bitcast_convert_type(x, float_bits(dtype_of(x.dtype))[0].numpy)


def dtype_info(dtype: DType) -> Any:
    """The limits of a float type."""
    return jnp.finfo(dtype.numpy)
