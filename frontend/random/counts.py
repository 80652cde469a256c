"""Counts of events: Poisson, binomial and multinomial numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from weft.compiler.errors import ShapeError
from weft.compiler.ir import Node
from weft.compiler.types import DTYPES, Shape
from weft.frontend.control import while_loop
from weft.frontend.numpy.common import as_array, build
from weft.frontend.numpy.creation import filled
from weft.frontend.problems import problem
from weft.frontend.random.continuous import positive
from weft.frontend.random.discrete import number_type
from weft.frontend.random.keys import key_node, own_keys
from weft.frontend.random.parameters import parameter, result, result_shape
from weft.frontend.random.rejection import log_factorial, until_accepted
from weft.frontend.random.sampler import sampler
from weft.frontend.transforms.custom import stop_gradient

__all__ = ["binomial", "multinomial", "poisson"]

_F64 = DTYPES["f64"]
FEW = 10.0          # expected counts below this are found by adding up probabilities


@sampler("shape", "dtype")
def poisson(key: Any, lam: Any, shape: Any = None, dtype: Any = int) -> Any:
    """How many events come in a unit of time, if `lam` do on average.

    Args:
        key: a key, which is used up.
        lam: the mean, not negative; computed with in float64.
        shape: the shape of the result, to which `lam` broadcasts; that of `lam` if None.
        dtype: an integer or float type; int64 unless given.

    By adding up probabilities where `lam` is below 10, else by transformed rejection (algorithm
    PTRS of W. Hörmann, "The transformed rejection method for generating Poisson random variables",
    1993). Where `lam` is negative or NaN, the result is -1 (NaN in a float type).

    >>> import weft
    >>> weft.random.poisson(weft.random.key(0), 0.0)
    np.int64(0)
    """
    node, kind = key_node(key, "poisson"), number_type(dtype, "poisson")
    mean = parameter(lam, _F64)
    size = result_shape(shape, "poisson", mean)
    mean = stop_gradient(as_array(build().broadcast(mean.node, size)))
    valid = mean >= 0.0
    many = mean >= FEW
    first, second = own_keys(node, 2)
    few = _by_sums(first, size, np.exp(-np.where(valid & ~many, mean, 0.0)),
                   lambda k: np.where(valid & ~many, mean, 0.0) / k)
    large = _poisson_large(second, size, np.where(many, mean, FEW), many)
    out = np.where(many, large, few)
    return result(np.where(valid, out, np.nan if kind.is_float else -1.0), size, kind)


def _by_sums(key: Node, size: Shape, start: Any, ratio: Any) -> Any:
    """The least k for which P(0) + … + P(k) exceeds a uniform number; P(k) = P(k - 1) * ratio(k).

    Ends where probabilities no longer add to the sum, too.
    """
    u = positive(key, size, _F64)
    start = as_array(build().broadcast(as_array(start.node).node, size))

    def going(state: Any) -> Any:
        _, p, total = state
        return ((u > total) & (total + p > total)).any()

    def turn(state: Any) -> Any:
        k, p, total = state
        more = (u > total) & (total + p > total)
        k = np.where(more, k + 1.0, k)
        p = np.where(more, p * ratio(np.maximum(k, 1.0)), p)
        return k, p, np.where(more, total + p, total)

    zero = as_array(filled(size, 0, _F64))
    return while_loop(going, turn, (zero, start, start))[0]


def _poisson_large(key: Node, size: Shape, mean: Any, todo: Any) -> Any:
    root, log = np.sqrt(mean), np.log(mean)
    b = 0.931 + 2.53 * root
    a = -0.059 + 0.02483 * b
    inverse = 1.1239 + 1.1328 / (b - 3.4)
    edge = 0.9277 - 3.6224 / (b - 2.0)

    def draw(turn: Node) -> tuple[Any, Any]:
        u, v = (positive(k, size, _F64) for k in own_keys(turn, 2))
        u = u - 0.5
        near = 0.5 - abs(u)
        k = np.floor((2.0 * a / near + b) * u + mean + 0.43)
        inside = (near >= 0.07) & (v <= edge)
        outside = (k < 0.0) | ((near < 0.013) & (v > near))
        left = np.log(v * inverse / (a / (near * near) + b))
        right = k * log - mean - log_factorial(np.maximum(k, 0.0))
        return k, inside | (~outside & (left <= right))

    return until_accepted(key, size, _F64, draw, todo)


# ---- binomial

@sampler("shape", "dtype")
def binomial(key: Any, n: Any, p: Any, shape: Any = None, dtype: Any = int) -> Any:
    """How many of `n` throws succeed, each with probability `p`.

    Args:
        key: a key, which is used up.
        n: whole numbers, not negative, computed with in float64 (exact up to 2**53).
        p: probabilities.
        shape: the shape of the result, to which `n` and `p` broadcast; theirs if None.
        dtype: an integer or float type; int64 unless given.

    By adding up probabilities where fewer than 10 successes (or failures) are expected, else by
    transformed rejection (algorithm BTRS of W. Hörmann, "The generation of binomial random
    variates", 1993). Where n is negative or p no probability, the result is -1 (NaN in a float
    type).

    >>> import weft
    >>> weft.random.binomial(weft.random.key(0), 7, 1.0)
    np.int64(7)
    """
    node, kind = key_node(key, "binomial"), number_type(dtype, "binomial")
    count, chance = parameter(n, _F64), parameter(p, _F64)
    size = result_shape(shape, "binomial", count, chance)
    b = build()
    count, chance = (stop_gradient(as_array(b.broadcast(x.node, size))) for x in (count, chance))
    return result(_binomial(node, size, count, chance, np.nan if kind.is_float else -1.0),
                  size, kind)


def _binomial(key: Node, size: Shape, count: Any, chance: Any, wrong: float) -> Any:
    valid = (count >= 0.0) & (chance >= 0.0) & (chance <= 1.0)
    turned = chance > 0.5
    count = np.where(valid, count, 0.0)
    p = np.where(valid, np.where(turned, 1.0 - chance, chance), 0.0)
    many = count * p >= FEW
    first, second = own_keys(key, 2)
    rare = np.where(many, 0.0, p)
    odds = rare / (1.0 - rare)
    few = _by_sums(first, size, np.exp(count * np.log1p(-rare)),
                   lambda k: odds * (np.maximum(count - k + 1.0, 0.0) / k))
    large = _binomial_large(second, size, np.where(many, count, 40.0), np.where(many, p, 0.5), many)
    out = np.where(many, large, np.minimum(few, count))
    return np.where(valid, np.where(turned, count - out, out), wrong)


def _binomial_large(key: Node, size: Shape, n: Any, p: Any, todo: Any) -> Any:
    odds = np.log(p / (1.0 - p))
    root = np.sqrt(n * p * (1.0 - p))
    b = 1.15 + 2.53 * root
    a = -0.0873 + 0.0248 * b + 0.01 * p
    c = n * p + 0.5
    edge = 0.92 - 4.2 / b
    alpha = (2.83 + 5.1 / b) * root
    mode = np.floor((n + 1.0) * p)
    top = log_factorial(mode) + log_factorial(n - mode)

    def draw(turn: Node) -> tuple[Any, Any]:
        u, v = (positive(k, size, _F64) for k in own_keys(turn, 2))
        u = u - 0.5
        near = 0.5 - abs(u)
        k = np.floor((2.0 * a / near + b) * u + c)
        inside = (near >= 0.07) & (v <= edge)
        possible = (k >= 0.0) & (k <= n)
        at = np.where(possible, k, 0.0)
        left = np.log(v * alpha / (a / (near * near) + b))
        right = top - log_factorial(at) - log_factorial(n - at) + (at - mode) * odds
        return k, possible & (inside | (left <= right))

    return until_accepted(key, size, _F64, draw, todo)


@sampler("shape", "dtype")
def multinomial(key: Any, n: Any, p: Any, shape: Any = None, dtype: Any = int) -> Any:
    """How many of `n` throws fall into each of some categories.

    Args:
        key: a key, which is used up.
        n: whole numbers of throws.
        p: the probabilities of the categories, along the last axis; the last one is what the
            others leave.
        shape: the shape of the result, whose last axis is that of `p`; what `n` and the other axes
            of `p` broadcast to, and that axis, if None.
        dtype: an integer or float type; int64 unless given.

    Each category but the last is a binomial number of the throws that are left. Raises
    `ShapeError` where `p` is 0-d or the shapes do not fit.

    >>> import weft
    >>> int(weft.random.multinomial(weft.random.key(0), 20, [0.2, 0.3, 0.5]).sum())
    20
    """
    node, kind = key_node(key, "multinomial"), number_type(dtype, "multinomial")
    count, chances = (stop_gradient(parameter(v, _F64)) for v in (n, p))
    if not chances.node.shape or not isinstance(chances.node.shape[-1], int):
        raise problem(ShapeError, f"multinomial got probabilities of shape {chances.node.shape}",
                      expected="categories along the last axis")
    kinds = chances.node.shape[-1]
    size = result_shape(shape, "multinomial", count[..., None], chances)
    if size[-1] != kinds:
        raise problem(ShapeError, f"multinomial got the shape {size} for {kinds} categories",
                      expected=f"a last axis of size {kinds}")
    b, rest = build(), as_array(build().broadcast(count.node, size[:-1]))
    chances, left, out = as_array(b.broadcast(chances.node, size)), 1.0, []
    for i, own in enumerate(own_keys(node, max(kinds - 1, 0))):
        share = np.clip(chances[..., i] / left, 0.0, 1.0)
        out.append(_binomial(own, size[:-1], rest, share, -1.0))
        rest, left = rest - out[-1], np.maximum(left - chances[..., i], 5e-324)
    return result(np.stack([*out, rest], axis=-1), size, kind)
