"""Real distributions that are functions of uniform numbers.

All are computed in float64 or float32 and given in the dtype asked for; float16 and bfloat16 by
way of float32. Where a distribution has two tails alike, the sign is drawn apart from the size, so
that both are equally fine.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from weft.compiler.ir import Node
from weft.compiler.types import DTYPES, DType, Shape, numel
from weft.frontend.numpy.common import as_array, build
from weft.frontend.random.generator import (
    bits_of,
    closed_open,
    float_type,
    halves,
    integer_type,
    length,
    open_both,
    sized,
    take,
    words,
    words32,
    work,
)
from weft.frontend.random.keys import key_node, own_keys
from weft.frontend.random.parameters import parameter, result, result_shape
from weft.frontend.random.sampler import sampler
from weft.frontend.tracer import Tracer

__all__ = [
    "bits", "cauchy", "double_sided_maxwell", "exponential", "gumbel", "laplace", "logistic",
    "lognormal", "maxwell", "normal", "pareto", "rayleigh", "triangular", "uniform", "wald",
    "weibull_min",
]

_I32, _U32, _U64, _F32 = (DTYPES[n] for n in ("i32", "u32", "u64", "f32"))


# ---- what the distributions are made of

def word_array(key: Node, shape: Shape, dtype: DType) -> Node:
    """Words as wide as the type in which numbers are computed."""
    if work(dtype) is _F32:
        return words32(key, shape)
    b = build()
    return b.reshape(words(key, numel(shape)), shape)


def positive(key: Node, shape: Shape, dtype: DType) -> Tracer:
    """Uniform numbers in (0, 1), as float64 or float32."""
    return open_both(word_array(key, shape, dtype))


def signed(key: Node, shape: Shape, dtype: DType) -> tuple[Tracer, Tracer]:
    """Uniform numbers in (0, 1), and whether each is to be negated; of one word each.

    The lowest bit decides the sign, and is cleared for the size.
    """
    b, word = build(), word_array(key, shape, dtype)
    one = b.scalar(1, word.dtype)
    negative = b.ne(b.and_(word, one), b.scalar(0, word.dtype))
    return open_both(b.and_(word, b.not_(one))), as_array(negative)


def gaussian(key: Node, shape: Shape, dtype: DType) -> Tracer:
    """Normal numbers, as float64 or float32.

    The polar form of two of them is drawn from two words (Box and Muller 1958), which reaches 8.6
    standard deviations in float64 and 6.7 in float32 and is fine grained there: the radius has the
    digits of small numbers.
    """
    b, pairs = build(), length(numel(shape))
    if work(dtype) is _F32:
        first, second = halves(words(key, pairs))
    else:
        both = b.reshape(words(key, 2 * pairs), (pairs, 2))
        first, second = (b.reshape(b.slice(both, start=(0, i), limit=(pairs, i + 1),
                                           stride=(1, 1)), (pairs,)) for i in (0, 1))
    radius = np.sqrt(-2.0 * np.log(open_both(first)))
    angle = turn(second) * (2.0 * math.pi)
    columns = [b.reshape(x.node, (pairs, 1))
               for x in (radius * np.cos(angle), radius * np.sin(angle))]
    return as_array(take(b.concatenate(*columns, axis=1), shape))


def turn(word: Node) -> Tracer:
    """Multiples of 2**-24 or 2**-53 in [0, 1)."""
    b = build()
    if word.dtype is _U64:
        top = b.convert(b.shift_right(word, b.scalar(11, _U64)), "f64")
        return as_array(b.mul(top, b.scalar(2.0 ** -53, "f64")))
    top = b.convert(b.bitcast(b.shift_right(word, b.scalar(8, _U32)), dtype=_I32), "f32")
    return as_array(b.mul(top, b.scalar(2.0 ** -24, "f32")))


# ---- bits and uniform numbers

@sampler("shape", "dtype")
def bits(key: Any, shape: Any = (), dtype: Any = np.uint32) -> Any:
    """Random bits: integers of which each of the type is as likely.

    Args:
        key: a key, which is used up.
        shape: the shape of the result.
        dtype: an integer type.

    Raises `DTypeError` for other types, and for what is no key.

    >>> import numpy as np, weft
    >>> weft.random.bits(weft.random.key(0), 2, np.uint64)
    array([11077253088097075545, 13897614985444391724], dtype=uint64)
    """
    node = key_node(key, "bits")
    found = integer_type(dtype, "bits")
    size = sized(shape)
    return result(as_array(bits_of(node, size, found)), size, found)


@sampler("shape", "dtype")
def uniform(key: Any, shape: Any = (), dtype: Any = float, minval: Any = 0.0,
            maxval: Any = 1.0) -> Any:
    """Numbers in [minval, maxval), each part of which is as likely as any as long.

    They are minval + u * (maxval - minval), where u is a multiple of 2**-53 in [0, 1), of 2**-24
    in float32, of 2**-11 in float16 and 2**-8 in bfloat16. `maxval` itself is never given, unless
    it equals `minval`.

    Args:
        key: a key, which is used up.
        shape: the shape of the result, to which the bounds broadcast.
        dtype: a float type. As everywhere in NumPy, float64 unless given.
        minval, maxval: the bounds.

    Raises `DTypeError` for other types, and for what is no key; `ShapeError` for bounds that do
    not broadcast.

    >>> import numpy as np, weft
    >>> weft.random.uniform(weft.random.key(0), 2, np.float32).dtype
    dtype('float32')
    """
    node, kind = key_node(key, "uniform"), float_type(dtype, "uniform")
    low, high = parameter(minval, kind), parameter(maxval, kind)
    size = result_shape(shape, "uniform", low, high)
    u = closed_open(node, size, kind)
    if _is(minval, 0.0) and _is(maxval, 1.0):
        return result(u, size, kind)
    x = u * (high - low) + low
    return result(np.maximum(low, np.minimum(x, np.nextafter(high, low))), size, kind)


def _is(value: Any, number: float) -> bool:
    """Whether an argument was left at its default (a traced number's value is not asked for)."""
    return type(value) is not Tracer and isinstance(value, (int, float)) and value == number


# ---- normal numbers

@sampler("shape", "dtype")
def normal(key: Any, shape: Any = (), dtype: Any = float) -> Any:
    """Standard normal numbers, of mean 0 and variance 1.

    Args:
        key: a key, which is used up.
        shape: the shape of the result.
        dtype: a float type.

    They come in pairs, by the method of Box and Muller (1958). For another mean and deviation,
    write ``mean + deviation * normal(…)``. Raises `DTypeError` for other types and for what is no
    key.

    >>> import numpy as np, weft
    >>> x = weft.random.normal(weft.random.key(0), (1000, 1000))
    >>> bool(abs(x.mean()) < 0.01), bool(abs(x.std() - 1) < 0.01)
    (True, True)
    """
    node, kind, size = key_node(key, "normal"), float_type(dtype, "normal"), sized(shape)
    return result(gaussian(node, size, kind), size, kind)


@sampler("shape", "dtype")
def lognormal(key: Any, sigma: Any = 1.0, shape: Any = None, dtype: Any = float) -> Any:
    """Numbers whose logarithm is normal, of mean 0 and deviation `sigma`.

    >>> import weft
    >>> bool(weft.random.lognormal(weft.random.key(0)) > 0)
    True
    """
    node, kind = key_node(key, "lognormal"), float_type(dtype, "lognormal")
    s = parameter(sigma, work(kind))
    size = result_shape(shape, "lognormal", s)
    return result(np.exp(s * gaussian(node, size, kind)), size, kind)


@sampler("shape", "dtype")
def maxwell(key: Any, shape: Any = (), dtype: Any = float) -> Any:
    """Lengths of vectors of three normal numbers.

    The square of two of them together is exponential, which is drawn as such.

    >>> import weft
    >>> bool(weft.random.maxwell(weft.random.key(0)) > 0)
    True
    """
    node, kind, size = key_node(key, "maxwell"), float_type(dtype, "maxwell"), sized(shape)
    return result(_length_of_three(node, size, kind), size, kind)


def _length_of_three(node: Node, size: Shape, kind: DType) -> Any:
    first, second = own_keys(node, 2)
    two = -2.0 * np.log(positive(first, size, kind))
    return np.sqrt(two + gaussian(second, size, kind) ** 2)


@sampler("shape", "dtype")
def double_sided_maxwell(key: Any, loc: Any, scale: Any, shape: Any = (), dtype: Any = float
                         ) -> Any:
    """``loc + scale * m``, m being a Maxwell number with either sign.

    >>> import weft
    >>> weft.random.double_sided_maxwell(weft.random.key(0), 0.0, 1.0, (2, 3)).shape
    (2, 3)
    """
    node = key_node(key, "double_sided_maxwell")
    kind = float_type(dtype, "double_sided_maxwell")
    at, by = parameter(loc, work(kind)), parameter(scale, work(kind))
    wanted = sized(shape)
    size = result_shape((*wanted, *result_shape(None, "double_sided_maxwell", at, by)),
                        "double_sided_maxwell", at, by)
    first, second = own_keys(node, 2)
    _, negative = signed(second, size, kind)
    m = _length_of_three(first, size, kind)
    return result(at + by * np.where(negative, -m, m), size, kind)


# ---- by inversion

@sampler("shape", "dtype")
def exponential(key: Any, shape: Any = (), dtype: Any = float) -> Any:
    """Waiting times for events that come once in a unit of time, on average.

    >>> import weft
    >>> bool(weft.random.exponential(weft.random.key(0)) > 0)
    True
    """
    node, kind, size = key_node(key, "exponential"), float_type(dtype, "exponential"), sized(shape)
    return result(-np.log(positive(node, size, kind)), size, kind)


@sampler("shape", "dtype")
def gumbel(key: Any, shape: Any = (), dtype: Any = float) -> Any:
    """Gumbel's distribution, of the largest of many: ``-log(e)`` of an exponential number e.

    >>> import weft
    >>> weft.random.gumbel(weft.random.key(0), (2, 3)).shape
    (2, 3)
    """
    node, kind, size = key_node(key, "gumbel"), float_type(dtype, "gumbel"), sized(shape)
    return result(largest(node, size, kind), size, kind)


def largest(node: Node, size: Shape, kind: DType) -> Any:
    """Gumbel numbers, fine grained where they are large: there e is small, and -log1p(-u) exact."""
    return -np.log(-np.log1p(-positive(node, size, kind)))


@sampler("shape", "dtype")
def laplace(key: Any, shape: Any = (), dtype: Any = float) -> Any:
    """Exponential numbers with either sign.

    >>> import weft
    >>> weft.random.laplace(weft.random.key(0), (2, 3)).shape
    (2, 3)
    """
    node, kind, size = key_node(key, "laplace"), float_type(dtype, "laplace"), sized(shape)
    u, negative = signed(node, size, kind)
    log = np.log(u)
    return result(np.where(negative, log, -log), size, kind)


@sampler("shape", "dtype")
def logistic(key: Any, shape: Any = (), dtype: Any = float) -> Any:
    """``log(u / (1 - u))`` of a uniform number u.

    >>> import weft
    >>> weft.random.logistic(weft.random.key(0), (2, 3)).shape
    (2, 3)
    """
    node, kind, size = key_node(key, "logistic"), float_type(dtype, "logistic"), sized(shape)
    u, negative = signed(node, size, kind)
    half = 0.5 * u
    odds = np.log(half) - np.log1p(-half)
    return result(np.where(negative, odds, -odds), size, kind)


@sampler("shape", "dtype")
def cauchy(key: Any, shape: Any = (), dtype: Any = float) -> Any:
    """Cauchy's distribution: the tangent of a uniform angle.

    >>> import weft
    >>> weft.random.cauchy(weft.random.key(0), (2, 3)).shape
    (2, 3)
    """
    node, kind, size = key_node(key, "cauchy"), float_type(dtype, "cauchy"), sized(shape)
    u, negative = signed(node, size, kind)
    x = 1.0 / np.tan((0.5 * math.pi) * u)
    return result(np.where(negative, -x, x), size, kind)


@sampler("shape", "dtype")
def pareto(key: Any, b: Any, shape: Any = None, dtype: Any = float) -> Any:
    """Pareto's distribution of index `b`: numbers from 1 on, above x with probability x**-b.

    >>> import weft
    >>> bool(weft.random.pareto(weft.random.key(0), 2.0) >= 1)
    True
    """
    node, kind = key_node(key, "pareto"), float_type(dtype, "pareto")
    index = parameter(b, work(kind))
    size = result_shape(shape, "pareto", index)
    return result(np.exp(-np.log(positive(node, size, kind)) / index), size, kind)


@sampler("shape", "dtype")
def rayleigh(key: Any, scale: Any, shape: Any = None, dtype: Any = float) -> Any:
    """Lengths of vectors of two normal numbers, times `scale`.

    >>> import weft
    >>> bool(weft.random.rayleigh(weft.random.key(0), 2.0) > 0)
    True
    """
    node, kind = key_node(key, "rayleigh"), float_type(dtype, "rayleigh")
    by = parameter(scale, work(kind))
    size = result_shape(shape, "rayleigh", by)
    return result(by * np.sqrt(-2.0 * np.log(positive(node, size, kind))), size, kind)


@sampler("shape", "dtype")
def weibull_min(key: Any, scale: Any, concentration: Any, shape: Any = None,
                dtype: Any = float) -> Any:
    """Weibull's distribution: ``scale * e**(1/concentration)`` of an exponential number e.

    >>> import weft
    >>> bool(weft.random.weibull_min(weft.random.key(0), 1.0, 2.0) > 0)
    True
    """
    node, kind = key_node(key, "weibull_min"), float_type(dtype, "weibull_min")
    by, power = parameter(scale, work(kind)), parameter(concentration, work(kind))
    size = result_shape(shape, "weibull_min", by, power)
    e = -np.log(positive(node, size, kind))
    return result(by * np.power(e, 1.0 / power), size, kind)


@sampler("shape", "dtype")
def triangular(key: Any, left: Any, mode: Any, right: Any, shape: Any = None,
               dtype: Any = float) -> Any:
    """Numbers between `left` and `right` whose density is a triangle with its peak at `mode`.

    >>> import weft
    >>> bool(0 <= weft.random.triangular(weft.random.key(0), 0.0, 0.5, 1.0) <= 1)
    True
    """
    node, kind = key_node(key, "triangular"), float_type(dtype, "triangular")
    a, c, b = (parameter(v, work(kind)) for v in (left, mode, right))
    size = result_shape(shape, "triangular", a, c, b)
    u = positive(node, size, kind)
    below = a + np.sqrt(u * (b - a) * (c - a))
    above = b - np.sqrt((1.0 - u) * (b - a) * (b - c))
    return result(np.where(u * (b - a) < c - a, below, above), size, kind)


@sampler("shape", "dtype")
def wald(key: Any, mean: Any, shape: Any = None, dtype: Any = float) -> Any:
    """The inverse Gaussian distribution of this mean and of scale 1.

    Of two roots, one is taken with the right probability (Michael, Schucany and Haas 1976).

    >>> import weft
    >>> bool(weft.random.wald(weft.random.key(0), 1.0) > 0)
    True
    """
    node, kind = key_node(key, "wald"), float_type(dtype, "wald")
    m = parameter(mean, work(kind))
    size = result_shape(shape, "wald", m)
    first, second = own_keys(node, 2)
    # the smaller root of x + m*m/x = 2*m + m*m*y, y = z*z, without cancellation
    half = 0.5 * m * gaussian(first, size, kind) ** 2
    x = m / (1.0 + half + np.sqrt(half * (2.0 + half)))
    u = positive(second, size, kind)
    return result(np.where(u * (m + x) <= m, x, m * (m / x)), size, kind)
