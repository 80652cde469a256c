"""The kernel IR: loop nests over index spaces, and programs of them.

A `Kernel` runs its stages, in order, for every point of its outer axes (its rows). A stage loops
over inner axes of its own; in each turn it feeds reductions and stores elements. A reduction's
result is known to the stages after its own. So an elementwise chain is one stage without inner
axes; a row sum is a reducing stage and a storing one; a softmax is three stages over one row; a
matrix product is a reduction of a product with its epilogue behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from weft.compiler.errors import Origin, WeftError, failed_check
from weft.compiler.kernel.expr import Expr, index_values, walk
from weft.compiler.kernel.index import Atom, Axis, Index, Value, index_dims
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import Dim, DType, Size, TensorType, numel

if TYPE_CHECKING:
    from weft.compiler.kernel.nested import Branch, Loop

__all__ = ["Buffer", "Check", "Failure", "Kernel", "Library", "Program", "Reduce", "Stage", "Step",
           "Store"]


@dataclass(frozen=True)
class Reduce:
    """Reduction number `number`: `value` combined by `op` over the inner axes of its stage.

    `op` is sum, prod, max, min, and, or, argmax or argmin; the last two yield the flat position
    in the stage's inner space, an i64. `dtype` is the accumulator's type.
    """

    number: int
    op: str
    value: Expr
    dtype: DType

    def __repr__(self) -> str:
        return f"acc{self.number}: {self.dtype} = {self.op} {self.value}"


@dataclass(frozen=True)
class Store:
    """`buffer[index] = value`, or that combined by the elementwise op `combine` with what is there.

    Where the guard is false, nothing is written.
    """

    buffer: str
    index: tuple[Index, ...]
    value: Expr
    combine: str = ""
    guard: Expr | None = None

    @property
    def roots(self) -> tuple[Expr, ...]:
        """The expressions that it evaluates, those in its index aside."""
        return (self.value,) if self.guard is None else (self.guard, self.value)

    @property
    def sign(self) -> str:
        """How it is written: ``=``, ``+=``, ``max=``, …"""
        short = {"add": "+", "mul": "*", "minimum": "min", "maximum": "max"}
        return f"{short.get(self.combine, self.combine)}="

    def __repr__(self) -> str:
        guard = "" if self.guard is None else f" if {self.guard}"
        return f"{self.buffer}[{', '.join(map(str, self.index))}] {self.sign} {self.value}{guard}"


@dataclass(frozen=True)
class Check:
    """Stop with an error where `value` is not allowed.

    Of kind ``"index"``, it is an index of an axis with `size` elements and must lie in
    [-size, size); of kind ``"exponent"``, the exponent of an integer and must not be negative.
    """

    value: Expr
    size: Dim
    axis: int
    origin: Origin | None = field(default=None, compare=False)
    kind: str = "index"

    @property
    def range(self) -> str:
        """What is allowed, as text."""
        return "0 <=" if self.kind == "exponent" else f"within {self.size}:"

    def error(self, value: int, size: int) -> WeftError:
        """The error that a forbidden value raises."""
        return failed_check(self.kind, value, self.axis, size, self.origin)

    def __repr__(self) -> str:
        return f"check {self.range} {self.value}"


@dataclass(frozen=True)
class Stage:
    """A loop over inner axes that feeds reductions, stores elements and checks indices.

    Turns of axes that are `ordered` may write to the same places, and must follow one another.
    """

    axes: tuple[Axis, ...]
    reduces: tuple[Reduce, ...] = ()
    stores: tuple[Store, ...] = ()
    checks: tuple[Check, ...] = ()
    ordered: tuple[Axis, ...] = ()

    @property
    def most_turns(self) -> int | None:
        """How many turns the loop takes at the most, if that is known."""
        turns = 1
        for axis in self.axes:
            extent = _dim(axis.extent)
            if not isinstance(extent, int) or (isinstance(axis.extent, Index)
                                               and axis.extent.bounds is None):
                return None
            turns *= extent
        return turns

    @property
    def roots(self) -> tuple[Expr, ...]:
        """The expressions evaluated in every turn."""
        return (*(c.value for c in self.checks), *(r.value for r in self.reduces),
                *(r for s in self.stores for r in s.roots),
                *(v for s in self.stores for v in store_values(s)))


def store_values(store: Store) -> list[Expr]:
    """Run-time values in the index of a store."""
    return [v.expr for i in store.index for v in index_values(i)]


@dataclass(frozen=True)
class Kernel:
    """A loop nest; see the module's text.

    `buffers` maps the names used in loads and stores to types, in the order in which the kernel
    takes them; `scratch` are row-sized buffers of its own. `outputs` are the buffers written: all
    of their elements, but for an output that it `updates`, which has contents before. With
    `shares`, an output may lie where an input does; each of its elements is read in the turn that
    writes it.
    """

    axes: tuple[Axis, ...]
    stages: tuple[Stage, ...]
    buffers: tuple[tuple[str, TensorType], ...]
    outputs: tuple[str, ...]
    scratch: tuple[tuple[str, TensorType], ...] = ()
    updates: str = ""
    shares: bool = False

    @cached_property
    def types(self) -> dict[str, TensorType]:
        """The type of every buffer, scratch included."""
        return dict((*self.buffers, *self.scratch))

    @property
    def reduces(self) -> tuple[Reduce, ...]:
        """All reductions, in order of their stages."""
        return tuple(r for s in self.stages for r in s.reduces)

    @property
    def rows(self) -> Dim:
        """How many points the outer axes have."""
        return numel(_dim(a.extent) for a in self.axes)

    @cached_property
    def exprs(self) -> list[Expr]:
        """All expressions, each once."""
        return walk(*(r for s in self.stages for r in s.roots))

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """Names of symbolic sizes that the kernel needs."""
        axes = (*self.axes, *(x for s in self.stages for x in s.axes))
        indices = [i for e in self.exprs for i in e.index]
        indices += [i for s in self.stages for w in s.stores for i in w.index]
        indices += [a.extent for a in axes if isinstance(a.extent, Index)]
        dims = [d for _, t in (*self.buffers, *self.scratch) for d in t.shape]
        dims += [a.extent for a in axes if not isinstance(a.extent, Index)]
        dims += [c.size for s in self.stages for c in s.checks]
        dims += [d for i in indices for d in index_dims(i)]
        return tuple(sorted({n for d in dims if isinstance(d, Size) for n in d.symbols}))

    def text(self, name: str = "kernel") -> str:
        """The kernel as text, written as the loops it stands for."""
        return "\n".join(_kernel_lines(self, name))

    def __str__(self) -> str:
        return self.text()

    @cached_property
    def key(self) -> str:
        """Text equal for kernels that generate equal code."""
        return self.text()


def _dim(extent: Dim | Index) -> Dim:
    if isinstance(extent, Index):
        bounds = extent.bounds
        return bounds[1] if bounds else 1
    return extent


@dataclass(frozen=True)
class Failure:
    """What a library step raises where it cannot do its work: the words of a `LinAlgError`; or, of
    kind ``"custom"``, the name of the op whose own error is to be told."""

    text: str
    origin: Origin | None = field(default=None, compare=False)
    kind: str = "linalg"


@dataclass(frozen=True)
class Library:
    """A step that a device performs as a whole: sorting, running sums, and the like.

    `op` and `attrs` are the graph op's; buffers are named like a kernel's, the outputs last. The
    outputs are the op's results, in order. `fails` says what may go wrong while it runs; its code
    writes the number, from 1, of what did into the status.
    """

    op: str
    attrs: tuple[tuple[str, Any], ...]
    buffers: tuple[tuple[str, TensorType], ...]
    outputs: tuple[str, ...]
    fails: tuple[Failure, ...] = ()

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """Names of symbolic sizes that the step needs."""
        dims = [d for _, t in self.buffers for d in t.shape]
        return tuple(sorted({n for d in dims if isinstance(d, Size) for n in d.symbols}))

    def text(self, name: str = "library") -> str:
        """One line that names the op and its buffers."""
        inputs = ", ".join(f"{n}: {t}" for n, t in self.buffers if n not in self.outputs)
        outs = ", ".join(f"{n}: {t}" for n, t in self.buffers if n in self.outputs)
        attrs = ", ".join(f"{k}={v}" for k, v in self.attrs)
        tail = f" {{{attrs}}}" if attrs else ""
        return f"library {name} {self.op}({inputs}) -> ({outs}){tail}"

    @cached_property
    def key(self) -> str:
        """Text equal for steps that generate equal code."""
        return self.text()


@dataclass(frozen=True)
class Buffer:
    """Memory of a program: a parameter, a result, or a temporary.

    `offset` places a temporary in the arena, in bytes; `value` is the contents of a constant.
    """

    name: str
    type: TensorType
    kind: str                       # "param" | "result" | "temp" | "constant"
    index: int = -1                 # position among the parameters or results
    offset: Dim = 0
    value: Any = field(default=None, compare=False)


@dataclass(frozen=True)
class Step:
    """One kernel applied to buffers of the program, with what `explain` says of it.

    `scratch` names the temporary in which nested programs (see `nested`) have theirs.
    """

    kernel: Kernel | Library | Branch | Loop
    buffers: tuple[str, ...]        # program buffers, in the order of kernel.buffers
    name: str
    ops: tuple[str, ...] = ()
    origins: tuple[Origin, ...] = ()
    notes: tuple[str, ...] = ()
    flops: float = 0.0
    nbytes: float = 0.0
    scratch: str = ""


@dataclass(frozen=True)
class Program:
    """Kernels in execution order over planned buffers: what devices turn into code."""

    name: str
    buffers: tuple[Buffer, ...]
    steps: tuple[Step, ...]
    results: tuple[str, ...]        # buffer of each result (a parameter where it is returned as is)
    arena: Dim = 0                  # bytes for temporaries
    symbols: tuple[str, ...] = ()

    @cached_property
    def by_name(self) -> dict[str, Buffer]:
        """Buffers by name."""
        return {b.name: b for b in self.buffers}

    def text(self) -> str:
        """The whole program: each distinct kernel once, then the steps."""
        lines: list[str] = []
        names: dict[str, str] = {}
        for step in self.steps:
            if step.kernel.key not in names:
                names[step.kernel.key] = step.name
                lines += [step.kernel.text(step.name), ""]
        lines.append(f"program @{self.name} {{")
        for b in self.buffers:
            place = f" @{b.offset}" if b.kind == "temp" else ""
            lines.append(f"  {b.kind} %{b.name}: {b.type}{place}")
        for step in self.steps:
            args = ", ".join("%" + b for b in step.buffers)
            lines.append(f"  call {names[step.kernel.key]}({args})")
        lines += [f"  return {', '.join('%' + r for r in self.results)}", "}"]
        return "\n".join(lines) + "\n"


def _kernel_lines(k: Kernel, name: str) -> Iterator[str]:
    buffers = ", ".join(f"{n}: {t}" for n, t in k.buffers)
    verb = "updates" if k.updates else "->"
    place = " in place" if k.shares else ""
    yield f"kernel {name}({buffers}) {verb} {', '.join(k.outputs)}{place} {{"
    for n, t in k.scratch:
        yield f"  scratch {n}: {t}"
    pad = "  "
    for a in k.axes:
        yield f"{pad}for {a.name} in {a.extent}:"
        pad += "  "
    for stage in k.stages:
        inner = pad
        names: dict[Expr, str] = {}
        head = ", ".join(f"{a.name} in {a.extent}" for a in stage.axes)
        if stage.axes:
            order = f" in order of {', '.join(map(str, stage.ordered))}" if stage.ordered else ""
            yield f"{pad}for {head}{order}:"
            inner += "  "
        uses = _uses(stage)
        for e in walk(*stage.roots):
            if e.kind != "const" and uses[e] > 1 and (e.kind != "acc"):
                text = _text(e, names)
                names[e] = f"t{len(names)}"
                yield f"{inner}{names[e]}: {e.dtype} = {text}"
        for c in stage.checks:
            yield f"{inner}check {c.range} {_text(c.value, names)}"
        for r in stage.reduces:
            yield f"{inner}acc{r.number}: {r.dtype} = {r.op} {_text(r.value, names)}"
        for s in stage.stores:
            guard = "" if s.guard is None else f" if {_text(s.guard, names)}"
            yield (f"{inner}{s.buffer}[{_indices(s.index, names)}] {s.sign} "
                   f"{_text(s.value, names)}{guard}")
    yield "}"


def _uses(stage: Stage) -> dict[Expr, int]:
    count: dict[Expr, int] = dict.fromkeys(walk(*stage.roots), 0)
    for e in count:
        for c in e.children:
            count[c] += 1
    for r in stage.roots:
        count[r] += 1
    return count


def _indices(index: tuple[Index, ...], names: dict[Expr, str]) -> str:
    def value(atom: Atom) -> Index | None:
        if not isinstance(atom, Value):
            return None
        return Index(((Axis(f"<{_text(atom.expr, names)}>", atom.below), 1),))

    return ", ".join(str(ix.substitute(value) if index_values(ix) else ix) for ix in index)


def _text(e: Expr, names: dict[Expr, str]) -> str:
    if e in names:
        return names[e]
    if e.kind == "load":
        guard = f" if {_text(e.args[0], names)}" if e.args else ""
        return f"{e.what}[{_indices(e.index, names)}]{guard}"
    if e.kind == "index":
        return f"{e.dtype}({_indices(e.index, names)})"
    if e.kind != "apply":
        return repr(e)
    args = [_text(a, names) for a in e.args]
    sign = {"add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "le": "<=", "gt": ">",
            "ge": ">=", "eq": "==", "ne": "!="}.get(e.what)
    if sign and len(args) == 2:
        return f"({args[0]} {sign} {args[1]})"
    suffix = f":{e.dtype}" if e.what in ("convert", "bitcast") else ""
    return f"{e.what}{suffix}({', '.join(args)})"
