"""PyTorch: losses, their gradients and Hessians; training with the fused Adam."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.kernels import EPSILON, HALF_SQRT, HEADS, STEP, STEPS
from bench.peers.base import Trainer
from bench.workloads import ADAM, Workload

Parameters = dict[str, Tensor]


class TorchTrainer(Trainer):
    """Loss (through torch.compile, or not), backward, and torch.optim.Adam, fused."""

    def __init__(
        self, loss: Callable[..., Tensor], workload: Workload, inputs: Sequence[np.ndarray]
    ) -> None:
        self.loss = loss
        super().__init__(workload, inputs)

    def reset(self) -> None:
        self.p = {k: _laid_out(x).requires_grad_() for k, x in self.start.items()}
        self.optimizer = torch.optim.Adam(
            list(self.p.values()), lr=ADAM["rate"], betas=(ADAM["beta1"], ADAM["beta2"]),
            eps=ADAM["epsilon"], fused=True,
        )  # fmt: skip

    def __call__(self, *data: Any) -> Any:
        with torch.enable_grad():
            loss = self.loss(self.p, *data)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return loss.detach()

    def parameters(self) -> list[np.ndarray]:
        return [_back(self.p[k].detach()).numpy().copy() for k in self.names]


def _laid_out(x: np.ndarray) -> Tensor:
    """A parameter as PyTorch has it: kernels of convolutions are (out, in, height, width)."""
    t = torch.from_numpy(x).clone()
    if t.ndim == 4:
        t = t.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
    return t


def _back(t: Tensor) -> Tensor:
    return t.permute(2, 3, 1, 0) if t.ndim == 4 else t


def train_mlp(p: Parameters, x: Tensor, labels: Tensor) -> Tensor:
    h = torch.relu(torch.addmm(p["b1"], x, p["w1"]))
    h = torch.relu(torch.addmm(p["b2"], h, p["w2"]))
    return F.cross_entropy(torch.addmm(p["b3"], h, p["w3"]), labels)


def train_cnn(p: Parameters, x: Tensor, labels: Tensor) -> Tensor:
    x = x.permute(0, 3, 1, 2)  # in memory the channels stay last, which oneDNN likes
    for i in "123":
        x = F.max_pool2d(torch.relu(F.conv2d(x, p["w" + i], p["b" + i], padding=1)), 2)
    return F.cross_entropy(torch.addmm(p["b4"], x.mean(dim=(2, 3)), p["w4"]), labels)


def train_gpt(p: Parameters, x: Tensor, target: Tensor) -> Tensor:
    batch, t, d = x.shape
    h = F.layer_norm(x, (d,), p["scale1"], p["shift1"], EPSILON)
    h = F.linear(h, p["wqkv"].T, p["bqkv"])
    q, k, v = h.view(batch, t, 3, HEADS, d // HEADS).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    x = x + F.linear(mixed.transpose(1, 2).reshape(batch, t, d), p["wout"].T, p["bout"])
    h = F.layer_norm(x, (d,), p["scale2"], p["shift2"], EPSILON)
    h = F.gelu(F.linear(h, p["wup"].T, p["bup"]), approximate="tanh")
    x = x + F.linear(h, p["wdown"].T, p["bdown"])
    return F.mse_loss(x, target)


@torch.compiler.disable  # compiled, it fails (and nn.LSTM always runs so)
def _lstm(x: Tensor, start: Tensor, weights: list[Tensor]) -> Tensor:
    return torch.lstm(x, (start, start), weights, True, 1, 0.0, True, False, False)[1]


def train_lstm(p: Parameters, x: Tensor, labels: Tensor) -> Tensor:
    # What nn.LSTM calls, without its second bias.
    start = x.new_zeros(1, x.shape[1], p["wh"].shape[0])
    weights = [p["wx"].T, p["wh"].T, p["b"], torch.zeros_like(p["b"])]
    h = _lstm(x, start, weights)
    return F.cross_entropy(torch.addmm(p["bo"], h[0], p["wo"]), labels)


class Gradient:
    """The gradients of a function by its first arguments. What is compiled is the function."""

    def __init__(self, fn: Callable[..., Tensor], count: int) -> None:
        self.fn, self.count = fn, count

    def compiled(self) -> Gradient:
        """The same through torch.compile."""
        return Gradient(torch.compile(self.fn, dynamic=False), self.count)

    def __call__(self, *args: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            leaves = [x.detach().requires_grad_() for x in args[:self.count]]
            return torch.autograd.grad(self.fn(*leaves, *args[self.count:]), leaves)


class LorenzGradient(Gradient):
    """Only a step is compiled: compiling a hundred takes minutes."""

    def compiled(self) -> Gradient:
        return LorenzGradient(partial(_energy, torch.compile(_rk4, dynamic=False)), self.count)


def _stress(x: Tensor, y: Tensor, target: Tensor) -> Tensor:
    # Three times as fast as torch.cdist with its own derivative.
    squares = (x * x).sum(dim=1)[:, None] + (y * y).sum(dim=1) - 2 * (x @ y.T)
    return ((squares.sqrt() - target) ** 2).mean()


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


def _energy(
    step: Callable[..., Any], x: Tensor, y: Tensor, z: Tensor, constants: Tensor
) -> Tensor:
    state = x, y, z
    for _ in range(STEPS):
        state = step(state, constants.unbind())
    return sum((s * s).mean() for s in state)


def _option_values(
    price: Tensor, strike: Tensor, volatility: Tensor, years: Tensor, rate: Tensor
) -> Tensor:
    spread = volatility * torch.sqrt(years)
    d1 = (torch.log(price / strike) + (rate + 0.5 * volatility**2) * years) / spread
    cdf1, cdf2 = (0.5 * (1 + torch.erf(d * HALF_SQRT)) for d in (d1, d1 - spread))
    return (price * cdf1 - strike * torch.exp(-rate * years) * cdf2).sum()


def _small_model(p: Tensor, x: Tensor, y: Tensor) -> Tensor:
    k, n = x.shape[1], (p.shape[0] - 1) // (x.shape[1] + 2)
    w1, b1, w2, b2 = p[:k * n].view(k, n), p[k * n:-n - 1], p[-n - 1:-1], p[-1]
    return ((torch.tanh(x @ w1 + b1) @ w2 + b2 - y) ** 2).mean()


stress_gradient = Gradient(_stress, 2)
lorenz_gradient = LorenzGradient(partial(_energy, _rk4), 4)
greeks = Gradient(_option_values, 5)
hessian = torch.func.hessian(_small_model)
