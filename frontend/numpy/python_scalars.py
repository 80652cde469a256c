"""Arithmetic between traced Python scalars: Python's own rules, on int64, float64, complex128.

The value in this call is computed along with the nodes, so that `range(n + 1)` works for a traced
`n`: it specialises the compilation to `n`. Integers are 64 bits wide; where this call's value does
not fit, the result is the plain Python integer and the compilation is specialised.
"""

from __future__ import annotations

import operator
from typing import Any

from weft.compiler.ir import Node
from weft.compiler.types import Size
from weft.frontend.recording import Trace
from weft.frontend.tracer import PYTHON_TYPES, WEAK_DTYPES, Tracer

__all__ = ["binary", "is_python_scalar", "unary"]

_FUNCTIONS: dict[str, Any] = {
    "add": operator.add, "subtract": operator.sub, "multiply": operator.mul,
    "divide": operator.truediv, "floor_divide": operator.floordiv, "remainder": operator.mod,
    "power": operator.pow, "bitwise_and": operator.and_, "bitwise_or": operator.or_,
    "bitwise_xor": operator.xor, "left_shift": operator.lshift, "right_shift": operator.rshift,
    "less": operator.lt, "less_equal": operator.le, "greater": operator.gt,
    "greater_equal": operator.ge, "equal": operator.eq, "not_equal": operator.ne,
    "negative": operator.neg, "positive": operator.pos, "absolute": abs, "invert": operator.invert,
    "real": lambda x: x.real, "imag": lambda x: x.imag, "conjugate": lambda x: x.conjugate(),
    "matmul": operator.matmul,
}
_OPS = {"add": "add", "subtract": "sub", "multiply": "mul", "divide": "div",
        "floor_divide": "floor_divide", "remainder": "remainder", "power": "pow",
        "bitwise_and": "and", "bitwise_or": "or", "bitwise_xor": "xor",
        "left_shift": "shift_left", "right_shift": "shift_right", "less": "lt",
        "less_equal": "le", "greater": "gt", "greater_equal": "ge", "equal": "eq",
        "not_equal": "ne", "negative": "neg", "absolute": "abs", "invert": "not",
        "real": "real", "imag": "imag", "conjugate": "conj"}
_COMPARISONS = frozenset(("less", "less_equal", "greater", "greater_equal", "equal", "not_equal"))
_ORDER = ("bool", "int", "float", "complex")
_PYTHON = frozenset((bool, int, float, complex))


def is_python_scalar(value: Any) -> bool:
    """Whether this is a Python number, traced or not."""
    return value.kind in WEAK_DTYPES if type(value) is Tracer else type(value) in _PYTHON


def _kind(value: Any) -> str:
    return value.kind if type(value) is Tracer else type(value).__name__


def _known(value: Any) -> Any:
    return value.value if type(value) is Tracer else value


def _deps(value: Any) -> frozenset[int]:
    return value.deps if type(value) is Tracer else frozenset()


def _compute(name: str, values: list[Any], kinds: list[str]) -> tuple[Any, str]:
    """The value in this call (None: unknown) and the kind of the result."""
    function = _FUNCTIONS[name]
    if any(isinstance(v, Size) for v in values):
        value = _compute_size(name, values)
        if value is not None:
            return value, type(value).__name__ if not isinstance(value, Size) else "int"
        return None, _usual_kind(name, kinds)
    if any(v is None for v in values):
        return None, _usual_kind(name, kinds)
    value = function(*values)
    return value, type(value).__name__


def _usual_kind(name: str, kinds: list[str]) -> str:
    """The kind of result that operands of these kinds give, but for odd values."""
    return type(_FUNCTIONS[name](*(PYTHON_TYPES[k](1) for k in kinds))).__name__


def _compute_size(name: str, values: list[Any]) -> Any:
    """A polynomial in symbolic sizes, a comparison that any sizes decide, or None."""
    if any(v is None or isinstance(v, (float, complex)) for v in values):
        return None
    if name in ("add", "subtract", "multiply", "floor_divide", "negative", "positive"):
        try:
            return _FUNCTIONS[name](*values)
        except ValueError:
            return None
    if name in _COMPARISONS:
        difference = values[0] - values[1]
        return _FUNCTIONS[name](difference, 0) if isinstance(difference, int) else None
    return None


def binary(trace: Trace, name: str, a: Any, b: Any) -> Any:
    """An operator between two Python numbers of which one or both are traced."""
    if name == "divmod":
        return binary(trace, "floor_divide", a, b), binary(trace, "remainder", a, b)
    kinds = [_kind(a), _kind(b)]
    if name == "power" and kinds[1] in ("int", "bool") and type(b) is Tracer:
        b = b.concrete("an integer exponent")      # its sign decides the type of the result
    value, kind = _compute(name, [_known(a), _known(b)], kinds)
    if value is not None and kind != _usual_kind(name, kinds):
        for operand in (a, b):                     # such as (-8.0) ** 0.5, which is complex
            if type(operand) is Tracer:
                operand.check_constant(f"{name} with a result of type {kind}")
        trace.specialize(_deps(a) | _deps(b))
        return value
    return _emit(trace, name, [a, b], value, kind)


def unary(trace: Trace, name: str, a: Tracer) -> Any:
    """An operator on one traced Python number."""
    value, kind = _compute(name, [a.value], [a.kind])
    return _emit(trace, name, [a], value, kind)


def _emit(trace: Trace, name: str, operands: list[Any], value: Any, kind: str) -> Any:
    deps = frozenset[int]().union(*map(_deps, operands))
    if isinstance(value, Size):
        return trace.size(value)
    if type(value) is int and not -(1 << 63) <= value < 1 << 63:
        trace.specialize(deps)
        return value
    if not deps and value is not None and all(isinstance(_known(v), (Size, int)) for v in operands):
        return value                               # sizes that cancelled out
    node = _nodes(trace, name, operands, kind)
    return Tracer(trace, node, kind, value=value, deps=deps)


def _nodes(trace: Trace, name: str, operands: list[Any], kind: str) -> Node:
    b = trace.builder
    wide = kind
    if name in _COMPARISONS or kind == "bool":
        wide = max((_kind(v) for v in operands), key=_ORDER.index)
    elif name in ("absolute", "real", "imag"):
        wide = _kind(operands[0]) if _kind(operands[0]) != "bool" else "int"
    dtype = WEAK_DTYPES[wide]
    nodes = [b.convert(v.node, dtype) if type(v) is Tracer else b.scalar(v, dtype)
             for v in operands]
    if name == "positive" or (name in ("conjugate", "real") and wide != "complex"):
        return nodes[0]
    if name == "imag" and wide != "complex":
        return b.scalar(0, dtype)
    return b.add(_OPS[name], *nodes)

