"""Loops and branches with parts on several devices: the host runs their plans, turn by turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import Dim, Size, evaluate_dim
from weft.devices.protocol import Memory
from weft.runtime.scheduler import Plan, check_cancelled, run_plan

__all__ = ["Hosted", "Operand", "copied", "run_branch", "run_counted", "run_while"]

Sizes: TypeAlias = tuple[tuple[str, int, int], ...]    # symbols, with an operand and its axis


@dataclass(frozen=True)
class Operand:
    """What is known of an operand: its memory; whether nothing else reads it, so that it may be
    overwritten; whether some turn overwrites it."""

    memory: Memory
    owned: bool = False
    overwritten: bool = False


@dataclass(frozen=True, eq=False)
class Hosted:
    """A loop or branch, to be run on the values of its operands.

    `plans` are those of its bodies, in the order of the op's attributes; a condition stands first.
    `first` is the number of the first carry, of `carries` many. `device` is the memory of what it
    decides on. Safe to run from many threads.
    """

    plans: tuple[Plan, ...]
    operands: tuple[Operand, ...]
    device: Memory
    first: int = 0
    carries: int = 0
    length: Dim = 0
    sizes: Sizes = ()

    def turns(self, values: Sequence[Any]) -> int:
        """How often a counted loop turns."""
        if not isinstance(self.length, Size):
            return self.length
        known = {symbol: values[i].shape[axis] for symbol, i, axis in self.sizes}
        return evaluate_dim(self.length, known)


def run_counted(loop: Hosted, values: Sequence[Any]) -> list[Any]:
    """The carries after a known number of turns."""
    state = _begin(loop, values)
    (plan,) = loop.plans
    for _ in range(loop.turns(values)):
        check_cancelled()
        state = _turn(loop, plan, values, state)
    return _apart(loop, values, state)


def run_while(loop: Hosted, values: Sequence[Any]) -> list[Any]:
    """The carries as they are when the condition holds no longer, which the host waits for."""
    state = _begin(loop, values)
    condition, plan = loop.plans
    get = loop.device.get
    while bool(get(run_plan(condition, _arguments(loop, values, state))[0])):
        check_cancelled()
        state = _turn(loop, plan, values, state)
    return _apart(loop, values, state)


def run_branch(branch: Hosted, values: Sequence[Any]) -> list[Any]:
    """The results of the branch that the first operand picks; of the last where there is none."""
    at = int(branch.device.get(values[0]))
    plan = branch.plans[at if 0 <= at < len(branch.plans) else -1]
    results = run_plan(plan, values[1:])
    return _new(results, [branch.device] * len(results), values)


def _arguments(loop: Hosted, values: Sequence[Any], state: Sequence[Any]) -> list[Any]:
    return [*values[:loop.first], *state, *values[loop.first + loop.carries:]]


def _carried(loop: Hosted) -> Sequence[Operand]:
    return loop.operands[loop.first:loop.first + loop.carries]


def _begin(loop: Hosted, values: Sequence[Any]) -> list[Any]:
    """The carries to begin with: copies of those that are overwritten and not the loop's own."""
    given = values[loop.first:loop.first + loop.carries]
    return [copied(v, o.memory) if o.overwritten and not o.owned else v
            for v, o in zip(given, _carried(loop))]


def _turn(loop: Hosted, plan: Plan, values: Sequence[Any], state: list[Any]) -> list[Any]:
    arguments = _arguments(loop, values, state)
    state.clear()                   # what a step overwrites, or reads last, nobody else holds
    after = run_plan(plan, arguments)
    # What the next turn overwrites is to be one carry's alone.
    seen = {id(v) for i, v in enumerate(values) if not loop.first <= i < loop.first + loop.carries}
    for i, operand in enumerate(_carried(loop)):
        if id(after[i]) in seen and operand.overwritten:
            after[i] = copied(after[i], operand.memory)
        seen.add(id(after[i]))
    if any(o.overwritten for o in _carried(loop)):
        after = _each_once(loop, after)
    return after


def _each_once(loop: Hosted, state: list[Any]) -> list[Any]:
    """The carries, of which none that is overwritten is another one too."""
    count: dict[int, int] = {}
    for v in state:
        count[id(v)] = count.get(id(v), 0) + 1
    return [copied(v, o.memory) if o.overwritten and count[id(v)] > 1 else v
            for v, o in zip(state, _carried(loop))]


def _apart(loop: Hosted, values: Sequence[Any], state: Sequence[Any]) -> list[Any]:
    return _new(state, [o.memory for o in _carried(loop)], values)


def _new(results: Sequence[Any], memories: Sequence[Memory], values: Sequence[Any]) -> list[Any]:
    """The results, each an array of its own: none of the operands, none twice."""
    seen, out = {id(v) for v in values}, []
    for r, memory in zip(results, memories):
        made = copied(r, memory) if id(r) in seen else r
        seen.add(id(made))
        out.append(made)
    return out


def copied(array: Any, memory: Memory) -> Any:
    """A copy of an array in its own memory."""
    copy: Callable[[], Any] | None = getattr(array, "copy", None)
    return copy() if copy is not None else memory.put(np.array(memory.get(array)))
