"""The derivatives of attention, found among a program's kernels, as steps that store no weights.

Of a gradient through softmax(scores(q k)) v, fusion leaves products (scores, results, and
dV = P^T dO, dP = dO v^T, dQ = dS k, dK = dS^T q) and, between them, kernels that make P of the
scores and dS of dP. What an element of P or dS is, is put together again here from those kernels,
over axes of the scores, however many kernels there are: an expression of the two products and of
reductions over a row. If dS has the form ``slope(P * (dP - sum(P * dP)))``, where `slope` may be
anything that is computed for each score (the derivatives of scale, mask and bias), these steps take
the place of all of that (Dao, 2023):

- ``attention``, which also writes `base` and `scale` of each row, so that its weights are
  ``exp(score - base) * scale``;
- a kernel over rows: ``dot = sum(dO * O)``, which is sum(P * dP);
- ``attention_gradient``, twice: of keys (dK, dV) and of queries (dQ).

Where something else reads the weights or what lies between, all stays as it is, and the step that
makes dS has a note of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from math import prod
from typing import Any

from weft.compiler.kernel.expr import Expr, Exprs, walk
from weft.compiler.kernel.index import Axis, Index, as_index, linearize
from weft.compiler.kernel.ir import Buffer, Kernel, Library, Program, Reduce, Stage, Step, Store
from weft.compiler.kernel.plan import change_nested, plan_memory
from weft.compiler.kernel.rename import Substitution, canonical, traffic, work
from weft.compiler.lazy_dataclass import dataclass, replace
from weft.compiler.target import Target
from weft.compiler.types import DTYPES, TensorType
from weft.devices.gpu.attention import ATTENTION, LEAST, SCORE, WIDEST, Attention
from weft.devices.gpu.blas import is_sum, split_product
from weft.devices.gpu.elements import Elements, Other, outputs, sorted_index
from weft.devices.gpu.softmax_gradient import SoftmaxGradient, changed, softmax_gradient

__all__ = ["GRADIENT", "UPSTREAM", "Gradient", "take_gradients"]

GRADIENT = "attention_gradient"     # the steps' name
UPSTREAM = "upstream"               # in their expressions: the derivative by the softmax's argument

Place = tuple[str, Index]


@dataclass(frozen=True)
class Gradient:
    """Derivatives of one attention; buffers are ``b0``, ``b1``, …, with linear indices.

    With ``P = exp(score - base) * scale`` and ``dP = sum(grad * v over value)``, the derivative by
    the product of a query and a key is ``dS = slope(P * (dP - dot))``; dK is ``sum(dS * q)`` and dV
    ``sum(P * grad)`` over queries, dQ ``sum(dS * k)`` over keys. `through_max` says that scores had
    their maximum taken off by differentiable code, whose derivative is 0 if all is finite. `sound`
    is 0, or NaN where something on the side that is gone along is not finite.
    """

    batch: tuple[Axis, ...]
    query: Axis
    key: Axis
    depth: Axis
    value: Axis
    q: Expr
    k: Expr
    v: Expr
    grad: Expr
    score: Expr
    slope: Expr
    base: Expr
    scale: Expr
    dot: Expr
    through_max: bool = False
    sound: Expr | None = None
    dq: Place | None = None
    dk: Place | None = None
    dv: Place | None = None

    @property
    def of_keys(self) -> bool:
        """Whether it is the step that has tiles of keys."""
        return self.dq is None

    @property
    def parts(self) -> tuple[Gradient, ...]:
        """The steps of which each is one of a kind."""
        keys = replace(self, dq=None) if self.dk is not None or self.dv is not None else None
        queries = replace(self, dk=None, dv=None) if self.dq is not None else None
        return tuple(p for p in (keys, queries) if p is not None)

    def __repr__(self) -> str:
        axes = ", ".join(f"{a} in {a.extent}" for a in (
            *self.batch, self.query, self.key, self.depth, self.value))
        made = ", ".join(f"{n} = {p[0]}[{p[1]}]" for n, p in (
            ("dq", self.dq), ("dk", self.dk), ("dv", self.dv)) if p is not None)
        more = (", through the maximum" if self.through_max else "") + (
            f", sound {self.sound}" if self.sound is not None else "")
        return (f"({axes}): score = {self.score} of {self.q} * {self.k}; weights by {self.base}, "
                f"{self.scale}; upstream = weight * ({self.grad} * {self.v} - {self.dot}); "
                f"slope = {self.slope}; {made}{more}")


def take_gradients(program: Program, target: Target, fits: Callable[[Gradient], bool]) -> Program:
    """The program with each attention of which there are derivatives as steps that store no
    weights, where `fits` holds of these."""
    if target.precision != "highest":
        return program
    program = change_nested(program, lambda p: take_gradients(p, target, fits))
    for step in program.steps:
        if any(step is s for s in program.steps):
            program = _taken(program, step, fits)
    return program


def _taken(program: Program, step: Step, fits: Callable[[Gradient], bool]) -> Program:
    """The program without a step that makes dS, and all that belongs to it, if it is one."""
    for name in _candidates(program, step):
        for along in (-1, -2):
            group = _group(program, step, name, along)
            if group is not None:
                why_not = _Rewriting(program, group).problem() or (
                    "" if fits(group.gradient) else "shared memory holds no tiles of it")
                if why_not:
                    note = f"derivative of attention, but not in one kernel: {why_not}"
                    return _replaced(program, step, replace(step, notes=(*step.notes, note)))
                return _Rewriting(program, group).run()
    return program


def _replaced(program: Program, step: Step, by: Step) -> Program:
    return replace(program, steps=tuple(by if s is step else s for s in program.steps))


def _candidates(program: Program, step: Step) -> list[str]:
    """Temporaries of a kernel, read by one or two products alone, that dS may be."""
    kernel = step.kernel
    if not isinstance(kernel, Kernel) or is_sum(kernel) or kernel.updates:
        return []
    found = []
    for name in outputs(step):
        readers = [s for s in program.steps if name in s.buffers and s is not step]
        type = program.by_name[name].type
        if program.by_name[name].kind == "temp" and type.dtype.name == "f32" \
                and len(type.shape) > 1 and len(readers) in (1, 2) \
                and all(isinstance(s.kernel, Kernel) and is_sum(s.kernel) for s in readers):
            found.append(name)
    return found


# ---- the steps that belong together

@dataclass(frozen=True)
class _Part:
    """A product with the weights or dS: its step, the other factor, and what its axes are."""

    step: Step
    other: Expr
    axes: dict[Axis, Index]

    def place(self, step: Step, types: dict[str, TensorType]) -> Place:
        """Where the product's step, or one for its sums alone, writes."""
        kernel = step.kernel
        assert isinstance(kernel, Kernel)
        store = kernel.stages[1].stores[0]
        name = _bound(step, store.buffer)
        index = linearize(store.index, types[name].shape)
        return name, Substitution(self.axes.get).index(index)


@dataclass(frozen=True)
class _Group:
    """One attention and its derivatives; the form's buffers are the program's."""

    gradient: Gradient
    softmax: SoftmaxGradient
    counts: Expr | None
    scores: Step
    given: Step
    slopes: Step
    results: _Part | None
    dq: _Part | None
    dk: _Part | None
    dv: _Part | None
    used: tuple[Step, ...]

    @property
    def derivatives(self) -> list[_Part]:
        """The products that make them."""
        return [p for p in (self.dv, self.dq, self.dk) if p is not None]

    @property
    def products(self) -> list[_Part]:
        """Those whose results stay."""
        return [*([self.results] if self.results is not None else []), *self.derivatives]


def _group(program: Program, step: Step, name: str, along: int) -> _Group | None:
    try:
        return _Matching(program, step, name, along).group()
    except Other:
        return None


class _Matching:
    """Finds the group around a step that makes dS, whose elements are `dims` of fresh axes."""

    def __init__(self, program: Program, step: Step, name: str, along: int) -> None:
        self.program, self.step, self.name = program, step, name
        type = program.by_name[name].type
        if not type.is_static:
            raise Other
        extents = [d for d in type.shape if isinstance(d, int)]
        axes = [Axis(f"a{n}", d) for n, d in enumerate(extents)]
        self.type, self.dims, self.key = type, tuple(map(as_index, axes)), axes[along]
        self.axes = [a for a in axes if a.extent != 1]
        self.elements = Elements(program, self.key, prod(extents))

    def group(self) -> _Group:
        """The group; raises `Other` if there is none."""
        slope = self.elements.of(self.name, self.dims, self.type.dtype)
        found = softmax_gradient(slope, _plain_load(UPSTREAM))
        if found is None:
            raise Other
        scores = {e.what for e in walk(found.x) if e.kind == "load"
                  and self.elements.is_product(e.what) and e.index == self.dims}
        if len(scores) != 1 or found.given.index != self.dims:
            raise Other
        (raw,) = scores
        first, second = (self._writer(n) for n in (raw, found.given.what))
        (q, k), depth = self._factors(first, raw, "depth")
        (grad, v), value = self._factors(second, found.given.what, "value")
        query = self._query(q, k, v)
        parts = self._parts(found, query, depth, value)
        if any(p.other != e for n, p in parts.items() for e in (
                {"results": v, "dv": grad, "dq": k, "dk": q}[n],)):
            raise Other
        by = {Expr("load", DTYPES["f32"], raw, (), self.dims): _plain_load(SCORE)}
        batch = tuple(a for a in self.axes if a is not query and a is not self.key)
        if max(_size(depth), _size(value)) > WIDEST or min(_size(query), _size(self.key)) < LEAST:
            raise Other
        types = {b.name: b.type for b in self.program.buffers}
        places = {n: p.place(p.step, types) for n, p in parts.items() if n != "results"}
        none = _plain_load("")
        form = Gradient(batch, query, self.key, depth, value, q, k, v, grad, self._linear(
            changed(found.x, by)), self._linear(changed(found.slope, by)), none, none, none,
            found.through_max, **places)
        counts = self._linear(changed(found.counts, by)) if found.counts is not None else None
        if counts is not None and any(e.what == SCORE for e in walk(counts)):
            raise Other
        return _Group(form, found, counts, first, second, self.step, parts.get("results"),
                      parts.get("dq"), parts.get("dk"), parts.get("dv"),
                      tuple(self.elements.used.values()))

    def _writer(self, name: str) -> Step:
        step = self.elements.writer(name)
        if step is None:
            raise Other
        return step

    def _factors(self, step: Step, name: str, axis: str) -> tuple[tuple[Expr, Expr], Axis]:
        """The arrays of a product over the axes of scores: that without the key, and that with
        it; and the axis that it sums over."""
        kernel = step.kernel
        assert isinstance(kernel, Kernel)
        if len(kernel.stages[0].axes) != 1 or len(kernel.stages[1].stores) != 1:
            raise Other
        (summed,) = kernel.stages[0].axes
        new = Axis(axis, summed.extent)
        to = _inverse(kernel.stages[1].stores[0].index, self.dims)
        if set(to) != {a for a in kernel.axes if a.extent != 1}:
            raise Other
        to[summed] = as_index(new)
        one, two = (self._array(step, e, to) for e in kernel.reduces[0].value.args)
        if (self.key in one.axes) == (self.key in two.axes):
            raise Other
        return ((two, one) if self.key in one.axes else (one, two)), new

    def _array(self, step: Step, e: Expr, to: dict[Axis, Index]) -> Expr:
        """An element of an array of the program, with a linear index over the form's axes."""
        if e.kind != "load" or e.args or e.dtype.name != "f32":
            raise Other
        name = _bound(step, e.what)
        shape = self.program.by_name[name].type.shape
        index = Substitution(to.get).index(linearize(e.index, shape))
        if not all(isinstance(a, Axis) and isinstance(c, int) for a, c in index.terms):
            raise Other
        return Expr("load", e.dtype, name, (), (sorted_index(index),))

    def _query(self, q: Expr, k: Expr, v: Expr) -> Axis:
        found = [a for a in self.axes if a in q.axes and a not in k.axes and a not in v.axes]
        if not found:
            raise Other
        return max(found, key=_size)

    def _parts(self, found: SoftmaxGradient, query: Axis, depth: Axis, value: Axis
               ) -> dict[str, _Part]:
        """The products with the weights and with dS."""
        parts: dict[str, _Part] = {}
        for step in self.program.steps:
            kernel = step.kernel
            if not isinstance(kernel, Kernel) or not is_sum(kernel):
                continue
            for mine, other in (kernel.reduces[0].value.args, kernel.reduces[0].value.args[::-1]):
                of = self._of(step, mine, found)
                if of:
                    number, part = self._part(step, mine, other, query, value if of == "p" else
                                              depth)
                    name = {"p0": "dv", "p1": "results", "s0": "dk", "s1": "dq"}[f"{of}{number}"]
                    if name in parts:
                        raise Other
                    parts[name] = part
        if not parts.keys() & {"dq", "dk"}:
            raise Other
        return parts

    def _of(self, step: Step, e: Expr, found: SoftmaxGradient) -> str:
        """Whether a factor is an element of the weights (p) or of dS (s)."""
        if e.kind != "load" or e.args:
            return ""
        name = _bound(step, e.what)
        if name == self.name:
            return "s"
        if self.program.by_name[name].type != self.type or self.elements.writer(name) is None:
            return ""
        return "p" if found.is_weight(self.elements.of(name, self.dims, e.dtype)) else ""

    def _part(self, step: Step, mine: Expr, other: Expr, query: Axis, new: Axis
              ) -> tuple[int, _Part]:
        """A product, and whether it sums over keys (1) or over queries (0)."""
        kernel = step.kernel
        assert isinstance(kernel, Kernel)
        to = _inverse(mine.index, self.dims)
        rest = [a for a in kernel.axes if a not in to and a.extent != 1]
        if len(rest) != 1 or rest[0].extent != new.extent or len(kernel.stages[0].axes) != 1:
            raise Other
        summed = to.get(kernel.stages[0].axes[0])
        if summed not in (as_index(query), as_index(self.key)):
            raise Other
        to[rest[0]] = as_index(new)
        return int(summed == as_index(self.key)), _Part(step, self._array(step, other, to), to)

    def _linear(self, e: Expr) -> Expr:
        """An expression with linear indices into the arrays of the program."""
        args = tuple(map(self._linear, e.args))
        if e.kind != "load" or e.what in (SCORE, UPSTREAM):
            return replace(e, args=args)
        shape = self.program.by_name[e.what].type.shape
        return replace(e, args=args, index=(linearize(e.index, shape),))


def _inverse(index: tuple[Index, ...], dims: tuple[Index, ...]) -> dict[Axis, Index]:
    """What an index over a kernel's axes says that these are, if it is one of these axes."""
    out: dict[Axis, Index] = {}
    for i, dim in zip(index, dims):
        axis = i.as_axis
        if axis is not None and dim.as_axis is not None:
            out[axis] = dim
        elif i != dim:
            raise Other
    if len(index) != len(dims):
        raise Other
    return out


def _bound(step: Step, name: str) -> str:
    """The program's name of a kernel's buffer."""
    return next((b for (n, _), b in zip(step.kernel.buffers, step.buffers) if n == name), "")


def _plain_load(name: str) -> Expr:
    return Expr("load", DTYPES["f32"], name, (), (as_index(0),))


def _size(axis: Axis) -> int:
    return axis.extent if isinstance(axis.extent, int) else 0


# ---- the steps that take their place

class _Rewriting:
    """Replaces the steps of a group."""

    def __init__(self, program: Program, group: _Group) -> None:
        self.program, self.group, self.form = program, group, group.gradient
        self.buffers = list(program.buffers)
        self.removed = self._removed()
        steps = program.steps
        self.second = min(_position(steps, p.step) for p in group.derivatives)
        self.first = _position(steps, group.results.step) if group.results else self.second

    def _removed(self) -> list[Step]:
        """The steps that are needed no more: those taken apart whose results nobody else reads."""
        g = self.group
        removed = [*g.used, g.scores, g.given, g.slopes, *(p.step for p in g.products)]
        kept: Step | None = g.slopes
        while kept is not None:
            kept = next((s for s in g.used if _among(s, removed) and self._is_read(s, removed)),
                        None)
            removed = [s for s in removed if s is not kept]
        return removed

    def _is_read(self, step: Step, removed: Sequence[Step]) -> bool:
        """Whether a step's results are read by any other than these."""
        made = set(outputs(step))
        return not made.isdisjoint(self.program.results) or any(
            not made.isdisjoint(s.buffers) for s in self.program.steps if not _among(s, removed))

    def _needed(self, step: Step) -> str:
        """The result of a step that others read."""
        others = [s for s in self.program.steps if not _among(s, self.removed) and s is not step]
        read = {*self.program.results, *(b for s in others for b in s.buffers)}
        return next((b for b in outputs(step) if b in read), outputs(step)[0])

    def problem(self) -> str:
        """Why the steps cannot be replaced; empty if they can."""
        g, steps = self.group, self.program.steps
        stay = [p.step for p in g.products]
        gone = {b for s in self.removed if not _among(s, stay) for b in outputs(s)}
        for step in (g.slopes, g.given, g.scores, *g.used):
            kept = not _among(step, self.removed)
            if _among(step, (g.slopes, g.given, g.scores)) and (
                    kept or self._is_read(step, self.removed)):
                return f"%{self._needed(step)} is needed elsewhere"
            if kept and not gone.isdisjoint(step.buffers):
                return f"%{outputs(step)[0]} is needed elsewhere"
        bound = {e.what for e in self._loads()}
        if not bound.isdisjoint(gone):
            return "scores are needed for what is done to them"
        for name in bound:
            writers = [n for n, s in enumerate(steps) if name in outputs(s)]
            late = self.first if name != self.form.grad.what else self.second
            if len(writers) > 1 or any(w >= late for w in writers):
                return f"%{name} is written in between"
        return ""

    def _loads(self) -> Iterator[Expr]:
        f, counts = self.form, self.group.counts
        for root in (f.q, f.k, f.v, f.grad, f.score, f.slope, *([counts] if counts else [])):
            yield from (e for e in walk(root) if e.kind == "load" and e.what not in (
                SCORE, UPSTREAM))

    def run(self) -> Program:
        """The program with the new steps."""
        steps = self.program.steps
        places, rests = self._places()
        base, scale = (self._temporary(n, (self.form.query,)) for n in ("base", "scale"))
        forward = self._forward(places["results"], base, scale)
        backward = self._backward(places, base, scale)
        out: list[Step] = []
        for n, step in enumerate(steps):
            if n == self.first:
                out.append(forward)
            if n == self.second:
                out += backward
            out += rests.get(n, [])
            if not _among(step, self.removed):
                out.append(step)
        return plan_memory(replace(self.program, steps=tuple(out), buffers=tuple(self.buffers)))

    def _places(self) -> tuple[dict[str, Place], dict[int, list[Step]]]:
        """Where the results of products go, and the steps behind those that are changed further."""
        g = self.group
        places: dict[str, Place] = {}
        rests: dict[int, list[Step]] = {}
        for name, part in (("results", g.results), ("dq", g.dq), ("dk", g.dk), ("dv", g.dv)):
            if part is None:
                continue
            kernel, step = part.step.kernel, part.step
            assert isinstance(kernel, Kernel)
            stores = kernel.stages[1].stores
            if len(stores) > 1 or stores[0].value.kind != "acc":
                step, rest = split_product(part.step, self.buffers)
                rests[_position(self.program.steps, part.step)] = [rest]
            places[name] = part.place(step, self._types())
        if "results" not in places:         # only their derivative is known
            out = self._temporary("results", (self.form.query, self.form.value))
            places["results"] = out.what, out.index[0]
        return places, rests

    def _types(self) -> dict[str, TensorType]:
        return {b.name: b.type for b in self.buffers}

    def _temporary(self, stem: str, axes: tuple[Axis, ...]) -> Expr:
        """An element of a new temporary over the batch and these axes."""
        taken = {b.name for b in self.buffers}
        stem = f"{self.group.slopes.name}.{stem}"
        name = next(n for i in count() if (n := f"{stem}{i or ''}") not in taken)
        index = as_index(0)
        every = (*self.form.batch, *axes)
        for a in every:
            index = index * _size(a) + as_index(a)
        size = prod(map(_size, every))
        self.buffers.append(Buffer(name, TensorType((size,), DTYPES["f32"]), "temp"))
        return Expr("load", DTYPES["f32"], name, (), (index,))

    def _forward(self, result: Place, base: Expr, scale: Expr) -> Step:
        """The attention itself, which leaves what its weights are computed from again."""
        g, f, found = self.group, self.form, self.group.softmax
        number = {}
        for e in (*walk(found.base), *walk(found.divisor)):
            if e.kind == "acc":
                number[e] = replace(e, what=("max", "sum", "or").index(e.what[0]))
        form = Attention(f.batch, f.query, f.key, f.depth, f.value, f.q, f.k, f.v, f.score,
                         changed(found.base, number), changed(found.divisor, number), result, 0, 1,
                         2 if g.counts is not None else -1, g.counts,
                         stats=((base.what, base.index[0]), (scale.what, scale.index[0])))
        return self._step(ATTENTION, form, "attention", (
            g.scores, *g.used, *(p.step for p in [g.results] if p is not None)),
                          "attention in one kernel: scores are not stored")

    def _backward(self, places: dict[str, Place], base: Expr, scale: Expr) -> list[Step]:
        f = self.form
        dot = self._temporary("dot", (f.query,))
        masked = any(e.what == "select" for e in walk(f.score))
        of_queries = self._temporary("sound", (f.query,)) if masked and (f.dk or f.dv) else None
        of_keys = self._temporary("sound", (f.key,)) if masked and f.dq else None
        steps = [self._dots(places["results"], dot, of_queries, base, scale)]
        if of_keys is not None:
            zero = Stage((f.depth,), (_zeros(0, f.k),))
            steps.append(self._row_kernel(f.key, (zero,), ((of_keys, _acc(0)),), "sound"))
        form = replace(f, base=base, scale=scale, dot=dot, **{
            n: p for n, p in places.items() if n != "results"})
        note = "derivatives of attention by tiles: weights are computed again, not stored"
        for part in form.parts:
            made = replace(part, sound=of_queries if part.of_keys else of_keys)
            kind = "keys" if part.of_keys else "queries"
            steps.append(self._step(GRADIENT, made, f"attention_{kind}", (
                self.group.given, self.group.slopes), note))
        return steps

    def _dots(self, result: Place, dot: Expr, sound: Expr | None, base: Expr, scale: Expr) -> Step:
        """The kernel that multiplies results and their derivatives, and looks for what is not
        finite."""
        f, made = self.form, Exprs()
        f32 = DTYPES["f32"]
        out = Expr("load", f32, result[0], (), (result[1],))
        sums = [Reduce(0, "sum", made.apply("mul", f32, f.grad, out), f32), _zeros(1, f.grad)]
        # of infinite dO, dP is infinite for all keys, and so sum(P * dP), less each, is NaN
        stages, stores = [], [(dot, made.apply("add", f32, _acc(0), _acc(1)))]
        if sound is not None:
            stages.append(Stage((f.depth,), (_zeros(2, f.q),)))
            rows = made.apply("mul", f32, made.apply("add", f32, base, scale), made.const(0, f32))
            both = made.apply("add", f32, _acc(1), _acc(2))
            stores.append((sound, made.apply("add", f32, both, rows)))
        return self._row_kernel(f.query, (Stage((f.value,), tuple(sums)), *stages), stores, "dot")

    def _row_kernel(self, axis: Axis, stages: Sequence[Stage],
                    results: Sequence[tuple[Expr, Expr]], name: str) -> Step:
        """A kernel over the batch and one axis that stores values in new temporaries."""
        stores = tuple(Store(to.what, to.index, value) for to, value in results)
        every = (*stages, Stage((), (), stores))
        types, outs = self._types(), tuple(s.buffer for s in stores)
        read = {e.what: None for e in walk(*(r for s in every for r in s.roots))
                if e.kind == "load"}
        kernel = Kernel((*self.form.batch, axis), every, tuple(
            (n, _flat(types[n])) for n in (*read, *outs)), outs)
        made, g = canonical(kernel), self.group
        return Step(made, (*read, *outs), f"{_stem(g.slopes)}_attention_{name}", g.slopes.ops,
                    g.slopes.origins, (), work(made), traffic(made))

    def _step(self, op: str, form: Attention | Gradient, name: str, of: Sequence[Step], note: str
              ) -> Step:
        numbered, bound, outs = _numbered(form)
        types = self._types()
        buffers = tuple((f"b{n}", _flat(types[b])) for n, b in enumerate(bound))
        library = Library(op, (("form", numbered),), buffers,
                          tuple(f"b{bound.index(b)}" for b in outs))
        return Step(library, bound, f"{_stem(of[-1])}_{name}", tuple(o for s in of for o in s.ops),
                    tuple(dict.fromkeys(o for s in of for o in s.origins)),
                    tuple(dict.fromkeys((*(n for s in of for n in s.notes), note))),
                    _flops(form), float(sum(t.nbytes for _, t in buffers
                                            if isinstance(t.nbytes, int))))


def _numbered(form: Any) -> tuple[Any, tuple[str, ...], list[str]]:
    """A form with buffers and axes by number, its buffers, and those of them that it writes."""
    values = {n: getattr(form, n) for n in type(form).__match_args__}
    places = [p for v in values.values() for p in ([v] if _is_place(v) else v if isinstance(
        v, tuple) else []) if _is_place(p)]
    read = {e.what: None for v in values.values() if isinstance(v, Expr) for e in walk(v)
            if e.kind == "load" and e.what not in (SCORE, UPSTREAM)}
    outs = [p[0] for p in places]
    bound = (*read, *outs)
    every = (*form.batch, form.query, form.key, form.depth, form.value)
    axes = {a: Axis(f"i{n}", a.extent) for n, a in enumerate(every)}
    swap = Substitution(lambda a: as_index(axes[a]), {b: f"b{n}" for n, b in enumerate(bound)})

    def new(v: Any) -> Any:
        if isinstance(v, Expr):
            return swap.expr(v)
        if isinstance(v, Axis):
            return axes[v]
        if _is_place(v):
            return f"b{bound.index(v[0])}", swap.index(v[1])
        return tuple(map(new, v)) if isinstance(v, tuple) else v

    return replace(form, **{n: new(v) for n, v in values.items()}), bound, outs


def _is_place(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)


def _zeros(number: int, e: Expr) -> Reduce:
    """A sum that is 0, or NaN where something is not finite."""
    made = Exprs()
    return Reduce(number, "sum", made.apply("mul", e.dtype, e, made.const(0, e.dtype)), e.dtype)


def _acc(number: int) -> Expr:
    return Expr("acc", DTYPES["f32"], number)


def _flat(type: TensorType) -> TensorType:
    return TensorType((prod(d for d in type.shape if isinstance(d, int)),), type.dtype)


def _stem(step: Step) -> str:
    return step.name.partition("_")[0]


def _flops(form: Attention | Gradient) -> float:
    """Multiplications and additions of its products."""
    rows = prod(map(_size, (*form.batch, form.query, form.key)))
    d, e = _size(form.depth), _size(form.value)
    if isinstance(form, Attention):
        return 2.0 * rows * (d + e)
    if not form.of_keys:
        return 2.0 * rows * (2 * d + e)
    return 2.0 * rows * (d * (1 + (form.dk is not None)) + e * (1 + (form.dv is not None)))


def _position(steps: Sequence[Step], step: Step) -> int:
    return next(n for n, s in enumerate(steps) if s is step)


def _among(step: Step, steps: Sequence[Step]) -> bool:
    return any(s is step for s in steps)
