"""NumPy: derivatives worked out by hand, in ``bench.by_hand``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bench import by_hand
from bench.by_hand import greeks, lorenz_gradient, stress_gradient, train_mlp
from bench.peers.base import Trainer
from bench.workloads import Workload

__all__ = ["NumPyTrainer", "greeks", "lorenz_gradient", "stress_gradient", "train_mlp"]


class NumPyTrainer(Trainer):
    """Back-propagation by hand, and Adam in place."""

    def __init__(
        self, kernel: Callable[..., Any], workload: Workload, inputs: Sequence[np.ndarray]
    ) -> None:
        self.kernel = kernel
        super().__init__(workload, inputs)

    def reset(self) -> None:
        self.p = {k: x.copy() for k, x in self.start.items()}
        self.adam = by_hand.Adam(self.p)

    def __call__(self, *data: Any) -> Any:
        loss, gradient = self.kernel(self.p, *data)
        self.adam.update(self.p, gradient)
        return loss

    def parameters(self) -> list[np.ndarray]:
        return [self.p[k] for k in self.names]
