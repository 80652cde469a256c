"""NumPy itself, running the kernels as they stand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np  # noqa: F401  (a peer's module imports its library)

from bench import kernels
from bench.peers.base import Peer
from bench.workloads import Workload


class NumPy(Peer):
    """Plain NumPy, with scipy.special.erf for Black-Scholes."""

    def kernel(self, workload: Workload) -> Callable[..., Any] | None:
        return getattr(kernels, workload.kernel)


PEER = NumPy
