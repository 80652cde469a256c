"""Whole numbers, coins and categories."""

from __future__ import annotations

from typing import Any

import numpy as np

from weft.compiler.errors import DTypeError, ValueRangeError
from weft.compiler.ir import Node
from weft.compiler.types import DTYPES, DType, Shape, numel
from weft.frontend.numpy.common import as_array, axis_of, build, element, lift
from weft.frontend.numpy.ufuncs import shape_str
from weft.frontend.problems import problem, shape_error
from weft.frontend.random.continuous import largest, positive
from weft.frontend.random.generator import (
    closed_open,
    float_type,
    integer_type,
    sized,
    words,
    words32,
)
from weft.frontend.random.keys import key_node, own_keys
from weft.frontend.random.parameters import parameter, result, result_shape
from weft.frontend.random.sampler import sampler
from weft.frontend.tracer import Tracer

__all__ = ["bernoulli", "categorical", "geometric", "integers", "narrow", "number_type",
           "rademacher", "randint", "wide"]

_I64, _U64, _F64 = (DTYPES[n] for n in ("i64", "u64", "f64"))
SHORT = 1 << 32        # ranges below this need one word a number


# ---- integers of a range

def integers(key: Any, low: Any, high: Any = None, shape: Any = (), dtype: Any = int,
             endpoint: bool = False) -> Any:
    """Whole numbers in [low, high), or in [0, low) if `high` is None: NumPy's ``rng.integers``.

    Args:
        key: a key, which is used up.
        low, high: integers, or arrays of them, which broadcast to `shape`.
        shape: the shape of the result.
        dtype: an integer type; int64 unless given.
        endpoint: take `high` itself as well.

    Every number is as likely, within one part in 2**32 (2**64 for ranges beyond 2**32). Raises
    `ValueError` for an empty range of Python integers; of an empty range that is known only while
    running, `low` is given.

    >>> import weft
    >>> 1 <= weft.random.integers(weft.random.key(0), 1, 6, endpoint=True) <= 6
    np.True_
    """
    if high is None:
        low, high = 0, low
    short = False
    if type(low) is int and type(high) is int:
        span = high - low + bool(endpoint)
        if span < 1:
            raise problem(ValueRangeError, f"the range {low} to {high} holds no number",
                          expected="low < high" if not endpoint else "low <= high")
        short = span < SHORT
    return _integers(key, low, high, shape, dtype, bool(endpoint), short)


def randint(key: Any, shape: Any, minval: Any, maxval: Any, dtype: Any = int) -> Any:
    """Whole numbers in [minval, maxval): `integers` with the arguments of ``jax.random.randint``.

    >>> import weft
    >>> weft.random.randint(weft.random.key(0), (2, 3), 0, 10).shape
    (2, 3)
    """
    return integers(key, minval, maxval, shape, dtype)


@sampler("shape", "dtype", "endpoint", "short", name="integers")
def _integers(key: Any, low: Any, high: Any, shape: Any, dtype: Any, endpoint: bool,
              short: bool) -> Any:
    node, kind, b = key_node(key, "integers"), integer_type(dtype, "integers"), build()
    held = _U64 if kind is _U64 else _I64
    first, last = (_whole(v, held) for v in (low, high))
    size = result_shape(shape, "integers", first, last)
    some = last >= first if endpoint else last > first
    span = as_array(b.convert(last.node, _U64)) - as_array(b.convert(first.node, _U64))
    span = np.where(some, span + np.uint64(endpoint), np.uint64(1))
    drawn = (narrow if short or kind.itemsize < 4 else wide)(node, size, span)
    moved = as_array(b.convert(drawn.node, held)) + first
    return result(moved, size, kind)


def _whole(value: Any, dtype: DType) -> Tracer:
    x = lift(value)
    if not x.node.dtype.is_integer:
        raise problem(DTypeError, f"integers got a bound of type {x.node.dtype.numpy}",
                      expected="integers", repair="convert it with astype")
    return parameter(x, dtype)


def narrow(key: Node, size: Shape, span: Any) -> Any:
    """floor(word * span / 2**64), for spans up to 2**32."""
    word = as_array(build().reshape(words(key, numel(size)), size))
    return _high(word, span)


def _high(a: Any, b: Any) -> Any:
    """The upper 64 bits of a product, the second factor being at most 2**32."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    return ((a >> half) * b + (((a & low) * b) >> half)) >> half


def wide(key: Node, size: Shape, span: Any) -> Any:
    """floor(two words * span / 2**128); all of a word where the span is 2**64, which is 0 here."""
    first, second = (as_array(build().reshape(words(k, numel(size)), size))
                     for k in own_keys(key, 2))
    high, low = _product(first, span)
    carry = low + _product(second, span)[0] < low
    return np.where(span == np.uint64(0), first, high + carry.astype(np.uint64))


def _product(a: Any, b: Any) -> tuple[Any, Any]:
    """The upper and the lower 64 bits of a product, by halves."""
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    a1, a0, b1, b0 = a >> half, a & mask, b >> half, b & mask
    cross = a1 * b0 + ((a0 * b0) >> half)
    other = a0 * b1 + (cross & mask)
    return a1 * b1 + (cross >> half) + (other >> half), a * b


def number_type(dtype: Any, what: str) -> DType:
    """A type given for counts: any but bool and complex."""
    found = element(dtype)
    if not (found.is_integer or found.is_float):
        raise problem(DTypeError, f"{what} got the dtype {found.numpy}",
                      expected="an integer or a float type")
    return found


# ---- coins

@sampler("shape")
def bernoulli(key: Any, p: Any = 0.5, shape: Any = None) -> Any:
    """True with probability `p`.

    Args:
        key: a key, which is used up.
        p: probabilities, computed with in their float type (float64 for numbers).
        shape: the shape of the result, to which `p` broadcasts; that of `p` if None.

    >>> import weft
    >>> weft.random.bernoulli(weft.random.key(0), 1.0)
    np.True_
    """
    node, chance = key_node(key, "bernoulli"), lift(p)
    kind = chance.node.dtype if chance.node.dtype.is_float else _F64
    at = parameter(chance, kind)
    size = result_shape(shape, "bernoulli", at)
    return closed_open(node, size, kind) < at


@sampler("shape", "dtype")
def rademacher(key: Any, shape: Any = (), dtype: Any = int) -> Any:
    """-1 or 1, each as likely, in an integer or float type.

    >>> import weft
    >>> abs(weft.random.rademacher(weft.random.key(0)))
    np.int64(1)
    """
    node, kind = key_node(key, "rademacher"), number_type(dtype, "rademacher")
    size, b = sized(shape), build()
    bit = b.shift_right(words32(node, size), b.scalar(31, "u32"))
    return result(2 * as_array(b.convert(bit, "i8")) - 1, size, kind)


@sampler("shape", "dtype")
def geometric(key: Any, p: Any, shape: Any = None, dtype: Any = int) -> Any:
    """How many throws it takes until the first success, which has probability `p`: from 1 on.

    >>> import weft
    >>> weft.random.geometric(weft.random.key(0), 1.0)
    np.int64(1)
    """
    node, kind, at = key_node(key, "geometric"), number_type(dtype, "geometric"), parameter(p, _F64)
    size = result_shape(shape, "geometric", at)
    failures = np.floor(np.log(positive(node, size, _F64)) / np.log1p(-at))
    return result(failures + 1.0, size, kind)


# ---- categories

@sampler("axis", "shape")
def categorical(key: Any, logits: Any, axis: Any = -1, shape: Any = None) -> Any:
    """Numbers of categories, with probabilities proportional to ``exp(logits)``.

    Args:
        key: a key, which is used up.
        logits: logarithms of the probabilities, up to a constant; -inf for what cannot be.
        axis: the axis along which the categories lie.
        shape: the shape of the result, which must end like that of `logits` without the axis;
            just that if None.

    Gives int64. The largest of the logits is taken after adding Gumbel noise. Raises `AxisError`
    where there is no such axis and `ShapeError` for other shapes.

    >>> import numpy as np, weft
    >>> weft.random.categorical(weft.random.key(0), [-np.inf, 0.0, -np.inf])
    np.int64(1)
    """
    node, x = key_node(key, "categorical"), lift(logits)
    kind = x.node.dtype if x.node.dtype.is_float else _F64
    x = parameter(x, float_type(kind, "categorical"))
    at = axis_of(axis, len(x.node.shape))
    own = (*x.node.shape[:at], *x.node.shape[at + 1:])
    wanted = own if shape is None else sized(shape)
    front = len(wanted) - len(own)
    if front < 0 or wanted[front:] != own:
        raise shape_error(f"categorical got the shape {shape_str(wanted)} for logits that leave "
                          f"the shape {shape_str(own)}", "a shape that ends with the latter")
    noise = as_array(build().convert(largest(node, (*wanted[:front], *x.node.shape), kind).node,
                                     kind))
    return np.argmax(noise + x, axis=at + front)

