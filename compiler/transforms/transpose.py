"""Reverse mode: nodes that are linear in some of their inputs, turned round.

What `push_forward` builds with `linearize` is a linear map from tangents of parameters to tangents
of results. Its transposed map takes cotangents of results to cotangents of parameters; node by
node, from the last to the first, each op's `transpose` rule gives the cotangents of its operands.
(Radul et al., "You Only Linearize Once: Tangents Transpose to Gradients", 2022.)

Complex numbers: maps are transposed, not conjugated, so that the cotangent of `x` in ``c * x`` is
``c * ct``, and the gradient of a real function of ``x + iy`` is ``df/dx - i df/dy``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from weft.compiler.build import Builder
from weft.compiler.inline import copy_node, inline
from weft.compiler.ir import Graph, Node, live
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.transforms.accumulate import accumulated
from weft.compiler.transforms.jvp import instantiate, no_derivative, push_forward

__all__ = ["LinearMap", "dependents", "linear_map", "pull_back", "sum_to_shape", "transposed",
           "transposed_graph", "vjp"]

Cotangent = Any        # a Node, None for zero, or a list of these for a node of several results


def vjp(graph: Graph, active: Sequence[bool]) -> Graph:
    """The graph of results and cotangents of the active parameters.

    Its parameters are those of `graph`, then a cotangent for each real or complex result; its
    results those of `graph`, then a cotangent for each active parameter, zeros where no result
    depends on it.
    """
    b = Builder(graph.name)
    primals = [b.param(p.name, p.type) for p in graph.params]
    cotangents = [b.param(f"ct.{i}", r.type) for i, r in enumerate(graph.results)
                  if r.dtype.is_inexact]
    given = iter(cotangents)
    results, found = pull_back(b, graph, primals, active,
                               [next(given) if r.dtype.is_inexact else None
                                for r in graph.results])
    return b.graph([*results, *[instantiate(b, p, c) for p, a, c in zip(primals, active, found)
                                if a]])


def pull_back(b: Builder, graph: Graph, inputs: Sequence[Node], active: Sequence[bool],
              cotangents: Sequence[Cotangent],
              trail: dict[Node, Node] | None = None) -> tuple[list[Node], list[Cotangent]]:
    """The graph's results, and the cotangents of its active parameters, built in `b`.

    `cotangents` are those of the results, None for zeros. `trail` gets the copy in `b` of each node
    of the graph.
    """
    results, dots, linear = _linearized(b, graph, inputs, active, trail)
    return results, linear.transposed(b, dots, cotangents)


@dataclass(eq=False)
class _Linear:
    """Linear nodes, in order, and the placeholders they lead from; None for inactive inputs."""

    nodes: list[Node]
    sources: list[Node | None]

    def transposed(self, b: Builder, results: Sequence[Cotangent],
                   cotangents: Sequence[Cotangent]) -> list[Cotangent]:
        """The cotangents of the sources, given those of results; None where inactive or zero."""
        sources = [s for s in self.sources if s is not None]
        linear = {*sources, *self.nodes}
        found = iter(transposed(b, self.nodes, linear, sources, results, cotangents))
        return [None if s is None else next(found) for s in self.sources]


def _linearized(b: Builder, graph: Graph, inputs: Sequence[Node], active: Sequence[bool],
                trail: dict[Node, Node] | None = None
                ) -> tuple[list[Node], list[Cotangent], _Linear]:
    """Results in `b`, their tangents, and the linear nodes, which are taken out of `b` again."""
    sources = [Node(None, (), {}, p.type, None, f"{p.name}.dot") if a else None
               for p, a in zip(graph.params, active)]
    start = len(b.nodes)
    results, dots = push_forward(b, graph, inputs, sources, linearize=True, trail=trail)
    return results, dots, _Linear(_taken(b, start, sources), sources)


def _taken(b: Builder, start: int, sources: Iterable[Node | None]) -> list[Node]:
    """The nodes of `b` from `start` on that depend on the sources, taken out of it."""
    linear = dependents(b.nodes[start:], [s for s in sources if s is not None])
    nodes = [n for n in b.nodes[start:] if n in linear]
    b.nodes[start:] = [n for n in b.nodes[start:] if n not in linear]
    return nodes


@dataclass(frozen=True, eq=False)
class LinearMap:
    """The derivative of a graph at a point, as a closed graph that can be applied later.

    Its parameters are the values that it needs of the point (residuals), then the tangents of the
    active inputs; its results the tangents of those of the graph's results that depend on them.
    """

    graph: Graph
    residuals: int
    active: tuple[bool, ...]
    nonzero: tuple[bool, ...]

    def push(self, b: Builder, residuals: Sequence[Node], tangents: Sequence[Cotangent]
             ) -> list[Cotangent]:
        """The tangents of all results; None where zero."""
        params = self.graph.params[self.residuals:]
        given = [instantiate(b, p, t) for p, t in
                 zip(params, (t for t, a in zip(tangents, self.active) if a))]
        outs = iter(inline(b, self.graph, [*residuals, *given]))
        return [next(outs) if n else None for n in self.nonzero]

    def pull(self, b: Builder, residuals: Sequence[Node], cotangents: Sequence[Cotangent]
             ) -> list[Cotangent]:
        """The cotangents of all inputs; None where inactive or zero."""
        given = [c for c, n in zip(cotangents, self.nonzero) if n]
        found = iter(transposed_graph(b, self.graph, dict(enumerate(residuals)),
                                      range(self.residuals, len(self.graph.params)),
                                      {k: c for k, c in enumerate(given) if c is not None}))
        return [next(found) if a else None for a in self.active]


def transposed_graph(b: Builder, graph: Graph, others: Mapping[int, Node], sources: Sequence[int],
                     cotangents: Mapping[int, Node]) -> list[Cotangent]:
    """The cotangents of a graph's parameters number `sources`, in which it is linear, built in `b`.

    `others` are the values of its other parameters, `cotangents` those of results; the others'
    are zero.
    """
    placed = {i: Node(None, (), {}, graph.params[i].type, None, graph.params[i].name)
              for i in sources}
    start = len(b.nodes)
    outs = inline(b, graph, [placed[i] if i in placed else others[i]
                             for i in range(len(graph.params))])
    linear = _Linear(_taken(b, start, placed.values()), list(placed.values()))
    return linear.transposed(b, outs, [cotangents.get(k) for k in range(len(outs))])


def linear_map(b: Builder, graph: Graph, inputs: Sequence[Node], active: Sequence[bool]
               ) -> tuple[list[Node], LinearMap, list[Node]]:
    """The graph's results in `b`, its derivative there, and the residuals that this needs."""
    results, dots, linear = _linearized(b, graph, inputs, active)
    outs = [d for d in dots if d is not None]
    alive = live(linear.nodes, outs)
    own = {*alive, *(s for s in linear.sources if s is not None)}
    outside = [n for n in dict.fromkeys(i for n in alive for i in n.inputs) if n not in own]
    residuals = [n for n in outside if n.opname not in ("constant", "size")]
    inner = Builder(graph.name)
    now = {n: inner.param(n.name, n.type) for n in residuals}
    now |= {s: inner.param(s.name, s.type) for s in linear.sources if s is not None}
    now |= {n: copy_node(inner, n, ()) for n in outside if n not in now}
    for node in alive:
        now[node] = copy_node(inner, node, [now[i] for i in node.inputs])
    made = LinearMap(inner.graph([now[d] for d in outs]), len(residuals), tuple(active),
                     tuple(d is not None for d in dots))
    return results, made, residuals


def dependents(nodes: Iterable[Node], sources: Iterable[Node]) -> set[Node]:
    """The sources, and the nodes that depend on any of them."""
    out = set(sources)
    for node in nodes:
        if any(i in out for i in node.inputs):
            out.add(node)
    return out


def transposed(b: Builder, nodes: Sequence[Node], linear: set[Node], sources: Sequence[Node],
               results: Sequence[Cotangent], cotangents: Sequence[Cotangent]) -> list[Cotangent]:
    """The cotangents of `sources`, given those of `results`, built in `b`.

    `nodes` lead from sources to results, in order, and are linear in what is in `linear`; all else
    that they use is in `b`.
    """
    found: dict[Node, Cotangent] = {}
    for result, ct in zip(results, cotangents):
        if result is not None and ct is not None:
            _add(b, found, result, ct)
    kept = b.origin
    for node in reversed(nodes):
        ct = found.pop(node, None)
        if ct is None:
            continue
        b.origin = node.origin or kept
        if node.opname == "get":
            _add_element(b, found, node, ct)
            continue
        wanted = frozenset(k for k, i in enumerate(node.inputs) if i in linear)
        rule = node.op.transpose if node.op is not None else None
        if rule is None:
            raise no_derivative(node)
        for k, c in enumerate(rule(b, node, ct, wanted)):
            if k in wanted and c is not None:
                _add(b, found, node.inputs[k], sum_to_shape(b, c, node.inputs[k]))
    b.origin = kept
    return [found.get(s) for s in sources]


def _add(b: Builder, found: dict[Node, Cotangent], node: Node, ct: Cotangent) -> None:
    before = found.get(node)
    if before is None or not isinstance(ct, list):
        found[node] = ct if before is None else accumulated(b, before, ct)
        return
    found[node] = [c if old is None else old if c is None else accumulated(b, old, c)
                   for old, c in zip(before, ct)]


def _add_element(b: Builder, found: dict[Node, Cotangent], node: Node, ct: Node) -> None:
    """The cotangent of one element of a node of several results."""
    (whole,), index = node.inputs, node.attrs["index"]
    several: list[Cotangent] = [None] * len(whole.type.elements)  # type: ignore[union-attr]
    several[index] = ct
    _add(b, found, whole, several)


def sum_to_shape(b: Builder, ct: Cotangent, operand: Node) -> Cotangent:
    """The cotangent of a 0-d operand that stood for every element."""
    if isinstance(ct, Node) and operand.type is not None and operand.shape == () != ct.shape:
        return b.add("reduce_sum", ct, axes=tuple(range(len(ct.shape))))
    return ct

