"""Derivatives of sorting, running reductions, products, and largest and smallest elements.

Where several elements are the largest, each has an equal share of the derivative, as in JAX.
Products are exact where factors are zero: nothing is divided by a factor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import TYPE_CHECKING, Any

from weft.compiler.ops.update_rules import number
from weft.compiler.types import DTYPES, numel

if TYPE_CHECKING:
    from weft.compiler.build import Builder
    from weft.compiler.ir import Node

__all__ = ["along_axis", "extreme_jvp", "product_jvp", "recurrence_batch", "recurrence_jvp",
           "recurrence_transpose", "running_extreme_jvp", "running_product_jvp",
           "running_sum_transpose", "search_batch", "sort_jvp"]


def along_axis(b: Builder, x: Node, indices: Node, axis: int) -> Node:
    """Elements of `x` at `indices`, which has its shape, along one axis."""
    where = [indices if a == axis else number(b, x.shape, a) for a in range(len(x.shape))]
    return b.gather(x, *where, axes=tuple(range(len(x.shape))), position=0, mode="clip")


def sort_jvp(b: Builder, node: Node, ts: Sequence[Any]) -> Node:
    """Tangents move with their elements; those of equal ones keep their order."""
    (x,), axis = node.inputs, node.attrs["axis"]
    return along_axis(b, ts[0], b.argsort(x, axis=axis, stable=True), axis)


# ---- running along an axis

def _shifted(b: Builder, x: Node, axis: int, value: Any) -> Node:
    """`x` one further along an axis, where a value comes first and the last element is left out."""
    low = tuple(int(a == axis) for a in range(len(x.shape)))
    none = (0,) * len(low)
    padded = b.pad(x, b.scalar(value, x.dtype), low=low, high=none)
    return b.slice(padded, start=none, limit=x.shape, stride=(1,) * len(low))


def _backwards(b: Builder, axis: int, run: Callable[..., Node], *operands: Node) -> Node:
    return b.reverse(run(*(b.reverse(x, axes=(axis,)) for x in operands)), axes=(axis,))


def running_sum_transpose(b: Builder, node: Node, ct: Node, wanted: Set[int]) -> list[Any]:
    """Each element is part of the sums from its place on."""
    axis = node.attrs["axis"]
    return [_backwards(b, axis, lambda x: b.cumsum(x, axis=axis), ct)]


def running_product_jvp(b: Builder, node: Node, ts: Sequence[Any]) -> Node:
    """dy[k] = x[k]*dy[k-1] + dx[k]*y[k-1]."""
    (x,), axis = node.inputs, node.attrs["axis"]
    return b.linear_recurrence(x, b.mul(ts[0], _shifted(b, node, axis, 1)), axis=axis)


def running_extreme_jvp(b: Builder, node: Node, ts: Sequence[Any]) -> Node:
    """The mean of the tangents of those elements so far that are equal to the extreme one.

    It moves towards each new one by 1/n of the way, n of them being equal.
    """
    (x,), axis, d = node.inputs, node.attrs["axis"], node.dtype
    wide = DTYPES["f32"] if d.itemsize == 2 else d
    equal = b.eq(x, node)
    goes_on = b.eq(node, _shifted(b, node, axis, 0))
    count = b.linear_recurrence(b.convert(goes_on, wide), b.convert(equal, wide), axis=axis)
    share = b.convert(b.select(equal, b.div(b.scalar(1, wide), count), b.scalar(0, wide)), d)
    return b.linear_recurrence(b.sub(b.scalar(1, d), share), b.mul(ts[0], share), axis=axis)


def recurrence_jvp(b: Builder, node: Node, ts: Sequence[Any]) -> Node:
    """dy[k] = a[k]*dy[k-1] + (db[k] + da[k]*y[k-1])."""
    (a, _), axis = node.inputs, node.attrs["axis"]
    da, db = ts
    if da is not None:
        term = b.mul(da, _shifted(b, node, axis, 0))
        db = term if db is None else b.add("add", db, term)
    return b.linear_recurrence(a, db, axis=axis)


def recurrence_transpose(b: Builder, node: Node, ct: Node, wanted: Set[int]) -> list[Any]:
    """The recurrence from the end: c[k] = a[k+1]*c[k+1] + ct[k]. It is linear in `b` alone."""
    (a, _), axis = node.inputs, node.attrs["axis"]
    return [None, _backwards(
        b, axis, lambda a, ct: b.linear_recurrence(_shifted(b, a, axis, 0), ct, axis=axis), a, ct)]


def recurrence_batch(b: Builder, node: Node, inputs: Sequence[Node], batched: Sequence[bool]
                     ) -> Node:
    """Both operands along the new axis."""
    size = next(x.shape[0] for x, is_ in zip(inputs, batched) if is_)
    both = [x if is_ else b.broadcast(x, (size, *x.shape), range(1, len(x.shape) + 1))
            for x, is_ in zip(inputs, batched)]
    return b.linear_recurrence(*both, axis=node.attrs["axis"] + 1)


# ---- reductions

def extreme_jvp(b: Builder, node: Node, ts: Sequence[Any]) -> Node:
    """The mean of the tangents of the elements equal to the result."""
    (x,), axes = node.inputs, node.attrs["axes"]
    kept = [a for a in range(len(x.shape)) if a not in axes]
    equal = b.eq(x, b.broadcast(node, x.shape, kept))
    count = b.reduce_sum(b.convert(equal, node.dtype), axes=axes)
    total = b.reduce_sum(b.select(equal, ts[0], b.scalar(0, node.dtype)), axes=axes)
    return b.div(total, count)


def product_jvp(b: Builder, node: Node, ts: Sequence[Any]) -> Node:
    """Of each factor, times the product of those before and of those behind it."""
    (x,), axes, t = node.inputs, node.attrs["axes"], ts[0]
    if not axes:
        return t  # type: ignore[no-any-return]
    if x.dtype.itemsize == 2:                       # as products are: in float32, rounded once
        x, t = b.convert(x, "f32"), b.convert(t, "f32")
    axis = axes[0]
    if len(axes) > 1:
        kept = [a for a in range(len(x.shape)) if a not in axes]
        shape = (*(x.shape[a] for a in kept), numel([x.shape[a] for a in axes]))
        x, t = (b.reshape(b.transpose(v, perm=(*kept, *axes)), shape) for v in (x, t))
        axis = len(kept)

    def before(x: Node) -> Node:
        return _shifted(b, b.cumprod(x, axis=axis), axis, 1)
    others = b.mul(before(x), _backwards(b, axis, before, x))
    return b.convert(b.reduce_sum(b.mul(t, others), axes=(axis,)), node.dtype)


# ---- searching

def search_batch(b: Builder, node: Node, inputs: Sequence[Node], batched: Sequence[bool]) -> Node:
    """Keys of all sorts for one array; an array for each row of keys where arrays differ."""
    line, keys = inputs
    n = node.attrs.get("batch", 0)
    if not batched[0] and n == 0:
        return b.searchsorted(line, keys, **node.attrs)
    size = next(x.shape[0] for x, is_ in zip(inputs, batched) if is_)
    line, keys = (x if is_ else b.broadcast(x, (size, *x.shape), range(1, len(x.shape) + 1))
                  for x, is_ in zip(inputs, batched))
    return b.searchsorted(line, keys, **{**node.attrs, "batch": n + 1})
