"""Steps that a device performs as a whole, through libraries: sorts, scans, linear algebra.

`LIBRARY` has a line for each op that has a way of its own, `ON_HOST` names those for which CuPy has
no function whose answers are NumPy's: NumPy computes them, which `explain` says. The others run
their declared meaning over CuPy: sorts by Thrust, stable and with NaN last; linear algebra by
cuSOLVER, single precision in double as in NumPy; Fourier transforms by cuFFT.
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

__all__ = ["LIBRARY", "ON_HOST", "LibraryCall", "run_library"]


@dataclass(frozen=True)
class LibraryCall:
    """One run of a step: arrays of the device for its operands, others to be filled with results,
    and attributes with numbers in place of symbolic sizes."""

    step: Library
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    attrs: Mapping[str, Any]
    driver: Driver


ON_HOST: Mapping[str, str] = {
    "cummax": "CuPy has no running maximum", "cummin": "CuPy has no running minimum",
    "lu": "cuSOLVER gives no permutation", "eig": "cuSOLVER's eigenvalues are in another order",
    "lstsq": "CuPy's takes one matrix at a time, by another rule for the rank"}
"""Ops that NumPy computes on the host, and why."""

_IN_DOUBLE = frozenset({"cholesky", "solve", "det", "slogdet", "qr", "svd", "eigh"})


def run_library(call: LibraryCall) -> None:
    """Fill the outputs. Raises `LinAlgError` where an op finds that it cannot do its work."""
    if all(0 in out.shape for out in call.outputs):     # CuPy divides by the size of some
        return
    own = LIBRARY.get(call.step.op)
    if own is not None:
        own(call)
        return
    op = OPS[call.step.op]
    if op.kind == "custom" or op.name in ON_HOST:
        _on_host(call)
        return
    _fill(call, _meaning(call, lambda: op.reference(call.driver.xp, *_wide(call), **call.attrs)))


def _wide(call: LibraryCall) -> list[Any]:
    """The operands in the type in which the work is done: single precision of LAPACK's ops in
    double, bfloat16 in float32."""
    to: dict[str, Any] = {"bfloat16": np.float32}
    if call.step.op in _IN_DOUBLE:
        to |= {"float32": np.float64, "complex64": np.complex128}
    return [x.astype(to[x.dtype.name]) if x.dtype.name in to else x for x in call.inputs]


def _meaning(call: LibraryCall, compute: Callable[[], Any]) -> Any:
    """What it gives; a `LinAlgError` in NumPy's words and with the user's line."""
    try:
        with call.driver.strict():
            return compute()
    except np.linalg.LinAlgError as error:
        fails = call.step.fails
        known = [f.text for f in fails if f.kind == "linalg"]
        text = known[0] if len(known) == 1 else str(error)
        raise LinAlgError(text, origin=fails[0].origin if fails else None) from None


def _fill(call: LibraryCall, made: Any) -> None:
    for out, value in zip(call.outputs, made if isinstance(made, tuple) else (made,)):
        out[...] = value


def _on_host(call: LibraryCall) -> None:
    """An op whose meaning NumPy computes: operands go to the host and back."""
    driver, op = call.driver, OPS[call.step.op]
    operands = [driver.get(x) for x in call.inputs]
    made = _meaning(call, lambda: op.reference(np, *operands, **call.attrs))
    for out, value in zip(call.outputs, made if isinstance(made, tuple) else (made,)):
        there = driver.put(np.ascontiguousarray(value, out.dtype))
        driver.copy(driver.pointer(out), driver.pointer(there), out.nbytes)


# ---- ways of their own

def _running(name: str) -> Callable[[LibraryCall], None]:
    """A running sum or product, by CUB."""
    def run(call: LibraryCall) -> None:
        (x,) = _wide(call)
        _fill(call, getattr(call.driver.xp, name)(x, axis=call.attrs["axis"], dtype=x.dtype))
    return run


def _cholesky(call: LibraryCall) -> None:
    """CuPy reads the lower triangle and gives a lower one."""
    (x,), xp, upper = _wide(call), call.driver.xp, not call.attrs["lower"]

    def turned(a: Any) -> Any:
        return xp.conj(xp.swapaxes(a, -1, -2)) if upper else a

    _fill(call, _meaning(call, lambda: turned(xp.linalg.cholesky(turned(x)))))


LIBRARY: dict[str, Callable[[LibraryCall], None]] = {
    "cumsum": _running("cumsum"), "cumprod": _running("cumprod"), "cholesky": _cholesky}
