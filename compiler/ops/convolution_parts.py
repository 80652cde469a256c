"""How a convolution is composed of other ops, transposed and batched.

Composition: the left side is padded (and put into an order with the spatial axes outside the
features), seen through a window, and contracted with the weights. The padded copy is one trip
through memory; windows of it need no bounds and are read in place. Where zeros stand between the
left side's elements (a strided convolution's transpose) they are not multiplied: every phase of the
result is a convolution of its own.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from itertools import product
from math import gcd, prod
from typing import Any

from weft.compiler.build import Builder
from weft.compiler.ir import Node
from weft.compiler.ops.convolution import Labels, labels_of
from weft.compiler.ops.windows import crop, dilated, padded, span
from weft.compiler.types import DTYPES, Dim, numel

__all__ = ["batch", "decompose", "transpose"]

_F32 = DTYPES["f32"]
FEW_TAPS = 32      # of a channel by itself up to which their sum is written out


def _permuted(b: Builder, x: Node, source: str, wanted: str) -> Node:
    """The axes named by `source`, in the order `wanted`."""
    perm = tuple(source.index(c) for c in wanted)
    return x if perm == tuple(range(len(perm))) else b.transpose(x, perm=perm)


# ---- composition

def decompose(b: Builder, node: Node) -> Node:
    """The convolution in other ops."""
    x, w = node.inputs
    dtype = node.dtype
    if dtype.is_float and dtype.itemsize == 2:       # sums are kept in float32, rounded once
        wide = b.conv(b.convert(x, _F32), b.convert(w, _F32), **node.attrs)
        return b.convert(wide, dtype)
    if numel(node.shape) == 0 or numel(x.shape) == 0 or numel(w.shape) == 0:
        return b.broadcast(b.scalar(0, dtype), node.shape)
    if any(d > 1 for d in node.attrs["lhs_dilation"]) and _has_phases(node):
        return _phases(b, node)
    return _Parts(b, node).result()


class _Parts:
    """One convolution without spread-out input, or with zeros in it where that cannot be helped."""

    def __init__(self, b: Builder, node: Node) -> None:
        self.b, self.node, self.attrs = b, node, node.attrs
        self.labels = labels_of(node.attrs["dim_labels"])
        self.spatial = self.labels.spatial
        self.n = len(self.spatial)
        self.groups, self.batch_groups = node.attrs["groups"], node.attrs["batch_groups"]

    def result(self) -> Node:
        """The node that stands for the convolution."""
        labels = self.labels
        x, w = self.node.inputs
        o = w.shape[labels.rhs.index("o")]
        b_size = x.shape[labels.lhs.index("b")]
        alone = w.shape[labels.rhs.index("i")] == 1 if self.groups > 1 else \
            b_size == self.batch_groups
        if self.groups == self.batch_groups == 1:
            return self._plain()
        if alone and o == max(self.groups, self.batch_groups):
            few = self.groups > 1 and all(isinstance(n, int) for n in self._size()) \
                and prod(self._size()) <= FEW_TAPS
            return self._taps() if few else self._each_channel()
        return self._grouped()

    # ---- operands

    def _order(self) -> str:
        """The left side's axes as the window wants them: spatial axes inside the outer one of
        b and f, the other one innermost."""
        first, second = sorted("bf", key=self.labels.lhs.index)
        return first + self.spatial + second

    def _windows(self, order: str) -> tuple[Node, str]:
        """The window of the padded left side, which is stored for it, and its axes (capital
        letters are the kernel's)."""
        whole = self._stored(order)
        view = self.b.window(whole, axes=tuple(order.index(c) for c in self.spatial),
                             size=self._size(), stride=self.attrs["strides"],
                             dilation=self.attrs["rhs_dilation"])
        return view, order + "".join(map(_kernel, self.spatial))

    def _size(self) -> tuple[Any, ...]:
        """The kernel's extents."""
        return tuple(self.node.inputs[1].shape[self.labels.rhs.index(c)] for c in self.spatial)

    def _stored(self, order: str) -> Node:
        """The left side in this order, with its padding."""
        b, a, x = self.b, self.attrs, self.node.inputs[0]
        x = _permuted(b, x, self.labels.lhs, order)
        axes = tuple(order.index(c) for c in self.spatial)
        inside = dilated(b, x, axes, a["lhs_dilation"])
        whole = padded(b, inside, b.scalar(0, x.dtype), axes, a["padding"])
        return b.copy(whole) if whole is not x or order != self.labels.lhs else whole

    def _weights(self, order: str) -> Node:
        """The weights with their axes in this order, in memory too."""
        w, source = self.node.inputs[1], self.labels.rhs
        moved = _permuted(self.b, w, source, order)
        return moved if order == source else self.b.copy(moved)

    def _out(self, x: Node, have: str) -> Node:
        """The result in its own order of axes, stored first in the order in which it is made."""
        return x if have == self.labels.out else _permuted(self.b, self.b.copy(x), have,
                                                           self.labels.out)

    # ---- the three ways

    def _plain(self) -> Node:
        """A contraction over the kernel's axes and the features, in the left side's order."""
        order = self._order()
        view, axes = self._windows(order)
        summed = "".join(c for c in order if c != "b")
        w = self._weights(summed.replace("f", "i") + "o")
        free = "".join(c for c in self.labels.out if c != "f")
        view = _permuted(self.b, view, axes, free + "".join(map(_kernel, summed)))
        over = tuple(range(len(free), len(free) + len(summed)))
        out = self.b.dot_general(view, w, contract=(over, tuple(range(len(summed)))),
                                 batch=((), ()))
        return self._out(out, free + "f")

    def _each_channel(self) -> Node:
        """Every channel by itself: products added up in loops, the layout being what it is."""
        b, order = self.b, self.labels.lhs
        view, axes = self._windows(order)
        channel, gone = ("f", "") if self.groups > 1 else ("b", "f")
        w, source = self.node.inputs[1], self.labels.rhs
        kernel = "".join(map(_kernel, self.spatial))
        names = {**dict(zip(self.spatial, kernel)), "o": channel, "i": "f" if gone else ""}
        if not gone:
            w = b.reshape(w, tuple(d for d, c in zip(w.shape, source) if c != "i"))
        have = "".join(names[c] for c in source)
        wanted = "".join(c for c in axes if c in have)
        w = _permuted(b, w, have, wanted)
        wide = b.broadcast(w, view.shape, [axes.index(c) for c in wanted])
        over = tuple(i for i, c in enumerate(axes) if c in kernel + gone)
        out = b.reduce_sum(b.mul(view, wide), axes=over)
        left = "".join(c for c in axes if c not in kernel + gone)
        if gone:                                    # the batch has become the channels
            out = b.reshape(out, (*out.shape, 1))
            return self._out(out, left.replace("b", "f") + "b")
        return self._out(out, left)

    def _taps(self) -> Node:
        """Every channel by itself, with few taps: their sum written out, in one pass."""
        b, a, order = self.b, self.attrs, self.labels.lhs
        x, (w, source) = self._stored(order), (self.node.inputs[1], self.labels.rhs)
        shape = tuple(self.node.shape[self.labels.out.index(c)] for c in order)
        total: Node | None = None
        for at in product(*map(range, self._size())):
            start, limit, stride = [0] * len(order), list(x.shape), [1] * len(order)
            first, end = [0] * len(source), list(w.shape)
            for c, k, s, d in zip(self.spatial, at, a["strides"], a["rhs_dilation"]):
                i, j = order.index(c), source.index(c)
                start[i], stride[i] = k * d, s
                limit[i] = k * d + (shape[i] - 1) * s + 1
                first[j], end[j] = k, k + 1
            tap = b.slice(x, start=tuple(start), limit=tuple(limit), stride=tuple(stride))
            one = b.slice(w, start=tuple(first), limit=tuple(end), stride=(1,) * len(first))
            weight = b.broadcast(b.reshape(one, (self.groups,)), shape, (order.index("f"),))
            term = b.mul(tap, weight)
            total = term if total is None else b.add("add", total, term)
        assert total is not None
        return self._out(total, order)

    def _grouped(self) -> Node:
        """Contractions side by side, one for every group of channels or of the batch."""
        b, order = self.b, self._order()
        view, axes = self._windows(order)
        split = "f" if self.groups > 1 else "b"
        groups = max(self.groups, self.batch_groups)
        view, axes = _split(b, view, axes, split, groups)
        summed = "".join(c for c in order if c != "b")
        weights = self._weights(summed.replace("f", "i") + "o")
        w, names = _split(b, weights, summed.replace("f", "i") + "o", "o", groups)
        over = [_kernel(c) if c.isdigit() else c for c in summed]
        mine = [c if c.isdigit() else "i" for c in summed]
        out = b.dot_general(
            view, w, contract=(tuple(map(axes.index, over)), tuple(map(names.index, mine))),
            batch=((axes.index("g"),), (names.index("g"),)))
        have = "g" + "".join(c for c in axes if c not in (*over, "g")) + "o"
        want = self.labels.out.replace("f", "go")
        out = _permuted(b, out, have, want)
        at = want.index("g")
        shape = (*out.shape[:at], out.shape[at] * out.shape[at + 1], *out.shape[at + 2:])
        return b.reshape(out, shape)


def _kernel(c: str) -> str:
    """The name of the kernel's axis that belongs to a spatial one; letters stand for themselves."""
    return chr(ord("A") + int(c)) if c.isdigit() else c


def _split(b: Builder, x: Node, axes: str, name: str, groups: int) -> tuple[Node, str]:
    """An axis taken apart into groups, named g, and what each has."""
    at = axes.index(name)
    shape = (*x.shape[:at], groups, x.shape[at] // groups, *x.shape[at + 1:])
    return b.reshape(x, shape), axes[:at] + "g" + axes[at:]


# ---- phases

def _has_phases(node: Node) -> bool:
    """Whether strides are 1 where the left side is spread out, and all sizes known."""
    a = node.attrs
    return all(d == 1 or s == 1 for d, s in zip(a["lhs_dilation"], a["strides"])) and all(
        isinstance(n, int) for x in (*node.inputs, node) for n in x.shape)


def _phases(b: Builder, node: Node) -> Node:
    """A convolution for each remainder of the result's position by the left side's dilation.

    At position p = d*u + r, tap k meets an element (and not a zero between elements) where
    r + k*e - lo is a multiple of d, for kernel dilation e: every d/gcd(d, e)-th tap.
    """
    labels = labels_of(node.attrs["dim_labels"])
    if labels.out[-1].isdigit() or labels.lhs[-1].isdigit():
        # whole runs of channels are read, and put together
        order, (x, w) = f"b{labels.spatial}f", node.inputs
        left = order if labels.lhs[-1].isdigit() else labels.lhs
        x = x if left == labels.lhs else b.copy(_permuted(b, x, labels.lhs, left))
        inside = b.conv(x, w, **{**node.attrs, "dim_labels": Labels(
            left, labels.rhs, order).text()})
        return _permuted(b, b.copy(inside), order, labels.out)
    spread = node.attrs["lhs_dilation"]
    size = [node.shape[labels.out.index(c)] for c in labels.spatial]
    counts = [-(-n // d) for n, d in zip(size, spread)]
    parts = [_phase(b, node, labels, r, counts) for r in product(*map(range, spread))]
    n, rank = len(spread), len(node.shape)
    whole = b.concatenate(*(b.reshape(p, (1, *p.shape)) for p in parts), axis=0) \
        if len(parts) > 1 else b.reshape(parts[0], (1, *parts[0].shape))
    whole = b.reshape(whole, (*spread, *whole.shape[1:]))
    perm: list[int] = []
    for i, c in enumerate(labels.out):
        perm += [n + i, int(c)] if c.isdigit() else [n + i]
    whole = b.transpose(whole, perm=tuple(perm))
    shape = [counts[int(c)] * spread[int(c)] if c.isdigit() else node.shape[i]
             for i, c in enumerate(labels.out)]
    whole = b.reshape(whole, tuple(shape))
    for i in range(rank):
        whole = crop(b, whole, i, 0, node.shape[i])
    return whole


def _phase(b: Builder, node: Node, labels: Labels, at: Sequence[int], counts: Sequence[int]
           ) -> Node:
    """The elements of the result at positions with these remainders."""
    x, w = node.inputs
    a = dict(node.attrs)
    padding, dilation = [], []
    start, limit, stride = [0] * len(w.shape), list(w.shape), [1] * len(w.shape)
    for j, c in enumerate(labels.spatial):
        d, e, (lo, hi) = a["lhs_dilation"][j], a["rhs_dilation"][j], a["padding"][j]
        axis, n = labels.rhs.index(c), x.shape[labels.lhs.index(c)]
        step = d // gcd(d, e)
        first = next((k for k in range(step) if (at[j] + k * e - lo) % d == 0), None)
        taps = 0 if first is None else max(0, -(-(w.shape[axis] - first) // step))
        if first is None or taps == 0:
            shape = tuple(counts[int(c)] if c.isdigit() else node.shape[i]
                          for i, c in enumerate(labels.out))
            return b.broadcast(b.scalar(0, node.dtype), shape)
        start[axis], stride[axis] = first, step
        apart = e * step // d
        low = -((at[j] + first * e - lo) // d)
        padding.append((low, counts[j] + span(taps, apart) - 1 - low - n))
        dilation.append(apart)
        # (a strided axis has no dilation, so it has one phase: all of it)
        if a["strides"][j] > 1:
            padding[-1], dilation[-1] = (lo, hi), e
    a.update(padding=tuple(padding), rhs_dilation=tuple(dilation),
             lhs_dilation=(1,) * len(padding))
    if any(start) or any(s > 1 for s in stride):
        w = b.slice(w, start=tuple(start), limit=tuple(limit), stride=tuple(stride))
    return b.conv(x, w, **a)


# ---- transposition

def transpose(b: Builder, node: Node, ct: Node, wanted: Set[int]) -> list[Any]:
    """The cotangents of the left side and of the weights."""
    return [_lhs(b, node, ct) if 0 in wanted else None,
            _rhs(b, node, ct) if 1 in wanted else None]


def _reach(size: Dim, dilation: int) -> Any:
    return 0 if size == 0 else span(size, dilation)


def _regrouped(b: Builder, x: Node, axes: str, source: str, target: str, groups: int) -> Node:
    """`groups` of the axis `source` made the outer part of the axis `target`."""
    x, names = _split(b, x, axes, source, groups)
    order = [c for c in names if c != "g"]
    order.insert(order.index(target), "g")
    x = _permuted(b, x, names, "".join(order))
    at = order.index("g")
    return b.reshape(x, (*x.shape[:at], x.shape[at] * x.shape[at + 1], *x.shape[at + 2:]))


def _lhs(b: Builder, node: Node, ct: Node) -> Node:
    """The convolution of the cotangent, its elements spread by the strides, with the weights
    turned round."""
    (x, w), a = node.inputs, node.attrs
    labels = labels_of(a["dim_labels"])
    groups, batch_groups = a["groups"], a["batch_groups"]
    if groups > 1:
        w = _regrouped(b, w, labels.rhs, "o", "i", groups)
    if batch_groups > 1:        # each group of channels gives its part of the batch
        w = _regrouped(b, w, labels.rhs, "o", "i", batch_groups)
    turned = tuple(i for i, c in enumerate(labels.rhs) if c.isdigit())
    w = b.reverse(w, axes=turned) if turned else w
    padding = []
    for j, c in enumerate(labels.spatial):
        n, k = x.shape[labels.lhs.index(c)], w.shape[labels.rhs.index(c)]
        reach = _reach(k, a["rhs_dilation"][j])
        before = reach - a["padding"][j][0] - 1
        after = _reach(n, a["lhs_dilation"][j]) + reach - 1 \
            - _reach(ct.shape[labels.out.index(c)], a["strides"][j]) - before
        padding.append((before, after))
    exchanged = labels.rhs.translate(str.maketrans("io", "oi"))
    out = b.conv(ct, w, strides=a["lhs_dilation"], padding=tuple(padding),
                 lhs_dilation=a["strides"], rhs_dilation=a["rhs_dilation"],
                 dim_labels=Labels(labels.out, exchanged, labels.lhs).text(),
                 groups=max(groups, batch_groups), batch_groups=1)
    if batch_groups > 1:
        out = _regrouped(b, out, labels.lhs, "f", "b", batch_groups)
    return out


def _rhs(b: Builder, node: Node, ct: Node) -> Node:
    """The convolution of the left side with the cotangent: features are its batch, the batch its
    features."""
    (x, w), a = node.inputs, node.attrs
    labels = labels_of(a["dim_labels"])
    padding = []
    for j, c in enumerate(labels.spatial):
        n, k = x.shape[labels.lhs.index(c)], w.shape[labels.rhs.index(c)]
        reach, low = _reach(k, a["rhs_dilation"][j]), a["padding"][j][0]
        out = _reach(ct.shape[labels.out.index(c)], a["strides"][j])
        padding.append((low, out - _reach(n, a["lhs_dilation"][j]) + reach - low - 1))
    mine = labels.lhs.translate(str.maketrans("bf", "fb"))
    theirs = labels.out.translate(str.maketrans("bf", "io"))
    result = labels.rhs.translate(str.maketrans("io", "bf"))
    return b.conv(x, ct, strides=a["rhs_dilation"], padding=tuple(padding),
                  lhs_dilation=a["lhs_dilation"], rhs_dilation=a["strides"],
                  dim_labels=Labels(mine, theirs, result).text(), groups=a["batch_groups"],
                  batch_groups=a["groups"])


# ---- batching

def _merged(b: Builder, x: Node, axes: str, into: str, groups: int = 1, inside: bool = False
            ) -> Node:
    """The new first axis made part of an axis: outside of its groups, or inside of each."""
    if not inside:
        order = axes.replace(into, "N" + into)
        x = _permuted(b, x, "N" + axes, order)
        at = order.index("N")
        return b.reshape(x, (*x.shape[:at], x.shape[at] * x.shape[at + 1], *x.shape[at + 2:]))
    x, names = _split(b, x, "N" + axes, into, groups)
    order = axes.replace(into, "gN" + into)
    x = _permuted(b, x, names, order)
    at = order.index("g")
    size = x.shape[at] * x.shape[at + 1] * x.shape[at + 2]
    return b.reshape(x, (*x.shape[:at], size, *x.shape[at + 3:]))


def _taken(b: Builder, out: Node, axes: str, source: str, count: Any, groups: int = 1) -> Node:
    """What `_merged` has made, undone: the batched axis is the first again."""
    at = axes.index(source)
    inner = out.shape[at] // (count * groups)
    parts = (groups, count, inner) if groups > 1 else (count, inner)
    x = b.reshape(out, (*out.shape[:at], *parts, *out.shape[at + 1:]))
    if groups == 1:
        return _permuted(b, x, axes.replace(source, "N" + source), "N" + axes)
    order = axes.replace(source, "gN" + source)
    x = _permuted(b, x, order, "N" + axes.replace(source, "g" + source))
    shape = (count, *out.shape[:at], groups * inner, *out.shape[at + 1:])
    return b.reshape(x, shape)


def batch(b: Builder, node: Node, inputs: Sequence[Node], batched: Sequence[bool]) -> Node:
    """Batched left sides join the batch, batched weights the output channels; where both are,
    each pair is a group."""
    (x, w), a = inputs, dict(node.attrs)
    labels = labels_of(a["dim_labels"])
    groups, batch_groups = a["groups"], a["batch_groups"]
    if all(batched):
        count = x.shape[0]
        name, key = ("b", "batch_groups") if batch_groups > 1 else ("f", "groups")
        a[key] = a[key] * count
        out = b.conv(_merged(b, x, labels.lhs, name), _merged(b, w, labels.rhs, "o"), **a)
        return _taken(b, out, labels.out, "f", count)
    if batched[0]:
        count, inside = x.shape[0], batch_groups > 1
        x = _merged(b, x, labels.lhs, "b", batch_groups, inside)
        return _taken(b, b.conv(x, w, **a), labels.out, "b", count)
    count, g = w.shape[0], max(groups, batch_groups)
    w = _merged(b, w, labels.rhs, "o", g, g > 1)
    return _taken(b, b.conv(x, w, **a), labels.out, "f", count, g)
