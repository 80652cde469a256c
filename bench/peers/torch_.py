"""PyTorch, eager and through torch.compile, on tensors without gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.kernels import EPSILON, HALF_SQRT, RATE, VOLATILITY
from bench.peers.base import Peer
from bench.peers.torch_derivatives import Gradient, TorchTrainer
from bench.workloads import Workload


class Torch(Peer):
    """Eager, or with variant ``compile`` the same functions under ``torch.compile``."""

    distributions = ("torch", "numpy")

    def __init__(self, variant: str = "") -> None:
        super().__init__(variant)
        torch.set_grad_enabled(False)

    def build(self, workload: Workload, inputs: Sequence[np.ndarray]) -> Callable[..., Any] | None:
        kernel = self.kernel(workload)
        if kernel is not None and self.variant == "compile":
            torch.compiler.reset()  # or a second shape would compile for dynamic shapes
            inside = isinstance(kernel, Gradient)
            kernel = kernel.compiled() if inside else torch.compile(kernel, dynamic=False)
        if kernel is not None and workload.parameters:
            return TorchTrainer(kernel, workload, inputs)
        return kernel

    def arguments(self, workload: Workload, inputs: Sequence[np.ndarray]) -> list[Any]:
        data = [torch.from_numpy(x) for x in super().arguments(workload, inputs)]
        return [x.long() if x.dtype is torch.int32 else x for x in data]  # labels are int64 there

    def numpy(self, result: Any) -> np.ndarray:
        return result.numpy()

    def threads(self) -> int | None:
        return torch.get_num_threads()


PEER = Torch


def gelu(x: Tensor, b: Tensor) -> Tensor:
    return F.gelu(x + b, approximate="tanh")


def black_scholes(price: Tensor, strike: Tensor, years: Tensor) -> tuple[Tensor, Tensor]:
    spread = VOLATILITY * torch.sqrt(years)
    d1 = (torch.log(price / strike) + (RATE + 0.5 * VOLATILITY * VOLATILITY) * years) / spread
    d2 = d1 - spread
    cdf1 = 0.5 * (1 + torch.erf(d1 * HALF_SQRT))
    cdf2 = 0.5 * (1 + torch.erf(d2 * HALF_SQRT))
    discounted = strike * torch.exp(-RATE * years)
    return price * cdf1 - discounted * cdf2, discounted * (1 - cdf2) - price * (1 - cdf1)


def softmax(x: Tensor) -> Tensor:
    return F.softmax(x, dim=-1)


def layer_norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return F.layer_norm(x, (x.shape[-1],), scale, shift, EPSILON)


def sum_rows(x: Tensor) -> Tensor:
    return x.sum(dim=1)


def sum_columns(x: Tensor) -> Tensor:
    return x.sum(dim=0)


def sum_all(x: Tensor) -> Tensor:
    return x.sum()


def variance_rows(x: Tensor) -> Tensor:
    return x.var(dim=1, correction=0)


def variance_all(x: Tensor) -> Tensor:
    return x.var(correction=0)


def pairwise(x: Tensor, y: Tensor) -> Tensor:
    return torch.cdist(x, y)


def logsumexp(x: Tensor) -> Tensor:
    return torch.logsumexp(x, dim=-1)


def cosine(x: Tensor, y: Tensor) -> Tensor:
    return F.cosine_similarity(x, y, dim=-1)


def matmul(x: Tensor, w: Tensor) -> Tensor:
    return x @ w


def matmul_gelu(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.gelu(torch.addmm(b, x, w), approximate="tanh")


def mlp(
    x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, w3: Tensor, b3: Tensor
) -> Tensor:
    h = torch.relu(torch.addmm(b1, x, w1))
    h = torch.relu(torch.addmm(b2, h, w2))
    return torch.addmm(b3, h, w3)


def multiply_add(x: Tensor, y: Tensor) -> Tensor:
    return x * y + y
