"""Loops in the function that runs a program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from weft.compiler.kernel.ir import Program, Step
from weft.compiler.kernel.nested import Loop, leaves
from weft.compiler.types import TensorType
from weft.devices.cpu.emit import Val
from weft.devices.cpu.lower import Scalar
from weft.devices.cpu.main_env import Env, checks_of, in_memory, params_of, parts_of, whole

if TYPE_CHECKING:
    from weft.devices.cpu.main import Main

__all__ = ["LoopWriter"]

SECONDS = 1             # that a loop may take without looking for signals
LONGEST = 1 << 16       # turns, however short, between two looks


class LoopWriter:
    """Writes one loop: the carries are phis, numbers themselves and arrays by their addresses."""

    def __init__(self, main: Main, step: Step, loop: Loop, env: Env, depth: int) -> None:
        self.main = main
        self.e = main.e
        self.step = step
        self.loop = loop
        self.env = env
        self.depth = depth
        n = len(loop.buffers) - len(loop.outputs)
        self.operands, self.outs = step.buffers[:n], step.buffers[n:]
        first = loop.first_carry
        self.inits = self.operands[first:first + loop.carries]
        self.light = [t.shape == () for t in loop.carry_types]
        self.params = params_of(loop.body)
        self.scratch = main.scratch(step, env)
        self.period = _period(loop)
        self.polls = loop.cond is not None or not isinstance(loop.length, int) \
            or loop.length // self.period >= SECONDS * 1000

    def write(self) -> None:
        """The whole of it."""
        e, loop, main = self.e, self.loop, self.main
        self._fix_constants()
        self.length = main.ev.dim(loop.length) if loop.cond is None else None
        self.counted = self.length is not None or self.polls
        start = [e.const("i64", 0)] if self.counted else []
        start += [v for k in range(loop.carries) for v in self._start(k)]
        head, body, done = e.fresh("turn"), e.fresh("body"), e.fresh("done")
        before = e.block
        e.jump(head)
        e.label(head)
        slot = len(e.lines)
        now = [Val(e, f"%c{k}.{head}", v.dtype) for k, v in enumerate(start)]
        self._take(now)
        e.branch(self._goes_on(), body, done)
        e.label(body)
        then = self._turn()
        e.lines[slot:slot] = [
            f"  {v.ref} = phi {v.type} [{a.ref}, %{before}], [{b.ref}, %{e.block}]"
            for v, a, b in zip(now, start, then)]
        e.jump(head)
        e.label(done)
        self._finish()

    # ---- what goes in

    def _fix_constants(self) -> None:
        """Constants that are numbers go to registers; those that kernels take, to memory."""
        loop, main, env = self.loop, self.main, self.env
        first = loop.first_const
        for k in range(first, first + loop.consts):
            name = self.operands[k]
            if env.types[name].shape != ():
                continue
            if name not in env.values:
                env.values[name] = main.read(env.addresses[name], env.types[name].dtype)
                env.stored.add(name)
            elif any(in_memory(p, params_of(p)[k]) for _, p in loop.nested):
                main.spill(env, name)

    def _start(self, k: int) -> list[Val]:
        """What stands for carry k before the first turn: its parts in registers, or its address
        and those of the memory that the next two turns write."""
        e, main, env, init, out = self.e, self.main, self.env, self.inits[k], self.outs[k]
        if self.light[k]:
            return parts_of([main.number_in(env, init)])
        main.spill(env, init)
        here, there = env.addresses[init], env.addresses[out]
        owned = k in self.loop.owned
        if k in self.loop.in_place:
            return [self._copied(k, here, there) if owned else here]
        spare = e.gep(self.scratch, main.ev.dim(self.loop.spares[k]), "i8")
        first, second = there, spare
        if isinstance(self.loop.length, int) and self.length is not None:
            # the last turn shall write the result
            first, second = (there, spare) if self.loop.length % 2 else (spare, there)
        elif self.length is not None:
            odd = (self.length & 1).ne(0)
            first, second = e.select(odd, there, spare), e.select(odd, spare, there)
        return [self._copied(k, here, second) if owned else here, first, second]

    def _copied(self, k: int, source: Val, target: Val) -> Val:
        e = self.e
        size = self.main.ev.dim(self.loop.carry_types[k].nbytes)
        e.declares.add("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
        e.write(f"call void @llvm.memcpy.p0.p0.i64(ptr {target.ref}, ptr {source.ref}, "
                f"i64 {size.ref}, i1 false)")
        return target

    def _take(self, now: list[Val]) -> None:
        """Tell the parts of the state apart."""
        at = iter(now)
        self.count = next(at) if self.counted else None
        self.numbers: dict[int, Scalar] = {}
        self.memory: dict[int, list[Val]] = {}
        for k, t in enumerate(self.loop.carry_types):
            if self.light[k]:
                parts = [next(at) for _ in range(2 if t.dtype.is_complex else 1)]
                (self.numbers[k],) = whole(parts, [t.dtype])
            else:
                several = 1 if k in self.loop.in_place else 3
                self.memory[k] = [next(at) for _ in range(several)]

    # ---- a turn

    def _goes_on(self) -> Val:
        """Whether there is another turn."""
        e, loop, main = self.e, self.loop, self.main
        if loop.cond is None:
            assert self.count is not None and self.length is not None
            more = self.count < self.length
        else:
            inner = self._state(loop.cond)
            result = loop.cond.results[0]
            inner.addresses[result] = main.slot()
            main.steps(loop.cond, inner, self.depth)
            test = main.number_in(inner, result)
            assert isinstance(test, Val)
            more = test
        if self.polls or any(checks_of(s.kernel) for p in loop.nested for s, _ in leaves(p[1])):
            more = more & e.load(main.total, "i32").eq(0)
        return more

    def _state(self, program: Program) -> Env:
        """The environment of the body or the condition at the begin of a turn."""
        loop, main = self.loop, self.main
        inner = main.inner(program, self.scratch)
        params, first = params_of(program), loop.first_const
        consts = slice(first, first + loop.consts)
        main.bind(self.env, inner, self.operands[consts], params[consts])
        for k in range(loop.carries):
            name = params[loop.first_carry + k]
            if self.light[k]:
                inner.addresses[name], inner.values[name] = main.slot(), self.numbers[k]
            else:
                inner.addresses[name] = self.memory[k][0]
        return inner

    def _turn(self) -> list[Val]:
        """The body; what stands for count and carries in the next turn."""
        loop, main = self.loop, self.main
        body, inner = loop.body, self._state(loop.body)
        at = None
        if self.count is not None and self.polls:
            main.poll((self.count & (self.period - 1)).eq(self.period - 1))
        if self.count is not None and self.length is not None:
            at = self.length - 1 - self.count if loop.reverse else self.count
            for name, operand in zip(self.params[loop.consts + loop.carries:],
                                     self.operands[loop.consts + loop.carries:]):
                inner.addresses[name] = self._element(operand, inner.types[name], at)
        for k, result in enumerate(body.results[:loop.carries]):
            if k not in loop.updated:
                inner.addresses[result] = main.slot() if self.light[k] else self._target(k)
        for result, out in zip(body.results[loop.carries:], self.outs[loop.carries:]):
            assert at is not None
            inner.addresses[result] = self._element(out, inner.types[result], at)
        main.steps(body, inner, self.depth)
        then = [self.count + 1] if self.count is not None else []
        for k, result in enumerate(body.results[:loop.carries]):
            if self.light[k]:
                then += parts_of([main.number_in(inner, result)])
            elif k in loop.updated:
                then.append(self.memory[k][0])
            elif k in loop.in_place:
                then.append(self._target(k))
            else:
                _, to, other = self.memory[k]
                then += [to, other, to]
        for result in body.results[loop.carries:]:
            main.spill(inner, result)
        return then

    def _target(self, k: int) -> Val:
        return self.env.addresses[self.outs[k]] if k in self.loop.in_place else self.memory[k][1]

    def _element(self, array: str, type: TensorType, at: Val) -> Val:
        """The address of an element of the first axis."""
        return self.e.gep(self.env.addresses[array], at * self.main.ev.dim(type.nbytes), "i8")

    # ---- what comes out

    def _finish(self) -> None:
        """Numbers stay in registers; arrays are copied where the last turn left them elsewhere."""
        e, env, length = self.e, self.env, self.loop.length
        settled = self.loop.cond is None and isinstance(length, int) and length > 0
        for out in self.outs:
            env.values.pop(out, None)
            env.stored.discard(out)
        for k, out in enumerate(self.outs[:self.loop.carries]):
            if self.light[k]:
                env.values[out] = self.numbers[k]
            elif not settled:
                here, there = self.memory[k][0], env.addresses[out]
                moved = e.assign(f"icmp ne ptr {here.ref}, {there.ref}", "i1")
                with e.when(moved, "copy"):
                    self._copied(k, here, there)


def _period(loop: Loop) -> int:
    """After how many turns a millisecond has passed, about; a power of 2."""
    ns = 1.0 + sum(s.flops * 0.5 + s.nbytes * 0.1 for _, p in loop.nested for s in p.steps)
    period = LONGEST
    while period > 1 and period * ns > 1e6:
        period //= 2
    return period
