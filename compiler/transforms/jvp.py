"""Forward mode: for every node, the node of its tangent.

`jvp` makes of a graph of ``x → y`` that of ``x, dx → y, dy`` (Jacobian-vector products, after
Griewank and Walther, "Evaluating Derivatives", 2008, chapter 3). Zero tangents are None and cost
nothing. An op's declaration says how its tangent is made: by `partials`, by being `linear`, or by a
rule `jvp` of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from weft.compiler.build import Builder
from weft.compiler.errors import UnsupportedError
from weft.compiler.inline import copy_node, elements, zeros
from weft.compiler.ir import Graph, Node
from weft.compiler.transforms.formula import parse, scaled

__all__ = ["instantiate", "jvp", "push_forward", "tangent"]

Tangent = Any        # a Node, None for zero, or a list of these for a node of several results
_OPERANDS = "xyz"


def jvp(graph: Graph, active: Sequence[bool]) -> Graph:
    """The graph of results and their tangents.

    Its parameters are those of `graph`, then a tangent for each that is `active`; its results those
    of `graph`, then the tangents of those that are real or complex, zeros where they depend on
    nothing active. Raises an `UnsupportedError` for ops without a derivative.
    """
    b = Builder(graph.name)
    primals = [b.param(p.name, p.type) for p in graph.params]
    tangents = [b.param(f"{p.name}.dot", p.type) if a else None
                for p, a in zip(graph.params, active)]
    results, dots = push_forward(b, graph, primals, tangents)
    return b.graph([*results, *[instantiate(b, r, t) for r, t in zip(results, dots)
                                if r.dtype.is_inexact]])


def instantiate(b: Builder, node: Node, t: Node | None) -> Node:
    """A tangent or cotangent of `node` as a node, zeros where it is None."""
    return zeros(b, node.tensor) if t is None else t


def push_forward(b: Builder, graph: Graph, inputs: Sequence[Node], tangents: Sequence[Tangent],
                 linearize: bool = False, trail: dict[Node, Node] | None = None
                 ) -> tuple[list[Node], list[Tangent]]:
    """The graph's results and their tangents, built in `b`; `trail` gets each node's copy there.

    With `linearize`, no node computes both: tangents depend linearly on the given ones through
    nodes that compute nothing else, so that `transpose` can turn them round.
    """
    now: dict[Node, Any] = dict(zip(graph.params, inputs))
    dots: dict[Node, Tangent] = {p: t for p, t in zip(graph.params, tangents) if t is not None}
    kept = b.origin
    for node in graph.nodes:
        new_inputs = [now[i] for i in node.inputs]
        ts: list[Tangent] = [dots.get(i) for i in node.inputs]
        if node.opname == "get" and isinstance(new_inputs[0], list):
            now[node] = new_inputs[0][node.attrs["index"]]
            dots[node] = ts[0][node.attrs["index"]]
            continue
        if all(t is None for t in ts):
            now[node] = copy_node(b, node, new_inputs)
            continue
        b.origin = node.origin or kept
        apart = node.op.linearize if linearize and node.op is not None else None
        together = node.op.jointly if not linearize and node.op is not None else None
        if apart is not None or together is not None:
            now[node], t = (apart or together)(b, node, new_inputs, ts)  # type: ignore[misc]
        else:
            now[node] = copy_node(b, node, new_inputs)
            t = tangent(b, now[node], ts)
        if t is not None:
            dots[node] = t
    b.origin = kept
    if trail is not None:
        trail.update(now)
    return [now[r] for r in graph.results], [dots.get(r) for r in graph.results]


def tangent(b: Builder, node: Node, ts: Sequence[Tangent]) -> Tangent:
    """The tangent of a node whose inputs have these tangents, not all of which are None."""
    op = node.op
    assert op is not None
    if not any(t.dtype.is_inexact for t in elements(node.type)):
        return None
    if op.name == "get":
        return ts[0][node.attrs["index"]]
    if op.jvp is not None:
        return op.jvp(b, node, ts)
    if op.partials is not None:
        return _by_partials(b, node, op.partials, ts)
    if op.linear == "jointly":
        return _apply(b, node, [_zero_like(b, i) if t is None and i.dtype.is_inexact else
                                i if t is None else t for i, t in zip(node.inputs, ts)])
    if op.linear == "each":
        return _total(b, [_apply(b, node, [t if k == i else x for k, x in enumerate(node.inputs)])
                          for i, t in enumerate(ts) if t is not None])
    raise no_derivative(node)


def no_derivative(node: Node) -> UnsupportedError:
    """The error for an op that cannot be differentiated."""
    return UnsupportedError(
        f"the op {node.opname} has no derivative", origin=node.origin,
        expected="operations that can be differentiated between the arguments and the result",
        repair="stop the derivative there with weft.stop_gradient, or give one with "
               "weft.custom_jvp or weft.custom_vjp")


def _zero_like(b: Builder, x: Node) -> Node:
    return zeros(b, x.tensor)


def _apply(b: Builder, node: Node, inputs: Iterable[Node]) -> Node:
    return b.add(node.opname, *inputs, **node.attrs)


def _by_partials(b: Builder, node: Node, partials: Sequence[str], ts: Sequence[Tangent]) -> Tangent:
    names = dict(zip(_OPERANDS, node.inputs)) | {"out": node}
    terms = [scaled(b, parse(formula), names, t)
             for formula, t in zip(partials, ts) if t is not None]
    total = _total(b, [t for t in terms if t is not None])
    if total is None:
        return None
    return b.broadcast(total, node.shape, ()) if total.shape != node.shape else total


def _total(b: Builder, terms: Sequence[Node]) -> Node | None:
    if not terms:
        return None
    total = terms[0]
    for term in terms[1:]:
        total = b.add("add", total, term)
    return total

