"""Reductions, running reductions (scans) and contractions."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from weft.compiler.errors import DTypeError, ShapeError
from weft.compiler.ops.elementwise import check_kind
from weft.compiler.ops.order_rules import (
    extreme_jvp,
    product_jvp,
    recurrence_batch,
    recurrence_jvp,
    recurrence_transpose,
    running_extreme_jvp,
    running_product_jvp,
    running_sum_transpose,
)
from weft.compiler.ops.registry import Attrs, Op, register
from weft.compiler.ops.views import check_axes
from weft.compiler.types import DTYPES, DType, TensorType

if TYPE_CHECKING:
    from weft.compiler.build import Builder
    from weft.compiler.ir import Node

__all__: list[str] = []

Types = tuple[TensorType, ...]
_A = np.sin(np.arange(1.0, 25.0)).reshape(2, 3, 4)    # (numpy.random is slow to import)
_Cases = list[tuple[tuple[Any, ...], dict[str, Any]]]


def _reduced(x: TensorType, axes: tuple[int, ...], dtype: DType) -> TensorType:
    return TensorType(tuple(d for a, d in enumerate(x.shape) if a not in axes), dtype)


def _wide(x: Any) -> Any:
    """16-bit floats are added up in float32 and rounded once."""
    return x.astype(np.float32) if x.dtype.itemsize == 2 and x.dtype.kind not in "iu" else x


def _reduction(name: str, letters: str, doc: str, ref: Callable[..., Any], *,
               nonempty: bool = False, samples: Callable[[], _Cases] | None = None,
               **rules: Any) -> None:
    def infer(types: Types, attrs: Attrs) -> TensorType:
        (x,), axes = types, tuple(attrs["axes"])
        check_axes(name, axes, x.rank)
        check_kind(name, x.dtype, letters)
        if nonempty and any(x.shape[a] == 0 for a in axes):
            raise ShapeError(f"{name} of {x} over axes {list(axes)} has nothing to reduce",
                             expected="at least one element", repair="give an initial value")
        return _reduced(x, axes, x.dtype)

    def reference(xp: Any, x: Any, axes: tuple[int, ...]) -> Any:
        with np.errstate(all="ignore"):
            return xp.asarray(ref(xp, x, tuple(axes))).astype(x.dtype, copy=False)

    def cases() -> _Cases:
        x = _A > 0 if letters == "b" else _A
        return [((x,), {"axes": a}) for a in ((0,), (1,), (2,), (0, 2), (0, 1, 2), ())]

    register(Op(name, "reduction", 1, doc, infer, reference, attrs=("axes",),
                samples=samples or cases, **rules))


def _spread(b: Builder, node: Node, ct: Node, wanted: Set[int]) -> list[Any]:
    """Every element that was added up has the sum's cotangent."""
    (x,), axes = node.inputs, node.attrs["axes"]
    return [b.broadcast(ct, x.shape, [a for a in range(len(x.shape)) if a not in axes])]


_reduction("reduce_sum", "ifc", "sum over axes; blocked at least as accurately as pairwise",
           lambda xp, x, a: xp.sum(_wide(x), axis=a, dtype=_wide(x).dtype),
           linear="jointly", transpose=_spread)
_reduction("reduce_prod", "ifc", "product over axes",
           lambda xp, x, a: xp.prod(_wide(x), axis=a, dtype=_wide(x).dtype), jvp=product_jvp)
_reduction("reduce_max", "bifc", "largest element over axes; NaN if any is", nonempty=True,
           ref=lambda xp, x, a: xp.max(x, axis=a), jvp=extreme_jvp)
_reduction("reduce_min", "bifc", "smallest element over axes; NaN if any is", nonempty=True,
           ref=lambda xp, x, a: xp.min(x, axis=a), jvp=extreme_jvp)
_reduction("reduce_and", "b", "whether all elements over axes are true",
           lambda xp, x, a: xp.all(x, axis=a))
_reduction("reduce_or", "b", "whether any element over axes is true",
           lambda xp, x, a: xp.any(x, axis=a))


def _arg(name: str, doc: str) -> None:
    def infer(types: Types, attrs: Attrs) -> TensorType:
        (x,), axis = types, attrs["axis"]
        check_axes(name, (axis,), x.rank)
        if x.shape[axis] == 0:
            raise ShapeError(f"attempt to get {name} of an empty sequence",
                             expected="at least one element")
        return _reduced(x, (axis,), DTYPES["i64"])

    register(Op(name, "reduction", 1, doc, infer,
                lambda xp, x, axis: xp.asarray(getattr(xp, name)(x, axis=axis)), attrs=("axis",),
                samples=lambda: [((_A,), {"axis": a}) for a in (0, 1, 2)]
                + [((np.array([1.0, np.nan, 3.0, np.nan]),), {"axis": 0})]))


_arg("argmax", "index of the first largest element along an axis; of the first NaN if any")
_arg("argmin", "index of the first smallest element along an axis; of the first NaN if any")


def _scan(name: str, letters: str, ufunc: str, doc: str, **rules: Any) -> None:
    def infer(types: Types, attrs: Attrs) -> TensorType:
        check_axes(name, (attrs["axis"],), types[0].rank)
        check_kind(name, types[0].dtype, letters)
        return types[0]

    def reference(xp: Any, x: Any, axis: int) -> Any:
        with np.errstate(all="ignore"):
            return getattr(xp, ufunc).accumulate(x, axis=axis, dtype=x.dtype)

    register(Op(name, "scan", 1, doc, infer, reference, attrs=("axis",),
                samples=lambda: [((_A,), {"axis": a}) for a in (0, 1, 2)], **rules))


_scan("cumsum", "ifc", "add", "running sum along an axis", linear="jointly",
      transpose=running_sum_transpose)
_scan("cumprod", "ifc", "multiply", "running product along an axis", jvp=running_product_jvp)
_scan("cummax", "bif", "maximum", "running maximum along an axis; NaN from the first NaN on",
      jvp=running_extreme_jvp)
_scan("cummin", "bif", "minimum", "running minimum along an axis; NaN from the first NaN on",
      jvp=running_extreme_jvp)


def _recurrence(types: Types, attrs: Attrs) -> TensorType:
    a, b = types
    check_axes("linear_recurrence", (attrs["axis"],), a.rank)
    check_kind("linear_recurrence", a.dtype, "ifc")
    if a != b:
        raise ShapeError(f"linear_recurrence got {a} and {b}", expected="one type")
    return a


def _recurrence_ref(xp: Any, a: Any, b: Any, axis: int) -> Any:
    out = xp.array(b)
    rows, factors = xp.moveaxis(out, axis, 0), xp.moveaxis(a, axis, 0)
    with np.errstate(all="ignore"):
        for k in range(1, len(rows)):
            rows[k] = factors[k] * rows[k - 1] + rows[k]
    return out


register(Op("linear_recurrence", "scan", 2, "y[k] = a[k]*y[k-1] + b[k] along an axis, from y[0] = "
            "b[0] on", _recurrence, _recurrence_ref, attrs=("axis",), cost=2, jvp=recurrence_jvp,
            transpose=recurrence_transpose, batch=recurrence_batch,
            samples=lambda: [((_A, np.cos(_A)), {"axis": a}) for a in (0, 1, 2)]))


# ---- contraction

def _dot_general(types: Types, attrs: Attrs) -> TensorType:
    a, b = types
    if a.dtype is not b.dtype:
        raise DTypeError(f"dot_general got {a.dtype} and {b.dtype}", expected="one element type")
    (ca, cb), (ba, bb) = attrs["contract"], attrs["batch"]
    check_axes("dot_general", (*ca, *ba), a.rank)
    check_axes("dot_general", (*cb, *bb), b.rank)
    for what, pairs in (("contracted", zip(ca, cb)), ("batch", zip(ba, bb))):
        for i, j in pairs:
            if a.shape[i] != b.shape[j]:
                raise ShapeError(f"dot_general got {a} and {b}: {what} axes {i} and {j} "
                                 f"have sizes {a.shape[i]} and {b.shape[j]}",
                                 expected="equal sizes")
    free_a = tuple(d for i, d in enumerate(a.shape) if i not in (*ca, *ba))
    free_b = tuple(d for i, d in enumerate(b.shape) if i not in (*cb, *bb))
    return TensorType(tuple(a.shape[i] for i in ba) + free_a + free_b, a.dtype)


def _dot_general_ref(xp: Any, a: Any, b: Any, contract: Any, batch: Any) -> Any:
    (ca, cb), (ba, bb) = contract, batch
    letters = iter(range(52))
    la = [next(letters) for _ in a.shape]
    lb = [next(letters) for _ in b.shape]
    for i, j in (*zip(ca, cb), *zip(ba, bb)):
        lb[j] = la[i]
    out = [la[i] for i in ba] + [v for i, v in enumerate(la) if i not in (*ca, *ba)] \
        + [v for j, v in enumerate(lb) if j not in (*cb, *bb)]
    with np.errstate(all="ignore"):
        # sums start from 0.0, so that none is -0.0; einsum leaves that to its operands' layout
        total = xp.einsum(_wide(a), la, _wide(b), lb, out) + _wide(a).dtype.type(0)
        return xp.asarray(total).astype(a.dtype, copy=False)


def _others(rank: int, axes: Sequence[int]) -> list[int]:
    return [a for a in range(rank) if a not in axes]


def _dot_transpose(b: Builder, node: Node, ct: Node, wanted: Set[int]) -> list[Any]:
    """The product of the cotangent and the other operand, over that one's free axes."""
    (ca, cb), (ba, bb) = node.attrs["contract"], node.attrs["batch"]
    x, y = node.inputs
    nb, free_x = len(ba), len(_others(len(x.shape), (*ca, *ba)))
    batch = tuple(range(nb))
    of_x = tuple(range(nb, nb + free_x))
    of_y = tuple(range(nb + free_x, len(ct.shape)))
    return [_cotangent(b, x, ca, ba, ct, (batch, of_y), y, cb, bb) if 0 in wanted else None,
            _cotangent(b, y, cb, bb, ct, (batch, of_x), x, ca, ba) if 1 in wanted else None]


def _cotangent(b: Builder, x: Node, contracted: Any, batched: Any, ct: Node, axes: Any, y: Node,
               y_contracted: Any, y_batched: Any) -> Node:
    """The cotangent of `x` in a product with `y`; `axes` of `ct` are the batch and y's free ones.
    """
    batch, of_y = axes
    free_y = tuple(_others(len(y.shape), (*y_contracted, *y_batched)))
    product = b.dot_general(ct, y, contract=(of_y, free_y), batch=(batch, tuple(y_batched)))
    # now its axes are: batch, x's free ones in order, y's contracted ones in y's order
    order = [*batched, *_others(len(x.shape), (*contracted, *batched)),
             *[contracted[y_contracted.index(a)] for a in sorted(y_contracted)]]
    perm = tuple(order.index(a) for a in range(len(order)))
    return product if perm == tuple(range(len(perm))) else b.transpose(product, perm=perm)


def _dot_batch(b: Builder, node: Node, inputs: Sequence[Node], batched: Sequence[bool]) -> Node:
    """A further batch axis; or a further free axis, where only one operand has it."""
    (ca, cb), (ba, bb) = node.attrs["contract"], node.attrs["batch"]
    x, y = inputs
    further = [lambda a: a, lambda a: a + 1]
    ca, ba = (tuple(map(further[batched[0]], axes)) for axes in (ca, ba))
    cb, bb = (tuple(map(further[batched[1]], axes)) for axes in (cb, bb))
    if all(batched):
        return b.dot_general(x, y, contract=(ca, cb), batch=((0, *ba), (0, *bb)))
    product = b.dot_general(x, y, contract=(ca, cb), batch=(ba, bb))
    # the new axis is the first free one of its operand
    at = len(ba) + (0 if batched[0] else len(_others(len(x.shape), (*ca, *ba))))
    if at == 0:
        return product
    return b.transpose(product, perm=(at, *[a for a in range(len(product.shape)) if a != at]))


def _r(*shape: int) -> Any:
    """Numbers of both signs, all different."""
    return np.sin(np.arange(1.0, prod(shape) + 1) * len(shape)).reshape(shape)


register(Op("dot_general", "contraction", 2, "sums of products over contracted axes; batch axes "
            "first, then the free axes of both operands", _dot_general, _dot_general_ref,
            attrs=("contract", "batch"), cost=2, linear="each", transpose=_dot_transpose,
            batch=_dot_batch,
            samples=lambda: [
                ((_r(5, 7), _r(7, 3)),
                 {"contract": ((1,), (0,)), "batch": ((), ())}),
                ((_r(7, 5), _r(3, 7)),
                 {"contract": ((0,), (1,)), "batch": ((), ())}),
                ((_r(2, 5, 7), _r(7, 2, 3)),
                 {"contract": ((2,), (0,)), "batch": ((0,), (1,))}),
                ((_r(4), _r(4)),
                 {"contract": ((0,), (0,)), "batch": ((), ())}),
                ((_r(2, 3, 4), _r(4, 3, 5)),
                 {"contract": ((1, 2), (1, 0)), "batch": ((), ())})]))
