"""Running a graph from its text on random inputs, and holding a device to the reference."""

from __future__ import annotations

from typing import Any

import numpy as np

from weft.compiler.ir import Graph
from weft.compiler.lazy_dataclass import replace
from weft.compiler.passes import History, pipeline_for, run_pipeline
from weft.compiler.placement import is_elsewhere
from weft.compiler.text import parse
from weft.compiler.types import TensorType, evaluate_dim
from weft.devices.protocol import Array, Compiled
from weft.devices.reference import evaluate
from weft.devices.registry import get_device

__all__ = ["compile_graph", "random_arguments", "replay"]

_TOLERANCE = {"f16": 1e-2, "bf16": 5e-2, "f32": 1e-4, "c64": 1e-4, "f64": 1e-10, "c128": 1e-10}
_ROUNDED = {"tf32": "f16", "bf16": "bf16", "fp16": "f16"}  # as good as what operands are rounded to


def random_arguments(graph: Graph, seed: int = 0, size: int = 3) -> list[Array]:
    """An array for each parameter: small integers, or normal numbers; unknown sizes are `size`.

    >>> g = parse("graph @f(%n: i32[2], %x: f32[B]) -> (f32[B]) { return %x }")
    >>> [(a.shape, a.dtype.name) for a in random_arguments(g)]
    [((2,), 'int32'), ((3,), 'float32')]
    """
    rng = np.random.default_rng(seed)
    sizes = dict.fromkeys(graph.symbols, size)
    return [_random(p.tensor, rng, sizes) for p in graph.params]


def compile_graph(graph: Graph, device: str, fast_math: bool = False,
                  precision: str = "highest") -> tuple[Compiled, History]:
    """The graph compiled for a device, its placed parts for theirs, and what the passes did."""
    chosen = get_device(device)
    target = replace(chosen.target(), fast_math=fast_math, precision=precision)
    if is_elsewhere(graph, device):
        from weft.runtime.placed import lower_placed, passes_for  # for placed parts only

        optimized, history = run_pipeline(graph, target, passes_for(graph, device, target))
        return lower_placed(optimized, device, target).compile(), history
    optimized, history = run_pipeline(graph, target, pipeline_for(chosen.supported()))
    return chosen.lower(optimized, target).compile(), history


def replay(text: str, device: str, *, fast_math: bool = False, precision: str = "highest",
           seed: int = 0) -> int:
    """Compare a device with the reference on the graph in `text`; prints, returns 1 if they differ.

    Placed parts run on the devices that the text names.
    """
    graph = parse(text)
    arguments = random_arguments(graph, seed)
    compiled, _ = compile_graph(graph, device, fast_math, precision)
    memory = get_device(device).memory
    results = [memory.get(r) for r in compiled.run([memory.put(a) for a in arguments])]
    wrong = 0
    for i, (got, want) in enumerate(zip(results, evaluate(graph, arguments))):
        error = difference(got, want)
        dtype = graph.results[i].dtype.name
        limit = _TOLERANCE.get(_ROUNDED.get(precision, dtype) if dtype in ("f32", "c64") else dtype,
                               0.0)
        wrong += not error <= limit
        print(f"result {i}: {graph.results[i].type}, largest difference {error:.3g} "
              f"({'ok' if error <= limit else f'more than {limit:g}'})")
    print(f"@{graph.name} on {device}: {'differs from' if wrong else 'agrees with'} the reference")
    return 1 if wrong else 0


def difference(got: Array, want: Array) -> float:
    """The largest difference, relative to the largest finite number in `want`."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return float("inf")
    a, b = _wide(got), _wide(want)
    with np.errstate(all="ignore"):
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        error = np.where(same, 0.0, np.abs(a - b))
        scale = np.max(np.abs(b), initial=1.0, where=np.isfinite(b))
    return float(np.max(np.nan_to_num(error, nan=np.inf), initial=0.0) / scale)


def _wide(a: Array) -> Array:
    return a.astype(np.complex128 if a.dtype.kind == "c" else np.float64)


def _random(type: TensorType, rng: np.random.Generator, sizes: dict[str, int]) -> Array:
    shape: Any = tuple(evaluate_dim(d, sizes) for d in type.shape)
    kind = type.dtype.kind
    if kind == "bool":
        return np.asarray(rng.random(shape) < 0.5)
    if kind in ("int", "uint"):
        return np.asarray(rng.integers(0, 4, shape), type.dtype.numpy)
    values = rng.standard_normal(shape)
    return np.asarray(values + 1j * rng.standard_normal(shape) if kind == "complex" else values,
                      type.dtype.numpy)
