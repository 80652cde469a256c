"""Convolution, as StableHLO has it: any layout, strides, padding, dilation and groups.

A convolution's transposes are convolutions again, with the roles of their axes exchanged, so one
op with named axes serves forward and backward. It is computed as a contraction over a window of
the padded left side, see `weft.compiler.ops.convolution_parts`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from weft.compiler.errors import DTypeError, ShapeError
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.ops.elementwise import check_kind
from weft.compiler.ops.registry import Attrs, Op, register
from weft.compiler.ops.windows import span, windows_in
from weft.compiler.types import Dim, TensorType

__all__ = ["Labels", "labels_of", "plain_labels"]

Types = tuple[TensorType, ...]
_ATTRS = ("strides", "padding", "lhs_dilation", "rhs_dilation", "dim_labels", "groups",
          "batch_groups")


@dataclass(frozen=True)
class Labels:
    """Which axis is what: ``"b01f_01io->b01f"``, as XLA writes it.

    b is the batch, f and i the features that are summed over, o the features of the result;
    digits number the spatial axes.
    """

    lhs: str
    rhs: str
    out: str

    @property
    def spatial(self) -> str:
        """The digits of the spatial axes, in order."""
        return "".join(sorted(c for c in self.lhs if c.isdigit()))

    def text(self) -> str:
        """As it stands in a graph."""
        return f"{self.lhs}_{self.rhs}->{self.out}"


@lru_cache(64)
def labels_of(text: str) -> Labels:
    """The labels that a text names; a `ShapeError` if it is none."""
    left, _, out = text.partition("->")
    lhs, _, rhs = left.partition("_")
    digits = "".join(map(str, range(max(len(lhs) - 2, 0))))
    wanted = [sorted(digits + extra) for extra in ("bf", "io", "bf")]
    if [sorted(part) for part in (lhs, rhs, out)] != wanted:
        raise ShapeError(f"conv got dim_labels={text!r}",
                         expected='labels such as "b01f_01io->b01f"')
    return Labels(lhs, rhs, out)


def plain_labels(rank: int, last: bool = True) -> str:
    """Labels of arrays of this rank with channels last (weights HWIO) or first (OIHW)."""
    digits = "".join(map(str, range(rank - 2)))
    return Labels(f"b{digits}f", f"{digits}io", f"b{digits}f").text() if last else \
        Labels(f"bf{digits}", f"oi{digits}", f"bf{digits}").text()


def _check(x: TensorType, w: TensorType, attrs: Attrs) -> Labels:
    labels = labels_of(attrs["dim_labels"])
    if x.dtype is not w.dtype:
        raise DTypeError(f"conv got {x.dtype} and {w.dtype}", expected="one element type")
    check_kind("conv", x.dtype, "ifc")
    if x.rank != len(labels.lhs) or w.rank != len(labels.rhs):
        raise ShapeError(f"conv got {x} and {w} with dim_labels={labels.text()!r}",
                         expected=f"arrays of {len(labels.lhs)} dimensions")
    n = len(labels.spatial)
    for name in ("strides", "lhs_dilation", "rhs_dilation"):
        if len(attrs[name]) != n or any(not isinstance(v, int) or v < 1 for v in attrs[name]):
            raise ShapeError(f"conv got {name}={list(attrs[name])}",
                             expected=f"{n} positive number(s)")
    if len(attrs["padding"]) != n:
        raise ShapeError(f"conv got padding={list(attrs['padding'])}",
                         expected="a pair (low, high) for each spatial axis")
    _check_groups(x, w, labels, attrs["groups"], attrs["batch_groups"])
    return labels


def _check_groups(x: TensorType, w: TensorType, labels: Labels, groups: int, batch: int) -> None:
    f, i = x.shape[labels.lhs.index("f")], w.shape[labels.rhs.index("i")]
    o, b = w.shape[labels.rhs.index("o")], x.shape[labels.lhs.index("b")]
    if groups < 1 or batch < 1 or (groups > 1 and batch > 1):
        raise ShapeError(f"conv got groups={groups} batch_groups={batch}",
                         expected="positive numbers of which at least one is 1")
    if f != i * groups:
        raise ShapeError(
            f"conv of {x} with weights {w}: {f} input channel(s), the weights take {i} in each of "
            f"{groups} group(s)", expected=f"{i * groups} input channel(s)")
    for what, size, by in (("output channels", o, groups), ("output channels", o, batch),
                           ("batch", b, batch)):
        if by > 1 and isinstance(size, int) and size % by != 0:
            raise ShapeError(f"conv of {x} with weights {w}: {what} of {size} for {by} groups",
                             expected=f"a multiple of {by}")


def _conv(types: Types, attrs: Attrs) -> TensorType:
    x, w = types
    labels = _check(x, w, attrs)
    size: dict[str, Dim] = {
        "b": x.shape[labels.lhs.index("b")], "f": w.shape[labels.rhs.index("o")]}
    if attrs["batch_groups"] > 1:
        size["b"] = size["b"] // attrs["batch_groups"]
    for j, c in enumerate(labels.spatial):
        n, k = x.shape[labels.lhs.index(c)], w.shape[labels.rhs.index(c)]
        lo, hi = attrs["padding"][j]
        extent = (span(n, attrs["lhs_dilation"][j]) if n != 0 else 0) + lo + hi
        reach = span(k, attrs["rhs_dilation"][j]) if k != 0 else 0
        if isinstance(extent, int) and isinstance(reach, int) and reach > extent:
            raise ShapeError(
                f"conv of {x} with weights {w}: along spatial axis {j} the kernel reaches over "
                f"{reach} element(s), the padded input has {extent}",
                expected=f"a kernel of at most {extent}",
                repair="use a smaller kernel, less dilation or more padding")
        size[c] = windows_in(extent, k, attrs["strides"][j], attrs["rhs_dilation"][j])
    return TensorType(tuple(size[c] for c in labels.out), x.dtype)


def _spread(xp: Any, x: Any, axis: int, by: int) -> Any:
    if by == 1 or x.shape[axis] == 0:
        return x
    shape = list(x.shape)
    shape[axis] = span(x.shape[axis], by)
    out = xp.zeros(tuple(shape), x.dtype)
    out[(slice(None),) * axis + (slice(None, None, by),)] = x
    return out


def _padded(xp: Any, x: Any, axis: int, lo: int, hi: int, by: int) -> Any:
    """Zeros between the elements of an axis and around them; negative widths take away."""
    x = _spread(xp, x, axis, by)
    take: list[Any] = [slice(None)] * x.ndim
    take[axis] = slice(max(-lo, 0), x.shape[axis] + min(hi, 0))
    left = x[tuple(take)]
    widths = [(0, 0)] * x.ndim
    widths[axis] = (max(lo, 0), max(hi, 0))
    if -lo > x.shape[axis] or -hi > x.shape[axis]:       # more is taken than there is
        widths[axis] = (0, max(0, x.shape[axis] + lo + hi))
    return xp.pad(left, widths)


def _conv_ref(xp: Any, x: Any, w: Any, strides: Any, padding: Any, lhs_dilation: Any,
              rhs_dilation: Any, dim_labels: str, groups: int, batch_groups: int) -> Any:
    labels, dtype = labels_of(dim_labels), x.dtype
    n = len(labels.spatial)
    if dtype.itemsize == 2 and dtype.kind not in "iu":
        x, w = x.astype(np.float32), w.astype(np.float32)
    x = x.transpose([labels.lhs.index(c) for c in f"bf{labels.spatial}"])
    w = w.transpose([labels.rhs.index(c) for c in f"oi{labels.spatial}"])
    for j, ((lo, hi), by) in enumerate(zip(padding, lhs_dilation)):
        x = _padded(xp, x, 2 + j, lo, hi, by)
    for j, d in enumerate(rhs_dilation):
        w = _spread(xp, w, 2 + j, d)
    view = xp.lib.stride_tricks.sliding_window_view(x, w.shape[2:], tuple(range(2, 2 + n)))
    view = view[(slice(None),) * 2 + tuple(slice(None, None, s) for s in strides)]
    b, f, *out = view.shape[:2 + n]
    g, h = groups, batch_groups
    # axes: batch group 0, batch 1, group 2, features 3, output features 4, spatial 5…, kernel …
    view = view.reshape((h, b // h, g, f // g, *out, *w.shape[2:]))
    w = w.reshape((h, g, w.shape[0] // (h * g), w.shape[1], *w.shape[2:]))
    place, kernel = list(range(5, 5 + n)), list(range(5 + n, 5 + 2 * n))
    with np.errstate(all="ignore"):
        total = xp.einsum(view, [0, 1, 2, 3, *place, *kernel], w, [0, 2, 4, 3, *kernel],
                          [1, 0, 2, 4, *place]) + x.dtype.type(0)
    total = xp.asarray(total).reshape((b // h, prod(w.shape[:3]), *out)).astype(dtype, copy=False)
    return xp.ascontiguousarray(
        total.transpose([f"bf{labels.spatial}".index(c) for c in labels.out]))


def _r(*shape: int) -> Any:
    """Numbers of both signs, of so few bits that sums of their products are exact."""
    return np.rint(np.sin(np.arange(1.0, prod(shape) + 1) * len(shape)) * 8).reshape(shape) / 8


def _case(x: tuple[int, ...], w: tuple[int, ...], labels: str = "", strides: Any = None,
          padding: Any = None, dilation: Any = None, lhs_dilation: Any = None, groups: int = 1,
          batch_groups: int = 1, dtype: str = "f8") -> Any:
    n = len(x) - 2
    return (_r(*x).astype(dtype), _r(*w).astype(dtype)), dict(zip(_ATTRS, (
        strides or (1,) * n, padding or ((0, 0),) * n, lhs_dilation or (1,) * n,
        dilation or (1,) * n, labels or plain_labels(len(x)), groups, batch_groups)))


def _cases() -> list[Any]:
    one, same = "bf0_oi0->bf0", ((1, 1), (1, 1))
    return [
        _case((2, 5, 6, 3), (3, 3, 3, 4)),
        _case((2, 5, 6, 3), (3, 3, 3, 4), padding=same),
        _case((2, 3, 7, 6), (4, 3, 3, 2), plain_labels(4, last=False), (2, 1), same),
        _case((1, 6, 7, 2), (2, 3, 2, 5), padding=((1, 0), (2, 1)), dilation=(2, 2)),
        _case((2, 6, 5, 4), (3, 3, 1, 4), padding=same, groups=4),
        _case((2, 6, 5, 4), (3, 3, 1, 8), strides=(2, 2), groups=4),
        _case((2, 6, 5, 4), (2, 1, 2, 6), groups=2),
        _case((3, 4, 9), (5, 4, 3), one, (2,), ((-1, 2),)),
        _case((2, 2, 4), (3, 2, 3), one, (1,), ((2, 2),), lhs_dilation=(2,)),
        _case((2, 2, 4), (3, 2, 2), one, (2,), ((1, 3),), (2,), (3,)),
        _case((4, 5, 6, 3), (2, 2, 3, 4), batch_groups=2),
        _case((2, 4, 3, 5, 2), (2, 2, 2, 2, 3), padding=((1, 1), (0, 0), (1, 1))),
        _case((3, 4, 4, 2), (1, 1, 2, 6), strides=(2, 2)),
        _case((3, 5), (5, 2), "bf_io->bf"),
        _case((0, 5, 6, 3), (3, 3, 3, 4)),
        _case((2, 5, 6, 0), (3, 3, 0, 4)),
        _case((5, 6, 3, 2), (4, 5, 2, 4), "01bf_01io->01bf"),
        _case((2, 9, 8), (3, 8, 4), "b0f_0io->b0f", dtype="c16"),
        _case((2, 9, 8), (3, 8, 4), "b0f_0io->b0f", dtype="i4"),
        _case((2, 9, 8), (3, 8, 4), "b0f_0io->b0f", dtype="f2"),
    ]


def _part(name: str) -> Callable[..., Any]:
    """A rule of `convolution_parts`, which is loaded when a graph has a convolution."""
    def rule(*args: Any) -> Any:
        home = importlib.import_module("weft.compiler.ops.convolution_parts")
        return getattr(home, name)(*args)
    return rule


register(Op("conv", "windows", 2, "convolution (without reversal): sums of products of windows of "
            "the padded left side with the weights", _conv, _conv_ref, attrs=_ATTRS, cost=2,
            decompose=_part("decompose"), linear="each", transpose=_part("transpose"),
            batch=_part("batch"), samples=_cases))
