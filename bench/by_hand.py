"""Derivatives worked out by hand, in NumPy: the right answers (in float64), and NumPy's own column.

Those of models give the loss and the gradient, the others what the workload's kernel is to give.
What is missing here is checked against JAX in float64 (``bench.reference``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.kernels import HALF_SQRT, STEP, STEPS
from bench.workloads import ADAM, CHECKED_STEPS, Workload

try:
    from scipy import special
except ImportError:  # only greeks needs it
    special = None  # type: ignore[assignment]

Array = np.ndarray
Parameters = dict[str, Array]


class Adam:
    """Adam as published (Kingma and Ba, 2015, algorithm 1), in place."""

    def __init__(self, p: Parameters) -> None:
        self.m, self.v = ({k: np.zeros_like(x) for k, x in p.items()} for _ in range(2))
        self.t = 0

    def update(self, p: Parameters, g: Parameters) -> None:
        """Move the parameters by a step."""
        rate, b1, b2, epsilon = ADAM["rate"], ADAM["beta1"], ADAM["beta2"], ADAM["epsilon"]
        self.t += 1
        for k in p:
            m, v = self.m[k], self.v[k]
            m += (1 - b1) * (g[k] - m)
            v += (1 - b2) * (g[k] * g[k] - v)
            root = np.sqrt(v) / (1 - b2**self.t) ** 0.5
            p[k] -= rate / (1 - b1**self.t) * m / (root + epsilon)


def answers(workload: Workload, inputs: Sequence[Array]) -> list[Array]:
    """What a workload's results are to be; in training, see ``bench.worker.results``."""
    kernel = globals()[workload.kernel]
    if not workload.parameters:
        answer = kernel(*inputs)
        return list(answer) if isinstance(answer, tuple) else [answer]
    names = workload.parameters
    p = {k: x.copy() for k, x in zip(names, inputs)}
    adam, losses = Adam(p), []
    for _ in range(CHECKED_STEPS):
        loss, gradient = kernel(p, *inputs[len(names):])
        adam.update(p, gradient)
        losses.append(loss)
    return [*losses, *(p[k] - x for k, x in zip(names, inputs))]


def train_mlp(p: Parameters, x: Array, labels: Array) -> tuple[Any, Parameters]:
    """The loss of the perceptron and its gradient, by back-propagation."""
    h1 = np.maximum(x @ p["w1"] + p["b1"], 0)
    h2 = np.maximum(h1 @ p["w2"] + p["b2"], 0)
    z = h2 @ p["w3"] + p["b3"]
    z -= z.max(axis=1, keepdims=True)
    e = np.exp(z)
    total = e.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    loss = (np.log(total[:, 0]) - z[rows, labels]).mean()
    d3 = e / total
    d3[rows, labels] -= 1
    d3 /= x.dtype.type(len(labels))
    d2 = d3 @ p["w3"].T * (h2 > 0)
    d1 = d2 @ p["w2"].T * (h1 > 0)
    return loss, {"w1": x.T @ d1, "b1": d1.sum(axis=0), "w2": h1.T @ d2, "b2": d2.sum(axis=0),
                  "w3": h2.T @ d3, "b3": d3.sum(axis=0)}


def stress_gradient(x: Array, y: Array, target: Array) -> tuple[Array, Array]:
    """By both sets of points: each pair pushes along the line between its points."""
    squares = (x * x).sum(axis=1)[:, None] + (y * y).sum(axis=1) - 2 * (x @ y.T)
    distance = np.sqrt(squares)
    push = (distance - target) / distance * (2 / target.size)
    return (push.sum(axis=1)[:, None] * x - push @ y,
            push.sum(axis=0)[:, None] * y - push.T @ x)


def greeks(price: Array, strike: Array, volatility: Array, years: Array, rate: Array
           ) -> tuple[Array, ...]:
    """The derivatives of a call's value, by the textbook: delta, by strike, vega, theta, rho."""
    root = np.sqrt(years)
    spread = volatility * root
    d1 = (np.log(price / strike) + (rate + 0.5 * volatility**2) * years) / spread
    cdf1, cdf2 = (0.5 * (1 + special.erf(d * HALF_SQRT)) for d in (d1, d1 - spread))
    density = price * np.exp(-0.5 * d1 * d1) * (2 * np.pi) ** -0.5
    discount = np.exp(-rate * years)
    worth = strike * discount * cdf2
    return (cdf1, -discount * cdf2, density * root,
            density * volatility / (2 * root) + rate * worth, years * worth)


def lorenz_gradient(x: Array, y: Array, z: Array, constants: Array) -> tuple[Array, ...]:
    """By the starts and the constants: the integrator's adjoint, step by step backwards."""
    states = [np.stack([x, y, z])]
    for _ in range(STEPS):
        states.append(_rk4(states[-1], constants)[0])
    down = 2 * states.pop() / x.size
    by_constants = np.zeros_like(constants)
    while states:
        _, points = _rk4(states.pop(), constants)
        down, part = _rk4_adjoint(points, constants, down)
        by_constants += part
    return *down, by_constants


def _lorenz(s: Array, constants: Array) -> Array:
    x, y, z = s
    sigma, rho, beta = constants
    return np.stack([sigma * (y - x), x * (rho - z) - y, x * y - beta * z])


def _lorenz_adjoint(s: Array, constants: Array, d: Array) -> tuple[Array, Array]:
    """The transposed Jacobian of the right side, times `d`; by the state and the constants."""
    (x, y, z), (sigma, rho, beta), (dx, dy, dz) = s, constants, d
    by_state = np.stack([-sigma * dx + (rho - z) * dy + y * dz,
                         sigma * dx - dy + x * dz, -x * dy - beta * dz])
    return by_state, np.stack([((y - x) * dx).sum(), (x * dy).sum(), -(z * dz).sum()])


def _rk4(s: Array, constants: Array) -> tuple[Array, list[Array]]:
    """The next state, and the four points where the slopes were taken."""
    points, slopes = [s], []
    for by in (STEP / 2, STEP / 2, STEP, None):
        slopes.append(_lorenz(points[-1], constants))
        if by is not None:
            points.append(s + by * slopes[-1])
    k1, k2, k3, k4 = slopes
    return s + STEP / 6 * (k1 + 2 * k2 + 2 * k3 + k4), points


def _rk4_adjoint(points: list[Array], constants: Array, d: Array) -> tuple[Array, Array]:
    out, by_constants, later = d.copy(), np.zeros_like(constants), np.zeros_like(d)
    weights = STEP / 6, STEP / 3, STEP / 3, STEP / 6
    for point, weight, by in zip(reversed(points), weights, (0, STEP, STEP / 2, STEP / 2)):
        later, part = _lorenz_adjoint(point, constants, weight * d + by * later)
        out += later
        by_constants += part
    return out, by_constants


def hessian(p: Array, x: Array, y: Array) -> Array:
    """The gradient by hand, and its derivative by a complex step, exact to rounding."""
    rows, step = [], 1e-30
    for i in range(len(p)):
        moved = p.astype(np.complex128)
        moved[i] += 1j * step
        rows.append(_small_gradient(moved, x, y).imag / step)
    return np.stack(rows)


def _small_gradient(p: Array, x: Array, y: Array) -> Array:
    k, n = x.shape[1], (len(p) - 1) // (x.shape[1] + 2)
    w1, b1, w2, b2 = p[:k * n].reshape(k, n), p[k * n:-n - 1], p[-n - 1:-1], p[-1]
    h = np.tanh(x @ w1 + b1)
    d = 2 * (h @ w2 + b2 - y) / len(y)
    inner = d[:, None] * w2 * (1 - h * h)
    return np.concatenate([(x.T @ inner).ravel(), inner.sum(axis=0), d @ h, [d.sum()]])
