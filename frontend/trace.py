"""Tracing: running a function once on tracers gives its graph."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import weft.frontend.numpy  # noqa: F401 - fills the tables that tracers read
from weft.compiler.ir import Graph, Node, live
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import TensorType
from weft.frontend.recording import LOCAL, Trace
from weft.frontend.tracer import Tracer

__all__ = ["ArgSpec", "ResultSpec", "Traced", "Tracer", "trace_flat"]

_NOT_A_NAME = re.compile(r"[^A-Za-z0-9_.]+")


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
    flat argument indices to the Python value that the trace depended on. `placed` says that parts
    of the graph may be calls that name a device.
    """

    graph: Graph
    results: tuple[ResultSpec, ...]
    captures: tuple[Any, ...]
    specialized: dict[int, object]
    placed: bool = False


def trace_flat(fn: Callable[[list[Tracer]], list[object]], specs: Sequence[ArgSpec],
               name: str) -> Traced:
    """The graph of `fn`, called once with a tracer for every spec; `name` becomes the graph's.

    Raises a `WeftError`, located at the user's line, for code that cannot be traced; errors that
    the code itself raises pass through.
    """
    trace = Trace(name)
    outer, LOCAL.trace = LOCAL.trace, trace
    try:
        outs = fn([_argument(trace, i, spec) for i, spec in enumerate(specs)])
        trace.builder.origin = None
        results, nodes = _results(trace, outs)
        del outs
        return _finish(trace, results, nodes)
    finally:
        trace.open = False
        LOCAL.trace = outer


def _argument(trace: Trace, index: int, spec: ArgSpec) -> Tracer:
    node = trace.builder.param(_NOT_A_NAME.sub("_", spec.name) or "arg", spec.type)
    deps = frozenset((index,)) if spec.value is not None else frozenset()
    tracer = Tracer(trace, node, spec.kind, arg=index, value=spec.value, deps=deps)
    trace.arguments.append(tracer)
    return tracer


def _results(trace: Trace, outs: list[object]) -> tuple[list[ResultSpec], list[Node]]:
    """Where each result comes from, and the nodes that the graph returns."""
    specs: list[ResultSpec] = []
    nodes: list[Node] = []
    seen: dict[Tracer, int] = {}
    for out in outs:
        if type(out) is np.ndarray and out.flags.writeable:
            out = trace.lift(out)                    # fresh at every call, like NumPy's
        if type(out) is not Tracer:
            specs.append(ResultSpec("static", -1, out))
        elif trace.lift(out).arg >= 0:
            specs.append(ResultSpec("argument", out.arg))
        else:
            if out not in seen:
                seen[out] = len(nodes)
                nodes.append(out.node)
            specs.append(ResultSpec(out.kind, seen[out]))
    return specs, nodes


def _finish(trace: Trace, results: list[ResultSpec], nodes: list[Node]) -> Traced:
    """The graph without nodes that no result needs; private captures become constants."""
    builder, captures = trace.builder, trace.settle_captures()
    alive = live(builder.nodes, nodes)
    if trace.placed:
        from weft.frontend.placement import outlined  # for functions with placed parts only

        alive, nodes = outlined(builder, alive, nodes, trace)
    graph = Graph(builder.name, builder.params, alive, nodes)
    return Traced(graph, tuple(results), captures, dict(sorted(trace.specialized.items())),
                  bool(trace.placed))
