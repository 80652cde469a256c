"""The kernel interpreter: what a program means, with NumPy.

`run_program` is the definition that generated code is tested against. Each stage is evaluated over
its whole index space at once: every axis is one dimension of broadcast index arrays. It is strict
where native code would be silent: a read or write outside a buffer is an `AssertionError`, and
memory that was not written is full of NaN (-1 for integers).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, reduce
from math import prod
from typing import Any, TypeAlias

import numpy as np

from weft.compiler.errors import LinAlgError
from weft.compiler.kernel.expr import Expr, walk
from weft.compiler.kernel.index import Atom, Axis, Index, Quotient, Remainder, Smaller, Value
from weft.compiler.kernel.ir import Buffer, Check, Kernel, Library, Program, Reduce, Stage, Store
from weft.compiler.kernel.nested import Branch, Loop
from weft.compiler.ops.registry import OPS
from weft.compiler.types import Dim, DType, Size, TensorType, evaluate_dim

__all__ = ["bind_sizes", "run_kernel", "run_program"]

Array: TypeAlias = np.ndarray[Any, Any]
Sizes: TypeAlias = Mapping[str, int]
POINTS = 1 << 22        # points of an index space that are evaluated at once, where rows allow it


def run_program(program: Program, arrays: Sequence[Any], symbols: Sizes | None = None,
                into: Sequence[Array] | None = None) -> list[Array]:
    """The results of a program for these arguments.

    `symbols` gives the values of symbolic sizes; without it they follow from the arguments'
    shapes. Temporaries are views of one arena at the planned offsets. Results are written `into`
    arrays where these are given, which may be the arguments' own (see `Loop.in_place`). Raises
    `IndexOutOfBoundsError` where a run-time index lies outside its axis.
    """
    arguments = [np.asarray(a) for a in arrays]
    sizes = bind_sizes(program, arguments) if symbols is None else symbols
    memory = _memory(program, arguments, sizes)
    if into is not None:
        memory.update(zip(program.results, into))
    for step in program.steps:
        buffers = [memory[name] for name in step.buffers]
        if isinstance(step.kernel, Library):
            _run_library(step.kernel, buffers, sizes)
        elif isinstance(step.kernel, Branch):
            _run_branch(step.kernel, buffers, sizes)
        elif isinstance(step.kernel, Loop):
            _run_loop(step.kernel, buffers, sizes)
        else:
            run_kernel(step.kernel, buffers, sizes)
    return [memory[name] for name in program.results]


def bind_sizes(program: Program, arrays: Sequence[Array]) -> dict[str, int]:
    """The value of each symbolic size, from the arguments' shapes."""
    sizes: dict[str, int] = {}
    if not program.symbols:
        return sizes
    params = {b.index: b for b in program.buffers if b.kind == "param"}
    for i, array in enumerate(arrays):
        for d, n in zip(params[i].type.shape, array.shape):
            unknown = d.symbols - set(sizes) if isinstance(d, Size) else frozenset()
            if len(unknown) == 1:       # linear in it: two points give the line
                (name,) = unknown
                at0, at1 = (evaluate_dim(d, {**sizes, name: v}) for v in (0, 1))
                sizes[name] = (n - at0) // (at1 - at0)
    return sizes


# ---- memory

def _shape(t: TensorType, sizes: Sizes) -> tuple[int, ...]:
    return tuple(evaluate_dim(d, sizes) for d in t.shape)


def _poisoned(nbytes: int) -> Array:
    return np.full(nbytes, 0xFF, np.uint8)


def _view(raw: Array, t: TensorType, sizes: Sizes, offset: int = 0) -> Array:
    shape = _shape(t, sizes)
    nbytes = prod(shape) * t.dtype.itemsize
    assert offset + nbytes <= raw.size, f"a temporary ends behind the arena: {offset} + {nbytes}"
    return raw[offset:offset + nbytes].view(t.dtype.numpy).reshape(shape)


def _memory(program: Program, arguments: Sequence[Array], sizes: Sizes) -> dict[str, Array]:
    arena = _poisoned(evaluate_dim(program.arena, sizes))

    def place(b: Buffer) -> Array:
        if b.kind == "param":
            return arguments[b.index]
        if b.kind == "constant":
            return np.asarray(b.value)
        if b.kind == "temp":
            return _view(arena, b.type, sizes, evaluate_dim(b.offset, sizes))
        return _empty(b.type, sizes)

    return {b.name: place(b) for b in program.buffers}


def _empty(t: TensorType, sizes: Sizes, rows: tuple[int, ...] = ()) -> Array:
    full = TensorType((*rows, *t.shape), t.dtype)
    return _view(_poisoned(prod(_shape(full, sizes)) * t.dtype.itemsize), full, sizes)


def _run_library(step: Library, buffers: Sequence[Array], sizes: Sizes) -> None:
    attrs = {k: _concrete(v, sizes) for k, v in step.attrs}
    inputs = [a for (n, _), a in zip(step.buffers, buffers) if n not in step.outputs]
    outs = [a for (n, _), a in zip(step.buffers, buffers) if n in step.outputs]
    try:
        made = OPS[step.op].reference(np, *inputs, **attrs)
    except np.linalg.LinAlgError as error:
        raise LinAlgError(str(error), origin=step.fails[0].origin if step.fails else None) from None
    for out, value in zip(outs, made if isinstance(made, tuple) else (made,)):
        out[...] = value


# ---- control flow

def _run_branch(step: Branch, buffers: Sequence[Array], sizes: Sizes) -> None:
    n = len(step.buffers) - len(step.outputs)
    at = int(buffers[0])
    program = step.programs[at if 0 <= at < len(step.programs) else -1]
    run_program(program, buffers[1:n], sizes, buffers[n:])


def _run_loop(step: Loop, buffers: Sequence[Array], sizes: Sizes) -> None:
    """Each turn writes carries to new memory, or in the place of those that it may replace."""
    n = len(step.buffers) - len(step.outputs)
    first, last = step.first_carry, step.first_carry + step.carries
    before, behind = buffers[:first], buffers[last:n]
    state = [a.copy() for a in buffers[first:last]]
    ys = buffers[n + step.carries:]
    for i in _turns(step, sizes):
        moving = behind if i is None else [x[i, ...] for x in behind]
        arguments = [*before, *state, *moving]
        if step.cond is not None and not run_program(step.cond, arguments, sizes)[0]:
            break
        after = [a if k in step.in_place else _poisoned(a.nbytes).view(a.dtype).reshape(a.shape)
                 for k, a in enumerate(state)]
        run_program(step.body, arguments, sizes,
                    [*after, *(y[i, ...] for y in ys)])
        state = after
    for out, a in zip(buffers[n:], state):
        out[...] = a


def _turns(step: Loop, sizes: Sizes) -> Iterator[int | None]:
    if step.cond is not None:
        return iter(lambda: None, 0)
    turns = range(evaluate_dim(step.length, sizes))
    return iter(reversed(turns) if step.reverse else turns)


def _concrete(value: Any, sizes: Sizes) -> Any:
    if isinstance(value, Size):
        return value.evaluate(sizes)
    return tuple(_concrete(v, sizes) for v in value) if isinstance(value, (tuple, list)) else value


# ---- kernels

def run_kernel(kernel: Kernel, buffers: Sequence[Array], sizes: Sizes) -> None:
    """Run a kernel on arrays for its buffers, in order; writes those that are outputs.

    Arrays are taken in the shapes that the kernel gives them (a flattened one has one dimension).
    """
    arrays = {name: a.reshape(_shape(t, sizes)) for (name, t), a in zip(kernel.buffers, buffers)}
    assert all(np.shares_memory(arrays[name], a) for (name, _), a in zip(kernel.buffers, buffers)
               if name in kernel.outputs and a.size), "an output is not contiguous"
    for block in _blocks(kernel, sizes):
        run = _Run(kernel, arrays, sizes, block)
        with np.errstate(all="ignore"):
            for stage in kernel.stages:
                _StageRun(run, stage).execute()


def _blocks(kernel: Kernel, sizes: Sizes) -> Iterator[range | None]:
    """Ranges of the outermost axis, small enough to be evaluated at once; None for all of it."""
    def extent(a: Axis) -> int:
        if isinstance(a.extent, Index):
            return (a.extent.bounds or (0, 1))[1]
        return evaluate_dim(a.extent, sizes)

    if not kernel.axes or isinstance(kernel.axes[0].extent, Index):
        yield None
        return
    n = extent(kernel.axes[0])
    inner = max((prod(map(extent, (*kernel.axes[1:], *s.axes))) for s in kernel.stages), default=1)
    step = max(1, POINTS // max(1, inner))
    for lo in range(0, n, step):
        yield range(lo, min(n, lo + step))


class _Run:
    """One block of a kernel's rows: its arrays, scratch rows and results of reductions."""

    def __init__(self, kernel: Kernel, arrays: Mapping[str, Array], sizes: Sizes,
                 block: range | None) -> None:
        self.kernel = kernel
        self.sizes = sizes
        self.block = block
        self.accs: dict[int, Array] = {}
        rows = _Space(self, kernel.axes)
        self.rows = rows.shape
        scratch = {n: _empty(t, sizes, self.rows) for n, t in kernel.scratch}
        self.arrays = {**arrays, **scratch}
        self.scratch = frozenset(scratch)


class _Space:
    """The index space of some axes: their coordinates as arrays that broadcast together."""

    def __init__(self, run: _Run, axes: tuple[Axis, ...]) -> None:
        self.run = run
        self.axes = axes
        self.at: dict[Axis, Array] = {}
        self.values: dict[Expr, Array] = {}
        mask = np.ones((1,) * len(axes), bool)
        for k, axis in enumerate(axes):
            if isinstance(axis.extent, Index):    # ragged: as many turns as the longest, masked
                extent = self.index(axis.extent)
                self._place(k, range(int(extent.max(initial=0))))
                mask = mask & (self.at[axis] < extent)
            else:
                whole = range(evaluate_dim(axis.extent, run.sizes))
                self._place(k, run.block if k == 0 and run.block is not None else whole)
        self.shape = tuple(self.at[a].size for a in axes)
        self.ragged = any(isinstance(a.extent, Index) for a in axes)
        self.mask = mask

    def _place(self, k: int, turns: range) -> None:
        line = [1] * len(self.axes)
        line[k] = len(turns)
        self.at[self.axes[k]] = np.arange(turns.start, turns.stop).reshape(line)

    # ---- indices

    def index(self, index: Index) -> Array:
        """The value of an index at every point."""
        parts = [self.atom(a) * self.dim(c) for a, c in index.terms]
        return reduce(np.add, parts, np.asarray(self.dim(index.const), np.int64))

    def dim(self, d: Dim) -> int:
        """The value of a size."""
        return evaluate_dim(d, self.run.sizes)

    def atom(self, atom: Atom) -> Array:
        """The value of an atom of an index at every point."""
        if isinstance(atom, Axis):
            return self.at[atom]
        if isinstance(atom, Value):
            return self.values[atom.expr]
        if isinstance(atom, Smaller):
            return np.asarray(np.minimum(self.index(atom.a), self.index(atom.b)))
        op = {Quotient: np.floor_divide, Remainder: np.remainder}[type(atom)]
        return np.asarray(op(self.index(atom.of), self.dim(atom.by)))


class _StageRun(_Space):
    """One stage over all rows of a block."""

    def __init__(self, run: _Run, stage: Stage) -> None:
        super().__init__(run, (*run.kernel.axes, *stage.axes))
        self.stage = stage
        self.inner = len(stage.axes)

    def execute(self) -> None:
        """Checks first: other reads may rely on them."""
        stage = self.stage
        self.evaluate(*(c.value for c in stage.checks))
        for check in stage.checks:
            self.check(check)
        self.evaluate(*stage.roots)
        for r in stage.reduces:
            self.run.accs[r.number] = self.reduce(r)
        for s in stage.stores:
            self.store(s)

    def evaluate(self, *roots: Expr) -> None:
        """Fill `values` for the expressions and all that they need."""
        for e in walk(*roots):
            if e not in self.values:
                self.values[e] = _EXPR[e.kind](self, e)

    def whole(self, value: Array) -> Array:
        """A value at every point of the space."""
        return np.broadcast_to(value, self.shape)

    # ---- expressions

    def load(self, e: Expr) -> Array:
        """Elements of a buffer, 0 where the guard is false."""
        array, at = self.element(e.what, e.index)
        valid = self.mask & self.values[e.args[0]] if e.args else self.mask
        if 0 in self.shape or not valid.any():
            return np.zeros((1,) * len(self.axes), array.dtype)
        if e.args or self.ragged:
            at = tuple(np.where(valid, ix, 0) for ix in at)
        self.inside(array, at, e)
        found = np.asarray(array[at])
        return np.where(valid, found, np.zeros((), array.dtype)) if e.args or self.ragged else found

    def element(self, buffer: str, index: tuple[Index, ...]) -> tuple[Array, tuple[Array, ...]]:
        """A buffer and where in it the index lies; a scratch row has the rows as first axes."""
        at = tuple(self.index(ix) for ix in index)
        if buffer in self.run.scratch:
            at = (*self.rows_at, *at)
        return self.run.arrays[buffer], at

    @cached_property
    def rows_at(self) -> tuple[Array, ...]:
        """The rows' coordinates, counted from the begin of the block."""
        starts = [self.run.block.start if k == 0 and self.run.block else 0
                  for k in range(len(self.run.kernel.axes))]
        return tuple(self.at[a] - s for a, s in zip(self.run.kernel.axes, starts))

    def inside(self, array: Array, at: tuple[Array, ...], what: object) -> None:
        """Refuse accesses outside a buffer, which the compiler must never generate."""
        assert len(at) == array.ndim, f"{what} has {len(at)} indices for shape {array.shape}"
        for ix, d in zip(at, array.shape):
            assert ix.min() >= 0 and ix.max() < d, \
                f"{what} is outside {array.shape}: {ix.min()}..{ix.max()}"

    def apply(self, e: Expr) -> Array:
        """An elementwise op by its declared meaning."""
        attrs: dict[str, DType] = {"dtype": e.dtype} if "dtype" in OPS[e.what].attrs else {}
        out = np.asarray(OPS[e.what].reference(np, *(self.values[a] for a in e.args), **attrs))
        assert out.dtype == e.dtype.numpy, f"{e} gives {out.dtype}"
        return out

    def acc(self, e: Expr) -> Array:
        """The result of a reduction of an earlier stage."""
        return self.run.accs[e.what].reshape((*self.run.rows, *(1,) * self.inner))

    # ---- effects

    def reduce(self, r: Reduce) -> Array:
        """A value for every row."""
        value = self.whole(self.values[r.value])
        if self.ragged:
            value = np.where(self.mask, value, _identity(r.op, r.dtype))
        flat = value.reshape(*self.run.rows, prod(self.shape[len(self.run.rows):]))
        fn = _REDUCE[r.op]
        if r.op in ("argmax", "argmin"):
            return np.asarray(fn(flat, axis=-1))
        assert value.dtype == r.dtype.numpy, f"{r} combines {value.dtype}"
        return np.asarray(fn(flat, axis=-1)).astype(r.dtype.numpy)

    def store(self, s: Store) -> None:
        """Write an element at every point that is not masked off, in order."""
        array, at = self.element(s.buffer, s.index)
        value = self.whole(self.values[s.value])
        assert value.dtype == array.dtype, f"{s} stores {value.dtype} into {array.dtype}"
        if self.ragged or s.guard is not None:
            mask = self.whole(self.mask if s.guard is None else self.mask & self.values[s.guard])
            at, value = tuple(self.whole(ix)[mask] for ix in at), value[mask]
        if not value.size:
            return
        self.inside(array, at, s)
        at = tuple(np.broadcast_to(ix, value.shape) for ix in at)
        if s.combine:
            with np.errstate(all="ignore"):
                getattr(np, _UFUNCS.get(s.combine, s.combine)).at(array, at, value)
        elif array.ndim:
            array[at] = value
        else:
            array[()] = value.reshape(-1)[-1]

    def check(self, c: Check) -> None:
        """Raise for the first value that is not allowed."""
        value, size = self.whole(self.values[c.value]), self.dim(c.size)
        bad = value < 0 if c.kind == "exponent" else (value < -size) | (value >= size)
        wrong = value[bad & self.mask]
        if wrong.size:
            raise c.error(int(wrong[0]), size)


_EXPR: dict[str, Callable[[_StageRun, Expr], Array]] = {
    "load": _StageRun.load,
    "const": lambda s, e: np.asarray(e.what),
    "index": lambda s, e: s.index(e.index[0]).astype(e.dtype.numpy),
    "apply": _StageRun.apply,
    "acc": _StageRun.acc,
}
_UFUNCS = {"mul": "multiply"}
_REDUCE: dict[str, Callable[..., Any]] = {
    "sum": lambda x, axis: np.sum(x, axis=axis, dtype=x.dtype),
    "prod": lambda x, axis: np.prod(x, axis=axis, dtype=x.dtype),
    "max": np.max, "min": np.min, "and": np.all, "or": np.any,
    "argmax": np.argmax, "argmin": np.argmin,
}


def _identity(op: str, dtype: DType) -> Array:
    """The value that leaves a reduction as it is."""
    if op in ("max", "min"):
        low = op == "max"
        if dtype.is_integer:
            info = np.iinfo(dtype.numpy)
            return np.asarray(info.min if low else info.max, dtype.numpy)
        if dtype.is_inexact:
            value = -np.inf if low else np.inf
            return np.asarray(complex(value, value) if dtype.is_complex else value
                              ).astype(dtype.numpy)
        return np.asarray(not low)
    return np.asarray({"sum": 0, "prod": 1, "and": 1, "or": 0}[op]).astype(dtype.numpy)
