"""Tracing a function inside a running trace, to a graph of its own.

Bodies of loops and functions to be differentiated become graphs that are closed: whatever they use
of the trace around them is a parameter. The trace goes on with another builder while the function
runs, so that tracers from outside it may be used as ever; afterwards, the nodes that came from
outside are found and made parameters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from weft.compiler.build import Builder
from weft.compiler.inline import copy_node
from weft.compiler.ir import Graph, Node, live
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import TensorType
from weft.frontend.leaves import Refused, static_part
from weft.frontend.pytree import Tree, flatten, unflatten
from weft.frontend.recording import CLOSURE, LOCAL, Trace
from weft.frontend.statics import Static, is_plain
from weft.frontend.tracer import DIFFERENTIATED, NO_DEPS, WEAK_DTYPES, Tracer

__all__ = ["Spec", "Subtrace", "spec_of", "subtrace", "tracers_of", "wrap"]

_NOT_A_NAME = re.compile(r"[^A-Za-z0-9_.]+")


@dataclass(frozen=True, eq=False)
class Spec:
    """How one argument enters: like the tracer it stands for, see `Tracer`."""

    type: TensorType
    kind: str = "array"
    name: str = "arg"
    value: Any = None
    deps: frozenset[int] = NO_DEPS


@dataclass(frozen=True, eq=False)
class Subtrace:
    """A function traced to a closed graph.

    The graph's parameters are one for each spec, then one for each node of the surrounding graph
    in `captured`. `kinds` says what NumPy would have at each result (see `Tracer.kind`), `tree` is
    the container of the results.
    """

    graph: Graph
    captured: tuple[Node, ...]
    kinds: tuple[str, ...]
    tree: Tree

    def results(self, nodes: Iterable[Node]) -> Any:
        """The function's result, with these nodes of the surrounding graph as its leaves."""
        return unflatten(self.tree, [wrap(n, k) for n, k in zip(nodes, self.kinds)])


def wrap(node: Node, kind: str = "array") -> Tracer:
    """A node of the running trace as a value for the user's code.

    What was a Python number before is a NumPy scalar now: its value is not known.
    """
    trace = _running()
    kind = "scalar" if kind in WEAK_DTYPES or (kind == "array" and not node.shape) else kind
    return Tracer(trace, node, kind if not node.shape else "array")


def spec_of(tracer: Tracer, name: str = "arg", known: bool = True, differentiated: bool = False
            ) -> Spec:
    """A spec for an argument like this.

    `known`: its Python value stays known, if it is; `differentiated`: as a number that it may not
    be turned into, since that would lose its derivative.
    """
    if not known or tracer.value is None:
        return Spec(tracer.node.tensor, tracer.kind, name)
    deps = tracer.deps | {DIFFERENTIATED} if differentiated else tracer.deps
    return Spec(tracer.node.tensor, tracer.kind, name, tracer.value, deps)


def _static(value: Any) -> Static | None:
    """What is no array or number is part of the structure, as in the arguments of `weft.jit`."""
    try:
        return static_part(value)
    except Refused:         # lifting it says what is wrong with it
        return None


def _named(value: Any) -> Static | None:
    """Strings and functions may be among the results; of other objects, what they hold counts."""
    return Static(value) if is_plain(value) else None


def tracers_of(value: Any) -> tuple[list[Tracer], Tree]:
    """The leaves of a container of arrays and numbers, as tracers of the running trace.

    Strings, functions and the like are no leaves; the tree holds them.
    """
    leaves, tree = flatten(value, _static)
    trace = _running()
    trace.locate()
    return [trace.lift(leaf) for leaf in leaves], tree


def subtrace(fn: Callable[[list[Tracer]], Any], specs: Sequence[Spec], name: str) -> Subtrace:
    """The graph of `fn`, called with a tracer for every spec, inside the running trace."""
    trace = _running()
    inner = Builder(name, trace.builder.origin)
    kept = trace.builder, trace.busy, trace._sizes
    trace.builder, trace.busy, trace._sizes = inner, False, {}
    try:
        value = fn([_argument(trace, inner, spec) for spec in specs])
        leaves, tree = flatten(value, _named)
        outs = [trace.lift(leaf) for leaf in leaves]
    finally:
        trace.builder, trace.busy, trace._sizes = kept
    graph, captured = _closed(trace, inner, [out.node for out in outs])
    return Subtrace(graph, captured, tuple(out.kind for out in outs), tree)


def _running() -> Trace:
    trace = LOCAL.trace
    assert trace is not None, "no trace runs"
    return trace


def _argument(trace: Trace, inner: Builder, spec: Spec) -> Tracer:
    name = _NOT_A_NAME.sub("_", spec.name).strip("_") or "arg"
    return Tracer(trace, inner.param(name, spec.type), spec.kind, arg=CLOSURE,
                  value=spec.value, deps=spec.deps)


def _closed(trace: Trace, inner: Builder, results: Sequence[Node]
            ) -> tuple[Graph, tuple[Node, ...]]:
    """The graph of what the results need, and the nodes outside of it that it needs."""
    alive = live(inner.nodes, results)
    if trace.placed:
        from weft.frontend.placement import outlined  # for functions with placed parts only

        alive, results = outlined(inner, alive, results, trace)
    own = {*inner.params, *inner.nodes, *alive}
    outside = [n for n in dict.fromkeys((*(i for n in alive for i in n.inputs), *results))
               if n not in own]
    if not outside:
        return Graph(inner.name, inner.params, alive, results), ()
    b = Builder(inner.name)
    now = {p: b.param(p.name, p.type) for p in inner.params}
    captured = []
    for node in outside:
        if node.opname in ("constant", "size"):
            now[node] = copy_node(b, node, ())
        else:
            captured.append(node)
            now[node] = b.param(node.name, node.type)
    for node in alive:
        now[node] = copy_node(b, node, [now[i] for i in node.inputs])
    return b.graph([now[r] for r in results]), tuple(captured)
