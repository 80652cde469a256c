"""JAX: jax.numpy and jax.nn under jax.jit, on JAX's own arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.kernels import EPSILON, HALF_SQRT, RATE, VOLATILITY
from bench.peers.base import Peer
from bench.peers.jax_derivatives import JaxTrainer
from bench.workloads import Workload

Array = jax.Array


class Jax(Peer):
    """Every call waits for its result. Float64 workloads switch 64-bit types on first."""

    distributions = ("jax", "jaxlib", "numpy")
    statement = "sync(call({args}))"

    def build(self, workload: Workload, inputs: Sequence[np.ndarray]) -> Callable[..., Any] | None:
        jax.config.update("jax_enable_x64", workload.dtype == "float64")
        kernel = self.kernel(workload)
        if kernel is not None and workload.parameters:
            return JaxTrainer(kernel, workload, inputs)
        return jax.jit(kernel) if kernel else None

    def arguments(self, workload: Workload, inputs: Sequence[np.ndarray]) -> list[Any]:
        return [jnp.array(x) for x in super().arguments(workload, inputs)]

    def sync(self, result: Any) -> Any:
        for part in result if isinstance(result, tuple) else (result,):
            part.block_until_ready()
        return result


PEER = Jax


def gelu(x: Array, b: Array) -> Array:
    return jax.nn.gelu(x + b, approximate=True)


def black_scholes(price: Array, strike: Array, years: Array) -> tuple[Array, Array]:
    spread = VOLATILITY * jnp.sqrt(years)
    d1 = (jnp.log(price / strike) + (RATE + 0.5 * VOLATILITY * VOLATILITY) * years) / spread
    d2 = d1 - spread
    cdf1 = 0.5 * (1 + jax.scipy.special.erf(d1 * HALF_SQRT))
    cdf2 = 0.5 * (1 + jax.scipy.special.erf(d2 * HALF_SQRT))
    discounted = strike * jnp.exp(-RATE * years)
    return price * cdf1 - discounted * cdf2, discounted * (1 - cdf2) - price * (1 - cdf1)


def softmax(x: Array) -> Array:
    return jax.nn.softmax(x, axis=-1)


def layer_norm(x: Array, scale: Array, shift: Array) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + EPSILON) * scale + shift


def sum_rows(x: Array) -> Array:
    return x.sum(axis=1)


def sum_columns(x: Array) -> Array:
    return x.sum(axis=0)


def sum_all(x: Array) -> Array:
    return x.sum()


def variance_rows(x: Array) -> Array:
    return x.var(axis=1)


def variance_all(x: Array) -> Array:
    return x.var()


def pairwise(x: Array, y: Array) -> Array:
    return jnp.sqrt(((x[:, None, :] - y[None, :, :]) ** 2).sum(axis=-1))


def logsumexp(x: Array) -> Array:
    return jax.nn.logsumexp(x, axis=-1)


def cosine(x: Array, y: Array) -> Array:
    dot = (x * y).sum(axis=-1)
    return dot * jax.lax.rsqrt((x * x).sum(axis=-1) * (y * y).sum(axis=-1))


def matmul(x: Array, w: Array) -> Array:
    return x @ w


def matmul_gelu(x: Array, w: Array, b: Array) -> Array:
    return jax.nn.gelu(x @ w + b, approximate=True)


def mlp(
    x: Array, w1: Array, b1: Array, w2: Array, b2: Array, w3: Array, b3: Array
) -> Array:
    h = jax.nn.relu(x @ w1 + b1)
    h = jax.nn.relu(h @ w2 + b2)
    return h @ w3 + b3


def multiply_add(x: Array, y: Array) -> Array:
    return x * y + y
