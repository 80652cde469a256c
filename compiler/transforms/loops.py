"""Derivatives and batching of loops that run as long as a condition holds.

How many turns such a loop takes is known only when it has run. Reverse mode therefore keeps
snapshots of what it carries: at most SNAPSHOTS, evenly spaced; whenever there is no room for one
more, every second is dropped. Going backwards, the turns from one snapshot to the next are run
again, with snapshots of their own. So n turns cost, beside the backward turns,

- one further run of the loop to take snapshots, and one to take those in between;
- where n > SNAPSHOTS**2, n / SNAPSHOTS**2 / 2 further turns for each turn;

and memory for 2 * SNAPSHOTS carries. (After Griewank and Walther, "Evaluating Derivatives", 2008,
chapter 12, with two levels instead of a binomial schedule.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import Any

from weft.compiler.build import Builder
from weft.compiler.inline import inline, zeros
from weft.compiler.ir import Graph, Node
from weft.compiler.transforms.accumulate import accumulated
from weft.compiler.transforms.batch import batch, batch_into, lead
from weft.compiler.transforms.control import Nodes, Tangents, elements_of
from weft.compiler.transforms.jvp import instantiate, push_forward
from weft.compiler.transforms.transpose import dependents, transposed_graph
from weft.compiler.types import TensorType

__all__ = ["while_batch", "while_jointly", "while_jvp", "while_transpose"]

SNAPSHOTS = 256                 # of carries, where these are small
LEAST, MOST_BYTES = 16, 1 << 27


def _parts(node: Node, values: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    n = node.attrs["carries"]
    return list(values[:n]), list(values[n:])


def _like(b: Builder, params: Sequence[Node], suffix: str = "") -> Nodes:
    return [b.param(p.name + suffix, p.type) for p in params]


def _loop(b: Builder, carries: Nodes, consts: Nodes, cond: Graph, body: Graph) -> Nodes:
    return elements_of(b, b.add("while", *carries, *consts, cond=cond, body=body,
                                carries=len(carries)))


# ---- forward mode

def while_jointly(b: Builder, node: Node, inputs: Sequence[Node], ts: Tangents,
                  linearize: bool = False) -> tuple[Nodes, Tangents]:
    """One loop that carries tangents as well, within which `linearize` keeps both apart."""
    body, cond = node.attrs["body"], node.attrs["cond"]
    flags = _active(node, ts)
    fm, fc = _parts(node, flags)
    pm, pc = _parts(node, body.params)
    inner = Builder(body.name)
    carries = _like(inner, pm)
    dcarries = _like(inner, [p for p, f in zip(pm, fm) if f], ".dot")
    consts = _like(inner, pc)
    dconsts = _like(inner, [p for p, f in zip(pc, fc) if f], ".dot")
    rest = iter([*dcarries, *dconsts])
    results, outs = push_forward(inner, body, [*carries, *consts],
                                 [next(rest) if f else None for f in flags], linearize)
    moving = [instantiate(inner, r, o) for r, o, f in zip(results, outs, fm) if f]
    test = Builder(cond.name)
    qm, qc = _parts(node, cond.params)
    c = _like(test, qm)
    _like(test, [p for p, f in zip(pm, fm) if f], ".dot")
    k = _like(test, qc)
    _like(test, [p for p, f in zip(pc, fc) if f], ".dot")
    im, ic = _parts(node, inputs)
    tm, tc = _parts(node, ts)
    found = _loop(b, [*im, *[instantiate(b, x, t) for x, t, f in zip(im, tm, fm) if f]],
                  [*ic, *[t for t, f in zip(tc, fc) if f]],
                  test.graph(inline(test, cond, [*c, *k])), inner.graph([*results, *moving]))
    dots = iter(found[len(im):])
    return found[:len(im)], [next(dots) if f else None for f in fm]


def while_jvp(b: Builder, node: Node, ts: Tangents) -> Tangents:
    """The tangents alone, of a loop that carries both, for `while_transpose`."""
    return while_jointly(b, node, node.inputs, ts, linearize=True)[1]


def _active(node: Node, ts: Tangents) -> list[bool]:
    """Which operands have tangents, carries those of earlier turns too."""
    body, n = node.attrs["body"], node.attrs["carries"]
    flags = [t is not None for t in ts]
    while True:
        b = Builder("trial")
        params = _like(b, body.params)
        dots = [d if f else None for d, f in zip(_like(b, body.params), flags)]
        _, outs = push_forward(b, body, params, dots)
        found = [f or o is not None for f, o in zip(flags, outs)]
        if found == flags[:n]:
            return flags
        flags[:n] = found


# ---- reverse mode

def while_transpose(b: Builder, node: Node, cotangent: Any, wanted: Set[int]) -> Tangents:
    """The cotangents of operands in which the loop is linear; see the module's text."""
    return _Reverse(b, node, cotangent, wanted).operands()


class _Reverse:
    """A loop whose carries are partly linear in the operands `wanted`: those are turned round, the
    others, the state, are what has to be known of every turn."""

    def __init__(self, b: Builder, node: Node, cotangent: Any, wanted: Set[int]) -> None:
        self.b, self.node, self.cotangent, self.wanted = b, node, cotangent, wanted
        self.body, self.cond = node.attrs["body"], node.attrs["cond"]
        self.n = n = node.attrs["carries"]
        places = range(len(node.inputs))
        self.linear = self._linear_carries()
        self.state = [k for k in range(n) if k not in self.linear]
        self.fixed = [k for k in places[n:] if k not in wanted]
        self.sums = [k for k in places[n:] if k in wanted]
        self.types = [self.body.params[k].tensor for k in self.state]
        self.count = _snapshots(self.types)
        self.step = self._graph_of_state()

    def _linear_carries(self) -> list[int]:
        found = {k for k in self.wanted if k < self.n}
        while True:
            sources = [self.body.params[k] for k in (*found, *(k for k in self.wanted
                                                               if k >= self.n))]
            linear = dependents(self.body.nodes, sources)
            more = found | {k for k in range(self.n) if self.body.results[k] in linear}
            if more == found:
                return sorted(found)
            found = more

    def _graph_of_state(self) -> Graph:
        """A turn of the state alone: state and fixed constants to state."""
        needed = {self.body.results[k] for k in self.state}
        nodes = []
        for n in reversed(self.body.nodes):
            if n in needed:
                needed.update(n.inputs)
                nodes.append(n)
        params = [self.body.params[k] for k in (*self.state, *self.fixed)]
        return Graph("state", params, nodes[::-1], [self.body.results[k] for k in self.state])

    def _goes_on(self, b: Builder, state: Nodes, fixed: Nodes) -> Node:
        at = dict(zip((*self.state, *self.fixed), (*state, *fixed)))
        given = [at[k] if k in at else zeros(b, p.tensor)
                 for k, p in enumerate(self.cond.params)]
        return inline(b, self.cond, given)[0]

    # ---- the whole

    def operands(self) -> Tangents:
        """The cotangents of the operands."""
        b, node = self.b, self.node
        fixed = [node.inputs[k] for k in self.fixed]
        start = [node.inputs[k] for k in self.state]
        turns, stride, tape = self._record(start, fixed)
        ct = [instantiate(b, self.body.params[k], self.cotangent[k]) for k in self.linear]
        sums = [zeros(b, self.body.params[k].tensor) for k in self.sums]
        out = self._segments(turns, stride, tape, [*ct, *sums], fixed)
        found = dict(zip((*self.linear, *self.sums), out))
        return [found.get(k) if k in self.wanted else None for k in range(len(node.inputs))]

    def _record(self, start: Nodes, fixed: Nodes) -> tuple[Node, Node, Nodes]:
        """The number of turns, and snapshots of every so many of them (the stride)."""
        b = self.b
        one, none = b.scalar(1, "i64"), b.scalar(0, "i64")
        tape = [zeros(b, t, (self.count + 1,)) for t in self.types]
        found = self._while(
            b, [none, one, *start, *tape], fixed,
            lambda i, v, f: self._goes_on(i, v[2:2 + len(start)], f), self._round)
        return found[0], found[1], found[2 + len(start):]

    def _round(self, b: Builder, values: Nodes, fixed: Nodes) -> Nodes:
        """Turns until the snapshots are full or the loop ends; if full, every second is kept."""
        m = len(self.types)
        stride = values[1]
        end = b.add("mul", stride, b.scalar(self.count, "i64"))
        inner = self._while(
            b, [values[0], *values[2:]], [stride, end, *fixed],
            lambda i, v, f: i.add("and", i.add("lt", v[0], f[1]),
                                  self._goes_on(i, v[1:1 + m], f[2:])),
            lambda i, v, f: self._snap(i, v, f[0], f[2:]))
        state, tape = inner[1:1 + m], inner[1 + m:]
        more = self._goes_on(b, state, fixed)
        return [inner[0], b.add("select", more, b.add("mul", stride, b.scalar(2, "i64")), stride),
                *state, *[_choose(b, more, self._halved(b, t), t) for t in tape]]

    def _halved(self, b: Builder, tape: Node) -> Node:
        rest = tape.shape[1:]
        zero, ones = (0,) * len(rest), (1,) * len(rest)
        half = b.add("slice", tape, start=(0, *zero), limit=(self.count, *rest), stride=(2, *ones))
        tail = b.add("slice", tape, start=(self.count // 2, *zero), limit=(self.count + 1, *rest),
                     stride=(1, *ones))
        return b.add("concatenate", half, tail, axis=0)

    def _snap(self, b: Builder, values: Nodes, stride: Node, fixed: Nodes) -> Nodes:
        """One turn, its begin put among the snapshots if it is its turn (else in a last, unused
        place). `values` are the number of the turn, the state, the snapshots."""
        m = len(self.types)
        turn, state, tape = values[0], values[1:1 + m], values[1 + m:]
        due = b.add("eq", b.add("remainder", turn, stride), b.scalar(0, "i64"))
        place = b.add("select", due, b.add("floor_divide", turn, stride),
                      b.scalar(self.count, "i64"))
        kept = [_written(b, t, s, place) for t, s in zip(tape, state)]
        return [b.add("add", turn, b.scalar(1, "i64")),
                *inline(b, self.step, [*state, *fixed]), *kept]

    # ---- going back

    def _segments(self, turns: Node, stride: Node, tape: Nodes, cts: Nodes, fixed: Nodes) -> Nodes:
        """From the last snapshot to the first."""
        b, m = self.b, len(self.types)
        one = b.scalar(1, "i64")
        last = b.add("floor_divide", b.add("sub", turns, one), stride)
        short = b.add("floor_divide", b.add("add", stride, b.scalar(self.count - 1, "i64")),
                      b.scalar(self.count, "i64"))
        inner = [zeros(b, t, (self.count + 1,)) for t in self.types]

        def segment(i: Builder, v: Nodes, f: Nodes) -> Nodes:
            at, between, back = v[0], v[1:1 + m], v[1 + m:]
            turns, stride, short, tape, rest = f[0], f[1], f[2], f[3:3 + m], f[3 + m:]
            begin = i.add("mul", at, stride)
            length = i.add("minimum", stride, i.add("sub", turns, begin))
            state = [_read(i, t, at) for t in tape]
            filled = self._while(
                i, [i.scalar(0, "i64"), *state, *between], [length, short, *rest],
                lambda j, w, g: j.add("lt", w[0], g[0]),
                lambda j, w, g: self._snap(j, w, g[1], g[2:]))
            between = filled[1 + m:]
            done = self._while(
                i, [i.add("sub", length, i.scalar(1, "i64")), *back],
                [short, *between, *rest],
                lambda j, w, g: j.add("ge", w[0], j.scalar(0, "i64")),
                lambda j, w, g: self._backward(j, w, g[0], g[1:1 + m], g[1 + m:]))
            return [i.add("sub", at, i.scalar(1, "i64")), *between, *done[1:]]

        out = self._while(b, [last, *inner, *cts], [turns, stride, short, *tape, *fixed],
                          lambda i, v, f: i.add("ge", v[0], i.scalar(0, "i64")), segment)
        return out[1 + m:]

    def _backward(self, b: Builder, values: Nodes, short: Node, between: Nodes, fixed: Nodes
                  ) -> Nodes:
        """One turn back: the state before it, and the transposed body there."""
        turn, back = values[0], values[1:]
        place = b.add("floor_divide", turn, short)
        at = b.add("mul", place, short)
        state = self._while(
            b, [at, *[_read(b, t, place) for t in between]], [turn, *fixed],
            lambda i, v, f: i.add("lt", v[0], f[0]),
            lambda i, v, f: [i.add("add", v[0], i.scalar(1, "i64")),
                             *inline(i, self.step, [*v[1:], *f[1:]])])[1:]
        k = len(self.linear)
        others = dict(zip((*self.state, *self.fixed), (*state, *fixed)))
        found = transposed_graph(b, self.body, others, [*self.linear, *self.sums],
                                 dict(zip(self.linear, back[:k])))
        moved = [instantiate(b, x, c) for x, c in zip(back[:k], found[:k])]
        added = [s if c is None else accumulated(b, s, c) for s, c in zip(back[k:], found[k:])]
        return [b.add("sub", turn, b.scalar(1, "i64")), *moved, *added]

    def _while(self, b: Builder, carries: Nodes, consts: Nodes,
               goes_on: Callable[[Builder, Nodes, Nodes], Node],
               turn: Callable[[Builder, Nodes, Nodes], Nodes]) -> Nodes:
        """A loop, with what its graphs do written as functions."""
        graphs = []
        for name in ("cond", "body"):
            inner = Builder(name, b.origin)
            v = [inner.param(f"c{i}", x.type) for i, x in enumerate(carries)]
            f = [inner.param(f"k{i}", x.type) for i, x in enumerate(consts)]
            graphs.append(inner.graph([goes_on(inner, v, f)] if name == "cond"
                                      else turn(inner, v, f)))
        return _loop(b, carries, consts, *graphs)


def _snapshots(types: Sequence[TensorType]) -> int:
    """How many snapshots there is room for: an even number."""
    sizes = [t.nbytes for t in types]
    if not all(isinstance(s, int) for s in sizes):
        return 64
    room = MOST_BYTES // max(1, sum(s for s in sizes if isinstance(s, int)))
    return max(LEAST, min(SNAPSHOTS, room)) // 2 * 2


def _choose(b: Builder, mask: Node, x: Node, y: Node) -> Node:
    return b.add("select", b.broadcast(mask, x.shape, ()), x, y)


def _read(b: Builder, tape: Node, place: Node) -> Node:
    rest = tape.shape[1:]
    zero = b.scalar(0, "i64")
    found = b.add("dynamic_slice", tape, place, *[zero] * len(rest), sizes=(1, *rest))
    return b.reshape(found, rest)


def _written(b: Builder, tape: Node, value: Node, place: Node) -> Node:
    zero = b.scalar(0, "i64")
    return b.add("dynamic_update_slice", tape, b.reshape(value, (1, *value.shape)), place,
                 *[zero] * len(value.shape))


# ---- batching

def while_batch(b: Builder, node: Node, inputs: Sequence[Node], batched: Sequence[bool]
                ) -> list[tuple[Node, bool]]:
    """The loop over batched carries; where the condition is batched, until it holds for none:
    what has come to its end is kept as it is."""
    size = next(x.shape[0] for x, is_ in zip(inputs, batched) if is_)
    body, cond, n = node.attrs["body"], node.attrs["cond"], node.attrs["carries"]
    flags = list(batched)
    while True:
        _, out = batch(body, flags, size)
        apart = batch(cond, flags, size)[1][0]
        found = [f or o or apart for f, o in zip(flags, out)]
        if found == flags[:n]:
            break
        flags[:n] = found
    carries = [lead(b, x, size) if f and not is_ else x
               for x, f, is_ in zip(inputs[:n], flags, batched)]
    if not apart:
        made = batch(cond, flags, size)[0], batch(body, flags, size, flags[:n])[0]
    else:
        made = _any(cond, flags, size), _held(body, cond, flags, size, n)
    return list(zip(_loop(b, carries, list(inputs[n:]), *made), flags))


def _any(cond: Graph, flags: Sequence[bool], size: Any) -> Graph:
    """Whether the condition holds for any element."""
    every, _ = batch(cond, flags, size)
    b = Builder(cond.name)
    (test,) = inline(b, every, _like(b, every.params))
    return b.graph([b.add("reduce_or", test, axes=(0,))])


def _held(body: Graph, cond: Graph, flags: Sequence[bool], size: Any, n: int) -> Graph:
    """The batched body, for the elements for which the condition holds."""
    like, _ = batch(body, flags, size, flags[:n])
    b = Builder(body.name)
    params = _like(b, like.params)
    (test,), _ = batch_into(b, cond, params, flags)
    results = inline(b, like, params)
    return b.graph([b.add("select", b.broadcast(test, r.shape, (0,)), r, old)
                    for r, old in zip(results, params)])
