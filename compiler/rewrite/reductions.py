"""Rules of reductions, scans, sorts and contractions.

Those marked inexact keep the accuracy of a sum but may add in another order.
"""

from __future__ import annotations

from collections.abc import Sequence

from weft.compiler.ir import Node
from weft.compiler.rewrite.driver import Rewriter, Rule, rule
from weft.compiler.rewrite.match import is_op, reshape_groups, without
from weft.compiler.types import DTYPES, Dim

__all__ = ["RULES"]

RULES: list[Rule] = []

_ANY_ORDER = ("reduce_max", "reduce_min", "reduce_and", "reduce_or")
_REDUCTIONS = (*_ANY_ORDER, "reduce_sum", "reduce_prod")
_EMPTY = {"reduce_sum": 0, "reduce_prod": 1, "reduce_and": True, "reduce_or": False}


def _units(x: Node, axes: Sequence[int]) -> bool:
    return all(x.shape[a] == 1 for a in axes)


@rule(RULES, "reduce(x) over axes of size 1 → reshape(x), and + 0.0 for a sum of floats (as NumPy "
      "sums: from 0.0, so that -0.0 gives 0.0)", *_REDUCTIONS)
def _reduce_units(n: Node, b: Rewriter) -> Node | None:
    (x,), axes = n.inputs, n.attrs["axes"]
    if not _units(x, axes) or (n.opname == "reduce_prod" and n.dtype.is_complex):
        return None  # a complex product starts from 1 + 0j, which times infinity is NaN
    if n.opname == "reduce_sum" and n.dtype.is_inexact:
        x = b.add("add", x, b.scalar(0, n.dtype))
    return b.reshape(x, n.shape)


@rule(RULES, "reduce(x) over no elements → the neutral element", *_EMPTY)
def _reduce_nothing(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    return b.fill(n, _EMPTY[n.opname]) if 0 in x.shape and 0 not in n.shape else None


@rule(RULES, "max(max(x)) → max(x) over both axes; and so for min, and, or", *_ANY_ORDER,
      on=_ANY_ORDER)
def _reduce_twice(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    if not is_op(x, n.opname):
        return None
    source, inner = x.inputs[0], x.attrs["axes"]
    left = without(range(source.tensor.rank), inner)
    axes = tuple(sorted((*inner, *(left[a] for a in n.attrs["axes"]))))
    return b.add(n.opname, source, axes=axes)


@rule(RULES, "max(broadcast(x)) over repeated axes → max(x) over the others; so for min, and, or",
      *_ANY_ORDER, on=("broadcast_in_dim",))
def _reduce_repeated(n: Node, b: Rewriter) -> Node | None:
    (x,), axes = n.inputs, n.attrs["axes"]
    if not is_op(x, "broadcast_in_dim"):
        return None
    source, dims = x.inputs[0], x.attrs["dims"]
    sizes = [x.shape[a] for a in axes if a not in dims]
    if not sizes or not all(isinstance(d, int) and d > 0 for d in sizes):
        return None
    gone = [a for a in axes if a not in dims]
    shape = without(x.shape, gone)
    inner = b.broadcast(source, shape, [d - sum(g < d for g in gone) for d in dims])
    left = tuple(a - sum(g < a for g in gone) for a in axes if a in dims)
    return b.add(n.opname, inner, axes=left) if left else inner


def _reduce_of_transpose(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    if not is_op(x, "transpose"):
        return None
    perm = x.attrs["perm"]
    axes = tuple(sorted(perm[a] for a in n.attrs["axes"]))
    inner = b.add(n.opname, x.inputs[0], axes=axes)
    left = without(perm, n.attrs["axes"])
    order = tuple(sorted(left).index(p) for p in left)
    return inner if order == tuple(range(len(order))) else b.add("transpose", inner, perm=order)


def _reduce_of_reshape(n: Node, b: Rewriter) -> Node | None:
    (x,), reduced = n.inputs, n.attrs["axes"]
    groups = reshape_groups(x.inputs[0].shape, x.shape) if is_op(x, "reshape") else None
    if groups is None:
        return None
    axes: list[int] = []
    left: list[Dim] = []
    for src, dst in groups:
        within = [a in reduced for a in dst]
        if any(within) and not all(within):
            return None
        if all(within) and (dst or _units(x.inputs[0], src)):
            axes += src
        else:
            left += [x.inputs[0].shape[a] for a in src]
    inner = b.add(n.opname, x.inputs[0], axes=tuple(axes))
    return b.reshape(inner, n.shape)


for _ops, _exact in ((_ANY_ORDER, True), (("reduce_sum", "reduce_prod"), False)):
    _kind = "" if _exact else "sum_"
    RULES += [
        Rule(f"{_kind}reduce_of_transpose", "reduce(transpose(x)) → transpose(reduce(x))", _ops,
             _reduce_of_transpose, on=("transpose",), exact=_exact),
        Rule(f"{_kind}reduce_of_reshape", "reduce(reshape(x)) → reshape(reduce(x)), where each "
             "group of axes is reduced as a whole or not at all", _ops, _reduce_of_reshape,
             on=("reshape",), exact=_exact),
    ]


# --------------------------------------------------------------------------- scans, sorts

@rule(RULES, "a running reduction or sort along an axis of size 1 → x", "cumsum", "cumprod",
      "cummax", "cummin", "sort")
def _along_one(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    return x if x.shape[n.attrs["axis"]] == 1 else None


@rule(RULES, "argmax, argmin, argsort along an axis of size 1 → 0", "argmax", "argmin", "argsort")
def _index_along_one(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    return b.fill(n, 0) if x.shape[n.attrs["axis"]] == 1 else None


# --------------------------------------------------------------------------- contractions

@rule(RULES, "dot(x, y) over nothing → 0", "dot_general")
def _dot_of_nothing(n: Node, b: Rewriter) -> Node | None:
    x, (cx, _) = n.inputs[0], n.attrs["contract"]
    return b.fill(n, 0) if any(x.shape[a] == 0 for a in cx) else None


def _lined_up(b: Rewriter, x: Node, batch: Sequence[int], contract: Sequence[int]) -> Node:
    """The operand with its batch axes first and the contracted ones, of size 1, gone."""
    free = without(range(x.tensor.rank), (*batch, *contract))
    perm = (*batch, *free, *contract)
    x = b.add("transpose", x, perm=perm)
    return b.reshape(x, x.shape[:len(batch) + len(free)])


@rule(RULES, "dot(x, y) over axes of size 1 → x * y + 0.0, repeated to each other's free axes (an "
      "outer product; sums start from 0.0)", "dot_general")
def _dot_is_product(n: Node, b: Rewriter) -> Node | None:
    x, y = n.inputs
    (cx, cy), (bx, by) = n.attrs["contract"], n.attrs["batch"]
    if not _units(x, cx) or n.dtype.kind not in ("int", "uint", "float"):
        return None
    wide = DTYPES["f32"] if n.dtype.name in ("f16", "bf16") else n.dtype  # as dot rounds: once
    x, y = (_lined_up(b, b.convert(v, wide), *axes) for v, axes in ((x, (bx, cx)), (y, (by, cy))))
    batch, rank = len(bx), n.tensor.rank
    free_y = y.tensor.rank - batch
    x = b.broadcast(x, n.shape, range(x.tensor.rank))
    y = b.broadcast(y, n.shape, (*range(batch), *range(rank - free_y, rank)))
    product = b.add("mul", x, y)
    if wide.is_float:
        product = b.add("add", product, b.scalar(0, wide))
    return b.convert(product, n.dtype)


def _absorbed(x: Node, contract: Sequence[int], batch: Sequence[int]
              ) -> tuple[Node, tuple[int, ...], tuple[int, ...]] | None:
    """The operand below a transpose, with the axes renamed; None if the free axes would swap."""
    if not is_op(x, "transpose"):
        return None
    perm = x.attrs["perm"]
    free = without(perm, (*contract, *batch))
    if list(free) != sorted(free):
        return None
    return x.inputs[0], tuple(perm[a] for a in contract), tuple(perm[a] for a in batch)


@rule(RULES, "dot(transpose(x), y) → dot(x, y) over the axes as x names them; and so for y",
      "dot_general", on=("transpose",), exact=False)
def _dot_of_transpose(n: Node, b: Rewriter) -> Node | None:
    x, y = n.inputs
    (cx, cy), (bx, by) = n.attrs["contract"], n.attrs["batch"]
    found, other = _absorbed(x, cx, bx), _absorbed(y, cy, by)
    if found is None and other is None:
        return None
    x, cx, bx = found or (x, cx, bx)
    y, cy, by = other or (y, cy, by)
    return b.add("dot_general", x, y, contract=(tuple(cx), tuple(cy)), batch=(tuple(bx), tuple(by)))


@rule(RULES, "dot(x, broadcast(w)) batched over axes that w lacks → dot(x, w), not batched there",
      "dot_general", on=("broadcast_in_dim",), exact=False)
def _dot_of_broadcast(n: Node, b: Rewriter) -> Node | None:
    x, y = n.inputs
    (cx, cy), (bx, by) = n.attrs["contract"], n.attrs["batch"]
    if not is_op(y, "broadcast_in_dim") or not by:
        return None
    source, dims = y.inputs[0], y.attrs["dims"]
    if any(source.shape[i] != y.shape[d] for i, d in enumerate(dims)):
        return None
    if not all(a in dims or a in by for a in range(y.tensor.rank)):
        return None  # an axis that is contracted or free is repeated too: leave it
    pairs = [(i, j) for i, j in zip(bx, by) if j in dims]
    kept = [i for i, _ in pairs]
    order = [*kept, *without(range(x.tensor.rank), (*cx, *kept))]
    if order != [*bx, *without(range(x.tensor.rank), (*cx, *bx))] or len(pairs) == len(by):
        return None
    return b.add("dot_general", x, source, contract=(tuple(cx), tuple(dims.index(a) for a in cy)),
                 batch=(tuple(kept), tuple(dims.index(j) for _, j in pairs)))


@rule(RULES, "transpose(dot(x, y)) → dot(y, x), where it exchanges the two groups of free axes",
      "transpose", on=("dot_general",), exact=False)
def _transpose_of_dot(n: Node, b: Rewriter) -> Node | None:
    (x,), perm = n.inputs, n.attrs["perm"]
    if not is_op(x, "dot_general") or not b.used_once(x):
        return None
    (cx, cy), (bx, by) = x.attrs["contract"], x.attrs["batch"]
    batch = len(bx)
    free = x.inputs[0].tensor.rank - batch - len(cx)
    swapped = (*range(batch), *range(batch + free, x.tensor.rank), *range(batch, batch + free))
    if tuple(perm) != swapped:
        return None
    return b.add("dot_general", x.inputs[1], x.inputs[0], contract=(cy, cx), batch=(by, bx))
