"""Losses and models as plain NumPy code: what weft differentiates and compiles.

Those named ``train_*`` take their parameters in a dict; `step` is a step of training, written as
its users write it. Of the others, ``bench.peers.weft_`` takes the derivative.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import weft
from bench.kernels import EPSILON, GELU_CUBE, GELU_SCALE, HALF_SQRT, HEADS, STEP, STEPS
from bench.workloads import ADAM

try:
    from scipy import special
except ImportError:  # only option_values needs it
    special = None  # type: ignore[assignment]

Array = Any  # an ndarray, or a tracer
Parameters = dict[str, Array]


def step(loss: Callable[..., Array]) -> Callable[..., Any]:
    """A step of training: the parameters and Adam's state before and after it."""
    def train(p: Parameters, state: Parameters, *data: Array) -> tuple[Any, Any, Array]:
        value, gradient = weft.value_and_grad(loss)(p, *data)
        p, state = adam(p, gradient, state)
        return p, state, value

    return train


def adam(p: Parameters, g: Parameters, state: dict[str, Any]) -> tuple[Parameters, dict[str, Any]]:
    """Parameters and state after a step of Adam."""
    rate, b1, b2, epsilon = ADAM["rate"], ADAM["beta1"], ADAM["beta2"], ADAM["epsilon"]
    t = state["t"] + 1
    m = {k: b1 * state["m"][k] + (1 - b1) * g[k] for k in p}
    v = {k: b2 * state["v"][k] + (1 - b2) * g[k] ** 2 for k in p}
    size, root = rate / (1 - b1**t), np.sqrt(1 - b2**t)
    p = {k: p[k] - size * m[k] / (np.sqrt(v[k]) / root + epsilon) for k in p}
    return p, {"t": t, "m": m, "v": v}


def cross_entropy(logits: Array, labels: Array) -> Array:
    """The mean over the batch of -log(the label's probability)."""
    z = logits - logits.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return -log_p[np.arange(len(labels)), labels].mean()


def train_mlp(p: Parameters, x: Array, labels: Array) -> Array:
    """A three-layer perceptron with ReLU."""
    h = np.maximum(x @ p["w1"] + p["b1"], 0)
    h = np.maximum(h @ p["w2"] + p["b2"], 0)
    return cross_entropy(h @ p["w3"] + p["b3"], labels)


def train_cnn(p: Parameters, x: Array, labels: Array) -> Array:
    """Three blocks of convolution, ReLU and pooling, then the mean over the picture."""
    for i in "123":
        x = weft.nn.conv2d(x, p["w" + i], p["b" + i], padding="same", channels_last=True)
        x = weft.nn.max_pool2d(np.maximum(x, 0), 2, channels_last=True)
    return cross_entropy(x.mean(axis=(1, 2)) @ p["w4"] + p["b4"], labels)


def layer_norm(x: Array, scale: Array, shift: Array) -> Array:
    """Layer normalisation over the last axis, then an affine map."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + EPSILON) * scale + shift


def attention(q: Array, k: Array, v: Array) -> Array:
    """Causal attention; axes are batch, head, place, channel."""
    t, channels = q.shape[-2:]
    scores = q @ k.swapaxes(-1, -2) * channels**-0.5
    scores = np.where(np.tri(t, dtype=bool), scores, -np.inf)
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True) @ v


def gelu(x: Array) -> Array:
    """GELU in its tanh form."""
    return 0.5 * x * (1 + np.tanh(GELU_SCALE * (x + GELU_CUBE * x**3)))


def train_gpt(p: Parameters, x: Array, target: Array) -> Array:
    """A block of GPT, pre-norm; the loss is the mean square distance to a target."""
    batch, t, d = x.shape
    h = layer_norm(x, p["scale1"], p["shift1"]) @ p["wqkv"] + p["bqkv"]
    q, k, v = h.reshape(batch, t, 3, HEADS, d // HEADS).transpose(2, 0, 3, 1, 4)
    mixed = attention(q, k, v).swapaxes(1, 2).reshape(batch, t, d)
    x = x + mixed @ p["wout"] + p["bout"]
    h = gelu(layer_norm(x, p["scale2"], p["shift2"]) @ p["wup"] + p["bup"])
    x = x + h @ p["wdown"] + p["bdown"]
    return ((x - target) ** 2).mean()


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def train_lstm(p: Parameters, x: Array, labels: Array) -> Array:
    """An LSTM over the first axis of `x`; its last output is classified."""
    units = p["wh"].shape[0]
    zeros = np.zeros((x.shape[1], units), np.float32)

    def cell(carry: tuple[Array, Array], at: Array) -> tuple[tuple[Array, Array], None]:
        h, c = carry
        i, f, g, o = np.split(at + h @ p["wh"], 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return (sigmoid(o) * np.tanh(c), c), None

    (h, _), _ = weft.scan(cell, (zeros, zeros), x @ p["wx"] + p["b"])
    return cross_entropy(h @ p["wo"] + p["bo"], labels)


def stress(x: Array, y: Array, target: Array) -> Array:
    """How far the distances of points differ from what they should be (mean square)."""
    squares = (x * x).sum(axis=1)[:, None] + (y * y).sum(axis=1) - 2 * (x @ y.T)
    return ((np.sqrt(squares) - target) ** 2).mean()


def lorenz(state: tuple[Array, ...], constants: Array) -> tuple[Array, ...]:
    """The right side of Lorenz's equations."""
    x, y, z = state
    sigma, rho, beta = constants
    return sigma * (y - x), x * (rho - z) - y, x * y - beta * z


@weft.checkpoint  # what is inside of a step is quicker computed again than kept
def rk4(state: tuple[Array, ...], constants: Array) -> tuple[Array, ...]:
    """A step of the classic Runge-Kutta method."""
    def moved(slopes: tuple[Array, ...], by: float) -> tuple[Array, ...]:
        return tuple(s + by * k for s, k in zip(state, slopes))

    k1 = lorenz(state, constants)
    k2 = lorenz(moved(k1, STEP / 2), constants)
    k3 = lorenz(moved(k2, STEP / 2), constants)
    k4 = lorenz(moved(k3, STEP), constants)
    total = tuple(a + 2 * b + 2 * c + d for a, b, c, d in zip(k1, k2, k3, k4))
    return moved(total, STEP / 6)


def lorenz_energy(x: Array, y: Array, z: Array, constants: Array) -> Array:
    """The mean square of an ensemble's last state, after `STEPS` steps."""
    def one(state: tuple[Array, ...], _: None) -> tuple[tuple[Array, ...], None]:
        return rk4(state, constants), None

    state, _ = weft.scan(one, (x, y, z), None, length=STEPS)
    return sum((s * s).mean() for s in state)


def option_values(
    price: Array, strike: Array, volatility: Array, years: Array, rate: Array
) -> Array:
    """The values of European calls, added up: the gradient holds the Greeks of each."""
    spread = volatility * np.sqrt(years)
    d1 = (np.log(price / strike) + (rate + 0.5 * volatility**2) * years) / spread
    d2 = d1 - spread
    cdf1 = 0.5 * (1 + special.erf(d1 * HALF_SQRT))
    cdf2 = 0.5 * (1 + special.erf(d2 * HALF_SQRT))
    return (price * cdf1 - strike * np.exp(-rate * years) * cdf2).sum()


def small_model(p: Array, x: Array, y: Array) -> Array:
    """The mean square error of a perceptron, by all its parameters in one vector."""
    k, n = x.shape[1], (p.shape[0] - 1) // (x.shape[1] + 2)
    w1, b1, w2, b2 = p[:k * n].reshape(k, n), p[k * n:-n - 1], p[-n - 1:-1], p[-1]
    return ((np.tanh(x @ w1 + b1) @ w2 + b2 - y) ** 2).mean()
