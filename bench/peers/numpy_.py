"""NumPy itself, running the kernels as they stand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bench import kernels
from bench.peers.base import Peer
from bench.peers.numpy_derivatives import NumPyTrainer
from bench.workloads import Workload


class NumPy(Peer):
    """Plain NumPy, with scipy.special.erf for Black-Scholes."""

    def kernel(self, workload: Workload) -> Callable[..., Any] | None:
        return getattr(kernels, workload.kernel, None) or super().kernel(workload)

    def build(self, workload: Workload, inputs: Sequence[np.ndarray]) -> Callable[..., Any] | None:
        kernel = self.kernel(workload)
        if kernel is not None and workload.parameters:
            return NumPyTrainer(kernel, workload, inputs)
        return kernel


PEER = NumPy
