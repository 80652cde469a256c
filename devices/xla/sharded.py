"""Programs on a mesh: JAX's mesh and shardings, and arguments brought to their places.

JAX (the GSPMD partitioner) divides the work and puts the communication in. With `jax.distributed`
the mesh spans processes; each of them makes the same calls, and holds its own part of each array.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from weft.devices.mesh import Layout, Spec
from weft.devices.protocol import Array, Direct
from weft.devices.xla.compiled import XlaCompiled
from weft.devices.xla.memory import XlaMemory, detached, is_array

if TYPE_CHECKING:
    from weft.devices.xla.device import XlaDevice
    from weft.devices.xla.lowered import XlaLowered

__all__ = ["MeshMemory", "Placement", "XlaSharded"]


class Placement:
    """A layout in JAX's terms: a sharding for each parameter and result."""

    def __init__(self, layout: Layout, device: XlaDevice) -> None:
        self.mesh = device.jax_mesh(layout.mesh)
        self.whole = self._sharding(Spec(()))
        self.params = [self._sharding(s) for s in layout.params]
        self.results = [None if s is None else self._sharding(s) for s in layout.results]

    def _sharding(self, spec: Spec) -> Any:
        return NamedSharding(self.mesh, PartitionSpec(*(
            None if not names else names[0] if len(names) == 1 else names for names in spec.axes)))


class MeshMemory(XlaMemory):
    """The memory of all devices of a mesh. Where an array goes, the program that takes it knows, so
    that what is put stays on the host until then."""

    def owns(self, value: object, /) -> bool:
        """Whether it is an array of JAX's, wherever it lies: it is moved if need be."""
        return is_array(value)

    def put(self, array: Array, /) -> Any:
        """A copy on the host."""
        return detached(array)


class XlaSharded(XlaCompiled):
    """A program on a mesh."""

    def __init__(self, lowered: XlaLowered, placement: Placement) -> None:
        super().__init__(lowered)
        self.memory = MeshMemory(lowered.device.jax_device)
        self._placement = placement

    def run(self, arrays: Sequence[Any], /) -> list[Any]:
        """The results; arguments are divided and moved as their specs say."""
        return super().run(self._placed(arrays))

    def direct(self, host: Sequence[int]) -> Direct | None:
        """See the protocol. Arrays that lie as their specs say are taken as they are."""
        return None if host else super().direct(host)

    def _placed(self, arrays: Sequence[Any]) -> list[Any]:
        return [a if is_array(a) and a.sharding == s else _place(a, s)
                for a, s in zip(arrays, self._placement.params)]


def _place(array: Any, sharding: Any) -> Any:
    with jax.enable_x64(True):
        if is_array(array):
            return jax.device_put(array, sharding)
        host = np.asarray(array)
        # Each process has all of it, and takes its own parts.
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])
