"""Every benchmarked workload, declared as data.

A workload is a kernel (by name: the same name in ``bench.kernels`` and in each peer's module), its
inputs, the work it cannot avoid (FLOPs, bytes) and the goal that weft has on it.
"""

from __future__ import annotations

import fnmatch
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod

import numpy as np

# FLOPs of one exp/log/tanh/erf: about the polynomial that gives 2 ULP. A convention, used only for
# the "share of the machine's limit" column.
TRANSCENDENTAL = {"float32": 20, "float64": 40}


@dataclass(frozen=True)
class Input:
    """One seeded input: normal with standard deviation ``scale``, or uniform in ``[low, high)``.

    With ``classes`` it is int32 labels below that. Parameters that are trained have a ``name``.
    """

    shape: tuple[int, ...]
    scale: float = 1.0
    low: float | None = None
    high: float | None = None
    classes: int | None = None
    name: str = ""

    def make(self, dtype: str, seed: int) -> np.ndarray:
        """The array, the same in every process with the same ``seed``."""
        rng = np.random.default_rng(seed)
        if self.classes is not None:
            return rng.integers(0, self.classes, self.shape, dtype=np.int32)
        if self.low is not None and self.high is not None:
            values = rng.random(self.shape, dtype=dtype) * (self.high - self.low) + self.low
        else:
            values = rng.standard_normal(self.shape, dtype=dtype) * self.scale
        return np.ascontiguousarray(values, dtype=dtype)


@dataclass(frozen=True)
class Goal:
    """What weft must reach: its time as a fraction of others' times, and an absolute limit.

    ``at_most`` maps ``"best"`` (the fastest peer), ``"compiling"`` (the fastest peer that compiles)
    or a peer's name to the largest allowed ``time(weft) / time(that)``. ``under`` is in seconds.
    """

    at_most: Mapping[str, float] = field(default_factory=dict)
    under: float | None = None

    def text(self) -> str:
        """The goal in words, for the table."""
        parts = [
            f">={1 / value:.3g}x {name}" if value <= 1 else f"<={value:g}x {name}'s time"
            for name, value in self.at_most.items()
        ]
        if self.under is not None:
            small = self.under < 1e-4
            parts.append(f"<{1e6 * self.under:g} us" if small else f"<{1e3 * self.under:g} ms")
        return ", ".join(parts)


def faster(times: float) -> Goal:
    """A throughput goal: at least ``times`` as fast as the best peer."""
    return Goal({"best": 1 / times})


FIRST_CALL = Goal({"compiling": 0.25}, under=0.150)
WARM_CALL = Goal(under=0.030)
FIRST_STEP = Goal({"compiling": 0.25})  # of a derivative or a training step
MEMORY = Goal({"best": 1.0})
IMPORT = Goal({"numpy": 1.3})


@dataclass(frozen=True)
class Workload:
    """A kernel on given inputs. ``flops`` and the bytes are the least that any program needs.

    In a training workload the kernel is a loss, some inputs are named parameters, and a call is one
    step of Adam (`ADAM`): the loss, its gradient, and the parameters and moments updated.
    """

    name: str
    group: str
    kernel: str
    inputs: tuple[Input, ...]
    flops: float
    written: int  # elements of the results
    goal: Goal
    dtype: str = "float32"
    rtol: float = 1e-5
    atol: float = 1e-5
    norm: bool = False  # the tolerance is of each result's length, not of each of its elements
    first: bool = False  # its first call is measured too
    first_goal: Goal = FIRST_CALL
    memory: bool = False  # the memory it takes is measured too

    def make_inputs(self) -> list[np.ndarray]:
        """The seeded inputs; the seed is made of the name, so each workload has its own."""
        seed = zlib.crc32(self.name.encode())
        return [spec.make(self.dtype, seed + i) for i, spec in enumerate(self.inputs)]

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the inputs that are trained; they come first."""
        return tuple(i.name for i in self.inputs if i.name)

    @property
    def trained(self) -> int:
        """How many numbers are trained."""
        return sum(prod(i.shape) for i in self.inputs if i.name)

    @property
    def bytes_read(self) -> int:
        """Bytes of all inputs, each read once, and of the moments of parameters."""
        elements = sum(prod(i.shape) for i in self.inputs) + 2 * self.trained
        return np.dtype(self.dtype).itemsize * elements

    @property
    def bytes_written(self) -> int:
        """Bytes of all results, each written once, and of the moments of parameters."""
        return np.dtype(self.dtype).itemsize * (self.written + 2 * self.trained)


def _elementwise() -> Iterable[Workload]:
    size = 4096 * 1024
    big = (4096, 1024)
    yield Workload(
        "gelu-4096x1024", "elementwise", "gelu", (Input(big), Input((1024,))),
        size * (10 + TRANSCENDENTAL["float32"]), size, faster(1.2), first=True,
    )
    options = (Input((4_000_000,), low=10, high=50), Input((4_000_000,), low=10, high=50),
               Input((4_000_000,), low=0.25, high=5))
    for dtype, rtol, atol in (("float32", 1e-4, 1e-4), ("float64", 1e-10, 1e-10)):
        yield Workload(
            f"black-scholes-4M-{dtype[0]}{dtype[-2:]}", "elementwise", "black_scholes", options,
            4e6 * (21 + 4 * TRANSCENDENTAL[dtype]), 8_000_000, faster(1.2), dtype, rtol, atol,
            first=dtype == "float32",
        )


def _rows() -> Iterable[Workload]:
    big, size = (4096, 1024), 4096 * 1024
    pair = (Input(big), Input(big))
    affine = (Input(big), Input((1024,)), Input((1024,)))
    exp = TRANSCENDENTAL["float32"]
    for name, inputs, flops, written, goal in (
        ("softmax", (Input(big, 3.0),), size * (4 + exp), size, 1.3),
        ("layer_norm", affine, size * 8, size, 1.3),
        ("logsumexp", (Input(big, 3.0),), size * (3 + exp), 4096, 1.5),
        ("cosine", pair, size * 6, 4096, 1.5),
    ):
        title = f"{name.replace('_', '-')}-4096x1024"
        yield Workload(title, "rows", name, inputs, flops, written, faster(goal), first=True)
    points = (Input((1000, 16)), Input((1000, 16)))
    yield Workload(
        "pairwise-1000x1000x16", "rows", "pairwise", points, 1e6 * 49, 1_000_000, faster(1.5),
        rtol=1e-4, first=True,
    )


def _reductions() -> Iterable[Workload]:
    # The values have mean 0.5, so a sum is large beside its rounding errors.
    x, size = (Input((4096, 4096), low=0, high=1),), 4096 * 4096
    for name, flops, written, rtol in (
        ("sum_rows", size, 4096, 1e-5),
        ("sum_columns", size, 4096, 1e-5),
        ("sum_all", size, 1, 1e-4),
        ("variance_rows", 4 * size, 4096, 1e-4),
        ("variance_all", 4 * size, 1, 1e-4),
    ):
        title = f"{name.replace('_', '-')}-4096x4096"
        yield Workload(
            title, "reductions", name, x, flops, written, faster(1.0), rtol=rtol, first=True
        )


SQUARES = tuple((n, n, n) for n in (64, 128, 256, 512, 1024, 2048))
MATMULS = SQUARES + ((1, 784, 512), (16, 768, 3072), (256, 768, 2304))


def _matmuls() -> Iterable[Workload]:
    for m, k, n in MATMULS:
        x, w = Input((m, k)), Input((k, n), k**-0.5)
        flops, size = 2 * m * k * n, f"{m}x{k}x{n}"
        first = (m, k, n) == (512, 512, 512)
        yield Workload(
            f"matmul-{size}", "matmul", "matmul", (x, w), flops, m * n, faster(1.0),
            rtol=1e-4, atol=1e-4, first=first,
        )
        epilogue = m * n * (11 + TRANSCENDENTAL["float32"])
        yield Workload(
            f"matmul-gelu-{size}", "matmul", "matmul_gelu", (x, w, Input((n,))),
            flops + epilogue, m * n, faster(1.15), rtol=1e-4, atol=1e-4, first=first,
        )


def _mlps() -> Iterable[Workload]:
    sizes = (784, 512, 512, 10)
    weights: list[Input] = []
    for k, n in pairwise(sizes):
        weights += [Input((k, n), (2 / k) ** 0.5), Input((n,), 0.1)]
    products = sum(k * n for k, n in pairwise(sizes))
    for batch in (1, 32, 256):
        yield Workload(
            f"mlp-batch-{batch}", "mlp", "mlp", (Input((batch, 784)), *weights),
            batch * 2 * products, batch * 10, faster(1.2), rtol=1e-4, atol=1e-4, first=batch == 32,
        )


def _dispatch() -> Iterable[Workload]:
    goal = Goal({"numpy": 0.6, "numba": 0.6, "jax": 0.1}, under=0.5e-6)
    yield Workload(
        "dispatch-4", "dispatch", "multiply_add", (Input((4,)), Input((4,))), 8, 4, goal, first=True
    )


def _gradients() -> Iterable[Workload]:
    points = Input((1000, 16)), Input((1000, 16)), Input((1000, 1000), low=2, high=8)
    yield _gradient("pairwise-1000x1000x16", "stress_gradient", points, 3 * 2 * 16e6, 32_000)
    # The starts of an ensemble of Lorenz systems, and the three constants of the equations.
    lorenz = (*(Input((10_000,), low=1, high=2) for _ in range(3)), Input((3,), low=2, high=12))
    yield _gradient("ode-rk4-100x10000", "lorenz_gradient", lorenz, 100 * 1e4 * 3 * 65, 30_003)
    ranges = (10, 50), (10, 50), (0.1, 0.5), (0.25, 5), (0.01, 0.05)
    options = tuple(Input((1_000_000,), low=low, high=high) for low, high in ranges)
    yield _gradient("black-scholes-greeks-1M", "greeks", options,
                    1e6 * (60 + 6 * TRANSCENDENTAL["float32"]), 5_000_000, rtol=1e-3)
    model = Input((HESSIAN_PARAMETERS,), 0.5), Input((256, 8)), Input((256,))
    yield _gradient(f"hessian-{HESSIAN_PARAMETERS}", "hessian", model,
                    256 * 2 * HESSIAN_PARAMETERS**2, HESSIAN_PARAMETERS**2)


def _gradient(
    name: str, kernel: str, inputs: tuple[Input, ...], flops: float, written: int,
    rtol: float = 1e-4,
) -> Workload:
    return Workload(f"gradient/{name}", "gradient", kernel, inputs, flops, written, faster(1.2),
                    rtol=rtol, norm=True, first=True, first_goal=FIRST_STEP, memory=True)


# A perceptron of 8 inputs, 10 hidden units with tanh, one output.
HESSIAN_PARAMETERS = 8 * 10 + 10 + 10 + 1
ADAM = {"rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
CHECKED_STEPS = 3


def _training() -> Iterable[Workload]:
    mlp = *_dense("1", 784, 512), *_dense("2", 512, 512), *_dense("3", 512, 10)
    yield _train("mlp-batch-128", "train_mlp", mlp,
                 (Input((128, 784)), Input((128,), classes=10)),
                 128 * (3 * 2 * (784 * 512 + 512 * 512 + 512 * 10) - 2 * 784 * 512))
    blocks = (3, 32), (32, 64), (64, 128)
    cnn = (*(p for i, (k, n) in enumerate(blocks, 1) for p in _conv(f"{i}", k, n)),
           *_dense("4", 128, 10))
    yield _train("cnn-batch-64", "train_cnn", cnn,
                 (Input((64, 32, 32, 3)), Input((64,), classes=10)),
                 64 * 2 * 9 * (2 * 1024 * 3 * 32 + 3 * 256 * 32 * 64 + 3 * 64 * 64 * 128))
    d, tokens = 768, 4 * 256
    gpt = (*_norm("1", d), *_dense("qkv", d, 3 * d, 1), *_dense("out", d, d, 1),
           *_norm("2", d), *_dense("up", d, 4 * d, 1), *_dense("down", 4 * d, d, 1))
    stream = Input((4, 256, d))
    yield _train("gpt-block-4x256x768", "train_gpt", gpt, (stream, stream),
                 3 * 2 * tokens * (12 * d * d + 256 * d))  # half of the scores are masked
    hidden, x = 256, 128
    lstm = (Input((x, 4 * hidden), x**-0.5, name="wx"),
            Input((hidden, 4 * hidden), hidden**-0.5, name="wh"),
            Input((4 * hidden,), 0.1, name="b"), *_dense("o", hidden, 10, 1))
    yield _train("lstm-100x32x256", "train_lstm", lstm,
                 (Input((100, 32, x)), Input((32,), classes=10)),
                 100 * 32 * 2 * 4 * hidden * (2 * x + 3 * hidden))


def _dense(name: str, k: int, n: int, gain: float = 2) -> tuple[Input, Input]:
    return Input((k, n), (gain / k) ** 0.5, name=f"w{name}"), Input((n,), 0.1, name=f"b{name}")


def _conv(name: str, k: int, n: int) -> tuple[Input, Input]:
    scale = (2 / (9 * k)) ** 0.5
    return Input((3, 3, k, n), scale, name=f"w{name}"), Input((n,), 0.1, name=f"b{name}")


def _norm(name: str, n: int) -> tuple[Input, Input]:
    return (Input((n,), low=0.9, high=1.1, name=f"scale{name}"),
            Input((n,), 0.1, name=f"shift{name}"))


def _train(
    name: str, kernel: str, parameters: tuple[Input, ...], data: tuple[Input, ...], flops: float
) -> Workload:
    size = sum(prod(p.shape) for p in parameters)
    adam = 14 * size
    # Where a gradient is next to nothing, Adam moves by its sign, which is a matter of rounding:
    # hence the wide tolerance, of the length of the whole change.
    return Workload(f"train/{name}", "train", kernel, parameters + data, flops + adam, size + 1,
                    faster(1.2), rtol=1e-2, norm=True, first=True, first_goal=FIRST_STEP,
                    memory=True)


WORKLOADS: tuple[Workload, ...] = tuple(
    workload
    for make in (
        _elementwise, _rows, _reductions, _matmuls, _mlps, _dispatch, _training, _gradients,
    )
    for workload in make()
)
BY_NAME = {workload.name: workload for workload in WORKLOADS}


def select(names: Iterable[str], patterns: str | None) -> list[str]:
    """Those of ``names`` that match one of the comma-separated ``patterns``.

    A pattern is a whole name, a shell's glob, or a word that is part of the names.
    """
    names = list(names)
    if not patterns:
        return names
    globs = [
        p if p in names or set(p) & set("*?[") else f"*{p}*" for p in patterns.split(",")
    ]
    return [name for name in names if any(fnmatch.fnmatch(name, glob) for glob in globs)]
