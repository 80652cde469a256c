"""What `weft.explain` says of a program of kernels, alike on all devices that run such programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from weft.compiler.kernel.ir import Program, Step
from weft.compiler.kernel.nested import Branch, Loop
from weft.compiler.types import Dim
from weft.devices.protocol import KernelInfo

__all__ = ["described"]


def described(program: Program, fallback: Callable[[Step], str], inside: str = "",
              turns: Dim | None = 1) -> Iterator[KernelInfo]:
    """The steps of a program, those of loops and branches behind them.

    `fallback` says why a step does not run on the fast way; empty where it does.
    """
    for step in program.steps:
        nested = isinstance(step.kernel, (Branch, Loop))
        each = turns if turns is not None else 1
        yield KernelInfo(step.name, step.ops, step.origins,
                         0 if nested else int(step.flops) * each,
                         0 if nested else int(step.nbytes) * each, merged=(),
                         stopped="; ".join(step.notes), inside=inside, turns=turns,
                         fallback=fallback(step))
        if isinstance(step.kernel, (Branch, Loop)):
            for label, inner in step.kernel.nested:
                yield from described(inner, fallback, f"{step.name}, {label}",
                                     _turns(step.kernel, turns))


def _turns(kernel: Branch | Loop, outer: Dim | None) -> Dim | None:
    if isinstance(kernel, Branch) or outer is None:
        return outer
    return outer * kernel.length if kernel.cond is None else None
