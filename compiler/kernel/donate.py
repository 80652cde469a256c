"""Results written over donated arguments.

A donated parameter's memory may be overwritten. A result of its type takes that memory where every
read of the parameter comes before the result is written: in an earlier step, or in the same turn of
the same kernel, which reads the element that it writes. So a training step that computes
``w - rate * gradient`` for a donated `w` needs no memory for the new weights.
"""

from __future__ import annotations

from collections.abc import Collection

from weft.compiler.kernel.expr import walk
from weft.compiler.kernel.ir import Kernel, Program, Step
from weft.compiler.lazy_dataclass import replace

__all__ = ["reuse_donated"]


def reuse_donated(program: Program, donated: Collection[str]) -> Program:
    """The program with results in the places of donated parameters, as many as can be."""
    taken = set(program.results)
    same: dict[str, str] = {}
    for i, step in enumerate(program.steps):
        sources = {name: _sources(step, name) for name in _written(step)}
        for name in sorted(sources, key=lambda n: len(sources[n])):
            if program.by_name[name].kind != "result" or name in same:
                continue
            fits = [p for p in donated if p not in taken and _fits(program, i, name, p)]
            if fits:
                # rather one that it is computed of, which was meant most likely
                best = next((p for p in fits if p in sources[name]), fits[0])
                same[name] = best
                taken.add(best)
    if not same:
        return program
    return replace(
        program, steps=tuple(_renamed(s, same) for s in program.steps),
        results=tuple(same.get(r, r) for r in program.results),
        buffers=tuple(b for b in program.buffers if b.name not in same))


def _written(step: Step) -> list[str]:
    """The program's buffers that a step writes."""
    inner = set(step.kernel.outputs)
    return [bound for bound, (n, _) in zip(step.buffers, step.kernel.buffers) if n in inner]


def _sources(step: Step, name: str) -> set[str]:
    """The program's buffers that what a step writes to one of them is computed of."""
    k = step.kernel
    bound = {n: b for b, (n, _) in zip(step.buffers, k.buffers)}
    if not isinstance(k, Kernel):
        return set(step.buffers) - {name}
    values = [w.value for s in k.stages for w in s.stores if bound.get(w.buffer) == name]
    return {bound[e.what] for e in walk(*values) if e.kind == "load" and e.what in bound}


def _fits(program: Program, at: int, result: str, param: str) -> bool:
    """Whether step number `at` may write this result over this parameter."""
    if program.by_name[result].type != program.by_name[param].type:
        return False
    uses = [i for i, s in enumerate(program.steps) if param in s.buffers]
    writes = [i for i, s in enumerate(program.steps) if result in _written(s)]
    if writes != [at] or any(i > at for i in uses) or any(
            param in _written(program.steps[i]) for i in uses):
        return False
    earlier = any(result in s.buffers for s in program.steps[:at])
    return not earlier and (at not in uses or _turn_by_turn(program.steps[at], result, param))


def _turn_by_turn(step: Step, result: str, param: str) -> bool:
    """Whether a step reads of the parameter just the element that it writes in the same turn, and
    not for what it writes behind that: devices need not read an element before they do.

    Devices store each element of an output once, and keep partial sums elsewhere.
    """
    k = step.kernel
    if not isinstance(k, Kernel) or k.updates:
        return False
    outs = {n for bound, (n, _) in zip(step.buffers, k.buffers) if bound == result}
    ins = {n for bound, (n, _) in zip(step.buffers, k.buffers) if bound == param}
    stages = [s for s in k.stages if any(w.buffer in outs for w in s.stores)]
    if len(stages) != 1:
        return False
    (at,) = {w.index for w in stages[0].stores if w.buffer in outs}
    mine = {e for e in k.exprs if e.kind == "load" and e.what in ins}
    here = set(walk(*stages[0].roots))
    stores = stages[0].stores
    last = max(i for i, w in enumerate(stores) if w.buffer in outs)
    later = set(walk(*(e for w in stores[last + 1:] for e in w.roots)))
    others = {e for s in k.stages if s is not stages[0] for e in walk(*s.roots)}
    return all(e.index == at and e in here and e not in others and e not in later
               for e in mine)


def _renamed(step: Step, same: dict[str, str]) -> Step:
    if not any(b in same for b in step.buffers):
        return step
    kernel = step.kernel
    shared = any(same[b] in step.buffers for b in step.buffers if b in same)
    if shared and isinstance(kernel, Kernel):
        kernel = replace(kernel, shares=True)
    over = [f"%{same[b]} is overwritten: it is donated" for b in _written(step) if b in same]
    return replace(step, kernel=kernel, buffers=tuple(same.get(b, b) for b in step.buffers),
                   notes=(*step.notes, *over))
