"""The reference device: the graph walked node by node through the meanings of its ops.

It is the definition that passes and other devices are tested against, and it takes symbolic sizes
as they come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from weft.compiler.cost import node_bytes, node_flops
from weft.compiler.ir import Graph, Node, is_scalar_constant
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.ops import OPS
from weft.compiler.target import Target
from weft.devices.host_memory import HOST
from weft.devices.protocol import Array, Cache, Device, DeviceError, KernelInfo
from weft.devices.reference import evaluate

__all__ = ["ReferenceCompiled", "ReferenceDevice", "ReferenceLowered"]


class ReferenceDevice(Device):
    """Runs any op there is, one at a time, with NumPy.

    >>> ReferenceDevice().target().device
    'reference'
    """

    name = "reference"
    memory = HOST

    def __init__(self, ordinal: int = 0) -> None:
        """`ordinal` is 0."""

    def describe(self) -> str:
        """Nothing that this machine would change."""
        return "every op by its definition, with NumPy"

    def target(self) -> Target:
        """A machine without vectors or threads."""
        return Target(device=self.name)

    def lacks(self) -> Mapping[str, str]:
        """Where NumPy is less exact than devices have to be."""
        return {"ops/exp2/c64": "NumPy's complex64 exp2 is its pow, off by more than 4e-6"}

    def supported(self) -> frozenset[str]:
        """Every op: a reference meaning is part of its declaration."""
        return frozenset(OPS)

    def lower(self, graph: Graph, target: Target, donated: Sequence[int] = ()
              ) -> ReferenceLowered:
        """The graph as it is; nothing is overwritten."""
        return ReferenceLowered(graph)


@dataclass(frozen=True)
class ReferenceLowered:
    """A graph about to be walked."""

    graph: Graph
    kinds: tuple[str, ...] = ()

    @cached_property
    def kernels(self) -> tuple[KernelInfo, ...]:
        """One for each node that computes something."""
        return tuple(_describe(n) for n in self.graph.nodes if not is_scalar_constant(n))

    def text(self, kind: str) -> str:
        """Nothing: there is no code below the graph."""
        raise DeviceError(f"device 'reference' has no {kind} text", repair=(
            "it runs the graph itself: look at the optimised graph's text"))

    def compile(self, cache: Cache | None = None) -> ReferenceCompiled:
        """The walk itself; there is nothing to cache."""
        return ReferenceCompiled(self.graph)


@dataclass(frozen=True)
class ReferenceCompiled:
    """Runs a graph through its ops' reference meanings."""

    graph: Graph

    def run(self, arrays: Sequence[Array], /) -> list[Array]:
        """The results, each a new C-contiguous array."""
        # Meanings may give views of arguments or constants, hence the copies.
        return [np.array(r, order="C", copy=True) for r in evaluate(self.graph, arrays)]

    def entry(self, spec: Any, /, cache: Cache | None = None) -> None:
        """There is no native entry."""


def _describe(node: Node) -> KernelInfo:
    return KernelInfo(node.name, (node.opname,), (node.origin,) if node.origin else (),
                      flops=node_flops(node), nbytes=node_bytes(node),
                      stopped="this device runs one op at a time")
