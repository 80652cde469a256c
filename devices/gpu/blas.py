"""Matrix products for cuBLASLt: found among a program's kernels, and said as plain data.

A kernel that sums products of an element of one array and one of another becomes a `Library` step
``matmul``. Its attributes are what cuBLASLt wants to know, in its own terms (columns of D lie one
behind another): sizes, which operand is A, how each lies in memory, what is done to the sums. No
operand is copied that lies as a matrix does: transposes, strides and batches are read off the
kernel's index expressions. Others, as the windows of a convolution, are laid out first (`pack`).
What of the kernel's epilogue cuBLASLt cannot do as NumPy would stays behind as a kernel of its own.

Exact in cuBLASLt are the sum with a bias or an array of D's layout. Its ReLU and GELU say nothing
of NaN, and round as they like: they are used where precision was given up, by `precision` or
`fast_math`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from math import prod
from typing import Any

import numpy as np

from weft.compiler.kernel.expr import Expr, Exprs
from weft.compiler.kernel.flatten import flatten
from weft.compiler.kernel.index import Axis, Index, as_index
from weft.compiler.kernel.ir import Buffer, Kernel, Library, Program, Stage, Step, Store
from weft.compiler.kernel.plan import change_nested, plan_memory
from weft.compiler.kernel.rename import canonical, known, traffic, work
from weft.compiler.lazy_dataclass import dataclass, replace
from weft.compiler.target import Target
from weft.compiler.types import Dim, DType, TensorType
from weft.devices.gpu.pack import USES, USES_ROUNDED, packed_operands

__all__ = ["FEATURE", "MATMUL", "Product", "is_sum", "product_of", "split_product",
           "take_products"]

FEATURE = "cublaslt"        # of a target that has the library
MATMUL = "matmul"           # the steps' name
FEW = 16                    # rows or columns, below which a kernel reads operands as fast
SMALL = 1 << 20             # products of two numbers, below which a launch costs more
MOST_CALLS = 64             # calls for one product of which the batch has no single stride
IRREGULAR = "its operands do not lie regularly in memory"
SEVERAL = "it sums over axes that do not lie behind one another"
NO_ARRAYS = "its factors are not elements of two arrays of one float type"
_TYPES = ("f32", "f64", "f16", "bf16", "c64", "c128")


@dataclass(frozen=True)
class Product:
    """One product, D = A B + ..., for cuBLASLt: see `attrs` for its parts.

    `buffers` are those of the kernel that it was found in, in its order: A, B, D, and where there
    are such the bias, C and the second result.
    """

    attrs: tuple[tuple[str, Any], ...]
    buffers: tuple[str, ...]

    def __str__(self) -> str:
        parts = dict(self.attrs)
        return f"cuBLASLt, {parts['compute']}" + (
            f", with {parts['epilogue'].replace('_', ' and ')}" if parts["epilogue"] else "")


def take_products(program: Program, target: Target) -> Program:
    """The program with its large matrix products as steps of cuBLASLt, if the target has that."""
    if FEATURE not in target.features.split(","):
        return program
    program = change_nested(program, lambda p: take_products(p, target))
    buffers = list(program.buffers)
    steps = [s for step in program.steps for s in _taken(step, target, buffers)]
    if all(a is b for a, b in zip(steps, program.steps)):
        return program
    return plan_memory(replace(program, steps=tuple(steps), buffers=tuple(buffers)))


def _taken(step: Step, target: Target, buffers: list[Buffer]) -> list[Step]:
    if not isinstance(step.kernel, Kernel):
        return [step]
    relaxed = target.fast_math or target.precision != "highest"
    found = product_of(step.kernel, relaxed, target.precision)
    if isinstance(found, Product):
        return [_step(step, found, step.kernel, step.buffers)]
    if is_sum(step.kernel) and found in (IRREGULAR, SEVERAL, NO_ARRAYS):
        rounded = target.precision != "highest"
        packed = packed_operands(step, _has_product, buffers, USES_ROUNDED if rounded else USES)
        if packed is not None:
            *first, last = packed
            return [*first, *_taken(last, target, buffers)]
    if is_sum(step.kernel) and found:
        return [replace(step, notes=(*step.notes, f"not through cuBLASLt: {found}"))]
    return [step] if found else _apart(step, target, buffers)


def _step(step: Step, product: Product, kernel: Kernel, bound: Sequence[str]) -> Step:
    names = dict(zip((n for n, _ in kernel.buffers), bound))
    outputs = frozenset(kernel.outputs)
    types = kernel.types
    inputs = [b for b in product.buffers if b not in outputs]
    ordered = [*inputs, *(b for b in product.buffers if b in outputs)]
    renamed = {b: f"b{i}" for i, b in enumerate(dict.fromkeys(ordered))}
    attrs = dict(product.attrs)
    attrs["places"] = tuple(list(renamed).index(b) for b in product.buffers)
    library = Library(MATMUL, tuple(attrs.items()),
                      tuple((r, types[b]) for b, r in renamed.items()),
                      tuple(r for b, r in renamed.items() if b in outputs))
    return Step(library, tuple(names[b] for b in renamed), step.name, step.ops, step.origins,
                (*step.notes, str(product)), step.flops, step.nbytes)


def _bare(kernel: Kernel, inner: str) -> Kernel:
    """The product alone, into a buffer of this name."""
    acc = kernel.reduces[0]
    type = TensorType(tuple(a.extent for a in kernel.axes if not isinstance(a.extent, Index)),
                      acc.dtype)
    store = Store(inner, tuple(map(as_index, kernel.axes)), Exprs().acc(acc.number, acc.dtype))
    return replace(kernel, stages=(kernel.stages[0], Stage((), (), (store,))), buffers=(
        *(b for b in kernel.buffers if b[0] not in kernel.outputs), (inner, type)),
        outputs=(inner,), shares=False)


def _has_product(kernel: Kernel) -> bool:
    """Whether what a kernel sums up is a product for cuBLASLt."""
    return isinstance(product_of(_bare(kernel, "sums of it")), Product)


def _apart(step: Step, target: Target, buffers: list[Buffer]) -> list[Step]:
    """The product alone, into memory, and what is done to it as a kernel behind it."""
    bare, rest = split_product(step, buffers)
    assert isinstance(bare.kernel, Kernel)
    found = product_of(bare.kernel, False, target.precision)
    if not isinstance(found, Product):
        return [replace(step, notes=(*step.notes, f"not through cuBLASLt: {found}"))]
    notes = ("cuBLASLt has no such epilogue, or none that keeps NaN",)
    return [_step(bare, found, bare.kernel, bare.buffers), replace(rest, notes=notes)]


def split_product(step: Step, buffers: list[Buffer]) -> tuple[Step, Step]:
    """A sum of products as a step that stores the sums in a new temporary, and one for what is done
    to them. Adds the temporary to `buffers`."""
    kernel = step.kernel
    assert isinstance(kernel, Kernel)
    acc = kernel.reduces[0]
    inner = next(n for i in count() if (n := f"sums{i or ''}") not in kernel.types)
    taken = {b.name for b in buffers}
    name = next(n for i in count() if (n := f"{step.name}.sums{i or ''}") not in taken)
    bare = _bare(kernel, inner)
    type, place, exprs = bare.types[inner], tuple(map(as_index, kernel.axes)), Exprs()
    buffers.append(Buffer(name, type, "temp"))
    bound = {**dict(zip((n for n, _ in kernel.buffers), step.buffers)), inner: name}
    first = replace(step, kernel=bare, buffers=tuple(bound[n] for n, _ in bare.buffers),
                    flops=work(bare), nbytes=traffic(bare))
    stores = tuple(replace(s, value=_with_sums(s.value, exprs.load(inner, place, acc.dtype)))
                   for s in kernel.stages[1].stores)
    rest = Kernel(kernel.axes, (Stage((), (), stores),), (), kernel.outputs)
    read = {e.what for e in rest.exprs if e.kind == "load"}
    kept = tuple((n, t) for n, t in (*bare.buffers, *kernel.buffers)
                 if n in read or n in kernel.outputs)
    rest = replace(rest, buffers=tuple(dict.fromkeys(kept)))
    second = replace(canonical(rest), shares=kernel.shares)
    return first, Step(second, tuple(bound[n] for n, _ in rest.buffers), f"{step.name}_rest",
                       step.ops[1:], step.origins, (), work(rest), traffic(rest))


def _with_sums(e: Expr, load: Expr) -> Expr:
    if e.kind == "acc":
        return load
    return replace(e, args=tuple(_with_sums(a, load) for a in e.args)) if e.args else e


# ---- recognising

def is_sum(kernel: Kernel) -> bool:
    """Whether it has the stages of a product, whatever it sums."""
    if len(kernel.stages) != 2 or kernel.scratch or kernel.updates or not kernel.axes:
        return False
    first, last = kernel.stages
    value = first.reduces[0].value if len(first.reduces) == 1 else None
    return value is not None and first.reduces[0].op == "sum" and value.what == "mul" and not (
        first.stores or first.checks or last.axes or last.reduces or last.checks) \
        and all(s.guard is None and not s.combine for s in last.stores) \
        and not any(isinstance(a.extent, Index) for a in (*kernel.axes, *first.axes))


def product_of(kernel: Kernel, relaxed: bool = False, precision: str = "highest"
               ) -> Product | str:
    """The product that a kernel is; or why it is none (empty: only its epilogue is another one).

    With `relaxed`, epilogues are used that round or treat NaN in a way of their own.
    """
    if not is_sum(kernel):
        return "it is no sum of products"
    flat = flatten(kernel)
    reduce, stores = flat.reduces[0], flat.stages[1].stores
    a, b = (_element(x, reduce.dtype) for x in reduce.value.args)
    if a is None or b is None or a.dtype is not b.dtype or a.dtype.name not in _TYPES:
        return NO_ARRAYS
    if any(isinstance(x, Axis) is False for e in (a, b) for x, _ in e.index[0].terms):
        return IRREGULAR
    if any(isinstance(x, Axis) is False for s in stores for x, _ in s.index[0].terms):
        return "its result does not lie regularly in memory"
    layout = _Layout(flat, a, b, stores[0])
    why_not = layout.find()
    if why_not:
        return why_not
    epilogue = _epilogue(flat, layout, reduce.dtype, a.dtype, relaxed)
    if epilogue is None:
        return ""
    attrs = {**layout.attrs(), "type": a.dtype.name,
             "out": flat.types[stores[0].buffer].dtype.name,
             "compute": _compute(a.dtype, precision), **epilogue.attrs}
    return Product(tuple(attrs.items()), (*layout.names, *epilogue.buffers))


def _element(e: Expr, acc: DType) -> Expr | None:
    """The load that a factor is, converted to the accumulator's type at the most."""
    if e.kind == "apply" and e.what == "convert" and e.dtype is acc:
        (e,) = e.args
    return e if e.kind == "load" and not e.args else None


def _compute(dtype: DType, precision: str) -> str:
    if dtype.name in ("f32", "c64") and precision != "highest":
        return f"f32 by {precision}"
    return "f64" if dtype.name in ("f64", "c128") else "f32"


class _Layout:
    """How the axes of a flat kernel are those of a batch of column-major products."""

    def __init__(self, flat: Kernel, a: Expr, b: Expr, store: Store) -> None:
        self.flat = flat
        self.sum = flat.stages[0].axes
        self.loads = [a, b]
        self.store = store
        self.rows: Axis         # D's columns are contiguous along it
        self.columns: Axis
        self.batch: list[Axis] = []

    @property
    def names(self) -> tuple[str, str, str]:
        """The buffers of A, B and D."""
        return self.loads[0].what, self.loads[1].what, self.store.buffer

    def step(self, index: Index, axis: Axis) -> Dim:
        """By how many elements an axis moves."""
        found = index.coefficient(axis)
        assert found is not None
        return found

    def steps(self, axis: Axis) -> tuple[Dim, Dim, Dim]:
        """The steps of an axis in A, B and D."""
        a, b, d = (*(x.index[0] for x in self.loads), self.store.index[0])
        return self.step(a, axis), self.step(b, axis), self.step(d, axis)

    def find(self) -> str:
        """Choose the axes; why there are none, if so."""
        if len(self.sum) != 1:
            return SEVERAL
        (k,), axes = self.sum, self.flat.axes
        if any(self.step(self.store.index[0], x) == 0 for x in axes):
            return "its result has fewer axes"
        unit = [x for x in axes if self.step(self.store.index[0], x) == 1]
        if len(unit) != 1 or (self.steps(unit[0])[0] != 0) == (self.steps(unit[0])[1] != 0):
            return "the last axis of its result is not one of the two of a product"
        self.rows = unit[0]
        if self.steps(self.rows)[1] != 0:           # cuBLASLt's A is what the rows belong to
            self.loads.reverse()
        free = [x for x in axes if self.steps(x)[0] == 0 and self.steps(x)[1] != 0
                and self._lies(1, k, x)]
        if not free or not self._lies(0, self.rows, k):
            return "an operand has no axis whose elements lie side by side"
        self.columns = max(free, key=lambda x: known(x.extent) if not isinstance(
            x.extent, Index) else 0)
        self.batch = [x for x in axes if x not in (self.rows, self.columns)]
        ld = self.steps(self.columns)[2]
        if not _at_least(ld, self.rows.extent):
            return "its result does not lie as a matrix"
        if any(isinstance(s, int) and s < 0 for x in (*axes, k) for s in self.steps(x)):
            return "an operand is read backwards"
        return self._small()

    def _lies(self, number: int, first: Axis, second: Axis) -> bool:
        """Whether an operand is a matrix over two axes, one of them contiguous."""
        index = self.loads[number].index[0]
        a, b = self.step(index, first), self.step(index, second)
        return (a == 1 and _at_least(b, first.extent)) or (
            b == 1 and _at_least(a, second.extent))

    def _small(self) -> str:
        sizes = [x.extent for x in (self.rows, self.columns, self.sum[0])]
        static = [s for s in sizes if isinstance(s, int)]
        if any(s < FEW for s in static[:2] if s is not sizes[2]):
            return f"it has fewer than {FEW} rows or columns"
        if len(static) == 3 and prod(static) < SMALL // max(1, self._count()):
            return "it is small"
        if prod((_size(x) for x in self._loops()), start=1) > MOST_CALLS:
            return "its batch has several strides"
        return ""

    def _count(self) -> int:
        return prod((_size(x) for x in self.batch), start=1)

    def _strided(self) -> Axis | None:
        """The axis of the batch that cuBLASLt goes along."""
        return max(self.batch, key=_size, default=None)

    def _loops(self) -> list[Axis]:
        return [x for x in self.batch if x is not self._strided()]

    def attrs(self) -> dict[str, Any]:
        """`rows`, `columns`, `depth`; `batch`, `loops`: turns with the steps of A, B and D; `a`,
        `b`: N or T, the leading dimension, the first element; `d`: the last two."""
        (k,), one = self.sum, self._strided()
        a, b, d = (*(x.index[0] for x in self.loads), self.store.index[0])
        return {"rows": self.rows.extent, "columns": self.columns.extent, "depth": k.extent,
                "a": self._operand(a, self.rows, k), "b": self._operand(b, k, self.columns),
                "d": (self.step(d, self.columns), d.const),
                "batch": (one.extent, *self.steps(one)) if one is not None else (1, 0, 0, 0),
                "loops": tuple((x.extent, *self.steps(x)) for x in self._loops())}

    def _operand(self, index: Index, first: Axis, second: Axis) -> tuple[Any, ...]:
        a, b = self.step(index, first), self.step(index, second)
        plain = a == 1 and _at_least(b, first.extent)
        return ("N", b, index.const) if plain else ("T", a, index.const)


def _size(axis: Axis) -> int:
    return known(axis.extent) if not isinstance(axis.extent, Index) else 1


def _at_least(step: Dim, size: Dim | Index) -> bool:
    """Whether a leading dimension holds so many elements."""
    if isinstance(step, int) and isinstance(size, int):
        return step >= max(1, size)
    return step == size


# ---- epilogues

@dataclass(frozen=True)
class _Epilogue:
    attrs: dict[str, Any]
    buffers: tuple[str, ...] = ()


def _epilogue(flat: Kernel, layout: _Layout, acc: DType, element: DType, relaxed: bool
              ) -> _Epilogue | None:
    """What cuBLASLt does to the sums, if that is all that the kernel does."""
    stores = flat.stages[1].stores
    result = flat.types[stores[0].buffer].dtype
    if result is not element and not (result is acc and element.itemsize == 2):
        return None
    plain = layout.store.index[0].const == 0
    if len(stores) == 2 and relaxed and plain and len(layout.batch) < 2:
        return _with_second(flat, layout, acc, stores)
    if len(stores) != 1:
        return None
    value = stores[0].value
    if relaxed and (inner := _relu_of(value)) is not None:
        return _linear(flat, layout, inner, acc, relaxed, "relu")
    if relaxed and (inner := _gelu_of(value)) is not None:
        return _linear(flat, layout, inner, acc, relaxed, "gelu")
    return _linear(flat, layout, value, acc, relaxed, "")


def _linear(flat: Kernel, layout: _Layout, value: Expr, acc: DType, relaxed: bool, then: str
            ) -> _Epilogue | None:
    """The sums, perhaps with one array added: a bias along the rows, or one of D's layout."""
    value, exact = _unrounded(value, acc), value.dtype is acc
    if value.kind == "acc":
        return _Epilogue({"epilogue": then})
    if value.what != "add" or not (exact or relaxed):
        return None
    sums = [x for x in value.args if _unrounded(x, acc).kind == "acc"]
    others = [x for x in value.args if x not in sums]
    if len(sums) != 1 or others[0].kind != "load" or others[0].args:
        return None
    (extra,) = others
    if extra.dtype is not flat.types[layout.store.buffer].dtype:
        return None
    ((name, index),) = [(extra.what, extra.index[0])]
    moves = {x: index.coefficient(x) for x in flat.axes}
    if all(m == (1 if x is layout.rows else 0) for x, m in moves.items()) and index.const == 0:
        return _Epilogue({"epilogue": f"bias_{then}" if then else "bias"}, (name,))
    if index == layout.store.index[0] and index.const == 0 and not then:
        return _Epilogue({"epilogue": "sum"}, (name,))
    return None


def _unrounded(e: Expr, acc: DType) -> Expr:
    narrow = e.kind == "apply" and e.what == "convert" and e.args[0].dtype is acc
    return e.args[0] if narrow else e


def _with_second(flat: Kernel, layout: _Layout, acc: DType, stores: tuple[Store, ...]
                 ) -> _Epilogue | None:
    """GELU whose argument is stored too, for the derivative."""
    for given, made in (stores, stores[::-1]):
        if _gelu_of(made.value) == given.value and made.index == given.index \
                and made.buffer == layout.store.buffer:
            first = _linear(flat, layout, given.value, acc, True, "gelu")
            if first is not None:
                return _Epilogue({"epilogue": first.attrs["epilogue"] + "_aux"},
                                 (*first.buffers, given.buffer))
    return None


def _relu_of(e: Expr) -> Expr | None:
    """What a larger of 0 and x is taken of."""
    if e.kind == "apply" and e.what in ("maximum", "fmax"):
        zeros = [x for x in e.args if x.kind == "const" and x.what == 0]
        if len(zeros) == 1:
            return next(x for x in e.args if x is not zeros[0])
    return None


def _gelu_of(e: Expr) -> Expr | None:
    """What GELU by tanh is taken of, in the form that passes give it."""
    if e.kind != "apply" or e.what != "mul" or e.dtype.name != "f32":
        return None
    return next((x for x in e.args for form in _gelus(x) if form == e), None)


def _gelus(x: Expr) -> Iterator[Expr]:
    """The ways in which GELU of x is written: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))."""
    b, t = Exprs(), x.dtype

    def times(y: Expr, z: Expr) -> Expr:
        return b.apply("mul", t, y, z)

    def number(value: float) -> Expr:
        return b.const(np.asarray(value), t)

    cube = times(times(x, x), x)
    inner = b.apply("add", t, x, times(cube, number(0.044715)))
    wave = b.apply("tanh", t, times(inner, number((2 / np.pi) ** 0.5)))
    yield times(x, times(b.apply("add", t, wave, number(1.0)), number(0.5)))
