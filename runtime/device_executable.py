"""Running programs of devices whose arrays are not NumPy's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from weft.compiler.errors import caller_origin
from weft.devices.protocol import DeviceError, Memory
from weft.devices.registry import owner_of
from weft.runtime.arrays import canonical, is_frozen
from weft.runtime.direct import DirectCall, Expected, direct_call, is_dense, program_of, root
from weft.runtime.executable import Executable, Output

__all__ = ["DeviceExecutable"]

_NUMBERS = (float, int, bool, complex, np.generic)


class DeviceExecutable(Executable):
    """An `Executable` whose arguments are brought to the device, and whose results stay there.

    Arrays, and the 0-d ones that stand for NumPy's scalars, are handed out as the device gives
    them, perhaps while they are computed; what NumPy would give as a Python number is one.
    """

    __slots__ = ("_directs", "_frozen", "_memory", "_refuse", "_straight")

    on_device = True

    def __init__(self, *args: Any, memory: Memory, refuse: Callable[[Sequence[Any]], None] | None,
                 **options: Any) -> None:
        """`refuse` is called with the arguments when one lies on another device; None: it is
        copied."""
        super().__init__(*args, **options)
        self._memory = memory
        self._refuse = refuse
        self._directs: dict[tuple[type, ...], DirectCall | None] = {}
        self._frozen: dict[int, tuple[Any, Any]] = {}
        # Whether the results are handed out as they are, in their order.
        self._straight = [(o.kind in ("array", "scalar"), o.index) for o in self._outputs] == [
            (True, i) for i in range(len(self._outputs))]

    def __call__(self, leaves: Sequence[Any]) -> Any:
        """The function's result for these flat arguments."""
        owns = self._memory.owns
        try:
            if self._hidden:
                leaves = [*leaves, *[self._outside(read()) for read in self._hidden]]
            arrays = [v if owns(v) and is_dense(v) else self._there(v, dtype, leaves)
                      for v, dtype in zip(leaves, self._dtypes)]
            if self._donated:
                self._take_over(leaves, arrays)
            results = self._run(arrays)
            if self._straight:
                return self._build(results)
            return self._build([self._wrapped(o, results, leaves, arrays) for o in self._outputs])
        except DeviceError as error:
            error.origin = error.origin or caller_origin()
            raise

    def _outside(self, value: Any) -> Any:
        """An array from outside; of one that nobody can write to, the device keeps a copy."""
        if not (isinstance(value, np.ndarray) and is_frozen(value)):
            return value
        found = self._frozen.get(id(value))
        if found is None:
            there = self._memory.put(canonical(value.view(np.ndarray)))
            found = self._frozen[id(value)] = value, there
        return found[1]

    def direct(self, leaves: Sequence[Any]) -> DirectCall | None:
        """A function of flat arguments for calls like one with these, which leaves out all that
        need not be done again; it gives `MISSED` for others. None where there is none.

        Arguments are alike that are of the same classes and, as arrays, of the same types, shapes
        and places.
        """
        kinds = tuple(map(type, leaves))
        if kinds not in self._directs:
            self._directs[kinds] = self._make_direct(kinds, leaves)
        return self._directs[kinds]

    def _make_direct(self, kinds: Sequence[type], leaves: Sequence[Any]) -> DirectCall | None:
        owns = self._memory.owns
        host = [i for i, v in enumerate(leaves) if not owns(v)]
        if self._hidden or not self._straight or not all(
                kinds[i] is np.ndarray or issubclass(kinds[i], _NUMBERS) for i in host):
            return None
        program = program_of(self.compiled, self._memory, leaves, host, bool(self._donated))
        if program is None:
            return None
        expected = [self._expected(v, self._dtypes[i]) if i in host else Expected(kinds[i])
                    for i, v in enumerate(leaves)]
        build = self._build
        if program.single:
            return direct_call(expected, program,
                               None if self._single else lambda result: build([result]))
        return direct_call(expected, program, build)

    def _expected(self, leaf: Any, dtype: np.dtype[Any]) -> Expected:
        """An argument like this one, which lies on the host."""
        handing, kind = getattr(self._memory, "handing", None), type(leaf)
        if kind is np.ndarray:
            return Expected(kind, dtype, _handing(self._memory, leaf.nbytes))
        if handing is not None:         # a copy is made in any case
            return Expected(kind, None, lambda value: np.array(value, dtype))
        put = self._memory.put
        return Expected(kind, None, lambda value: put(np.array(value, dtype)))

    def _there(self, value: Any, dtype: np.dtype[Any], leaves: Sequence[Any]) -> Any:
        """An argument as an array on the device, in C order."""
        memory = self._memory
        if memory.owns(value):
            return value.copy(order="C")                # in another order
        if isinstance(value, np.ndarray):
            return _handing(memory, value.nbytes)(canonical(value.view(np.ndarray)))
        if isinstance(value, _NUMBERS):
            return _handing(memory, 0)(np.array(value, dtype))
        if self._refuse is not None:
            self._refuse(leaves)
        owner = owner_of(value)
        assert owner is not None, f"{type(value)} is no array"
        return memory.put(canonical(owner.memory.get(value)))

    def _take_over(self, leaves: Sequence[Any], arrays: list[Any]) -> None:
        """Donated arguments may be overwritten: copies take the place of those passed twice."""
        count = Counter(map(root, arrays))
        for i in self._donated:
            array = arrays[i]
            if array is leaves[i] and count[root(array)] > 1:      # else it is a copy, or alone
                count[root(array)] -= 1
                arrays[i] = array.copy() if hasattr(array, "copy") else self._memory.put(
                    np.array(self._memory.get(array)))

    def _wrapped(self, output: Output, results: Sequence[Any], leaves: Sequence[Any],
                 arrays: Sequence[Any]) -> Any:
        kind = output.kind
        if kind in ("array", "scalar"):
            return results[output.index]
        if kind == "argument":
            given, array = leaves[output.index], arrays[output.index]
            if not isinstance(given, np.ndarray):
                return given
            return self._memory.put(array) if type(array) is np.ndarray else array
        if kind == "static":
            return output.value
        return self._memory.get(results[output.index]).item()


def _handing(memory: Memory, nbytes: int) -> Callable[[Any], Any]:
    """How the memory takes an array of the host's that a program is called with."""
    made: Callable[[int], Callable[[Any], Any]] | None = getattr(memory, "handing", None)
    return memory.put if made is None else made(nbytes)
