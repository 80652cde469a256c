"""Which arguments of partitions may be overwritten, since nothing else reads them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

from weft.compiler.ir import Graph, Node
from weft.compiler.placement import device_of, is_hosted

__all__ = ["dying_inputs"]

_Root: TypeAlias = "Node | tuple[Node, Any]"


def dying_inputs(graph: Graph, donated: Collection[Node], copies: Callable[[Node], bool]
                 ) -> Mapping[Node, tuple[int, ...]]:
    """For each partition, and loop that the host drives, the inputs that it may overwrite.

    These are what other steps have made for it alone, and the parameters among `donated`. What is
    a result of the graph, is read by two steps, or may be the same array as another such value is
    none of them. `copies` says whether a transfer copies; others give the array that they get. Of
    a partition's inputs only those count that one of its results can take the place of.
    """
    root: dict[Node, _Root] = {p: p for p in graph.params}
    uses: dict[_Root, int] = {}
    for node in graph.nodes:
        if node.opname == "get":
            root[node] = _made(node.inputs[0], node.attrs["index"])
            continue
        if node.opname == "transfer" and not copies(node):
            root[node] = root[node.inputs[0]]
            continue
        root[node] = node
        for i in node.inputs:
            uses[root[i]] = uses.get(root[i], 0) + 1
    for r in graph.results:
        uses[root[r]] = uses.get(root[r], 0) + 1
    found = {}
    for node in graph.nodes:
        if device_of(node) is not None or is_hosted(node):
            may = [i for i, n in enumerate(node.inputs) if uses[root[n]] == 1 and (
                not isinstance(root[n], Node) or not root[n].is_param   # type: ignore[union-attr]
                or root[n] in donated)]
            found[node] = tuple(may if is_hosted(node) else _fitting(node, may))
    return found


def _made(whole: Node, index: int) -> _Root:
    """A result of a step: equal ones of a partition are one array."""
    if is_hosted(whole):
        return whole, index
    return whole, whole.attrs["graph"].results[index]


def _fitting(node: Node, inputs: Collection[int]) -> list[int]:
    """Those of the inputs that have a result of their type each, parameters before others."""
    graph: Graph = node.attrs["graph"]
    free = [r.type for r in dict.fromkeys(graph.results)]
    out = []
    for i in sorted(inputs, key=lambda i: not node.inputs[i].is_param):
        type = node.inputs[i].type
        if type in free and node.inputs[i].shape != ():
            free.remove(type)
            out.append(i)
    return sorted(out)
