"""Where XLA's arrays live: `jax.Array`, on one device of JAX's."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from weft.devices.protocol import Array, DeviceError
from weft.devices.xla.failures import translated
from weft.devices.xla.pending import PENDING

__all__ = ["XlaMemory", "detached", "is_array"]

_LARGE = 1 << 16    # bytes from which it counts that something is copied twice
_ALIGNED = 64       # where JAX takes over a NumPy array as it lies, on the CPU


class XlaMemory:
    """The memory of the device that `find` gives; see `weft.devices.protocol.Memory`.

    `find` raises a `DeviceError` where there is no such device. It is not called, and JAX is not
    loaded, before something is put.
    """

    def __init__(self, find: Callable[[], Any]) -> None:
        self._find = find
        self._device: Any = None
        self._here: Any = None          # where the last array lay that was found to be here

    @property
    def device(self) -> Any:
        """JAX's device."""
        if self._device is None:
            self._device = self._find()
        return self._device

    def owns(self, value: object, /) -> bool:
        """Whether it is a `jax.Array` that lies on this device, alone or in part."""
        if not is_array(value):
            return False
        array: Any = value
        try:
            sharding = array.sharding
            if sharding is self._here:
                return True             # results of one program share the object
            owned = self.device in sharding.device_set
        except RuntimeError:
            return False                # there is no such device
        if owned:
            self._here = sharding
        return owned

    def put(self, array: Array, /) -> Any:
        """A copy on the device."""
        import jax  # loaded with the device

        with jax.enable_x64(True):
            return jax.device_put(detached(array), self.device)

    def handing(self, nbytes: int, /) -> Callable[[Array], Array]:
        """What makes a copy on the host, which JAX brings to the device with the call of a program.

        JAX may go on reading it after that, but nobody else has it. Large ones lie where JAX takes
        them over on the CPU, so that they are copied once.
        """
        return detached if nbytes >= _LARGE else _copied

    def get(self, array: Any, /) -> Array:
        """A copy as a NumPy array; a `DeviceError` where parts of it lie with other processes.

        Raises what failed in programs that check something.
        """
        if is_array(array) and not (array.is_fully_addressable or array.is_fully_replicated):
            raise DeviceError(
                f"parts of this array of shape {array.shape} lie with other processes",
                expected="an array that each process has whole",
                repair="give it out_specs=weft.spec(), or look at array.addressable_shards")
        with translated(self):
            PENDING.wait()
            return np.array(array, order="C")

    def mark(self, arrays: Sequence[Any], /) -> Callable[[], None]:
        """A function that waits until these are there; errors are told elsewhere."""
        import jax  # loaded with the device

        return partial(jax.block_until_ready, min(arrays, key=lambda a: a.nbytes))

    def wait(self, arrays: Sequence[Any], /) -> None:
        """Wait until these are computed; raise what failed in programs that check something."""
        import jax  # loaded with the device

        with translated(self):
            jax.block_until_ready(list(arrays))
            PENDING.wait()


_kinds: dict[type, bool] = {}       # classes that were asked about, and whether they are arrays


def is_array(value: object) -> bool:
    """Whether it is an array of JAX's with values, which a tracer is not."""
    known = _kinds.get(type(value))
    if known is None:
        jax: Any = sys.modules.get("jax")
        if not hasattr(jax, "Array") or not hasattr(jax, "core"):
            return False            # not there, or still being imported
        known = isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer)
        _kinds[type(value)] = known
    return known


_copied = operator.methodcaller("copy")


def detached(array: Array) -> Array:
    """A copy that JAX need not copy again, and that nobody else writes to."""
    raw = np.empty(array.nbytes + _ALIGNED, np.uint8)
    start = -raw.ctypes.data % _ALIGNED
    out = raw[start:start + array.nbytes].view(array.dtype).reshape(array.shape)
    out[...] = array
    return out
