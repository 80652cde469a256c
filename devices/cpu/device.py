"""The CPU device: graphs become programs of kernels, kernels LLVM IR, that native code.

What all that takes is imported when a graph is lowered: a program from the disk cache needs none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from weft.compiler.digest import content_key
from weft.compiler.errors import Origin
from weft.compiler.ir import Graph
from weft.compiler.target import Target
from weft.devices.cpu.compiled import CpuCompiled
from weft.devices.cpu.host import host_target
from weft.devices.cpu.identity import identity
from weft.devices.cpu.kept import program_bytes, read_program
from weft.devices.cpu.warm_up import begin
from weft.devices.host_memory import HOST
from weft.devices.protocol import Device

if TYPE_CHECKING:
    from weft.devices.cpu.lowered import CpuLowered

__all__ = ["CpuDevice"]


class CpuDevice(Device):
    """Native code for this machine's processor. There is one, however many cores it has."""

    name = "cpu"
    memory = HOST

    def __init__(self, ordinal: int = 0) -> None:
        """`ordinal` is 0."""

    def describe(self) -> str:
        """The processor's kind and what code makes use of."""
        target = host_target()
        return (f"{target.cpu}, {target.triple}, {8 * target.vector_bytes}-bit vectors, "
                f"{target.threads} thread{'s' * (target.threads != 1)}")

    def target(self) -> Target:
        """This machine."""
        return host_target()

    def supported(self) -> frozenset[str]:
        """All ops but those that no schedule or table line covers."""
        from weft.devices.cpu.lowered import supported  # see the module's text

        return supported()

    def lower(self, graph: Graph, target: Target, donated: Sequence[int] = ()) -> CpuLowered:
        """The program of kernels for an optimised graph."""
        from weft.devices.cpu.lowered import lower  # see the module's text

        return lower(graph, target, donated)

    def program_key(self, digest: str, fast_math: bool) -> str:
        """What a program is kept under; see `ProgramKeeper`."""
        made_by = identity()
        return content_key("program", made_by, digest, str(fast_math)) if made_by else ""

    def prepare(self) -> None:
        """Load LLVM; see `ProgramKeeper`."""
        begin()

    def program_bytes(self, program: CpuCompiled, origins: Sequence[Origin]) -> bytes | None:
        """The program as bytes; see `ProgramKeeper`."""
        return program_bytes(program, origins)

    def read_program(self, data: bytes, origins: Sequence[Origin]) -> CpuCompiled:
        """The program that these bytes are; see `ProgramKeeper`."""
        return read_program(data, origins)
