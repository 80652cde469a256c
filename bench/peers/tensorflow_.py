"""TensorFlow, eager and compiled by XLA, on its own tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from bench.kernels import EPSILON, HALF_SQRT, RATE, VOLATILITY
from bench.peers.base import Peer
from bench.peers.tensorflow_derivatives import TensorFlowTrainer
from bench.workloads import Workload

Tensor = Any


class TensorFlow(Peer):
    """Eager, or with variant ``xla`` the same functions under ``tf.function(jit_compile=True)``.

    Derivatives and training are a ``tf.function`` in both, as every guide of TensorFlow has them.
    """

    distributions = ("tensorflow-cpu", "numpy")

    def build(self, workload: Workload, inputs: Sequence[np.ndarray]) -> Callable[..., Any] | None:
        kernel, xla = self.kernel(workload), self.variant == "xla"
        if kernel is not None and workload.parameters:
            return TensorFlowTrainer(kernel, workload, inputs, xla)
        if kernel is None or not (xla or workload.group == "gradient"):
            return kernel
        return tf.function(kernel, jit_compile=xla)

    def arguments(self, workload: Workload, inputs: Sequence[np.ndarray]) -> list[Any]:
        return [tf.constant(x) for x in super().arguments(workload, inputs)]

    def numpy(self, result: Any) -> np.ndarray:
        return result.numpy()


PEER = TensorFlow


def gelu(x: Tensor, b: Tensor) -> Tensor:
    return tf.nn.gelu(x + b, approximate=True)


def black_scholes(price: Tensor, strike: Tensor, years: Tensor) -> tuple[Tensor, Tensor]:
    spread = VOLATILITY * tf.sqrt(years)
    d1 = tf.math.log(price / strike) + (RATE + 0.5 * VOLATILITY * VOLATILITY) * years
    d1 /= spread
    d2 = d1 - spread
    cdf1 = 0.5 * (1 + tf.math.erf(d1 * HALF_SQRT))
    cdf2 = 0.5 * (1 + tf.math.erf(d2 * HALF_SQRT))
    discounted = strike * tf.exp(-RATE * years)
    return price * cdf1 - discounted * cdf2, discounted * (1 - cdf2) - price * (1 - cdf1)


def softmax(x: Tensor) -> Tensor:
    return tf.nn.softmax(x, axis=-1)


def layer_norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, shift, scale, EPSILON)


def sum_rows(x: Tensor) -> Tensor:
    return tf.reduce_sum(x, axis=1)


def sum_columns(x: Tensor) -> Tensor:
    return tf.reduce_sum(x, axis=0)


def sum_all(x: Tensor) -> Tensor:
    return tf.reduce_sum(x)


def variance_rows(x: Tensor) -> Tensor:
    return tf.math.reduce_variance(x, axis=1)


def variance_all(x: Tensor) -> Tensor:
    return tf.math.reduce_variance(x)


def pairwise(x: Tensor, y: Tensor) -> Tensor:
    difference = x[:, tf.newaxis, :] - y[tf.newaxis, :, :]
    return tf.sqrt(tf.reduce_sum(tf.square(difference), axis=-1))


def logsumexp(x: Tensor) -> Tensor:
    return tf.reduce_logsumexp(x, axis=-1)


def cosine(x: Tensor, y: Tensor) -> Tensor:
    dot = tf.reduce_sum(x * y, axis=-1)
    squares = tf.reduce_sum(x * x, axis=-1) * tf.reduce_sum(y * y, axis=-1)
    return dot * tf.math.rsqrt(squares)


def matmul(x: Tensor, w: Tensor) -> Tensor:
    return x @ w


def matmul_gelu(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return tf.nn.gelu(x @ w + b, approximate=True)


def mlp(
    x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, w3: Tensor, b3: Tensor
) -> Tensor:
    h = tf.nn.relu(x @ w1 + b1)
    h = tf.nn.relu(h @ w2 + b2)
    return h @ w3 + b3


def multiply_add(x: Tensor, y: Tensor) -> Tensor:
    return x * y + y
