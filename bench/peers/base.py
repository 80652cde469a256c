"""What a worker asks of a peer's module."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from bench.workloads import Workload


class Trainer:
    """A model in training: parameters, moments, and a call that makes a step with some data.

    A call gives the loss before the step. The parameters are this object's own: it starts from the
    arrays it is given, which stay as they are.
    """

    def __init__(self, workload: Workload, inputs: Sequence[np.ndarray]) -> None:
        self.names = workload.parameters
        self.start = dict(zip(self.names, inputs))
        self.reset()

    def reset(self) -> None:
        """Start training anew."""
        raise NotImplementedError

    def __call__(self, *data: Any) -> Any:
        raise NotImplementedError

    def parameters(self) -> list[np.ndarray]:
        """The parameters now, in the workload's order and layout."""
        raise NotImplementedError


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
        """The kernel as this library's users write it; None if it has none.

        Derivatives and models may stand in a module beside: ``jax_derivatives``.
        """
        name = type(self).__module__
        if workload.group in ("gradient", "train"):
            name = f"{name}derivatives"
        return getattr(sys.modules.get(name), workload.kernel, None)

    def build(self, workload: Workload, inputs: Sequence[np.ndarray]) -> Callable[..., Any] | None:
        """What is called: the kernel, jitted where the library does that."""
        return self.kernel(workload)

    def arguments(self, workload: Workload, inputs: Sequence[np.ndarray]) -> list[Any]:
        """The inputs as the library's own arrays: a user has them there already.

        Where there are parameters, the `Trainer` that `build` gives has them; the rest is its data.
        """
        return list(inputs[len(workload.parameters):])

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
