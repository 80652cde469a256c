"""Placed parts of a graph: which nodes run on which device, as calls that name it.

A placed part is a `call` node whose attribute `device` names the device and whose graph holds the
part's nodes. Values from outside that it uses are its inputs, values of its that are used outside
its results. What is free (constants, sizes, counters, repetitions of these) belongs to whoever uses
it, so that nothing is moved that can be made in place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from weft.compiler.build import Builder
from weft.compiler.errors import Origin
from weft.compiler.inline import copy_node
from weft.compiler.ir import Graph, Node, live, nested_graphs
from weft.compiler.types import Size, TensorType, TupleType

__all__ = ["Place", "copy_free", "device_of", "gets_behind", "is_elsewhere", "is_free", "is_hosted",
           "is_placed", "outline", "outlined_call", "param_places", "placed_inside", "plain_sizes",
           "result_places"]

Place: TypeAlias = tuple[str, Origin | None]    # a device, and the line that names it


def device_of(node: Node) -> str | None:
    """The device that a call names; None for other nodes."""
    if node.op is None or node.op.name not in ("call", "linear_call"):
        return None
    device: str | None = node.attrs.get("device")
    return device


def is_hosted(node: Node) -> bool:
    """Whether it is a loop or branch of a partitioned graph that the host drives, since its parts
    are on several devices: see `weft.compiler.passes.hosted`."""
    return node.kind == "control" and "places" in node.attrs


def param_places(node: Node) -> tuple[str, ...]:
    """The devices of the parameters of the bodies of such a node."""
    places: tuple[str, ...] = node.attrs["places"]
    return places[1:] if node.opname == "case" else places


def result_places(node: Node, body: str = "body") -> tuple[str, ...]:
    """The devices of the results of such a node; those of one of its bodies are the same, but for
    the condition."""
    attrs = node.attrs
    device: str = attrs["device"]
    if body == "cond":
        return (device,)
    if node.opname == "case":
        return (device,) * len(attrs["branches"][0].results)
    first = attrs.get("consts", 0)
    places: tuple[str, ...] = attrs["places"]
    return places[first:first + attrs["carries"]]


def plain_sizes(node: Node) -> set[str]:
    """The symbolic sizes that are axes of the node by themselves."""
    return {str(d) for d in node.shape if isinstance(d, Size) and d == Size.symbol(str(d))} \
        if isinstance(node.type, TensorType) else set()


def is_free(node: Node) -> bool:
    """Whether the node is made in the place where it is used: out of nothing, or of such values by
    repeating or converting them."""
    return node.kind == "creation" or (
        node.opname in ("broadcast_in_dim", "reshape", "convert") and is_free(node.inputs[0]))


def copy_free(b: Builder, node: Node, inside: dict[Node, Node]) -> Node:
    """A free node made in `b`, once for each of what is known to be `inside`."""
    if node not in inside:
        inside[node] = copy_node(b, node, [copy_free(b, i, inside) for i in node.inputs])
    return inside[node]


def placed_inside(graph: Graph) -> Iterator[Node]:
    """The placed calls of a graph, those in the graphs of its nodes too."""
    for node in graph.nodes:
        if device_of(node) is not None:
            yield node
        if node.attrs:
            for inner in nested_graphs(node).values():
                yield from placed_inside(inner)


def is_placed(graph: Graph) -> bool:
    """Whether any part of the graph is placed."""
    return any(True for _ in placed_inside(graph))


def is_elsewhere(graph: Graph, device: str) -> bool:
    """Whether parts of the graph are placed on another device than this one."""
    return any(device_of(n) != device for n in placed_inside(graph))


def outline(graph: Graph, placed: Mapping[Node, Place]) -> Graph:
    """The graph with the `placed` nodes in calls that name their device.

    Nodes that follow each other and have the same place become one call. Calls that are placed
    already stay as they are. The graph may use nodes from around it, which stay in use.

    >>> from weft.compiler.text import parse
    >>> g = parse('''graph @f(%x: f32[3]) -> (f32[3]) {
    ...   %a = sin %x : f32[3]
    ...   %b = exp %a : f32[3]
    ...   %y = add %a, %b : f32[3]
    ...   return %y
    ... }''')
    >>> print(outline(g, {g.nodes[1]: ("gpu", None)}))
    graph @f(%x: f32[3]) -> (f32[3]) {
      %a = sin %x : f32[3]
      %call.0 = call %a {
        device="gpu",
        graph=graph @gpu(%a: f32[3]) -> (f32[3]) {
          %b = exp %a : f32[3]
          return %b
        }
      } : (f32[3])
      %b = get %call.0 {index=0} : f32[3]
      %y = add %a, %b : f32[3]
      return %y
    }
    """
    nodes = gets_behind(live(graph.nodes, graph.results))
    used = _used_by(nodes, graph.results)
    b = Builder(graph.name)
    b.params = list(graph.params)
    b.reserve([n.name for n in (*graph.params, *graph.nodes)])
    now: dict[Node, Node] = {}
    for place, run in _runs(nodes, placed):
        if place is None:
            for node in run:
                now[node] = _carried(b, node, now)
        else:
            own = set(run)
            outs = [n for n in run if any(u not in own for u in used[n])]
            now.update(outlined_call(b, run, outs, place, now))
    return b.graph([now.get(r, r) for r in graph.results])


def gets_behind(nodes: Sequence[Node]) -> list[Node]:
    """The nodes with each `get` directly behind the node of several results that it is of."""
    gets: dict[Node, list[Node]] = {n: [] for n in nodes if isinstance(n.type, TupleType)}
    moved = {n for n in nodes if n.opname == "get" and n.inputs[0] in gets}
    for node in nodes:
        if node in moved:
            gets[node.inputs[0]].append(node)
    return [n for node in nodes if node not in moved for n in (node, *gets.get(node, ()))]


def _used_by(nodes: Sequence[Node], results: Sequence[Node]) -> dict[Node, list[Node | None]]:
    """For each node those that use it; None stands for the graph, whose result it is."""
    used: dict[Node, list[Node | None]] = {n: [] for n in nodes}
    for node in nodes:
        for i in node.inputs:
            used.setdefault(i, []).append(node)
    for r in results:
        used.setdefault(r, []).append(None)
    return used


def _runs(nodes: Sequence[Node], placed: Mapping[Node, Place]
          ) -> Iterator[tuple[Place | None, list[Node]]]:
    """Nodes that follow each other and have one place; free ones stand before the run they are in.
    """
    place: Place | None = None
    run: list[Node] = []
    for node in nodes:
        if is_free(node):
            yield None, [node]
            continue
        whole = node.inputs[0] if node.opname == "get" else node
        own = None if device_of(whole) is not None else placed.get(whole)
        if run and own != place:
            yield place, run
            run = []
        place = own
        run.append(node)
    if run:
        yield place, run


def _carried(b: Builder, node: Node, now: Mapping[Node, Node]) -> Node:
    """The node with its inputs looked up, in `b`."""
    if any(i in now and now[i] is not i for i in node.inputs):
        node = Node(node.op, tuple([now.get(i, i) for i in node.inputs]), node.attrs, node.type,
                    node.origin, node.name)
    return b.insert(node)


def outlined_call(b: Builder, nodes: Sequence[Node], outs: Sequence[Node], place: Place,
                  now: Mapping[Node, Node], name: str = "", more: Sequence[Node] = ()
                  ) -> dict[Node, Node]:
    """A call of the graph of these nodes, and for each of `outs` the node in `b` that gets it.

    `now` says what stands in `b` for the nodes from outside that they use; `more` are further
    inputs, for the sizes that their shapes tell.
    """
    device, origin = place
    inner = Builder(name or device)
    own = set(nodes)
    inputs = [i for i in dict.fromkeys((*(i for n in nodes for i in n.inputs), *more))
              if i not in own and not is_free(i)]
    inside = {i: inner.param(i.name or "x", i.type) for i in inputs}
    inner.reserve([n.name for n in nodes])
    for node in nodes:
        used = tuple([copy_free(inner, i, inside) for i in node.inputs])
        inside[node] = inner.insert(
            Node(node.op, used, node.attrs, node.type, node.origin,
                 node.name if not _taken(inner, node.name) else ""))
    graph = inner.graph([inside[o] for o in outs])
    call = b.add("call", *[now.get(i, i) for i in inputs], device=device, graph=graph,
                 origin=origin)
    return {out: _named_get(b, call, i, out) for i, out in enumerate(outs)}


def _taken(b: Builder, name: str) -> bool:
    return any(p.name == name for p in b.params)


def _named_get(b: Builder, call: Node, index: int, like: Node) -> Node:
    made = b.add("get", call, index=index, origin=like.origin)
    made.name = like.name or made.name
    return made
