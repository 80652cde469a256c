"""From a program to one LLVM module: every distinct kernel once, and `main` that runs the steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from weft.compiler.kernel.ir import Check, Failure, Kernel, Library, Program, Step
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.target import Target
from weft.compiler.types import Dim
from weft.devices.cpu.code import KernelCode, Phase
from weft.devices.cpu.codegen import emit_loops
from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.evaluate import Evaluator

__all__ = ["Module", "build_module"]

MAIN = "main"
CONSTANTS = "constants"
STACK_ARENA = 4096         # temporaries up to this size live on the stack
LARGE_TEXT = 40_000        # characters of kernels from which two threads write the machine code
STEP = 256                 # a status is STEP * step + the number of the step's check, from 1


@dataclass(frozen=True)
class Module:
    """LLVM IR text that defines `i32 main(ptr buffers, ptr sizes)`.

    `buffers` are the addresses of the program's parameters, then its results; `sizes` the values
    of its symbols. The pointers to constants are read from the variable `constants`, in the order
    of `constants` here. A status other than 0 names a failed check; its index stands in the
    variable `bad_index`. `parts` are modules that together define the same, for several threads.
    `externals` are names that are looked up when the code is loaded: see `numpy_loops`.
    """

    text: str
    constants: tuple[str, ...]
    checks: Mapping[int, Check | Failure]
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
    for step in program.steps:
        if step.kernel.key not in codes:
            codes[step.kernel.key] = emit_kernel(step.kernel, step.name, target)
    main = _Main(program, codes, target)
    body = main.text()
    constants = tuple(b.name for b in program.buffers if b.kind == "constant")
    head = (f"@{CONSTANTS} = global [{max(1, len(constants))} x ptr] zeroinitializer\n"
            "@bad_index = global i64 0\n")
    every = list(codes.values())
    text = _text(target, every, main.e.declares, head, body)
    parts = [text]
    if len(text) > LARGE_TEXT and target.threads > 1:
        first, second = _halves(every, len(body))
        called = {f"declare void @{p.symbol}(ptr, i64, i64)" for c in second for p in c.phases}
        parts = [_text(target, first, main.e.declares | called, head, body),
                 *([_exported(_text(target, second), second)] if second else [])]
    return Module(text, constants, main.checks, tuple(parts), tuple(_externals(every)))


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
    """The names, among those that code declares, of NumPy's loops."""
    for line in sorted({d for c in codes for d in c.declares}):
        name = line.partition("@")[2].partition("(")[0].partition(" ")[0]
        if name.startswith("weft_loop_"):
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


def _checks(kernel: Kernel | Library) -> Sequence[Check | Failure]:
    """What may go wrong in a step, by the numbers from 1 that its code writes into the status."""
    if isinstance(kernel, Library):
        return kernel.fails
    return [c for s in kernel.stages for c in s.checks]


class _Main:
    """Writes the function that runs the steps."""

    def __init__(self, program: Program, codes: Mapping[str, KernelCode], target: Target) -> None:
        self.program = program
        self.codes = codes
        self.e = Emitter(target)
        self.checks: dict[int, Check | Failure] = {}
        self.addresses: dict[str, Val] = {}
        self.dims: dict[str, Val] = {}

    def text(self) -> str:
        e, p = self.e, self.program
        sizes = e.arg("sizes", "ptr")
        self.dims = {s: e.load(e.gep(sizes, i, "i64"), "i64") for i, s in enumerate(p.symbols)}
        self.ev = Evaluator(e, {}, {}, self.dims)
        status = e.assign("alloca [2 x i64], align 8", "ptr")
        total = e.assign("alloca i32", "ptr")
        e.store(e.const("i32", 0), total)
        contexts = [e.assign(f"alloca [{len(s.buffers) + 3} x ptr], align 8", "ptr")
                    for s in p.steps]
        tables = [e.assign(f"alloca [{len(self._symbols(s)) + 1} x i64], align 8", "ptr")
                  for s in p.steps]
        arena, workspace, give_back = self._memory()
        self._place(arena)
        for i, step in enumerate(p.steps):
            self._step(i, step, contexts[i], tables[i], status, total, workspace)
        give_back()
        out = e.load(total, "i32")
        e.write(f"ret i32 {out.ref}")
        return f"define i32 @{MAIN}(ptr %buffers, ptr %sizes) {{\nentry:\n{e.body()}\n}}\n"

    def _symbols(self, step: Step) -> tuple[str, ...]:
        return step.kernel.symbols

    def _memory(self) -> tuple[Val, Val, Callable[[], None]]:
        """The arena and the workspace of the greediest step, from the stack or the allocator."""
        e, p = self.e, self.program
        works = [self.codes[s.kernel.key].workspace for s in p.steps]
        fixed = all(isinstance(w, int) for w in works)
        need: Dim = p.arena
        most: Val | None = None
        if fixed:
            work = max((w for w in works if isinstance(w, int)), default=0)
            total = need + work
            if isinstance(total, int) and total <= STACK_ARENA:
                if total == 0:
                    null = e.const("ptr", 0)
                    return null, null, lambda: None
                block = e.assign(f"alloca i8, i64 {total}, align 64", "ptr")
                return block, e.gep(block, self.ev.dim(need), "i8"), lambda: None
            most = e.const("i64", work)
        else:
            most = e.const("i64", 0)
            for w in works:
                most = e.intrinsic("smax", self.ev.dim(w), most)
        e.declares |= {"declare ptr @weft_alloc(i64)", "declare void @weft_free(ptr)"}
        size = self.ev.dim(need)
        block = e.assign(f"call ptr @weft_alloc(i64 {(size + most).ref})", "ptr")

        def give_back() -> None:
            e.write(f"call void @weft_free(ptr {block.ref})")
        return block, e.gep(block, size, "i8"), give_back

    def _place(self, arena: Val) -> None:
        """The address of every buffer."""
        e, p = self.e, self.program
        buffers = e.arg("buffers", "ptr")
        params = sum(b.kind == "param" for b in p.buffers)
        constant = 0
        for b in p.buffers:
            if b.kind == "temp":
                self.addresses[b.name] = e.gep(arena, self.ev.dim(b.offset), "i8")
            elif b.kind == "constant":
                table = Val(e, f"@{CONSTANTS}", "ptr")
                self.addresses[b.name] = e.load(e.gep(table, constant, "ptr"), "ptr")
                constant += 1
            else:
                at = b.index if b.kind == "param" else params + b.index
                self.addresses[b.name] = e.load(e.gep(buffers, at, "ptr"), "ptr")

    def _step(self, number: int, step: Step, context: Val, table: Val, status: Val, total: Val,
              workspace: Val) -> None:
        e, code = self.e, self.codes[step.kernel.key]
        pointers = [self.addresses[b] for b in step.buffers]
        for i, s in enumerate(self._symbols(step)):
            e.store(self.dims[s], e.gep(table, i, "i64"))
        checks = _checks(step.kernel)
        for i, pointer in enumerate([*pointers, table, status, workspace]):
            e.store(pointer, e.gep(context, i, "ptr"))
        if checks:
            e.store(e.const("i32", 0), status)
        for phase in code.phases:
            self._phase(phase, context)
        for i, check in enumerate(checks):
            self.checks[STEP * number + i + 1] = check
        if checks:
            self._note(number, status, total)

    def _phase(self, phase: Phase, context: Val) -> None:
        e, units = self.e, self.ev.dim(phase.units)
        if phase.parallel:
            e.declares.add("declare void @weft_parallel_for(ptr, ptr, i64, i64)")
            e.write(f"call void @weft_parallel_for(ptr @{phase.symbol}, ptr {context.ref}, "
                    f"i64 {units.ref}, i64 {phase.grain})")
        else:
            e.write(f"call void @{phase.symbol}(ptr {context.ref}, i64 0, i64 {units.ref})")

    def _note(self, number: int, status: Val, total: Val) -> None:
        """Keep the first failed check."""
        e = self.e
        found, so_far = e.load(status, "i32"), e.load(total, "i32")
        with e.when(found.ne(0) & so_far.eq(0), "failed"):
            e.store(found + STEP * number, total)
            e.store(e.load(e.gep(status, 1, "i64"), "i64"), Val(e, "@bad_index", "ptr"))
