"""Fusion: which nodes of a graph are computed together in one kernel.

Nodes are visited from the results to the parameters, so that all users of a node have their
cluster when the node's turn comes. A cluster has axes; it knows at which indices of those axes it
needs each node (`demand`). A node joins the cluster that needs it where that saves a trip through
memory and costs no repeated heavy work; otherwise it becomes the root of a cluster of its own, is
stored, and is read by the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from weft.compiler.ir import Graph, Node, is_scalar_constant
from weft.compiler.kernel.cluster import (
    Cluster,
    axis_swap,
    contraction_indices,
    match,
    ordered_axes,
    outer_inputs,
    plain_axes,
    reduced_axes,
    reduction_index,
)
from weft.compiler.kernel.expr import Expr, Exprs
from weft.compiler.kernel.index import Axis, as_index, overlaps
from weft.compiler.kernel.pullback import (
    UPDATES,
    At,
    expression,
    is_counting,
    is_pointwise,
    update_place,
    updates_of,
)
from weft.compiler.target import Target
from weft.compiler.types import DTYPES, Dim, TensorType

__all__ = ["cluster_graph"]

HEAVY = 4.0           # flops an element from which on repeating the work is not worth a saved trip
REPEATED = 10.0       # flops of a chain of light operations from which on they are not repeated
MAX_DEPTH = 100       # operations one behind another: recursion follows them
MAX_BUFFERS = 32      # arrays read by one kernel, where it is made of independent ones
MAX_READS = 8         # different indices at which one cluster may recompute a light node
_MOVES = frozenset({"broadcast_in_dim", "reshape", "transpose", "reverse", "slice", "window"})
_LIBRARY = frozenset({"sort", "scan", "factorization", "transform", "control", "custom"})
_FREE = _MOVES | {"iota", "size", "dynamic_slice"}


class _Demands:
    """A `Reader` that only notes which elements are read."""

    def __init__(self, cluster: Cluster) -> None:
        self.exprs = Exprs()
        self.cluster = cluster
        self._zero = self.exprs.const(0, DTYPES["i64"])

    def read(self, node: Node, at: At, guard: Expr | None = None) -> Expr:
        if is_scalar_constant(node):
            return self.exprs.const(node.attrs["value"], node.dtype)
        if is_counting(node):
            return expression(self, node, at, guard)
        self.cluster.need(node, at)
        return self.exprs.load(node.name, at, node.dtype)

    def check(self, node: Node, value: Expr, size: Dim, axis: int, kind: str = "index") -> None:
        pass


class _Fusion:
    def __init__(self, graph: Graph, target: Target, donated: frozenset[Node]) -> None:
        self.graph = graph
        self.target = target
        self.donated = donated
        self.clusters: list[Cluster] = []
        self.home: dict[Node, Cluster] = {}         # stored or single-cluster members
        self.stored: set[Node] = set(graph.results)
        self.several: dict[Node, Cluster] = {}      # the steps of nodes with several results
        self.repeated: dict[Node, float] = {}       # flops of what each user computes itself
        self.order = {n: i for i, n in enumerate(graph.nodes)}
        self.turn = 0                               # of the node that is placed
        self._axis = 0
        for n in graph.nodes:
            if _is_library(n):
                self.stored.update(n.inputs)
            elif n.opname in UPDATES:
                self.stored.update((n, n.inputs[0]))

    def run(self) -> list[Cluster]:
        for node in reversed(self.graph.nodes):
            if is_scalar_constant(node) or node.opname == "constant":
                continue
            needed_by = [k for k in self.clusters if node in k.demand]
            if needed_by or node in self.stored:
                self.turn = self.order[node]
                self.place(node, needed_by)
        self.turn = 0
        self.fuse_side_by_side()
        return self.clusters

    # ---- deciding

    def place(self, node: Node, needed_by: list[Cluster]) -> None:
        if node.opname == "get":
            self.new_result(node)
            return
        if _is_library(node):
            self.new_library(node)
            return
        if node.opname in UPDATES:
            self.new_update(node)
            return
        stored = node in self.stored
        if not stored and node.opname in _FREE and self.joins_all(node, needed_by):
            return
        if len(needed_by) > 1:
            needed_by = self.merged(needed_by, node)
        if len(needed_by) == 1:
            (k,) = needed_by
            why_not = self.can_join(node, k)
            if why_not is None and stored:
                why_not = self.can_store(node, k)
            if why_not is None:
                self.join(node, k)
                if stored:
                    k.roots[node] = k.demand[node][0]
                return
            k.notes.append(f"%{node.name} is read from memory: {why_not}")
        elif not stored and is_pointwise(node) and self.is_light(node) \
                and self.joins_all(node, needed_by):
            return
        else:
            keeper = self.keeper(node, needed_by)
            for k in needed_by:
                if k is not keeper:
                    k.notes.append(
                        f"%{node.name} is read from memory: {len(needed_by)} kernels use it")
            if keeper is not None:
                return
        self.new_cluster(node)

    def keeper(self, node: Node, clusters: list[Cluster]) -> Cluster | None:
        """One of the clusters, which now computes the node and stores it for the others.

        That is a kernel less, and a trip through memory: what a forward computation leaves for the
        gradient is stored by the kernel that uses it first.
        """
        for k in clusters:
            first = not any(self.depends_on(outer_inputs(k), other)
                            for other in clusters if other is not k)
            if first and self.can_join(node, k) is None and self.can_store(node, k) is None:
                self.join(node, k)
                k.roots[node] = k.demand[node][0]
                return k
        return None

    def joins_all(self, node: Node, clusters: list[Cluster]) -> bool:
        """Compute the node in each of the clusters, if all of them may."""
        if not all(self.can_join(node, k) is None for k in clusters):
            return False
        for k in clusters:
            self.join(node, k)
        return True

    def is_light(self, node: Node) -> bool:
        """Whether computing the node again in every user beats storing and reading it: where
        that reads no more than one array of its size."""
        assert node.op is not None
        size = node.tensor.size
        whole = {s for s in map(_source, node.inputs) if s.tensor.size == size
                 and not is_scalar_constant(s)}
        work = node.op.cost + sum(self.repeated.get(u, 0) for u in self.graph.users[node])
        if node.op.cost >= HEAVY or work >= REPEATED or len(whole) > 1:
            return False
        self.repeated[node] = work
        return True

    def can_join(self, node: Node, k: Cluster) -> str | None:
        """None if the cluster may compute the node itself, else the reason why not."""
        if k.library:
            return "a library step takes stored arrays"
        if node.opname == "copy":
            return "a copy is stored"
        if self.depth_in(node, k) > MAX_DEPTH:
            return "the chain of operations is long"
        reads = k.demand[node]
        if k.update is not None and self._disturbs(node, k, k.update.inputs[0]):
            return "it reads what the kernel overwrites"
        if node.kind == "contraction":
            return self._contraction_joins(node, k, reads)
        if node.kind == "reduction":
            return self._reduction_joins(node, k, reads)
        if not is_pointwise(node):
            return f"{node.opname} is not pointwise"
        assert node.op is not None
        if k.contraction is not None and any(self._in_product(at, k) for at in reads):
            if node.opname not in _MOVES:
                return "operands of a matrix product are stored"
            return "a sum over several axes reads whole rows" if self._cuts_up(node, k) else None
        if len(reads) > (1 if node.op.cost >= HEAVY else MAX_READS):
            return f"it is needed at {len(reads)} different indices"
        if node.op.cost >= HEAVY and self._repeats(reads[0], k):
            return "its work would be repeated"
        if len(k.roots) > 1 and self.depends_on(node.inputs, k):
            return "that would make the kernels depend on each other"
        return None

    def _disturbs(self, node: Node, k: Cluster, x: Node) -> bool:
        """Whether the node reads elements of an array that the cluster may overwrite in place,
        other than, in each turn, the one that this overwrites."""
        if x not in node.inputs or x in self.graph.results or (
                x.is_param and x not in self.donated):
            return False
        if not is_pointwise(node) or ordered_axes(k.axes, k.place):
            return True
        probe = Cluster(axes=())
        for at in k.demand[node]:
            expression(_Demands(probe), node, at)
        return any(at != k.place for at in probe.demand.get(x, ()))

    def depth_in(self, node: Node, k: Cluster) -> int:
        """How many operations of the cluster would follow one another from the node on."""
        return 1 + max((k.depth.get(u, 0) for u in self.graph.users[node]), default=0)

    def _in_product(self, at: At, k: Cluster) -> bool:
        assert k.contraction is not None
        inner = frozenset(k.inner[k.contraction])
        return any(ix.axes & inner for ix in at)

    def _cuts_up(self, node: Node, k: Cluster) -> bool:
        """Whether reading through a reshape would leave nothing for vectors, or for copying, of a
        product that sums over several axes: rows, such as those of joined heads, are in pieces."""
        assert k.contraction is not None
        if node.opname != "reshape" or sum(a.extent != 1 for a in k.inner[k.contraction]) < 2:
            return False
        probe = Cluster(axes=())
        for at in k.demand[node]:
            expression(_Demands(probe), node, at)
        return any(not isinstance(atom, Axis) for reads in probe.demand.values()
                   for at in reads for ix in at for atom, _ in ix.terms)

    def _repeats(self, at: At, k: Cluster) -> bool:
        """Whether the element would be computed again and again by inner loops."""
        used: frozenset[Axis] = frozenset().union(*(ix.axes for ix in at))
        rows = k.rows if k.rows is not None else k.axes
        if any(map(overlaps, at)):
            return True                             # windows have elements in common
        if used <= frozenset(rows) and k.rows is not None and not (used and k.contraction):
            return False                            # once a row
        spaces = [tuple(rows) + inner for inner in k.inner.values()] or [k.axes]
        for space in spaces:
            if used <= frozenset(space):
                missing = [a for a in space if a not in used]
                if k.rows is None and missing and all(
                        a in space[len(space) - len(missing):] for a in missing):
                    return False                    # only outer loops: hoisted
                return prod(a.extent for a in missing if isinstance(a.extent, int)) > 4
        return False

    def _reduction_joins(self, node: Node, k: Cluster, reads: list[At]) -> str | None:
        if k.update is not None:
            return "the kernel writes where indices say"
        if k.contraction is not None:
            return "a matrix product has no second reduction"
        if len(reads) != 1:
            return f"it is needed at {len(reads)} different indices"
        rows = plain_axes(reads[0], node.shape)
        if rows is None:
            return "it is not needed row by row"
        if k.rows is not None and set(rows) != set(k.rows):
            return "its rows are not the kernel's rows"
        if not set(rows) <= set(k.axes):
            return "its rows are not the kernel's rows"
        rest = [a for a in k.axes if a not in rows]
        source = node.inputs[0].shape
        extents = [source[a] for a in reduced_axes(node)]
        if rest and [d for d in extents if d != 1] != [a.extent for a in rest]:
            return "it reduces other axes than the kernel's inner ones"
        if not self._row_fits(tuple(rest)):
            return "a row does not fit the cache"
        if self._read_for_each(tuple(rest), k):
            return "arrays as long as a row would be read anew for each of the long rows"
        if k.rows is None and rest and k.inner:
            return "its rows are not the kernel's rows"
        if len(k.roots) > 1 and self.depends_on(node.inputs, k):
            return "that would make the kernels depend on each other"
        return None

    def _row_fits(self, rest: tuple[Axis, ...]) -> bool:
        """Whether a row of 4-byte elements stays in half the cache between a kernel's stages."""
        n = prod(a.extent for a in rest if isinstance(a.extent, int))
        return not rest or n * 4 <= self.target.l2_bytes // 2

    def _read_for_each(self, rest: tuple[Axis, ...], k: Cluster) -> bool:
        """Whether rows are long for what holds them, and the cluster reads others of that length
        that all rows have in common."""
        held = self.target.held_bytes
        n = prod(a.extent for a in rest if isinstance(a.extent, int))
        if not held or n * 4 <= held:
            return False
        rows = frozenset(k.axes) - frozenset(rest)
        return any(node not in k.members and prod(d for d in node.shape if isinstance(d, int)) >= n
                   and not any(ix.axes & rows for at in places for ix in at)
                   for node, places in k.demand.items())

    def _contraction_joins(self, node: Node, k: Cluster, reads: list[At]) -> str | None:
        if k.update is not None:
            return "the kernel writes where indices say"
        if k.inner or len(reads) != 1:
            return "the kernel has a reduction already" if k.inner else \
                "it is needed at several indices"
        rows = plain_axes(reads[0], node.shape)
        if rows is None or rows != tuple(a for a in k.axes if a.extent != 1):
            return "it is needed in another order of axes"
        if len(k.roots) > 1 and self.depends_on(node.inputs, k):
            return "that would make the kernels depend on each other"
        return None

    def can_store(self, node: Node, k: Cluster) -> str | None:
        """None if the cluster can also store the node, else the reason why not."""
        (at,) = k.demand[node][:1]
        if k.update is not None:
            return "it is stored, and the kernel writes into another array"
        if len(k.demand[node]) != 1:
            return "it is stored and needed at several indices"
        axes = plain_axes(at, node.shape)
        rows = set(k.axes if k.rows is None else k.rows)
        if node.kind == "reduction" and k.rows is None:
            rows = set(axes or ())                      # which it makes the kernel's rows
        spaces = [rows] if node.kind == "reduction" else [rows, set(k.axes)]
        if axes is None or set(axes) not in spaces:
            return "it is stored, and does not span the kernel's space"
        outside = [u for u in self.graph.users[node] if u not in k.members]
        if any(self.reaches(u, k) for u in outside):
            return "it is stored for a kernel that this one depends on"
        return None

    # ---- dependence between clusters

    def depends_on(self, nodes: Iterable[Node], k: Cluster) -> bool:
        """Whether computing the nodes needs anything that the cluster computes."""
        return self._leads_to(nodes, set(k.members))

    def reaches(self, user: Node, k: Cluster) -> bool:
        """Whether the cluster depends on the kernel that computes `user`."""
        home = self.home.get(user)
        if home is k:
            return False
        return self._leads_to(outer_inputs(k), set(home.members) if home else {user}, k)

    def _leads_to(self, nodes: Iterable[Node], goal: set[Node], but: Cluster | None = None) -> bool:
        """Whether the nodes need one of the goal; a member of a cluster needs all that this does,
        except for the cluster `but`.

        Nodes before the one that is placed need none: goals have been placed, later ones first.
        """
        seen: set[Node] = set()
        stack = list(nodes)
        while stack:
            n = stack.pop()
            if n in goal:
                return True
            if n in seen or n.is_param or self.order[n] < self.turn:
                continue
            seen.add(n)
            stack.extend(n.inputs)
            home = self.home.get(n)
            if home is not None and home is not but:
                if not goal.isdisjoint(home.members):
                    return True
                seen.update(home.members)
                stack.extend(outer_inputs(home))
        return False

    # ---- changing clusters

    def merged(self, clusters: list[Cluster], node: Node) -> list[Cluster]:
        """The clusters, which all read a node, with those made one that read it alike."""
        out: list[Cluster] = []
        for k in clusters:
            for i, other in enumerate(out):
                both = self.merge(other, k, node)
                if both is not None:
                    out[i] = both
                    break
            else:
                out.append(k)
        return out

    def merge(self, a: Cluster, b: Cluster, node: Node) -> Cluster | None:
        """One cluster for both, if they run over one space, read the same elements of the node at
        its points, and neither needs the other."""
        if a.library or b.library or a.update or b.update or a.contraction or b.contraction \
                or len({*a.demand, *b.demand} - {*a.members, *b.members}) > MAX_BUFFERS:
            return None
        if (a.rows is None, not a.rest) > (b.rows is None, not b.rest):
            a, b = b, a                 # the one that says more about the space takes up the other
        matched = match(a, b)
        if matched is None or not self._row_fits(matched[0]):
            return None
        swap = axis_swap(matched[1])
        if not any(tuple(ix.substitute(swap) for ix in at) in a.demand[node]
                   for at in b.demand[node]):
            return None
        if self.depends_on(outer_inputs(b), a) or self.depends_on(outer_inputs(a), b):
            return None
        self.absorb(a, b, *matched)
        return a

    def absorb(self, a: Cluster, b: Cluster, rest: tuple[Axis, ...],
               mapping: dict[Axis, Axis]) -> None:
        """Make `b`, its axes renamed, part of `a`, whose axes beside its rows become `rest`."""
        swap = axis_swap(mapping)
        a.axes = a.axes if a.rows is None else (*a.rows, *rest)
        a.members += [m for m in b.members if m not in a.members]
        for node, at in b.roots.items():
            a.roots[node] = tuple(ix.substitute(swap) for ix in at)
        for node, reads in b.demand.items():
            for at in reads:
                a.need(node, tuple(ix.substitute(swap) for ix in at))
        for node, axes in b.inner.items():
            a.inner[node] = tuple(mapping.get(x, x) for x in axes)
        a.depth.update(b.depth)
        a.notes += b.notes
        self.clusters.remove(b)
        for m in b.members:
            if self.home.get(m) is b:
                self.home[m] = a

    def fuse_side_by_side(self) -> None:
        """Merge clusters that read the same array over the same space: it is read only once."""
        for node in (*self.graph.params, *self.graph.nodes):
            if isinstance(node.type, TensorType) and node.shape != ():
                readers = [k for k in self.clusters
                           if node in k.demand and (node not in k.members or node in k.roots)]
                self.merged(readers, node)

    def join(self, node: Node, k: Cluster) -> None:
        """Compute the node inside the cluster."""
        if node.kind in ("reduction", "contraction"):
            rows = tuple(plain_axes(k.demand[node][0], node.shape) or ())
            if k.rows is None:
                k.rows = rows
            if node.kind == "contraction":
                k.contraction = node
        k.depth[node] = self.depth_in(node, k)
        k.members.append(node)
        self.home.setdefault(node, k)
        self.follow(node, k)

    def follow(self, node: Node, k: Cluster) -> None:
        """Note what the cluster now needs of the node's inputs."""
        reader = _Demands(k)
        for at in list(k.demand[node]):
            if node.kind == "reduction":
                self._follow_reduction(node, k, at, reader)
            elif node.kind == "contraction":
                self._follow_contraction(node, k, at, reader)
            else:
                expression(reader, node, at)

    def _follow_reduction(self, node: Node, k: Cluster, at: At, reader: _Demands) -> None:
        source, removed = node.inputs[0], reduced_axes(node)
        if node not in k.inner:
            extents = [d for a, d in enumerate(source.shape) if a in removed and d != 1]
            known = [k.rest] if k.rest else list(k.inner.values())
            axes = next((v for v in known if [x.extent for x in v] == extents), None)
            if axes is None:
                axes = tuple(map(self.axis, extents))
            k.inner[node] = axes
        reader.read(source, reduction_index(node, at, k.inner[node]))

    def _follow_contraction(self, node: Node, k: Cluster, at: At, reader: _Demands) -> None:
        a, b = node.inputs
        if node not in k.inner:
            k.inner[node] = tuple(self.axis(a.shape[i]) for i in node.attrs["contract"][0])
        for operand, index in zip((a, b), contraction_indices(node, at, k.inner[node])):
            reader.read(operand, index)

    def axis(self, extent: Dim) -> Axis:
        self._axis += 1
        return Axis(f"a{self._axis}", extent)

    def new_cluster(self, node: Node) -> None:
        """A cluster rooted at the node: in one that runs over the same space, if it fits."""
        axes = tuple(self.axis(d) for d in node.shape)
        k = Cluster(axes=tuple(a for a in axes if a.extent != 1))
        at = tuple(as_index(a) for a in axes)
        k.need(node, at)
        k.roots[node] = at
        self.clusters.append(k)
        self.join(node, k)

    def new_update(self, node: Node) -> None:
        """A cluster over the elements that an update writes."""
        updates = updates_of(node)
        axes = tuple(self.axis(d) for d in updates.shape)
        at = tuple(as_index(a) for a in axes)
        k = Cluster(axes=tuple(a for a in axes if a.extent != 1), members=[node], update=node,
                    roots={node: at})
        self.clusters.append(k)
        self.home[node] = k
        reader = _Demands(k)
        k.place, _ = update_place(reader, node, at)
        reader.read(updates, at)

    def new_library(self, node: Node) -> Cluster:
        k = Cluster(axes=(), library=True, members=[node], roots={node: ()})
        self.clusters.append(k)
        self.home[node] = k
        return k

    def new_result(self, get: Node) -> None:
        """A root of the step whose results it is one of."""
        (source,) = get.inputs
        k = self.several.get(source)
        if k is None:
            k = self.several[source] = self.new_library(source)
            k.roots.clear()
        k.roots[get] = ()
        self.home[get] = k


def _source(node: Node) -> Node:
    """What a view is a view of."""
    while node.opname in _MOVES:
        node = node.inputs[0]
    return node


def _is_library(node: Node) -> bool:
    return node.kind in _LIBRARY or node.opname == "searchsorted"


def cluster_graph(graph: Graph, target: Target, donated: frozenset[Node] = frozenset()
                  ) -> list[Cluster]:
    """The clusters of a graph; every node that is stored is a root of one of them.

    `donated` are parameters that may be overwritten.
    """
    return _Fusion(graph, target, donated).run()
