"""The frame of a contraction's functions: arguments, sizes, and small arithmetic they share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from weft.compiler.kernel.index import Axis, Index
from weft.compiler.target import Target
from weft.compiler.types import Dim
from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.evaluate import Evaluator
from weft.devices.cpu.gemm_form import Form
from weft.devices.cpu.gemm_micro import Span
from weft.devices.cpu.gemm_plan import Plan

__all__ = ["Frame", "extent"]


class Frame:
    """One function being written: its emitter and an evaluator that knows the kernel's buffers."""

    def __init__(self, form: Form, plan: Plan, target: Target) -> None:
        self.form = form
        self.plan = plan
        self.target = target
        self.e = e = Emitter(target)
        k, ctx = form.kernel, e.arg("ctx", "ptr")
        pointers = {name: e.load(e.gep(ctx, i, "ptr"), "ptr")
                    for i, (name, _) in enumerate(k.buffers)}
        dims: dict[str, Val] = {}
        if k.symbols:
            table = e.load(e.gep(ctx, len(k.buffers), "ptr"), "ptr")
            dims = {s: e.load(e.gep(table, i, "i64"), "i64") for i, s in enumerate(k.symbols)}
        self.ev = Evaluator(e, pointers, k.types, dims)
        self.workspace = e.load(e.gep(ctx, len(k.buffers) + 2, "ptr"), "ptr") \
            if plan.pack_left else e.const("ptr", 0)

    def text(self, name: str, arguments: str = "i64 %lo, i64 %hi") -> str:
        """The finished function."""
        self.e.write("ret void")
        return (f"define internal void @{name}(ptr noalias %ctx, {arguments}) "
                f"{{\nentry:\n{self.e.body()}\n}}\n")

    @contextmanager
    def units(self) -> Iterator[Val]:
        """The loop over the units that the function is called for."""
        with self.e.loop(self.e.arg("lo", "i64"), self.e.arg("hi", "i64"), stem="unit") as unit, \
                self.ev.scope():
            yield unit.i

    def place_batch(self, unit: Val, axes: tuple[Axis, ...]) -> None:
        """Set the batch axes from their flat number."""
        for i, axis in reversed(list(enumerate(axes))):
            if i == 0:
                self.ev.axes[axis] = unit
            else:
                unit, self.ev.axes[axis] = self.divided(unit, extent(axis))

    def divided(self, x: Val, by: Dim) -> tuple[Val, Val]:
        """Quotient and remainder of what is not negative."""
        e = self.e
        if by == 1:
            return x, e.const("i64", 0)
        d = self.ev.dim(by)
        q = Val(e, (Val(e, x.ref, "u64") / Val(e, d.ref, "u64")).ref, "i64")
        return q, x - q * d

    def least(self, x: Val, bound: Val | int) -> Val:
        """The smaller of two."""
        return self.e.intrinsic("smin", x, self.e.like(x, bound))

    def rows(self, chunk: Val, fixed: int, chunks: int, unit: int, count: Dim | None = None
             ) -> tuple[Val, Val]:
        """First and end row, of `count` or all, of a chunk: `fixed` rows each, or as many multiples
        of `unit` as it takes to make `chunks`."""
        total = self.ev.dim(self.form.rows if count is None else count)
        each: Val | int = fixed
        if not fixed:
            each = (total + (unit * chunks - 1)) / (unit * chunks) * unit
        lo = chunk * each
        return self.least(lo, total), self.least(lo + each, total)

    # ---- the loops over k

    def begin(self, block: Val) -> tuple[Val, Val]:
        """Set the axes outside of a block of k from its number; the block's turns of its axis."""
        p, nest = self.plan, self.form.nest
        count = extent(nest[p.split])
        assert isinstance(count, int)
        block, piece = self.divided(block, -(-count // p.depth))
        self.place_batch(block, nest[:p.split])
        lo = piece * p.depth
        self._first = lo
        return lo, self.least(lo + p.depth, count)

    def spans(self, turns: tuple[Val, Val]) -> tuple[list[Span], tuple[Val | int, Val | int]]:
        """The loops of a block around the one over k, and the turns of that."""
        nest = self.form.nest[self.plan.split:]
        if len(nest) == 1:
            return [], turns
        spans = [Span(*turns, self.plan.depth, self._entering(nest[0]))]
        spans += [Span(0, n, n, self._entering(a)) for a in nest[1:-1]
                  if isinstance(n := extent(a), int)]
        return spans, (0, self.form.depth)

    def _entering(self, axis: Axis) -> Callable[[Val], AbstractContextManager[None]]:
        @contextmanager
        def enter(i: Val) -> Iterator[None]:
            with self.ev.scope():
                self.ev.axes[axis] = i
                yield
        return enter

    def turn(self) -> Val:
        """Turns of the block before the current one of the loops around k."""
        nest = self.form.nest[self.plan.split:]
        out = self.e.const("i64", 0)
        for i, axis in enumerate(nest[:-1]):
            at = self.ev.axes[axis] - self._first if i == 0 else self.ev.axes[axis]
            out = (out + at) * self.ev.dim(extent(nest[i + 1]))
        return out

    @contextmanager
    def span(self, lo: int, hi: int) -> Iterator[Val]:
        """A loop, or just its body where there is one turn."""
        if hi - lo == 1:
            yield self.e.const("i64", lo)
            return
        with self.e.loop(lo, hi, stem="block") as loop, self.ev.scope():
            yield loop.i


def extent(axis: Axis) -> Dim:
    """An axis's extent, which is a plain size."""
    assert not isinstance(axis.extent, Index)
    return axis.extent
