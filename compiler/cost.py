"""What nodes and graphs cost: operations, bytes, and the time these take on a machine."""

from __future__ import annotations

from collections.abc import Iterable

from weft.compiler.ir import Graph, Node, is_scalar_constant, nested_graphs
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import Dim, Size, TensorType, TupleType

__all__ = ["ASSUMED", "Costs", "Work", "node_bytes", "node_flops", "number", "work_of"]

ASSUMED = 256       # elements along an axis of symbolic size, and turns of a loop, if not known


@dataclass(frozen=True)
class Costs:
    """What a device takes for things, in seconds, for the cost model. Rough, on purpose.

    A run of a program takes `launch`, each op in it `op` (about nothing where ops are fused), and
    the longer of its operations at `flops` a second and its memory traffic at `bandwidth` bytes a
    second. To move an array there or back takes `transfer`, and its bytes at `link` a second; where
    arrays lie in the same memory as NumPy's, both are 0. `why` says where the numbers come from.
    """

    launch: float = 20e-6
    op: float = 0.0
    flops: float = 1e10
    bandwidth: float = 1e10
    transfer: float = 0.0
    link: float = 0.0
    why: str = "assumed: the device does not say"

    def seconds(self, work: Work) -> float:
        """The time that this much work takes in one run."""
        return self.launch + work.ops * self.op + max(work.flops / self.flops,
                                                      work.nbytes / self.bandwidth)

    def moving(self, nbytes: float) -> float:
        """The time to move an array there or back."""
        return self.transfer + (nbytes / self.link if self.link else 0.0)


@dataclass(frozen=True)
class Work:
    """Operations, bytes that are read and written, and ops of a graph."""

    flops: float = 0.0
    nbytes: float = 0.0
    ops: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.nbytes + other.nbytes, self.ops + other.ops)

    def times(self, turns: float) -> Work:
        """The work of several turns."""
        return Work(self.flops * turns, self.nbytes * turns, self.ops * turns)


def node_flops(node: Node) -> Dim:
    """The operations of a node: its op's cost for each element."""
    if node.op is None or node.kind in ("view", "creation", "structure"):
        return 0
    if node.kind == "contraction":
        return _contraction_flops(node)
    over = node.inputs[0] if node.kind in ("reduction", "scan") and node.inputs else node
    return _size(over) * max(1, round(node.op.cost))


def node_bytes(node: Node) -> Dim:
    """The bytes that a node reads and writes, each array once."""
    return sum((_nbytes(n) for n in (node, *node.inputs)), 0)


def work_of(graph: Graph) -> Work:
    """The work of a graph, loops with the turns they have, where that is known.

    Elementwise ops and views are taken to be fused: of these the bytes of parameters and results
    count, and of other ops all that they read and write.

    >>> from weft.compiler.text import parse
    >>> work_of(parse("graph @f(%x: f32[9]) -> (f32[9]) { %y = neg %x : f32[9] return %y }"))
    Work(flops=9.0, nbytes=72.0, ops=1.0)
    """
    total = Work(0.0, sum(number(_nbytes(n)) for n in {*graph.params, *graph.results}))
    for node in graph.nodes:
        if is_scalar_constant(node) or node.opname == "get":
            continue
        inner = [work_of(g) for g in nested_graphs(node).values()] if node.attrs else []
        if inner:
            total += _nested(node, inner)
        else:
            fused = node.kind in ("elementwise", "view", "creation")
            total += Work(number(node_flops(node)), 0.0 if fused else number(node_bytes(node)),
                          1.0)
    return total


def _nested(node: Node, inner: Iterable[Work]) -> Work:
    """The most of a branch's, else the sum, as often as a loop turns."""
    graphs = list(inner)
    if node.opname == "case":
        return max(graphs, key=lambda w: w.flops + w.nbytes)
    total = sum(graphs, Work())
    if node.opname == "scan":
        return total.times(number(node.attrs["length"]))
    return total.times(ASSUMED) if node.opname == "while" else total


def number(size: Dim) -> float:
    """A size as a number, `ASSUMED` for what is not known."""
    if isinstance(size, Size):
        return float(size.evaluate(dict.fromkeys(size.symbols, ASSUMED)))
    return float(size)


def _contraction_flops(node: Node) -> Dim:
    summed: Dim = 2
    if "contract" in node.attrs:
        for axis in node.attrs["contract"][0]:
            summed = summed * node.inputs[0].shape[axis]
    return _size(node) * summed


def _tensors(node: Node) -> tuple[TensorType, ...]:
    return node.type.elements if isinstance(node.type, TupleType) else (node.type,)


def _size(node: Node) -> Dim:
    return sum((t.size for t in _tensors(node)), 0)


def _nbytes(node: Node) -> Dim:
    return sum((t.nbytes for t in _tensors(node)), 0)
