"""JAX: losses, their gradients and Hessians; training with all of a step in one jit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bench.kernels import EPSILON, HALF_SQRT, HEADS, STEP, STEPS
from bench.peers.base import Trainer
from bench.workloads import ADAM, Workload

Array = jax.Array
Parameters = dict[str, Array]


class JaxTrainer(Trainer):
    """One jitted step; the parameters and Adam's state are donated, so it works in place."""

    def __init__(
        self, loss: Callable[..., Array], workload: Workload, inputs: Sequence[np.ndarray]
    ) -> None:
        self.step = jax.jit(step(loss), donate_argnums=(0, 1))
        super().__init__(workload, inputs)

    def reset(self) -> None:
        self.p = {k: jnp.array(x) for k, x in self.start.items()}
        m, v = ({k: jnp.zeros_like(x) for k, x in self.p.items()} for _ in range(2))
        self.state = {"t": jnp.zeros((), jnp.int32), "m": m, "v": v}

    def __call__(self, *data: Any) -> Any:
        self.p, self.state, loss = self.step(self.p, self.state, *data)
        return loss

    def parameters(self) -> list[np.ndarray]:
        return [np.asarray(self.p[k]) for k in self.names]


def step(loss: Callable[..., Array]) -> Callable[..., Any]:
    def train(p: Parameters, state: Any, *data: Array) -> Any:
        value, g = jax.value_and_grad(loss)(p, *data)
        rate, b1, b2, epsilon = ADAM["rate"], ADAM["beta1"], ADAM["beta2"], ADAM["epsilon"]
        t = state["t"] + 1
        m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state["m"], g)
        v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state["v"], g)
        size, root = rate / (1 - b1**t), jnp.sqrt(1 - b2**t)
        p = jax.tree.map(lambda p, m, v: p - size * m / (jnp.sqrt(v) / root + epsilon), p, m, v)
        return p, {"t": t, "m": m, "v": v}, value

    return train


def cross_entropy(logits: Array, labels: Array) -> Array:
    log_p = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log_p, labels[:, None], axis=1).mean()


def train_mlp(p: Parameters, x: Array, labels: Array) -> Array:
    h = jax.nn.relu(x @ p["w1"] + p["b1"])
    h = jax.nn.relu(h @ p["w2"] + p["b2"])
    return cross_entropy(h @ p["w3"] + p["b3"], labels)


def train_cnn(p: Parameters, x: Array, labels: Array) -> Array:
    for i in "123":
        x = lax.conv_general_dilated(
            x, p["w" + i], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x + p["b" + i])
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return cross_entropy(x.mean(axis=(1, 2)) @ p["w4"] + p["b4"], labels)


def layer_norm(x: Array, scale: Array, shift: Array) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return centred * lax.rsqrt(variance + EPSILON) * scale + shift


def train_gpt(p: Parameters, x: Array, target: Array) -> Array:
    batch, t, d = x.shape
    h = layer_norm(x, p["scale1"], p["shift1"]) @ p["wqkv"] + p["bqkv"]
    q, k, v = jnp.moveaxis(h.reshape(batch, t, 3, HEADS, d // HEADS), 2, 0)
    mixed = jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(batch, t, d)
    x = x + mixed @ p["wout"] + p["bout"]
    h = layer_norm(x, p["scale2"], p["shift2"]) @ p["wup"] + p["bup"]
    x = x + jax.nn.gelu(h, approximate=True) @ p["wdown"] + p["bdown"]
    return ((x - target) ** 2).mean()


def train_lstm(p: Parameters, x: Array, labels: Array) -> Array:
    def cell(carry: Any, at: Array) -> Any:
        h, c = carry
        i, f, g, o = jnp.split(at + h @ p["wh"], 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    zeros = jnp.zeros((x.shape[1], p["wh"].shape[0]), x.dtype)
    (h, _), _ = lax.scan(cell, (zeros, zeros), x @ p["wx"] + p["b"])
    return cross_entropy(h @ p["wo"] + p["bo"], labels)


def _stress(x: Array, y: Array, target: Array) -> Array:
    # Of the product's form: with x[:, None] - y[None], XLA takes fifteen times as long.
    squares = (x * x).sum(axis=1)[:, None] + (y * y).sum(axis=1) - 2 * (x @ y.T)
    return ((jnp.sqrt(squares) - target) ** 2).mean()


def _lorenz(state: Any, constants: Array) -> Any:
    (x, y, z), (sigma, rho, beta) = state, constants
    return sigma * (y - x), x * (rho - z) - y, x * y - beta * z


@jax.checkpoint  # keeping what is inside of each step makes it twelve times as slow
def _rk4(state: Any, constants: Array) -> Any:
    def moved(slopes: Any, by: float) -> Any:
        return jax.tree.map(lambda s, k: s + by * k, state, slopes)

    k1 = _lorenz(state, constants)
    k2 = _lorenz(moved(k1, STEP / 2), constants)
    k3 = _lorenz(moved(k2, STEP / 2), constants)
    k4 = _lorenz(moved(k3, STEP), constants)
    return moved(jax.tree.map(lambda a, b, c, d: a + 2 * b + 2 * c + d, k1, k2, k3, k4), STEP / 6)


def _energy(x: Array, y: Array, z: Array, constants: Array) -> Array:
    state, _ = lax.scan(lambda s, _: (_rk4(s, constants), None), (x, y, z), length=STEPS)
    return sum((s * s).mean() for s in state)


def _option_values(
    price: Array, strike: Array, volatility: Array, years: Array, rate: Array
) -> Array:
    spread = volatility * jnp.sqrt(years)
    d1 = (jnp.log(price / strike) + (rate + 0.5 * volatility**2) * years) / spread
    cdf1, cdf2 = (0.5 * (1 + lax.erf(d * HALF_SQRT)) for d in (d1, d1 - spread))
    return (price * cdf1 - strike * jnp.exp(-rate * years) * cdf2).sum()


def _small_model(p: Array, x: Array, y: Array) -> Array:
    k, n = x.shape[1], (p.shape[0] - 1) // (x.shape[1] + 2)
    w1, b1, w2, b2 = p[:k * n].reshape(k, n), p[k * n:-n - 1], p[-n - 1:-1], p[-1]
    return ((jnp.tanh(x @ w1 + b1) @ w2 + b2 - y) ** 2).mean()


stress_gradient = jax.grad(_stress, argnums=(0, 1))
lorenz_gradient = jax.grad(_energy, argnums=(0, 1, 2, 3))
greeks = jax.grad(_option_values, argnums=(0, 1, 2, 3, 4))
hessian = jax.hessian(_small_model)
