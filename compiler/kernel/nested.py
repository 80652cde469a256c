"""Steps that run programs: one of several (`Branch`), or one again and again (`Loop`).

A nested program's parameters, results and symbols are what the step binds them to; its temporaries
lie in the step's scratch memory, which is a temporary of the program around it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property

from weft.compiler.kernel.expr import Expr, walk
from weft.compiler.kernel.index import Index
from weft.compiler.kernel.ir import Kernel, Program, Step, Store
from weft.compiler.lazy_dataclass import dataclass, replace
from weft.compiler.types import Dim, Size, TensorType

__all__ = ["ALIGN", "Branch", "Loop", "leaves", "map_programs", "runs_in_place"]

ALIGN = 64


@dataclass(frozen=True)
class Branch:
    """`programs[index]` (the last one where the index is out of range) on the operands.

    `buffers` are the index, the operands, the results.
    """

    programs: tuple[Program, ...]
    buffers: tuple[tuple[str, TensorType], ...]
    outputs: tuple[str, ...]

    @property
    def nested(self) -> tuple[tuple[str, Program], ...]:
        """The programs, each with what it is."""
        return tuple((f"branch {i}", p) for i, p in enumerate(self.programs))

    def with_nested(self, programs: Iterable[Program]) -> Branch:
        """The same step with these programs."""
        return replace(self, programs=tuple(programs))

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """Names of symbolic sizes that the step needs."""
        return _symbols(self.programs)

    @cached_property
    def scratch(self) -> Dim:
        """Bytes of memory for temporaries of the branch that runs."""
        return _most(p.arena for p in self.programs)

    def text(self, name: str = "branch") -> str:
        """The step with its programs."""
        return _text("branch", name, self, "")

    @cached_property
    def key(self) -> str:
        """Text equal for steps that generate equal code."""
        return self.text()


@dataclass(frozen=True)
class Loop:
    """A body run again and again: `length` times, or as long as `cond` holds.

    `buffers` are the operands, then the results. Of a counted loop (`cond` is None) the operands
    are `consts` constants, `carries` carries, and arrays of which each turn gets an element of the
    first axis; its results are the carries, then arrays of which each turn writes an element. Of
    the other, operands are carries and constants, and results are the carries. The body may
    overwrite the carries that are `owned`, where it updates a few elements; the loop begins with
    copies of these.
    """

    body: Program
    cond: Program | None
    buffers: tuple[tuple[str, TensorType], ...]
    outputs: tuple[str, ...]
    consts: int
    carries: int
    length: Dim = 0
    reverse: bool = False
    owned: frozenset[int] = frozenset()

    @property
    def nested(self) -> tuple[tuple[str, Program], ...]:
        """The programs, each with what it is."""
        return (("body", self.body),) if self.cond is None else (
            ("while", self.cond), ("body", self.body))

    def with_nested(self, programs: Iterable[Program]) -> Loop:
        """The same step with these programs."""
        *cond, body = programs
        return replace(self, body=body, cond=cond[0] if cond else None)

    @property
    def first_carry(self) -> int:
        """Where the carries begin among the operands, and the body's parameters."""
        return self.consts if self.cond is None else 0

    @property
    def first_const(self) -> int:
        """Where the constants begin among the operands."""
        return 0 if self.cond is None else self.carries

    @property
    def carry_types(self) -> tuple[TensorType, ...]:
        """The types of the carries."""
        first = self.first_carry
        return tuple(t for _, t in self.buffers[first:first + self.carries])

    @cached_property
    def updated(self) -> frozenset[int]:
        """The carries that the body leaves in the memory in which it got them."""
        return frozenset(k for k, p in enumerate(self._carried) if p == self.body.results[k])

    @cached_property
    def in_place(self) -> frozenset[int]:
        """The carries that a turn may write where it has read them."""
        return self.updated.union(k for k, p in enumerate(self._carried)
                                  if runs_in_place(self.body, p, self.body.results[k]))

    @property
    def _carried(self) -> list[str]:
        params = [b.name for b in self.body.buffers if b.kind == "param"]
        return params[self.first_carry:self.first_carry + self.carries]

    @cached_property
    def spares(self) -> dict[int, Dim]:
        """Where in the scratch memory the other buffers of carries lie that need two."""
        at = _rounded(_most(p.arena for _, p in self.nested))
        out: dict[int, Dim] = {}
        for k, t in enumerate(self.carry_types):
            if k not in self.in_place and t.shape != ():    # numbers are kept in registers
                out[k] = at
                at = _rounded(at + t.nbytes)
        return out

    @cached_property
    def scratch(self) -> Dim:
        """Bytes of memory for temporaries of a turn, and for second buffers of carries."""
        if not self.spares:
            return _most(p.arena for _, p in self.nested)
        last = max(self.spares)
        return _rounded(self.spares[last] + self.carry_types[last].nbytes)

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """Names of symbolic sizes that the step needs."""
        own = self.length.symbols if isinstance(self.length, Size) else ()
        return tuple(sorted({*own, *_symbols(p for _, p in self.nested)}))

    def text(self, name: str = "loop") -> str:
        """The step with its programs."""
        how = "" if self.cond is not None else f" {self.length} times" + (
            " backwards" if self.reverse else "")
        return _text("loop", name, self, how)

    @cached_property
    def key(self) -> str:
        """Text equal for steps that generate equal code."""
        return self.text()


def _symbols(programs: Iterable[Program]) -> tuple[str, ...]:
    return tuple(sorted({s for p in programs for s in p.symbols}))


def _text(word: str, name: str, step: Branch | Loop, how: str) -> str:
    inputs = ", ".join(f"{n}: {t}" for n, t in step.buffers if n not in step.outputs)
    outs = ", ".join(f"{n}: {t}" for n, t in step.buffers if n in step.outputs)
    lines = [f"{word} {name}({inputs}) -> ({outs}){how} {{"]
    for label, program in step.nested:
        body = [f"  {line}".rstrip() for line in program.text().splitlines()]
        lines += [f"  {label}:", *body]
    return "\n".join([*lines, "}"])


def _rounded(size: Dim) -> Dim:
    """Up to a multiple of ALIGN; a symbolic size with room for that."""
    return -(-size // ALIGN) * ALIGN if isinstance(size, int) else size + ALIGN


def _most(sizes: Iterable[Dim]) -> Dim:
    """The greatest size; of symbolic ones, which need not compare, one that holds each."""
    total: Dim = 0
    for size in sizes:
        total = max(total, size) if isinstance(size, int) and isinstance(total, int) else \
            size if total == 0 else total if size in (0, total) else total + size
    return total


# ---- programs in programs

def map_programs(program: Program, change: Callable[[Program], Program]) -> Program:
    """The program with the programs in its steps changed; the same object if none was."""
    steps = tuple(_mapped(s, change) for s in program.steps)
    if all(a is b for a, b in zip(steps, program.steps)):
        return program
    return replace(program, steps=steps)


def _mapped(step: Step, change: Callable[[Program], Program]) -> Step:
    if not isinstance(step.kernel, (Branch, Loop)):
        return step
    before = [p for _, p in step.kernel.nested]
    after = [change(p) for p in before]
    if all(a is b for a, b in zip(after, before)):
        return step
    return replace(step, kernel=step.kernel.with_nested(after))


def leaves(program: Program) -> Iterator[tuple[Step, str]]:
    """The steps that are kernels or library calls, nested ones too, with the way to them."""
    for step in program.steps:
        if isinstance(step.kernel, (Branch, Loop)):
            for label, inner in step.kernel.nested:
                for leaf, way in leaves(inner):
                    yield leaf, f"{step.name} {label}" + (f", {way}" if way else "")
        else:
            yield step, ""


# ---- writing where one has read

def runs_in_place(body: Program, source: str, target: str) -> bool:
    """Whether the result `target` may lie in the memory of the parameter `source`.

    So it is where every kernel that writes the result reads the parameter only at the elements it
    writes, before it writes them, and no later step reads the parameter.
    """
    written = False
    for step in body.steps:
        bound = dict(zip((n for n, _ in step.kernel.buffers), step.buffers))
        reads = {n for n, b in bound.items() if b == source and n not in step.kernel.outputs}
        writes = {n for n, b in bound.items() if b == target and n in step.kernel.outputs}
        if writes:
            written = True
            if not isinstance(step.kernel, Kernel) or not all(
                    _reads_what_it_writes(step.kernel, reads, out) for out in writes):
                return False
        elif written and reads:
            return False
    return written


def _reads_what_it_writes(kernel: Kernel, reads: set[str], out: str) -> bool:
    if any(r.value.kind == "apply" for r in kernel.reduces):
        return False                    # a matrix product keeps sums in its result
    written = False
    for stage in kernel.stages:
        stores = [s for s in stage.stores if s.buffer == out]
        loads = [e for e in walk(*stage.roots) if e.kind == "load" and e.what in reads]
        if written and (stores or loads):
            return False
        if stores:
            written = True
            if not all(_of_itself(s, loads) for s in stores):
                return False
            own = {e for s in stores for e in walk(s.value)}
            if any(e not in own for e in loads):
                return False
        if any(e.args or not _own_row(kernel, e.index, out) for e in loads):
            return False
    return True


def _of_itself(store: Store, loads: Sequence[Expr]) -> bool:
    """Whether what is stored needs the element that it overwrites alone: others may have been
    overwritten by then."""
    own = set(walk(store.value))
    return all(e.index == store.index for e in loads if e in own)


def _own_row(kernel: Kernel, index: tuple[Index, ...], out: str) -> bool:
    """Whether an index is one at which the kernel stores."""
    return any(s.index == index for stage in kernel.stages for s in stage.stores
               if s.buffer == out)


