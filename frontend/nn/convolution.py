"""Convolutions of one, two and three spatial axes, and their transposes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from weft.compiler.errors import ShapeError
from weft.compiler.ir import Node
from weft.compiler.ops.convolution import plain_labels
from weft.compiler.ops.windows import span
from weft.compiler.types import Dim
from weft.frontend.nn.common import Array, function, several
from weft.frontend.numpy.common import as_array, build, lift, same_dtype, static
from weft.frontend.problems import problem

__all__ = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
           "conv_transpose3d", "paddings"]

Pairs = tuple[tuple[int, int], ...]


def paddings(padding: Any, extent: Sequence[Dim], size: Sequence[Dim], stride: Sequence[int],
             dilation: Sequence[int], what: str) -> Pairs:
    """The widths put around each spatial axis.

    ``"valid"`` is none; ``"same"`` as many as give ceil(extent / stride) windows, the odd one
    behind; a number stands for both sides of all axes, a sequence has a number or a pair
    (low, high) for each axis.
    """
    n = len(extent)
    if isinstance(padding, str):
        how = padding.lower()
        if how == "valid":
            return ((0, 0),) * n
        if how == "same":
            return tuple(map(_same, extent, size, stride, dilation))
        raise problem(ShapeError, f"{what} got padding={padding!r}",
                      expected='"same", "valid", a number, or a pair (low, high) for each axis')
    if not isinstance(padding, (tuple, list)):
        return ((static(padding, "padding"),) * 2,) * n
    if len(padding) != n:
        raise problem(ShapeError, f"{what} got {len(padding)} paddings for {n} axes",
                      expected=f"one number, or {n} numbers or pairs")
    return tuple((static(p[0], "padding"), static(p[1], "padding")) if isinstance(p, (tuple, list))
                 else (static(p, "padding"),) * 2 for p in padding)


def _same(extent: Dim, size: Dim, stride: int, dilation: int) -> tuple[int, int]:
    reach = span(size, dilation)
    if stride == 1:
        total: Any = reach - 1
    else:
        count = -(-extent // stride)
        total = (count - 1) * stride + reach - extent
        total = max(total, 0) if isinstance(total, int) else total
    return total // 2, total - total // 2


def _conv(n: int, x: Array, weight: Array, bias: Array | None, stride: Any, padding: Any,
          dilation: Any, groups: Any, channels_last: bool) -> Any:
    what, b = f"conv{n}d", build()
    operands = [lift(x), lift(weight)] + ([] if bias is None else [lift(bias)])
    for name, t in zip(("x", "weight"), operands):
        if len(t.node.shape) != n + 2:
            raise problem(ShapeError, f"{what} got {name} of {len(t.node.shape)} dimension(s)",
                          expected=_expected(n, bool(channels_last), name))
    left, right, *rest = same_dtype(operands)
    last = bool(channels_last)
    extent = left.shape[1:-1] if last else left.shape[2:]
    size = right.shape[:-2] if last else right.shape[2:]
    strides, dilations = several(stride, n, "stride"), several(dilation, n, "dilation")
    pads = paddings(padding, extent, size, strides, dilations, what)
    out = b.conv(left, right, strides=strides, padding=pads, lhs_dilation=(1,) * n,
                 rhs_dilation=dilations, dim_labels=plain_labels(n + 2, last),
                 groups=static(groups, "groups"), batch_groups=1)
    return as_array(_biased(out, rest, n + 1 if last else 1, what))


def _biased(out: Node, bias: Sequence[Node], axis: int, what: str) -> Node:
    if not bias:
        return out
    b, (more,) = build(), bias
    if more.shape != (out.shape[axis],):
        raise problem(ShapeError, f"{what} got a bias of shape {more.shape} for "
                      f"{out.shape[axis]} output channel(s)", expected=f"({out.shape[axis]},)")
    return b.add("add", out, b.broadcast(more, out.shape, (axis,)))


def _expected(n: int, last: bool, name: str) -> str:
    axes = ", ".join(("depth", "height", "width")[-n:])
    if name == "x":
        return f"(batch, {axes}, channels)" if last else f"(batch, channels, {axes})"
    return f"({axes}, in, out)" if last else f"(out, in, {axes})"


@function
def conv1d(x: Array, weight: Array, bias: Array | None = None, stride: Any = 1, padding: Any = 0,
           dilation: Any = 1, groups: int = 1, *, channels_last: bool = False) -> Any:
    """Convolution along one axis; see `conv2d`."""
    return _conv(1, x, weight, bias, stride, padding, dilation, groups, channels_last)


@function
def conv2d(x: Array, weight: Array, bias: Array | None = None, stride: Any = 1, padding: Any = 0,
           dilation: Any = 1, groups: int = 1, *, channels_last: bool = False) -> Any:
    """Convolution over height and width (the cross-correlation, as everywhere in deep learning).

    Args:
        x: (batch, channels, height, width), or (batch, height, width, channels) with
            `channels_last`.
        weight: (out, in/groups, kernel height, kernel width); with `channels_last`
            (kernel height, kernel width, in/groups, out).
        bias: (out,), added to every position.
        stride, dilation: one number, or one for each axis.
        padding: zeros around the input: ``"same"``, ``"valid"``, a number, or for each axis a
            number or a pair (low, high). ``"same"`` gives ceil(size / stride) positions.
        groups: into how many independent groups the channels fall.

    Returns an array in the layout of `x`, of the arguments' common element type; 16-bit floats are
    added up in float32. Raises `ShapeError` where shapes do not fit, and where the kernel is larger
    than the padded input.

    >>> import numpy as np, weft
    >>> x, w = np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 2, 2), np.float32)
    >>> weft.nn.conv2d(x, w)
    array([[[[4., 4.],
             [4., 4.]]]], dtype=float32)
    """
    return _conv(2, x, weight, bias, stride, padding, dilation, groups, channels_last)


@function
def conv3d(x: Array, weight: Array, bias: Array | None = None, stride: Any = 1, padding: Any = 0,
           dilation: Any = 1, groups: int = 1, *, channels_last: bool = False) -> Any:
    """Convolution over depth, height and width; see `conv2d`."""
    return _conv(3, x, weight, bias, stride, padding, dilation, groups, channels_last)


def _conv_transpose(n: int, x: Array, weight: Array, bias: Array | None, stride: Any, padding: Any,
                    output_padding: Any, groups: Any, dilation: Any, channels_last: bool) -> Any:
    what, b, last = f"conv_transpose{n}d", build(), bool(channels_last)
    operands = [lift(x), lift(weight)] + ([] if bias is None else [lift(bias)])
    for name, t in zip(("x", "weight"), operands):
        if len(t.node.shape) != n + 2:
            raise problem(ShapeError, f"{what} got {name} of {len(t.node.shape)} dimension(s)",
                          expected=_expected(n, last, name).replace("(out, in", "(in, out")
                          .replace("in, out)", "out, in)"))
    left, right, *rest = same_dtype(operands)
    strides, dilations = several(stride, n, "stride"), several(dilation, n, "dilation")
    more, g = several(output_padding, n, "output_padding"), static(groups, "groups")
    size = right.shape[:-2] if last else right.shape[2:]
    pads = _transposed_paddings(padding, size, strides, dilations, more, what)
    right = b.reverse(right, axes=tuple(range(n)) if last else tuple(range(2, n + 2)))
    right = _exchanged(right, g, last)
    out = b.conv(left, right, strides=(1,) * n, padding=pads, lhs_dilation=strides,
                 rhs_dilation=dilations, dim_labels=plain_labels(n + 2, last), groups=g,
                 batch_groups=1)
    return as_array(_biased(out, rest, n + 1 if last else 1, what))


def _transposed_paddings(padding: Any, size: Sequence[Dim], strides: Sequence[int],
                         dilations: Sequence[int], more: Sequence[int], what: str) -> Pairs:
    n = len(size)
    if isinstance(padding, str) and padding.lower() == "same":     # positions: size * stride
        taken = []
        for k, s, d in zip(size, strides, dilations):
            total: Any = span(k, d) - s
            taken.append((total // 2, total - total // 2))
        pairs: Pairs = tuple(taken)
    else:
        pairs = paddings(padding, (0,) * n, size, strides, dilations, what)
    reach = [span(k, d) - 1 for k, d in zip(size, dilations)]
    return tuple((r - lo, r - hi + m)  # type: ignore[misc]
                 for r, (lo, hi), m in zip(reach, pairs, more))


def _exchanged(w: Node, groups: int, last: bool) -> Node:
    """Weights (in, out/groups, …) as a convolution takes them: (out, in/groups, …); with channels
    last (…, out/groups, in) as (…, in/groups, out)."""
    b, rank = build(), len(w.shape)
    i, o = (rank - 1, rank - 2) if last else (0, 1)
    channels = w.shape[i]
    if isinstance(channels, int) and channels % groups:
        raise problem(ShapeError, f"{w.shape[i]} input channel(s) do not fall into {groups} groups",
                      expected=f"a multiple of {groups}")
    split = b.reshape(w, (*w.shape[:i], groups, w.shape[i] // groups, *w.shape[i + 1:]))
    if last:                                 # …, out, group, in  ->  …, in, group, out
        perm = (*range(rank - 2), rank, rank - 1, rank - 2)
        shape = (*w.shape[:-2], w.shape[i] // groups, groups * w.shape[o])
    else:                                    # group, in, out, …  ->  group, out, in, …
        perm = (0, 2, 1, *range(3, rank + 1))
        shape = (groups * w.shape[o], w.shape[i] // groups, *w.shape[2:])
    return b.reshape(b.transpose(split, perm=perm), shape)


@function
def conv_transpose1d(x: Array, weight: Array, bias: Array | None = None, stride: Any = 1,
                     padding: Any = 0, output_padding: Any = 0, groups: int = 1,
                     dilation: Any = 1, *, channels_last: bool = False) -> Any:
    """The transpose of a convolution along one axis; see `conv_transpose2d`."""
    return _conv_transpose(1, x, weight, bias, stride, padding, output_padding, groups, dilation,
                           channels_last)


@function
def conv_transpose2d(x: Array, weight: Array, bias: Array | None = None, stride: Any = 1,
                     padding: Any = 0, output_padding: Any = 0, groups: int = 1,
                     dilation: Any = 1, *, channels_last: bool = False) -> Any:
    """The transpose of a convolution over height and width: what `conv2d` does to gradients.

    `weight` is that of the convolution: (in, out/groups, height, width), where `in` are the
    channels of `x`; with `channels_last` (height, width, out/groups, in). `padding` is the
    convolution's; ``"same"`` gives size * stride positions. `output_padding` adds positions
    behind. Other arguments as for `conv2d`.

    >>> import numpy as np, weft
    >>> x, w = np.ones((1, 1, 2, 2), np.float32), np.ones((1, 1, 2, 2), np.float32)
    >>> weft.nn.conv_transpose2d(x, w)[0, 0]
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]], dtype=float32)
    """
    return _conv_transpose(2, x, weight, bias, stride, padding, output_padding, groups, dilation,
                           channels_last)


@function
def conv_transpose3d(x: Array, weight: Array, bias: Array | None = None, stride: Any = 1,
                     padding: Any = 0, output_padding: Any = 0, groups: int = 1,
                     dilation: Any = 1, *, channels_last: bool = False) -> Any:
    """The transpose of a convolution over depth, height and width; see `conv_transpose2d`."""
    return _conv_transpose(3, x, weight, bias, stride, padding, output_padding, groups, dilation,
                           channels_last)
