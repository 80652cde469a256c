"""Tracing: running a function once on tracers gives its graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from weft.compiler.ir import Graph
from weft.compiler.types import TensorType
from weft.frontend.tracer import Tracer

__all__ = ["ArgSpec", "ResultSpec", "Traced", "Tracer", "trace_flat"]


@dataclass(frozen=True)
class ArgSpec:
    """How one flat argument enters the trace.

    `kind` is ``"array"``, ``"scalar"`` (a NumPy scalar object) or the name of a Python scalar
    type, ``"float"``, ``"int"``, ``"bool"``, ``"complex"``, which promotes weakly. Python scalars
    have the type f64, i64, bool or c128, and `value` is this call's value, used only where the
    code needs it. `name` is the user's name of it, such as ``params.w1``.
    """

    kind: str
    type: TensorType
    name: str
    value: object = None


@dataclass(frozen=True)
class ResultSpec:
    """Where one flat result comes from.

    `kind` says which object NumPy would return: ``"array"``, ``"scalar"`` (a NumPy scalar),
    ``"float"``, ``"int"``, ``"bool"``, ``"complex"`` (Python scalars) take result `index` of the
    graph; ``"argument"`` is the flat argument `index`, the very object; ``"static"`` is `value`.
    """

    kind: str
    index: int
    value: object = None


@dataclass(frozen=True)
class Traced:
    """A traced function: its graph and what is needed to call it.

    The graph's parameters are one for every `ArgSpec` (used or not), then one for every capture:
    a writeable array the function closed over, to be read again at every call. `specialized` maps
    flat argument indices to the Python value that the trace depended on.
    """

    graph: Graph
    results: tuple[ResultSpec, ...]
    captures: tuple[np.ndarray, ...]
    specialized: dict[int, object]


def trace_flat(fn: Callable[[list[Tracer]], list[object]], specs: Sequence[ArgSpec],
               name: str) -> Traced:
    """The graph of `fn`, called once with a tracer for every spec; `name` becomes the graph's."""
    raise NotImplementedError
