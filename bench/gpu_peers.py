"""The libraries of the GPU benchmark: how each makes a function, its arrays, and how it waits."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from bench.gpu_cases import Case, torch_functions
from bench.workloads import Workload

__all__ = ["PEERS", "GpuPeer"]


class GpuPeer:
    """A library on one device; `ImportError` where it is not installed.

    `place` is ``"gpu"``, but for a check of the benchmark itself on a CPU.
    """

    distributions: tuple[str, ...] = ()

    def __init__(self, place: str) -> None:
        self.place = place

    def make(self, case: Case) -> Callable[..., Any]:
        """The case's function, compiled where the library does that."""
        raise NotImplementedError

    def train(self, workload: Workload, inputs: Sequence[np.ndarray]) -> Callable[..., Any] | None:
        """A step of training, None where the library has none."""
        return None

    def put(self, arrays: Sequence[np.ndarray]) -> list[Any]:
        """Arrays on the device."""
        raise NotImplementedError

    def get(self, result: Any) -> np.ndarray:
        """A result on the host."""
        return np.asarray(result)

    def wait(self, result: Any) -> None:
        """Wait until all is done."""

    def versions(self) -> dict[str, str]:
        """Of what is installed."""
        out = {}
        for name in self.distributions:
            try:
                out[name] = version(name)
            except PackageNotFoundError:
                continue
        return out


class Weft(GpuPeer):
    """weft, with CUDA graphs or without."""

    distributions = ("cupy-cuda12x", "cupy-cuda13x", "numpy")
    replay = True

    def __init__(self, place: str) -> None:
        super().__init__(place)
        import weft
        self.weft = weft
        self.device = place if place == "gpu" else "cpu"

    def versions(self) -> dict[str, str]:
        return {"weft": str(self.weft.__version__), **super().versions()}

    def make(self, case: Case) -> Callable[..., Any]:
        from weft.devices.gpu.replay import set_replay
        function = functools.partial(case.function, np)
        if case.gradient:
            count = len(case.shapes)
            function = self.weft.grad(lambda *a: case.function(np, *a), argnums=tuple(range(count)))
        made = self.weft.jit(function, device=self.device, precision=case.precision)

        def call(*args: Any) -> Any:
            set_replay(self.replay)
            return made(*args)
        return call

    def train(self, workload: Workload, inputs: Sequence[np.ndarray]) -> Callable[..., Any] | None:
        from bench import models
        from bench.peers.weft_derivatives import WeftTrainer
        from weft.devices.gpu.replay import set_replay
        trainer = WeftTrainer(getattr(models, workload.kernel), workload, inputs)
        trainer.step = self.weft.jit(models.step(getattr(models, workload.kernel)),
                                     donate=("p", "state"), device=self.device)

        def step(*data: Any) -> Any:
            set_replay(self.replay)
            return trainer(*data)
        return step

    def put(self, arrays: Sequence[np.ndarray]) -> list[Any]:
        from weft.devices.registry import get_device
        memory = get_device(self.device).memory
        return [memory.put(a) for a in arrays]

    def get(self, result: Any) -> np.ndarray:
        return np.asarray(result.get() if hasattr(result, "get") else result)

    def wait(self, result: Any) -> None:
        self.weft.block_until_ready(result)


class WeftWithoutGraphs(Weft):
    """weft, each kernel launched by the host."""

    replay = False


class Cupy(GpuPeer):
    """CuPy: the plain function, operation by operation."""

    distributions = ("cupy-cuda12x", "cupy-cuda13x")

    def __init__(self, place: str) -> None:
        super().__init__(place)
        import cupy
        if place != "gpu":
            raise ImportError("CuPy has no CPU")
        self.cupy = cupy

    def make(self, case: Case) -> Callable[..., Any]:
        if case.gradient:
            raise NotImplementedError("no gradients")
        if case.precision != "highest":
            raise NotImplementedError("precision is set by CUPY_TF32")
        return functools.partial(case.function, self.cupy)

    def put(self, arrays: Sequence[np.ndarray]) -> list[Any]:
        return [self.cupy.asarray(a) for a in arrays]

    def get(self, result: Any) -> np.ndarray:
        return np.asarray(result.get())

    def wait(self, result: Any) -> None:
        self.cupy.cuda.Device().synchronize()


class Jax(GpuPeer):
    """JAX, jitted."""

    distributions = ("jax", "jaxlib", "jax-cuda12-plugin", "jax-cuda13-plugin")

    def __init__(self, place: str) -> None:
        super().__init__(place)
        import jax
        self.jax = jax
        if place == "gpu" and jax.default_backend() != "gpu":
            raise ImportError(f"JAX has only {jax.default_backend()}")

    def make(self, case: Case) -> Callable[..., Any]:
        function = functools.partial(case.function, self.jax.numpy)
        if case.gradient:
            function = self.jax.grad(function, argnums=tuple(range(len(case.shapes))))
        chosen = {"highest": "highest", "tf32": "tensorfloat32"}[case.precision]

        def precise(*args: Any) -> Any:
            with self.jax.default_matmul_precision(chosen):
                return function(*args)
        return self.jax.jit(precise)

    def train(self, workload: Workload, inputs: Sequence[np.ndarray]) -> Callable[..., Any] | None:
        from bench.peers import jax_derivatives as own
        trainer = own.JaxTrainer(getattr(own, workload.kernel), workload, inputs)

        def step(*data: Any) -> Any:            # in float32 as the others, not in tf32
            with self.jax.default_matmul_precision("highest"):
                return trainer(*data)
        return step

    def put(self, arrays: Sequence[np.ndarray]) -> list[Any]:
        return [self.jax.device_put(a) for a in arrays]

    def wait(self, result: Any) -> None:
        self.jax.block_until_ready(result)


class Torch(GpuPeer):
    """PyTorch, operation by operation."""

    distributions = ("torch", "triton")
    compiles = False

    def __init__(self, place: str) -> None:
        super().__init__(place)
        import torch
        self.torch = torch
        if place == "gpu" and not torch.cuda.is_available():
            raise ImportError("PyTorch has no CUDA here")
        self.device = "cuda" if place == "gpu" else "cpu"
        self.functions = torch_functions(torch)

    def make(self, case: Case) -> Callable[..., Any]:
        torch, function = self.torch, self.functions[case.function.__name__]
        if self.compiles:
            torch.compiler.reset()
            function = torch.compile(function, dynamic=False)

        def gradient(*args: Any) -> Any:
            inputs = [a.detach().requires_grad_() for a in args]
            return torch.autograd.grad(function(*inputs), inputs)

        chosen = gradient if case.gradient else torch.no_grad()(function)

        def call(*args: Any) -> Any:
            torch.set_float32_matmul_precision("highest" if case.precision == "highest" else "high")
            return chosen(*args)
        return call

    def train(self, workload: Workload, inputs: Sequence[np.ndarray]) -> Callable[..., Any] | None:
        from bench.peers import torch_derivatives as own
        self.torch.set_float32_matmul_precision("highest")
        loss = getattr(own, workload.kernel)
        loss = self.torch.compile(loss, dynamic=False) if self.compiles else loss
        with self.torch.device(self.device):
            trainer = own.TorchTrainer(loss, workload, inputs)
        if self.device != "cpu":
            self._move(trainer)
        return trainer

    def _move(self, trainer: Any) -> None:
        """Parameters of a trainer that begins on the CPU."""
        from bench.workloads import ADAM
        trainer.p = {k: x.detach().to(self.device).requires_grad_() for k, x in trainer.p.items()}
        trainer.optimizer = self.torch.optim.Adam(
            list(trainer.p.values()), lr=ADAM["rate"], betas=(ADAM["beta1"], ADAM["beta2"]),
            eps=ADAM["epsilon"], fused=True)

    def put(self, arrays: Sequence[np.ndarray]) -> list[Any]:
        tensors = [self.torch.from_numpy(a).to(self.device) for a in arrays]
        return [t.long() if t.dtype is self.torch.int32 else t for t in tensors]

    def get(self, result: Any) -> np.ndarray:
        return np.asarray(result.detach().cpu())

    def wait(self, result: Any) -> None:
        if self.device == "cuda":
            self.torch.cuda.synchronize()


class TorchCompile(Torch):
    """PyTorch through torch.compile."""

    compiles = True


PEERS: dict[str, type[GpuPeer]] = {
    "weft": Weft, "weft without graphs": WeftWithoutGraphs, "cupy": Cupy, "jax": Jax,
    "torch": Torch, "torch.compile": TorchCompile}
