"""Sliding windows, pooling and convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import lax

from weft.compiler.ops.convolution import labels_of
from weft.compiler.types import dtype_of
from weft.devices.xla.program import Site
from weft.devices.xla.reductions import lowest, precision
from weft.devices.xla.tools import Lowering, kind, short, to

__all__ = ["WINDOWS"]

_MANY = 64      # windows of more elements are read by a gather, others by as many slices


def _geometry(site: Site) -> zip[tuple[int, Any, int, int]]:
    a = site.attrs
    return zip(a["axes"], a["size"], a["stride"], a["dilation"])


def _window(site: Site, x: Any) -> Any:
    """One axis after another; the elements of a window go to a new last axis."""
    for axis, size, stride, dilation in _geometry(site):
        count = max(0, (x.shape[axis] - (size - 1) * dilation - 1) // stride + 1)
        if size <= _MANY and count:
            parts = [lax.slice_in_dim(x, k * dilation, k * dilation + (count - 1) * stride + 1,
                                      stride, axis) for k in range(size)]
            x = lax.concatenate([lax.expand_dims(p, (p.ndim,)) for p in parts], x.ndim)
        else:
            x = _picked(x, axis, count, size, stride, dilation)
    return x


def _picked(x: Any, axis: int, count: int, size: int, stride: int, dilation: int) -> Any:
    at = np.arange(count)[:, None] * stride + np.arange(size) * dilation
    offset = tuple(a for a in range(x.ndim + 1) if a not in (axis, x.ndim))
    shape = (*x.shape[:axis], count, *x.shape[axis + 1:], size)
    if 0 in shape:
        return lax.full(shape, 0, x.dtype)
    numbers = lax.GatherDimensionNumbers(offset, (axis,), (axis,))
    sizes = [1 if a == axis else d for a, d in enumerate(x.shape)]
    return lax.gather(x, at[..., None].astype(np.int32), numbers, sizes,
                      mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS)


def _spread(x: Any, axis: int, extent: int, at: int, stride: int) -> Any:
    """The elements of an axis `stride` apart from `at` on, among zeros."""
    n = x.shape[axis]
    if not n:
        shape = (*x.shape[:axis], extent, *x.shape[axis + 1:])
        return lax.full(shape, 0, x.dtype)
    widths = [(0, 0, 0)] * x.ndim
    widths[axis] = (at, extent - at - (n - 1) * stride - 1, stride - 1)
    return lax.pad(x, np.zeros((), x.dtype), widths)


def _unwindow(site: Site, x: Any) -> Any:
    a = site.attrs
    rank = x.ndim - len(a["axes"])
    for j, (axis, extent, stride, dilation) in enumerate(
            zip(a["axes"], a["extent"], a["stride"], a["dilation"])):
        last = rank + j
        parts = [_spread(lax.slice_in_dim(x, k, k + 1, 1, last), axis, extent, k * dilation, stride)
                 for k in range(x.shape[last])]
        x = lax.concatenate(parts, last)
    return x


def _fold(site: Site, x: Any) -> Any:
    """One axis after another, the last first; 16-bit floats are added up in f32."""
    a, dtype = site.attrs, dtype_of(x.dtype)
    x = to(x, "f32") if short(dtype) else x
    for axis, extent, stride, dilation in reversed(list(
            zip(a["axes"], a["extent"], a["stride"], a["dilation"]))):
        total = None
        for k in range(x.shape[-1]):
            part = lax.squeeze(lax.slice_in_dim(x, k, k + 1, 1, x.ndim - 1), (x.ndim - 1,))
            placed = _spread(part, axis, extent, k * dilation, stride)
            total = placed if total is None else lax.add(total, placed)
        x = total
    return to(x, dtype)


def _cropped(x: Any, axes: Sequence[int], padding: Sequence[Any]) -> tuple[Any, list[Any]]:
    """The array without what negative padding takes away, and the rest of the padding."""
    widths = [(0, 0)] * x.ndim
    for axis, (lo, hi) in zip(axes, padding):
        x = lax.slice_in_dim(x, max(-lo, 0), x.shape[axis] + min(hi, 0), 1, axis)
        widths[axis] = (max(lo, 0), max(hi, 0))
    return x, widths


def _reduce_window(site: Site, x: Any) -> Any:
    a, dtype = site.attrs, dtype_of(x.dtype)
    x, widths = _cropped(x, a["axes"], a["padding"])
    if 0 in site.shape:
        return lax.full(site.shape, 0, x.dtype)
    size, stride, dilation = ([1] * x.ndim for _ in range(3))
    for axis, n, s, d in _geometry(site):
        size[axis], stride[axis], dilation[axis] = n, s, d
    if a["kind"] == "sum":
        wide = to(x, "f32") if short(dtype) else x
        start, join = np.zeros((), wide.dtype), lax.add
    else:
        wide = to(x, "u8") if kind(x) == "bool" else x
        start = lowest(wide, a["kind"] == "max")
        join = lax.max if a["kind"] == "max" else lax.min
    out = lax.reduce_window(wide, start, join, size, stride, widths, None, dilation)
    return to(out, dtype)


def _conv(site: Site, x: Any, w: Any) -> Any:
    a, dtype = site.attrs, dtype_of(x.dtype)
    if 0 in x.shape or 0 in w.shape or 0 in site.shape:
        return lax.full(site.shape, 0, x.dtype)
    labels = labels_of(a["dim_labels"])
    numbers = lax.ConvDimensionNumbers(
        tuple(labels.lhs.index(c) for c in "bf" + labels.spatial),
        tuple(labels.rhs.index(c) for c in "oi" + labels.spatial),
        tuple(labels.out.index(c) for c in "bf" + labels.spatial))

    def run(x: Any, w: Any) -> Any:
        inner = np.float32 if short(dtype) else x.dtype
        return lax.conv_general_dilated(
            x, w, a["strides"], a["padding"], a["lhs_dilation"], a["rhs_dilation"], numbers,
            feature_group_count=a["groups"], batch_group_count=a["batch_groups"],
            precision=precision(site), preferred_element_type=inner)

    if dtype.is_complex:        # which not every backend has
        (p, q), (r, s) = ((lax.real(v), lax.imag(v)) for v in (x, w))
        return lax.complex(lax.sub(run(p, r), run(q, s)), lax.add(run(p, s), run(q, r)))
    return to(run(x, w), dtype)


WINDOWS: dict[str, Lowering] = {
    "window": _window, "unwindow": _unwindow, "fold": _fold, "reduce_window": _reduce_window,
    "conv": _conv,
}
