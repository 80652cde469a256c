"""From an optimised graph to a program of kernels: fuse, construct, order, plan memory."""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import count

from weft.compiler.ir import Graph, Node, is_scalar_constant
from weft.compiler.kernel.cluster import Cluster, outer_inputs
from weft.compiler.kernel.construct import construct
from weft.compiler.kernel.expr import Exprs
from weft.compiler.kernel.fusion import cluster_graph
from weft.compiler.kernel.in_place import copy_step, place_updates
from weft.compiler.kernel.ir import Buffer, Failure, Kernel, Library, Program, Stage, Step, Store
from weft.compiler.kernel.plan import plan_memory
from weft.compiler.kernel.rename import canonical, known, traffic, work
from weft.compiler.target import Target
from weft.compiler.types import TensorType, TupleType

__all__ = ["build_program"]


def build_program(graph: Graph, target: Target, donated: Collection[Node] = ()) -> Program:
    """The program that computes a graph on a target.

    `donated` are parameters that the program may overwrite: an update of one that is not needed
    any more is done in place, and a result of the program may then be the parameter's buffer.
    """
    clusters = _ordered(graph, cluster_graph(graph, target, frozenset(donated)))
    names = _Names(graph)
    steps = [_step(k, names, i) for i, k in enumerate(clusters)]
    copies, results = _results(graph, names)
    steps += copies
    program = Program(graph.name, tuple(names.buffers.values()), tuple(steps), tuple(results),
                      0, graph.symbols)
    updates = {k.update.name: names.source(k.update.inputs[0])
               for k in clusters if k.update is not None}
    program = place_updates(program, updates, frozenset(p.name for p in donated))
    return plan_memory(program)


class _Names:
    """Program buffers of a graph: parameters, constants, results, temporaries."""

    def __init__(self, graph: Graph) -> None:
        self.buffers: dict[str, Buffer] = {}
        self._taken = {n.name for n in (*graph.params, *graph.nodes)}
        self.results: dict[Node, int] = {}
        for i, r in enumerate(graph.results):
            if not r.is_param and r.opname != "constant":
                self.results.setdefault(r, i)
        for i, p in enumerate(graph.params):
            self.buffers[p.name] = Buffer(p.name, p.tensor, "param", i)
        for n in graph.nodes:
            if n.opname == "constant" and not is_scalar_constant(n):
                self.buffers[n.name] = Buffer(n.name, n.tensor, "constant", value=n.attrs["value"])

    def fresh(self, stem: str) -> str:
        """A name that no node and no other buffer bears."""
        name = next(n for i in count() if (n := f"{stem}{i or ''}") not in self._taken)
        self._taken.add(name)
        return name

    def unused(self, node: Node, index: int, type: TensorType) -> str:
        """A buffer for one of several results that nobody wants."""
        name = self.fresh(f"{node.name}.unused{index}_")
        self.buffers[name] = Buffer(name, type, "temp")
        return name

    def of(self, node: Node) -> str:
        """The buffer that holds a stored node."""
        if node.name not in self.buffers:
            at = self.results.get(node, -1)
            kind = "result" if at >= 0 else "temp"
            self.buffers[node.name] = Buffer(node.name, node.tensor, kind, at)
        return node.name

    def source(self, node: Node) -> str:
        """The buffer that holds a stored node or a constant."""
        if not is_scalar_constant(node):
            return self.of(node)
        name = self.fresh("constant")
        self.buffers[name] = Buffer(name, node.tensor, "constant", value=node.attrs["value"])
        return name


def _ordered(graph: Graph, clusters: list[Cluster]) -> list[Cluster]:
    """Clusters after those whose results they need, else in the graph's order."""
    home = {r: k for k in clusters for r in k.roots}
    position = {n: i for i, n in enumerate(graph.nodes)}

    def needs(k: Cluster) -> list[Cluster]:
        inputs = {n for n in (*outer_inputs(k), *k.demand) if n in home and home[n] is not k}
        return [*(home[n] for n in sorted(inputs, key=position.__getitem__, reverse=True)),
                *before.get(k, ())]

    before: dict[Cluster, list[Cluster]] = {}
    _readers_first(clusters, needs, before)

    stack = sorted(clusters, key=lambda k: -min(position[r] for r in k.roots))
    out: dict[Cluster, None] = {}
    begun: set[Cluster] = set()
    while stack:
        k = stack[-1]
        missing = [other for other in needs(k) if other not in out] if k not in out else []
        if not missing:
            out[stack.pop()] = None
            continue
        assert k not in begun, "clusters depend on each other"
        begun.add(k)
        stack += missing
    return list(out)


def _readers_first(clusters: list[Cluster], needs: Callable[[Cluster], list[Cluster]],
                   before: dict[Cluster, list[Cluster]]) -> None:
    """Let updates come after all that reads what they overwrite, where that does not need them."""
    for k in clusters:
        if k.update is None:
            continue
        x = k.update.inputs[0]
        for other in clusters:
            if other is not k and x in other.demand and not _leads_to(other, k, needs):
                before.setdefault(k, []).append(other)


def _leads_to(k: Cluster, goal: Cluster, needs: Callable[[Cluster], list[Cluster]]) -> bool:
    """Whether a cluster needs the goal to be computed before."""
    seen: set[Cluster] = set()
    stack = [k]
    while stack:
        k = stack.pop()
        if k is goal:
            return True
        if k not in seen:
            seen.add(k)
            stack += needs(k)
    return False


def _step(k: Cluster, names: _Names, number: int) -> Step:
    if k.library:
        return _library_step(k, names, number)
    kernel = construct(k)
    by_name = {n.name: n for n in (*k.demand, *k.roots)}
    buffers = tuple(names.of(by_name[n]) for n, _ in kernel.buffers)
    members = k.members[::-1]
    heavy = next((m.opname for m in members if m.kind in ("contraction", "reduction")), None)
    name = f"k{number}_{heavy or members[-1].opname}".replace(".", "_")
    return Step(canonical(kernel), buffers, name, tuple(m.opname for m in members),
                tuple(dict.fromkeys(m.origin for m in members if m.origin)),
                tuple(dict.fromkeys(k.notes)), work(kernel), traffic(kernel))


def _library_step(k: Cluster, names: _Names, number: int) -> Step:
    (node,) = k.members
    assert node.op is not None
    results = node.type.elements if isinstance(node.type, TupleType) else (node.type,)
    buffers = tuple((f"b{i}", t) for i, t in enumerate((*(x.tensor for x in node.inputs),
                                                        *results)))
    fails = tuple(Failure(text, node.origin) for text in node.op.fails)
    library = Library(node.opname, tuple(sorted(node.attrs.items())), buffers,
                      tuple(n for n, _ in buffers[len(node.inputs):]), fails)
    taken = {r.attrs["index"] if r is not node else 0: names.of(r) for r in k.roots}
    program = (*map(names.source, node.inputs),
               *(taken[i] if i in taken else names.unused(node, i, t)
                 for i, t in enumerate(results)))
    return Step(library, program, f"k{number}_{node.opname}", (node.opname,),
                (node.origin,) if node.origin else (), (), _library_work(node),
                float(sum(known(t.nbytes) for _, t in library.buffers)))


def _library_work(node: Node) -> float:
    """Operations: the op's cost is for each element of its first operand."""
    if node.op is None or not node.inputs or node.kind not in ("factorization", "transform"):
        return 0.0
    x = node.inputs[0].tensor
    rows = known(x.shape[-1]) if node.kind == "factorization" and x.shape else 1
    return float(known(x.size)) * rows * node.op.cost


def _results(graph: Graph, names: _Names) -> tuple[list[Step], list[str]]:
    """Result buffers; a parameter or constant that is returned is copied."""
    steps: list[Step] = []
    results: list[str] = []
    copied: dict[Node, str] = {}
    for i, r in enumerate(graph.results):
        if not r.is_param and r.opname != "constant":
            results.append(names.of(r))
            continue
        if r not in copied:
            copied[r] = name = names.fresh(f"result.{i}_")
            names.buffers[name] = Buffer(name, r.tensor, "result", i)
            steps.append(_copy_step(r, name, names))
        results.append(copied[r])
    return steps, results


def _copy_step(node: Node, result: str, names: _Names) -> Step:
    note = "a result that is an argument or constant is copied"
    if not is_scalar_constant(node):
        return copy_step(names.of(node), result, node.tensor, note)
    value = Exprs().const(node.attrs["value"], node.dtype)
    kernel = Kernel((), (Stage((), (), (Store("b0", (), value),)),), (("b0", node.tensor),),
                    ("b0",))
    return Step(kernel, (result,), f"copy_{result}", ("copy",), (), (note,), 0.0,
                2.0 * node.dtype.itemsize)
