"""Calling ufuncs on tracers: element types, broadcasting, `out=` and `where=`, operators."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from weft.compiler.build import Builder
from weft.compiler.errors import UnsupportedError
from weft.compiler.ir import Node
from weft.compiler.types import DTYPES, DType, Shape, Size
from weft.frontend.numpy import python_scalars
from weft.frontend.numpy.promote import Key, check_range, find_loop
from weft.frontend.numpy.ufunc_rules import COMPARISONS, RULES, full_like
from weft.frontend.problems import close_names, dtype_error, problem, shape_error
from weft.frontend.recording import CLOSURE, Trace
from weft.frontend.table import HOOKS, complete
from weft.frontend.tracer import Tracer, escaped

__all__ = ["GUFUNCS", "METHODS", "apply", "assign", "broadcast_shape", "call", "shape_str"]

WEAK_KEYS: dict[str, Key] = {"int": int, "float": float, "complex": complex}
GUFUNCS: dict[str, Any] = {}     # matmul and its like: name -> implementation
METHODS: dict[str, Any] = {}     # reduce, accumulate, outer, …: name -> implementation
_BOOL = DTYPES["bool"]


# ---- broadcasting

def shape_str(shape: Shape) -> str:
    """A shape as NumPy's messages write it: ``(3,4)``, ``(3,)``."""
    return f"({','.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def broadcast_shape(shapes: Sequence[Shape]) -> Shape:
    """The shape these broadcast to; a `ShapeError` with NumPy's words if they do not."""
    first = shapes[0]
    if all(s == first for s in shapes):
        return first
    rank = max(map(len, shapes))
    out: list[Any] = [1] * rank
    for s in shapes:
        for a, d in enumerate(s, rank - len(s)):
            if out[a] == 1:
                out[a] = d
            elif d != 1 and d != out[a]:
                raise _mismatch(shapes, rank - a, out[a], d)
    return tuple(out)


def _mismatch(shapes: Sequence[Shape], axis: int, a: Any, b: Any) -> Exception:
    symbolic = isinstance(a, Size) or isinstance(b, Size)
    return shape_error(
        "operands could not be broadcast together with shapes " + " ".join(map(shape_str, shapes)),
        f"equal sizes, or 1, along each axis; axis -{axis} has {a} and {b}",
        "reshape or index with np.newaxis so that axes line up" if not symbolic else
        f"declare both with one symbolic size if {a} and {b} are always equal")


# ---- the call

def apply(trace: Trace, ufunc: Any, args: Sequence[Any], dtype: Any = None,
          casting: str = "same_kind") -> Any:
    """`ufunc(*args)`: a tracer, or a tuple of them where the ufunc has several results."""
    keys: list[Key] = []
    operands: list[Any] = []
    for v in args:
        kind = type(v)
        if kind is Tracer:
            if v.tape is not trace:
                raise escaped(v)
            keys.append(WEAK_KEYS.get(v.kind) or v.node.type.dtype)
        elif kind is int or kind is float or kind is complex:
            keys.append(kind)
        else:
            v = trace.lift(v)
            keys.append(WEAK_KEYS.get(v.kind) or v.node.dtype)
        operands.append(v)
    name = ufunc.__name__
    if int in keys and name in COMPARISONS:
        answer = _compare_beyond(trace, ufunc, operands, keys)
        if answer is not None:
            return answer
    ins, _ = find_loop(ufunc, tuple(keys), dtype, casting)
    b = trace.builder
    nodes = [_enter(b, v, k, d) for v, k, d in zip(operands, keys, ins)]
    shape = nodes[0].shape
    if len(nodes) > 1:
        shape = broadcast_shape([n.shape for n in nodes])
        nodes = [n if n.shape == () or n.shape == shape else b.broadcast(n, shape) for n in nodes]
    found = RULES.get(name)
    if found is None:
        raise _unknown_ufunc(ufunc)
    result = b.add(found, *nodes) if isinstance(found, str) else found(b, *nodes)
    form = "array" if shape else "scalar"
    if type(result) is tuple:
        return tuple(Tracer(trace, r, form) for r in result)
    return Tracer(trace, result, form)


def _enter(b: Builder, value: Any, key: Key, dtype: DType) -> Node:
    """An operand in the element type of the loop."""
    if type(value) is Tracer:
        node: Node = value.node
        if key is int and type(value.value) is int:
            check_range(value.value, dtype)
        return node if node.dtype is dtype else b.convert(node, dtype)
    if key is int:
        check_range(value, dtype)
    return b.scalar(value, dtype)


def _unknown_ufunc(ufunc: Any) -> Exception:
    return problem(UnsupportedError, f"the ufunc {ufunc.__name__} cannot be traced"
                   + close_names(ufunc.__name__, RULES),
                   repair="compute it outside the compiled function and pass the result in")


def _compare_beyond(trace: Trace, ufunc: Any, operands: list[Any], keys: list[Key]) -> Any:
    """A comparison with a Python int that the other side's integer type may not hold."""
    side = keys.index(int)
    other = keys[1 - side]
    if not isinstance(other, DType) or not other.is_integer:
        return None
    value, array = operands[side], operands[1 - side]
    info = np.iinfo(other.numpy)
    if type(value) is not Tracer:
        if info.min <= value <= info.max:
            return None
        answer = bool(getattr(np, ufunc.__name__)(*((value, 0) if side == 0 else (0, value))))
        node = full_like(trace.builder, array.node, answer, _BOOL)
        return Tracer(trace, node, "array" if node.shape else "scalar")
    if other.name == "i64":
        return None
    wide = array.node if other.name == "u64" else trace.builder.convert(array.node, "i64")
    both = [Tracer(trace, value.node, "scalar"), Tracer(trace, wide, array.kind)]
    return apply(trace, ufunc, both if side == 0 else both[::-1])


def _gufunc(name: str) -> Any:
    if not GUFUNCS:
        importlib.import_module("weft.frontend.numpy.linalg_core")      # fills the table
    return GUFUNCS.get(name)


def call(ufunc: Any, *args: Any) -> Any:
    """`ufunc(*args)` where at least one is a tracer."""
    trace = next(a.tape for a in args if type(a) is Tracer)
    return apply(trace, ufunc, args)


def _ufunc(trace: Trace, ufunc: Any, method: str, inputs: Any, kwargs: Any) -> Any:
    return trace.run(_dispatch, (trace, ufunc, method, inputs), kwargs)


def _dispatch(trace: Trace, ufunc: Any, method: str, inputs: Any, **kwargs: Any) -> Any:
    if method != "__call__":
        complete()
        if method not in METHODS:
            raise problem(UnsupportedError, f"np.{ufunc.__name__}.{method} cannot be traced yet",
                          repair="write it with np.add.reduce, np.where or np.take")
        return METHODS[method](trace, ufunc, *inputs, **kwargs)
    gufunc = _gufunc(ufunc.__name__) if ufunc.signature is not None else None
    if gufunc is not None:
        return gufunc(*inputs, **kwargs)
    return _call(trace, ufunc, inputs, **kwargs)


def _call(trace: Trace, ufunc: Any, inputs: Any, *, out: Any = None, where: Any = True,
          dtype: Any = None, casting: str = "same_kind", order: str = "K", subok: bool = True,
          sig: Any = None, signature: Any = None) -> Any:
    outs = (None,) * ufunc.nout if out is None else out if isinstance(out, tuple) else (out,)
    chosen = dtype if dtype is not None else sig if sig is not None else signature
    result = apply(trace, ufunc, inputs, chosen, casting)
    if out is None and where is True:
        return result
    results = result if isinstance(result, tuple) else (result,)
    done = tuple(_deliver(ufunc, r, o, where, casting) for r, o in zip(results, outs))
    return done if isinstance(result, tuple) else done[0]


def _deliver(ufunc: Any, result: Tracer, out: Any, where: Any, casting: str) -> Tracer:
    if out is None:
        if where is True:
            return result
        raise problem(UnsupportedError, f"np.{ufunc.__name__} with where= and without out= leaves "
                      "elements undefined", repair="give out=, or use np.where(mask, value, other)")
    return assign(out, result, where, casting, f"ufunc {ufunc.__name__!r} output")


# ---- writing results into arrays of the trace

def assign(out: Any, value: Tracer, where: Any = True, casting: str = "same_kind",
           what: str = "array data") -> Tracer:
    """Make `out` hold `value`, converted and broadcast; `out` is given back."""
    check_writable(out, "out=", "leave out= out and bind the result")
    b = out.tape.builder
    if not np.can_cast(value.dtype, out.dtype, casting):  # type: ignore[arg-type]
        raise dtype_error(f"Cannot cast {what} from {value.dtype!r} to {out.dtype!r} with casting "
                          f"rule {casting!r}", repair="convert the result with astype first")
    shape = out.node.shape
    if broadcast_shape([value.node.shape, shape]) != shape:
        raise shape_error(f"non-broadcastable output operand with shape {shape_str(shape)} doesn't "
                          f"match the broadcast shape {shape_str(value.node.shape)}")
    node = b.broadcast(b.convert(value.node, out.node.dtype), shape)
    if where is not True:
        mask = out.tape.lift(where).node
        node = b.select(b.broadcast(mask, shape), node, out.node)
    out.node = node
    return out  # type: ignore[no-any-return]


def check_writable(out: Any, how: str, repair: str = "write x = x + y instead of x += y") -> None:
    """Refuse to write where another object of the caller would see it."""
    if type(out) is not Tracer:
        raise problem(UnsupportedError, f"{how} writes into an array from outside the compiled "
                      "function, which is not traced yet",
                      repair="return the new values and assign them at the caller")
    if out.arg >= 0 or out.arg == CLOSURE:
        raise problem(UnsupportedError, f"{how} changes "
                      + ("an argument, the caller's own array," if out.arg >= 0 else
                         "an array from outside the compiled function")
                      + " which is not traced yet", expected="a new array, bound to the name",
                      repair=f"{repair}, or start with x = x.copy()")
    live = [v for v in out.views or () if v() is not None]
    if out.source is not None or live:
        raise problem(UnsupportedError, f"{how} changes an array through a view of it, or under "
                      "one, which is not traced yet", expected="a new array, bound to the name",
                      repair=f"{repair}, or copy() the view")


# ---- operators

_UFUNCS = {name: getattr(np, name) for name in RULES if isinstance(getattr(np, name, None),
                                                                    np.ufunc)}
_UFUNCS["matmul"] = np.matmul
_SYMBOLS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "floor_divide": "//",
            "remainder": "%", "matmul": "@", "bitwise_and": "&", "bitwise_or": "|",
            "bitwise_xor": "^", "left_shift": "<<", "right_shift": ">>", "power": "**"}
_OPERANDS = frozenset((Tracer, int, float, complex, bool, np.ndarray, list, tuple))


def _is_operand(value: Any) -> bool:
    return (type(value) in _OPERANDS or isinstance(value, (np.generic, np.ndarray, int, float,
                                                           complex))
            or (getattr(value, "__array_ufunc__", True) is True and hasattr(value, "__array__")))


def _binary(name: str, a: Any, b: Any) -> Any:
    trace: Trace = a.tape if type(a) is Tracer else b.tape
    if not trace.open:
        raise escaped(a if type(a) is Tracer else b)
    if not (_is_operand(a) and _is_operand(b)):
        return NotImplemented
    trace.locate()
    if python_scalars.is_python_scalar(a) and python_scalars.is_python_scalar(b):
        return python_scalars.binary(trace, name, a, b)
    if name == "matmul":
        return trace.run(_gufunc("matmul"), (a, b), {})
    if name == "power":
        _refuse_negative_powers(a, b)
        if type(b) is int and b == 2 and type(a) is Tracer:
            return apply(trace, np.square, (a,))   # as NumPy's operator does: bool gives int8
    return apply(trace, _UFUNCS[name], (a, b))


def _refuse_negative_powers(base: Any, exponent: Any) -> None:
    """Integers to a known negative power raise, as in NumPy."""
    if type(exponent) is int and exponent < 0 and type(base) is Tracer \
            and base.node.dtype.kind in ("int", "bool"):
        raise shape_error("Integers to negative integer powers are not allowed.", None,
                          "convert the base with astype(float)")


def _unary(name: str, a: Tracer) -> Any:
    if not a.tape.open:
        raise escaped(a)
    a.tape.locate()
    if a.weak:
        return python_scalars.unary(a.tape, name, a)
    return apply(a.tape, _UFUNCS[name], (a,))


def _inplace(name: str, a: Tracer, b: Any) -> Any:
    if a.kind != "array":
        return _binary(name, a, b)
    if not a.tape.open:
        raise escaped(a)
    a.tape.locate()
    symbol = _SYMBOLS[name]
    check_writable(a, f"x {symbol}= y", f"write x = x {symbol} y instead of x {symbol}= y")
    result = _binary(name, a, b)
    if result is NotImplemented:
        return result
    return assign(a, result, True, "same_kind", f"ufunc {name!r} output")


HOOKS.binary = _binary
HOOKS.unary = _unary
HOOKS.inplace = _inplace
HOOKS.ufunc = _ufunc
