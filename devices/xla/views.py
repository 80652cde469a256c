"""Views, creation, conversions: elements moved, made, or read as another type."""

from __future__ import annotations

from typing import Any

import numpy as np
from jax import lax

from weft.compiler.types import DTYPES, DType, dtype_of
from weft.devices.xla.integers import integer_pow
from weft.devices.xla.program import Site
from weft.devices.xla.tools import Lowering, both, kind, like, negative, pick, short, to, wide

__all__ = ["VIEWS", "first_failure"]


# ---- conversions

def convert(x: Any, dst: DType) -> Any:
    """A value converted as NumPy's astype does."""
    src = dtype_of(x.dtype)
    if dst.kind == "bool":
        return lax.ne(x, like(x, 0))
    if src.is_complex and not dst.is_complex:
        x = lax.real(x)
        src = src.real
    if dst.is_complex:
        if src.is_complex:
            return to(x, dst)
        re = convert(x, dst.real)
        return lax.complex(re, like(re, 0))
    if src.is_float and dst.is_integer:
        return _float_to_int(x, src, dst)
    if short(dst) and (src.name == "f64" or (src.is_integer and src.itemsize >= 4)):
        return _round_once(to(x, "f64"), dst)
    return to(x, dst)


def _round_once(x: Any, dst: DType) -> Any:
    """An f64 rounded to 16 bits by way of f32, in which the bits lost count in the last one."""
    bits = lax.bitcast_convert_type(x, np.uint64)
    lost = lax.ne(lax.bitwise_and(bits, like(bits, 0x1FFFFFFF)), like(bits, 0))
    kept = lax.bitwise_and(bits, like(bits, 0xFFFFFFFFE0000000))
    sticky = lax.bitwise_or(kept, lax.shift_left(to(lost, "u64"), like(bits, 29)))
    plain = both(lax.lt(lax.abs(x), like(x, 3e38)), lax.gt(lax.abs(x), like(x, 1e-37)))
    return to(to(pick(plain, lax.bitcast_convert_type(sticky, np.float64), x), "f32"), dst)


def _float_to_int(x: Any, src: DType, dst: DType) -> Any:
    """As the x86 conversion instructions that NumPy is compiled to: out of range (and NaN) gives
    the smallest integer of the instruction's width, which is then cut to the target's width."""
    if short(src):
        x = to(x, "f32")
    if dst.name == "u64":
        big = lax.ge(x, like(x, 2.0**63))
        i = _checked(pick(big, lax.sub(x, like(x, 2.0**63)), x), "i64")
        return to(pick(big, lax.bitwise_xor(i, like(i, -2**63)), i), dst)
    if dst.itemsize == 8 or dst.name == "u32":
        return to(_checked(x, "i64"), dst)
    return to(_checked(x, "i32"), dst)


def _checked(x: Any, name: str) -> Any:
    bits = DTYPES[name].bits
    low = -2.0 ** (bits - 1)
    # in f64, what truncates to the least i32 is inside
    above = lax.gt(x, like(x, low - 1)) if x.dtype == np.float64 and bits == 32 else \
        lax.ge(x, like(x, low))
    inside = both(above, lax.lt(x, like(x, -low)))
    i = to(pick(inside, x, 0), name)
    return pick(inside, i, -2 ** (bits - 1))


def _convert(site: Site, x: Any) -> Any:
    return convert(x, dtype_of(site.attrs["dtype"]))


def _bitcast(site: Site, x: Any) -> Any:
    dst = dtype_of(site.attrs["dtype"])
    src = dtype_of(x.dtype)
    if src is dst:
        return x
    if src.is_complex:
        low, high = (to(lax.bitcast_convert_type(v, np.uint32), "u64")
                     for v in (lax.real(x), lax.imag(x)))
        x = lax.bitwise_or(low, lax.shift_left(high, like(high, 32)))
    if dst.is_complex:
        bits = lax.bitcast_convert_type(x, np.uint64)
        words = bits, lax.shift_right_logical(bits, like(bits, 32))
        return lax.complex(*(lax.bitcast_convert_type(to(w, "u32"), np.float32) for w in words))
    return lax.bitcast_convert_type(x, dst.numpy)


def first_failure(bad: Any, values: Any) -> tuple[Any, Any]:
    """Whether any of `bad` is true, and the value at the first of these; 0-d both."""
    flat = lax.reshape(bad, (bad.size,))
    if not bad.size:
        return np.asarray(False), np.asarray(0, values.dtype)
    at = lax.argmax(to(flat, "i32"), 0, np.int32)
    value = lax.dynamic_index_in_dim(lax.reshape(values, (bad.size,)), at, 0, keepdims=False)
    return lax.reduce_or(flat, (0,)), value


def _pow(site: Site, x: Any, y: Any) -> Any:
    if kind(x) == "complex":
        return _complex_pow(x, y)
    if kind(x) == "float":
        return wide(lax.pow)(x, y)
    if kind(x) == "int":
        site.check(*first_failure(negative(y), y), "exponent")
    return integer_pow(x, y)


def _complex_pow(x: Any, y: Any) -> Any:
    """By the logarithm; of whole exponents up to 100 by products, as the C library of NumPy."""
    zero, one = like(x, 0), like(x, 1)
    out = lax.pow(x, y)
    lost = lax.ne(out, out)         # where |x| ** re(y) overflows, and exp(-im(y) …) does not
    out = pick(both(lost, lax.ne(x, zero)), lax.exp(lax.mul(lax.log(x), y)), out)
    out = pick(lax.eq(y, one), x, out)
    out = pick(lax.eq(y, like(x, 2)), lax.mul(x, x), out)
    return pick(lax.eq(y, zero), one, out)


# ---- views

def _broadcast_in_dim(site: Site, x: Any) -> Any:
    return lax.broadcast_in_dim(x, site.attrs["shape"], site.attrs["dims"])


def _slice(site: Site, x: Any) -> Any:
    a = site.attrs
    return lax.slice(x, a["start"], a["limit"], a["stride"])


def _pad(site: Site, x: Any, value: Any) -> Any:
    low, high = site.attrs["low"], site.attrs["high"]
    return lax.pad(x, value, [(lo, hi, 0) for lo, hi in zip(low, high)])


def _concatenate(site: Site, *xs: Any) -> Any:
    return lax.concatenate(xs, site.attrs["axis"])


# ---- creation

def _constant(site: Site) -> Any:
    value = np.asarray(site.attrs["value"])
    return lax.asarray(value) if hasattr(lax, "asarray") else value


def _iota(site: Site) -> Any:
    dtype = dtype_of(site.attrs["dtype"])
    shape, axis = site.attrs["shape"], site.attrs["axis"]
    number = lax.broadcasted_iota(np.int64, shape, axis)
    return convert(number, dtype)


def _size(site: Site) -> Any:
    size = site.attrs["size"]
    return np.asarray(size, np.int64) if isinstance(size, int) else to(lax.shape_as_value(
        (size,))[0], "i64")


def _get(site: Site, values: Any) -> Any:
    return values[site.attrs["index"]]


VIEWS: dict[str, Lowering] = {
    "convert": _convert, "bitcast": _bitcast, "pow": _pow,
    "broadcast_in_dim": _broadcast_in_dim,
    "reshape": lambda site, x: lax.reshape(x, site.attrs["shape"]),
    "transpose": lambda site, x: lax.transpose(x, site.attrs["perm"]),
    "reverse": lambda site, x: lax.rev(x, site.attrs["axes"]),
    "copy": lambda site, x: x,
    "slice": _slice, "pad": _pad, "concatenate": _concatenate,
    "constant": _constant, "iota": _iota, "size": _size, "get": _get,
}
