"""Numba: explicit parallel loops under ``njit(parallel=True, fastmath=False)``, NumPy in and out.

The constants take the array's own type: a bare ``0.5`` would carry float32 code to float64.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
from numba import prange

from bench.kernels import EPSILON, GELU_CUBE, GELU_SCALE, HALF_SQRT, RATE, VOLATILITY
from bench.peers.base import Peer
from bench.workloads import Workload

Array = Any
# Nothing to share out, or threaded inside BLAS, whose threads and Numba's own get in each other's
# way: with parallel=True these were slower, up to 60 times (only matmul-gelu-64 was not).
SERIAL = {"multiply_add", "matmul", "matmul_gelu", "mlp"}


class Numba(Peer):
    """The kernels below, jitted; kept on disk when ``NUMBA_CACHE_DIR`` is set."""

    distributions = ("numba", "llvmlite", "numpy")
    keeps_dtype = False  # a scalar comes back as a Python float

    def build(self, workload: Workload, inputs: Sequence[np.ndarray]) -> Callable[..., Any] | None:
        kernel = self.kernel(workload)
        if kernel is None:
            return None
        cache = "NUMBA_CACHE_DIR" in os.environ
        parallel = workload.kernel not in SERIAL
        return numba.njit(parallel=parallel, fastmath=False, cache=cache)(kernel)

    def threads(self) -> int | None:
        return numba.get_num_threads()


PEER = Numba


def gelu(x: Array, b: Array) -> Array:
    real = x.dtype.type
    half, one, cube, scale = real(0.5), real(1), real(GELU_CUBE), real(GELU_SCALE)
    out = np.empty_like(x)
    for i in prange(x.shape[0]):
        for j in range(x.shape[1]):
            h = x[i, j] + b[j]
            out[i, j] = half * h * (one + math.tanh(scale * (h + cube * h * h * h)))
    return out


def black_scholes(price: Array, strike: Array, years: Array) -> tuple[Array, Array]:
    real = price.dtype.type
    half, one, scale, rate = real(0.5), real(1), real(HALF_SQRT), real(RATE)
    volatility, drift = real(VOLATILITY), real(RATE + 0.5 * VOLATILITY * VOLATILITY)
    call, put = np.empty_like(price), np.empty_like(price)
    for i in prange(price.size):
        spread = volatility * math.sqrt(years[i])
        d1 = (math.log(price[i] / strike[i]) + drift * years[i]) / spread
        cdf1 = half * (one + math.erf(d1 * scale))
        cdf2 = half * (one + math.erf((d1 - spread) * scale))
        discounted = strike[i] * math.exp(-rate * years[i])
        call[i] = price[i] * cdf1 - discounted * cdf2
        put[i] = discounted * (one - cdf2) - price[i] * (one - cdf1)
    return call, put


def softmax(x: Array) -> Array:
    out = np.empty_like(x)
    for i in prange(x.shape[0]):
        top = x[i].max()
        total = x.dtype.type(0)
        for j in range(x.shape[1]):
            e = math.exp(x[i, j] - top)
            out[i, j] = e
            total += e
        scale = x.dtype.type(1) / total
        for j in range(x.shape[1]):
            out[i, j] *= scale
    return out


def layer_norm(x: Array, scale: Array, shift: Array) -> Array:
    real = x.dtype.type
    out = np.empty_like(x)
    for i in prange(x.shape[0]):
        size = real(x.shape[1])
        mean = x[i].sum() / size
        square = real(0)
        for j in range(x.shape[1]):
            square += (x[i, j] - mean) * (x[i, j] - mean)
        factor = real(1) / math.sqrt(square / size + real(EPSILON))
        for j in range(x.shape[1]):
            out[i, j] = (x[i, j] - mean) * factor * scale[j] + shift[j]
    return out


def sum_rows(x: Array) -> Array:
    out = np.empty(x.shape[0], x.dtype)
    for i in prange(x.shape[0]):
        out[i] = x[i].sum()
    return out


def sum_columns(x: Array) -> Array:
    out = np.zeros(x.shape[1], x.dtype)
    width = 256  # columns of one task: its part of `out` stays in the first cache
    for block in prange((x.shape[1] + width - 1) // width):
        part = out[block * width : (block + 1) * width]
        for i in range(x.shape[0]):
            for j in range(part.size):
                part[j] += x[i, block * width + j]
    return out


def sum_all(x: Array) -> Array:
    out = np.empty(x.shape[0], x.dtype)
    for i in prange(x.shape[0]):
        out[i] = x[i].sum()
    return out.sum()


def variance_rows(x: Array) -> Array:
    out = np.empty(x.shape[0], x.dtype)
    for i in prange(x.shape[0]):
        out[i] = x[i].var()
    return out


def variance_all(x: Array) -> Array:
    rows = np.empty(x.shape[0], x.dtype)
    for i in prange(x.shape[0]):
        rows[i] = x[i].sum()
    mean = x.dtype.type(rows.sum() / x.size)
    for i in prange(x.shape[0]):
        square = x.dtype.type(0)
        for j in range(x.shape[1]):
            square += (x[i, j] - mean) * (x[i, j] - mean)
        rows[i] = square
    return rows.sum() / x.size


def pairwise(x: Array, y: Array) -> Array:
    out = np.empty((x.shape[0], y.shape[0]), x.dtype)
    for i in prange(x.shape[0]):
        for j in range(y.shape[0]):
            square = x.dtype.type(0)
            for k in range(x.shape[1]):
                square += (x[i, k] - y[j, k]) * (x[i, k] - y[j, k])
            out[i, j] = math.sqrt(square)
    return out


def logsumexp(x: Array) -> Array:
    out = np.empty(x.shape[0], x.dtype)
    for i in prange(x.shape[0]):
        top = x[i].max()
        total = x.dtype.type(0)
        for j in range(x.shape[1]):
            total += math.exp(x[i, j] - top)
        out[i] = math.log(total) + top
    return out


def cosine(x: Array, y: Array) -> Array:
    real = x.dtype.type
    out = np.empty(x.shape[0], x.dtype)
    for i in prange(x.shape[0]):
        dot, xx, yy = real(0), real(0), real(0)
        for j in range(x.shape[1]):
            dot += x[i, j] * y[i, j]
            xx += x[i, j] * x[i, j]
            yy += y[i, j] * y[i, j]
        out[i] = dot / math.sqrt(xx * yy)
    return out


def matmul(x: Array, w: Array) -> Array:
    return x @ w


def matmul_gelu(x: Array, w: Array, b: Array) -> Array:
    real = x.dtype.type
    half, one, cube, scale = real(0.5), real(1), real(GELU_CUBE), real(GELU_SCALE)
    out = x @ w
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            h = out[i, j] + b[j]
            out[i, j] = half * h * (one + math.tanh(scale * (h + cube * h * h * h)))
    return out


def mlp(
    x: Array, w1: Array, b1: Array, w2: Array, b2: Array, w3: Array, b3: Array
) -> Array:
    zero = x.dtype.type(0)
    h = np.maximum(x @ w1 + b1, zero)
    h = np.maximum(h @ w2 + b2, zero)
    return h @ w3 + b3


def multiply_add(x: Array, y: Array) -> Array:
    return x * y + y
