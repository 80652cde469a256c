"""np.pad in all its modes."""

from __future__ import annotations

from collections.abc import Callable
from operator import index
from typing import Any

import numpy as np

from weft.compiler.errors import UnsupportedError
from weft.compiler.ir import Node
from weft.compiler.types import Size
from weft.frontend.numpy.common import Array, as_array, build, lift
from weft.frontend.numpy.joins import part
from weft.frontend.numpy.reductions import fold, keep_axes, mean
from weft.frontend.problems import dtype_error, problem, shape_error
from weft.frontend.table import implements
from weft.frontend.tracer import Tracer

__all__: list[str] = []


def _pairs(value: Any, rank: int) -> list[tuple[Any, Any]]:
    """`pad_width` and its like as a (before, after) pair for every axis."""
    if type(value) is Tracer:
        return [(value, value)] * rank
    if isinstance(value, dict):
        out: list[tuple[Any, Any]] = [(0, 0)] * rank
        for axis, width in value.items():
            out[axis] = tuple(width) if isinstance(width, (tuple, list)) else (width, width)
        return out
    if isinstance(value, (tuple, list)) and any(type(v) is Tracer for v in value):
        return [(value[0], value[-1])] * rank
    array = np.broadcast_to(np.asarray(value), (rank, 2))
    return [(low, high) for low, high in array.tolist()]


def _width(value: Any) -> Any:
    """A width as a number (or symbolic size), of which the padded shape is made."""
    if type(value) is Size:
        return value
    if (type(value) is not Tracer and not isinstance(value, (int, np.integer))) or (
            type(value) is Tracer and value.node.dtype.kind not in ("int", "uint")):
        raise dtype_error("`pad_width` must be of integral type.",
                          repair="give whole numbers, such as x.shape[0] // 2")
    return index(value)


@implements(np.pad)
def _pad(array: Array, pad_width: Any, mode: Any = "constant", **options: Any) -> Tracer:
    x = lift(array)
    widths = [(_width(low), _width(high)) for low, high in _pairs(pad_width, len(x.node.shape))]
    if any(w < 0 for pair in widths for w in pair):
        raise shape_error("index can't contain negative values")
    if mode == "constant":
        return as_array(_constant(x.node, widths, options.get("constant_values", 0)))
    if mode == "empty":
        return as_array(_constant(x.node, widths, 0))
    handler = _MODES.get(mode)
    if handler is None:
        raise problem(UnsupportedError, f"np.pad with mode={mode!r} is not traced",
                      expected=", ".join(("constant", "empty", *_MODES)))
    node = x.node
    for axis, (low, high) in enumerate(widths):
        if low or high:
            node = handler(node, axis, low, high, options)
    return as_array(node)


def _constant(node: Node, widths: list[tuple[int, int]], values: Any) -> Node:
    b, fills = build(), _pairs(values, len(node.shape))
    same = all(low is high or low == high for low, high in fills) and len(set(map(id, (
        v for pair in fills for v in pair)))) <= 1
    flat = [v for pair in fills for v in pair]
    if same or (all(type(v) is not Tracer for v in flat) and len(set(flat)) == 1):
        value = b.convert(lift(flat[0] if flat else 0).node, node.dtype)
        return b.pad(node, value, low=tuple(w for w, _ in widths), high=tuple(w for _, w in widths))
    for axis, (pair, fill) in enumerate(zip(widths, fills)):
        for side in (0, 1):
            if pair[side]:
                value = b.convert(lift(fill[side]).node, node.dtype)
                width = [0] * len(node.shape)
                width[axis] = pair[side]
                none = (0,) * len(width)
                node = b.pad(node, value, low=none if side else tuple(width),
                             high=tuple(width) if side else none)
    return node


Handler = Callable[[Node, int, int, int, dict[str, Any]], Node]


def _size(node: Node, axis: int) -> int:
    size = node.shape[axis]
    if isinstance(size, Size):
        raise problem(UnsupportedError, f"np.pad of an axis of symbolic size {size} takes "
                      "mode='constant' only", repair="compile for a fixed size")
    return size


def _by_index(numpy_mode: str) -> Handler:
    """Modes that repeat elements: padded indices, found by NumPy itself, then one gather."""
    def handler(node: Node, axis: int, low: int, high: int, options: dict[str, Any]) -> Node:
        size = _size(node, axis)
        if options.get("reflect_type", "even") != "even":
            return _odd(node, axis, low, high, numpy_mode)
        if size == 0:
            raise shape_error(f"can't extend empty axis {axis} using modes other than 'constant' "
                              "or 'empty'")
        picks = np.pad(np.arange(size), (low, high), mode=numpy_mode)  # type: ignore[call-overload]
        indices = build().constant(picks)
        return build().gather(node, indices, axes=(axis,), position=axis, mode="clip")
    return handler


def _odd(node: Node, axis: int, low: int, high: int, mode: str) -> Node:
    """2*edge - reflected, which NumPy applies chunk by chunk; one chunk is supported."""
    size = _size(node, axis)
    reach = size - 1 if mode == "reflect" else size
    if max(low, high) > reach:
        raise problem(UnsupportedError, "np.pad with reflect_type='odd' wider than the array is "
                      "not traced", repair="pad in two steps")
    b = build()
    whole = _by_index(mode)(node, axis, low, high, {})
    total = size + low + high
    edges = [part(node, axis, 0, 1), part(node, axis, size - 1, size)]
    pieces = [part(whole, axis, 0, low), node, part(whole, axis, total - high, total)]
    for at, edge in ((0, edges[0]), (2, edges[1])):
        wide = b.broadcast(edge, pieces[at].shape)
        pieces[at] = b.sub(b.mul(b.scalar(2, node.dtype), wide), pieces[at])
    return b.concatenate(*pieces, axis=axis)


def _ramp(node: Node, axis: int, low: int, high: int, options: dict[str, Any]) -> Node:
    b, rank = build(), len(node.shape)
    ends = _pairs(options.get("end_values", 0), rank)[axis]
    size = _size(node, axis)
    sides = []
    for width, end, at in ((low, ends[0], 0), (high, ends[1], size - 1)):
        shape = (*node.shape[:axis], width, *node.shape[axis + 1:])
        if not width:
            continue
        edge = b.broadcast(b.convert(part(node, axis, at, at + 1), "f64"), shape)
        stop = b.convert(lift(end).node, "f64")
        t = b.div(b.iota(shape=shape, axis=axis, dtype=stop.dtype), b.scalar(width, "f64"))
        line = b.add_(b.mul(b.sub(edge, stop), t), stop)
        line = b.floor(line) if node.dtype.is_integer else line
        line = b.convert(line, node.dtype)
        sides.append(b.reverse(line, axes=(axis,)) if at else line)
        if not at:
            sides.append(node)
    if not low:
        sides.insert(0, node)
    return b.concatenate(*sides, axis=axis)


def _statistic(name: str) -> Handler:
    def handler(node: Node, axis: int, low: int, high: int, options: dict[str, Any]) -> Node:
        b, size = build(), _size(node, axis)
        lengths = options.get("stat_length")
        pair = (None, None) if lengths is None else _pairs(lengths, len(node.shape))[axis]
        pieces = []
        for width, length, at_end in ((low, pair[0], False), (high, pair[1], True)):
            n = size if length is None else min(length, size)
            chunk = part(node, axis, size - n, size) if at_end else part(node, axis, 0, n)
            value = _reduced(chunk, axis, name, node)
            shape = (*node.shape[:axis], width, *node.shape[axis + 1:])
            pieces.append(b.broadcast(value, shape))
        return b.concatenate(pieces[0], node, pieces[1], axis=axis)
    return handler


def _reduced(chunk: Node, axis: int, name: str, like: Node) -> Node:
    if name == "mean":
        b = build()
        value = mean(as_array(chunk), axis, keepdims=True).node
        value = b.rint(value) if like.dtype.is_integer else value
        return b.convert(value, like.dtype)
    out = fold(f"reduce_{name}", chunk, axis).node
    return keep_axes(out, chunk.shape, (axis,))


_MODES: dict[Any, Handler] = {
    "edge": _by_index("edge"), "reflect": _by_index("reflect"),
    "symmetric": _by_index("symmetric"), "wrap": _by_index("wrap"), "linear_ramp": _ramp,
    "maximum": _statistic("max"), "minimum": _statistic("min"), "mean": _statistic("mean"),
}
