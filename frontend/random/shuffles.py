"""Orders and choices of the elements of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from weft.compiler.errors import DTypeError, ShapeError, ValueRangeError
from weft.compiler.ir import Node
from weft.compiler.types import DTYPES, Dim, numel
from weft.frontend.numpy.common import as_array, axis_of, build, lift, static
from weft.frontend.numpy.creation import iota
from weft.frontend.numpy.reductions import count_node
from weft.frontend.problems import problem
from weft.frontend.random.continuous import largest
from weft.frontend.random.discrete import narrow, wide
from weft.frontend.random.generator import closed_open, sized, words
from weft.frontend.random.keys import key_node
from weft.frontend.random.parameters import parameter
from weft.frontend.random.sampler import sampler
from weft.frontend.tracer import Tracer

__all__ = ["choice", "permutation"]

_F64, _U64 = DTYPES["f64"], DTYPES["u64"]
PACKED = 1 << 20        # leaves 44 random bits


@sampler("axis", "independent")
def permutation(key: Any, x: Any, axis: Any = 0, independent: bool = False) -> Any:
    """The elements of an array along an axis in random order, or the numbers below `x` so.

    Args:
        key: a key, which is used up.
        x: an array, or the number of integers to put in order, a Python int.
        axis: the axis along which to reorder.
        independent: give each line along the axis an order of its own.

    The order is that of random words, of 44 bits at the least. Raises `AxisError` where there is
    no such axis, `DTypeError` for an `x` of shape () that is no Python int.

    >>> import numpy as np, weft
    >>> sorted(weft.random.permutation(weft.random.key(0), 4).tolist())
    [0, 1, 2, 3]
    """
    node, b = key_node(key, "permutation"), build()
    given = lift(x)
    if given.node.shape == ():
        if not given.node.dtype.is_integer:
            raise problem(DTypeError, f"permutation got a number of type {given.node.dtype.numpy}",
                          expected="an array, or an integer: how many numbers to put in order")
        given = as_array(iota(count_of(x, "permutation")))
    at = axis_of(axis, len(given.node.shape))
    if not independent:
        return np.take(given, order(node, given.node.shape[at]), axis=at)
    shape = given.node.shape
    lines = as_array(b.reshape(words(node, numel(shape)), shape))
    return np.take_along_axis(given, np.argsort(lines, axis=at, stable=True), axis=at)


def count_of(x: Any, what: str) -> Dim:
    """A number of elements given by the user."""
    count = static(x, what)
    if count < 0:
        raise problem(ValueRangeError, f"{what} got the negative number {count}",
                      expected="how many there are")
    return count


def order(key: Node, count: Dim) -> Tracer:
    """The numbers below `count` in random order.

    That of random words; up to PACKED numbers, they take the place of the words' lowest bits, and
    are sorted with them, which is faster than finding where the words were.
    """
    b = build()
    if not isinstance(count, int) or not 1 < count <= PACKED:
        return as_array(b.argsort(words(key, count), axis=0, stable=True))
    mask = (1 << (count - 1).bit_length()) - 1
    random = b.and_(words(key, count), b.scalar((1 << 64) - 1 - mask, _U64))
    both = b.sort(b.or_(random, iota(count, _U64)), axis=0, stable=False)
    return as_array(b.convert(b.and_(both, b.scalar(mask, _U64)), "i64"))


@sampler("shape", "replace", "axis")
def choice(key: Any, a: Any, shape: Any = (), replace: bool = True, p: Any = None,
           axis: Any = 0) -> Any:
    """Elements of an array along an axis, or numbers below `a`, chosen at random.

    Args:
        key: a key, which is used up.
        a: an array, or a Python int.
        shape: how many, as a shape, which takes the place of the axis.
        replace: whether an element may be chosen more than once.
        p: the probability of each element, in proportion; all alike if None.
        axis: the axis along which to choose.

    Without replacement, elements with probabilities are chosen one after another, each with its
    share of what is left (by the largest of Gumbel numbers). Raises `ValueError` where there are
    no elements, or too few to choose from, and `ShapeError` where `p` has another length.

    >>> import weft
    >>> sorted(weft.random.choice(weft.random.key(0), 3, 3, replace=False).tolist())
    [0, 1, 2]
    """
    node, b = key_node(key, "choice"), build()
    pool = lift(a)
    known = not (type(a) is Tracer and a.node.shape) and pool.node.shape == ()
    if known:
        pool = as_array(iota(count_of(a, "choice")))
    at, size = axis_of(axis, len(pool.node.shape)), sized(shape)
    count = pool.node.shape[at]
    wanted = numel(size)
    if isinstance(count, int) and isinstance(wanted, int):
        _enough(count, wanted, replace)
    chosen = _chosen(node, count, wanted, replace, p)
    index = as_array(b.reshape(b.convert(chosen.node, "i64"), size))
    return np.take(pool, index, axis=at)


def _enough(count: int, wanted: int, replace: bool) -> None:
    if not count and wanted:
        raise problem(ValueRangeError, "choice got no elements to choose from",
                      expected="at least one element")
    if not replace and wanted > count:
        raise problem(ValueRangeError, f"choice of {wanted} elements from {count} without "
                      "replacement", expected="no more than there are",
                      repair="choose with replace=True, or fewer")


def _chosen(key: Node, count: Dim, wanted: Dim, replace: bool, p: Any) -> Any:
    """Indices: as many as are wanted, in one row."""
    if p is None and not replace:
        return order(key, count)[:wanted]
    if p is None:
        span = as_array(build().convert(count_node(count, DTYPES["i64"]), _U64))
        small = isinstance(count, int) and count <= 1 << 32
        return (narrow if small else wide)(key, (wanted,), span)
    weights = parameter(p, _F64)
    if weights.node.shape != (count,):
        raise problem(ShapeError, f"choice got probabilities of shape {weights.node.shape} for "
                      f"{count} elements", expected=f"the shape ({count},)")
    if replace:
        sums = np.cumsum(weights)
        at = closed_open(key, (wanted,), _F64) * sums[-1]
        return np.searchsorted(sums, at, side="right")
    noise = largest(key, (count,), _F64) + np.log(weights)
    return np.argsort(-noise, stable=True)[:wanted]
