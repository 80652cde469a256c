"""Running programs of devices whose arrays are not NumPy's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from weft.compiler.errors import caller_origin
from weft.devices.protocol import DeviceError, Memory
from weft.devices.registry import owner_of
from weft.runtime.arrays import canonical
from weft.runtime.executable import Executable, Output

__all__ = ["DeviceExecutable"]

_NUMBERS = (float, int, bool, complex, np.generic)


class DeviceExecutable(Executable):
    """An `Executable` whose arguments are brought to the device, and whose results stay there.

    Arrays, and the 0-d ones that stand for NumPy's scalars, are handed out as the device gives
    them, perhaps while they are computed; what NumPy would give as a Python number is one.
    """

    __slots__ = ("_memory", "_refuse")

    def __init__(self, *args: Any, memory: Memory, refuse: Callable[[Sequence[Any]], None] | None,
                 **options: Any) -> None:
        """`refuse` is called with the arguments when one lies on another device; None: it is
        copied."""
        super().__init__(*args, **options)
        self._memory = memory
        self._refuse = refuse

    def __call__(self, leaves: Sequence[Any]) -> Any:
        """The function's result for these flat arguments."""
        if self._hidden:
            leaves = [*leaves, *[read() for read in self._hidden]]
        owns = self._memory.owns
        try:
            arrays = [v if owns(v) and _is_dense(v) else self._there(v, dtype, leaves)
                      for v, dtype in zip(leaves, self._dtypes)]
            if self._donated:
                self._take_over(leaves, arrays)
            results = self._run(arrays)
            if self._single:
                return results[0]
            return self._build([self._wrapped(o, results, leaves, arrays) for o in self._outputs])
        except DeviceError as error:
            error.origin = error.origin or caller_origin()
            raise

    def _there(self, value: Any, dtype: np.dtype[Any], leaves: Sequence[Any]) -> Any:
        """An argument as an array on the device, in C order."""
        memory = self._memory
        if memory.owns(value):
            return value.copy(order="C")                # in another order
        if isinstance(value, np.ndarray):
            return memory.put(canonical(value.view(np.ndarray)))
        if isinstance(value, _NUMBERS):
            return memory.put(np.array(value, dtype))
        if self._refuse is not None:
            self._refuse(leaves)
        owner = owner_of(value)
        assert owner is not None, f"{type(value)} is no array"
        return memory.put(canonical(owner.memory.get(value)))

    def _take_over(self, leaves: Sequence[Any], arrays: list[Any]) -> None:
        """Donated arguments may be overwritten: copies take the place of those passed twice."""
        count = Counter(map(_root, arrays))
        for i in self._donated:
            array = arrays[i]
            if array is leaves[i] and count[_root(array)] > 1:      # else it is a copy, or alone
                count[_root(array)] -= 1
                arrays[i] = array.copy() if hasattr(array, "copy") else self._memory.put(
                    np.array(self._memory.get(array)))

    def _wrapped(self, output: Output, results: Sequence[Any], leaves: Sequence[Any],
                 arrays: Sequence[Any]) -> Any:
        kind = output.kind
        if kind in ("array", "scalar"):
            return results[output.index]
        if kind == "argument":
            given = leaves[output.index]
            return arrays[output.index] if isinstance(given, np.ndarray) else given
        if kind == "static":
            return output.value
        return self._memory.get(results[output.index]).item()


_strided: dict[type, bool] = {}         # whether arrays of a class have strides: not all do


def _is_dense(array: Any) -> bool:
    """Whether the elements lie in C order without gaps."""
    cls = type(array)
    strided = _strided.get(cls)
    if strided is None:
        strided = _strided[cls] = hasattr(array, "flags")
    return not strided or bool(array.flags.c_contiguous)


def _root(array: Any) -> int:
    base = getattr(array, "base", None)
    return id(array if base is None else base)
