"""TensorFlow: losses, gradients by GradientTape, training steps with the fused Adam."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from bench.kernels import EPSILON, HALF_SQRT, HEADS, STEP, STEPS
from bench.peers.base import Trainer
from bench.workloads import ADAM, Workload

Tensor = Any
Parameters = dict[str, Tensor]


class TensorFlowTrainer(Trainer):
    """A step as a tf.function, compiled by XLA or not, on variables."""

    def __init__(
        self, loss: Callable[..., Tensor], workload: Workload, inputs: Sequence[np.ndarray],
        xla: bool,
    ) -> None:
        self.loss = loss
        self.p = {k: tf.Variable(x) for k, x in zip(workload.parameters, inputs)}
        self.m, self.v = (
            {k: tf.Variable(tf.zeros_like(x)) for k, x in self.p.items()} for _ in range(2)
        )
        self.powers = tf.Variable(ADAM["beta1"]), tf.Variable(ADAM["beta2"])
        self.step = tf.function(self._step, jit_compile=xla)
        super().__init__(workload, inputs)

    def reset(self) -> None:
        for k, x in self.start.items():
            self.p[k].assign(x)
            self.m[k].assign(tf.zeros_like(x))
            self.v[k].assign(tf.zeros_like(x))
        for power, beta in zip(self.powers, (ADAM["beta1"], ADAM["beta2"])):
            power.assign(beta)

    def _step(self, *data: Tensor) -> Tensor:
        with tf.GradientTape() as tape:
            loss = self.loss(self.p, *data)
        gradient = tape.gradient(loss, self.p)
        # TensorFlow's epsilon is added before the correction of v, everyone else's after it.
        epsilon = ADAM["epsilon"] * tf.sqrt(1 - self.powers[1])
        for k, p in self.p.items():
            tf.raw_ops.ResourceApplyAdam(
                var=p.handle, m=self.m[k].handle, v=self.v[k].handle,
                beta1_power=self.powers[0], beta2_power=self.powers[1], lr=ADAM["rate"],
                beta1=ADAM["beta1"], beta2=ADAM["beta2"], epsilon=epsilon,
                grad=gradient[k],
            )  # fmt: skip
        self.powers[0].assign(self.powers[0] * ADAM["beta1"])
        self.powers[1].assign(self.powers[1] * ADAM["beta2"])
        return loss

    def __call__(self, *data: Any) -> Any:
        return self.step(*data)

    def parameters(self) -> list[np.ndarray]:
        return [self.p[k].numpy() for k in self.names]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    )


def train_mlp(p: Parameters, x: Tensor, labels: Tensor) -> Tensor:
    h = tf.nn.relu(x @ p["w1"] + p["b1"])
    h = tf.nn.relu(h @ p["w2"] + p["b2"])
    return cross_entropy(h @ p["w3"] + p["b3"], labels)


def train_cnn(p: Parameters, x: Tensor, labels: Tensor) -> Tensor:
    for i in "123":
        x = tf.nn.bias_add(tf.nn.conv2d(x, p["w" + i], 1, "SAME"), p["b" + i])
        x = tf.nn.max_pool2d(tf.nn.relu(x), 2, 2, "VALID")
    return cross_entropy(tf.reduce_mean(x, axis=(1, 2)) @ p["w4"] + p["b4"], labels)


def layer_norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, shift, scale, EPSILON)


def dense(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return tf.nn.bias_add(tf.tensordot(x, w, 1), b)


def train_gpt(p: Parameters, x: Tensor, target: Tensor) -> Tensor:
    batch, t, d = x.shape
    h = dense(layer_norm(x, p["scale1"], p["shift1"]), p["wqkv"], p["bqkv"])
    h = tf.transpose(tf.reshape(h, (batch, t, 3, HEADS, d // HEADS)), (2, 0, 3, 1, 4))
    q, k, v = tf.unstack(h)
    scores = tf.matmul(q, k, transpose_b=True) * (d // HEADS) ** -0.5
    scores = tf.where(np.tri(t, dtype=bool), scores, scores.dtype.min)
    mixed = tf.reshape(tf.transpose(tf.nn.softmax(scores) @ v, (0, 2, 1, 3)), (batch, t, d))
    x = x + dense(mixed, p["wout"], p["bout"])
    h = dense(layer_norm(x, p["scale2"], p["shift2"]), p["wup"], p["bup"])
    x = x + dense(tf.nn.gelu(h, approximate=True), p["wdown"], p["bdown"])
    return tf.reduce_mean(tf.math.squared_difference(x, target))


def train_lstm(p: Parameters, x: Tensor, labels: Tensor) -> Tensor:
    steps, batch = x.shape[:2]
    h = c = tf.zeros((batch, p["wh"].shape[0]))
    projected = dense(x, p["wx"], p["b"])
    for i in tf.range(steps):  # a tf.while_loop
        a, f, g, o = tf.split(projected[i] + h @ p["wh"], 4, axis=1)
        c = tf.sigmoid(f) * c + tf.sigmoid(a) * tf.tanh(g)
        h = tf.sigmoid(o) * tf.tanh(c)
    return cross_entropy(h @ p["wo"] + p["bo"], labels)


def _gradient(fn: Callable[..., Tensor], count: int) -> Callable[..., Any]:
    """The gradients of a function by its first arguments."""
    def gradient(*args: Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(args[:count])
            value = fn(*args)
        return tuple(tape.gradient(value, args[:count]))

    return gradient


def _stress(x: Tensor, y: Tensor, target: Tensor) -> Tensor:
    squares = tf.reduce_sum(x * x, axis=1)[:, None] + tf.reduce_sum(y * y, axis=1)
    squares -= 2 * tf.matmul(x, y, transpose_b=True)
    return tf.reduce_mean(tf.math.squared_difference(tf.sqrt(squares), target))


def _lorenz(state: Any, constants: Any) -> Any:
    (x, y, z), (sigma, rho, beta) = state, constants
    return sigma * (y - x), x * (rho - z) - y, x * y - beta * z


def _moved(state: Any, slopes: Any, by: float) -> Any:
    return tuple(s + by * k for s, k in zip(state, slopes))


def _rk4(state: Any, constants: Any) -> Any:
    k1 = _lorenz(state, constants)
    k2 = _lorenz(_moved(state, k1, STEP / 2), constants)
    k3 = _lorenz(_moved(state, k2, STEP / 2), constants)
    k4 = _lorenz(_moved(state, k3, STEP), constants)
    return _moved(state, [a + 2 * b + 2 * c + d for a, b, c, d in zip(k1, k2, k3, k4)], STEP / 6)


def _energy(x: Tensor, y: Tensor, z: Tensor, constants: Tensor) -> Tensor:
    for _ in tf.range(STEPS):
        x, y, z = _rk4((x, y, z), tf.unstack(constants))
    return sum(tf.reduce_mean(s * s) for s in (x, y, z))


def _option_values(
    price: Tensor, strike: Tensor, volatility: Tensor, years: Tensor, rate: Tensor
) -> Tensor:
    spread = volatility * tf.sqrt(years)
    d1 = (tf.math.log(price / strike) + (rate + 0.5 * volatility**2) * years) / spread
    cdf1, cdf2 = (0.5 * (1 + tf.math.erf(d * HALF_SQRT)) for d in (d1, d1 - spread))
    return tf.reduce_sum(price * cdf1 - strike * tf.exp(-rate * years) * cdf2)


def _small_model(p: Tensor, x: Tensor, y: Tensor) -> Tensor:
    k, n = x.shape[1], (p.shape[0] - 1) // (x.shape[1] + 2)
    w1, b1, w2, b2 = tf.reshape(p[:k * n], (k, n)), p[k * n:-n - 1], p[-n - 1:-1], p[-1]
    h = tf.tanh(x @ w1 + b1)
    return tf.reduce_mean(tf.math.squared_difference(tf.linalg.matvec(h, w2) + b2, y))


stress_gradient = _gradient(_stress, 2)
lorenz_gradient = _gradient(_energy, 4)
greeks = _gradient(_option_values, 5)


def hessian(p: Tensor, x: Tensor, y: Tensor) -> Tensor:
    with tf.GradientTape() as outer:
        outer.watch(p)
        with tf.GradientTape() as inner:
            inner.watch(p)
            value = _small_model(p, x, y)
        gradient = inner.gradient(value, p)
    return outer.jacobian(gradient, p)  # vectorised by tf.vectorized_map
