"""weft: the same plain NumPy functions, jitted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import weft
from bench import kernels
from bench.peers.base import Peer
from bench.peers.weft_derivatives import WeftTrainer
from bench.workloads import Workload


class Weft(Peer):
    """``weft.jit`` on unmodified NumPy code, NumPy arrays in and out."""

    distributions = ("numpy", "llvmlite", "ml_dtypes")

    def build(self, workload: Workload, inputs: Sequence[np.ndarray]) -> Callable[..., Any] | None:
        kernel = getattr(kernels, workload.kernel, None) or self.kernel(workload)
        if kernel is not None and workload.parameters:
            return WeftTrainer(kernel, workload, inputs)
        return weft.jit(kernel)

    def threads(self) -> int | None:
        count = getattr(weft, "get_num_threads", None)
        return count() if count else None

    def versions(self) -> dict[str, str]:
        return {"weft": str(getattr(weft, "__version__", "?")), **super().versions()}


PEER = Weft
