"""Products of arrays: matmul, dot, inner, outer, tensordot, kron, cross, trace."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from weft.compiler.errors import LinAlgError
from weft.compiler.ir import Node
from weft.compiler.types import DTYPES, DType
from weft.frontend.numpy.common import (
    Array,
    as_array,
    axis_of,
    broadcast,
    build,
    element,
    into,
    key_of,
    lift,
    result,
    same_dtype,
    ufunc,
)
from weft.frontend.numpy.matrices import diagonal_node
from weft.frontend.numpy.promote import find_loop
from weft.frontend.numpy.reductions import accumulator, fold
from weft.frontend.numpy.shapes import moveaxis, ravel
from weft.frontend.numpy.ufuncs import GUFUNCS, assign, broadcast_shape, shape_str
from weft.frontend.problems import problem, shape_error
from weft.frontend.table import implements, method
from weft.frontend.tracer import Tracer

__all__ = ["check_matrices", "check_square", "contract", "matmul"]


def check_matrices(*xs: Node) -> None:
    """Refuse what are no stacks of matrices, in NumPy's words."""
    for x in xs:
        if len(x.shape) < 2:
            raise problem(LinAlgError, f"{len(x.shape)}-dimensional array given. Array must be at "
                          "least two-dimensional", expected="a matrix, or a stack of them")


def check_square(*xs: Node) -> None:
    """Refuse what are no stacks of square matrices, in NumPy's words."""
    check_matrices(*xs)
    for x in xs:
        if x.shape[-1] != x.shape[-2]:
            raise problem(LinAlgError, "Last 2 dimensions of the array must be square",
                          expected=f"(…, n, n), not {shape_str(x.shape)}")


def contract(a: Node, b: Node, summed: tuple[Sequence[int], Sequence[int]],
             batch: tuple[Sequence[int], Sequence[int]] = ((), ())) -> Node:
    """A dot_general of operands of one element type; for bool it is an or of ands."""
    builder = build()
    attrs = {"contract": (tuple(summed[0]), tuple(summed[1])),
             "batch": (tuple(batch[0]), tuple(batch[1]))}
    if a.dtype.kind != "bool":
        return builder.dot_general(a, b, **attrs)
    wide = builder.dot_general(builder.convert(a, "i64"), builder.convert(b, "i64"), **attrs)
    return builder.ne(wide, builder.scalar(0, "i64"))


# ---- matmul and the other gufuncs

def _core_mismatch(name: str, signature: str, a: Node, b: Node, i: Any, j: Any) -> Exception:
    return shape_error(
        f"{name}: Input operand 1 has a mismatch in its core dimension 0, with gufunc signature "
        f"{signature} (size {j} is different from {i})",
        f"{shape_str(a.shape)} and {shape_str(b.shape)} with equal sizes along the summed axis",
        "transpose one of them (x.T or np.swapaxes)")


def _loop_dtype(gufunc: Any, xs: Sequence[Tracer], dtype: Any) -> DType:
    ins, _ = find_loop(gufunc, tuple(key_of(x) for x in xs), dtype)
    return ins[0]


def _batched(a: Node, b: Node, core_a: int, core_b: int, ca: int, cb: int) -> Node:
    """Contract axis `ca` of `a` with `cb` of `b` (counted from the end), other axes broadcast.

    Batch axes of which one side has size 1 are free axes of the other side alone.
    """
    build_ = build()
    lead_a, lead_b = a.shape[:len(a.shape) - core_a], b.shape[:len(b.shape) - core_b]
    i, j = len(a.shape) - ca, len(b.shape) - cb
    if not lead_a or not lead_b:
        node = contract(a, b, ((i,), (j,)))
        if lead_a or not lead_b or core_a == 1:
            return node
        free = len(a.shape) - 1                     # a's own axis goes behind b's leading ones
        end = free + len(lead_b)
        perm = (*range(free, end), *range(free), *range(end, len(node.shape)))
        return build_.transpose(node, perm=perm)
    lead = broadcast_shape([lead_a, lead_b])
    a = build_.broadcast(a, (*lead, *a.shape[len(lead_a):]))
    b = build_.broadcast(b, (*lead, *b.shape[len(lead_b):]))
    batch = tuple(range(len(lead)))
    return contract(a, b, ((len(a.shape) - ca,), (len(b.shape) - cb,)), (batch, batch))


def matmul(x1: Array, x2: Array, /, out: Any = None, *, dtype: Any = None, axes: Any = None,
           axis: Any = None, keepdims: bool = False, **options: Any) -> Any:
    """`np.matmul`: the product of matrices, leading axes broadcast."""
    xs = [lift(x1), lift(x2)]
    if axes is not None:
        return _with_axes(xs, axes, out, dtype)
    for k, x in enumerate(xs):
        if not x.node.shape:
            raise shape_error(
                f"matmul: Input operand {k} does not have enough dimensions (has 0, gufunc core "
                "with signature (n?,k),(k,m?)->(n?,m?) requires 1)", None,
                "use * for a product with a number")
    a, b = (build().convert(x.node, _loop_dtype(np.matmul, xs, dtype)) for x in xs)
    core_b = min(len(b.shape), 2)
    i, j = a.shape[-1], b.shape[-core_b]
    if i != j:
        raise _core_mismatch("matmul", "(n?,k),(k,m?)->(n?,m?)", a, b, i, j)
    node = _batched(a, b, min(len(a.shape), 2), core_b, 1, core_b)
    return _done(result(node), out)


def _done(value: Tracer, out: Any) -> Any:
    if isinstance(out, tuple):
        (out,) = out
    return value if out is None else assign(out, value)


def _with_axes(xs: list[Tracer], axes: Any, out: Any, dtype: Any) -> Any:
    first, second, last = axes
    moved = [moveaxis(x, ax, (-2, -1)) for x, ax in zip(xs, (first, second))]
    return _done(moveaxis(matmul(*moved, dtype=dtype), (-2, -1), last), out)


def _vector_product(name: str, signature: str, core: tuple[int, int]) -> Any:
    def product(x1: Array, x2: Array, /, out: Any = None, *, dtype: Any = None,
                axis: Any = None, **options: Any) -> Any:
        b, xs = build(), [lift(x1), lift(x2)]
        gufunc = getattr(np, name)
        if axis is not None:
            xs = [moveaxis(x, axis, -1) for x in xs]
        p, q = (b.convert(x.node, _loop_dtype(gufunc, xs, dtype)) for x in xs)
        for k, (n, c) in enumerate(zip((p, q), core)):
            if len(n.shape) < c:
                raise shape_error(f"{name}: Input operand {k} does not have enough dimensions (has "
                                  f"{len(n.shape)}, gufunc core with signature {signature} "
                                  f"requires {c})")
        i, j = p.shape[-1], q.shape[-core[1] if name == "vecmat" else -1]
        if i != j:
            raise _core_mismatch(name, signature, p, q, i, j)
        if name != "matvec" and p.dtype.is_complex:
            p = b.conj(p)
        node = _batched(p, q, *core, 1, core[1] if name == "vecmat" else 1)
        return _done(result(node), out)
    return product


vecdot = _vector_product("vecdot", "(n),(n)->()", (1, 1))
matvec = _vector_product("matvec", "(m,n),(n)->(m)", (2, 1))
vecmat = _vector_product("vecmat", "(n),(n,m)->(m)", (1, 2))
GUFUNCS.update(matmul=matmul, vecdot=vecdot, matvec=matvec, vecmat=vecmat)
implements(np.linalg.matmul)(lambda x1, x2, /: matmul(x1, x2))
implements(np.linalg.vecdot)(lambda x1, x2, /, *, axis=-1: vecdot(x1, x2, axis=axis))


# ---- dot and its like

def _scaled(xs: list[Tracer], out: Any) -> Any:
    b = build()
    p, q = broadcast(same_dtype(xs))
    return into(out, result(b.mul(p, q)))


@implements(np.dot)
def dot(a: Array, b: Array, out: Any = None) -> Any:
    """`np.dot`: last axis of `a` with the last but one of `b`."""
    xs = [lift(a), lift(b)]
    p, q = same_dtype(xs)
    if not p.shape or not q.shape:
        return _scaled(xs, out)
    j = max(len(q.shape) - 2, 0)
    if p.shape[-1] != q.shape[j]:
        raise _misaligned(p, q, len(p.shape) - 1, j)
    return into(out, result(contract(p, q, ((len(p.shape) - 1,), (j,)))))


def _misaligned(p: Node, q: Node, i: int, j: int) -> Exception:
    return shape_error(
        f"shapes {shape_str(p.shape)} and {shape_str(q.shape)} not aligned: {p.shape[i]} (dim {i}) "
        f"!= {q.shape[j]} (dim {j})", "equal sizes along the summed axis",
        "transpose one of them (x.T or np.swapaxes)")


@method("dot")
def _dot_method(x: Tracer, b: Array, out: Any = None) -> Any:
    return dot(x, b, out)


@implements(np.vdot)
def _vdot(a: Array, b: Array, /) -> Any:
    p, q = (ravel(n) for n in (lift(a), lift(b)))
    return dot(p.conj() if p.element.is_complex else p, q)


@implements(np.inner)
def _inner(a: Array, b: Array, /) -> Any:
    xs = [lift(a), lift(b)]
    p, q = same_dtype(xs)
    if not p.shape or not q.shape:
        return _scaled(xs, None)
    i, j = len(p.shape) - 1, len(q.shape) - 1
    if p.shape[i] != q.shape[j]:
        raise _misaligned(p, q, i, j)
    return result(contract(p, q, ((i,), (j,))))


@implements(np.outer)
def outer(a: Array, b: Array, out: Any = None) -> Any:
    """`np.outer`: all products of the elements of two flattened arrays."""
    p, q = (ravel(v).node for v in (lift(a), lift(b)))
    builder = build()
    left = as_array(builder.reshape(p, (*p.shape, 1)))
    return into(out, ufunc("multiply", left, as_array(q)))


@implements(np.linalg.outer)
def _linalg_outer(x1: Array, x2: Array, /) -> Any:
    if any(len(lift(x).node.shape) != 1 for x in (x1, x2)):
        raise shape_error("Input arrays must be one-dimensional, but they are x1.ndim="
                          f"{len(lift(x1).node.shape)} and x2.ndim={len(lift(x2).node.shape)}.")
    return outer(x1, x2)


@implements(np.tensordot)
def tensordot(a: Array, b: Array, axes: Any = 2) -> Any:
    """`np.tensordot`."""
    p, q = same_dtype([lift(a), lift(b)])
    if isinstance(axes, (int, np.integer)):
        n = operator.index(axes)
        left, right = list(range(len(p.shape) - n, len(p.shape))), list(range(n))
    else:
        left, right = ([v] if not isinstance(v, (list, tuple)) else list(v) for v in axes)
    left, right = ([axis_of(i, len(n.shape)) for i in side]
                   for side, n in ((left, p), (right, q)))
    if len(left) != len(right) or any(p.shape[i] != q.shape[j] for i, j in zip(left, right)):
        raise shape_error("shape-mismatch for sum", "equal sizes along the paired axes: "
                          f"{shape_str(p.shape)} axes {left} and {shape_str(q.shape)} axes {right}")
    return as_array(contract(p, q, (left, right)))


implements(np.linalg.tensordot)(lambda x1, x2, /, *, axes=2: tensordot(x1, x2, axes))


@implements(np.kron)
def _kron(a: Array, b: Array) -> Any:
    p, q = same_dtype([lift(a), lift(b)])
    builder, rank = build(), max(len(p.shape), len(q.shape))
    sp, sq = ((1,) * (rank - len(n.shape)) + n.shape for n in (p, q))
    left = builder.reshape(p, tuple(v for d in sp for v in (d, 1)))
    right = builder.reshape(q, tuple(v for d in sq for v in (1, d)))
    node = builder.mul(*broadcast([left, right]))
    return result(builder.reshape(node, tuple(i * j for i, j in zip(sp, sq))))


@implements(np.cross)
def cross(a: Array, b: Array, axisa: Any = -1, axisb: Any = -1, axisc: Any = -1,
          axis: Any = None) -> Any:
    """`np.cross`."""
    if axis is not None:
        axisa = axisb = axisc = axis
    xs = [moveaxis(x, ax, -1) for x, ax in ((lift(a), axisa), (lift(b), axisb))]
    sizes: list[Any] = [x.node.shape[-1] for x in xs]
    if any(s not in (2, 3) for s in sizes):
        raise shape_error("Both input arrays must be (arrays of) 3-dimensional vectors, but they "
                          f"are {sizes[0]} and {sizes[1]} dimensional instead.")
    p, q = ([x[..., i] for i in range(s)] for x, s in zip(xs, sizes))
    z = p[0] * q[1] - p[1] * q[0]
    if sizes == [2, 2]:
        return z
    if sizes == [3, 3]:
        x, y = p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2]
    elif sizes == [3, 2]:
        x, y = -(p[2] * q[1]), p[2] * q[0]
    else:
        x, y = p[1] * q[2], -(p[0] * q[2])
    builder = build()
    parts = [builder.reshape(n, (*n.shape, 1)) for n in broadcast([x.node, y.node, z.node])]
    node = builder.concatenate(*parts, axis=len(parts[0].shape) - 1)
    return moveaxis(as_array(node), -1, axisc)


implements(np.linalg.cross)(lambda x1, x2, /, *, axis=-1: cross(x1, x2, axis=axis))


def _trace(a: Array, offset: Any = 0, axis1: Any = 0, axis2: Any = 1, dtype: Any = None,
           out: Any = None) -> Any:
    node = diagonal_node(lift(a).node, operator.index(offset), axis1, axis2)
    wanted = accumulator(node.dtype) if dtype is None else element(dtype)
    node = build().convert(node, wanted)
    return into(out, fold("reduce_sum", node, -1))


implements(np.trace, methods=("trace",))(_trace)
implements(np.linalg.trace)(lambda x, /, *, offset=0, dtype=None:
                            _trace(x, offset, -2, -1, dtype))


@implements(np.linalg.multi_dot)
def _multi_dot(arrays: Any, *, out: Any = None) -> Any:
    """The cheapest order, by the classic dynamic programme on the sizes."""
    xs = [lift(a) for a in arrays]
    if len(xs) < 2:
        raise ValueError("Expecting at least two arrays.")
    sizes = [x.node.shape[0] if len(x.node.shape) == 2 else 1 for x in xs]
    sizes.append(xs[-1].node.shape[-1] if len(xs[-1].node.shape) == 2 else 1)
    if len(xs[0].node.shape) == 1:
        sizes[0] = 1
        sizes[1] = xs[0].node.shape[0]
    if not all(isinstance(s, int) for s in sizes):
        out_ = xs[0]
        for x in xs[1:]:
            out_ = dot(out_, x)
        return into(out, out_)
    return into(out, _chain(xs, _best_splits(sizes), 0, len(xs) - 1))


def _best_splits(p: list[Any]) -> dict[tuple[int, int], int]:
    n = len(p) - 1
    cost: dict[tuple[int, int], float] = {(i, i): 0.0 for i in range(n)}
    split: dict[tuple[int, int], int] = {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            cost[i, j], split[i, j] = min(
                (cost[i, k] + cost[k + 1, j] + p[i] * p[k + 1] * p[j + 1], k) for k in range(i, j))
    return split


def _chain(xs: list[Tracer], split: dict[tuple[int, int], int], i: int, j: int) -> Any:
    if i == j:
        return xs[i]
    k = split[i, j]
    return dot(_chain(xs, split, i, k), _chain(xs, split, k + 1, j))


@implements(np.linalg.matrix_power)
def _matrix_power(a: Array, n: Any) -> Any:
    x, power = lift(a), operator.index(n)
    check_square(x.node)
    shape = x.node.shape
    if power < 0:
        x, power = lift(np.linalg.inv(x)), -power
    if power == 0:
        b = build()
        eye = b.eq(b.iota(shape=shape[-2:], axis=0, dtype=DTYPES["i64"]),
                   b.iota(shape=shape[-2:], axis=1, dtype=DTYPES["i64"]))
        return as_array(b.broadcast(b.convert(eye, x.element), shape))
    out, square = None, x
    while power:
        if power & 1:
            out = square if out is None else matmul(out, square)
        power >>= 1
        square = matmul(square, square) if power else square
    return as_array(out.node) if out is x else out
