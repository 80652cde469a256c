"""The inner loops of NumPy's ufuncs for linear algebra and FFT, by the names under which generated
code calls them.

`numpy.linalg` and `numpy.fft` are Python around generalised ufuncs, whose loops call LAPACK and
pocketfft. A ufunc object holds the addresses of its loops, one for each combination of types. They
work on plain memory:

    void weft_loop_<ufunc>_<types>(char **args, npy_intp *dimensions, npy_intp *steps, void *data)

`dimensions` are the number of items, then the sizes named in the ufunc's signature; `steps` the
distances in bytes between items, one for each operand, then those between elements along each
operand's own axes. The loops need no GIL. (They take it themselves in one case: to note that
memory ran out.) Where LAPACK fails, a loop fills its results with NaN and leaves the processor's
flag for invalid operations set, and otherwise cleared. It takes that flag for a failure if it is
set before.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from weft.compiler.lazy_dataclass import dataclass
from weft.devices.protocol import DeviceError

__all__ = ["Loop", "addresses", "find_loop"]

_PREFIX = "weft_loop_"
_MODULES = ("numpy.linalg._umath_linalg", "numpy.fft._pocketfft_umath")
# PyUFuncObject, the public part of it: int nin, nout, nargs, identity; then functions, data (arrays
# of ntypes pointers); int ntypes, reserved; then name, types (ntypes * nargs type numbers)
_NIN, _NOUT, _NARGS, _FUNCTIONS, _DATA, _NTYPES, _TYPES = 16, 20, 24, 32, 40, 48, 64


@dataclass(frozen=True)
class Loop:
    """A loop of a ufunc: its symbol, the sizes in its signature in order, the axes of each operand
    by these sizes' numbers, how many operands are inputs, and the symbol of its data, if any."""

    symbol: str
    sizes: tuple[str, ...]
    operands: tuple[tuple[int, ...], ...]
    data: str | None


@functools.cache
def find_loop(ufunc: str, types: str) -> Loop:
    """The loop of the ufunc of this name for these types, such as ``"dd->d"``.

    Raises `DeviceError` where this NumPy has none, or keeps it in another way than is known.
    """
    found = _ufunc(ufunc)
    if found is None or types not in found.types or not _as_expected(found):
        raise DeviceError(f"NumPy {np.__version__} has no loop {ufunc} for {types} where it is "
                          "looked for", expected="NumPy 2.1 or later, for CPython")
    inputs, outputs = found.signature.split("->")
    operands = [o.split(",") if o else [] for o in
                (inputs + "," + outputs).replace(" ", "")[1:-1].split("),(")]
    sizes = tuple(dict.fromkeys(s for o in operands for s in o))
    symbol = _PREFIX + ufunc + "_" + types.replace("->", "_")
    data = _pointer(found, _DATA, found.types.index(types))
    return Loop(symbol, sizes, tuple(tuple(sizes.index(s) for s in o) for o in operands),
                f"{symbol}.data" if data else None)


def addresses(names: Iterable[str]) -> dict[str, int]:
    """The addresses of loops, and of what is handed to them, by their symbols."""
    return {name: _address(name) for name in names if name.startswith(_PREFIX)}


def _address(name: str) -> int:
    symbol, _, data = name.partition(".")
    ufunc, *types = symbol.removeprefix(_PREFIX).rsplit("_", 2)
    found = _ufunc(ufunc)
    if found is None or "->".join(types) not in found.types or not _as_expected(found):
        raise RuntimeError(f"NumPy has no loop for {name}")
    return _pointer(found, _DATA if data else _FUNCTIONS, found.types.index("->".join(types)))


@functools.cache
def _ufunc(name: str) -> Any:
    modules = map(importlib.import_module, _MODULES)
    return next((u for m in modules if isinstance(u := getattr(m, name, None), np.ufunc)), None)


def _pointer(ufunc: Any, table: int, index: int) -> int:
    first = ctypes.c_size_t.from_address(id(ufunc) + table).value
    return ctypes.c_size_t.from_address(first + 8 * index).value if first else 0


def _as_expected(ufunc: Any) -> bool:
    """Whether the object is laid out as is read here, going by what Python says of it."""
    def number(at: int) -> int:
        return ctypes.c_int.from_address(id(ufunc) + at).value
    if [number(at) for at in (_NIN, _NOUT, _NARGS, _NTYPES)] != [
            ufunc.nin, ufunc.nout, ufunc.nargs, ufunc.ntypes]:
        return False
    types = ctypes.string_at(ctypes.c_size_t.from_address(id(ufunc) + _TYPES).value,
                             ufunc.ntypes * ufunc.nargs)
    letters = "".join(ufunc.types).replace("->", "")
    return list(types) == [np.dtype(c).num for c in letters]
