"""Loops and branches with parts on several devices: those that the host drives, turn by turn.

A loop or branch whose parts are all on one other device is moved there, whole. One that has parts
on several devices stays where it is, and its bodies are partitioned in turn: such a node has the
attributes `device`, where its parts run that are not placed, and `places`, the device of each
operand. Carries that only one other device makes and reads stay there from turn to turn, and what
does not change is moved there once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from weft.compiler.build import Builder
from weft.compiler.inline import copy_node, elements, zeros
from weft.compiler.ir import Graph, Node, is_scalar_constant, map_graphs, nested_graphs
from weft.compiler.passes.calls import InlineCalls
from weft.compiler.placement import device_of, param_places, placed_inside, result_places
from weft.compiler.target import Target
from weft.compiler.types import Size, TensorType, TupleType

__all__ = ["copied_free", "has_parts", "moved_whole", "symbols_inside", "whole_on", "with_homes",
           "with_operands", "without_slices"]


def has_parts(node: Node) -> bool:
    """Whether it is a loop or branch with placed parts inside of it."""
    return node.kind == "control" and device_of(node) is None and bool(node.attrs) and any(
        True for g in nested_graphs(node).values() for _ in placed_inside(g))


def whole_on(node: Node) -> Node | None:
    """A placed part of a loop or branch if all its work is on that one's device, else None.

    Computing with single numbers, as loops do to count, is no work.
    """
    found: dict[str, Node] = {}
    for graph in nested_graphs(node).values():
        if not _note_parts(graph, found):
            return None
    return next(iter(found.values())) if len(found) == 1 else None


def _note_parts(graph: Graph, found: dict[str, Node]) -> bool:
    """Note a placed part for each device; False if something is not placed."""
    for node in graph.nodes:
        device = device_of(node)
        if device is not None:
            found.setdefault(device, node)
            if any(device_of(n) != device for n in placed_inside(node.attrs["graph"])):
                return False
        elif node.kind == "control" and nested_graphs(node):
            if not all(_note_parts(g, found) for g in nested_graphs(node).values()):
                return False
        elif node.opname != "get" and node.kind != "creation" and not _is_small(node):
            return False
    return True


def _is_small(node: Node) -> bool:
    return all(isinstance(n.type, TensorType) and n.type.shape == ()
               for n in (node, *node.inputs))


def moved_whole(node: Node, target: Target) -> Mapping[str, Any]:
    """The attributes of a loop or branch that runs on one device."""
    return map_graphs(node.attrs, lambda g: InlineCalls().run(g, target))


# ---- operands

def symbols_inside(node: Node) -> set[str]:
    """The symbolic sizes that its bodies compute with."""
    found: set[str] = set()
    for graph in nested_graphs(node).values():
        for inner in (*graph.params, *graph.nodes):
            for t in elements(inner.type):
                found |= _symbols(t.shape)
            for value in inner.attrs.values():
                found |= _symbols(value if isinstance(value, tuple) else (value,))
            if inner.attrs:
                found |= symbols_inside(inner)
    return found | _symbols((node.attrs.get("length"),))


def _symbols(values: Sequence[Any]) -> set[str]:
    return {s for v in values if isinstance(v, Size) for s in v.symbols}


def with_operands(b: Builder, node: Node, inputs: Sequence[Node], more: Sequence[Node]) -> Node:
    """The loop or branch in `b` on these inputs, with more operands that it does not change."""
    attrs: dict[str, Any] = {**node.attrs}
    at: int = {"scan": attrs.get("consts", 0), "while": len(inputs),
               "case": len(inputs) - 1}[node.opname]
    if more:
        attrs.update(map_graphs(attrs, lambda g: _with_params(g, at, more)))
        if node.opname == "scan":
            attrs["consts"] = at + len(more)
    first = at + (node.opname == "case")
    operands = (*inputs[:first], *more, *inputs[first:])
    return b.insert(Node(node.op, operands, attrs, node.type, node.origin, b.unique(node.name)))


def _with_params(graph: Graph, at: int, like: Sequence[Node]) -> Graph:
    """The graph with parameters more, which it does not use."""
    b = Builder(graph.name)
    b.reserve([n.name for n in (*graph.params, *graph.nodes)])
    new = [Node(None, (), {}, n.type, None, b.unique(n.name)) for n in like]
    return Graph(graph.name, (*graph.params[:at], *new, *graph.params[at:]), graph.nodes,
                 graph.results)


# ---- scans without slices

def without_slices(b: Builder, node: Node, inputs: Sequence[Node]) -> tuple[Node, list[Node]]:
    """A scan as one of constants and carries alone, and its inputs in `b`.

    Carries are a count, its own, and what it collects; the arrays to run along are constants, of
    which the body takes its slice. The node is not in `b` yet.
    """
    attrs, body = node.attrs, node.attrs["body"]
    c, m, length = attrs["consts"], attrs["carries"], attrs["length"]
    stacked = elements(node.type)[m:]
    made = [b.scalar(0, "i64"), *[zeros(b, t) for t in stacked]]
    operands = [*inputs[:c], *inputs[c + m:], made[0], *inputs[c:c + m], *made[1:]]
    inner = Builder(body.name)
    consts = [inner.param(p.name, p.type) for p in body.params[:c]]
    xs = [inner.param(f"all_{p.name}", x.type)
          for p, x in zip(body.params[c + m:], inputs[c + m:])]
    turn = inner.param("turn", made[0].type)
    carries = [inner.param(p.name, p.type) for p in body.params[c:c + m]]
    stacks = [inner.param("collected", t) for t in stacked]
    at = turn
    if attrs["reverse"]:
        last = inner.add("size", size=length) if isinstance(length, Size) else \
            inner.scalar(length, "i64")
        at = inner.add("sub", inner.add("sub", last, inner.scalar(1, "i64")), turn)
    zero = inner.scalar(0, "i64")
    slices = [inner.reshape(inner.add("dynamic_slice", x, at, *[zero] * (x.tensor.rank - 1),
                                      sizes=(1, *x.shape[1:])), x.shape[1:]) for x in xs]
    outs = _inlined(inner, body, [*consts, *carries, *slices])
    ys = [inner.add("dynamic_update_slice", s, inner.reshape(y, (1, *y.shape)), at,
                    *[zero] * y.tensor.rank) for s, y in zip(stacks, outs[m:])]
    after = inner.add("add", turn, inner.scalar(1, "i64"))
    new = {**attrs, "consts": c + len(xs), "carries": 1 + m + len(ys), "reverse": False,
           "body": inner.graph([after, *outs[:m], *ys])}
    type = TupleType((made[0].tensor, *elements(node.type)))
    return Node(node.op, tuple(operands), new, type, node.origin, node.name), operands


def _inlined(b: Builder, graph: Graph, inputs: Sequence[Node]) -> list[Node]:
    """The graph's results, computed in `b` from these inputs, by nodes of the same names."""
    now = dict(zip(graph.params, inputs))
    for node in graph.nodes:
        made = copy_node(b, node, [now[i] for i in node.inputs]) if is_scalar_constant(node) else \
            b.insert(Node(node.op, tuple([now[i] for i in node.inputs]), node.attrs, node.type,
                          node.origin, b.unique(node.name)))
        now[node] = made
    return [now[r] for r in graph.results]


# ---- where operands are

# Cuts a graph: its device, its parameters' places, where its results are due.
Cut: TypeAlias = Callable[[Graph, str, Sequence[str], Sequence[str]], Graph]


def with_homes(node: Node, device: str, cut: Cut) -> Mapping[str, Any]:
    """The attributes of a loop or branch that the host drives: partitioned, with `places`."""
    attrs = node.attrs
    places = [device] * len(node.inputs)
    if node.opname != "case":
        first = 0 if node.opname == "while" else attrs["consts"]
        carried = range(first, first + attrs["carries"])
        bodies = {name: cut(attrs[name], device, (), ()) for name in ("cond", "body")
                  if name in attrs}
        for i in range(len(places)):
            places[i] = _home(bodies, i, i - first if i in carried else None, device)
    new = {**attrs, "device": device, "places": tuple(places)}
    like = Node(node.op, node.inputs, new, node.type)
    made: dict[str, Graph | tuple[Graph, ...]] = {
        name: cut(attrs[name], device, param_places(like), result_places(like, name))
        for name in ("cond", "body") if name in attrs}
    if node.opname == "case":
        made["branches"] = tuple([cut(g, device, (), ()) for g in attrs["branches"]])
    return {**new, **made}


def _home(bodies: Mapping[str, Graph], index: int, result: int | None, device: str) -> str:
    """Where an operand is best: on the one device that reads it, and makes it if it is carried."""
    users = [u for g in bodies.values() for u in g.users[g.params[index]]]
    found = {u.attrs["to"] if u.opname == "transfer" else device for u in users}
    if len(found) != 1:
        return device
    (other,) = found
    if result is not None and other != device:
        out = bodies["body"].results[result]
        made_there = out.opname == "transfer" and out.attrs["source"] == other
        if out is not bodies["body"].params[index] and not made_there:
            return device
    return other


def copied_free(b: Builder, node: Node, now: dict[Node, Node]) -> Node:
    """A copy in `b` of a node that is free, with all that it is made of."""
    if node not in now:
        now[node] = copy_node(b, node, [copied_free(b, i, now) for i in node.inputs])
    return now[node]
