"""The rewrite driver: small named rules, applied from operands to results until none applies.

One sweep visits nodes in dependency order. A rule sees a node whose operands are already in their
final form and returns a replacement, built with the `Rewriter` it is handed; whatever it builds is
itself simplified as it is built. So one sweep reaches the fixpoint in time linear in the graph;
another follows only where a rule was refused because a node had other uses, which may have gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from weft.compiler.build import Builder
from weft.compiler.ir import Graph, Node, is_scalar_constant, live, map_graphs, nested_graphs
from weft.compiler.lazy_dataclass import dataclass

__all__ = ["Rewriter", "Rule", "RuleTable", "Transform", "rebuild", "rewrite", "rule"]

Apply = Callable[[Node, "Rewriter"], "Node | None"]


@dataclass(frozen=True)
class Rule:
    """One directional rewrite.

    `law` says what it does, as ``before → after``; `ops` are the ops that it is rooted at (``"*"``
    for every op); `apply(node, rewriter)` returns the replacement or None. If `on` names ops, the
    rule is tried only where an operand is of one of them (``"="``: where the first two operands
    are one node), which saves asking. A rule is sound for NaN, infinities and -0.0 unless it is
    `fast_math_only`, and keeps every bit unless `exact` is false (then the result is as accurate,
    but may round otherwise).
    """

    name: str
    law: str
    ops: tuple[str, ...]
    apply: Apply
    on: tuple[str, ...] = ()
    fast_math_only: bool = False
    exact: bool = True

    def __repr__(self) -> str:
        return f"<rule {self.name}: {self.law}>"


def rule(collection: list[Rule], law: str, *ops: str, on: tuple[str, ...] = (),
         fast: bool = False, exact: bool = True) -> Callable[[Apply], Apply]:
    """Decorator: add the function as a rule rooted at `ops` to the collection.

    >>> rules = []
    >>> @rule(rules, "neg(neg(x)) → x", "neg", on=("neg",))
    ... def neg_neg(node, b):
    ...     return node.inputs[0].inputs[0]
    >>> rules
    [<rule neg_neg: neg(neg(x)) → x>]
    """
    def add(apply: Apply) -> Apply:
        name = getattr(apply, "__name__", "rule").strip("_")
        collection.append(Rule(name, law, ops, apply, on, fast, exact))
        return apply
    return add


class RuleTable:
    """Rules indexed by a node's op and its operands' ops.

    `for_node(node)` gives those worth trying, in the order given; ``"*"`` rules come first.
    """

    def __init__(self, rules: Iterable[Rule], fast_math: bool = False) -> None:
        chosen = tuple(r for r in rules if fast_math or not r.fast_math_only)
        self.rules = tuple(sorted(chosen, key=lambda r: "*" not in r.ops))
        self._table: dict[tuple[str, ...], tuple[Rule, ...]] = {}

    def for_node(self, node: Node) -> tuple[Rule, ...]:
        """The rules to try on a node."""
        key = _key(node)
        found = self._table.get(key)
        if found is None:
            has = frozenset(key[1:])
            found = tuple(r for r in self.rules if (key[0] in r.ops or "*" in r.ops)
                          and (not r.on or not has.isdisjoint(r.on)))
            self._table[key] = found
        return found


def _key(node: Node) -> tuple[str, ...]:
    """The node's op, its operands' ops, and whether the first two operands are one."""
    inputs = node.inputs
    names = [node.opname, *[i.op.name if i.op is not None else "parameter" for i in inputs]]
    if len(inputs) > 1:
        if inputs[0] is inputs[1]:
            names.append("=")
        if len(inputs) > 3:  # operands without end: which ops, not in which order
            names[1:] = sorted(set(names[1:]))
    return tuple(names)


_MAX_NESTING = 40        # how deep rules may build on what rules build
_MAX_SWEEPS = 8
_FUEL_BASE, _FUEL_PER_NODE = 200, 20


class Rewriter(Builder):
    """One sweep over one graph, and the builder that its rules build with."""

    def __init__(self, graph: Graph, table: RuleTable) -> None:
        super().__init__(graph.name)
        self.graph_in = graph
        self.table = table
        self.now: dict[Node, Node] = {}      # nodes of the input graph that were replaced
        self.fired: list[str] = []           # the names of the rules that applied, in order
        self.refused = False                 # whether `used_once` said no to any rule
        self._fuel = _FUEL_BASE + _FUEL_PER_NODE * len(graph.nodes)
        self._nesting = 0
        self._uses: dict[Node, int] | None = None

    # ---- what rules use

    def replace(self, node: Node, inputs: Iterable[Node], **attrs: Any) -> Node:
        """A node of the same op with other inputs (and attributes, where given)."""
        return self.add(node.opname, *inputs, origin=None, **{**node.attrs, **attrs})

    def moved(self, node: Node, inputs: Iterable[Node]) -> Node:
        """The same op on other inputs, which takes the node's name along.

        For rules that move a view past the node: it is the op that users know by the name.
        """
        out = self.replace(node, inputs)
        if not out.name and not out.is_param and not is_scalar_constant(out):
            out.name = node.name
        return out

    def like(self, node: Node, value: Node) -> Node:
        """`value`, broadcast to the shape of `node` if it is 0-d and the node is not."""
        return value if value.shape == node.shape else self.broadcast(value, node.shape)

    def fill(self, node: Node, value: Any) -> Node:
        """A constant of the node's type that has this value everywhere."""
        return self.like(node, self.scalar(value, node.dtype))

    def used_once(self, node: Node) -> bool:
        """Whether the node has at most one use, so that it disappears when that is rewritten.

        Counted in the input graph: new nodes count as used once.
        """
        if self._uses is None:
            self._uses = _count_uses(self.graph_in)
            for old, new in self.now.items():
                self._uses[new] = self._uses.get(new, 0) + self._uses.get(old, 0)
        once = self._uses.get(node, 1) <= 1
        self.refused = self.refused or not once
        return once

    # ---- the sweep

    def insert(self, node: Node) -> Node:
        """Simplify a node that a rule has built, and append what comes of it."""
        return self.simplify(node)

    def simplify(self, node: Node) -> Node:
        """What the rules make of a node whose inputs are final; appended to the graph."""
        if self._nesting < _MAX_NESTING and self._fuel > 0:
            for candidate in self.table.for_node(node):
                self._nesting += 1
                out = candidate.apply(node, self)
                self._nesting -= 1
                if out is not None and out is not node:
                    self._note(candidate, node, out)
                    return out
        self.nodes.append(node)
        return node

    def _note(self, applied: Rule, node: Node, out: Node) -> None:
        assert out.type == node.type, (
            f"rule {applied.name} turned {node.opname} : {node.type} into {out.type}")
        self._fuel -= 1
        self.fired.append(applied.name)

    def run(self) -> Graph:
        """The rewritten graph; the input itself if nothing changed."""
        for node in self.graph_in.nodes:
            self._visit(node)
        now = self.now
        results = [now.get(r, r) for r in self.graph_in.results]
        nodes = live(self.nodes, results)
        if _same(nodes, self.graph_in.nodes) and _same(results, self.graph_in.results):
            return self.graph_in
        _give_names(nodes, self.graph_in)
        return Graph(self.graph_in.name, self.graph_in.params, nodes, results)

    def _visit(self, node: Node) -> None:
        if is_scalar_constant(node):
            out = self._known_scalar(node)
        else:
            current = with_inputs(node, self.now)
            self.origin = node.origin
            out = self.simplify(current)
        if out is not node:
            self.now[node] = out
            if self._uses is not None and node in self._uses:
                self._uses[out] = self._uses.get(out, 0) + self._uses[node]
            if not out.name and not out.is_param and not is_scalar_constant(out):
                out.name = node.name

    def _known_scalar(self, node: Node) -> Node:
        """Scalars of one value are one node."""
        value = node.attrs["value"]
        key = (value.dtype, value.tobytes())
        known = self._scalars.setdefault(key, node)
        if known is node:
            self.nodes.append(node)
        return known


def _count_uses(graph: Graph) -> dict[Node, int]:
    uses: dict[Node, int] = {}
    for node in graph.nodes:
        for i in node.inputs:
            uses[i] = uses.get(i, 0) + 1
    for r in graph.results:
        uses[r] = uses.get(r, 0) + 1
    return uses


def _same(a: Iterable[Node], b: Iterable[Node]) -> bool:
    a, b = tuple(a), tuple(b)
    return len(a) == len(b) and all(x is y for x, y in zip(a, b))


def with_inputs(node: Node, now: Mapping[Node, Node]) -> Node:
    """The node with its inputs looked up in `now`; itself where none of them changed."""
    for i in node.inputs:
        if i in now:
            inputs = tuple([now.get(i, i) for i in node.inputs])
            return Node(node.op, inputs, node.attrs, node.type, node.origin, node.name)
    return node


def _give_names(nodes: list[Node], before: Graph) -> None:
    """Name the nodes that have no name, and rename a new one whose name is taken."""
    old = set(before.nodes)
    taken = {p.name for p in before.params} | {n.name for n in nodes if n in old and n.name}
    fresh: Builder | None = None
    for node in nodes:
        if is_scalar_constant(node) or node in old:
            continue
        if not node.name or node.name in taken:
            if fresh is None:
                fresh = Builder()
                fresh.reserve([n.name for n in (*before.params, *before.nodes, *nodes) if n.name])
            node.name = ""
            fresh.insert(node)
        taken.add(node.name)


# --------------------------------------------------------------------------- entry points

Transform = Callable[[Graph], Graph]


def rewrite(graph: Graph, rules: RuleTable) -> Graph:
    """The graph with the rules applied until none applies; the same object if none did.

    Nodes that the results no longer need disappear. Graphs within nodes (control flow) are
    rewritten too.

    >>> from weft.compiler.text import parse
    >>> rules = []
    >>> @rule(rules, "neg(neg(x)) → x", "neg")
    ... def neg_neg(node, b):
    ...     return node.inputs[0].inputs[0] if node.inputs[0].opname == "neg" else None
    >>> g = parse('''graph @f(%x: f32[]) -> (f32[]) {
    ...   %a = neg %x : f32[]
    ...   %b = neg %a : f32[]
    ...   %y = sin %b : f32[]
    ...   return %y
    ... }''')
    >>> print(rewrite(g, RuleTable(rules)))
    graph @f(%x: f32[]) -> (f32[]) {
      %y = sin %x : f32[]
      return %y
    }
    """
    graph = map_nested(graph, lambda inner: rewrite(inner, rules))
    for _ in range(_MAX_SWEEPS):
        sweep = Rewriter(graph, rules)
        out = sweep.run()
        # only what was refused for its other uses can have become possible: these may be gone
        if out is graph or not sweep.refused:
            return out
        graph = out
    return graph


def map_nested(graph: Graph, transform: Transform) -> Graph:
    """The graph with each graph in its nodes' attributes transformed."""
    changed: dict[Node, Node] = {}
    for node in graph.nodes:
        if node.attrs and nested_graphs(node):
            attrs = map_graphs(node.attrs, transform)
            if attrs is not node.attrs:
                changed[node] = Node(node.op, node.inputs, attrs, node.type, node.origin, node.name)
    return rebuild(graph, changed) if changed else graph


def rebuild(graph: Graph, replacements: Mapping[Node, Node]) -> Graph:
    """The graph where each key's uses are uses of its value; dead nodes disappear.

    A value may be a node of the graph, a parameter or a new node (over new or old nodes, the key
    itself not among them). New nodes without a name get one, those that replace take the name of
    what they replace.
    """
    for old, new in replacements.items():
        if not new.name and not is_scalar_constant(new):
            new.name = old.name
    now: dict[Node, Node] = {}
    nodes: list[Node] = []
    done: set[Node] = set(graph.params)

    def settle(root: Node) -> None:
        stack = [root]
        while stack:
            node = stack[-1]
            target = replacements.get(node, node)
            pending = [target] if target is not node else list(node.inputs)
            pending = [p for p in pending if p not in done]
            if pending:
                stack.extend(reversed(pending))
                continue
            stack.pop()
            if node not in done:
                done.add(node)
                _settled(node, target, now, nodes)

    for node in (*graph.nodes, *graph.results):
        settle(node)
    results = [now.get(r, r) for r in graph.results]
    kept = live(nodes, results)
    if _same(kept, graph.nodes) and _same(results, graph.results):
        return graph
    _give_names(kept, graph)
    return Graph(graph.name, graph.params, kept, results)


def _settled(node: Node, target: Node, now: dict[Node, Node], nodes: list[Node]) -> None:
    if target is not node:
        now[node] = now.get(target, target)
        return
    out = with_inputs(node, now)
    if out is not node:
        now[node] = out
    nodes.append(out)
