"""weft: derivatives of the plain NumPy functions in ``bench.models``, and training with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import weft
from bench import models
from bench.models import train_cnn, train_gpt, train_lstm, train_mlp
from bench.peers.base import Trainer
from bench.workloads import Workload

__all__ = ["WeftTrainer", "greeks", "hessian", "lorenz_gradient", "stress_gradient",
           "train_cnn", "train_gpt", "train_lstm", "train_mlp"]

stress_gradient = weft.grad(models.stress, argnums=(0, 1))
lorenz_gradient = weft.grad(models.lorenz_energy, argnums=(0, 1, 2, 3))
greeks = weft.grad(models.option_values, argnums=(0, 1, 2, 3, 4))
hessian = weft.hessian(models.small_model)


class WeftTrainer(Trainer):
    """One jitted step; the parameters and Adam's state are donated, so it works in place."""

    def __init__(
        self, loss: Callable[..., Any], workload: Workload, inputs: Sequence[np.ndarray]
    ) -> None:
        self.step = weft.jit(models.step(loss), donate=("p", "state"))
        super().__init__(workload, inputs)

    def reset(self) -> None:
        self.p = {k: x.copy() for k, x in self.start.items()}
        m, v = ({k: np.zeros_like(x) for k, x in self.p.items()} for _ in range(2))
        self.state = {"t": np.float32(0), "m": m, "v": v}

    def __call__(self, *data: Any) -> Any:
        self.p, self.state, loss = self.step(self.p, self.state, *data)
        return loss

    def parameters(self) -> list[np.ndarray]:
        return [self.p[k] for k in self.names]
