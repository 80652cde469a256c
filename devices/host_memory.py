"""The memory of devices that compute on NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from weft.devices.protocol import Array, Memory

__all__ = ["HOST", "HostMemory"]


class HostMemory(Memory):
    """NumPy's arrays: nothing is copied, and there is nothing to wait for.

    >>> HOST.owns(np.zeros(3)), HOST.owns([0.0])
    (True, False)
    """

    def owns(self, value: object, /) -> bool:
        """Whether it is a NumPy array."""
        return isinstance(value, np.ndarray)

    def put(self, array: Array, /) -> Array:
        """The array itself."""
        return array

    def get(self, array: Array, /) -> Array:
        """The array itself."""
        return array

    def wait(self, arrays: Sequence[Array], /) -> None:
        """Nothing: results are there when `run` returns."""


HOST = HostMemory()
