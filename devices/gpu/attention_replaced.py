"""The steps that take the place of an attention and its derivatives: see `attention_backward`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from math import prod
from typing import Any

from weft.compiler.kernel.expr import Expr, Exprs, walk
from weft.compiler.kernel.index import Axis, as_index
from weft.compiler.kernel.ir import Buffer, Kernel, Library, Program, Reduce, Stage, Step, Store
from weft.compiler.kernel.plan import plan_memory
from weft.compiler.kernel.rename import Substitution, canonical, traffic, work
from weft.compiler.lazy_dataclass import replace
from weft.compiler.types import DTYPES, TensorType
from weft.devices.gpu.attention import ATTENTION, SCORE, Attention
from weft.devices.gpu.attention_group import GRADIENT, UPSTREAM, Gradient, Group, Place, size
from weft.devices.gpu.blas import split_product
from weft.devices.gpu.elements import outputs
from weft.devices.gpu.softmax_gradient import changed

__all__ = ["Replacement"]


class Replacement:
    """Replaces the steps of a group."""

    def __init__(self, program: Program, group: Group) -> None:
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
            index = index * size(a) + as_index(a)
        type = TensorType((prod(map(size, every)),), DTYPES["f32"])
        self.buffers.append(Buffer(name, type, "temp"))
        return Expr("load", type.dtype, name, (), (index,))

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
        of_queries = self._temporary("sound", (f.query,)) if masked and f.of_keys else None
        of_keys = self._temporary("sound", (f.key,)) if masked and f.dq else None
        steps = [self._dots(places["results"], dot, of_queries, base, scale)]
        if of_keys is not None:
            zero = Stage((f.depth,), (_zeros(0, f.k),))
            steps.append(self._row_kernel(f.key, (zero,), ((of_keys, _acc(0)),), "sound"))
        turns = self._temporary("turns", (f.query,)) if f.in_turns else None
        if turns is not None:
            none = Exprs().const(0, turns.dtype)
            steps.append(self._row_kernel(f.query, (), ((turns, none),), "turns"))
        form = replace(
            f, base=base, scale=scale, dot=dot, dq=places.get("dq"), dk=places.get("dk"),
            dv=places.get("dv"), sound=of_queries if f.of_keys else of_keys,
            own_sound=of_keys if f.in_turns else None,
            turns=(turns.what, turns.index[0]) if turns is not None else None)
        note = "derivatives of attention by tiles: weights are computed again, not stored"
        steps.append(self._step(GRADIENT, form, f"attention_{'keys' if f.of_keys else 'queries'}",
                                (self.group.given, self.group.slopes), note))
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
    rows = prod(map(size, (*form.batch, form.query, form.key)))
    d, e = size(form.depth), size(form.value)
    if isinstance(form, Attention):
        return 2.0 * rows * (d + e)
    made = (form.dq is not None) + (form.dk is not None)
    return 2.0 * rows * (d * (1 + made) + e * (1 + (form.dv is not None)))


def _position(steps: Sequence[Step], step: Step) -> int:
    return next(n for n, s in enumerate(steps) if s is step)


def _among(step: Step, steps: Sequence[Step]) -> bool:
    return any(s is step for s in steps)
