"""What the code of all library steps shares: buffers, sizes, elements, ways round an axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from weft.compiler.kernel.ir import Library
from weft.compiler.target import Target
from weft.compiler.types import Dim, DType, TensorType, evaluate_dim, numel
from weft.devices.cpu.code import KernelCode, Phase
from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.evaluate import Evaluator
from weft.devices.cpu.lower import Scalar, load_value, memory_type, store_value
from weft.devices.cpu.lower_complex import Cx

__all__ = ["ENOUGH", "Elements", "Frame", "known"]

ENOUGH = 1 << 15        # elements from which several threads are worth waking
SYMBOLIC = 1024         # what a symbolic size is taken for where code is tuned by it


def known(d: Dim) -> int:
    """A size, its unknowns taken as SYMBOLIC."""
    return d if isinstance(d, int) else evaluate_dim(d, dict.fromkeys(d.symbols, SYMBOLIC))


class Elements:
    """An array in memory: elements loaded as register values and stored again."""

    def __init__(self, e: Emitter, address: Val, dtype: DType) -> None:
        self.e = e
        self.address = address
        self.dtype = dtype

    def at(self, index: Val | int) -> Elements:
        """The same array seen from one of its elements on."""
        if self.dtype.is_complex:
            index = index * 2
        return Elements(self.e, self.e.gep(self.address, index, memory_type(self.dtype.real)),
                        self.dtype)

    def load(self, index: Val | int, lanes: int = 1) -> Scalar:
        """Consecutive elements from `index` on; complex ones one at a time."""
        at, part = self.at(index).address, memory_type(self.dtype.real)
        if self.dtype.is_complex:
            re, im = (self.e.load(self.e.gep(at, k, part), part) for k in (0, 1))
            return Cx(re, im)
        return load_value(self.e, self.e.load(at, part, lanes), self.dtype)

    def store(self, index: Val | int, value: Scalar) -> None:
        """Write consecutive elements from `index` on."""
        at, part = self.at(index).address, memory_type(self.dtype.real)
        if isinstance(value, Cx):
            for k, x in enumerate((value.re, value.im)):
                self.e.store(x, self.e.gep(at, k, part))
        else:
            self.e.store(store_value(self.e, value, self.dtype), at)

    def copy(self, index: Val | int, source: Elements, at: Val | int) -> None:
        """Copy one element of another array, bit by bit."""
        part = memory_type(self.dtype.real)
        for k in range(2 if self.dtype.is_complex else 1):
            x = self.e.load(self.e.gep(source.at(at).address, k, part), part)
            self.e.store(x, self.e.gep(self.at(index).address, k, part))

    def copy_all(self, source: Elements, n: Val) -> None:
        """Copy n elements."""
        self.e.declares.add("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
        self.e.write(f"call void @llvm.memcpy.p0.p0.i64(ptr {self.address.ref}, "
                     f"ptr {source.address.ref}, i64 {(n * self.dtype.itemsize).ref}, i1 false)")


class Frame:
    """The function of a library step, being written: `arrays` are its buffers, in order."""

    def __init__(self, step: Library, name: str, target: Target) -> None:
        self.step = step
        self.name = name
        self.e = e = Emitter(target)
        self.ctx = ctx = e.arg("ctx", "ptr")
        self.arrays = [Elements(e, e.load(e.gep(ctx, i, "ptr"), "ptr"), t.dtype)
                       for i, (_, t) in enumerate(step.buffers)]
        dims: dict[str, Val] = {}
        if step.symbols:
            table = e.load(e.gep(ctx, len(self.arrays), "ptr"), "ptr")
            dims = {s: e.load(e.gep(table, i, "i64"), "i64") for i, s in enumerate(step.symbols)}
        self.dim: Callable[[Dim], Val] = Evaluator(e, {}, {}, dims).dim
        self.lo, self.hi = e.arg("lo", "i64"), e.arg("hi", "i64")

    @property
    def types(self) -> list[TensorType]:
        """The types of the buffers."""
        return [t for _, t in self.step.buffers]

    def code(self, units: Dim, cost: Dim, least: int = 1) -> KernelCode:
        """The finished code: `units` of `cost` elements' work each, at least `least` a thread."""
        e = self.e
        e.write("ret void")
        text = (f"define internal void @{self.name}(ptr noalias %ctx, i64 %lo, i64 %hi) "
                f"{{\nentry:\n{e.body()}\n}}\n")
        grain = max(least, ENOUGH // max(1, known(cost)))
        parallel = known(units) > grain or not isinstance(units, int)
        phase = Phase(self.name, units, grain, parallel)
        return KernelCode(text, frozenset(e.declares), dict(e.helpers), (phase,))

    def fail_if(self, condition: Val, number: int = 1) -> None:
        """Note failure `number` of the step's `fails`, from 1, where the condition is true."""
        e = self.e
        status = e.load(e.gep(self.ctx, len(self.arrays) + 1, "ptr"), "ptr")
        with e.when(condition, "failed"):
            e.store(e.const("i32", number), status)

    def around(self, axis: int) -> tuple[Dim, Dim, Dim]:
        """Sizes before, along and behind an axis of the first buffer."""
        shape = self.types[0].shape
        return numel(shape[:axis]), shape[axis], numel(shape[axis + 1:])

    def columns(self, inner: Dim, most: int, body: Callable[[Val, Val, Val], None]) -> None:
        """`body(block, column, width)` for the units lo..hi, in runs of `most` or fewer columns.

        A unit is a column `unit % inner` of block `unit // inner`; a run stays in one block.
        """
        e, size = self.e, self.dim(inner)
        with e.when(self.lo < self.hi):
            last = (self.hi - 1) / size + 1
            with e.loop(self.lo / size, last, stem="block") as block:
                begin = block.i * size
                first = e.intrinsic("smax", self.lo - begin, e.const("i64", 0))
                end = e.intrinsic("smin", self.hi - begin, size)
                with e.loop(first, end, most, stem="run") as run:
                    body(block.i, run.i, e.intrinsic("smin", end - run.i, e.const("i64", most)))

    def vectors(self, n: Val, lanes: int, body: Callable[[Val, int], None]) -> None:
        """`body(i, lanes)` for as many full vectors as n elements have, then `body(i, 1)`."""
        e = self.e
        if lanes > 1:
            full = n & -lanes
            with e.loop(0, full, lanes, stem="vector") as loop:
                body(loop.i, lanes)
            with e.loop(full, n, stem="rest") as loop:
                body(loop.i, 1)
        else:
            with e.loop(0, n, stem="element") as loop:
                body(loop.i, 1)

    def scratch(self, elements: Val, dtype: DType) -> Elements:
        """Memory from the allocator, to be given back with `release`."""
        self.e.declares |= {"declare ptr @weft_alloc(i64)", "declare void @weft_free(ptr)"}
        size = (elements * dtype.itemsize).ref
        block = self.e.assign(f"call ptr @weft_alloc(i64 {size})", "ptr")
        return Elements(self.e, block, dtype)

    def release(self, arrays: Sequence[Elements]) -> None:
        """Give scratch memory back."""
        for a in arrays:
            self.e.write(f"call void @weft_free(ptr {a.address.ref})")


