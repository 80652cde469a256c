"""From a program to one LLVM module: every distinct kernel once, and `main` that runs the steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from weft.compiler.kernel.ir import Check, Failure, Kernel, Library, Program
from weft.compiler.kernel.nested import leaves
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.target import Target
from weft.devices.cpu.code import KernelCode
from weft.devices.cpu.codegen import emit_loops
from weft.devices.cpu.compiled import BAD_INDEX, CONSTANTS
from weft.devices.cpu.main import Main
from weft.devices.cpu.main_env import constants, written_out

__all__ = ["Module", "build_module"]

LARGE_TEXT = 40_000        # characters of kernels from which two threads write the machine code


@dataclass(frozen=True)
class Module:
    """LLVM IR text that defines `i32 main(ptr buffers, ptr sizes)`.

    `buffers` are the addresses of the program's parameters, then its results; `sizes` the values
    of its symbols. The pointers to constants are read from the variable `constants`, in the order
    of `constants` here. A status other than 0 names a failed check; its index stands in the
    variable `bad_index`; None stands for a signal. `parts` are modules that together define the
    same, for several threads. `externals` are names that are looked up when the code is loaded:
    see `numpy_loops` and `custom`.
    """

    text: str
    constants: tuple[Any, ...]
    checks: Mapping[int, Check | Failure | None]
    parts: tuple[str, ...]
    externals: tuple[str, ...] = ()


def emit_kernel(kernel: Kernel | Library, name: str, target: Target) -> KernelCode:
    """Code for one step, by the schedule that fits it best."""
    if isinstance(kernel, Library):
        from weft.devices.cpu.library import emit_library  # many modules, for seldom used steps

        return emit_library(kernel, name, target)
    if _multiplies(kernel):
        from weft.devices.cpu import gemm  # many modules, for contractions only

        plan = gemm.plan(kernel, target)
        if plan is not None:
            return gemm.emit(kernel, plan, name, target)
    return emit_loops(kernel, name, target)


def _multiplies(kernel: Kernel) -> bool:
    """Whether it may be a contraction: it reduces something that is computed of several values."""
    return len(kernel.stages) == 2 and any(
        r.value.kind == "apply" for r in kernel.stages[0].reduces)


def build_module(program: Program, target: Target) -> Module:
    """The module of a program for a target."""
    codes: dict[str, KernelCode] = {}
    names: set[str] = set()             # nested programs may use one name twice
    for step, way in leaves(program):
        kernel = step.kernel
        if kernel.key not in codes and not (way and written_out(kernel)):
            assert isinstance(kernel, (Kernel, Library))
            name = next(n for i in count() if (n := f"{step.name}{i or ''}") not in names)
            names.add(name)
            codes[kernel.key] = emit_kernel(kernel, name, target)
    main = Main(program, codes, target)
    body = main.text()
    values = tuple(b.value for b in constants(program))
    head = (f"@{CONSTANTS} = global [{max(1, len(values))} x ptr] zeroinitializer\n"
            f"@{BAD_INDEX} = global i64 0\n")
    every = list(codes.values())
    own = KernelCode("", frozenset(), main.helpers)     # of the steps that main has in place
    text = _text(target, [*every, own], main.e.declares, head, body)
    parts = [text]
    if len(text) > LARGE_TEXT and target.threads > 1:
        first, second = _halves(every, len(body))
        called = {f"declare void @{p.symbol}(ptr, i64, i64)" for c in second for p in c.phases}
        parts = [_text(target, [*first, own], main.e.declares | called, head, body),
                 *([_exported(_text(target, second), second)] if second else [])]
    return Module(text, values, main.checks, tuple(parts), tuple(_externals(every)))


def _text(target: Target, codes: Sequence[KernelCode], declares: Iterable[str] = (),
          head: str = "", body: str = "") -> str:
    """A module of these kernels, between other definitions."""
    helpers = {n: t for c in codes for n, t in c.helpers.items()}
    defined = {line.split("@", 1)[1].split("(", 1)[0] for t in helpers.values()
               for line in t.splitlines() if line.startswith("define")}
    every = {*declares}.union(*(c.declares for c in codes))
    by_name = {d.split("@", 1)[1].split("(", 1)[0]: d for d in sorted(every)}
    lines = [f"target triple = \"{target.triple}\"" if target.triple else "", head,
             *sorted({d for name, d in by_name.items() if name not in defined}),
             *helpers.values(), *(c.text for c in codes), body, "!0 = !{i32 1}"]
    return "\n".join(line for line in lines if line) + "\n"


def _externals(codes: Sequence[KernelCode]) -> Iterator[str]:
    """The names, among those that code declares, of NumPy's loops and of custom ops."""
    for line in sorted({d for c in codes for d in c.declares}):
        name = line.partition("@")[2].partition("(")[0].partition(" ")[0]
        if name.startswith(("weft_loop_", "weft_custom_")):
            yield name


def _halves(codes: Sequence[KernelCode], size: int) -> tuple[list[KernelCode], list[KernelCode]]:
    """The kernels in two groups about equally long; the first has so many characters already."""
    groups: tuple[list[KernelCode], list[KernelCode]] = ([], [])
    sizes = [size, 0]
    for code in sorted(codes, key=lambda c: -len(c.text)):
        shorter = sizes.index(min(sizes))
        groups[shorter].append(code)
        sizes[shorter] += len(code.text)
    return groups


def _exported(text: str, codes: Sequence[KernelCode]) -> str:
    """The text with the functions of the phases visible to other modules."""
    for symbol in {p.symbol for c in codes for p in c.phases}:
        text = text.replace(f"define internal void @{symbol}(", f"define void @{symbol}(")
    return text
