"""Reductions, running reductions, and contractions."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from jax import lax

from weft.compiler.types import dtype_of
from weft.devices.xla.elementwise import is_nan, less, maximum, minimum
from weft.devices.xla.program import Site
from weft.devices.xla.tools import Lowering, both, invert, kind, like, pick, short, to

__all__ = ["REDUCTIONS", "lowest", "precision", "summed"]


def summed(x: Any, axes: tuple[int, ...]) -> Any:
    """The sum over axes; 16-bit floats are added up in f32 and rounded once."""
    dtype = dtype_of(x.dtype)
    if short(dtype):
        return to(lax.reduce_sum(to(x, "f32"), axes), dtype)
    return lax.reduce_sum(x, axes)


def _prod(site: Site, x: Any) -> Any:
    axes, dtype = site.attrs["axes"], dtype_of(x.dtype)
    if short(dtype):
        return to(lax.reduce_prod(to(x, "f32"), axes), dtype)
    return lax.reduce_prod(x, axes)


def lowest(x: Any, low: bool) -> Any:
    """What a maximum (`low`) or a minimum begins with, 0-d."""
    dtype = dtype_of(x.dtype)
    if dtype.kind == "bool":
        return np.asarray(not low)
    if dtype.is_integer:
        info = np.iinfo(dtype.numpy)
        return np.asarray(info.min if low else info.max, dtype.numpy)
    value = -np.inf if low else np.inf
    return np.asarray(complex(value, value) if dtype.is_complex else value, dtype.numpy)


def _extreme(low: bool) -> Lowering:
    """NaN where any is; complex numbers are compared by their parts."""
    def lower(site: Site, x: Any) -> Any:
        axes = site.attrs["axes"]
        if kind(x) != "complex":
            return (lax.reduce_max if low else lax.reduce_min)(x, axes)
        out = lax.reduce(x, lowest(x, low), maximum if low else minimum, axes)
        nan = lax.reduce_or(is_nan(x), axes)
        found = _first_where(is_nan(x), x, axes)
        return pick(nan, found, out)
    return lower


def _first_where(mask: Any, x: Any, axes: tuple[int, ...]) -> Any:
    """The first element over axes where the mask holds, any if nowhere."""
    rest = [a for a in range(x.ndim) if a not in axes]
    count = prod(x.shape[a] for a in axes)
    shape = (*(x.shape[a] for a in rest), count)
    flat, flags = (lax.reshape(lax.transpose(v, (*rest, *axes)), shape) for v in (x, mask))
    at = lax.argmax(to(flags, "i32"), len(rest), np.int32)
    return _picked(flat, at, len(rest))


def _picked(x: Any, at: Any, axis: int) -> Any:
    """The elements at places along the last axis."""
    number = lax.broadcasted_iota(np.int32, x.shape, axis)
    here = lax.eq(number, lax.broadcast_in_dim(at, x.shape, tuple(range(axis))))
    zero = like(x, 0)
    if kind(x) == "complex":
        return lax.complex(*(lax.reduce_sum(pick(here, part(x), 0), (axis,))
                             for part in (lax.real, lax.imag)))
    return lax.reduce_sum(pick(here, x, zero), (axis,))


def _arg(largest: bool) -> Lowering:
    def lower(site: Site, x: Any) -> Any:
        axis = site.attrs["axis"]
        if kind(x) == "complex":
            return _arg_complex(x, axis, largest)
        if kind(x) == "bool":
            x = to(x, "u8")
        return (lax.argmax if largest else lax.argmin)(x, axis, np.int64)
    return lower


def _arg_complex(x: Any, axis: int, largest: bool) -> Any:
    """The first index of an element that none is better than; NaN is the best."""
    number = lax.broadcasted_iota(np.int64, x.shape, axis)

    def better(a: Any, b: Any) -> Any:
        (x, i), (y, j) = a, b
        first = less(y, x) if largest else less(x, y)
        nan = both(is_nan(x), invert(is_nan(y)))
        tie = lax.bitwise_or(lax.eq(x, y), both(is_nan(x), is_nan(y)))
        keep = lax.bitwise_or(lax.bitwise_or(nan, both(first, invert(is_nan(y)))),
                              both(tie, lax.lt(i, j)))
        return pick(keep, x, y), pick(keep, i, j)

    start = (lowest(x, largest), np.asarray(np.iinfo(np.int64).max))
    return lax.reduce((x, number), start, better, (axis,))[1]


# ---- running reductions

def _cum(fn: Any) -> Lowering:
    def lower(site: Site, x: Any) -> Any:
        dtype = dtype_of(x.dtype)
        if dtype.kind == "bool":
            return to(fn(to(x, "u8"), site.attrs["axis"]), "bool")
        if short(dtype) and fn in (lax.cumsum, lax.cumprod):
            return to(fn(to(x, "f32"), site.attrs["axis"]), dtype)
        return fn(x, site.attrs["axis"])
    return lower


def _linear_recurrence(site: Site, a: Any, b: Any) -> Any:
    """One step after another: combining pairs would overflow where this does not."""
    axis = site.attrs["axis"]
    if not b.shape[axis]:
        return b
    order = (axis, *(i for i in range(b.ndim) if i != axis))
    rows, factors = lax.transpose(b, order), lax.transpose(a, order)

    def step(y: Any, pair: Any) -> Any:
        y = lax.add(lax.mul(pair[0], y), pair[1])
        return y, y

    first = lax.slice_in_dim(rows, 0, 1)
    _, others = lax.scan(step, lax.squeeze(first, (0,)), (
        lax.slice_in_dim(factors, 1, None), lax.slice_in_dim(rows, 1, None)))
    out = lax.concatenate([first, others], 0)
    return lax.transpose(out, tuple(order.index(i) for i in range(b.ndim)))


# ---- contraction

# What products of float32 are given up to, where the machine has units for it. A TPU has bfloat16
# only: three passes of it are about as good as the other two.
_HIGH, _DEFAULT = lax.Precision.HIGH, lax.Precision.DEFAULT
_PRECISIONS = {"tpu": {"tf32": _HIGH, "bf16": _DEFAULT, "fp16": _HIGH},
               "cuda": dict.fromkeys(("tf32", "bf16", "fp16"), _HIGH)}      # which is tf32 there
_ALGORITHMS = {"tf32": lax.DotAlgorithmPreset.TF32_TF32_F32,
               "bf16": lax.DotAlgorithmPreset.BF16_BF16_F32,
               "fp16": lax.DotAlgorithmPreset.F16_F16_F32}


def precision(site: Site) -> Any:
    """Of a product. JAX's own default would round float32 to bfloat16 on a TPU, to tf32 on GPUs."""
    walk = site.walk
    platform = "cuda" if walk.platform == "rocm" else walk.platform
    return _PRECISIONS.get(platform, {}).get(walk.precision, lax.Precision.HIGHEST)


def _algorithm(site: Site, a: Any) -> Any:
    """The same for matrix products, of which GPUs can be told more."""
    on_gpu = site.walk.platform in ("cuda", "rocm") and a.dtype == np.float32
    return _ALGORITHMS.get(site.walk.precision, precision(site)) if on_gpu else precision(site)


def _dot_general(site: Site, a: Any, b: Any) -> Any:
    dtype = dtype_of(a.dtype)
    numbers = (tuple(map(tuple, site.attrs["contract"])), tuple(map(tuple, site.attrs["batch"])))
    if dtype.kind == "bool":
        count = lax.dot_general(to(a, "f32"), to(b, "f32"), numbers)    # zeros and ones
        return lax.gt(count, like(count, 0))
    inner = np.float32 if short(dtype) else a.dtype
    out = lax.dot_general(a, b, numbers, precision=_algorithm(site, a),
                          preferred_element_type=inner)
    return to(out, dtype) if short(dtype) else out


REDUCTIONS: dict[str, Lowering] = {
    "reduce_sum": lambda site, x: summed(x, site.attrs["axes"]), "reduce_prod": _prod,
    "reduce_max": _extreme(True), "reduce_min": _extreme(False),
    "reduce_and": lambda site, x: lax.reduce_and(x, site.attrs["axes"]),
    "reduce_or": lambda site, x: lax.reduce_or(x, site.attrs["axes"]),
    "argmax": _arg(True), "argmin": _arg(False),
    "cumsum": _cum(lax.cumsum), "cumprod": _cum(lax.cumprod), "cummax": _cum(lax.cummax),
    "cummin": _cum(lax.cummin), "linear_recurrence": _linear_recurrence,
    "dot_general": _dot_general,
}
