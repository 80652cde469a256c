"""What a worker asks of a peer's module."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from bench.workloads import Workload


class Peer:
    """The adapter of one library; the defaults suit one that takes and gives NumPy arrays.

    A subclass's module holds one function per kernel, named as in ``bench.kernels``.
    """

    distributions: tuple[str, ...] = ("numpy",)  # whose versions are recorded
    # One measured call; `call`, `args` and `sync` are filled in. With asynchronous libraries the
    # statement must wait for the result.
    statement = "call({args})"
    keeps_dtype = True  # the dtype of the results is checked too

    def __init__(self, variant: str = "") -> None:
        self.variant = variant

    def kernel(self, workload: Workload) -> Callable[..., Any] | None:
        """The kernel as this library's users write it; None if it has none."""
        return getattr(sys.modules[type(self).__module__], workload.kernel, None)

    def build(self, workload: Workload, inputs: Sequence[np.ndarray]) -> Callable[..., Any] | None:
        """What is called: the kernel, jitted where the library does that."""
        return self.kernel(workload)

    def arguments(self, workload: Workload, inputs: Sequence[np.ndarray]) -> list[Any]:
        """The inputs as the library's own arrays: a user has them there already."""
        return list(inputs)

    def sync(self, result: Any) -> Any:
        """Wait until ``result`` is computed, and return it."""
        return result

    def numpy(self, result: Any) -> np.ndarray:
        """One result as a NumPy array, for the check of the answer."""
        return np.asarray(result)

    def threads(self) -> int | None:
        """How many threads it uses by default, where it says so."""
        return None

    def versions(self) -> dict[str, str]:
        """Version of each distribution that takes part."""
        return {name: version(name) for name in self.distributions}
