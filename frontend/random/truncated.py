"""Normal numbers between bounds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from weft.compiler.ir import Node
from weft.compiler.types import DTYPES, Shape
from weft.frontend.numpy.common import as_array, build
from weft.frontend.random.continuous import positive
from weft.frontend.random.generator import float_type
from weft.frontend.random.keys import key_node, own_keys
from weft.frontend.random.parameters import parameter, result, result_shape
from weft.frontend.random.rejection import until_accepted
from weft.frontend.random.sampler import sampler
from weft.frontend.transforms.custom import custom_jvp, stop_gradient

__all__ = ["truncated_normal"]

_F64 = DTYPES["f64"]
TAIL = 4.0          # deviations from which a bound lies in the tail: 3e-5 of all numbers do
ROOT = math.sqrt(0.5)


@sampler("shape", "dtype")
def truncated_normal(key: Any, lower: Any, upper: Any, shape: Any = None,
                     dtype: Any = float) -> Any:
    """Standard normal numbers that lie between `lower` and `upper`, computed in float64.

    Args:
        key: a key, which is used up.
        lower, upper: the bounds, which may be infinite, rounded to the dtype. The result is NaN
            where they are not in order.
        shape: the shape of the result, to which the bounds broadcast; theirs if None.
        dtype: a float type; float64 unless given.

    The distribution is inverted; bounds in a tail, from 4 deviations on, have it drawn by rejection
    (Marsaglia, "Generating a variable from the tail of the normal distribution", 1964). As the
    bounds move, numbers move so that the probability of smaller ones stays what it is.

    >>> import weft
    >>> bool(1 <= weft.random.truncated_normal(weft.random.key(0), 1.0, 2.0) <= 2)
    True
    """
    node, kind = key_node(key, "truncated_normal"), float_type(dtype, "truncated_normal")
    low, high = (parameter(parameter(v, kind), _F64) for v in (lower, upper))
    size = result_shape(shape, "truncated_normal", low, high)
    low, high = (as_array(build().broadcast(x.node, size)) for x in (low, high))
    turned = high <= 0.0
    a, b = np.where(turned, -high, low), np.where(turned, -low, high)
    x = _between(_drawn(node, size, stop_gradient(a), stop_gradient(b)), a, b)
    x = np.where(low <= high, np.where(turned, -x, x), np.nan)
    return result(x, size, kind)


def _drawn(key: Node, size: Shape, a: Any, b: Any) -> Any:
    """Numbers between a and b, where b > 0 or both are 0."""
    first, second = own_keys(key, 2)
    tail = (a >= TAIL) & (a <= b)
    from_, to = (_erf(np.where(tail, 0.0, v) * ROOT) for v in (a, b))
    inner = _erf_inv(from_ + (to - from_) * positive(first, size, _F64)) * math.sqrt(2.0)
    start = np.where(tail, a, TAIL)
    # of the numbers e**(-x*x/2) between that of `a` and that of b: this share is left out
    beyond = np.where(tail, np.exp(0.5 * (start - b) * (start + b)), 0.0)

    def draw(turn: Node) -> tuple[Any, Any]:
        u, v = (positive(k, size, _F64) for k in own_keys(turn, 2))
        x = np.sqrt(start * start - 2.0 * np.log(beyond + (1.0 - beyond) * u))
        return x, v * x < start

    outer = until_accepted(second, size, _F64, draw, tail)
    return np.minimum(np.maximum(np.where(tail, outer, inner), a), b)


def _erf(x: Any) -> Any:
    return as_array(build().erf(x.node))


def _erfc(x: Any) -> Any:
    return as_array(build().erfc(x.node))


def _erf_inv(x: Any) -> Any:
    return as_array(build().erf_inv(x.node))


@custom_jvp
def _between(x: Any, a: Any, b: Any) -> Any:
    """Numbers between a and b, as they were drawn."""
    return x


@_between.defjvp
def _(primals: Any, tangents: Any) -> Any:
    """Of the probability F(x) = (Φ(x) - Φ(a)) / (Φ(b) - Φ(a)), which stays, with densities φ:
    φ(x) dx = (1 - F) φ(a) da + F φ(b) db."""
    x, a, b = primals
    out = _between(x, a, b)
    at_a, at_x, at_b = (_erfc(v * ROOT) for v in (a, out, b))
    whole = at_a - at_b
    left = np.where(whole > 0.0, (at_x - at_b) / np.where(whole > 0.0, whole, 1.0), 0.0)
    by_a = left * np.exp(0.5 * (out - a) * (out + a))
    # so far out that erfc is 0: the limit for an infinite b
    by_a = np.where(whole > 0.0, by_a, a / out)
    by_a = np.where(np.isfinite(a), by_a, 0.0)
    end = np.where(np.isfinite(b), b, out)
    by_b = (1.0 - left) * np.exp(0.5 * (out - end) * (out + end))
    by_b = np.where(np.isfinite(b), by_b, 0.0)
    return out, tangents[0] + by_a * tangents[1] + by_b * tangents[2]
