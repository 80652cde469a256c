"""The pass that makes branches and loops smaller."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from weft.compiler.build import Builder
from weft.compiler.inline import inline
from weft.compiler.ir import Graph, Node, is_scalar_constant, live
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.passes.base import Pass
from weft.compiler.rewrite.driver import map_nested, with_inputs
from weft.compiler.target import Target

__all__ = ["SimplifyControl"]


@dataclass(frozen=True)
class SimplifyControl(Pass):
    """Takes away what branches and loops do not need.

    A branch of a constant index, and loops of no turn or one, are written out. Results that nothing
    uses are dropped, and with them the carries and operands that only they need; carries that stay
    as they are become constants; what is a constant or an operand anyway is taken from there; equal
    operands become one.
    """

    name: ClassVar[str] = "simplify-control"

    def run(self, graph: Graph, target: Target) -> Graph:
        """The graph with smaller branches and loops."""
        if not any(n.kind == "control" for n in graph.nodes):
            return graph
        graph = map_nested(graph, lambda inner: self.run(inner, target))
        return _Rebuilt(graph).graph


class _Rebuilt:
    """A graph built anew, its control nodes simplified."""

    def __init__(self, graph: Graph) -> None:
        self.b = b = Builder(graph.name)
        b.params = list(graph.params)
        b.reserve([n.name for n in (*graph.params, *graph.nodes) if n.name])
        used: dict[Node, set[int]] = {}
        for n in graph.nodes:
            if n.opname == "get":
                used.setdefault(n.inputs[0], set()).add(n.attrs["index"])
        now: dict[Node, Node] = {}
        taken: dict[Node, dict[int, Node]] = {}
        fresh: set[Node] = set()
        for n in graph.nodes:
            if n.opname == "get" and n.inputs[0] in taken:
                now[n] = other = taken[n.inputs[0]][n.attrs["index"]]
                if other in fresh:              # it is what users know by the name
                    other.name = n.name
                    fresh.remove(other)
                continue
            new = with_inputs(n, now)
            if n.opname in _SIMPLER:
                b.origin, start = n.origin, len(b.nodes)
                found = _SIMPLER[n.opname](b, new, sorted(used.get(n, ())))
                if found is not None:
                    taken[n] = found
                    fresh |= {made for made in b.nodes[start:] if made.opname == "get"}
                    smaller = {g.inputs[0] for g in found.values() if g in fresh}
                    if len(smaller) == 1:
                        smaller.pop().name = n.name
                    continue
            b.nodes.append(new)
            if new is not n:
                now[n] = new
        results = [now.get(r, r) for r in graph.results]
        self.graph = graph if not taken else Graph(graph.name, graph.params,
                                                   live(b.nodes, results), results)


Found = dict[int, Node] | None      # for each result that is used, what takes its place


# ---- parts of graphs

def _part(graph: Graph, params: Sequence[Node], results: Sequence[Node],
          same: dict[Node, Node]) -> Graph:
    """The graph with other parameters and results, of its own; `same` says which stand for which.
    """
    now = dict(same)
    nodes = []
    for n in graph.nodes:
        new = with_inputs(n, now)
        if new is not n:
            now[n] = new
        nodes.append(new)
    results = [now.get(r, r) for r in results]
    return Graph(graph.name, params, live(nodes, results), results)


def _reached(graph: Graph, results: Iterable[Node]) -> set[Node]:
    """All that these results depend on, themselves included."""
    results = list(results)
    return {*results, *(i for n in live(graph.nodes, results) for i in n.inputs)}


def _merged(params: Sequence[Node], operands: Sequence[Node]) -> dict[Node, Node]:
    """Parameters whose operand is that of an earlier one, with that one."""
    first: dict[Node, Node] = {}
    same: dict[Node, Node] = {}
    for p, x in zip(params, operands):
        if first.setdefault(x, p) is not p:
            same[p] = first[x]
    return same


def _gets(b: Builder, node: Node, elements: Sequence[int]) -> dict[int, Node]:
    return {e: b.add("get", node, index=i) for i, e in enumerate(elements)}


# ---- branches

def _case(b: Builder, node: Node, used: Sequence[int]) -> Found:
    index, operands = node.inputs[0], node.inputs[1:]
    branches = node.attrs["branches"]
    if is_scalar_constant(index) or len(branches) == 1:
        at = int(index.attrs["value"]) if is_scalar_constant(index) else 0
        chosen = branches[at if 0 <= at < len(branches) else -1]
        return dict(enumerate(inline(b, chosen, operands)))
    found: dict[int, Node] = {}
    for e in used:
        known = _same_everywhere(b, branches, operands, e)
        if known is not None:
            found[e] = known
    left = [e for e in used if e not in found]
    same = [_merged(g.params, operands) for g in branches]
    reached = [{s.get(n, n) for n in _reached(g, [g.results[e] for e in left])}
               for g, s in zip(branches, same)]
    keep = [i for i in range(len(operands))
            if any(g.params[i] in r for g, r in zip(branches, reached))]
    if len(left) == len(node.type.elements) and len(keep) == len(operands):  # type: ignore[union-attr]
        return None
    if left:
        parts = tuple(_part(g, [g.params[i] for i in keep], [g.results[e] for e in left], s)
                      for g, s in zip(branches, same))
        new = b.add("case", index, *[operands[i] for i in keep], branches=parts)
        found |= _gets(b, new, left)
    return found


def _same_everywhere(b: Builder, branches: Sequence[Graph], operands: Sequence[Node], e: int
                     ) -> Node | None:
    """What result number e is in all branches, if that is an operand or a number."""
    values = [g.results[e] for g in branches]
    places = [operands[g.params.index(v)] if v in g.params else None
              for g, v in zip(branches, values)]
    if places[0] is not None and all(p is places[0] for p in places):
        return places[0]
    if all(is_scalar_constant(v) for v in values):
        made = [b.constant(v.attrs["value"]) for v in values]
        if all(m is made[0] for m in made):
            return made[0]
    return None


# ---- loops

def _while(b: Builder, node: Node, used: Sequence[int]) -> Found:
    body, cond, n = node.attrs["body"], node.attrs["cond"], node.attrs["carries"]
    (test,) = cond.results
    if is_scalar_constant(test) and not bool(test.attrs["value"]):
        return {e: node.inputs[e] for e in used}
    still = [k for k in range(n) if body.results[k] is body.params[k]]
    moving = _moving(body, [k for k in range(n) if k not in still], 0, used,
                     {i for i, p in enumerate(cond.params) if p in _reached(cond, [test])})
    fixed = [*still, *range(n, len(node.inputs))]
    operands = [node.inputs[i] for i in fixed]
    same = [_merged([g.params[i] for i in fixed], operands) for g in (body, cond)]
    roots = [body.results[k] for k in moving], [test]
    reached = [{s.get(x, x) for x in _reached(g, r)}
               for g, r, s in zip((body, cond), roots, same)]
    keep = [i for i in fixed if body.params[i] in reached[0] or cond.params[i] in reached[1]]
    if len(moving) == n and len(keep) == len(node.inputs) - n:
        return None
    order = [*moving, *keep]
    inner = [_part(g, [g.params[i] for i in order], r, s)
             for g, r, s in zip((body, cond), roots, same)]
    new = b.add("while", *[node.inputs[i] for i in order], body=inner[0], cond=inner[1],
                carries=len(moving))
    found = {k: node.inputs[k] for k in still}
    return found | _gets(b, new, moving)


def _moving(body: Graph, candidates: Sequence[int], first: int, used: Iterable[int],
            also: set[int]) -> list[int]:
    """The carries among these that something needs, directly or for another carry's next value."""
    needed = {k for k in candidates if k in used or first + k in also}
    while True:
        reached = _reached(body, [body.results[k] for k in needed])
        more = {k for k in candidates if k in needed or body.params[first + k] in reached}
        if more == needed:
            return sorted(needed)
        needed = more


def _scan(b: Builder, node: Node, used: Sequence[int]) -> Found:
    body, c, m = node.attrs["body"], node.attrs["consts"], node.attrs["carries"]
    length, inputs, params = node.attrs["length"], node.inputs, node.attrs["body"].params
    if length in (0, 1):
        return _written_out(b, node, used)
    still = [k for k in range(m) if body.results[k] is params[c + k]]
    fixed = [*range(c), *(c + k for k in still)]
    found = {k: inputs[c + k] for k in still}
    for e in used:
        if e >= m:
            known = _every_turn(b, node, body.results[e], [params[i] for i in fixed])
            if known is not None:
                found[e] = known
    left = [e for e in used if e >= m and e not in found]
    ys = _reached(body, [body.results[e] for e in left])
    moving = _moving(body, [k for k in range(m) if k not in still], c, used,
                     {c + k for k in range(m) if params[c + k] in ys})
    arrays = range(c + m, len(inputs))
    same = {**_merged([params[i] for i in fixed], [inputs[i] for i in fixed]),
            **_merged([params[i] for i in arrays], [inputs[i] for i in arrays])}
    results = [*[body.results[k] for k in moving], *[body.results[e] for e in left]]
    reached = {same.get(x, x) for x in _reached(body, results)}
    keep = [i for i in fixed if params[i] in reached]
    xs = [i for i in arrays if params[i] in reached]
    if (len(moving), len(keep), len(xs)) == (m, c, len(arrays)) \
            and len(left) == len(body.results) - m:
        return None
    if not results:
        return found
    order = [*keep, *(c + k for k in moving), *xs]
    new = b.add("scan", *[inputs[i] for i in order], consts=len(keep), carries=len(moving),
                body=_part(body, [params[i] for i in order], results, same), length=length,
                reverse=node.attrs["reverse"])
    return found | _gets(b, new, [*moving, *left])


def _every_turn(b: Builder, node: Node, y: Node, fixed: Sequence[Node]) -> Node | None:
    """A stacked result that is the same in every turn, or the elements of an array."""
    length, params = node.attrs["length"], node.attrs["body"].params
    if y in params[node.attrs["consts"] + node.attrs["carries"]:]:
        x: Node = node.inputs[params.index(y)]
        return x
    value = b.constant(y.attrs["value"]) if is_scalar_constant(y) else \
        node.inputs[params.index(y)] if y in fixed else None
    if value is None:
        return None
    return b.broadcast(value, (length, *value.shape), range(1, len(value.shape) + 1))


def _written_out(b: Builder, node: Node, used: Sequence[int]) -> Found:
    """A loop of no turn or one."""
    body, c, m = node.attrs["body"], node.attrs["consts"], node.attrs["carries"]
    if node.attrs["length"] == 0:
        return {e: node.inputs[c + e] if e < m else
                b.broadcast(b.scalar(0, body.results[e].dtype), (0, *body.results[e].shape), ())
                for e in used}
    elements = [b.reshape(x, x.shape[1:]) for x in node.inputs[c + m:]]
    outs = inline(b, body, [*node.inputs[:c + m], *elements])
    return {e: outs[e] if e < m else b.reshape(outs[e], (1, *outs[e].shape)) for e in used}


_SIMPLER = {"case": _case, "while": _while, "scan": _scan}
