"""Steps that a device performs as a whole, through libraries: sorts, scans, linear algebra.

`LIBRARY` has a line for each op that has a way of its own; the others run their declared meaning
over the library of arrays, which is CuPy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from weft.compiler.errors import LinAlgError
from weft.compiler.kernel.ir import Library
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.ops.registry import OPS
from weft.devices.gpu.driver import Driver

__all__ = ["LIBRARY", "LibraryCall", "run_library"]


@dataclass(frozen=True)
class LibraryCall:
    """One run of a step: arrays of the device for its operands, others to be filled with results,
    and attributes with numbers in place of symbolic sizes."""

    step: Library
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    attrs: Mapping[str, Any]
    driver: Driver


LIBRARY: dict[str, Callable[[LibraryCall], None]] = {}


def run_library(call: LibraryCall) -> None:
    """Fill the outputs. Raises `LinAlgError` where an op finds that it cannot do its work."""
    own = LIBRARY.get(call.step.op)
    if own is not None:
        own(call)
        return
    op = OPS[call.step.op]
    if op.kind == "custom":
        _on_host(call)
        return
    _fill(call, _meaning(call, call.driver.xp, call.inputs))


def _meaning(call: LibraryCall, xp: Any, inputs: tuple[Any, ...]) -> Any:
    try:
        return OPS[call.step.op].reference(xp, *inputs, **call.attrs)
    except np.linalg.LinAlgError as error:
        origin = call.step.fails[0].origin if call.step.fails else None
        raise LinAlgError(str(error), origin=origin) from None


def _fill(call: LibraryCall, made: Any) -> None:
    for out, value in zip(call.outputs, made if isinstance(made, tuple) else (made,)):
        out[...] = value


def _on_host(call: LibraryCall) -> None:
    """An op from outside: its reference is NumPy's, so that operands go to the host and back."""
    driver = call.driver
    made = _meaning(call, np, tuple(driver.get(x) for x in call.inputs))
    for out, value in zip(call.outputs, made if isinstance(made, tuple) else (made,)):
        there = driver.put(np.ascontiguousarray(value, out.dtype))
        driver.copy(driver.pointer(out), driver.pointer(there), out.nbytes)
