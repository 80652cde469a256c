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

from collections.abc import Callable
from math import prod

from weft.compiler.kernel.expr import Expr, walk
from weft.compiler.kernel.index import Axis, Index, as_index, linearize
from weft.compiler.kernel.ir import Kernel, Program, Step
from weft.compiler.kernel.plan import change_nested
from weft.compiler.kernel.rename import Substitution
from weft.compiler.lazy_dataclass import replace
from weft.compiler.target import Target
from weft.compiler.types import DTYPES
from weft.devices.gpu.attention import LEAST, SCORE, WIDEST
from weft.devices.gpu.attention_group import (
    UPSTREAM,
    Gradient,
    Group,
    Part,
    bound_name,
    plain_load,
    size,
)
from weft.devices.gpu.attention_replaced import Replacement
from weft.devices.gpu.blas import is_sum
from weft.devices.gpu.elements import Elements, Other, outputs, sorted_index
from weft.devices.gpu.softmax_gradient import SoftmaxGradient, changed, softmax_gradient

__all__ = ["take_gradients"]


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
                why_not = Replacement(program, group).problem() or (
                    "" if fits(group.gradient) else "shared memory holds no tiles of it")
                if why_not:
                    note = f"derivative of attention, but not in one kernel: {why_not}"
                    return _replaced(program, step, replace(step, notes=(*step.notes, note)))
                return Replacement(program, group).run()
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

def _group(program: Program, step: Step, name: str, along: int) -> Group | None:
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

    def group(self) -> Group:
        """The group; raises `Other` if there is none."""
        slope = self.elements.of(self.name, self.dims, self.type.dtype)
        found = softmax_gradient(slope, plain_load(UPSTREAM))
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
        expected = {"results": v, "dv": grad, "dq": k, "dk": q}
        if any(p.other != expected[n] for n, p in parts.items()):
            raise Other
        by = {Expr("load", DTYPES["f32"], raw, (), self.dims): plain_load(SCORE)}
        batch = tuple(a for a in self.axes if a is not query and a is not self.key)
        if max(size(depth), size(value)) > WIDEST or min(size(query), size(self.key)) < LEAST:
            raise Other
        types = {b.name: b.type for b in self.program.buffers}
        places = {n: p.place(p.step, types) for n, p in parts.items() if n != "results"}
        none = plain_load("")
        form = Gradient(batch, query, self.key, depth, value, q, k, v, grad, self._linear(
            changed(found.x, by)), self._linear(changed(found.slope, by)), none, none, none,
            found.through_max, None, places.get("dq"), places.get("dk"), places.get("dv"))
        counts = self._linear(changed(found.counts, by)) if found.counts is not None else None
        if counts is not None and any(e.what == SCORE for e in walk(counts)):
            raise Other
        return Group(form, found, counts, first, second, self.step, parts.get("results"),
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
        name = bound_name(step, e.what)
        shape = self.program.by_name[name].type.shape
        index = Substitution(to.get).index(linearize(e.index, shape))
        if not all(isinstance(a, Axis) and isinstance(c, int) for a, c in index.terms):
            raise Other
        return Expr("load", e.dtype, name, (), (sorted_index(index),))

    def _query(self, q: Expr, k: Expr, v: Expr) -> Axis:
        found = [a for a in self.axes if a in q.axes and a not in k.axes and a not in v.axes]
        if not found:
            raise Other
        return max(found, key=size)

    def _parts(self, found: SoftmaxGradient, query: Axis, depth: Axis, value: Axis
               ) -> dict[str, Part]:
        """The products with the weights and with dS."""
        parts: dict[str, Part] = {}
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
        name = bound_name(step, e.what)
        if name == self.name:
            return "s"
        if self.program.by_name[name].type != self.type or self.elements.writer(name) is None:
            return ""
        return "p" if found.is_weight(self.elements.of(name, self.dims, e.dtype)) else ""

    def _part(self, step: Step, mine: Expr, other: Expr, query: Axis, new: Axis
              ) -> tuple[int, Part]:
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
        return int(summed == as_index(self.key)), Part(step, self._array(step, other, to), to)

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
