"""The devices that conformance tests run on; the CPU once for every instruction set it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from weft.compiler.ir import Graph
from weft.compiler.passes.simplify import Decompose
from weft.compiler.target import Target
from weft.devices.cpu.device import CpuDevice
from weft.devices.cpu.host import host_target, target_named


@dataclass(frozen=True)
class Device:
    """A device under one target."""

    name: str
    target: Target

    def __str__(self) -> str:
        return self.name

    def run(self, graph: Graph, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Lower the graph as it is, without passes but for what has to be, and run it."""
        graph = Decompose(CpuDevice().supported()).run(graph, self.target)
        return CpuDevice().lower(graph, self.target).compile().run(arrays)


def _available() -> list[Device]:
    host = host_target()
    found = [Device("cpu", host)]
    if host.triple.startswith(("x86_64", "amd64")):
        found += [Device(f"cpu-{level}", target_named(level)) for level in ("avx2", "baseline")
                  if target_named(level).vector_bytes < host.vector_bytes]
    return found


DEVICES = _available()
