"""Views turned round, and batched.

Views are linear: the transposed view puts each cotangent where its element came from, and adds up
those of repeated elements. All of it is views and sums again, so that it fuses like them.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import TYPE_CHECKING, Any

import numpy as np

from weft.compiler.types import Dim

if TYPE_CHECKING:
    from weft.compiler.build import Builder
    from weft.compiler.ir import Node

__all__ = ["BATCHES", "TRANSPOSES", "dilate"]


# ---- transposed

def _broadcast(b: Builder, node: Node, ct: Node, wanted: Set[int]) -> list[Any]:
    (x,), dims = node.inputs, node.attrs["dims"]
    kept = [a for a, d in zip(dims, x.shape) if d == ct.shape[a]]
    summed = tuple(a for a in range(len(ct.shape)) if a not in kept)
    if summed:
        ct = b.reduce_sum(ct, axes=summed)
    return [b.reshape(ct, x.shape)]


def _transpose(b: Builder, node: Node, ct: Node, wanted: Set[int]) -> list[Any]:
    perm = node.attrs["perm"]
    return [b.transpose(ct, perm=tuple(sorted(range(len(perm)), key=perm.__getitem__)))]


def dilate(b: Builder, x: Node, axis: int, step: int) -> Node:
    """`x` with step-1 zeros behind every element along an axis."""
    shape = x.shape
    x = b.reshape(x, (*shape[:axis + 1], 1, *shape[axis + 1:]))
    nothing = [0] * len(x.shape)
    high = [*nothing]
    high[axis + 1] = step - 1
    x = b.pad(x, b.scalar(0, x.dtype), low=tuple(nothing), high=tuple(high))
    return b.reshape(x, (*shape[:axis], shape[axis] * step, *shape[axis + 1:]))


def _slice(b: Builder, node: Node, ct: Node, wanted: Set[int]) -> list[Any]:
    (x,) = node.inputs
    start, stride = node.attrs["start"], node.attrs["stride"]
    for axis, step in enumerate(stride):
        if step != 1 and ct.shape[axis] != 0:
            ct = dilate(b, ct, axis, step)
    high: list[Dim] = []
    for axis, (size, first) in enumerate(zip(x.shape, start)):
        after = size - first - ct.shape[axis]
        if isinstance(after, int) and after < 0:      # the zeros behind the last element
            cut = tuple(d + after if a == axis else d for a, d in enumerate(ct.shape))
            ct = b.slice(ct, start=(0,) * len(cut), limit=cut, stride=(1,) * len(cut))
            after = 0
        high.append(after)
    return [b.pad(ct, b.scalar(0, ct.dtype), low=tuple(start), high=tuple(high))]


def _pad(b: Builder, node: Node, ct: Node, wanted: Set[int]) -> list[Any]:
    low, high = node.attrs["low"], node.attrs["high"]
    limit = tuple(d - h for d, h in zip(ct.shape, high))
    inside = b.slice(ct, start=tuple(low), limit=limit, stride=(1,) * len(limit))
    if 1 not in wanted:
        return [inside, None]
    mask = b.pad(b.broadcast(b.scalar(False, "bool"), node.inputs[0].shape, ()),
                 b.scalar(True, "bool"), low=low, high=high)
    outside = b.select(mask, ct, b.scalar(0, ct.dtype))
    every = tuple(range(len(ct.shape)))
    return [inside if 0 in wanted else None, b.reduce_sum(outside, axes=every)]


def _concatenate(b: Builder, node: Node, ct: Node, wanted: Set[int]) -> list[Any]:
    axis, at, out = node.attrs["axis"], 0, []
    for k, x in enumerate(node.inputs):
        start, limit = [0] * len(ct.shape), list(ct.shape)
        start[axis], limit[axis] = at, at + x.shape[axis]
        at = limit[axis]
        out.append(b.slice(ct, start=tuple(start), limit=tuple(limit), stride=(1,) * len(limit))
                   if k in wanted else None)
    return out


TRANSPOSES = {
    "broadcast_in_dim": _broadcast,
    "reshape": lambda b, node, ct, wanted: [b.reshape(ct, node.inputs[0].shape)],
    "transpose": _transpose,
    "reverse": lambda b, node, ct, wanted: [b.reverse(ct, axes=node.attrs["axes"])],
    "slice": _slice,
    "pad": _pad,
    "concatenate": _concatenate,
}


# ---- batched

def _batch_broadcast(b: Builder, node: Node, inputs: Sequence[Node], batched: Sequence[bool]
                     ) -> Node:
    (x,) = inputs
    dims = (0, *(d + 1 for d in node.attrs["dims"]))
    return b.broadcast_in_dim(x, shape=(x.shape[0], *node.shape), dims=dims)


def _batch_slice(b: Builder, node: Node, inputs: Sequence[Node], batched: Sequence[bool]) -> Node:
    (x,), a = inputs, node.attrs
    return b.slice(x, start=(0, *a["start"]), limit=(x.shape[0], *a["limit"]),
                   stride=(1, *a["stride"]))


def _batch_pad(b: Builder, node: Node, inputs: Sequence[Node], batched: Sequence[bool]) -> Node:
    x, value = inputs
    size = (x if batched[0] else value).shape[0]
    if not batched[0]:
        x = b.broadcast(x, (size, *x.shape), range(1, len(x.shape) + 1))
    low, high = (0, *node.attrs["low"]), (0, *node.attrs["high"])
    if not batched[1]:
        return b.pad(x, value, low=low, high=high)
    inside = b.pad(b.broadcast(b.scalar(True, "bool"), x.shape, ()), b.scalar(False, "bool"),
                   low=low, high=high)
    padded = b.pad(x, b.constant(np.zeros((), x.dtype.numpy)), low=low, high=high)
    return b.select(inside, padded, b.broadcast(value, padded.shape, (0,)))


def _batch_concatenate(b: Builder, node: Node, inputs: Sequence[Node], batched: Sequence[bool]
                       ) -> Node:
    size = next(x.shape[0] for x, is_ in zip(inputs, batched) if is_)
    xs = [x if is_ else b.broadcast(x, (size, *x.shape), range(1, len(x.shape) + 1))
          for x, is_ in zip(inputs, batched)]
    return b.concatenate(*xs, axis=node.attrs["axis"] + 1)


BATCHES = {
    "broadcast_in_dim": _batch_broadcast,
    "reshape": lambda b, node, inputs, batched:
        b.reshape(inputs[0], (inputs[0].shape[0], *node.shape)),
    "transpose": lambda b, node, inputs, batched:
        b.transpose(inputs[0], perm=(0, *(p + 1 for p in node.attrs["perm"]))),
    "reverse": lambda b, node, inputs, batched:
        b.reverse(inputs[0], axes=tuple(a + 1 for a in node.attrs["axes"])),
    "slice": _batch_slice,
    "pad": _batch_pad,
    "concatenate": _batch_concatenate,
}
