"""``python -m bench.xla``: weft through XLA beside the same functions with `jax.numpy` as `np`.

Both are given the same arrays of JAX's, on the device that JAX offers first. Rounds alternate; of
each the least is kept: a busy machine can only add to it. ``first`` is the time from a new function
to its first result, tracing and compiling included; ``call`` that of later ones, waited for.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import weft
from bench import kernels, workloads

NAMES = ("dispatch-4", "gelu-4096x1024", "softmax-4096x1024", "layer-norm-4096x1024",
         "logsumexp-4096x1024", "sum-rows-4096x4096", "pairwise-1000x1000x16",
         "matmul-512x512x512", "matmul-gelu-512x512x512", "mlp-batch-32",
         "black-scholes-4M-f32", "black-scholes-4M-f64")
GOAL = 1.05


def with_np(fn: Callable[..., Any], **names: Any) -> Callable[..., Any]:
    """The function with other modules under these names, in whatever it calls too."""
    space = dict(vars(kernels)) | names
    for name, value in vars(kernels).items():
        if isinstance(value, types.FunctionType):
            space[name] = types.FunctionType(value.__code__, space, name, value.__defaults__)
    return space[fn.__name__]  # type: ignore[no-any-return]


def seconds(call: Callable[[], Any], least: float) -> float:
    """The time of a call: the least of several, over about this many seconds."""
    jax.block_until_ready(call())
    best, end = float("inf"), time.perf_counter() + least
    while time.perf_counter() < end:
        start = time.perf_counter()
        jax.block_until_ready(call())
        best = min(best, time.perf_counter() - start)
    return best


def first(make: Callable[[], Callable[..., Any]], args: list[Any]) -> float:
    """The time from a new function to its first result."""
    gc.collect()
    start = time.perf_counter()
    jax.block_until_ready(make()(*args))
    return time.perf_counter() - start


def measured(name: str, rounds: int, least: float) -> dict[str, dict[str, float]]:
    """Both ways of a workload: seconds of the first and of later calls."""
    spec = workloads.BY_NAME[name]
    kernel = getattr(kernels, spec.kernel)
    ways: dict[str, Callable[[], Callable[..., Any]]] = {
        "jax": lambda: jax.jit(with_np(kernel, np=jnp, special=jax.scipy.special)),
        "weft": lambda: weft.jit(with_np(kernel), device="xla")}
    firsts: dict[str, list[float]] = {way: [] for way in ways}
    calls: dict[str, list[float]] = {way: [] for way in ways}
    with jax.enable_x64(spec.dtype == "float64"):
        args = [jnp.asarray(x) for x in spec.make_inputs()]
        for _ in range(rounds):
            for way, make in ways.items():
                firsts[way].append(first(make, args))
        made = {way: make() for way, make in ways.items()}
        for _ in range(rounds):
            for way, fn in made.items():
                calls[way].append(seconds(lambda fn=fn: fn(*args), least))  # type: ignore[misc]
        apart = [np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max()
                 for a, b in zip(*(_parts(fn(*args)) for fn in made.values()))]
    assert max(apart) < 1e-2, f"{name}: the answers are {max(apart)} apart"
    return {way: {"first": min(firsts[way]), "call": min(calls[way])} for way in ways}


def _parts(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


def rows(names: list[str], rounds: int, least: float) -> Iterator[tuple[float, float]]:
    """Print a line for each workload; the ratios weft / JAX of both times."""
    print(f"{'':26}{'first call':^28}{'later calls':^28}")
    print(f"{'':26}{'weft':>9}{'jax':>9}{'ratio':>8}  {'weft':>10}{'jax':>10}{'ratio':>8}")
    for name in names:
        found = measured(name, rounds, least)
        w, j = found["weft"], found["jax"]
        ratios = w["first"] / j["first"], w["call"] / j["call"]
        print(f"{name:26}{1e3 * w['first']:7.1f}ms{1e3 * j['first']:7.1f}ms{ratios[0]:8.3f}  "
              f"{1e6 * w['call']:8.1f}us{1e6 * j['call']:8.1f}us{ratios[1]:8.3f}", flush=True)
        yield ratios


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.xla", description=__doc__)
    parser.add_argument("--only", metavar="A,B", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.15, help="of each round")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(NAMES)
    device = jax.devices()[0]
    print(f"{device.device_kind} ({device.platform}), JAX {jax.__version__}")
    ratios = list(rows(names, options.rounds, options.seconds))
    for what, column in zip(("first calls", "later calls"), zip(*ratios)):
        print(f"{what}: median ratio {statistics.median(column):.3f}, "
              f"worst {max(column):.3f}, goal {GOAL}")


if __name__ == "__main__":
    main()
