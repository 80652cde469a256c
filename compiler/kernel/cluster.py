"""Clusters: the nodes of a graph that one kernel computes, and the index space it runs over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field

from weft.compiler.ir import Node
from weft.compiler.kernel.index import Atom, Axis, Index, as_index
from weft.compiler.kernel.pullback import At
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import Shape

__all__ = ["Cluster", "axis_swap", "contraction_indices", "match", "ordered_axes",
           "outer_inputs", "plain_axes", "reduced_axes", "reduction_index"]


@dataclass(eq=False)
class Cluster:
    """Nodes computed by one kernel.

    `axes` span the roots' elements. Once a reduction has joined, `rows` are the axes that its
    result keeps and `inner` maps each reduction to the axes it runs over. `depth` counts how many
    members follow one another from each member to a root. An `update` writes into the array that
    its first operand is, at `place`; axes, and the root's index, are then those of the updates.
    """

    axes: tuple[Axis, ...]
    members: list[Node] = field(default_factory=list)
    roots: dict[Node, At] = field(default_factory=dict)
    demand: dict[Node, list[At]] = field(default_factory=dict)
    rows: tuple[Axis, ...] | None = None
    inner: dict[Node, tuple[Axis, ...]] = field(default_factory=dict)
    depth: dict[Node, int] = field(default_factory=dict)
    contraction: Node | None = None
    library: bool = False
    update: Node | None = None
    place: At = ()
    notes: list[str] = field(default_factory=list)

    @property
    def rest(self) -> tuple[Axis, ...]:
        """Axes of the space that are not rows."""
        rows = self.rows if self.rows is not None else self.axes
        return tuple(a for a in self.axes if a not in rows)

    @property
    def reduced(self) -> frozenset[Axis]:
        """All axes that reductions of the cluster run over."""
        return frozenset(a for axes in self.inner.values() for a in axes)

    def need(self, node: Node, at: At) -> None:
        """Note that an element of a node is needed."""
        known = self.demand.setdefault(node, [])
        if at not in known:
            known.append(at)


def ordered_axes(axes: tuple[Axis, ...], place: At) -> tuple[Axis, ...]:
    """The axes of an update that writes at `place` whose turns may meet at one element.

    Those of an axis never do if it alone decides where along some axis of the array they write.
    """
    free = {a for ix in place for a in ix.axes
            if ix.axes == {a} and ix.coefficient(a) not in (None, 0)}
    return tuple(a for a in axes if a not in free)


def reduced_axes(node: Node) -> tuple[int, ...]:
    """The operand axes that a reduction removes."""
    if "axes" in node.attrs:
        return tuple(node.attrs["axes"])
    return (node.attrs["axis"],)


def plain_axes(at: At, shape: Shape) -> tuple[Axis, ...] | None:
    """The axes of an index that runs over just all elements of an array of this shape."""
    axes = []
    for ix, d in zip(at, shape):
        if d == 1 and ix.is_constant and ix.const == 0:
            continue
        axis = ix.as_axis
        if axis is None or axis.extent != d:
            return None
        axes.append(axis)
    return tuple(axes) if len(set(axes)) == len(axes) else None


def outer_inputs(k: Cluster) -> list[Node]:
    """What the members of a cluster need that it does not compute."""
    members = set(k.members)
    return [i for m in k.members for i in m.inputs if i not in members]


def _pair(b: Sequence[Axis], a: Sequence[Axis]) -> dict[Axis, Axis] | None:
    """Axes of b by those of a, if they have the same extents."""
    return dict(zip(b, a)) if [x.extent for x in b] == [x.extent for x in a] else None


def match(a: Cluster, b: Cluster) -> tuple[tuple[Axis, ...], dict[Axis, Axis]] | None:
    """How b's axes become a's, and a's axes beside its rows when b has become part of it.

    Both run over the same rows and what stands beside them; or `b`, which has no reductions, runs
    over a's rows and perhaps, in each, over the inner axes of one of a's reductions.
    """
    a_rows, a_rest = a.axes if a.rows is None else a.rows, a.rest
    b_rows, b_rest = b.axes if b.rows is None else b.rows, b.rest
    if b.rows is None and a.rows is not None:
        b_rows, b_rest = b_rows[:len(a_rows)], b_rows[len(a_rows):]
        if not a_rows and b_rest:
            return None                 # the elements of an array are shared out among threads
    mapping = _pair(b_rows, a_rows)
    if mapping is None:
        return None
    if b_rest:
        spaces = [a_rest] if a_rest else list(a.inner.values())
        beside = next((s for s in spaces if _pair(b_rest, s) is not None), None)
        if beside is None:
            return None
        a_rest = beside
        mapping.update(zip(b_rest, a_rest))
    known = {tuple(x.extent for x in axes): axes for axes in (*a.inner.values(), a_rest)}
    for axes in b.inner.values():
        same = known.get(tuple(x.extent for x in axes))
        if same is not None:
            mapping.update((x, y) for x, y in zip(axes, same) if x not in mapping)
    return a_rest, mapping


def axis_swap(mapping: dict[Axis, Axis]) -> Callable[[Atom], Index | None]:
    """What `Index.substitute` takes to put axes in the place of others."""
    return lambda atom: as_index(mapping[atom]) \
        if isinstance(atom, Axis) and atom in mapping else None


def reduction_index(node: Node, at: At, inner: tuple[Axis, ...]) -> At:
    """Where a reduction reads its operand, given its result's index and its inner axes."""
    removed = reduced_axes(node)
    kept, turns = iter(at), iter(inner)
    out = []
    for a, d in enumerate(node.inputs[0].shape):
        out.append(next(kept) if a not in removed else
                   Index() if d == 1 else as_index(next(turns)))
    return tuple(out)


def contraction_indices(node: Node, at: At, inner: tuple[Axis, ...]) -> tuple[At, At]:
    """Where a dot_general reads both operands."""
    a, b = node.inputs
    (ca, cb), (ba, bb) = node.attrs["contract"], node.attrs["batch"]
    batch, free = at[:len(ba)], iter(at[len(ba):])
    out = []
    for operand, contracted, batched in ((a, ca, ba), (b, cb, bb)):
        index: list[Index] = []
        for i in range(len(operand.shape)):
            if i in contracted:
                index.append(as_index(inner[contracted.index(i)]))
            elif i in batched:
                index.append(batch[batched.index(i)])
            else:
                index.append(next(free))
        out.append(tuple(index))
    return out[0], out[1]
