"""Recognising contractions: kernels that combine `body(left[b, m, k], right[b, k, n])` over k.

A contraction's rows have an axis m and an axis n such that no element read by the reduced value
depends on both. What depends on n alone can be packed into panels and read as vectors, what
depends on m alone is broadcast, and every element read is used once for each element of the other
side: a matrix product, but also distances, kernels of Gaussian processes, boolean products. Where
the sum runs over several axes that do not lie behind one another, as over the windows of a
convolution, k is the innermost of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from math import prod

from weft.compiler.kernel.expr import Expr, index_values, walk
from weft.compiler.kernel.flatten import flatten
from weft.compiler.kernel.index import Axis, Index
from weft.compiler.kernel.ir import Kernel, Reduce, Store
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import Dim, DType, Size

__all__ = ["Form", "Leaf", "recognise"]

_OPS = frozenset({"sum", "or"})
FEW_ROWS = 6      # a tile has about so many rows: an axis with more is as good as any


@dataclass(frozen=True)
class Leaf:
    """A part of the reduced value that belongs to one side: as large as possible."""

    expr: Expr

    @cached_property
    def load(self) -> Expr | None:
        """The element read, if conversions are all that is done to it."""
        e = self.expr
        while e.kind == "apply" and e.what == "convert":
            (e,) = e.args
        plain = e.kind == "load" and not e.args and not any(map(index_values, e.index))
        return e if plain else None

    def step(self, axis: Axis | None) -> int | None:
        """By how many elements the address moves along an axis; None if not by a known number."""
        if axis is None:
            return 0
        if self.load is None:
            return None
        step = self.load.index[0].coefficient(axis)
        return None if isinstance(step, Size) else step

    @property
    def planes(self) -> int:
        """Real numbers that a value consists of."""
        return 2 if self.expr.dtype.is_complex else 1


@dataclass(frozen=True)
class Form:
    """A contraction over `k`, and the axes `outer` around it, of a flattened kernel. `m` is None
    for one row (a vector times a matrix). `middle` are the parts that depend on neither m nor n.
    """

    kernel: Kernel
    batch: tuple[Axis, ...]
    m: Axis | None
    n: Axis
    outer: tuple[Axis, ...]
    k: Axis
    reduce: Reduce
    stores: tuple[Store, ...]
    left: tuple[Leaf, ...]
    right: tuple[Leaf, ...]
    middle: tuple[Leaf, ...]

    @property
    def rows(self) -> Dim:
        """Extent of m."""
        return 1 if self.m is None else _dim(self.m)

    @property
    def columns(self) -> int:
        """Extent of n."""
        return _number(self.n)

    @property
    def depth(self) -> int:
        """Extent of k."""
        return _number(self.k)

    @property
    def nest(self) -> tuple[Axis, ...]:
        """All axes of the sum, the innermost last."""
        return (*self.outer, self.k)

    @property
    def turns(self) -> int:
        """Terms of the sum."""
        return prod(map(_number, self.nest))

    @cached_property
    def lines(self) -> tuple[Axis, ...]:
        """Axes of the batch that the right side does not depend on: there the same columns meet
        other rows."""
        if self.m is None:
            return ()
        used = frozenset().union(*(x.expr.axes for x in self.right))
        return tuple(a for a in self.batch if a not in used)

    @cached_property
    def apart(self) -> tuple[Axis, ...]:
        """The rest of the batch."""
        return tuple(a for a in self.batch if a not in self.lines)

    @property
    def dtype(self) -> DType:
        """The accumulator's type."""
        return self.reduce.dtype

    @cached_property
    def leaves(self) -> frozenset[Expr]:
        """The expressions of all leaves."""
        return frozenset(x.expr for x in (*self.left, *self.right, *self.middle))

    @cached_property
    def inner(self) -> list[Expr]:
        """What is computed for every (m, n, k), operands first."""
        return inner_exprs(self.reduce.value, self.leaves)


def _dim(axis: Axis) -> Dim:
    assert not isinstance(axis.extent, Index)
    return axis.extent


def _number(axis: Axis) -> int:
    assert isinstance(axis.extent, int)
    return axis.extent


def inner_exprs(root: Expr, leaves: Iterable[Expr]) -> list[Expr]:
    """The expressions above the leaves, every one after its operands."""
    below = frozenset(x for leaf in leaves for x in walk(leaf)) - {root}
    return [e for e in walk(root) if e not in below and e.kind != "const"]


def recognise(kernel: Kernel) -> Form | None:
    """The kernel as a contraction, or None if it is not one."""
    kernel = flatten(kernel)
    found = _stages(kernel)
    if found is None:
        return None
    reduce, nest, stores = found
    n, k = kernel.axes[-1], nest[-1]
    if not all(isinstance(a.extent, int) for a in (n, *nest)):
        return None
    m = _row_axis(kernel.axes[:-1], n, reduce.value)
    sides = _sides(reduce.value, m, n, k)
    if sides is None or (m is None and len(nest) > 1):
        return None
    left, right, middle = sides
    if not right or not all(any(a in x.expr.axes for x in side) for a in nest
                            for side in ((*left, *middle), right)):
        return None
    batch = tuple(a for a in kernel.axes[:-1] if a != m)
    return Form(kernel, batch, m, n, nest[:-1], k, reduce, stores, left, right, middle)


def _stages(kernel: Kernel) -> tuple[Reduce, tuple[Axis, ...], tuple[Store, ...]] | None:
    """The reduction, its axes and the stores behind it, of a kernel that has just these."""
    if len(kernel.stages) != 2 or kernel.scratch or not kernel.axes:
        return None
    first, last = kernel.stages
    if not first.axes or len(first.reduces) != 1 or first.stores or first.checks:
        return None
    if last.axes or last.reduces or last.checks or not last.stores:
        return None
    axes = (*kernel.axes, *first.axes)
    if any(isinstance(a.extent, Index) for a in axes) or first.reduces[0].op not in _OPS:
        return None
    return first.reduces[0], first.axes, last.stores


def _row_axis(axes: tuple[Axis, ...], n: Axis, body: Expr) -> Axis | None:
    """Of the axes on which nothing depends that depends on n, the last that fills a tile."""
    loads = [e for e in walk(body) if e.kind in ("load", "index")]
    free = [a for a in axes if any(a in e.axes for e in loads)
            and not any(a in e.axes and n in e.axes for e in loads)]
    return max(reversed(free), default=None, key=lambda a: min(
        a.extent if isinstance(a.extent, int) else FEW_ROWS, FEW_ROWS))


def _sides(body: Expr, m: Axis | None, n: Axis, k: Axis
           ) -> tuple[tuple[Leaf, ...], tuple[Leaf, ...], tuple[Leaf, ...]] | None:
    """The leaves (left, right, middle) of the reduced value."""
    sides: tuple[dict[Leaf, None], ...] = ({}, {}, {})
    stack = [body]
    while stack:
        e = stack.pop()
        if e.kind == "const":
            continue
        on_m, on_n = m is not None and m in e.axes, n in e.axes
        if not (on_m and on_n) and not (m is None and _is_mixed(e, n, k)):
            sides[0 if on_m else 1 if on_n else 2][Leaf(e)] = None
        elif e.kind == "apply":
            stack.extend(e.args)
        else:
            return None
    left, right, middle = map(tuple, sides)
    return left, right, middle


def _is_mixed(e: Expr, n: Axis, k: Axis) -> bool:
    """Whether parts that n does not change, but k does, are combined with others that it changes.

    With one row these take the left side's place.
    """
    loads = [x for x in walk(e) if x.kind == "load"]
    return n in e.axes and any(n not in x.axes and k in x.axes for x in loads)
