"""`custom_op`: primitives from outside of weft."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from weft.compiler.errors import DTypeError, ShapeError, UnsupportedError, caller_origin
from weft.compiler.ops.elementwise import common_shape
from weft.compiler.ops.registry import OPS, Op, register
from weft.compiler.transforms.batch import all_batched, batched_elementwise
from weft.compiler.types import TensorType, dtype_of
from weft.devices.outside_kernels import add_kernel
from weft.devices.registry import check_device, split_name
from weft.frontend.jit import Jit, jit
from weft.frontend.numpy.common import broadcast, build, lift, result, same_dtype
from weft.frontend.recording import active

__all__ = ["CustomOp", "custom_op"]

Function = Callable[..., Any]


class CustomOp:
    """A primitive made by `custom_op`: called on arrays and on traced values."""

    def __init__(self, op: Op, elementwise: bool) -> None:
        self.op = op
        self.__name__ = op.name
        self.__doc__ = op.doc
        self._elementwise = elementwise
        self._jit: Jit | None = None

    def __call__(self, *args: Any) -> Any:
        trace = active()
        if trace is None:
            if self._jit is None:
                self._jit = jit(lambda *xs: self(*xs))
            return self._jit(*args)
        return trace.run(self._add, args, {})

    def _add(self, *args: Any) -> Any:
        if self.op.arity is not None and len(args) != self.op.arity:
            raise TypeError(f"{self.__name__}() takes {self.op.arity} argument(s), got {len(args)}")
        xs = [lift(a) for a in args]
        nodes = broadcast(same_dtype(xs)) if self._elementwise else [x.node for x in xs]
        return result(build().add(self.op.name, *nodes))

    def __repr__(self) -> str:
        return f"<weft.custom_op {self.__name__}>"


def custom_op(reference: Function | None = None, *, name: str | None = None,
              result: Function | None = None, partials: Sequence[str] | None = None,
              vectorized: bool = False, kernels: Mapping[str, Any] | None = None) -> Any:
    """A primitive of your own, with its meaning in NumPy, its derivative, and kernels by device.

    A decorator for the reference, with or without arguments.

    Args:
        reference: the meaning: a function of NumPy arrays.
        name: the op's name in graphs; the function's unless given. Must be new.
        result: for ops that are not elementwise: ``result(*operands)`` gives ``(shape, dtype)``
            from operands that have `shape` and `dtype`. Without it, the op is elementwise: operands
            are broadcast and converted to one element type, which is the result's.
        partials: for elementwise ops, the derivative by each operand, as formulas over the operands
            ``x``, ``y``, ``z``, the result ``out``, numbers and ops by name. Other derivatives are
            put around the op with `custom_jvp` and `custom_vjp`.
        vectorized: whether the reference takes arrays with further axes in front of all operands,
            so that `vmap` may give it those. Elementwise ops do.
        kernels: by device. ``"cpu"``: for elementwise ops, a function ``(e, *values)`` that writes
            them in LLVM instructions, see `weft.devices.cpu.lower`; or a C function
            ``int f(void **buffers, long long *sizes)``, from ctypes or as an address, see
            `weft.devices.cpu.custom`. Without one, compiled code calls the reference through
            Python; `explain` says so. Other devices say what their kernels are; on one for which
            there is none, the op is an error.

    Raises `UnsupportedError` where the name is taken, `DeviceError` for an unknown device.

    >>> import numpy as np, weft
    >>> @weft.custom_op(partials=("cos(x) * x + out / x",))
    ... def wave(x):
    ...     return x * np.sin(x)
    >>> weft.grad(wave)(np.float64(2.0)) == np.cos(2.0) * 2.0 + np.sin(2.0)
    np.True_
    """
    def decorate(fn: Function) -> CustomOp:
        return _declare(fn, name or fn.__name__, result, partials, vectorized, kernels or {})
    return decorate if reference is None else decorate(reference)


def _declare(fn: Function, name: str, result: Function | None, partials: Sequence[str] | None,
             vectorized: bool, kernels: Mapping[str, Any]) -> CustomOp:
    if not name.isidentifier() or name in OPS:
        raise UnsupportedError(f"weft.custom_op: there is an op named {name!r} already"
                               if name in OPS else
                               f"weft.custom_op: {name!r} is no name for an op",
                               expected="a new name, of letters, digits and _",
                               repair="give one with name=", origin=caller_origin())
    for device in kernels:
        if split_name(check_device(device))[1]:
            raise UnsupportedError(f"weft.custom_op: a kernel for {device!r} alone",
                                   expected="the name of a device, without a number",
                                   origin=caller_origin())
    kernel = kernels.get("cpu")
    written = result is None and inspect.isfunction(kernel)
    arity = len(inspect.signature(fn).parameters)
    infer = _elementwise_rule(name, arity, written) if result is None else _general(name, result)
    batch = batched_elementwise if result is None else _all if vectorized else None
    doc = (inspect.getdoc(fn) or f"{name}, from outside of weft").splitlines()[0]
    op = Op(name, "elementwise" if written else "custom", arity, doc, infer,
            lambda xp, *arrays: np.asarray(fn(*arrays)), cost=10,
            partials=tuple(partials) if partials is not None else None, batch=batch,
            fails=() if written else (name,))
    register(op, outside=True)
    for device, its in kernels.items():
        add_kernel(device, name, its)
    if kernel is not None:
        custom = importlib.import_module("weft.devices.cpu.custom")
        (custom.add_lowering if written else custom.add_function)(name, kernel)
    return CustomOp(op, result is None)


def _elementwise_rule(name: str, arity: int, real: bool) -> Function:
    def infer(types: tuple[TensorType, ...], attrs: Any) -> TensorType:
        first = types[0].dtype
        if len(types) != arity:
            raise ShapeError(f"{name} takes {arity} operand(s), got {len(types)}")
        if any(t.dtype is not first for t in types) or (real and first.is_complex):
            raise DTypeError(f"{name} got {' and '.join(str(t.dtype) for t in types)}",
                             expected="one real element type" if real else "one element type")
        return TensorType(common_shape(name, types), first)
    return infer


class _Operand:
    """An operand as `result` functions see it."""

    def __init__(self, type: TensorType) -> None:
        self.shape = type.shape
        self.dtype = type.dtype.numpy
        self.ndim = len(type.shape)


def _general(name: str, result: Function) -> Function:
    def infer(types: tuple[TensorType, ...], attrs: Any) -> TensorType:
        shape, dtype = result(*map(_Operand, types))
        return TensorType(tuple(shape), dtype_of(dtype))
    return infer


def _all(b: Any, node: Any, inputs: Any, batched: Any) -> Any:
    return b.add(node.opname, *all_batched(b, inputs, batched))
