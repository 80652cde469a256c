"""Ops from outside of weft on the CPU: written in LLVM instructions, or called by address.

An op of the kind ``custom`` is a call of ``int f(void **buffers, long long *sizes)``: the addresses
of its operands and its result, and the sizes of all their axes one after another. A result other
than 0 means that it failed. Where no such function is given, it is one that calls the op's NumPy
reference through Python.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any

import numpy as np

from weft.compiler.errors import Origin, WeftError
from weft.compiler.kernel.ir import Library
from weft.compiler.ops import get_op
from weft.compiler.target import Target
from weft.compiler.types import TensorType
from weft.devices.cpu.code import KernelCode
from weft.devices.cpu.library_frame import Frame
from weft.devices.cpu.lower import CUSTOM, REAL
from weft.devices.protocol import Array, DeviceError

__all__ = ["PREFIX", "add_function", "add_lowering", "addresses", "emit_custom", "failure",
           "has_function"]

PREFIX = "weft_custom_"
_SIGNATURE = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p)
_functions: dict[str, int] = {}               # op name -> address of the user's function
_symbols: dict[str, int] = {}                 # symbol in generated code -> address
_held: list[Any] = []                         # what the addresses belong to
_callbacks: dict[tuple[Any, ...], str] = {}   # op name and types -> symbol
_lock = threading.Lock()
_failed = threading.local()


def add_lowering(name: str, lowering: Callable[..., Any]) -> None:
    """Let ``lowering(e, *values)`` write the elementwise op of this name, as a line of `REAL`."""
    REAL[name] = lowering
    CUSTOM.add(name)


def add_function(name: str, function: Any) -> None:
    """Let a C function, a ctypes function or an address, compute the op of this name."""
    if isinstance(function, int):
        address = function
    else:
        address = ctypes.cast(function, ctypes.c_void_p).value or 0
        _held.append(function)
    if not address:
        raise DeviceError(f"the op {name} has no function at address 0")
    _functions[name] = address


def has_function(name: str) -> bool:
    """Whether an op has a function of its own, so that no Python runs."""
    return name in _functions


def addresses(names: Iterable[str]) -> dict[str, int]:
    """The addresses of functions of custom ops, by the symbols in generated code."""
    return {n: _symbols[n] for n in names if n.startswith(PREFIX)}


def emit_custom(step: Library, name: str, target: Target) -> KernelCode:
    """A call of the op's function."""
    f = Frame(step, name, target)
    e = f.e
    sizes = [f.dim(d) for t in f.types for d in t.shape]
    pointers = e.assign(f"alloca [{len(f.arrays)} x ptr], align 8", "ptr")
    table = e.assign(f"alloca [{len(sizes) + 1} x i64], align 8", "ptr")
    for i, a in enumerate(f.arrays):
        e.store(a.address, e.gep(pointers, i, "ptr"))
    for i, d in enumerate(sizes):
        e.store(d, e.gep(table, i, "i64"))
    symbol = _symbol(step)
    e.declares.add(f"declare i32 @{symbol}(ptr, ptr)")
    status = e.assign(f"call i32 @{symbol}(ptr {pointers.ref}, ptr {table.ref})", "i32")
    f.fail_if(status.ne(0))
    return f.code(1, 1)


def _symbol(step: Library) -> str:
    """The symbol by which the step's function is called; makes one for the reference if need be."""
    key = (step.op, *(t for _, t in step.buffers))
    with _lock:
        if step.op in _functions:
            symbol = f"{PREFIX}{step.op}"
            _symbols[symbol] = _functions[step.op]
            return symbol
        if key not in _callbacks:
            callback = _SIGNATURE(_reference(step.op, [t for _, t in step.buffers]))
            _held.append(callback)
            _callbacks[key] = symbol = f"{PREFIX}{step.op}_{len(_callbacks)}"
            _symbols[symbol] = ctypes.cast(callback, ctypes.c_void_p).value or 0
        return _callbacks[key]


def _reference(name: str, types: Sequence[TensorType]) -> Callable[[int, int], int]:
    """A function of the C signature that calls the op's reference."""
    reference = get_op(name).reference

    def call(buffers: int, sizes: int) -> int:
        try:
            *inputs, out = _arrays(buffers, sizes, types)
            for a in inputs:
                a.flags.writeable = False
            value = np.asarray(reference(np, *inputs))
            if value.shape != out.shape:
                raise ValueError(f"it gave shape {value.shape} where {out.shape} was announced")
            out[...] = value
        except BaseException as error:  # it must not pass through native code
            _failed.error = error
            return 1
        return 0
    return call


def _arrays(buffers: int, sizes: int, types: Sequence[TensorType]) -> list[Array]:
    """The operands and the result, where they lie."""
    pointers = (ctypes.c_void_p * len(types)).from_address(buffers)
    dims = iter((ctypes.c_int64 * sum(t.rank for t in types)).from_address(sizes))
    made = []
    for pointer, t in zip(pointers, types):
        shape = tuple(next(dims) for _ in range(t.rank))
        count = prod(shape)
        if not count:
            made.append(np.empty(shape, t.dtype.numpy))
            continue
        raw = (ctypes.c_char * (count * t.dtype.itemsize)).from_address(pointer)
        made.append(np.frombuffer(raw, t.dtype.numpy, count).reshape(shape))
    return made


def failure(name: str, origin: Origin | None) -> WeftError:
    """The error for an op whose function failed in this thread."""
    error = getattr(_failed, "error", None)
    _failed.error = None
    if isinstance(error, KeyboardInterrupt | SystemExit):
        raise error
    why = f": {type(error).__name__}: {error}" if error is not None else ""
    made = WeftError(f"the op {name} failed{why}", origin=origin)
    made.__cause__ = error
    return made
