"""The function that runs a program: its kernels one after another, in branches and loops.

It is written in two parts. What stands at its start is done once: temporary memory, the addresses
of buffers, and the contexts (arrays of pointers) that kernels take, as far as these never change.
Behind it come the steps. Inside loops and branches, small steps on single numbers are written out
in place, and such numbers are kept in registers, carries of loops as phis: a loop over numbers
touches no memory at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from weft.compiler.kernel.flatten import flatten
from weft.compiler.kernel.ir import Check, Failure, Kernel, Library, Program, Step
from weft.compiler.kernel.nested import ALIGN, Branch, Loop
from weft.compiler.target import Target
from weft.compiler.types import Dim, DType
from weft.devices.cpu.code import KernelCode, Phase
from weft.devices.cpu.codegen import Loops
from weft.devices.cpu.compiled import BAD_INDEX, CONSTANTS, MAIN
from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.evaluate import Evaluator
from weft.devices.cpu.interrupts import INTERRUPTED
from weft.devices.cpu.lower import Scalar, load_value, memory_type, reg, store_value
from weft.devices.cpu.lower_complex import Cx
from weft.devices.cpu.main_env import (
    Env,
    InPlace,
    checks_of,
    params_of,
    parts_of,
    types_of,
    whole,
    written_out,
)

__all__ = ["Main"]

STACK_ARENA = 4096         # temporaries up to this size live on the stack
STEP = 256                 # a status is STEP * step + the number of the step's check, from 1


class Main:
    """Writes the function. `codes` are those of all kernels that are called, by key."""

    def __init__(self, program: Program, codes: Mapping[str, KernelCode], target: Target) -> None:
        self.program = program
        self.codes = codes
        self.target = target
        self.e = Emitter(target)
        self.checks: dict[int, Check | Failure | None] = {}
        self.dims: dict[str, Val] = {}
        self.helpers: dict[str, str] = {}
        self._start: list[str] = []             # lines that are done once
        self._fixed: set[str] = set()           # addresses that the start knows
        self._constant = 0
        self._number = 0                        # of steps so far

    # ---- the function

    def text(self) -> str:
        """Its definition."""
        e, p = self.e, self.program
        with self._at_start():
            sizes = e.arg("sizes", "ptr")
            self.dims = {s: e.load(e.gep(sizes, i, "i64"), "i64") for i, s in enumerate(p.symbols)}
            self.ev = Evaluator(e, {}, {}, self.dims)
            self.status = e.assign("alloca [2 x i64], align 8", "ptr")
            self.total = e.assign("alloca i32", "ptr")
            e.store(e.const("i32", 0), self.total)
            arena, self.workspace, give_back = self._memory()
            env = self._env(p, self._places(arena))
        self.steps(p, env, 0)
        for r in p.results:
            self.spill(env, r)
        give_back()
        out = e.load(self.total, "i32")
        e.write(f"ret i32 {out.ref}")
        e.lines[:0] = self._start
        self.helpers = dict(getattr(e, "helpers", {}))
        return f"define i32 @{MAIN}(ptr %buffers, ptr %sizes) {{\nentry:\n{e.body()}\n}}\n"

    @contextmanager
    def _at_start(self) -> Iterator[None]:
        """What is written inside is done once, at the start; its values count as fixed."""
        e = self.e
        lines, e.lines = e.lines, self._start
        first = e.count
        try:
            yield
        finally:
            e.lines = lines
            self._fixed.update(f"%v{i}" for i in range(first, e.count))

    def _memory(self) -> tuple[Val, Val, Callable[[], None]]:
        """The arena and the workspace of the greediest step, from the stack or the allocator."""
        e, p = self.e, self.program
        works = [c.workspace for c in self.codes.values()]
        fixed = all(isinstance(w, int) for w in works)
        need: Dim = p.arena
        most: Val | None = None
        if fixed:
            work = max((w for w in works if isinstance(w, int)), default=0)
            total = need + work
            if isinstance(total, int) and total <= STACK_ARENA:
                if total == 0:
                    null = e.const("ptr", 0)
                    self._fixed.add(null.ref)
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

    def _places(self, arena: Val) -> dict[str, Val]:
        """The address of every buffer of the outermost program."""
        e, p = self.e, self.program
        buffers = e.arg("buffers", "ptr")
        params = sum(b.kind == "param" for b in p.buffers)
        out = self._own(p, arena)
        for b in p.buffers:
            if b.kind in ("param", "result"):
                at = b.index if b.kind == "param" else params + b.index
                out[b.name] = e.load(e.gep(buffers, at, "ptr"), "ptr")
        return out

    def _own(self, program: Program, memory: Val) -> dict[str, Val]:
        """The addresses of a program's temporaries, in this memory, and of its constants."""
        e = self.e
        out: dict[str, Val] = {}
        for b in program.buffers:
            if b.kind == "temp":
                out[b.name] = e.gep(memory, self.ev.dim(b.offset), "i8")
            elif b.kind == "constant":
                table = Val(e, f"@{CONSTANTS}", "ptr")
                out[b.name] = e.load(e.gep(table, self._constant, "ptr"), "ptr")
                self._constant += 1
        return out

    # ---- steps

    def steps(self, program: Program, env: Env, depth: int) -> None:
        """Run a program's steps; within loops and branches, `depth` is greater than 0."""
        for step in program.steps:
            number, self._number = self._number, self._number + 1
            if isinstance(step.kernel, Loop):
                self._loop(step, step.kernel, env, depth + 1)
            elif isinstance(step.kernel, Branch):
                self._branch(step, step.kernel, env, depth + 1)
            elif depth and written_out(step.kernel):
                assert isinstance(step.kernel, Kernel)
                self._in_place(number, step, step.kernel, env)
            else:
                assert isinstance(step.kernel, (Kernel, Library))
                self._call(number, step, step.kernel, env)

    def _call(self, number: int, step: Step, kernel: Kernel | Library, env: Env) -> None:
        """Fill the kernel's context and call its phases."""
        e, code = self.e, self.codes[kernel.key]
        with self._at_start():
            context = e.assign(f"alloca [{len(step.buffers) + 3} x ptr], align 8", "ptr")
            table = e.assign(f"alloca [{len(kernel.symbols) + 1} x i64], align 8", "ptr")
            for i, s in enumerate(kernel.symbols):
                e.store(self.dims[s], e.gep(table, i, "i64"))
        for b, (n, _) in zip(step.buffers, kernel.buffers):
            if n not in kernel.outputs or n == getattr(kernel, "updates", ""):
                self.spill(env, b)
        pointers = [env.addresses[b] for b in step.buffers]
        for i, pointer in enumerate([*pointers, table, self.status, self.workspace]):
            if pointer.ref in self._fixed:
                with self._at_start():
                    e.store(pointer, e.gep(context, i, "ptr"))
            else:
                e.store(pointer, e.gep(context, i, "ptr"))
        checks = checks_of(kernel)
        if checks:
            e.store(e.const("i32", 0), self.status)
        for phase in code.phases:
            self._phase(phase, context)
        self._note(number, checks)
        for b, (n, _) in zip(step.buffers, kernel.buffers):
            if n in kernel.outputs:
                env.values.pop(b, None)
                env.stored.discard(b)

    def _phase(self, phase: Phase, context: Val) -> None:
        e, units = self.e, self.ev.dim(phase.units)
        if phase.parallel:
            e.declares.add("declare void @weft_parallel_for(ptr, ptr, i64, i64)")
            e.write(f"call void @weft_parallel_for(ptr @{phase.symbol}, ptr {context.ref}, "
                    f"i64 {units.ref}, i64 {phase.grain})")
        else:
            e.write(f"call void @{phase.symbol}(ptr {context.ref}, i64 0, i64 {units.ref})")

    def _in_place(self, number: int, step: Step, kernel: Kernel, env: Env) -> None:
        """Write a step on single numbers out, its results kept in registers."""
        flat = flatten(kernel)
        bound = dict(zip((n for n, _ in kernel.buffers), step.buffers))
        single = {n for n, t in kernel.buffers if t.shape == ()}
        values = {n: env.values[b] for n, b in bound.items() if b in env.values}
        loops = Loops(flat, step.name, self.target)
        loops.e, loops.status = self.e, self.status
        loops.ev = ev = InPlace(self.e, {n: env.addresses[b] for n, b in bound.items()},
                                 flat.types, self.dims, values, single)
        checks = checks_of(kernel)
        if checks:
            self.e.store(self.e.const("i32", 0), self.status)
        for stage in flat.stages:
            loops.single(stage, None)
        self._note(number, checks)
        for n in kernel.outputs:
            env.values.pop(bound[n], None)
            env.stored.discard(bound[n])
            if n in ev.results:
                env.values[bound[n]] = ev.results[n]

    def _note(self, number: int, checks: Sequence[Check | Failure]) -> None:
        """Keep the first failed check."""
        e = self.e
        if not checks:
            return
        for i, check in enumerate(checks):
            self.checks[STEP * number + i + 1] = check
        found, so_far = e.load(self.status, "i32"), e.load(self.total, "i32")
        with e.when(found.ne(0) & so_far.eq(0), "failed"):
            e.store(found + STEP * number, self.total)
            e.store(e.load(e.gep(self.status, 1, "i64"), "i64"), Val(e, f"@{BAD_INDEX}", "ptr"))

    def poll(self, due: Val) -> None:
        """Where `due` holds, look for signals; one whose handler raises ends all loops."""
        e = self.e
        self.checks[INTERRUPTED] = None
        with e.when(due, "poll"):
            raised = e.call("weft_poll", "i32")
            so_far = e.load(self.total, "i32")
            with e.when(raised.ne(0) & so_far.eq(0), "interrupted"):
                e.store(e.const("i32", INTERRUPTED), self.total)

    # ---- single numbers

    def spill(self, env: Env, name: str) -> None:
        """See that memory holds a buffer."""
        value = env.values.get(name)
        if value is None or name in env.stored:
            return
        env.stored.add(name)
        e, dtype, address = self.e, env.types[name].dtype, env.addresses[name]
        if isinstance(value, Cx):
            e.store(value.re, address)
            e.store(value.im, e.gep(address, 1, dtype.real.name))
        else:
            e.store(store_value(e, value, dtype), address)

    def number_in(self, env: Env, name: str) -> Scalar:
        """A single number, from its register or from memory."""
        found = env.values.get(name)
        return found if found is not None else self.read(env.addresses[name],
                                                          env.types[name].dtype)

    def read(self, address: Val, dtype: DType) -> Scalar:
        """The number at an address."""
        e = self.e
        if dtype.is_complex:
            part = dtype.real.name
            return Cx(e.load(address, part), e.load(e.gep(address, 1, part), part))
        return load_value(e, e.load(address, memory_type(dtype)), dtype)

    def slot(self) -> Val:
        """Memory for a single number."""
        with self._at_start():
            return self.e.assign("alloca [2 x i64], align 16", "ptr")

    # ---- branches

    def _branch(self, step: Step, branch: Branch, env: Env, depth: int) -> None:
        e = self.e
        n = len(branch.buffers) - len(branch.outputs)
        outs = step.buffers[n:]
        index = self.number_in(env, step.buffers[0])
        assert isinstance(index, Val)
        names = [e.fresh("branch") for _ in branch.programs]
        after = e.fresh("joined")
        cases = " ".join(f"i32 {i}, label %{name}" for i, name in enumerate(names[:-1]))
        e.write(f"switch i32 {index.ref}, label %{names[-1]} [{cases}]")
        scratch = self.scratch(step, env)
        light = [k for k, b in enumerate(outs) if env.types[b].shape == ()]
        ways: list[tuple[str, list[Val]]] = []
        for name, program in zip(names, branch.programs):
            e.label(name)
            inner = self.inner(program, scratch)
            self.bind(env, inner, step.buffers[1:n], params_of(program))
            for k, (result, out) in enumerate(zip(program.results, outs)):
                inner.addresses[result] = self.slot() if k in light else env.addresses[out]
            self.steps(program, inner, depth)
            got = [self.number_in(inner, program.results[k]) for k in light]
            ways.append((e.block, parts_of(got)))
            e.jump(after)
        e.label(after)
        joined = [e.assign("phi {} {}".format(first.type, ", ".join(
            f"[{values[i].ref}, %{block}]" for block, values in ways)), first.dtype)
            for i, first in enumerate(ways[0][1])]
        for out in outs:
            env.values.pop(out, None)
            env.stored.discard(out)
        env.values.update(zip([outs[k] for k in light],
                              whole(joined, [env.types[outs[k]].dtype for k in light])))

    def scratch(self, step: Step, env: Env) -> Val:
        """The memory of the programs in a step, aligned."""
        e = self.e
        if not step.scratch:
            return e.const("ptr", 0)
        address = env.addresses[step.scratch]
        if env.types[step.scratch].is_static:
            return address
        with self._once(address.ref in self._fixed):
            number = e.assign(f"ptrtoint ptr {address.ref} to i64", "i64")
            aligned = (number + (ALIGN - 1)) & -ALIGN
            return e.assign(f"inttoptr i64 {aligned.ref} to ptr", "ptr")

    @contextmanager
    def _once(self, fixed: bool) -> Iterator[None]:
        if fixed:
            with self._at_start():
                yield
        else:
            yield

    def inner(self, program: Program, scratch: Val) -> Env:
        """Where a nested program's own buffers are."""
        with self._once(scratch.ref in self._fixed or program.arena == 0):
            return self._env(program, self._own(program, scratch))

    def _env(self, program: Program, addresses: dict[str, Val]) -> Env:
        env = Env(addresses, types_of(program))
        for b in program.buffers:
            if b.kind == "constant" and b.type.shape == () and not b.type.dtype.is_complex:
                env.values[b.name] = self.e.const(reg(b.type.dtype), b.value.item()
                                                  if not b.type.dtype.is_float else float(b.value))
                env.stored.add(b.name)
        return env

    def bind(self, env: Env, inner: Env, operands: Sequence[str], params: Sequence[str]) -> None:
        """Let parameters be where the operands are."""
        for operand, param in zip(operands, params):
            inner.addresses[param] = env.addresses[operand]
            if operand in env.values:
                inner.values[param] = env.values[operand]
                if operand in env.stored:
                    inner.stored.add(param)

    # ---- loops

    def _loop(self, step: Step, loop: Loop, env: Env, depth: int) -> None:
        from weft.devices.cpu.main_loop import LoopWriter  # for loops only

        LoopWriter(self, step, loop, env, depth).write()
