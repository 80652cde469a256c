"""The benchmarked computations as plain NumPy code: what weft compiles, unmodified.

Each function is one kernel; ``bench.workloads`` names it together with its inputs. They are also
the definition of the right answer: run on float64 inputs they give the reference.
"""

from __future__ import annotations

from typing import Any

import numpy as np

try:
    from scipy import special
except ImportError:  # only black_scholes needs it
    special = None  # type: ignore[assignment]

Array = Any  # an ndarray for NumPy, a tracer for weft

RATE = 0.02
VOLATILITY = 0.30
EPSILON = 1e-5
GELU_CUBE = 0.044715
GELU_SCALE = 0.7978845608028654  # sqrt(2 / pi)
HALF_SQRT = 0.7071067811865476  # sqrt(1 / 2)
STEP, STEPS = 0.005, 100  # of the integrator
HEADS = 12  # of attention


def gelu(x: Array, b: Array) -> Array:
    """GELU of ``x + b``, in its tanh form."""
    h = x + b
    return 0.5 * h * (1 + np.tanh(GELU_SCALE * (h + GELU_CUBE * h**3)))


def black_scholes(price: Array, strike: Array, years: Array) -> tuple[Array, Array]:
    """Prices of European call and put options."""
    spread = VOLATILITY * np.sqrt(years)
    d1 = (np.log(price / strike) + (RATE + 0.5 * VOLATILITY * VOLATILITY) * years) / spread
    d2 = d1 - spread
    cdf1 = 0.5 * (1 + special.erf(d1 * HALF_SQRT))
    cdf2 = 0.5 * (1 + special.erf(d2 * HALF_SQRT))
    discounted = strike * np.exp(-RATE * years)
    call = price * cdf1 - discounted * cdf2
    put = discounted * (1 - cdf2) - price * (1 - cdf1)
    return call, put


def softmax(x: Array) -> Array:
    """Softmax over the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def layer_norm(x: Array, scale: Array, shift: Array) -> Array:
    """Layer normalisation over the last axis, then an affine map."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + EPSILON) * scale + shift


def sum_rows(x: Array) -> Array:
    """The sum of each row."""
    return x.sum(axis=1)


def sum_columns(x: Array) -> Array:
    """The sum of each column."""
    return x.sum(axis=0)


def sum_all(x: Array) -> Array:
    """The sum of everything."""
    return x.sum()


def variance_rows(x: Array) -> Array:
    """The variance of each row."""
    return x.var(axis=1)


def variance_all(x: Array) -> Array:
    """The variance of everything."""
    return x.var()


def pairwise(x: Array, y: Array) -> Array:
    """Euclidean distance of each row of ``x`` to each row of ``y``."""
    return np.sqrt(((x[:, None, :] - y[None, :, :]) ** 2).sum(axis=-1))


def logsumexp(x: Array) -> Array:
    """log(sum(exp(row))) of each row, without overflow."""
    top = x.max(axis=-1, keepdims=True)
    return np.log(np.exp(x - top).sum(axis=-1)) + top[..., 0]


def cosine(x: Array, y: Array) -> Array:
    """Cosine of the angle between each row of ``x`` and the same row of ``y``."""
    dot = (x * y).sum(axis=-1)
    return dot / np.sqrt((x * x).sum(axis=-1) * (y * y).sum(axis=-1))


def matmul(x: Array, w: Array) -> Array:
    """A matrix product."""
    return x @ w


def matmul_gelu(x: Array, w: Array, b: Array) -> Array:
    """A matrix product, a bias and GELU: one layer of a transformer's feed-forward part."""
    h = x @ w + b
    return 0.5 * h * (1 + np.tanh(GELU_SCALE * (h + GELU_CUBE * h**3)))


def mlp(
    x: Array, w1: Array, b1: Array, w2: Array, b2: Array, w3: Array, b3: Array
) -> Array:
    """Inference of a three-layer perceptron with ReLU; gives logits."""
    h = np.maximum(x @ w1 + b1, 0)
    h = np.maximum(h @ w2 + b2, 0)
    return h @ w3 + b3


def multiply_add(x: Array, y: Array) -> Array:
    """Two calls of NumPy on next to no data: what is left is the price of a call."""
    return x * y + y
