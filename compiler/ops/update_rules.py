"""Derivatives and batching of what reads and writes at computed places.

A gather turned round is a scatter that adds, and the other way round; indices stay as they are.
An axis that batching adds becomes one more axis to index, by its own number.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import TYPE_CHECKING, Any

import numpy as np

from weft.compiler.types import DTYPES, Dim, Shape, numel

if TYPE_CHECKING:
    from weft.compiler.build import Builder
    from weft.compiler.ir import Node

__all__ = ["BATCHES", "JVPS", "TRANSPOSES", "dim_node", "moved_axis", "number"]

_I64 = DTYPES["i64"]


# ---- what the rules share

def _zeros(b: Builder, like: Node) -> Node:
    return b.broadcast(b.scalar(0, like.dtype), like.shape, ())


def _one(b: Builder, x: Node, value: Any) -> Node:
    return b.broadcast(b.scalar(value, x.dtype), x.shape, ())


def dim_node(b: Builder, d: Dim) -> Node:
    """A size as a 0-d i64."""
    return b.scalar(d, _I64) if isinstance(d, int) else b.size(size=d)


def number(b: Builder, shape: Shape, axis: int) -> Node:
    """Each element's index along an axis."""
    return b.iota(shape=shape, axis=axis, dtype=_I64)


def moved_axis(b: Builder, x: Node, source: int, target: int) -> Node:
    """`x` with one axis in another place, the others in order."""
    if source == target:
        return x
    order = [a for a in range(len(x.shape)) if a != source]
    order.insert(target, source)
    return b.transpose(x, perm=tuple(order))


def _where(node: Node) -> dict[str, Any]:
    """The attributes that say where a gather reads or a scatter writes."""
    return {k: node.attrs[k] for k in ("axes", "position", "mode")}


def _all_leading(b: Builder, inputs: Sequence[Node], batched: Sequence[bool]) -> list[Node]:
    size = next(x.shape[0] for x, is_ in zip(inputs, batched) if is_)
    return [x if is_ else b.broadcast(x, (size, *x.shape), range(1, len(x.shape) + 1))
            for x, is_ in zip(inputs, batched)]


# ---- gather

def _gather_transpose(b: Builder, node: Node, ct: Node, wanted: Set[int]) -> list[Any]:
    x, *indices = node.inputs
    return [b.scatter(_zeros(b, x), *indices, ct, **_where(node), combine="add"),
            *[None] * len(indices)]


def _gather_batch(b: Builder, node: Node, inputs: Sequence[Node], batched: Sequence[bool]) -> Node:
    """The new axis of the operand stands last, so that errors name the axes as they were."""
    (x, *indices), at = inputs, _where(node)
    if batched[0]:
        x = moved_axis(b, x, 0, len(x.shape) - 1)
    if not any(batched[1:]):
        out = b.gather(x, *indices, **at)
        return moved_axis(b, out, len(out.shape) - 1, 0)
    indices = _all_leading(b, indices, batched[1:])
    if batched[0]:
        indices.append(number(b, indices[0].shape, 0))
        at["axes"] = (*at["axes"], len(x.shape) - 1)
    return moved_axis(b, b.gather(x, *indices, **at), at["position"], 0)


# ---- scatter

def _scatter_jvp(b: Builder, node: Node, ts: Sequence[Any]) -> Any:
    x, *indices, u = node.inputs
    tx, tu, combine = ts[0], ts[-1], node.attrs["combine"]
    if combine in ("min", "max"):
        return _extreme_jvp(b, node, tx, tu)
    if combine == "mul":
        return _product_jvp(b, node, tx, tu)
    if tu is None and combine == "add":
        return tx
    return b.scatter(_zeros(b, x) if tx is None else tx, *indices,
                     _zeros(b, u) if tu is None else tu, **node.attrs)


def _extreme_jvp(b: Builder, node: Node, tx: Any, tu: Any) -> Node:
    """All that equals the result has an equal share of its derivative."""
    x, *indices, u = node.inputs
    at = _where(node)
    own = b.eq(x, node)
    theirs = b.eq(u, b.gather(node, *indices, **at))
    count = b.scatter(b.convert(own, x.dtype), *indices, b.convert(theirs, u.dtype), **at,
                      combine="add")
    total = _zeros(b, x) if tx is None else b.select(own, tx, b.scalar(0, x.dtype))
    if tu is not None:
        total = b.scatter(total, *indices, b.select(theirs, tu, b.scalar(0, u.dtype)), **at,
                          combine="add")
    return b.div(total, count)


def _product_jvp(b: Builder, node: Node, tx: Any, tu: Any) -> Node:
    """Of each update, times the product of everything else in its place."""
    x, *indices, u = node.inputs
    total = _zeros(b, x) if tx is None else b.scatter(tx, *indices, u, **node.attrs)
    if tu is None:
        return total
    return b.scatter(total, *indices, b.mul(tu, _others(b, node)), **_where(node), combine="add")


def _others(b: Builder, node: Node) -> Node:
    """For each update of a product, the product of all else that is multiplied in its place.

    Updates are put in order of their places. Products of those before and behind each, among the
    updates of one place, are linear recurrences that begin anew with each place: exact where some
    are zero, and so are their derivatives.
    """
    x, *indices, u = node.inputs
    position, k = node.attrs["position"], len(indices[0].shape)
    n = numel(indices[0].shape)
    place = b.reshape(_flat_place(b, node), (n,))
    order = b.argsort(place, axis=0, stable=True)
    ordered = b.gather(place, order, axes=(0,), position=0, mode="clip")
    front = [*range(position, position + k),
             *(a for a in range(len(u.shape)) if not position <= a < position + k)]
    rest = tuple(u.shape[a] for a in front[k:])
    base = b.gather(x, *indices, **_where(node))

    def in_order(v: Node) -> Node:
        flat = b.reshape(b.transpose(v, perm=tuple(front)), (n, *rest))
        return b.gather(flat, order, axes=(0,), position=0, mode="clip")
    before = _running(b, in_order(u), in_order(base), ordered)
    ones = _one(b, before, 1)
    behind = b.reverse(_running(b, b.reverse(in_order(u), axes=(0,)), ones,
                                b.reverse(ordered, axes=(0,))), axes=(0,))
    back = b.argsort(order, axis=0, stable=True)
    flat = b.gather(b.mul(before, behind), back, axes=(0,), position=0, mode="clip")
    whole = b.reshape(flat, (*indices[0].shape, *rest))
    return b.transpose(whole, perm=tuple(sorted(range(len(front)), key=front.__getitem__)))


def _running(b: Builder, u: Node, first: Node, places: Node) -> Node:
    """Products of the rows before each row that have its place, from `first` on."""
    step = (1, *[0] * (len(u.shape) - 1))
    n, none = u.shape[0], (0,) * len(u.shape)
    shifted = b.slice(b.pad(u, b.scalar(1, u.dtype), low=step, high=none), start=none,
                      limit=u.shape, stride=(1,) * len(none))
    other = b.pad(b.slice(places, start=(0,), limit=(n - 1,), stride=(1,)), b.scalar(-1, _I64),
                  low=(1,), high=(0,))
    begins = b.broadcast(b.ne(places, other), u.shape, (0,))
    zero = b.scalar(0, u.dtype)
    return b.linear_recurrence(b.select(begins, zero, shifted), b.select(begins, first, zero),
                               axis=0)


def _flat_place(b: Builder, node: Node) -> Node:
    """One number for the place of each update along the axes that are indexed; -2 outside."""
    x, *indices, _ = node.inputs
    total, inside = None, None
    for axis, i in zip(node.attrs["axes"], indices):
        size = dim_node(b, x.shape[axis])
        if node.attrs["mode"] == "drop":
            fits = b.and_(b.ge(i, b.neg(size)), b.lt(i, size))
            inside = fits if inside is None else b.and_(inside, fits)
        i = _resolved(b, i, size, node.attrs["mode"])
        total = i if total is None else b.add("add", b.mul(total, size), i)
    assert total is not None
    return total if inside is None else b.select(inside, total, b.scalar(-2, _I64))


def _resolved(b: Builder, i: Node, size: Node, mode: str) -> Node:
    """Indices that are equal where places along the axis are."""
    if mode == "wrap":
        return b.remainder(i, size)
    if mode == "clip":
        last = b.sub(size, b.scalar(1, _I64))
        return b.maximum(b.minimum(i, last), b.scalar(0, _I64))
    return b.select(b.lt(i, b.scalar(0, _I64)), b.add("add", i, size), i)


def _scatter_transpose(b: Builder, node: Node, ct: Node, wanted: Set[int]) -> list[Any]:
    _, *indices, u = node.inputs
    last, at = len(node.inputs) - 1, _where(node)
    out: list[Any] = [None] * len(node.inputs)
    if 0 in wanted and node.attrs["combine"] == "add":
        out[0] = ct
    elif 0 in wanted:           # in a product, the updates are factors and stay as they are
        kept = u if node.attrs["combine"] == "mul" else _zeros(b, u)
        out[0] = b.scatter(ct, *indices, kept, **node.attrs)
    if last in wanted:
        out[last] = b.gather(ct, *indices, **at)
        if node.attrs["combine"] == "set" and not _distinct(indices):
            out[last] = b.select(_written(b, node), out[last], b.scalar(0, ct.dtype))
    return out


def _distinct(indices: Sequence[Node]) -> bool:
    """Whether no place is met twice, as far as that is known."""
    if numel(indices[0].shape) == 1:
        return True
    values = [i.attrs["value"] for i in indices if i.opname == "constant"]
    if len(values) < len(indices):
        return False
    places = np.stack([v.reshape(-1) for v in values])
    return bool((places >= 0).all()) and np.unique(places, axis=1).shape == places.shape


def _written(b: Builder, node: Node) -> Node:
    """For each update that is set, whether it is the last one of its place."""
    x, *indices, u = node.inputs
    axes, position = node.attrs["axes"], node.attrs["position"]
    shape = indices[0].shape
    numbers = b.reshape(number(b, (numel(shape),), 0), shape)
    at = {"axes": tuple(range(len(axes))), "position": 0, "mode": node.attrs["mode"]}
    board = b.broadcast(b.scalar(0, _I64), tuple(x.shape[a] for a in axes), ())
    board = b.scatter(board, *indices, numbers, **at, combine="set")
    last = b.eq(b.gather(board, *indices, **at), numbers)
    return b.broadcast(last, u.shape, range(position, position + len(shape)))


def _scatter_batch(b: Builder, node: Node, inputs: Sequence[Node], batched: Sequence[bool]) -> Node:
    indices = list(inputs[1:-1])
    x, *leading, u = _all_leading(b, inputs, batched)
    at, position = _where(node), node.attrs["position"]
    at["axes"] = tuple(a + 1 for a in at["axes"])
    if not any(batched[1:-1]):
        return b.scatter(x, *indices, u, **{**at, "position": position + 1},
                         combine=node.attrs["combine"])
    return b.scatter(x, number(b, leading[0].shape, 0), *leading, moved_axis(b, u, 0, position),
                     **{**at, "axes": (0, *at["axes"])}, combine=node.attrs["combine"])


# ---- slices at computed places

def _slice_transpose(b: Builder, node: Node, ct: Node, wanted: Set[int]) -> list[Any]:
    x, *starts = node.inputs
    return [b.dynamic_update_slice(_zeros(b, x), ct, *starts), *[None] * len(starts)]


def _update_transpose(b: Builder, node: Node, ct: Node, wanted: Set[int]) -> list[Any]:
    _, u, *starts = node.inputs
    return [b.dynamic_update_slice(ct, _zeros(b, u), *starts) if 0 in wanted else None,
            b.dynamic_slice(ct, *starts, sizes=u.shape) if 1 in wanted else None,
            *[None] * len(starts)]


def _slice_batch(b: Builder, node: Node, inputs: Sequence[Node], batched: Sequence[bool]) -> Node:
    x, *starts = inputs
    source, part = node.inputs[0].shape, node.shape
    if not any(batched[1:]):
        return b.dynamic_slice(x, b.scalar(0, _I64), *starts, sizes=(x.shape[0], *part))
    axes, places = _places(b, source, part, starts, batched[1:])
    if not axes:
        return _all_leading(b, inputs, batched)[0]
    if batched[0]:
        out = b.gather(x, number(b, places[0].shape, 0), *places, position=0, mode="clip",
                       axes=(0, *(a + 1 for a in axes)))
    else:
        out = b.gather(x, *places, axes=axes, position=0, mode="clip")
    order = _axes_first(len(part), axes)
    return b.transpose(out, perm=(0, *(1 + order.index(a) for a in range(len(part)))))


def _update_batch(b: Builder, node: Node, inputs: Sequence[Node], batched: Sequence[bool]) -> Node:
    starts = inputs[2:]
    source, part = node.shape, node.inputs[1].shape
    x, u, *_ = _all_leading(b, inputs, batched)
    if not any(batched[2:]):
        return b.dynamic_update_slice(x, u, b.scalar(0, _I64), *starts)
    axes, places = _places(b, source, part, starts, batched[2:])
    if not axes:
        return u
    u = b.transpose(u, perm=(0, *(a + 1 for a in _axes_first(len(part), axes))))
    return b.scatter(x, number(b, places[0].shape, 0), *places, u, position=0, mode="clip",
                     axes=(0, *(a + 1 for a in axes)), combine="set")


def _axes_first(rank: int, axes: Sequence[int]) -> list[int]:
    return [*axes, *(a for a in range(rank) if a not in axes)]


def _places(b: Builder, source: Shape, part: Shape, starts: Sequence[Node],
            batched: Sequence[bool]) -> tuple[tuple[int, ...], list[Node]]:
    """The axes along which parts lie at different places, and the indices of their elements."""
    axes = tuple(a for a, (d, n) in enumerate(zip(source, part)) if d != n)
    size = next(s.shape[0] for s, is_ in zip(starts, batched) if is_)
    shape = (size, *(part[a] for a in axes))
    out = []
    for k, a in enumerate(axes):
        last = dim_node(b, source[a] - part[a])
        begin = b.maximum(b.minimum(starts[a], last), b.scalar(0, _I64))
        begin = b.broadcast(begin, shape, (0,) if batched[a] else ())
        out.append(b.add("add", begin, number(b, shape, k + 1)))
    return axes, out


JVPS = {"scatter": _scatter_jvp}
TRANSPOSES = {"gather": _gather_transpose, "scatter": _scatter_transpose,
              "dynamic_slice": _slice_transpose, "dynamic_update_slice": _update_transpose}
BATCHES = {"gather": _gather_batch, "scatter": _scatter_batch, "dynamic_slice": _slice_batch,
           "dynamic_update_slice": _update_batch}
