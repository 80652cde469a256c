"""Normalisations: softmax and its kin over an axis, and to mean 0 and variance 1.

Variances are of the deviations from the mean, so they lose nothing to cancellation. Sums of 16-bit
floats are kept in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from weft.compiler.errors import ShapeError
from weft.compiler.types import DTYPES
from weft.frontend.nn.common import Array, constant, floating, function, size_of
from weft.frontend.numpy.common import axes_of, build, lift, of_kind, static
from weft.frontend.problems import problem

__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm", "log_softmax", "logsumexp",
           "rms_norm", "softmax", "standardize"]


def _widened(x: Any) -> Any:
    """16-bit floats as float32."""
    x = floating(x)
    small = x.element.is_float and x.element.itemsize == 2
    return of_kind(x, build().convert(x.node, DTYPES["f32"])) if small else x


def _like(value: Any, x: Any) -> Any:
    """The value in the element type of `x`."""
    return of_kind(value, build().convert(value.node, floating(x).element))


def _shifted(x: Any, axis: Any, where: Any) -> tuple[Any, Any]:
    """x less its largest element along the axis, and that; infinities are not subtracted."""
    if where is not None:
        x = np.where(where, x, -np.inf)
    top = constant(np.max(x, axis=axis, keepdims=True))
    top = np.where(np.abs(top) == np.inf, 0, top)
    return x - top, top


@function
def softmax(x: Array, axis: Any = -1, where: Array | None = None) -> Any:
    """exp(x) over its sum along an axis or several, computed so that nothing overflows.

    Elements where `where` is false count as -inf: their result is 0. A slice of nothing but -inf
    has no softmax; it gives NaN, unless `where` says that nothing of it counts: then zeros.

    >>> import numpy as np, weft
    >>> weft.nn.softmax(np.array([1000.0, 1000.0, -np.inf]))
    array([0.5, 0.5, 0. ])
    """
    wide = _widened(x)
    powers = np.exp(_shifted(wide, axis, where)[0])
    total = powers.sum(axis=axis, keepdims=True)
    if where is not None:
        some = np.any(lift(where), axis=axis, keepdims=True) if _spans(where, wide) else True
        total = np.where(some, total, 1)
    return _like(powers / total, x)


def _spans(where: Any, x: Any) -> bool:
    return len(lift(where).node.shape) == len(x.node.shape)


@function
def log_softmax(x: Array, axis: Any = -1, where: Array | None = None) -> Any:
    """The logarithm of the softmax, without loss where that is small."""
    shifted, _ = _shifted(_widened(x), axis, where)
    return _like(shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True)), x)


@function
def logsumexp(x: Array, axis: Any = None, b: Array | None = None, keepdims: bool = False,
              where: Array | None = None) -> Any:
    """log of the sum of exp(x) over axes, as `scipy.special.logsumexp`.

    `b` are factors of the terms. Sums over nothing, and of -inf only, are -inf; the derivative of
    the latter is 0.

    >>> import numpy as np, weft
    >>> weft.nn.logsumexp(np.array([1000.0, 1000.0])).round(6)
    np.float64(1000.693147)
    """
    wide = _widened(x)
    if 0 in wide.node.shape:
        total = np.exp(wide).sum(axis=axis, keepdims=keepdims)
        return _like(np.log(total), x)
    shifted, top = _shifted(wide, axis, where)
    powers = np.exp(shifted) if b is None else np.exp(shifted) * b
    total = powers.sum(axis=axis, keepdims=True)
    none = total == 0                  # of -inf only: the derivative is 0, not that of log at 0
    out = np.where(none, -np.inf, np.log(np.where(none, 1, total)) + top)
    if not keepdims:
        out = np.squeeze(out, axis=axes_of(axis, len(wide.node.shape)))
    return _like(lift(out), x)


def _normalized(x: Any, axis: Any, eps: Any) -> Any:
    deviation = x - x.mean(axis=axis, keepdims=True)
    variance = (deviation * deviation).mean(axis=axis, keepdims=True)
    return deviation / np.sqrt(variance + eps)


def _affine(x: Any, weight: Array | None, bias: Array | None) -> Any:
    if weight is not None:
        x = x * weight
    return x if bias is None else x + bias


@function
def standardize(x: Array, axis: Any = -1, epsilon: float = 1e-5) -> Any:
    """x less its mean, over its standard deviation, along an axis or several."""
    return _like(_normalized(_widened(x), axis, epsilon), x)


@function
def layer_norm(x: Array, weight: Array | None = None, bias: Array | None = None, axis: Any = -1,
               eps: float = 1e-5) -> Any:
    """Normalised along the last axis or those of `axis`, scaled and shifted (Ba et al., 2016).

    `weight` and `bias` are broadcast to `x`: their shape is that of its last axes.

    >>> import numpy as np, weft
    >>> weft.nn.layer_norm(np.array([[1.0, 3.0]]), eps=0.0)
    array([[-1.,  1.]])
    """
    return _like(_affine(_normalized(_widened(x), axis, eps), weight, bias), x)


@function
def rms_norm(x: Array, weight: Array | None = None, axis: Any = -1, eps: float = 1e-6) -> Any:
    """x over the root of its mean square along an axis (Zhang and Sennrich, 2019)."""
    wide = _widened(x)
    scale = np.sqrt((wide * wide).mean(axis=axis, keepdims=True) + eps)
    return _like(_affine(wide / scale, weight, None), x)


def _beside(value: Any, rank: int, axis: int) -> Any:
    """One number for each channel, broadcast along the other axes."""
    return np.reshape(value, (-1,) + (1,) * (rank - 1 - axis)) if value is not None else None


@function
def batch_norm(x: Array, running_mean: Array, running_var: Array, weight: Array | None = None,
               bias: Array | None = None, training: bool = False, momentum: float = 0.1,
               eps: float = 1e-5, *, axis: int = 1) -> Any:
    """Normalised over all axes but that of the channels (Ioffe and Szegedy, 2015).

    Statistics, weight and bias have one number for each channel; `axis` is that of the channels, -1
    for channels last. In inference, with the running statistics, the result is the array. With
    `training`, the batch's own statistics are used, and the result is a tuple: the array and the
    running statistics moved towards the batch's by `momentum` (the variance as an unbiased
    estimate, as PyTorch does).
    """
    wide = _widened(x)
    rank = len(wide.node.shape)
    channel = axes_of(axis, rank)[0]
    scale, shift = (_beside(v, rank, channel) for v in (weight, bias))
    if not training:
        mean, var = (_beside(v, rank, channel) for v in (running_mean, running_var))
        return _like(lift(_affine((wide - mean) / np.sqrt(var + eps), scale, shift)), x)
    others = tuple(a for a in range(rank) if a != channel)
    count = size_of(wide, others)
    mean = wide.mean(axis=others)
    deviation = wide - _beside(mean, rank, channel)
    var = (deviation * deviation).mean(axis=others)
    out = _affine(deviation / np.sqrt(_beside(var, rank, channel) + eps), scale, shift)
    unbiased = var * (count / np.maximum(count - 1, 1))
    moved = [_like(old * (1 - momentum) + new * momentum, old) for old, new in (
        (lift(running_mean), mean), (lift(running_var), unbiased))]
    return (_like(lift(out), x), *moved)


@function
def group_norm(x: Array, num_groups: int, weight: Array | None = None, bias: Array | None = None,
               eps: float = 1e-5, *, axis: int = 1) -> Any:
    """Normalised over groups of channels, for each element of the batch (Wu and He, 2018).

    `axis` is that of the channels, -1 for channels last. Raises a `ShapeError` where the channels
    do not fall into so many groups.
    """
    wide = _widened(x)
    shape, rank = wide.shape, len(wide.node.shape)
    channel, groups = axes_of(axis, rank)[0], static(num_groups, "num_groups")
    count = wide.node.shape[channel]
    if groups < 1 or (isinstance(count, int) and count % groups):
        raise problem(ShapeError, f"group_norm got {count} channel(s) for {groups} groups",
                      expected="a multiple of the number of groups")
    split = wide.reshape((*shape[:channel], groups, shape[channel] // groups,
                          *shape[channel + 1:]))
    over = tuple(a for a in range(1, rank + 1) if a != channel)
    flat = _normalized(split, over, eps).reshape(shape)
    return _like(_affine(flat, _beside(weight, rank, channel), _beside(bias, rank, channel)), x)


@function
def instance_norm(x: Array, weight: Array | None = None, bias: Array | None = None,
                  eps: float = 1e-5, *, axis: int = 1) -> Any:
    """Normalised over the spatial axes, for each channel of each element of the batch."""
    wide = _widened(x)
    rank = len(wide.node.shape)
    channel = axes_of(axis, rank)[0]
    over = tuple(a for a in range(1, rank) if a != channel)
    return _like(_affine(_normalized(wide, over, eps), _beside(weight, rank, channel),
                         _beside(bias, rank, channel)), x)
