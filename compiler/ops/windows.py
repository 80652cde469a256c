"""Sliding windows: as a view, folded back, and reduced.

Pooling is a reduction over `window(pad(x))`, a convolution the contraction of one (see
`convolution`). A window is a view, so nothing of it is ever stored: it becomes index arithmetic of
the kernel that reads it.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from weft.compiler.errors import DTypeError, ShapeError
from weft.compiler.ops.elementwise import check_kind
from weft.compiler.ops.registry import Attrs, Op, register
from weft.compiler.ops.views import check_axes
from weft.compiler.types import DTYPES, Dim, DType, TensorType, dtype_of

if TYPE_CHECKING:
    from weft.compiler.build import Builder
    from weft.compiler.ir import Node

__all__ = ["crop", "dilated", "lowest", "padded", "span", "spread", "windows_in"]

Types = tuple[TensorType, ...]
_I32, _I64 = DTYPES["i32"], DTYPES["i64"]
Pairs = Sequence[tuple[int, int]]
_A = np.sin(np.arange(1.0, 61.0)).reshape(3, 4, 5)


def span(size: Dim, dilation: int) -> Dim:
    """How many neighbouring elements `size` elements reach over that are `dilation` apart."""
    return (size - 1) * dilation + 1


def _is_longer(size: Dim, dilation: int, extent: Dim) -> bool:
    reach = span(size, dilation)
    return isinstance(reach, int) and isinstance(extent, int) and reach > extent


def windows_in(extent: Dim, size: Dim, stride: int, dilation: int) -> Dim:
    """The number of windows that lie inside an axis."""
    last = extent - span(size, dilation)
    if isinstance(last, int) and last < 0:
        return 0
    return (last if stride == 1 else last // stride) + 1


# ---- window, and the sum of windows back in their places

def _check_window(name: str, attrs: Attrs, rank: int) -> None:
    check_axes(name, tuple(attrs["axes"]), rank)
    lists: list[Any] = [attrs[k] for k in ("axes", "size", "stride", "dilation")]
    if len({len(v) for v in lists}) != 1 or any(
            not isinstance(v, int) or v < 1 for k in lists[2:] for v in k) \
            or any(isinstance(v, int) and v < 1 for v in lists[1]):
        raise ShapeError(f"{name} got axes={list(lists[0])} size={list(lists[1])} "
                         f"stride={list(lists[2])} dilation={list(lists[3])}",
                         expected="a positive size, stride and dilation for each axis")


def _window(types: Types, attrs: Attrs) -> TensorType:
    (x,) = types
    _check_window("window", attrs, x.rank)
    shape = list(x.shape)
    for a, size, stride, dilation in zip(*_geometry(attrs)):
        extent = shape[a]
        if _is_longer(size, dilation, extent):
            raise ShapeError(f"a window of {size} element(s), {dilation} apart, does not fit axis "
                             f"{a} of {x}", expected=f"at most {extent} neighbouring elements")
        shape[a] = windows_in(extent, size, stride, dilation)
    return TensorType((*shape, *attrs["size"]), x.dtype)


def _geometry(attrs: Attrs) -> tuple[Any, Any, Any, Any]:
    return attrs["axes"], attrs["size"], attrs["stride"], attrs["dilation"]


def _window_ref(xp: Any, x: Any, axes: Any, size: Any, stride: Any, dilation: Any) -> Any:
    reach = tuple(span(k, d) for k, d in zip(size, dilation))
    view = xp.lib.stride_tricks.sliding_window_view(x, reach, tuple(axes))
    pick: list[Any] = [slice(None)] * view.ndim
    for j, (a, s, d) in enumerate(zip(axes, stride, dilation)):
        pick[a], pick[x.ndim + j] = slice(None, None, s), slice(None, None, d)
    return view[tuple(pick)].copy()


def _window_transpose(b: Builder, node: Node, ct: Node, wanted: Set[int]) -> list[Any]:
    (x,) = node.inputs
    axes, _, stride, dilation = _geometry(node.attrs)
    return [b.fold(ct, axes=axes, extent=tuple(x.shape[a] for a in axes), stride=stride,
                   dilation=dilation)]


def _moved(attrs: Attrs) -> dict[str, Any]:
    """The attributes for an operand with a new first axis."""
    return {**attrs, "axes": tuple(a + 1 for a in attrs["axes"])}


def _batched(b: Builder, node: Node, inputs: Sequence[Node], batched: Sequence[bool]) -> Node:
    return b.add(node.opname, *inputs, **_moved(node.attrs))


_CASES: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((_A,), {"axes": (1,), "size": (2,), "stride": (1,), "dilation": (1,)}),
    ((_A,), {"axes": (1, 2), "size": (2, 3), "stride": (2, 1), "dilation": (1, 2)}),
    ((_A,), {"axes": (2, 0), "size": (2, 3), "stride": (3, 1), "dilation": (1, 1)}),
    ((_A[:, :0],), {"axes": (2,), "size": (5,), "stride": (1,), "dilation": (1,)})]

register(Op("window", "view", 1, "sliding windows: result[…, i, …, k] = x[…, i*stride + "
            "k*dilation, …], the axes of k behind all others", _window, _window_ref,
            attrs=("axes", "size", "stride", "dilation"), cost=0, linear="jointly",
            transpose=_window_transpose, batch=_batched, samples=lambda: list(_CASES)))


def _placed(name: str, types: Types, attrs: Attrs) -> tuple[int, list[Dim]]:
    """The rank without the windows' axes, and the shape that the windows came from."""
    (x,), n = types, len(attrs["axes"])
    rank = x.rank - n
    lists = {"axes": attrs["axes"], "size": x.shape[max(rank, 0):], "stride": attrs["stride"],
             "dilation": attrs["dilation"]}
    if rank >= 0:
        _check_window(name, lists, rank)
    shape = list(x.shape[:max(rank, 0)])
    if rank < 0 or len(attrs["extent"]) != n or any(
            windows_in(e, k, s, d) != shape[a] for e, a, k, s, d in zip(
                attrs["extent"], *_geometry(lists))):
        raise ShapeError(f"{name} of {x} got extent={list(attrs['extent'])}",
                         expected="for each axis an extent with as many windows as there are")
    for a, e in zip(attrs["axes"], attrs["extent"]):
        shape[a] = e
    return rank, shape


def _unwindow(types: Types, attrs: Attrs) -> TensorType:
    rank, shape = _placed("unwindow", types, attrs)
    return TensorType((*shape, *types[0].shape[rank:]), types[0].dtype)


def _unwindow_ref(xp: Any, x: Any, axes: Any, extent: Any, stride: Any, dilation: Any) -> Any:
    rank = x.ndim - len(axes)
    shape = list(x.shape[:rank])
    for a, e in zip(axes, extent):
        shape[a] = e
    out = xp.zeros((*shape, *x.shape[rank:]), x.dtype)
    for k in np.ndindex(x.shape[rank:]):
        pick: list[Any] = [slice(None)] * rank
        for a, i, s, d in zip(axes, k, stride, dilation):
            pick[a] = slice(i * d, i * d + span(x.shape[a], s) if x.shape[a] else i * d, s)
        out[(*pick, *k)] = x[(..., *k)]
    return out


def _fold(types: Types, attrs: Attrs) -> TensorType:
    _, shape = _placed("fold", types, attrs)
    check_kind("fold", types[0].dtype, "ifc")
    return TensorType(tuple(shape), types[0].dtype)


def _fold_ref(xp: Any, x: Any, **attrs: Any) -> Any:
    wide = x.astype(np.float32) if x.dtype.itemsize == 2 and x.dtype.kind not in "iu" else x
    n = len(attrs["axes"])
    placed = _unwindow_ref(xp, wide, **attrs)
    total = xp.sum(placed, axis=tuple(range(placed.ndim - n, placed.ndim)), dtype=wide.dtype)
    return xp.asarray(total).astype(x.dtype, copy=False)


def _fold_parts(b: Builder, node: Node) -> Node:
    (x,), a = node.inputs, node.attrs
    rank = len(x.shape) - len(a["axes"])
    sizes = [k for k in (*x.shape[rank:], *a["extent"]) if isinstance(k, int)]
    if len(sizes) == 2 * len(a["axes"]) and all(k <= s and 1 in (k, d) for k, s, d in zip(
            sizes, a["stride"], a["dilation"])):
        return _fold_apart(b, x, a["axes"], sizes, a["stride"])
    return b.reduce_sum(b.unwindow(x, **a), axes=tuple(range(rank, len(x.shape))))


def _fold_apart(b: Builder, x: Node, axes: Sequence[int], sizes: Sequence[int],
                stride: Sequence[int]) -> Node:
    """Windows that have no element in common lie side by side: nothing is to be added up.

    `sizes` are those of windows, and then of the axes on which they lie.
    """
    zero, n, rank = b.scalar(0, x.dtype), len(axes), len(x.shape) - len(axes)
    x = padded(b, x, zero, range(rank, rank + n), [(0, s - k) for k, s in zip(sizes, stride)])
    shape, inside = list(x.shape[:rank]), dict(zip(axes, range(rank, rank + n)))
    x = b.transpose(x, perm=tuple(
        a for d in range(rank) for a in ((d, inside[d]) if d in inside else (d,))))
    gaps = []
    for a, s, extent in zip(axes, stride, sizes[n:]):
        shape[a] = shape[a] * s
        covered = shape[a]
        assert isinstance(covered, int), "an axis of a known size has a known number of windows"
        gaps.append((0, extent - covered))
    return padded(b, b.reshape(x, tuple(shape)), zero, axes, gaps)


def _fold_transpose(b: Builder, node: Node, ct: Node, wanted: Set[int]) -> list[Any]:
    (x,), a = node.inputs, node.attrs
    return [b.window(ct, axes=a["axes"], size=x.shape[len(ct.shape):], stride=a["stride"],
                     dilation=a["dilation"])]


def _unwindow_transpose(b: Builder, node: Node, ct: Node, wanted: Set[int]) -> list[Any]:
    """Of all windows at every offset, those that belong to the offset: the diagonal."""
    (x,), a, n = node.inputs, node.attrs, len(node.attrs["axes"])
    rank = len(x.shape) - n
    wide = b.window(ct, axes=a["axes"], size=x.shape[rank:], stride=a["stride"],
                    dilation=a["dilation"])
    keep: Node | None = None
    for j in range(n):
        i, k = (b.iota(shape=wide.shape, axis=axis, dtype=_I64)
                for axis in (rank + j, rank + n + j))
        same = b.eq(i, k)
        keep = same if keep is None else b.add("and", keep, same)
    zero = b.broadcast(b.scalar(0, x.dtype), wide.shape)
    picked = wide if keep is None else b.select(keep, wide, zero)
    return [b.reduce_sum(picked, axes=tuple(range(rank + n, rank + 2 * n)))]


def _fold_cases() -> list[Any]:
    return [((_window_ref(np, x, **a),), {
        "axes": a["axes"], "extent": tuple(x.shape[i] for i in a["axes"]),
        "stride": a["stride"], "dilation": a["dilation"]}) for (x,), a in _CASES]


register(Op("unwindow", "view", 1, "elements of windows at their places, 0 elsewhere: "
            "result[…, p, …, k] = x[…, i, …, k] where p = i*stride + k*dilation", _unwindow,
            _unwindow_ref, attrs=("axes", "extent", "stride", "dilation"), cost=0,
            linear="jointly", transpose=_unwindow_transpose, batch=_batched, samples=_fold_cases))
register(Op("fold", "windows", 1, "windows added up at their places: the transpose of window",
            _fold, _fold_ref, attrs=("axes", "extent", "stride", "dilation"),
            decompose=_fold_parts, linear="jointly", transpose=_fold_transpose, batch=_batched,
            samples=_fold_cases))


# ---- copy

def _copy_transpose(b: Builder, node: Node, ct: Node, wanted: Set[int]) -> list[Any]:
    return [ct]


register(Op("copy", "view", 1, "the operand, stored in memory in row-major order",
            lambda types, attrs: types[0], lambda xp, x: x.copy(), cost=0, linear="jointly",
            transpose=_copy_transpose, batch=lambda b, node, inputs, batched: b.copy(*inputs),
            samples=lambda: [((_A,), {}), ((_A[:0],), {})]))


# ---- padding of either sign, as graph

def spread(b: Builder, x: Node, axis: int, by: int) -> Node:
    """`by - 1` zeros put between the elements of an axis."""
    n = x.shape[axis]
    if by == 1 or n in (0, 1):
        return x
    zero = b.scalar(0, x.dtype)
    split = b.reshape(x, (*x.shape[:axis + 1], 1, *x.shape[axis + 1:]))
    high = [0] * len(split.shape)
    high[axis + 1] = by - 1
    wide = b.pad(split, zero, low=(0,) * len(high), high=tuple(high))
    flat = b.reshape(wide, (*x.shape[:axis], n * by, *x.shape[axis + 1:]))
    return crop(b, flat, axis, 0, span(n, by))


def dilated(b: Builder, x: Node, axes: Sequence[int], by: Sequence[int]) -> Node:
    """`spread` along several axes."""
    for axis, d in zip(axes, by):
        x = spread(b, x, axis, d)
    return x


def crop(b: Builder, x: Node, axis: int, lo: Dim, hi: Dim) -> Node:
    """The elements [lo, hi) along an axis."""
    if lo == 0 and hi == x.shape[axis]:
        return x
    start: list[Dim] = [0] * len(x.shape)
    limit = list(x.shape)
    start[axis], limit[axis] = lo, hi
    return b.slice(x, start=tuple(start), limit=tuple(limit), stride=(1,) * len(start))


def padded(b: Builder, x: Node, value: Node, axes: Sequence[int], padding: Pairs) -> Node:
    """The value put around the axes; negative widths take elements away."""
    low, high = [0] * len(x.shape), [0] * len(x.shape)
    for a, (lo, hi) in zip(axes, padding):
        n = x.shape[a]
        first, end = max(-lo, 0), n + min(hi, 0)
        if isinstance(n, int) and isinstance(end, int) and first >= min(n, end):
            first = end = 0             # nothing is left: the widths' sum says what there is
            lo, hi = 0, max(0, n + lo + hi)
        x = crop(b, x, a, first, end)
        low[a], high[a] = max(lo, 0), max(hi, 0)
    if not any(low) and not any(high):
        return x
    return b.pad(x, value, low=tuple(low), high=tuple(high))


# ---- reduce_window

_KINDS = {"max": "bif", "min": "bif", "sum": "ifc"}
_POOL = ("kind", "axes", "size", "stride", "padding", "dilation")


def lowest(dtype: DType, low: bool) -> Any:
    """What a maximum (`low`) or minimum begins with."""
    if dtype.is_float:
        return -np.inf if low else np.inf
    if dtype.kind == "bool":
        return not low
    info = np.iinfo(dtype.numpy)
    return info.min if low else info.max


def _start(kind: str, dtype: DType) -> Any:
    return 0 if kind == "sum" else lowest(dtype, kind == "max")


def _reduce_window(types: Types, attrs: Attrs) -> TensorType:
    (x,), kind = types, attrs["kind"]
    if kind not in _KINDS:
        raise DTypeError(f"reduce_window got kind={kind!r}", expected="max, min or sum")
    check_kind("reduce_window", x.dtype, _KINDS[kind])
    _check_window("reduce_window", attrs, x.rank)
    if len(attrs["padding"]) != len(attrs["axes"]):
        raise ShapeError(f"reduce_window got padding={list(attrs['padding'])}",
                         expected="a pair (low, high) for each axis")
    shape = list(x.shape)
    for (a, size, stride, dilation), (lo, hi) in zip(zip(*_geometry(attrs)), attrs["padding"]):
        extent = shape[a] + lo + hi
        if _is_longer(size, dilation, extent):
            raise ShapeError(
                f"a window of {size} element(s), {dilation} apart, does not fit axis {a} of {x} "
                f"with padding ({lo}, {hi})", expected=f"at most {extent} neighbouring elements",
                repair="use a smaller window or more padding")
        shape[a] = windows_in(extent, size, stride, dilation)
    return TensorType(tuple(shape), x.dtype)


def _ref_padded(xp: Any, x: Any, axes: Any, padding: Any, value: Any) -> Any:
    widths, take = [(0, 0)] * x.ndim, [slice(None)] * x.ndim
    for a, (lo, hi) in zip(axes, padding):
        take[a] = slice(max(-lo, 0), x.shape[a] + min(hi, 0))
        widths[a] = (max(lo, 0), max(hi, 0))
    return xp.pad(x[tuple(take)], widths, constant_values=value)


def _reduce_window_ref(xp: Any, x: Any, kind: str, axes: Any, size: Any, stride: Any,
                       padding: Any, dilation: Any) -> Any:
    start: Any = 0
    if kind != "sum":
        start = lowest(dtype_of(x.dtype), kind == "max")
    wide = x.astype(np.float32) if x.dtype.itemsize == 2 and x.dtype.kind not in "iu" \
        and kind == "sum" else x
    view = _window_ref(xp, _ref_padded(xp, wide, axes, padding, start), axes, size, stride,
                       dilation)
    over = tuple(range(x.ndim, x.ndim + len(axes)))
    with np.errstate(all="ignore"):
        out = xp.sum(view, axis=over, dtype=wide.dtype) if kind == "sum" else \
            (xp.max if kind == "max" else xp.min)(view, axis=over)
    return xp.asarray(out).astype(x.dtype, copy=False)


def _windows_of(b: Builder, x: Node, attrs: Attrs, value: Any) -> Node:
    x = padded(b, x, b.scalar(value, x.dtype), attrs["axes"], attrs["padding"])
    return b.window(x, **{k: attrs[k] for k in ("axes", "size", "stride", "dilation")})


def _reduce_window_parts(b: Builder, node: Node) -> Node:
    (x,), kind, n = node.inputs, node.attrs["kind"], len(node.attrs["axes"])
    view = _windows_of(b, x, node.attrs, _start(kind, x.dtype))
    axes = tuple(range(len(x.shape), len(x.shape) + n))
    return b.add(f"reduce_{kind}", view, axes=axes)


def _reduce_window_jvp(b: Builder, node: Node, tangents: Sequence[Any]) -> Any:
    """The tangent at the first largest (smallest) element of each window; for sums, their sum."""
    (x,), (t,), a = node.inputs, tangents, node.attrs
    if t is None:
        return None
    if a["kind"] == "sum":
        return b.reduce_window(t, **a)
    rank, count = len(x.shape), prod(a["size"])
    view = _windows_of(b, x, a, _start(a["kind"], x.dtype))
    flat = b.reshape(view, (*view.shape[:rank], count))
    at = b.convert(b.add(f"arg{a['kind']}", flat, axis=rank), _I32)     # half of what is kept
    number = b.reshape(b.iota(shape=(count,), axis=0, dtype=_I32), a["size"])
    moved = _windows_of(b, t, a, 0)
    here = b.eq(b.broadcast(number, view.shape), b.broadcast(at, view.shape, range(rank)))
    zero = b.broadcast(b.scalar(0, t.dtype), view.shape)
    return b.reduce_sum(b.select(here, moved, zero), axes=tuple(range(rank, len(view.shape))))


def _reduce_window_transpose(b: Builder, node: Node, ct: Node, wanted: Set[int]) -> list[Any]:
    """Of sums: every window's cotangent at all of its places."""
    (x,), a = node.inputs, node.attrs
    extent = tuple(x.shape[i] + lo + hi for i, (lo, hi) in zip(a["axes"], a["padding"]))
    wide = b.broadcast(ct, (*ct.shape, *a["size"]), range(len(ct.shape)))
    whole = b.fold(wide, axes=a["axes"], extent=extent, stride=a["stride"], dilation=a["dilation"])
    back = tuple((-lo, -hi) for lo, hi in a["padding"])
    return [padded(b, whole, b.scalar(0, ct.dtype), a["axes"], back)]


def _pool(kind: str, axes: Any, size: Any, stride: Any, padding: Any, dilation: Any
          ) -> dict[str, Any]:
    return dict(zip(_POOL, (kind, axes, size, stride, padding, dilation)))


def _pool_cases() -> list[Any]:
    tied = np.round(_A * 2)
    tied[0, 1, 2] = np.nan
    return [((x,), a) for x in (_A, tied) for a in (
        _pool("max", (1, 2), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)),
        _pool("max", (1, 2), (3, 3), (1, 2), ((1, 1), (2, 1)), (1, 1)),
        _pool("min", (2,), (2,), (1,), ((1, 0),), (2,)),
        _pool("sum", (0, 2), (2, 3), (1, 2), ((0, 1), (1, 1)), (2, 1)),
        _pool("sum", (1,), (2,), (2,), ((-1, 0),), (1,)),
    )] + [((_A[:, :, :0],), _pool("max", (1,), (2,), (1,), ((0, 0),), (1,)))]


register(Op("reduce_window", "windows", 1, "max, min or sum over sliding windows; the derivative "
            "of a maximum goes to the first of equal elements", _reduce_window,
            _reduce_window_ref, attrs=_POOL, decompose=_reduce_window_parts,
            jvp=_reduce_window_jvp, transpose=_reduce_window_transpose, batch=_batched,
            samples=_pool_cases))
