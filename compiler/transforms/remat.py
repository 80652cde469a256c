"""What reverse mode keeps of the forward pass, and what it computes again.

Between a forward and a backward pass, values wait in memory. Any set of them will do from which the
others can be computed again. The smallest such set, if only cheap ops are repeated, is a minimum
cut of the graph (Jain et al., "Checkmate", 2020, and PyTorch's min-cut partitioner use the same
view): between what has to be kept or is there anyway, and what the backward pass reads, each value
weighing its bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from math import inf

from weft.compiler.errors import UnsupportedError
from weft.compiler.inline import elements
from weft.compiler.ir import Graph, Node
from weft.compiler.types import Size, TupleType

__all__ = ["POLICIES", "check_policy", "kept_values", "minimum_cut"]

POLICIES = ("nothing", "products", "cheap")
_CHEAP = frozenset({"elementwise", "view", "creation", "structure"})
_PRODUCTS = frozenset({"contraction", "factorization"})
_ASSUMED = 256         # elements along an axis of symbolic size


def kept_values(graph: Graph, read: Collection[Node], policy: str, budget: int | None
                ) -> list[Node]:
    """The nodes of a graph whose values reverse mode is to keep, in the graph's order.

    `read` are those that the backward pass reads. Policies: ``"nothing"`` beside the graph's
    parameters; ``"products"``: results of matrix products and factorizations; ``"cheap"``: as few
    bytes as possible such that no product, reduction, loop or sort is computed twice. Under a
    `budget` in bytes, ``"cheap"`` repeats more of these, the largest for their work first, until
    what is kept fits or nothing is left to drop.
    """
    if policy == "nothing":
        return []
    if policy == "products":
        return [n for n in graph.nodes if n.kind in _PRODUCTS and not _is_tuple(n)]
    # what cannot be kept, since it has several results, is called again
    again = {n for n in graph.nodes if n.kind in _CHEAP or (n in read and _is_tuple(n))}
    kept = minimum_cut(graph, read, again)
    rest = sorted((n for n in graph.nodes if n not in again), key=_bytes_for_work)
    while budget is not None and sum(map(_bytes, kept)) > budget and rest:
        again.add(rest.pop())
        kept = minimum_cut(graph, read, again)
    return kept


def check_policy(policy: str) -> None:
    """Refuse an unknown policy."""
    if policy not in POLICIES:
        raise UnsupportedError(f"weft.checkpoint: policy is {policy!r}",
                               expected=" or ".join(map(repr, POLICIES)))


def _is_tuple(node: Node) -> bool:
    return isinstance(node.type, TupleType)


def _bytes(node: Node) -> int:
    total = 0
    for t in elements(node.type):
        size = t.nbytes
        total += size.evaluate(dict.fromkeys(size.symbols, _ASSUMED)) if isinstance(size, Size) \
            else size
    return total


def _bytes_for_work(node: Node) -> float:
    """Bytes that are freed for each operation that is repeated."""
    work = float(node.op.cost if node.op is not None else 1)
    over = node.inputs[0] if node.kind in ("reduction", "scan") and node.inputs else node
    return _bytes(node) / max(1.0, work * _bytes(over))


def minimum_cut(graph: Graph, read: Collection[Node], again: Collection[Node],
                there: Collection[Node] | None = None) -> list[Node]:
    """The nodes with the fewest bytes from which all of `read` follow by the nodes in `again`.

    What is `there` anyway, the graph's parameters unless given, costs nothing. Nodes that are
    neither in it nor in `again` can only be kept.
    """
    given = set(graph.params if there is None else there)
    order = {n: i for i, n in enumerate((*graph.params, *graph.nodes))}
    flow = _Flow(2 * len(order) + 2)
    source, sink = 2 * len(order), 2 * len(order) + 1
    for node, i in order.items():
        # each node is an edge from its inner to its outer side, as wide as it has bytes
        free = node in given or _is_tuple(node) or node.opname == "constant"
        flow.edge(2 * i, 2 * i + 1, inf if free else max(1, _bytes(node)))
        for x in node.inputs:
            flow.edge(2 * order[x] + 1, 2 * i, inf)
        if node not in given and node not in again:
            flow.edge(source, 2 * i, inf)
        if node in read and node not in given:
            flow.edge(2 * i + 1, sink, inf)
    near = flow.near_side(source, sink)
    return [n for n, i in order.items() if 2 * i in near and 2 * i + 1 not in near]


class _Flow:
    """Maximum flow by shortest augmenting paths (Edmonds and Karp, 1972)."""

    def __init__(self, size: int) -> None:
        self.out: list[list[int]] = [[] for _ in range(size)]
        self.to: list[int] = []
        self.room: list[float] = []

    def edge(self, a: int, b: int, room: float) -> None:
        """An edge, and the one that takes flow back."""
        for x, y, r in ((a, b, room), (b, a, 0.0)):
            self.out[x].append(len(self.to))
            self.to.append(y)
            self.room.append(r)

    def near_side(self, source: int, sink: int) -> set[int]:
        """What can still be reached from the source once no more flows to the sink."""
        while True:
            came = self._reach(source)
            if sink not in came:
                return set(came)
            path = []
            at = sink
            while at != source:
                path.append(came[at])
                at = self.to[came[at] ^ 1]
            least = min(self.room[e] for e in path)
            assert least < inf, "a value is read that can neither be kept nor computed"
            for e in path:
                self.room[e] -= least
                self.room[e ^ 1] += least

    def _reach(self, source: int) -> dict[int, int]:
        """The nodes that have room on a way from the source, each with the edge it was met by."""
        came = {source: -1}
        waiting = deque([source])
        while waiting:
            at = waiting.popleft()
            for e in self.out[at]:
                if self.room[e] > 0 and self.to[e] not in came:
                    came[self.to[e]] = e
                    waiting.append(self.to[e])
        return came

