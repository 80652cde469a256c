"""What an element of an array is, put together again from the kernels that compute it.

Fusion cuts an expression where its parts are needed in memory. `Elements` undoes that for arrays
over the axes of one softmax: a load of a temporary becomes what its kernel stores there, and the
result of a reduction an expression that holds what is reduced, until only products, parameters and
arrays of other shapes are left.
"""

from __future__ import annotations

from weft.compiler.kernel.expr import Expr, walk
from weft.compiler.kernel.index import Axis, Index, as_index
from weft.compiler.kernel.ir import Kernel, Program, Step, Store
from weft.compiler.kernel.rename import Substitution
from weft.compiler.lazy_dataclass import replace
from weft.compiler.types import DType
from weft.devices.gpu.blas import is_sum

__all__ = ["Elements", "Other", "moved", "outputs", "sorted_index"]


class Other(Exception):
    """The kernels compute something else."""


def outputs(step: Step) -> list[str]:
    """The program's buffers that a step writes."""
    return [b for (n, _), b in zip(step.kernel.buffers, step.buffers) if n in step.kernel.outputs]


def moved(written: tuple[Index, ...], read: tuple[Index, ...]) -> dict[Axis, Index] | None:
    """For each axis along which an array was written, the index at which it is read."""
    out: dict[Axis, Index] = {}
    for w, r in zip(written, read):
        axis = w.as_axis
        if axis is not None:
            out[axis] = r
        elif w != r:
            return None
    return out if len(written) == len(read) else None


def sorted_index(index: Index) -> Index:
    """The same index with its terms in one order."""
    return Index(tuple(sorted(index.terms, key=repr)), index.const)


class Elements:
    """Elements of a program's arrays, over axes of which reductions go along `along`.

    A product of `size` elements is a load of its sums. `used` collects the steps that were taken
    apart. A reduction is an `acc` whose `what` is its op and what it reduces.
    """

    def __init__(self, program: Program, along: Axis, size: int) -> None:
        self.program, self.along, self.size = program, along, size
        self.used: dict[str, Step] = {}
        self._writers: dict[str, list[Step]] = {}
        self._known: dict[tuple[str, tuple[Index, ...]], Expr] = {}
        for step in program.steps:
            for name in outputs(step):
                self._writers.setdefault(name, []).append(step)

    def writer(self, name: str) -> Step | None:
        """The one step that computes a temporary, if it is a kernel."""
        found = self._writers.get(name, [])
        alone = len(found) == 1 and self.program.by_name[name].kind == "temp"
        return found[0] if alone and isinstance(found[0].kernel, Kernel) else None

    def of(self, name: str, index: tuple[Index, ...], dtype: DType) -> Expr:
        """An element of a buffer of the program."""
        key = name, index
        if key not in self._known:
            self._known[key] = self._element(name, index, dtype)
        return self._known[key]

    def _element(self, name: str, index: tuple[Index, ...], dtype: DType) -> Expr:
        step, load = self.writer(name), Expr("load", dtype, name, (), index)
        if step is None:
            return load
        assert isinstance(step.kernel, Kernel)
        try:
            made = self._made(step, step.kernel, name, index)
        except (Other, KeyError):
            return load
        parts = walk(made)
        if any(p.kind == "acc" for p in parts) or not any(p.kind == "load" for p in parts) \
                or any(p.kind == "load" and self.is_product(p.what) for p in parts):
            self.used[name] = step
            return made
        return load

    def is_product(self, name: str) -> bool:
        """Whether an array is a product over the axes of the scores."""
        step = self.writer(name)
        return step is not None and isinstance(step.kernel, Kernel) and is_sum(step.kernel) \
            and self.program.by_name[name].type.size == self.size

    def _made(self, step: Step, kernel: Kernel, name: str, index: tuple[Index, ...]) -> Expr:
        """What a kernel stores at an index."""
        inner = next(n for (n, _), b in zip(kernel.buffers, step.buffers) if b == name)
        store = _only_store(kernel, inner)
        axes = moved(store.index, index)
        if axes is None or kernel.updates:
            raise Other
        if is_sum(kernel):
            if not self.is_product(name) or store.value.kind != "acc":
                raise Other
            return Expr("load", store.value.dtype, name, (), index)
        return self._over(step, kernel, store.value, axes)

    def _over(self, step: Step, kernel: Kernel, e: Expr, axes: dict[Axis, Index]) -> Expr:
        """A kernel's expression with these indices for its axes."""
        names = dict(zip((n for n, _ in kernel.buffers), step.buffers))
        scratch = {n for n, _ in kernel.scratch}
        swap = Substitution(lambda a: axes[a])
        done: dict[Expr, Expr] = {}

        def over(e: Expr) -> Expr:
            if e not in done:
                done[e] = changed(e)
            return done[e]

        def changed(e: Expr) -> Expr:
            index = tuple(sorted_index(swap.index(i)) for i in e.index)
            if e.kind == "load" and not e.args and e.what in scratch:
                store = _only_store(kernel, e.what)
                inner = moved(store.index, index)
                if inner is None:
                    raise Other
                return self._over(step, kernel, store.value, {**_outer(kernel, axes), **inner})
            if e.kind == "load" and not e.args:
                return self.of(names[e.what], index, e.dtype)
            if e.kind == "load":
                raise Other
            if e.kind == "acc":
                return self._reduced(step, kernel, e, _outer(kernel, axes))
            return replace(e, args=tuple(map(over, e.args)), index=index) if e.args or index else e

        return over(e)

    def _reduced(self, step: Step, kernel: Kernel, e: Expr, outer: dict[Axis, Index]) -> Expr:
        """A reduction over `along`, with what it reduces in its name."""
        stage = next(s for s in kernel.stages if any(r.number == e.what for r in s.reduces))
        reduce = next(r for r in stage.reduces if r.number == e.what)
        if len(stage.axes) != 1 or stage.axes[0].extent != self.along.extent \
                or any(self.along in i.axes for i in outer.values()):
            raise Other
        inner = {**outer, stage.axes[0]: as_index(self.along)}
        return Expr("acc", e.dtype, (reduce.op, self._over(step, kernel, reduce.value, inner)))


def _outer(kernel: Kernel, axes: dict[Axis, Index]) -> dict[Axis, Index]:
    return {a: axes[a] for a in kernel.axes}


def _only_store(kernel: Kernel, name: str) -> Store:
    """The store into a buffer, if there is one only."""
    found = [s for stage in kernel.stages for s in stage.stores if s.buffer == name]
    if len(found) != 1 or found[0].guard is not None or found[0].combine:
        raise Other
    return found[0]
