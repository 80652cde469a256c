"""From an optimised graph to a program of kernels: fuse, construct, order, plan memory."""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import count

from weft.compiler.ir import Graph, Node, is_scalar_constant, nested_graphs
from weft.compiler.kernel.cluster import Cluster, outer_inputs
from weft.compiler.kernel.construct import construct
from weft.compiler.kernel.donate import reuse_donated
from weft.compiler.kernel.expr import Exprs
from weft.compiler.kernel.fusion import cluster_graph
from weft.compiler.kernel.in_place import copy_step, place_updates
from weft.compiler.kernel.ir import Buffer, Failure, Kernel, Library, Program, Stage, Step, Store
from weft.compiler.kernel.nested import Branch, Loop
from weft.compiler.kernel.plan import plan_memory
from weft.compiler.kernel.pullback import UPDATES
from weft.compiler.kernel.rename import canonical, known, traffic, work
from weft.compiler.lazy_dataclass import replace
from weft.compiler.target import Target
from weft.compiler.types import TupleType

__all__ = ["build_program"]


def build_program(graph: Graph, target: Target, donated: Collection[Node] = ()) -> Program:
    """The program that computes a graph on a target.

    `donated` are parameters that the program may overwrite: an update of one that is not needed
    any more is done in place, results take their memory, and a result of the program may then be
    the parameter's buffer.
    """
    return _build(graph, target, graph.symbols, donated=frozenset(donated))


def _build(graph: Graph, target: Target, symbols: tuple[str, ...], prefix: str = "",
           donated: frozenset[Node] = frozenset(), nested: bool = False) -> Program:
    """The program of a graph. A nested one has a buffer of its own for each result; the names of
    its steps begin with the prefix, and it knows the sizes of the graphs around it."""
    clusters = _ordered(graph, cluster_graph(graph, target, donated))
    names = _Names(graph, prefix)
    steps: list[Step] = []
    for i, k in enumerate(clusters):
        name = f"{prefix}k{i}"
        steps.append(_control_step(k.members[0], names, name, target, symbols)
                     if k.members[0].kind == "control" else _step(k, names, name))
    copies, results = _results(graph, names, nested)
    if nested:      # copies of parameters first: what they copy may then be replaced in its place
        early = [s for s in copies if names.buffers[s.buffers[0]].kind == "param"]
        steps = [*early, *steps, *(s for s in copies if s not in early)]
    else:
        steps += copies
    program = Program(graph.name, tuple(names.buffers.values()), tuple(steps), tuple(results),
                      0, symbols)
    updates = {k.update.name: names.source(k.update.inputs[0])
               for k in clusters if k.update is not None}
    names_donated = [p.name for p in donated]
    program = place_updates(program, updates, frozenset(names_donated))
    return plan_memory(reuse_donated(program, names_donated))


class _Names:
    """Program buffers of a graph: parameters, constants, results, temporaries."""

    def __init__(self, graph: Graph, prefix: str) -> None:
        self.prefix = prefix            # of the names of steps
        self.buffers: dict[str, Buffer] = {}
        self._taken = {n.name for n in (*graph.params, *graph.nodes)}
        self.elements: dict[tuple[Node, int], Node] = {}
        for n in graph.nodes:
            if n.opname == "get":
                self.elements.setdefault((n.inputs[0], n.attrs["index"]), n)
        self.results: dict[Node, int] = {}
        for i, r in enumerate(graph.results):
            if not r.is_param and r.opname != "constant":
                self.results.setdefault(self.one(r), i)
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

    def one(self, node: Node) -> Node:
        """The node itself; of those that take the same element of a tuple, the first."""
        return self.elements[node.inputs[0], node.attrs["index"]] if node.opname == "get" else node

    def of(self, node: Node) -> str:
        """The buffer that holds a stored node."""
        node = self.one(node)
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


    def element(self, node: Node, index: int) -> str:
        """The buffer of one of a node's results; a new one where nothing takes that result."""
        if not isinstance(node.type, TupleType):
            return self.of(node)
        got = self.elements.get((node, index))
        if got is not None:
            return self.of(got)
        name = self.fresh(f"{node.name}.{index}_")
        self.buffers[name] = Buffer(name, node.type.elements[index], "temp")
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


def _step(k: Cluster, names: _Names, stem: str) -> Step:
    if k.library:
        return _library_step(k, names, stem)
    kernel = construct(k)
    by_name = {n.name: n for n in (*k.demand, *k.roots)}
    buffers = tuple(names.of(by_name[n]) for n, _ in kernel.buffers)
    members = k.members[::-1]
    heavy = next((m.opname for m in members if m.kind in ("contraction", "reduction")), None)
    name = f"{stem}_{heavy or members[-1].opname}".replace(".", "_")
    return Step(canonical(kernel), buffers, name, tuple(m.opname for m in members),
                tuple(dict.fromkeys(m.origin for m in members if m.origin)),
                tuple(dict.fromkeys(k.notes)), work(kernel), traffic(kernel))


def _library_step(k: Cluster, names: _Names, stem: str) -> Step:
    (node,) = k.members
    assert node.op is not None
    results = node.type.elements if isinstance(node.type, TupleType) else (node.type,)
    buffers = tuple((f"b{i}", t) for i, t in enumerate((*(x.tensor for x in node.inputs),
                                                        *results)))
    kind = "custom" if node.kind == "custom" else "linalg"
    fails = tuple(Failure(text, node.origin, kind) for text in node.op.fails
                  if node.attrs.get("check", True))
    library = Library(node.opname, tuple(sorted(node.attrs.items())), buffers,
                      tuple(n for n, _ in buffers[len(node.inputs):]), fails)
    program = (*map(names.source, node.inputs),
               *(names.element(node, i) for i in range(len(results))))
    return Step(library, program, f"{stem}_{node.opname}", (node.opname,),
                (node.origin,) if node.origin else (), (), _library_work(node),
                float(sum(known(t.nbytes) for _, t in library.buffers)))


def _library_work(node: Node) -> float:
    """Operations: the op's cost is for each element of its first operand."""
    if node.op is None or not node.inputs or node.kind not in ("factorization", "transform"):
        return 0.0
    x = node.inputs[0].tensor
    rows = known(x.shape[-1]) if node.kind == "factorization" and x.shape else 1
    return float(known(x.size)) * rows * node.op.cost


# ---- control flow: programs in a program

def _control_step(node: Node, names: _Names, stem: str, target: Target, symbols: tuple[str, ...]
                  ) -> Step:
    owned = _owned(node)
    inside = [_build(g, target, symbols, f"{stem}_{label}_", frozenset(owned) & {*g.params}, True)
              for label, g in zip(_LABELS[node.opname], nested_graphs(node).values())]
    own = frozenset(owned.values())
    operands = [(f"b{i}", x.tensor) for i, x in enumerate(node.inputs)]
    assert isinstance(node.type, TupleType)
    outputs = [(f"b{len(operands) + i}", t) for i, t in enumerate(node.type.elements)]
    buffers, outs = (*operands, *outputs), tuple(n for n, _ in outputs)
    kernel: Branch | Loop
    if node.opname == "case":
        kernel = Branch(tuple(inside), buffers, outs)
    elif node.opname == "while":
        n = node.attrs["carries"]
        kernel = Loop(inside[1], inside[0], buffers, outs, len(operands) - n, n, owned=own)
    else:
        a = node.attrs
        kernel = Loop(inside[0], None, buffers, outs, a["consts"], a["carries"], a["length"],
                      a["reverse"], own)
    bound = (*map(names.source, node.inputs),
             *(names.element(node, i) for i in range(len(outputs))))
    turns = float(known(kernel.length)) if isinstance(kernel, Loop) and kernel.cond is None else 1.0
    every = [s for p in inside for s in p.steps]
    return Step(kernel, bound, f"{stem}_{node.opname}", (node.opname,),
                (node.origin,) if node.origin else (), (), turns * sum(s.flops for s in every),
                turns * sum(s.nbytes for s in every))


def _owned(node: Node) -> dict[Node, int]:
    """The carries of a loop of which the body updates elements: its parameters, and which they are.
    """
    if node.opname == "case":
        return {}
    body = node.attrs["body"]
    first = node.attrs["consts"] if node.opname == "scan" else 0
    found = {}
    for k, result in enumerate(body.results[:node.attrs["carries"]]):
        at = result
        while at.opname in UPDATES:
            at = at.inputs[0]
        if at is not result and at is body.params[first + k]:
            found[at] = k
    return found


_LABELS = {"case": [f"branch{i}" for i in range(1000)], "while": ["while", "body"],
           "scan": ["body"]}


# ---- results

def _results(graph: Graph, names: _Names, distinct: bool) -> tuple[list[Step], list[str]]:
    """Result buffers; a parameter or constant that is returned is copied, and, where each result
    must have its own buffer, one that is returned again."""
    steps: list[Step] = []
    results: list[str] = []
    copied: dict[Node, str] = {}
    for i, r in enumerate(map(names.one, graph.results)):
        again = r in copied or names.results.get(r, i) != i
        if not r.is_param and r.opname != "constant" and not (distinct and again):
            results.append(names.of(r))
            continue
        if r not in copied or distinct:
            copied[r] = name = names.fresh(f"result.{i}_")
            names.buffers[name] = Buffer(name, r.tensor, "result", i)
            steps.append(_copy_step(r, name, names))
        results.append(copied[r])
    return steps, results


def _copy_step(node: Node, result: str, names: _Names) -> Step:
    note = "a result that is an argument or constant is copied"
    if not is_scalar_constant(node):
        step = copy_step(names.of(node), result, node.tensor, note)
        return replace(step, name=f"{names.prefix}{step.name}")
    value = Exprs().const(node.attrs["value"], node.dtype)
    kernel = Kernel((), (Stage((), (), (Store("b0", (), value),)),), (("b0", node.tensor),),
                    ("b0",))
    return Step(kernel, (result,), f"{names.prefix}copy_{result}", ("copy",), (), (note,), 0.0,
                2.0 * node.dtype.itemsize)
