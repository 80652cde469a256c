"""Derivatives and batching of branches and loops: transforms of the graphs that they hold.

Forward mode, and batching, give one node that holds the transformed graphs. Reverse mode of a
branch or a counted loop splits each graph (`linear_map`): one node computes the results and what
the derivative needs of them (residuals), another the tangents, which is linear and can be
transposed. Of a loop, as few bytes are stacked by turn as the residuals can cheaply be computed
from, beside what is the same in every turn or an element of its arrays.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence, Set
from typing import Any

from weft.compiler.build import Builder
from weft.compiler.inline import copy_node, zeros
from weft.compiler.ir import Graph, Node, is_scalar_constant, live
from weft.compiler.transforms.accumulate import accumulated
from weft.compiler.transforms.batch import batch, batch_into, lead
from weft.compiler.transforms.jvp import instantiate, push_forward
from weft.compiler.transforms.late_products import LateProduct, late_products
from weft.compiler.transforms.remat import minimum_cut
from weft.compiler.transforms.transpose import (
    LinearMap,
    linear_map,
    transposed_graph,
)
from weft.compiler.types import TensorType

__all__ = ["case_batch", "case_jointly", "case_linearize", "case_transpose", "elements_of",
           "scan_batch", "scan_jointly", "scan_linearize", "scan_transpose"]

Nodes = list[Node]
Tangents = list[Any]            # of Nodes, None for zeros


def elements_of(b: Builder, node: Node) -> Nodes:
    """The elements of a tuple."""
    return [b.add("get", node, index=i)
            for i in range(len(node.type.elements))]  # type: ignore[union-attr]


def _like(b: Builder, params: Iterable[Node], suffix: str = "", lead: tuple[Any, ...] = ()
          ) -> Nodes:
    """New parameters of the same types."""
    return [b.param(p.name + suffix, TensorType((*lead, *p.shape), p.dtype)) for p in params]


def _pick(values: Sequence[Any], flags: Sequence[bool]) -> list[Any]:
    return [v for v, f in zip(values, flags) if f]


def _spread(values: Sequence[Any], flags: Sequence[bool]) -> list[Any]:
    """The values at the places where a flag is set, None at the others."""
    rest = iter(values)
    return [next(rest) if f else None for f in flags]


# ---- branches

def case_jointly(b: Builder, node: Node, inputs: Sequence[Node], ts: Tangents
                 ) -> tuple[Nodes, Tangents]:
    """Results and tangents of the branch that is taken."""
    active = [t is not None for t in ts[1:]]
    made = []
    for g in node.attrs["branches"]:
        inner = Builder(g.name)
        params = _like(inner, g.params)
        dots = _like(inner, _pick(g.params, active), ".dot")
        made.append((inner, *push_forward(inner, g, params, _spread(dots, active))))
    flags = [any(dots[k] is not None for _, _, dots in made) for k in range(_count(node))]
    branches = tuple(inner.graph([*results, *_pick([instantiate(inner, r, d) for r, d in
                                                    zip(results, dots)], flags)])
                     for inner, results, dots in made)
    new = b.add("case", *inputs, *[t for t in ts if t is not None], branches=branches)
    outs = elements_of(b, new)
    return outs[:len(flags)], _spread(outs[len(flags):], flags)


def _count(node: Node) -> int:
    return len(node.type.elements)  # type: ignore[union-attr]


def case_linearize(b: Builder, node: Node, inputs: Sequence[Node], ts: Tangents
                   ) -> tuple[Nodes, Tangents]:
    """The branch taken, with its residuals; and a branch of linear maps, of these and tangents."""
    active = [t is not None for t in ts[1:]]
    slots: list[TensorType] = []            # one for every residual of the branch that needs most
    made: list[tuple[Builder, Nodes, LinearMap, Nodes, list[int], Nodes]] = []
    for g in node.attrs["branches"]:
        inner = Builder(g.name)
        params = _like(inner, g.params)
        results, linear, residuals = linear_map(inner, g, params, active)
        kept = [r for r in residuals if r not in params]
        places = _places(slots, [r.tensor for r in kept])
        made.append((inner, results, linear, residuals, places, params))
    n = _count(node)
    flags = [any(m[2].nonzero[k] for m in made) for k in range(n)]
    forward = []
    for inner, results, _, residuals, places, params in made:
        held = dict(zip(places, (r for r in residuals if r not in params)))
        forward.append(inner.graph([*results, *[held[i] if i in held else zeros(inner, t)
                                                for i, t in enumerate(slots)]]))
    new = b.add("case", *inputs, branches=tuple(forward))
    outs = elements_of(b, new)
    backward = tuple(_linear_branch(m, slots, active, flags) for m in made)
    tangent = b.add("case", inputs[0], *inputs[1:], *outs[n:],
                    *[t for t in ts if t is not None], branches=backward)
    return outs[:n], _spread(elements_of(b, tangent), flags)


def _places(slots: list[TensorType], types: Sequence[TensorType]) -> list[int]:
    """A slot of its own type for each value; new ones where none is left."""
    taken: list[int] = []
    for t in types:
        at = next((i for i, s in enumerate(slots) if s == t and i not in taken), None)
        if at is None:
            at = len(slots)
            slots.append(t)
        taken.append(at)
    return taken


def _linear_branch(made: Any, slots: Sequence[TensorType], active: Sequence[bool],
                   flags: Sequence[bool]) -> Graph:
    """The branch's linear map as a graph of operands, slots and tangents."""
    _, _, linear, residuals, places, params = made
    inner = Builder(linear.graph.name)
    operands = dict(zip(params, _like(inner, params)))
    held = [inner.param(f"residual{i}", t) for i, t in enumerate(slots)]
    dots = _like(inner, _pick(params, active), ".dot")
    at = iter(places)
    given = [operands[r] if r in operands else held[next(at)] for r in residuals]
    outs = linear.push(inner, given, _spread(dots, active))
    types = [r.tensor for r in made[1]]
    return inner.graph([zeros(inner, t) if o is None else o
                        for o, t, f in zip(outs, types, flags) if f])


def case_transpose(b: Builder, node: Node, cotangent: Any, wanted: Set[int]) -> Tangents:
    """The branch's transposed graph, on cotangents."""
    given = [k for k, c in enumerate(cotangent) if c is not None]
    sources = {i - 1 for i in wanted}
    fixed = [i for i in range(1, len(node.inputs)) if i not in wanted]
    branches = []
    for g in node.attrs["branches"]:
        inner = Builder(g.name)
        others = {i - 1: p for i, p in zip(fixed, _like(inner, [g.params[i - 1] for i in fixed]))}
        cts = [inner.param(f"ct{k}", g.results[k].type) for k in given]
        found = transposed_graph(inner, g, others, sorted(sources), dict(zip(given, cts)))
        branches.append(inner.graph([instantiate(inner, g.params[i], c)
                                     for i, c in zip(sorted(sources), found)]))
    new = b.add("case", node.inputs[0], *[node.inputs[i] for i in fixed],
                *[cotangent[k] for k in given], branches=tuple(branches))
    outs = iter(elements_of(b, new))
    return [next(outs) if i in wanted else None for i in range(len(node.inputs))]


def case_batch(b: Builder, node: Node, inputs: Sequence[Node], batched: Sequence[bool]
               ) -> list[tuple[Node, bool]]:
    """One batched branch, or, where elements take different ones, all and a choice."""
    size = next(x.shape[0] for x, is_ in zip(inputs, batched) if is_)
    branches = node.attrs["branches"]
    if not batched[0]:
        flags = [any(f) for f in zip(*(batch(g, batched[1:], size)[1] for g in branches))]
        made = tuple(batch(g, batched[1:], size, flags)[0] for g in branches)
        return list(zip(elements_of(b, b.add("case", *inputs, branches=made)), flags))
    outs: Nodes = []
    for i, g in reversed(list(enumerate(branches))):
        found, flags = batch_into(b, g, inputs[1:], batched[1:])
        found = [r if f else lead(b, r, size) for r, f in zip(found, flags)]
        here = b.add("eq", inputs[0], b.broadcast(b.scalar(i, "i32"), (size,), ()))
        outs = [b.add("select", b.broadcast(here, x.shape, (0,)), x, y)
                for x, y in zip(found, outs)] if outs else found
    return [(o, True) for o in outs]


# ---- counted loops

class _Scan:
    """The parts of a scan node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.body: Graph = node.attrs["body"]
        self.c, self.m = node.attrs["consts"], node.attrs["carries"]
        self.length, self.reverse = node.attrs["length"], node.attrs["reverse"]

    def parts(self, values: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Values of the operands, apart: constants, carries, arrays."""
        c, m = self.c, self.m
        return list(values[:c]), list(values[c:c + m]), list(values[c + m:])

    def add(self, b: Builder, body: Graph, consts: Nodes, carries: Nodes, xs: Nodes,
            reverse: bool | None = None) -> Nodes:
        """The results of a scan over as many turns."""
        node = b.add("scan", *consts, *carries, *xs, body=body, consts=len(consts),
                     carries=len(carries), length=self.length,
                     reverse=self.reverse if reverse is None else reverse)
        return elements_of(b, node)

    def active(self, ts: Tangents) -> list[bool]:
        """Which of the body's parameters have tangents, those of carries from other turns too."""
        flags = [t is not None for t in ts]
        while True:
            b = Builder("trial")
            params = _like(b, self.body.params)
            dots = [p if f else None for p, f in zip(_like(b, self.body.params), flags)]
            _, outs = push_forward(b, self.body, params, dots)
            found = [f or o is not None for f, o in zip(self.parts(flags)[1], outs)]
            if found == self.parts(flags)[1]:
                return flags
            flags[self.c:self.c + self.m] = found


def scan_jointly(b: Builder, node: Node, inputs: Sequence[Node], ts: Tangents
                 ) -> tuple[Nodes, Tangents]:
    """One loop that carries tangents as well."""
    s = _Scan(node)
    flags = s.active(ts)
    inner = Builder(s.body.name)
    fc, fm, fx = s.parts(flags)
    pc, pm, px = s.parts(s.body.params)
    consts, dconsts = _like(inner, pc), _like(inner, _pick(pc, fc), ".dot")
    carries, dcarries = _like(inner, pm), _like(inner, _pick(pm, fm), ".dot")
    xs, dxs = _like(inner, px), _like(inner, _pick(px, fx), ".dot")
    dots = [*_spread(dconsts, fc), *_spread(dcarries, fm), *_spread(dxs, fx)]
    results, outs = push_forward(inner, s.body, [*consts, *carries, *xs], dots)
    m = s.m
    moving = [instantiate(inner, r, o) for r, o, f in zip(results, outs, fm) if f]
    dys = [o for o in outs[m:] if o is not None]
    body = inner.graph([*results[:m], *moving, *results[m:], *dys])
    ic, im, ix = s.parts(inputs)
    tc, tm, tx = s.parts(ts)
    found = s.add(b, body, [*ic, *_pick(tc, fc)],
                  [*im, *[instantiate(b, x, t) for x, t, f in zip(im, tm, fm) if f]],
                  [*ix, *_pick(tx, fx)])
    k = m + len(moving)
    ys = found[k:k + len(results) - m]
    tangents = [*_spread(found[m:k], fm),
                *_spread(found[k + len(ys):], [o is not None for o in outs[m:]])]
    return [*found[:m], *ys], tangents


REPEATED_COST = 2.0             # flops of an elementwise op up to which it is done again
_VIEWS = ("view", "creation", "structure")


def scan_linearize(b: Builder, node: Node, inputs: Sequence[Node], ts: Tangents
                   ) -> tuple[Nodes, Tangents]:
    """A loop that keeps residuals of each turn, and a linear one over them."""
    s = _Scan(node)
    flags = s.active(ts)
    inner = Builder(s.body.name)
    params = _like(inner, s.body.params)
    results, linear, residuals = linear_map(inner, s.body, params, flags)
    pc, _, px = s.parts(params)
    ic, im, ix = s.parts(inputs)
    fixed = _depend_only_on(inner, pc)
    stacked = _to_stack(inner, residuals, {*fixed, *px})
    again, roots = _between(inner, residuals, {*fixed, *px, *stacked})
    same = [r for r in roots if r in fixed]
    arrays = [r for r in roots if r in px]
    forward = s.add(b, inner.graph([*results, *stacked]), ic, im, ix)
    outer = dict(zip(pc, ic))
    invariant = [_hoisted(b, r, outer) for r in same]
    # the linear loop
    k = Builder(s.body.name)
    fc, fm, fx = s.parts(flags)
    qc, qm, qx = s.parts(s.body.params)
    now = dict(zip(same, _like(k, same)))
    dconsts, dcarries = _like(k, _pick(qc, fc), ".dot"), _like(k, _pick(qm, fm), ".dot")
    now |= dict(zip([*arrays, *stacked], _like(k, [*arrays, *stacked])))
    dxs = _like(k, _pick(qx, fx), ".dot")
    for n in again:
        now[n] = copy_node(k, n, [now[i] for i in n.inputs])
    outs = linear.push(k, [now[r] for r in residuals],
                       [*_spread(dconsts, fc), *_spread(dcarries, fm), *_spread(dxs, fx)])
    moving = [instantiate(k, r, o) for r, o, f in zip(results, outs, fm) if f]
    dys = [o for o in outs[s.m:] if o is not None]
    tc, tm, tx = s.parts(ts)
    found = s.add(b, k.graph([*moving, *dys]), [*invariant, *_pick(tc, fc)],
                  [instantiate(b, x, t) for x, t, f in zip(im, tm, fm) if f],
                  [*[ix[px.index(r)] for r in arrays], *forward[len(results):], *_pick(tx, fx)])
    tangents = [*_spread(found[:len(moving)], fm),
                *_spread(found[len(moving):], [o is not None for o in outs[s.m:]])]
    return forward[:len(results)], tangents


def _to_stack(b: Builder, residuals: Sequence[Node], there: Set[Node]) -> Nodes:
    """The nodes with the fewest bytes from which, and from what is `there`, residuals follow."""
    graph = Graph("turn", b.params, live(b.nodes, residuals), residuals)
    again = {n for n in graph.nodes if n.kind in _VIEWS or (
        n.kind == "elementwise" and n.op is not None and n.op.cost <= REPEATED_COST)}
    return minimum_cut(graph, residuals, again, there)


def _between(b: Builder, residuals: Sequence[Node], known: Set[Node]) -> tuple[Nodes, Nodes]:
    """The nodes, in order, that lead from what is known to the residuals; and where they begin."""
    wanted, roots = set(residuals), []
    again: Nodes = []
    for n in (*reversed(b.nodes), *b.params):
        if n in wanted and n in known:
            roots.append(n)
        elif n in wanted:
            again.append(n)
            wanted.update(n.inputs)
    return again[::-1], roots[::-1]


def _depend_only_on(b: Builder, params: Sequence[Node]) -> set[Node]:
    """The nodes that are the same in every turn, constants aside."""
    out = set(params)
    for n in b.nodes:
        if n.inputs and n.kind != "control" and all(
                i in out or i.opname in ("constant", "size") for i in n.inputs):
            out.add(n)
    return out


def _hoisted(b: Builder, n: Node, now: dict[Node, Node]) -> Node:
    if n not in now:
        now[n] = b.constant(n.attrs["value"]) if is_scalar_constant(n) else copy_node(
            b, n, [_hoisted(b, i, now) for i in n.inputs])
    return now[n]


def scan_transpose(b: Builder, node: Node, cotangent: Any, wanted: Set[int]) -> Tangents:
    """The loop turned round: it carries the cotangents of carries and sums those of constants,
    or gives what these sums are products of.

    All carries are linear, as in the loops that `scan_linearize` makes.
    """
    s = _Scan(node)
    places = range(len(node.inputs))
    wc, _, wx = s.parts([i in wanted for i in places])
    pc, pm, px = s.parts(s.body.params)
    ic, _, ix = s.parts(node.inputs)
    no = [not w for w in wc], [not w for w in wx]
    given = [k for k, c in enumerate(cotangent[s.m:]) if c is not None]
    inner = Builder(s.body.name)
    fixed = _like(inner, _pick(pc, no[0]))
    sums = _like(inner, _pick(pc, wc), ".ct")
    cts = _like(inner, pm, ".ct")
    arrays = _like(inner, _pick(px, no[1]))
    cys = [inner.param(f"ct{k}", s.body.results[s.m + k].type) for k in given]
    index = s.parts(list(places))
    others = dict(zip([*_pick(index[0], no[0]), *_pick(index[2], no[1])], [*fixed, *arrays]))
    sources = [*_pick(index[0], wc), *index[1], *_pick(index[2], wx)]
    results = {**dict(enumerate(cts)), **{s.m + k: c for k, c in zip(given, cys)}}
    found = transposed_graph(inner, s.body, others, sources, results)
    n, m = len(sums), s.m
    late, now = _added(s, inner, found[:n], fixed)
    kept = [k for k, c in enumerate(now) if c is not None]
    back = [instantiate(inner, p, c) for p, c in zip(pm, found[n:n + m])]
    moved = [instantiate(inner, p, c) for p, c in zip(_pick(px, wx), found[n + m:])]
    operands = [x for x in dict.fromkeys(x for products in late for p in products
                                         for x in p.product.inputs)
                if x not in (*arrays, *cys, *moved)]
    inner.params = [p for p in inner.params if p not in sums or sums.index(p) in kept]
    body = inner.graph([*[accumulated(inner, sums[k], now[k]) for k in kept], *back, *moved,
                        *operands])
    start = [*[zeros(b, sums[k].tensor) for k in kept],
             *[instantiate(b, p, c) for p, c in zip(pm, cotangent[:m])]]
    xs = [*_pick(ix, no[1]), *[cotangent[s.m + k] for k in given]]
    outs = s.add(b, body, _pick(ic, no[0]), start, xs, not s.reverse)
    k = len(kept)
    stacked = dict(zip([*arrays, *cys, *moved, *operands], [*xs, *outs[k + m:]]))
    totals = dict(zip(kept, outs))
    for i, products in enumerate(late):
        for product in products:
            term = product.over_turns(b, stacked.__getitem__)
            totals[i] = b.add("add", totals[i], term) if i in totals else term
    return [*_spread([totals.get(i) for i in range(n)], wc), *outs[k:k + m],
            *_spread(outs[k + m:], wx)]


def _added(s: _Scan, b: Builder, cotangents: Sequence[Any], fixed: Nodes
           ) -> tuple[list[list[LateProduct]], Tangents]:
    """What a turn adds to each sum: products that are taken after the loop, and the rest."""
    if not isinstance(s.length, int) or s.length < 2:
        return [[] for _ in cotangents], list(cotangents)
    varying = {*b.params, *b.nodes}.difference(fixed, _depend_only_on(b, fixed))
    late, now = [], []
    for c in cotangents:
        products, others = ([], []) if c is None else late_products(c, varying)
        late.append(products)
        if products:
            c = functools.reduce(lambda x, y: b.add("add", x, y), others) if others else None
        now.append(c)
    return late, now


def scan_batch(b: Builder, node: Node, inputs: Sequence[Node], batched: Sequence[bool]
               ) -> list[tuple[Node, bool]]:
    """One loop over batched elements; the loop's axis stays the first of its arrays."""
    s = _Scan(node)
    size = next(x.shape[0] for x, is_ in zip(inputs, batched) if is_)
    flags = list(batched)
    while True:
        _, out = batch(s.body, flags, size)
        found = [a or o for a, o in zip(s.parts(flags)[1], out)]
        if found == s.parts(flags)[1]:
            break
        flags[s.c:s.c + s.m] = found
    kept = [*found, *out[s.m:]]
    body, _ = batch(s.body, flags, size, kept)
    ic, im, ix = s.parts(inputs)
    _, bm, bx = s.parts(batched)
    carries = [lead(b, x, size) if f and not is_ else x for x, f, is_ in zip(im, found, bm)]
    xs = [_exchanged(b, x) if is_ else x for x, is_ in zip(ix, bx)]
    outs = s.add(b, body, ic, carries, xs)
    return [(_exchanged(b, o) if f and k >= s.m else o, f)
            for k, (o, f) in enumerate(zip(outs, kept))]


def _exchanged(b: Builder, x: Node) -> Node:
    """The first two axes exchanged."""
    return b.add("transpose", x, perm=(1, 0, *range(2, len(x.shape))))


