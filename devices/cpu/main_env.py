"""Where the buffers of a program are while the function that runs it is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

from weft.compiler.kernel.index import Index
from weft.compiler.kernel.ir import Buffer, Check, Failure, Kernel, Library, Program
from weft.compiler.kernel.nested import Branch, Loop
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import DType, TensorType
from weft.devices.cpu.emit import Emitter, Val
from weft.devices.cpu.evaluate import Evaluator
from weft.devices.cpu.lower import Scalar
from weft.devices.cpu.lower_complex import Cx

__all__ = ["Env", "InPlace", "checks_of", "constants", "in_memory", "params_of", "parts_of",
           "types_of", "whole", "written_out"]

WRITTEN_OUT = 300          # expressions up to which a step on single numbers is written in place


def written_out(kernel: object) -> bool:
    """Whether a step of a loop or branch is written in place: one on few single numbers."""
    return (isinstance(kernel, Kernel) and not kernel.axes and not kernel.scratch
            and all(not s.axes for s in kernel.stages) and len(kernel.exprs) <= WRITTEN_OUT
            and not (kernel.updates and kernel.types[kernel.updates].shape == ()))


def constants(program: Program) -> list[Buffer]:
    """The constants of a program and those nested in it."""
    own = [b for b in program.buffers if b.kind == "constant"]
    for step in program.steps:
        if isinstance(step.kernel, (Branch, Loop)):
            for _, inner in step.kernel.nested:
                own += constants(inner)
    return own


@dataclass(eq=False)
class Env:
    """Where the buffers of a program are: addresses; single numbers in registers, as `values`, of
    which those that are `stored` are in memory as well."""

    addresses: dict[str, Val]
    types: dict[str, TensorType]
    values: dict[str, Scalar] = field(default_factory=dict)
    stored: set[str] = field(default_factory=set)


class InPlace(Evaluator):
    """Evaluates a step on single numbers: those in registers are not loaded, results not stored."""

    def __init__(self, e: Emitter, pointers: Mapping[str, Val], types: Mapping[str, TensorType],
                 dims: Mapping[str, Val], values: Mapping[str, Scalar], single: set[str]) -> None:
        super().__init__(e, pointers, types, dims)
        self.known = values
        self.single = single
        self.results: dict[str, Scalar] = {}

    def read(self, buffer: str) -> Scalar | None:
        """The register that holds a buffer, if one does."""
        return self.known.get(buffer)

    def store(self, buffer: str, index: Index, value: Scalar, mask: Val | None,
              nontemporal: bool = False) -> None:
        """Keep a number in its register; elements of arrays go to memory."""
        if buffer in self.single:
            self.results[buffer] = value
        else:
            super().store(buffer, index, value, mask, nontemporal)


def params_of(program: Program) -> list[str]:
    """The names of a program's parameters, in order."""
    return [b.name for b in program.buffers if b.kind == "param"]


def types_of(program: Program) -> dict[str, TensorType]:
    """The type of each buffer."""
    return {b.name: b.type for b in program.buffers}


def checks_of(kernel: object) -> Sequence[Check | Failure]:
    """What may go wrong in a step, by the numbers from 1 that its code writes into the status."""
    if isinstance(kernel, Library):
        return kernel.fails
    return [c for s in kernel.stages for c in s.checks] if isinstance(kernel, Kernel) else []


def in_memory(program: Program, name: str) -> bool:
    """Whether a step takes this buffer's address rather than its value."""
    for step in program.steps:
        if name not in step.buffers or written_out(step.kernel):
            continue
        if not isinstance(step.kernel, (Branch, Loop)):
            return True
        first = 1 if isinstance(step.kernel, Branch) else 0
        for k, operand in enumerate(step.buffers[first:]):
            if operand == name and any(
                    k < len(params_of(p)) and in_memory(p, params_of(p)[k])
                    for _, p in step.kernel.nested):
                return True
    return False


def parts_of(values: Sequence[Scalar]) -> list[Val]:
    """Numbers as the registers that hold them: two for a complex one."""
    return [p for v in values for p in ((v.re, v.im) if isinstance(v, Cx) else (v,))]


def whole(parts: Sequence[Val], dtypes: Sequence[DType]) -> list[Scalar]:
    """The numbers of these types that `parts_of` took apart."""
    at = iter(parts)
    return [Cx(next(at), next(at)) if d.is_complex else next(at) for d in dtypes]
