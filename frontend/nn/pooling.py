"""Pooling: maxima, sums and means over windows of the spatial axes."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from weft.compiler.errors import ShapeError
from weft.frontend.nn.common import Array, floating, function, rounded, several
from weft.frontend.nn.convolution import paddings
from weft.frontend.numpy.common import as_array, build, lift
from weft.frontend.problems import problem

__all__ = ["avg_pool1d", "avg_pool2d", "avg_pool3d", "global_avg_pool", "global_max_pool",
           "max_pool1d", "max_pool2d", "max_pool3d", "min_pool2d", "sum_pool2d"]


def _pooled(kind: str, n: int, x: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any,
            channels_last: bool, what: str) -> tuple[Any, dict[str, Any]]:
    rank, b = len(x.node.shape), build()
    if rank != n + 2:
        axes = ", ".join(("depth", "height", "width")[-n:])
        raise problem(ShapeError, f"{what} got an array of {rank} dimension(s)", expected=(
            f"(batch, {axes}, channels)" if channels_last else f"(batch, channels, {axes})"))
    size = several(kernel_size, n, "kernel_size")
    strides = size if stride is None else several(stride, n, "stride")
    dilations = several(dilation, n, "dilation")
    axes_ = tuple(range(1, n + 1)) if channels_last else tuple(range(2, n + 2))
    extent = [x.node.shape[a] for a in axes_]
    pads = paddings(padding, extent, size, strides, dilations, what)
    attrs = {"axes": axes_, "size": size, "stride": strides, "padding": pads,
             "dilation": dilations}
    return as_array(b.reduce_window(x.node, kind=kind, **attrs)), attrs


def _averaged(n: int, x: Array, kernel_size: Any, stride: Any, padding: Any,
              count_include_pad: bool, channels_last: bool) -> Any:
    t, b = floating(x), build()
    total, attrs = _pooled("sum", n, t, kernel_size, stride, padding, 1, channels_last,
                           f"avg_pool{n}d")
    if count_include_pad or not any(lo or hi for lo, hi in attrs["padding"]):
        return total / prod(attrs["size"])
    ones = b.broadcast(b.scalar(1, t.element.real), t.node.shape)
    count = b.reduce_window(ones, kind="sum", **attrs)
    return total / as_array(b.convert(count, t.element))


@function
def max_pool1d(x: Array, kernel_size: Any, stride: Any = None, padding: Any = 0,
               dilation: Any = 1, *, channels_last: bool = False) -> Any:
    """The largest element of each window along one axis; see `max_pool2d`."""
    return _pooled("max", 1, lift(x), kernel_size, stride, padding, dilation,
                   bool(channels_last), "max_pool1d")[0]


@function
def max_pool2d(x: Array, kernel_size: Any, stride: Any = None, padding: Any = 0,
               dilation: Any = 1, *, channels_last: bool = False) -> Any:
    """The largest element of each window over height and width; NaN if any is.

    Args:
        x: (batch, channels, height, width), or (batch, height, width, channels) with
            `channels_last`.
        kernel_size, stride, dilation: one number, or one for each axis; the stride is the window's
            size unless given.
        padding: as for `weft.nn.conv2d`; what is put around never wins.

    The derivative goes to the first of a window's equal elements, in row-major order.

    >>> import numpy as np, weft
    >>> weft.nn.max_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2)
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    """
    return _pooled("max", 2, lift(x), kernel_size, stride, padding, dilation,
                   bool(channels_last), "max_pool2d")[0]


@function
def max_pool3d(x: Array, kernel_size: Any, stride: Any = None, padding: Any = 0,
               dilation: Any = 1, *, channels_last: bool = False) -> Any:
    """The largest element of each window over three axes; see `max_pool2d`."""
    return _pooled("max", 3, lift(x), kernel_size, stride, padding, dilation,
                   bool(channels_last), "max_pool3d")[0]


@function
def min_pool2d(x: Array, kernel_size: Any, stride: Any = None, padding: Any = 0,
               dilation: Any = 1, *, channels_last: bool = False) -> Any:
    """The smallest element of each window over height and width; see `max_pool2d`."""
    return _pooled("min", 2, lift(x), kernel_size, stride, padding, dilation,
                   bool(channels_last), "min_pool2d")[0]


@function
def sum_pool2d(x: Array, kernel_size: Any, stride: Any = None, padding: Any = 0,
               dilation: Any = 1, *, channels_last: bool = False) -> Any:
    """The sum of each window over height and width; see `max_pool2d`."""
    return _pooled("sum", 2, lift(x), kernel_size, stride, padding, dilation,
                   bool(channels_last), "sum_pool2d")[0]


@rounded
def avg_pool1d(x: Array, kernel_size: Any, stride: Any = None, padding: Any = 0,
               count_include_pad: bool = True, *, channels_last: bool = False) -> Any:
    """The mean of each window along one axis; see `avg_pool2d`."""
    return _averaged(1, x, kernel_size, stride, padding, bool(count_include_pad),
                     bool(channels_last))


@rounded
def avg_pool2d(x: Array, kernel_size: Any, stride: Any = None, padding: Any = 0,
               count_include_pad: bool = True, *, channels_last: bool = False) -> Any:
    """The mean of each window over height and width.

    With `count_include_pad`, as in PyTorch, the zeros put around count as elements; without, as in
    TensorFlow, means are of the elements inside. Other arguments as for `max_pool2d`.

    >>> import numpy as np, weft
    >>> weft.nn.avg_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2)
    array([[[[ 2.5,  4.5],
             [10.5, 12.5]]]])
    """
    return _averaged(2, x, kernel_size, stride, padding, bool(count_include_pad),
                     bool(channels_last))


@rounded
def avg_pool3d(x: Array, kernel_size: Any, stride: Any = None, padding: Any = 0,
               count_include_pad: bool = True, *, channels_last: bool = False) -> Any:
    """The mean of each window over three axes; see `avg_pool2d`."""
    return _averaged(3, x, kernel_size, stride, padding, bool(count_include_pad),
                     bool(channels_last))


def _spatial(x: Any, channels_last: bool, what: str) -> tuple[int, ...]:
    rank = len(x.node.shape)
    if rank < 3:
        raise problem(ShapeError, f"{what} got an array of {rank} dimension(s)",
                      expected="a batch, channels, and axes to pool over")
    return tuple(range(1, rank - 1)) if channels_last else tuple(range(2, rank))


@rounded
def global_avg_pool(x: Array, keepdims: bool = False, *, channels_last: bool = False) -> Any:
    """The mean over all spatial axes: (batch, channels)."""
    x = floating(x)
    return np.mean(x, axis=_spatial(x, bool(channels_last), "global_avg_pool"),
                   keepdims=bool(keepdims))


@function
def global_max_pool(x: Array, keepdims: bool = False, *, channels_last: bool = False) -> Any:
    """The largest element over all spatial axes: (batch, channels)."""
    x = lift(x)
    return np.max(x, axis=_spatial(x, bool(channels_last), "global_max_pool"),
                  keepdims=bool(keepdims))
