"""Attention as one kernel: softmax(scores(q k)) v, found among a program's kernels.

What tracing leaves of attention, written out or by `weft.nn`, is three kernels behind one another:
a product with whatever is done to scores (scale, bias, mask), a softmax over each row, a product
with the values. Where the arrays between them are used by nobody else, a step ``attention`` takes
their place: it goes along the keys once and never stores the scores (Dao et al., 2022). Its
arithmetic is float32's throughout, like that of the kernels that it replaces; where precision was
given up (`precision`), tensor cores multiply rounded operands, as they do in products.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from weft.compiler.kernel.expr import Expr, walk
from weft.compiler.kernel.index import Axis, Index, as_index, linearize
from weft.compiler.kernel.ir import Kernel, Library, Program, Reduce, Step, Store
from weft.compiler.kernel.plan import change_nested, plan_memory
from weft.compiler.kernel.rename import Substitution
from weft.compiler.lazy_dataclass import dataclass, replace
from weft.compiler.target import Target
from weft.compiler.types import TensorType
from weft.devices.gpu.blas import is_sum
from weft.devices.gpu.elements import moved

__all__ = ["ATTENTION", "SCORE", "Attention", "attention_of", "take_attention"]

ATTENTION = "attention"     # the steps' name
SCORE = "<score>"           # in its expressions: the product of a query and a key
WIDEST = 128                # elements of a value, for which registers hold the results of a tile
TENSOR_CORES = 80           # the architecture from which on tensor cores take tf32 and bf16
LEAST = 16                  # queries, and keys, from which tiles are worth it


@dataclass(frozen=True)
class Attention:
    """One attention over axes of its own; buffers are ``b0``, ``b1``, …, with linear indices.

    For each point of `batch` and each of `query`, scores are `score` of the products
    ``sum(q * k over depth)``, for each of `key`; results, over `value`, are
    ``sum(exp(score - base) * v) / divisor``, where `base` is an expression of the greatest score
    (reduction number `greatest`), and `divisor` one of the sum of exponentials (`total`) and of
    whether `counts` was true for any key (`some`, -1 if nobody asks). Of each row, `base` and
    ``1 / divisor`` are written to the two places `stats`, if there are such.
    """

    batch: tuple[Axis, ...]
    query: Axis
    key: Axis
    depth: Axis
    value: Axis
    q: Expr
    k: Expr
    v: Expr
    score: Expr
    base: Expr
    divisor: Expr
    result: tuple[str, Index]
    greatest: int
    total: int
    some: int = -1
    counts: Expr | None = None
    stats: tuple[tuple[str, Index], ...] | None = None

    def __repr__(self) -> str:
        axes = ", ".join(f"{a} in {a.extent}" for a in (
            *self.batch, self.query, self.key, self.depth, self.value))
        some = f", some {self.counts}" if self.counts is not None else ""
        some += "".join(f", {n}[{i}]" for n, i in self.stats or ())
        return (f"({axes}): score = {self.q} * {self.k}; {self.result[0]}[{self.result[1]}] = "
                f"exp({self.score} - {self.base}) * {self.v} / {self.divisor}{some}")


@dataclass(frozen=True)
class _Softmax:
    """What a kernel over rows computes: exp(x - base) / divisor, of the scores x."""

    axis: Axis
    x: Expr
    base: Expr
    divisor: Expr
    store: Store
    greatest: int
    total: int
    some: int
    counts: Expr | None


def take_attention(program: Program, target: Target) -> Program:
    """The program with each attention in it as one step."""
    if target.precision != "highest" and int(target.cpu[3:]) < TENSOR_CORES:
        return program
    program = change_nested(program, lambda p: take_attention(p, target))
    steps = list(program.steps)
    for last in program.steps:
        found = _three(program, steps, last)
        if found is not None:
            first, middle, step = found
            steps = [step if s is last else s for s in steps if s is not first and s is not middle]
    if len(steps) == len(program.steps):
        return program
    return plan_memory(replace(program, steps=tuple(steps)))


def _three(program: Program, steps: Sequence[Step], last: Step) -> tuple[Step, Step, Step] | None:
    """The product, the softmax, and the step that does their work and that of the last product."""
    if not isinstance(last.kernel, Kernel) or not is_sum(last.kernel):
        return None
    for weights in last.buffers:
        middle = _only_writer(program, steps, weights, last)
        for scores in middle.buffers if middle is not None else ():
            first = _only_writer(program, steps, scores, middle)
            if first is not None and middle is not None:
                form = attention_of((first, middle, last), scores, weights)
                if form is not None and not _disturbed(steps, first, last, form[1]):
                    return first, middle, _step((first, middle, last), *form)
    return None


def _only_writer(program: Program, steps: Sequence[Step], name: str, reader: Step | None
                 ) -> Step | None:
    """The step that computes a temporary, if the reader alone has a use for it."""
    touching = [s for s in steps if name in (*s.buffers, s.scratch)]
    if reader is None or program.by_name[name].kind != "temp" or name in program.results \
            or len(touching) != 2 or touching[1] is not reader:
        return None
    (writer, _), kernel = touching, touching[0].kernel
    inside = [n for (n, _), b in zip(kernel.buffers, writer.buffers) if b == name]
    alone = isinstance(kernel, Kernel) and kernel.outputs == (inside[0],) and not kernel.shares
    return writer if alone else None


def _disturbed(steps: Sequence[Step], first: Step, last: Step, bound: Sequence[str]) -> bool:
    """Whether a step between them writes into what they read."""
    between = steps[steps.index(first) + 1:steps.index(last)]
    written = {b for s in between for (n, _), b in zip(s.kernel.buffers, s.buffers)
               if n in s.kernel.outputs}
    return not written.isdisjoint(bound)


def _step(parts: tuple[Step, Step, Step], form: Attention, bound: tuple[str, ...],
          types: tuple[TensorType, ...]) -> Step:
    buffers = tuple((f"b{i}", t) for i, t in enumerate(types))
    library = Library(ATTENTION, (("form", form),), buffers, (form.result[0],))
    last = parts[2]
    notes = ("attention in one kernel: scores are not stored",)
    return Step(library, bound, f"{last.name.partition('_')[0]}_attention",
                tuple(o for s in parts for o in s.ops),
                tuple(dict.fromkeys(o for s in parts for o in s.origins)),
                tuple(dict.fromkeys((*(n for s in parts for n in s.notes), *notes))),
                sum(s.flops for s in parts),
                float(sum(t.nbytes for t in types if isinstance(t.nbytes, int))))


# ---- recognising

def attention_of(parts: tuple[Step, Step, Step], scores: str, weights: str
                 ) -> tuple[Attention, tuple[str, ...], tuple[TensorType, ...]] | None:
    """The attention that three steps compute by way of two arrays, with the buffers of the
    program that it takes and their types; None if they compute something else."""
    product, middle, last = (s.kernel for s in parts)
    assert isinstance(product, Kernel) and isinstance(middle, Kernel) and isinstance(last, Kernel)
    softmax = _softmax(middle)
    if softmax is None or not is_sum(product) or len(product.stages[1].stores) != 1 \
            or len(last.stages[1].stores) != 1 or last.stages[1].stores[0].value.kind != "acc":
        return None
    names = _Names(parts)
    reads = [e for e in last.reduces[0].value.args if e.kind == "load" and not e.args]
    inner = next((n for (n, _), b in zip(last.buffers, parts[2].buffers) if b == weights), "")
    taken = [e for e in reads if e.what == inner]
    if len(reads) != 2 or len(taken) != 1:
        return None
    (v,) = [e for e in reads if e is not taken[0]]
    # everything over the axes of the last product
    to_last = moved(softmax.store.index, taken[0].index)
    if to_last is None:
        return None
    rows = Substitution(to_last.get)
    x, counts = rows.expr(softmax.x), softmax.counts and rows.expr(softmax.counts)
    inner = next(n for (n, _), b in zip(middle.buffers, parts[1].buffers) if b == scores)
    at = {e.index for e in walk(x) if e.kind == "load" and e.what == inner}
    store = product.stages[1].stores[0]
    to_score = moved(store.index, next(iter(at))) if len(at) == 1 else None
    if to_score is None:
        return None
    # the axis of their sum may be named as the keys' is
    depth = {a: Axis(f"{a.name}_depth", a.extent) for a in product.stages[0].axes}
    deep = Substitution({**to_score, **{a: as_index(b) for a, b in depth.items()}}.get)
    raw = [e for e in product.reduces[0].value.args if e.kind == "load" and not e.args]
    if len(raw) != 2:
        return None
    score = _replaced(names.of(1, x), names.inside(1, inner), names.of(0, deep.expr(store.value)))
    if counts is not None:
        counts = names.of(1, counts)
        if any(e.what == names.inside(1, inner) for e in walk(counts) if e.kind == "load"):
            return None
    one, two = (names.of(0, deep.expr(e)) for e in raw)
    end = last.stages[1].stores[0]
    result = (names.inside(2, end.buffer), names.linear(2, end.buffer, end.index))
    return _form(names, last, tuple(depth.values()), (one, two, names.of(2, v)), score, counts,
                 softmax, result)


def _form(names: _Names, last: Kernel, depth: tuple[Axis, ...], arrays: tuple[Expr, Expr, Expr],
          score: Expr, counts: Expr | None, softmax: _Softmax, result: tuple[str, Index]
          ) -> tuple[Attention, tuple[str, ...], tuple[TensorType, ...]] | None:
    one, two, v = arrays
    keys = last.stages[0].axes
    if len(keys) != 1 or len(depth) != 1 or any(
            e.dtype.name != "f32" or not _plain(e.index[0]) for e in arrays) \
            or not _plain(result[1]):
        return None
    (key,) = keys
    q, k = (two, one) if key in one.axes else (one, two)
    values = [a for a in last.axes if a in v.axes and a not in q.axes and a not in k.axes
              and a not in score.axes]
    queries = [a for a in last.axes if a in q.axes and a not in k.axes and a not in v.axes]
    if len(values) != 1 or not queries or key in q.axes or key not in k.axes or key not in v.axes:
        return None
    query = max(queries, key=_size)
    batch = tuple(a for a in last.axes if a is not values[0] and a is not query)
    every = (*batch, query, key, *depth, *values)
    if not all(isinstance(a.extent, int) for a in every) or _size(values[0]) > WIDEST \
            or min(_size(query), _size(key)) < LEAST:
        return None
    form = Attention(batch, query, key, depth[0], values[0], q, k, v, score, softmax.base,
                     softmax.divisor, result, softmax.greatest, softmax.total, softmax.some, counts)
    used = {e.what for root in (q, k, v, score, *([counts] if counts is not None else []))
            for e in walk(root) if e.kind == "load"} - {SCORE}
    return names.renumbered(form, used)


def _size(axis: Axis) -> int:
    return axis.extent if isinstance(axis.extent, int) else 0


def _plain(index: Index) -> bool:
    return all(isinstance(a, Axis) and isinstance(c, int) for a, c in index.terms)


def _replaced(e: Expr, buffer: str, by: Expr) -> Expr:
    """An expression with loads of a buffer replaced."""
    if e.kind == "load" and e.what == buffer:
        return by
    return replace(e, args=tuple(_replaced(a, buffer, by) for a in e.args)) if e.args else e


def _softmax(kernel: Kernel) -> _Softmax | None:
    """The softmax that a kernel over rows is."""
    reduces = {r.op: r for r in kernel.reduces}
    spaces = {s.axes for s in kernel.stages if s.axes}
    stores = [s for stage in kernel.stages for s in stage.stores]
    scratch = {n for n, _ in kernel.scratch}
    if len(reduces) != len(kernel.reduces) or not {"max", "sum"} <= set(reduces) \
            or not set(reduces) <= {"max", "sum", "or"} or len(spaces) != 1 \
            or any(s.checks or not s.axes for s in kernel.stages) \
            or any(s.guard is not None or s.combine for s in stores):
        return None
    (axes,) = spaces
    rows = {s.buffer: s.value for s in stores if s.buffer in scratch}
    written = [s for s in stores if s.buffer not in scratch]
    if len(axes) != 1 or len(written) != 1 or reduces["max"].dtype.name != "f32":
        return None
    return _parts(reduces, rows, written[0], axes[0])


def _parts(reduces: dict[str, Reduce], rows: dict[str, Expr], store: Store, axis: Axis
           ) -> _Softmax | None:
    most, total, some = reduces["max"], reduces["sum"], reduces.get("or")
    weight = store.value
    for name, value in rows.items():
        weight = _replaced(weight, name, value)
    e = total.value
    if weight.what != "div" or weight.args[0] != e or e.what != "exp" or e.args[0].what != "sub":
        return None
    (x, base), divisor = e.args[0].args, weight.args[1]
    number = some.number if some is not None else -1
    if x != most.value or not _only(base, {most.number}) \
            or not _only(divisor, {total.number, number}):
        return None
    return _Softmax(axis, x, base, divisor, store, most.number, total.number, number,
                    some.value if some is not None else None)


def _only(e: Expr, accs: set[int]) -> bool:
    """Whether an expression depends on these reductions alone."""
    return all(x.kind in ("const", "apply") or (x.kind == "acc" and x.what in accs)
               for x in walk(e))


class _Names:
    """One set of names for the buffers of three kernels, and linear indices into them."""

    def __init__(self, parts: tuple[Step, Step, Step]) -> None:
        self.parts = parts
        self.types = {b: t for s in parts for (_, t), b in zip(s.kernel.buffers, s.buffers)}

    def inside(self, part: int, name: str) -> str:
        """The program's name of a kernel's buffer."""
        step = self.parts[part]
        return next(b for (n, _), b in zip(step.kernel.buffers, step.buffers) if n == name)

    def linear(self, part: int, name: str, index: tuple[Index, ...]) -> Index:
        """An index as an offset."""
        return linearize(index, self.types[self.inside(part, name)].shape)

    def of(self, part: int, e: Expr) -> Expr:
        """A kernel's expression over the program's names; its sum is the score."""
        if e.kind == "acc" and part == 0:
            return Expr("load", e.dtype, SCORE, (), (as_index(0),))
        args = tuple(self.of(part, a) for a in e.args)
        if e.kind != "load":
            return replace(e, args=args)
        return replace(e, what=self.inside(part, e.what), args=args,
                       index=(self.linear(part, e.what, e.index),))

    def renumbered(self, form: Attention, used: set[str]
                   ) -> tuple[Attention, tuple[str, ...], tuple[TensorType, ...]]:
        """The form with its buffers by number, the result last; their names and their types."""
        first = dict.fromkeys([form.q.what, form.k.what, form.v.what])
        bound = (*first, *sorted(used - set(first)), form.result[0])
        axes = {a: as_index(Axis(f"i{n}", a.extent)) for n, a in enumerate((
            *form.batch, form.query, form.key, form.depth, form.value))}
        swap = Substitution(axes.get, {b: f"b{i}" for i, b in enumerate(bound)})

        def axis(a: Axis) -> Axis:
            found = axes[a].as_axis
            assert found is not None
            return found

        made = replace(form, batch=tuple(map(axis, form.batch)), query=axis(form.query),
                       key=axis(form.key), depth=axis(form.depth), value=axis(form.value),
                       result=(f"b{len(bound) - 1}", swap.index(form.result[1])),
                       counts=form.counts and swap.expr(form.counts), q=swap.expr(form.q),
                       k=swap.expr(form.k), v=swap.expr(form.v), score=swap.expr(form.score))
        types = tuple(TensorType((prod(d for d in self.types[b].shape if isinstance(d, int)),),
                                 self.types[b].dtype) for b in bound)
        return made, bound, types
